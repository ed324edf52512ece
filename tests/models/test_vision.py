"""The vision tower's parts: placement, phases, attention in frames, padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.long import LONG
from zppo_jax.arrays import Media
from zppo_jax.models import attention, vision
from zppo_jax.models.vision import VisionConfig

pytestmark = pytest.mark.usefixtures('quick_compile')

CONFIG = VisionConfig(
    depth=2, width=16, num_heads=2, mlp_width=12, out_width=10, patch_size=2,
    temporal_patch=2, channels=3, merge=2, num_positions=16, image_id=7,
    video_id=8, start_id=5, end_id=6, taps=(0,))


def random_media(num=24, seed=0) -> Media:
  rng = np.random.default_rng(seed)
  draw = lambda high, size: rng.integers(0, high, (2, num, size), np.int32)
  segment = np.repeat(np.int32([[1, 1, 2, 3, 3, 0], [1, 2, 2, 2, 0, 0]]),
                      num // 6, axis=1)
  return Media(rng.standard_normal((2, num, CONFIG.patch_values), np.float32),
               draw(4, 2), segment, draw(16, 4),
               rng.random((2, num, 4), np.float32))


def test_the_kth_placeholder_takes_the_kth_row():
  tokens = jnp.int32([[1, 7, 7, 2, 8, 7], [3, 3, 8, 3, 3, 3]])
  merged = jnp.arange(1, 9, dtype=jnp.float32).reshape(2, 4, 1)
  embeds = jnp.full((2, 6, 1), -1.0)
  np.testing.assert_array_equal(
      vision.place(embeds, tokens, merged, CONFIG.ids)[..., 0],
      [[-1, 1, 2, -1, 3, 4], [-1, -1, 5, -1, -1, -1]])
  np.testing.assert_array_equal(
      vision.add(embeds, tokens, merged, CONFIG.ids)[..., 0],
      [[-1, 0, 1, -1, 2, 3], [-1, -1, 4, -1, -1, -1]])


def test_phases_turn_half_with_the_row_and_half_with_the_column():
  cos, sin = vision.phases(jnp.int32([[[3, 5]]]), 8, 100.0, jnp.float32)
  angles = [3, 3 / 10, 5, 5 / 10]
  np.testing.assert_allclose(cos[0, 0], np.cos(angles), rtol=1e-6)
  np.testing.assert_allclose(sin[0, 0], np.sin(angles), rtol=1e-6)


def naive_attention(q, k, v, segment):
  out = np.zeros_like(q)
  for b, i in np.ndindex(*segment.shape):
    if segment[b, i]:
      own = segment[b] == segment[b, i]
      scores = np.einsum('nh,inh->ni', q[b, i], k[b, own]) * q.shape[-1]**-0.5
      weights = np.exp(scores - scores.max(-1, keepdims=True))
      weights /= weights.sum(-1, keepdims=True)
      out[b, i] = np.einsum('ni,inh->nh', weights, v[b, own])
  return out


@pytest.mark.parametrize('queries', [5, 24, 100])
def test_attention_stays_inside_frames(queries, monkeypatch):
  """Against a loop, with queries in five chunks, in one, and unchunked."""
  monkeypatch.setattr(attention, '_QUERIES', queries)
  segment = random_media().segment_BI
  q, k, v = np.random.default_rng(1).standard_normal(
      (3, 2, 24, 2, 4), np.float32)
  real = (segment > 0)[..., None, None]
  got = attention.xla(q, k, v, segment, causal=False)
  np.testing.assert_allclose(
      got * real, naive_attention(q, k, v, segment), atol=1e-5)


def test_memory_of_attention_grows_with_patches_not_their_square():
  """Forward and backward: twice the patches take about twice as much."""
  def loss(q, k, v, segment):
    return attention.xla(q, k, v, segment, causal=False).sum()

  def peak(num):
    x = jax.ShapeDtypeStruct((1, num, 2, 8), jnp.float32)
    segment = jax.ShapeDtypeStruct((1, num), jnp.int32)
    compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(
        x, x, x, segment).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert peak(4096) < 2.2 * peak(2048)


@pytest.fixture(scope='module')
def tower():
  """(merged, taps) of params and media, and params."""
  module = vision.Tower(CONFIG, 'float32', 'full')
  params = module.init(jax.random.key(0), vision.dummy_media(CONFIG))
  return jax.jit(module.apply), params


@LONG
def test_padding_is_zero_and_moves_nothing(tower):
  run, params = tower
  media = random_media()
  padding = media.segment_BI == 0
  other = random_media(seed=9)
  mixed = jax.tree.map(
      lambda x, y: np.where(padding.reshape(2, 24, *[1] * (x.ndim - 2)), y, x),
      media, other).replace(segment_BI=media.segment_BI)
  merged, taps = run(params, media)
  again, taps_again = run(params, mixed)
  np.testing.assert_array_equal(merged, again)
  np.testing.assert_array_equal(taps[0], taps_again[0])
  assert not merged[0, 5:].any() and merged[0, :5].any()
  assert not taps[0][1, 4:].any() and taps[0][1, :4].any()


@LONG
def test_rematerialisation_changes_no_gradient(tower):
  _, params = tower
  media = random_media()
  def grads(remat):
    module = vision.Tower(CONFIG, 'float32', remat)
    def loss(params):
      merged, taps = module.apply(params, media)
      return jnp.sum(jnp.sin(merged)) + jnp.sum(jnp.cos(taps[0]))
    return jax.jit(jax.grad(loss))(params)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
               grads('none'), grads('full'))


@LONG
def test_bfloat16_keeps_phases_and_norms_in_float32(tower):
  """The tower in bfloat16 is near the float32 one; phases are exact."""
  _, params = tower
  media = random_media()
  cos, _ = vision.phases(media.rotary_BI2, 8, 1e4, jnp.bfloat16)
  assert cos.dtype == jnp.float32
  want = tower[0](params, media)[0]
  got = vision.Tower(CONFIG, 'bfloat16', 'none').apply(params, media)[0]
  assert got.dtype == jnp.bfloat16
  assert np.abs(got - want).max() < 0.05 * np.abs(want).max()


@pytest.mark.parametrize('fields, message', [
    (dict(width=12), 'vision.width is 12; it must be a multiple of'),
    (dict(depth=0), 'vision.depth is 0'),
    (dict(num_positions=15), 'must be a square'),
    (dict(taps=(1, 0)), r'vision.taps is \(1, 0\)'),
    (dict(taps=(2,)), '0 to 1')])
def test_refused_config(fields, message):
  with pytest.raises(ValueError, match=message):
    VisionConfig(**{**vars(CONFIG), **fields})
