"""The attention kernels against each other, and the rules that choose them."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.long import LONG
from zppo_jax import models
from zppo_jax.models import attention
from zppo_jax.models.attention import AttentionShape

pytestmark = pytest.mark.usefixtures('quick_compile')

B, T, N, K, H = 2, 128, 4, 2, 64
PACKED = np.zeros((B, T), np.int32)  # two segments and padding; one in front
PACKED[0, :100] = np.repeat([1, 2], [37, 63])
PACKED[1, 5:] = 3
ENDED = np.zeros((B, T), np.int32)  # one segment, then padding; padding alone
ENDED[0, :77] = 1


def draw(length=T):
  """q, k, v and the weights of a sum of the output."""
  rng = np.random.default_rng(0)
  return tuple(rng.standard_normal((B, length, n, H), np.float32)
               for n in (N, K, K, N))


@functools.cache
def whole(causal):
  """One softmax over all keys."""
  return value_and_grad(functools.partial(attention._some, causal=causal),
                        whole=True)


def value_and_grad(run, whole=False):
  """(output on real tokens, gradients in q, k, v) of (args, segments)."""
  def loss(q, k, v, w, segment):
    at = jnp.arange(q.shape[1])
    out = run(q, segment, at, k, v, segment) if whole else run(
        q, k, v, segment)
    out = jnp.where(segment[..., None, None] > 0, out, 0)
    return (out * w).sum(), out
  return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))


def check(run, segment, causal, args):
  got, want = (jax.device_get(f(*args, segment))
               for f in (value_and_grad(run), whole(causal)))
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert np.abs(b).max() > 0.1
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


@pytest.mark.parametrize('causal', [True, False])
@pytest.mark.parametrize('queries', [16, 50])
def test_xla_in_chunks_and_parts(queries, causal, monkeypatch):
  """Eight parts of one chunk and three of several queries; a rest."""
  monkeypatch.setattr(attention, '_QUERIES', queries)
  check(functools.partial(attention.xla, causal=causal), PACKED, causal, draw())


def test_xla_parts_of_many_chunks(monkeypatch):
  monkeypatch.setattr(attention, '_QUERIES', 8)
  monkeypatch.setattr(attention, '_PARTS', 3)
  check(functools.partial(attention.xla, causal=True), PACKED, True, draw())


@pytest.mark.parametrize('causal', [True, False])
def test_splash(causal):
  """Interpreted: packed segments, padding, grouped queries; gradients."""
  check(functools.partial(attention.splash, causal=causal, interpret=True),
        PACKED, causal, draw())


def test_splash_on_a_mesh(make_mesh):
  """Rows over fsdp, heads over tensor: the kernel sees its own ones."""
  run = functools.partial(attention.splash, causal=True, interpret=True)
  check(attention.on_each_device(run, make_mesh(fsdp=2, tensor=2)), PACKED,
        True, draw())


@pytest.mark.parametrize('causal', [True, False])
@pytest.mark.parametrize('segment', [PACKED, ENDED], ids=['packed', 'ended'])
def test_cudnn_inputs(segment, causal):
  """Masks and lengths as cuDNN gets them, in jax's plain implementation."""
  check(functools.partial(attention.cudnn, causal=causal,
                          implementation='xla'), segment, causal, draw())


BEHIND = np.zeros((B, T), np.int32)  # a padded prompt, and what continues it
BEHIND[0, :20] = BEHIND[0, 32:100] = BEHIND[1, :32] = BEHIND[1, 32:] = 1


@pytest.mark.parametrize('kernel, fields', [
    ('xla', {}), ('splash', {'interpret': True}),
    ('cudnn', {'implementation': 'xla'})])
def test_the_last_tokens_alone(kernel, fields, make_mesh, monkeypatch):
  """Queries of 96 of 128 tokens get what they get among all of them, and the
  gradients of all keys; xla in parts and chunks."""
  monkeypatch.setattr(attention, '_QUERIES', 40)
  monkeypatch.setattr(attention, '_unfit', lambda *args: '')
  monkeypatch.setitem(attention.KERNELS, kernel, functools.partial(
      attention.KERNELS[kernel], **fields))
  before, mesh = 32, make_mesh(fsdp=2)

  def last(q, k, v, segment):
    out = attention.among(q[:, before:], k, v, segment, asked=kernel,
                          mesh=mesh)
    return jnp.pad(out, ((0, 0), (before, 0), (0, 0), (0, 0)))
  q, k, v, w = draw()
  w[:, :before] = 0
  (grads, got), (want_grads, want) = (
      jax.device_get(run(q, k, v, w, BEHIND))
      for run in (value_and_grad(last), whole(True)))
  np.testing.assert_allclose(got[:, before:], want[:, before:], rtol=0,
                             atol=2e-5)
  for x, y in zip(grads, want_grads, strict=True):
    assert np.abs(y).max() > 0.1
    np.testing.assert_allclose(x, y, rtol=0, atol=2e-5)


@LONG
def test_splash_has_the_queries_of_the_last_tokens_alone(monkeypatch):
  """A padded prompt of one block and a response behind it: no query is made
  for the prompt, and keys of both get their gradients."""
  segment = np.zeros((B, 2 * T), np.int32)
  segment[0, :20] = segment[0, T:T + 100] = segment[1] = 1
  monkeypatch.setattr(attention, '_as_whole_rows', None)
  monkeypatch.setattr(attention, '_unfit', lambda *args: '')
  monkeypatch.setitem(attention.KERNELS, 'splash', functools.partial(
      attention.splash, interpret=True))

  def last(q, k, v, segment):
    out = attention.among(q[:, T:], k, v, segment, asked='splash',
                          mesh=types.SimpleNamespace(
                              devices=np.array([jax.devices()[0]]), size=1,
                              shape={'data': 1, 'fsdp': 1, 'tensor': 1}))
    return jnp.pad(out, ((0, 0), (T, 0), (0, 0), (0, 0)))

  q, k, v, w = draw(2 * T)
  w[:, :T] = 0
  (grads, got), (want_grads, want) = (
      jax.device_get(run(q, k, v, w, segment))
      for run in (value_and_grad(last), whole(True)))
  np.testing.assert_allclose(got[:, T:], want[:, T:], rtol=0, atol=2e-5)
  for x, y in zip(grads, want_grads, strict=True):
    assert np.abs(y).max() > 0.1
    np.testing.assert_allclose(x, y, rtol=0, atol=2e-5)


def mesh_of(platform, capability='9.0', data=1, fsdp=1, tensor=1):
  device = types.SimpleNamespace(platform=platform,
                                 compute_capability=capability)
  return types.SimpleNamespace(
      devices=np.array([device], object),
      shape={'data': data, 'fsdp': fsdp, 'tensor': tensor})


SHAPE = AttentionShape(8, 256, 8, 2, 256, 'bfloat16')


@pytest.mark.parametrize('mesh, change, kernel, why', [
    (mesh_of('tpu'), {}, 'splash', 'the platform is tpu'),
    (mesh_of('gpu'), {}, 'cudnn', 'the platform is gpu'),
    (mesh_of('cpu'), {}, 'xla', 'the platform is cpu'),
    (None, {}, 'xla', 'no mesh'),
    (mesh_of('tpu'), dict(length=1), 'xla', 'a single token'),
    (mesh_of('tpu'), dict(length=200), 'xla', '200 positions'),
    (mesh_of('tpu'), dict(head_dim=72), 'xla', 'head_dim is 72'),
    (mesh_of('tpu', fsdp=16), {}, 'xla', '8 rows do not divide'),
    (mesh_of('tpu', tensor=4), {}, 'xla', '8 and 2 heads do not divide'),
    (mesh_of('gpu', '8.0'), {}, 'xla', 'up to 128 on this GPU'),
    (mesh_of('gpu'), dict(dtype='float32'), 'xla', 'dtype is float32'),
    (mesh_of('gpu'), dict(length=201), 'xla', 'multiples of 2')])
def test_auto(mesh, change, kernel, why):
  got = attention.choose('auto', mesh, SHAPE._replace(**change))
  assert got.kernel == kernel and why in got.why


@pytest.mark.parametrize('asked, mesh, change, message', [
    ('splash', mesh_of('cpu'), {}, "'splash': the platform is cpu"),
    ('cudnn', mesh_of('gpu'), dict(dtype='float32'), 'dtype is float32'),
    ('cudnn', mesh_of('gpu', '8.0'), {}, 'head_dim is 256'),
    ('splash', mesh_of('tpu', tensor=4), {}, 'mesh.tensor = 4'),
    ('splash', None, {}, 'has no mesh')])
def test_what_is_asked_by_name_must_fit(asked, mesh, change, message):
  with pytest.raises(ValueError, match=message):
    attention.choose(asked, mesh, SHAPE._replace(**change))
  # A shape alone does not.
  assert attention.choose(asked, mesh_of('tpu'), SHAPE._replace(
      length=1)).kernel == 'xla'


@LONG
def test_a_model_runs_the_chosen_kernel(make_tiny, make_mesh, monkeypatch):
  """Through the config and the mesh: splash where `choose` says so."""
  model, params = make_tiny(head_dim=64, attention='splash')
  seen = []

  def kernel(q, k, v, segment, *, causal):
    seen.append(q.shape)
    return attention.splash(q, k, v, segment, causal=causal, interpret=True)

  monkeypatch.setattr(attention, '_unfit', lambda *args: '')
  monkeypatch.setitem(attention.KERNELS, 'splash', kernel)
  placed = models.on_mesh(model, make_mesh(tensor=2))
  assert placed.config == model.config and placed.family == model.family
  tokens = np.random.default_rng(0).integers(0, 24, (B, T))
  args = (tokens, np.arange(T)[None, :, None] * np.ones((B, 1, 1), int), PACKED)
  got, _ = jax.jit(placed.apply)(params, *args)
  assert set(seen) == {(B, T, 2, 64)}  # half of the heads
  fields = {**models.describe(model), 'attention': 'xla'}
  plain = models.build(**fields)
  want, _ = jax.jit(plain.apply)(params, *args)
  real = PACKED > 0
  np.testing.assert_allclose(got[real], want[real], atol=1e-4)
