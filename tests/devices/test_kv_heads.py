"""Key/value heads that tensor exceeds: copies by device, numbers as on one."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.long import LONG, long
from zppo_jax import models, randomness
from zppo_jax.devices import sharding
from zppo_jax.models import vision
from zppo_jax.records import Decoding
from zppo_jax.rollout import weight_sync
from zppo_jax.rollout.build import make_engine
from zppo_jax.rollout.requests import Request

pytestmark = pytest.mark.usefixtures('quick_compile')

V, T = 24, 20
TEXT = dict(vocab_size=V, width=16, num_heads=4, num_kv_heads=2, head_dim=8,
            mlp_width=20, max_positions=64)
TOWER = dict(
    depth=1, width=16, num_heads=4, mlp_width=12, out_width=16, patch_size=2,
    temporal_patch=2, channels=3, merge=2, num_positions=9, image_id=20,
    video_id=21, start_id=22, end_id=23)
# Two key/value heads each; mesh.tensor is four.
FAMILIES = {
    'qwen3': dict(TEXT, num_layers=2, qk_norm=True),
    'qwen3_5': dict(
        TEXT, num_layers=2, period=2, delta_key_heads=2, delta_value_heads=4,
        delta_key_dim=6, delta_value_dim=8, conv_kernel=3, rotary_share=0.75,
        rope_sections=(1, 1, 1)),
    'qwen3_vl': dict(TEXT, num_layers=2, rope_sections=(2, 1, 1),
                     vision=dict(TOWER, taps=(0,)))}
MESH = (1, 2, 4)


def network(family, dtype='float32'):
  """(Model, params): weights drawn by numpy."""
  model = models.build(family, dtype=dtype, **FAMILIES[family])
  rng = np.random.default_rng(0)

  def one(path, leaf):
    noise = (0.3 * rng.standard_normal(leaf.shape)).astype(dtype)
    return {'scale': 1 + noise, 'A_log': noise - 2}.get(path[-1].key, noise)

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return model, jax.tree_util.tree_map_with_path(one, shapes)


def rows(model, dtype):
  """Eight rows with padding, of two segments; with an image if the model has a
  tower."""
  rng = np.random.default_rng(1)
  tokens = rng.integers(2, 19, (8, T), dtype=np.int32)
  segment = np.ones_like(tokens)
  segment[1::2, 8:] = 2
  segment[::3, 15:] = 0
  media = None
  if model.config.__dict__.get('vision'):
    tokens[:, 1] = TOWER['image_id']
    media = jax.tree.map(
        lambda x: np.broadcast_to(x, (8, *x.shape[1:])),
        vision.dummy_media(model.config.vision))
    media = media.replace(
        patches_BIC=rng.standard_normal(media.patches_BIC.shape).astype(dtype),
        segment_BI=np.ones_like(media.segment_BI),
        weights_BI4=np.full_like(media.weights_BI4, 0.25))
  positions = np.broadcast_to(
      np.arange(T, dtype=np.int32)[:, None], (8, T, model.num_axes))
  return tokens, positions, segment, media


def loss(params, batch, *, model):
  tokens, positions, segment, media = batch
  x, _ = model.apply(params, tokens, positions, segment, media=media)
  logp = jax.nn.log_softmax(x @ model.head(params).astype(x.dtype))
  return jnp.where(segment > 0, logp[..., 3], 0).sum() / 100, x


def distance(got, want):
  """The largest |got - want| / |want| of a tree's leaves."""
  return max(jax.tree.leaves(jax.tree.map(
      lambda a, b: np.linalg.norm(a - b) / np.linalg.norm(b),
      *jax.device_get((got, want)))))


MOST = {'float32': 1e-6, 'float64': 1e-13}
QUICK = {('qwen3', 'float64'), ('qwen3_5', 'float32')}


@pytest.mark.parametrize('family, dtype', [
    (family, dtype) if (family, dtype) in QUICK else long(family, dtype)
    for family in FAMILIES for dtype in MOST])
def test_outputs_and_gradients_are_those_of_one_device(
    family, dtype, make_mesh):
  """Copies have one gradient, their sum: in float64 it is that of one device to
  all digits but the last two."""
  with jax.enable_x64(dtype == 'float64'):
    model, params = network(family, dtype)
    batch = rows(model, dtype)
    run = lambda of: jax.jit(jax.value_and_grad(
        functools.partial(loss, model=of), has_aux=True))
    (_, x), grads = run(model)(params, batch)
    mesh = make_mesh(*MESH)
    placed = jax.device_put(params, sharding.param_shardings(
        params, mesh, sharding.TRAIN_RULES))
    (_, got), got_grads = run(models.on_mesh(model, mesh))(
        placed, sharding.put_batch(mesh, batch))
    assert distance(got, x) <= MOST[dtype]
    assert distance(got_grads, grads) <= 10 * MOST[dtype]


def drawn(model, params, mesh, weights='same'):
  """(token ids, log-probs) of two prompts' rollouts, and the engine."""
  codec = types.SimpleNamespace(
      vocab_size=V, end_id=1, sampled_ids=frozenset(range(1, V)))
  engine = make_engine(
      model=models.on_mesh(model, mesh), mesh=mesh, max_tokens=9,
      num_rollouts=(2,), prompt_buckets=(6,), group_buckets=(2,),
      chat=types.SimpleNamespace(codec=codec, decode_response=lambda ids: ''))
  rollouts = [done for group in engine.generate(
      weight_sync.place_copy(params, model, mesh, weights),
      [Request(i, prompt, randomness.seed_key_data(i, 2), Decoding(9))
       for i, prompt in enumerate([(3, 4, 5), (6, 7, 8, 9, 10)])])
      for done in group]
  return ([done.tokens for done in rollouts],
          np.concatenate([done.logps for done in rollouts]), engine)


@LONG
@pytest.mark.parametrize('family, weights', [
    ('qwen3', 'same'), long('qwen3_5', 'int8')])
def test_rollouts_are_those_of_one_device(family, weights, make_mesh):
  """Prefill, insertion and decoding; a device's caches hold one head, the copy
  that its own queries read."""
  model, params = network(family)
  ids, logps, _ = drawn(model, params, make_mesh(), weights)
  got_ids, got, engine = drawn(model, params, make_mesh(*MESH), weights)
  assert got_ids == ids and sum(map(len, ids)) > 12
  assert distance(got, logps) <= 1e-6
  for k in engine._state.prompt_k:
    assert k.shape[1] == 4 and k.sharding.shard_shape(k.shape)[1] == 1
    heads = [np.asarray(shard.data) for shard in sorted(
        k.addressable_shards, key=lambda s: s.device.id)[:4]]
    np.testing.assert_array_equal(heads[0], heads[1])
    np.testing.assert_array_equal(heads[2], heads[3])
    assert (heads[1] != heads[2]).any()


@pytest.mark.parametrize('num_heads, num, tensor, copies', [
    (8, 2, 1, 1), (8, 2, 2, 1), (16, 8, 4, 1), (8, 2, 4, 2), (24, 4, 8, 2),
    (8, 1, 8, 8), (24, 4, 6, 3), (12, 3, 2, 2), (4, 2, 8, 1)])
def test_copies_by_hand(num_heads, num, tensor, copies):
  """The fewest that divide over tensor; none where the queries do not."""
  mesh = types.SimpleNamespace(shape={'tensor': tensor})
  assert sharding.kv_copies(num_heads, num, mesh) == copies
  assert sharding.kv_copies(num_heads, num, None) == 1
