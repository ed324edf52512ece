"""Gated DeltaNet against its definition, token by token in numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.long import long
from zppo_jax.models import gated_delta, layers
from zppo_jax.models.gated_delta import Runs

pytestmark = pytest.mark.usefixtures('quick_compile')

K, N, H, U, J, E = 3, 6, 5, 4, 4, 7
T = 150  # two chunks of 64 and a part of one
# Compact rows: boundaries in chunks, at their edges, a run of one token that
# ends a row, padding, a row without a real token.
SEGMENTS = np.zeros((5, T), np.int32)
SEGMENTS[0] = 1
SEGMENTS[1] = np.repeat([1, 2, 3, 4], [64, 30, 34, 22])
SEGMENTS[2, :133] = np.repeat([1, 2, 3], [1, 131, 1])
SEGMENTS[3, :40] = np.repeat([3, 5], [2, 38])
B = len(SEGMENTS)
RUNS = jax.tree.map(np.asarray, gated_delta.runs(jnp.asarray(SEGMENTS)))


def draw(seed=0, decay=1.0, length=T, rows=B):
  """Arguments of `chunked` without runs, float64."""
  rng = np.random.default_rng(seed)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  q = unit(rng.standard_normal((rows, length, K, H)))
  # Keys are alike, as real ones are: (I + A)^-1 is then far from I.
  k = unit(rng.standard_normal((rows, length, K, H)) + 1)
  v = rng.standard_normal((rows, length, N, U))
  g = -decay * rng.exponential(size=(rows, length, N))
  beta = rng.random((rows, length, N))
  memory = rng.standard_normal((rows, N, H, U))
  return q, k, v, g, beta, memory


def on_real(args, real_BT):
  q, k, v, g, beta, memory = args
  return (q, k, v, np.where(real_BT[..., None], g, 0),
          np.where(real_BT[..., None], beta, 0), memory)


def naive(args, of: Runs):
  """The definition; zeros on padding."""
  q, k, v, g, beta, memory = args
  out, last = np.zeros_like(v), memory.copy()
  for b in range(len(v)):
    for n in range(N):
      S, run = memory[b, n], 0
      for t in np.flatnonzero(of.real_BT[b]):
        if of.run_BT[b, t] != run:
          S, run = np.zeros_like(S), of.run_BT[b, t]
        key, query = (x[b, t, n * K // N] for x in (k, q))
        S = S * np.exp(g[b, t, n])
        S = S + np.outer(key, beta[b, t, n] * (v[b, t, n] - key @ S))
        out[b, t, n] = query @ S
      last[b, n] = S
  return out, last


@functools.partial(jax.jit, static_argnames='chunk')
def traced(args, run_BT, chunk):
  *rest, memory = args
  return gated_delta.chunked(*rest, run_BT, memory, chunk=chunk)


def chunked(args, run_BT, chunk=64, dtype=np.float64):
  """(out, S) as numpy arrays, computed in `dtype`."""
  with jax.enable_x64(True):
    args = jax.tree.map(lambda x: jnp.asarray(x, dtype), args)
    return jax.device_get(traced(args, run_BT, chunk))


@pytest.mark.parametrize('dtype, tolerance', [
    ('float64', 1e-12), ('float32', 1e-5)])
@pytest.mark.parametrize('decay', [0.03, 1.0, 300.0])
def test_chunked_is_the_definition(dtype, tolerance, decay):
  """At memories of many tokens, of one, and decays that underflow."""
  args = on_real(draw(decay=decay), RUNS.real_BT)
  want, last = naive(args, RUNS)
  got, state = chunked(args, RUNS.run_BT, dtype=dtype)
  assert got.dtype == state.dtype == dtype
  real = RUNS.real_BT
  assert np.abs(got - want)[real].max() < tolerance * np.abs(want).max()
  assert np.abs(state - last).max() < tolerance * np.abs(last).max()
  # A row without real tokens: the very state.
  np.testing.assert_array_equal(state[4], args[-1][4].astype(dtype))


@pytest.mark.parametrize('chunk', [1, 8, 128, 256])
def test_any_chunk(chunk):
  args = on_real(draw(seed=1), RUNS.real_BT)
  want, last = naive(args, RUNS)
  got, state = chunked(args, RUNS.run_BT, chunk)
  assert np.abs(got - want)[RUNS.real_BT].max() < 1e-12
  assert np.abs(state - last).max() < 1e-12


@pytest.mark.parametrize('length', [7, 32, 64])
def test_the_beginning_of_a_narrow_row_has_the_sums_of_the_row(length):
  """A prompt alone and with its response behind it, to the bit; fault A13."""
  q, k, v, g, beta, memory = jax.tree.map(np.float32, draw(length=80))
  @jax.jit
  def out(q, k, v, g, beta):
    return gated_delta.chunked(
        q, k, jnp.asarray(v, jnp.bfloat16), g, beta,
        jnp.zeros(g.shape[:2], jnp.int32), memory)[0]
  rest = (q, k, v, g, beta)
  np.testing.assert_array_equal(
      out(*(x[:, :length] for x in rest)), out(*rest)[:, :length])


@pytest.mark.parametrize('T', [1, long(5)])
def test_a_narrow_layer_rounds_what_the_rule_gives_to_its_norm(
    monkeypatch, T):
  """As transformers does: what float32 holds beyond bfloat16 has no effect;
  fault A13."""
  layer = gated_delta.GatedDeltaNet(K, N, H, U, J, 1e-6)
  x = jax.random.normal(jax.random.key(0), (B, T, 8), jnp.bfloat16)
  of = gated_delta.runs(jnp.ones((B, T), jnp.int32))
  given = jax.random.normal(jax.random.key(1), (B, T, N, U))
  memory = jnp.zeros((B, N, H, U))
  def run(params, given):
    monkeypatch.setattr(gated_delta, 'chunked', lambda *_: (given, memory))
    monkeypatch.setattr(gated_delta, 'step', lambda *_: (given[:, 0], memory))
    return layer.apply(params, x, of, None)[0]
  params = layer.init(jax.random.key(2), x, of, None)
  np.testing.assert_array_equal(
      run(params, given),
      run(params, given.astype(jnp.bfloat16).astype(jnp.float32)))


def steps(args):
  """`step` over all tokens; one run."""
  *rest, memory = args

  def one(S, x):
    out, S = gated_delta.step(*x, S)
    return S, out

  S, out = jax.lax.scan(one, memory, [jnp.moveaxis(x, 1, 0) for x in rest])
  return jnp.moveaxis(out, 0, 1), S


def test_steps_are_chunks():
  """Values, final states and gradients in every argument, float64."""
  real = np.arange(80) < np.array([[80], [13], [0]])
  args = on_real(draw(seed=2, length=80, rows=3), real)
  weights = np.random.default_rng(3).standard_normal((3, 80, N, U))
  one_run = np.zeros((3, 80), np.int32)

  def loss(fn, args):
    out, S = fn(args)
    return (out * weights).sum() + (S**2).sum(), (out, S)

  with jax.enable_x64(True):
    args = jax.tree.map(jnp.asarray, args)
    a, b = (jax.device_get(jax.jit(jax.grad(
        functools.partial(loss, fn), has_aux=True))(args))
            for fn in (steps, lambda args: traced(args, one_run, 64)))
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert np.abs(x).max() > 0.1
    np.testing.assert_allclose(x, y, rtol=0, atol=1e-11)


@pytest.mark.parametrize('decay', [1.0, 1e4])
def test_gradients_are_finite_and_stay_in_their_run(decay):
  """Of the last run's output: zero in all that is of other runs."""
  args = on_real(draw(seed=4, decay=decay), RUNS.real_BT)
  args = jax.tree.map(np.float32, args)
  last = RUNS.real_BT & (RUNS.run_BT == RUNS.run_BT[:, -1:])

  def loss(args):
    out, _ = gated_delta.chunked(*args[:-1], RUNS.run_BT, args[-1])
    return (out**2 * last[..., None, None]).sum()

  *grads, memory = jax.jit(jax.grad(loss))(args)
  for g in grads:
    assert np.isfinite(g).all()
    assert not np.asarray(g)[RUNS.real_BT & ~last].any()
  for g in grads[:3]:
    assert (np.abs(g).max((0, 2, 3)) > 0).sum() > 100
  assert np.isfinite(memory).all()
  assert not np.asarray(memory)[1:].any()  # those rows end in a later run
  if decay == 1:
    assert np.asarray(memory)[0].any()


@pytest.mark.parametrize('size', [1, 2, 16, 64])
def test_unit_lower_inverse(size):
  """And its gradient, against numpy's and differences; alike keys, whose
  powers would overflow what they cancel to."""
  rng = np.random.default_rng(size)
  A = 0.9 + 0.1 * rng.random((3, size, size))
  lower = np.tril(A, -1)
  weights = rng.standard_normal(A.shape)
  with jax.enable_x64(True):
    X, grad = jax.device_get(jax.jit(lambda A: (
        gated_delta.unit_lower_inverse(A), jax.grad(lambda A: (
            gated_delta.unit_lower_inverse(A) * weights).sum())(A)))(A))
  want = np.linalg.inv(np.eye(size) + lower)
  assert np.abs(X - want).max() < 1e-13
  assert not np.triu(grad).any()
  D, h = np.tril(rng.standard_normal(A.shape), -1), 1e-6
  ends = (np.linalg.inv(np.eye(size) + lower + e * D) for e in (h, -h))
  slope = (next(ends) - next(ends)) / (2 * h)
  np.testing.assert_allclose((grad * D).sum(), (slope * weights).sum(),
                             rtol=1e-6, atol=1e-12)


def test_halves_are_the_whole():
  """The state of the first half continues in the second, by runs."""
  args = on_real(draw(seed=5, rows=1), RUNS.real_BT[:1])
  whole, last = naive(args, jax.tree.map(lambda x: x[:1], RUNS))
  run = np.zeros((1, T), np.int32)
  for cut in (1, 64, 91):
    first, S = chunked([*(x[:, :cut] for x in args[:-1]), args[-1]],
                       run[:, :cut])
    second, S = chunked([*(x[:, cut:] for x in args[:-1]), S], run[:, cut:])
    got = np.concatenate([first, second], 1)
    assert np.abs(got - whole).max() < 1e-12
    assert np.abs(S - last).max() < 1e-12


def naive_conv(x, w, past, of: Runs):
  y, state = np.zeros_like(x), past.copy()
  for b in range(len(x)):
    seen, run = list(past[b]), 0
    for t in np.flatnonzero(of.real_BT[b]):
      if of.run_BT[b, t] != run:
        seen, run = [np.zeros(E)] * (J - 1), of.run_BT[b, t]
      seen = [*seen[-(J - 1):], x[b, t]]
      y[b, t] = sum(tap * value for tap, value in zip(w, seen, strict=True))
    state[b] = seen[-(J - 1):]
  return y, state


def test_convolution():
  """Outputs and states, in runs of 1 token and more, from a state."""
  rng = np.random.default_rng(6)
  x, w = rng.standard_normal((B, T, E)), rng.standard_normal((J, E))
  past = rng.standard_normal((B, J - 1, E))
  want, last = naive_conv(x, w, past, RUNS)
  with jax.enable_x64(True):
    got, state = jax.device_get(
        jax.jit(gated_delta.causal_conv)(x, w, past, RUNS))
  real = RUNS.real_BT
  assert np.abs(got - want)[real].max() < 1e-12
  np.testing.assert_array_equal(state, last)
  assert (state[2, :2] == 0).all()  # a run of one token


def test_compact():
  """Real tokens come first in their order, and go back."""
  segment = np.int32([[0, 2, 0, 2, 3, 0], [1, 1, 0, 0, 0, 0], [0] * 6])
  order, place = layers.compact(segment)
  tight = np.take_along_axis(segment, np.asarray(order), 1)
  assert tight.tolist() == [[2, 2, 3, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0] * 6]
  assert np.asarray(order)[0, :3].tolist() == [1, 3, 4]
  back = np.take_along_axis(tight, np.asarray(place), 1)
  np.testing.assert_array_equal(back, segment)
  of = gated_delta.runs(jnp.asarray(tight))
  assert of.run_BT.tolist() == [[0, 0, 1, 1, 1, 1], [0] * 6, [0] * 6]


def test_gates_by_hand():
  """-exp(A_log) softplus(a + dt_bias) and a sigmoid in the type of b; 0 on
  padding; float32 from bfloat16."""
  a = jnp.asarray([[[0.5], [0.5]]], jnp.bfloat16)
  g, beta = gated_delta.gates(a, -a, np.float32([0.3]), np.float32([0.2]),
                              np.array([[True, False]]))
  assert g.dtype == beta.dtype == jnp.float32
  np.testing.assert_allclose(
      g[..., 0], [[-np.exp(0.3) * np.log1p(np.exp(0.7)), 0]], rtol=1e-6)
  np.testing.assert_array_equal(
      beta[0, :, 0], jnp.asarray([1 / (1 + np.exp(0.5)), 0], jnp.bfloat16))


def test_l2norm_at_zero():
  """Float32 from bfloat16; finite value and gradient at 0."""
  x = jnp.asarray([3.0, 4.0], jnp.bfloat16)
  assert gated_delta.l2norm(x).dtype == jnp.float32
  np.testing.assert_allclose(gated_delta.l2norm(x), [0.6, 0.8], rtol=1e-6)
  grad = jax.grad(lambda x: gated_delta.l2norm(x).sum())(jnp.zeros(3))
  np.testing.assert_allclose(grad, [1e3] * 3, rtol=1e-5)
