"""The qwen3_5 family against Qwen3_5ForCausalLM; cache, packing, padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zppo_jax.arrays import Cache
from zppo_jax.models import cache as cached, gated_delta, layers

transformers = pytest.importorskip('transformers')
torch = pytest.importorskip('torch')
from tests.models import torch_reference as reference  # noqa: E402

pytestmark = pytest.mark.usefixtures('quick_compile')

SHAPES = dict(vocab_size=53, rms_norm_eps=1e-6, max_position_embeddings=1024)
VARIANTS = {
    'tied': dict(
        hidden_size=20, intermediate_size=36, num_hidden_layers=4,
        num_attention_heads=3, num_key_value_heads=1, head_dim=16,
        linear_num_key_heads=3, linear_num_value_heads=6,
        linear_key_head_dim=12, linear_value_head_dim=16,
        tie_word_embeddings=True, rope_parameters=dict(
            rope_type='default', rope_theta=1e4, partial_rotary_factor=0.5,
            mrope_section=[2, 1, 1], mrope_interleaved=True)),
    'untied': dict(
        hidden_size=24, intermediate_size=28, num_hidden_layers=6,
        num_attention_heads=10, num_key_value_heads=5, head_dim=24,
        linear_num_key_heads=1, linear_num_value_heads=5,
        linear_key_head_dim=6, linear_value_head_dim=16,
        layer_types=['linear_attention', 'linear_attention',
                     'full_attention'] * 2,
        tie_word_embeddings=False, rope_parameters=dict(
            rope_type='default', rope_theta=1e6, partial_rotary_factor=0.5,
            mrope_section=[2, 2, 2], mrope_interleaved=True))}


@functools.cache
def drawn(name, spread=True):
  config = transformers.Qwen3_5TextConfig(**{**SHAPES, **VARIANTS[name]})
  model = reference.draw(config, seed=1 + spread, spread=spread)
  return (model, *reference.ours(model))


@functools.cache
def limit(name):
  """The tolerance of logits on the spread model."""
  torch_model, model, _ = drawn(name)
  return reference.tolerance(torch_model, reference.tokens_of(model, 1, 1))


@functools.cache
def jitted(model):
  def run(params, tokens_BT, positions_BTA, segment_BT, cache=None):
    x, fresh = model.apply(params, tokens_BT, positions_BTA, segment_BT, cache)
    return x @ model.head(params), fresh
  return jax.jit(run)


def on_axes(positions_BT):
  return np.repeat(np.int32(positions_BT)[..., None], 3, axis=-1)


def run(model, params, tokens_BT, segment_BT=None, cache=None, start=0):
  """(logits, NewKV) with positions that count the real tokens of each
  segment from `start`."""
  if segment_BT is None:
    segment_BT = np.ones_like(tokens_BT)
  positions = np.zeros_like(segment_BT)
  for b, row in enumerate(segment_BT):
    for segment in set(row.tolist()) - {0}:
      at = row == segment
      positions[b, at] = start + np.arange(at.sum())
  return jax.device_get(jitted(model)(
      params, np.int32(tokens_BT), on_axes(positions), np.int32(segment_BT),
      cache))


def assert_close(a, b, tolerance=1e-4):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(
      x, y, rtol=0, atol=tolerance), a, b)


def extended(cache, fresh, segment_BT):
  """A cache with new tokens in new slots behind the old ones."""
  valid = np.asarray(segment_BT) > 0
  if cache is None:
    return Cache((cached.slots(fresh, valid),), fresh.state)
  return Cache((*cache.sources, cached.slots(fresh, valid)), fresh.state)


@pytest.mark.parametrize('name', VARIANTS)
@pytest.mark.parametrize('spread', [False, True])
def test_logits(name, spread):
  """At transformers' initial weights, and at logits of deviation 1."""
  reference.check_logits(*drawn(name, spread), spread=spread)


@pytest.mark.parametrize('name', VARIANTS)
def test_gradients(name):
  reference.check_gradients(*drawn(name))


def test_bf16_costs_what_it_costs_torch():
  reference.check_bf16(*drawn('untied'))


@pytest.mark.parametrize('name', VARIANTS)
def test_greedy_continuation(name):
  """64 tokens; ours from keys, values and states of a padded prompt."""
  reference.check_greedy(*drawn(name))


def on_three_axes(name):
  """(ours, the reference's) logits at positions that differ by axis."""
  torch_model, model, params = drawn(name)
  tokens = reference.tokens_of(model, 1, seed=1)
  positions = np.random.default_rng(5).integers(
      0, 700, (1, reference.LENGTH, 3), dtype=np.int32)
  with torch.no_grad():
    want = torch_model(
        torch.as_tensor(tokens).long(), position_ids=torch.as_tensor(
            positions).permute(2, 0, 1).long()).logits.numpy()
  return lambda model: (jax.device_get(jitted(model)(
      params, tokens, positions, np.ones_like(tokens)))[0], want)


@pytest.mark.parametrize('name', VARIANTS)
def test_three_axes(name):
  """Interleaved sections; a mutated order is seen."""
  both = on_three_axes(name)
  model = drawn(name)[1]
  got, want = both(model)
  assert np.abs(got - want).max() <= limit(name)
  sections = model.config.rope_sections
  other = (sum(sections), 0, 0)
  got, _ = both(reference.changed(model, rope_sections=other))
  assert np.abs(got - want).max() > 100 * limit(name)


def test_order_of_axes_is_seen(monkeypatch):
  """Sections one after the other instead of interleaved."""
  both = on_three_axes('tied')
  monkeypatch.setattr(
      layers, 'interleaved_axes',
      lambda count, sections: np.repeat(np.arange(3), sections))
  got, want = both(reference.changed(drawn('tied')[1], max_positions=1023))
  assert np.abs(got - want).max() > 100 * limit('tied')


def with_leaves(params, name, change):
  """Params with `change` on every leaf that `name` ends."""
  return jax.tree_util.tree_map_with_path(
      lambda path, x: change(x) if path[-1].key == name else x, params)


@pytest.mark.parametrize('name', VARIANTS)
@pytest.mark.parametrize('mutation', [
    'rotary share', 'offset', 'output gate', 'beta', 'decay', 'taps'])
def test_the_comparison_sees_a_mutation(name, mutation):
  torch_model, model, params = drawn(name)
  if mutation == 'rotary share':
    sections = tuple(2 * s for s in model.config.rope_sections)
    model = reference.changed(model, rotary_share=1.0, rope_sections=sections)
  elif mutation == 'offset':  # w where 1 + w belongs
    params = with_leaves(params, 'offset', lambda x: x - 1)
  elif mutation == 'output gate':  # a gate of 1/2, whatever the token
    params = with_leaves(params, 'q_gate', lambda x: np.stack(
        [x[..., 0, :], 0 * x[..., 1, :]], axis=-2))
  elif mutation == 'beta':
    params = with_leaves(params, 'b', lambda x: 0 * x)
  elif mutation == 'decay':
    params = with_leaves(params, 'dt_bias', lambda x: x + 0.3)
  else:
    params = with_leaves(params, 'conv', lambda x: x[:, ::-1])
  reference.check_mutation(torch_model, model, params)


PACKED = np.repeat([1, 2, 3, 4], [90, 64, 1, 45])[None]
CUTS = [90, 154, 155]


@pytest.mark.parametrize('name', VARIANTS)
def test_packed_is_each_segment_alone(name):
  """The reference's logits of each; one segment for all is seen."""
  torch_model, model, params = drawn(name)
  tokens = reference.tokens_of(model, 1, seed=6)[:, :PACKED.shape[1]]
  want = np.concatenate(
      [reference.torch_logits(torch_model, part)
       for part in np.split(tokens, CUTS, axis=1)], axis=1)
  got, fresh = run(model, params, tokens, PACKED)
  assert np.abs(got - want).max() <= limit(name)
  # The state is the last segment's.
  moved, segment = np.roll(tokens, -CUTS[-1], axis=1), 0 * PACKED
  segment[0, :45] = 1
  assert_close(fresh.state, run(model, params, moved, segment)[1].state)
  leaky = run(model, params, tokens, np.ones_like(PACKED))[0]
  assert np.abs(leaky - want)[:, CUTS[0]:].max() > 100 * limit(name)


def without_resets(segment_BT):
  """`gated_delta.runs` that knows no boundary."""
  return gated_delta.Runs(jnp.zeros_like(segment_BT), segment_BT > 0)


def test_a_missing_reset_is_seen(monkeypatch):
  """Of DeltaNet alone: attention keeps its masks."""
  _, model, params = drawn('tied')
  tokens = reference.tokens_of(model, 1, seed=6)[:, :PACKED.shape[1]]
  want = run(model, params, tokens, PACKED)[0]
  monkeypatch.setattr(gated_delta, 'runs', without_resets)
  got = run(reference.changed(model, max_positions=1022), params, tokens,
            PACKED)[0]
  assert np.abs(got - want)[:, CUTS[0]:].max() > 100 * limit('tied')


# Padding on the right, on the left, in the middle; a row of nothing else.
PADDED = np.ones((5, 150), np.int32)
PADDED[0, 110:] = 0
PADDED[1, :40] = 0
PADDED[2, 30:50] = PADDED[2, 100:120] = 0
PADDED[3, 1:148:3] = 0
PADDED[4] = 0


@pytest.mark.parametrize('name', VARIANTS)
def test_padding_changes_nothing(name):
  """Logits, keys, values and state are those of the row without it, whatever
  it holds; taken for tokens it is seen."""
  torch_model, model, params = drawn(name)
  tokens = np.resize(reference.tokens_of(model, 2, seed=7), PADDED.shape)
  real = PADDED > 0
  got, fresh = run(model, params, tokens, PADDED)
  for x in (*jax.tree.leaves(fresh), got):
    assert np.isfinite(x).all()
  junk, junk_fresh = run(model, params, np.where(real, tokens, 11), PADDED)
  np.testing.assert_array_equal(got[real], junk[real])
  jax.tree.map(np.testing.assert_array_equal, fresh.state, junk_fresh.state)
  for leaf in jax.tree.leaves(fresh.state):
    assert not leaf[:, 4].any() and leaf[:, :4].any()
  right, segment = 0 * tokens, 0 * PADDED
  for b in range(4):
    row = tokens[b][real[b]]
    right[b, :len(row)], segment[b, :len(row)] = row, 1
    want = reference.torch_logits(torch_model, row[None])[0]
    assert np.abs(got[b][real[b]] - want).max() <= limit(name)
  _, moved = run(model, params, right, segment)
  assert_close(fresh.state, moved.state)
  for a, c in ((fresh.k_LBTKH, moved.k_LBTKH), (fresh.v_LBTKH, moved.v_LBTKH)):
    assert_close(a[:, real], c[:, segment > 0])
  # Padding before a token, taken for a token.
  taken = np.abs(run(model, params, tokens, np.ones_like(PADDED))[0] - got)
  for b in (1, 2, 3):
    assert taken[b, 147].max() > 100 * limit(name)


@pytest.mark.parametrize('name', VARIANTS)
def test_cached_is_uncached(name):
  """A padded prefill, a chunk with padding, single tokens; the second row
  pauses, the third starts late: its state is its own or still zero."""
  _, model, params = drawn(name)
  tokens = np.resize(reference.tokens_of(model, 1, seed=8), (3, 120))
  segment = np.ones_like(tokens)
  segment[0, 66:70] = segment[1, 60:117] = segment[2, :70] = 0
  segment[1, [80, 84]] = segment[0, 75] = 0
  want, last = run(model, params, tokens, segment)
  cache, start, got = None, np.zeros(3, int), []
  for stop in (70, 117, 118, 119, 120):
    at = slice(len(got) and sum(x.shape[1] for x in got), stop)
    new = segment[:, at]
    positions = start[:, None] + np.cumsum(new, 1) - new
    logits, fresh = jax.device_get(jitted(model)(
        params, tokens[:, at], on_axes(positions), new, cache))
    if cache is not None:
      for b in np.flatnonzero(~new.any(1)):
        jax.tree.map(lambda x, y, b=b: np.testing.assert_array_equal(
            x[:, b], y[:, b]), fresh.state, cache.state)
    if stop == 119:  # forgotten convolution inputs, or memories, are seen
      for field in ('conv_BJE', 'memory_BNHU'):
        state = cache.state.replace(**{
            field: 0 * getattr(cache.state, field)})
        other = jitted(model)(params, tokens[:, at], on_axes(positions), new,
                              cache.replace(state=state))[0]
        assert np.abs(other - want[:, at]).max() > 100 * limit(name)
    cache, start = extended(cache, fresh, new), start + new.sum(1)
    got.append(logits)
  real = segment > 0
  got = np.concatenate(got, axis=1)
  assert np.abs(got - want)[real].max() <= limit(name)
  assert_close(cache.state, last.state)


@pytest.mark.default_emitters
def test_an_empty_cache_is_none():
  """Zero state and no valid slot: what a reused slot must be set to."""
  _, model, params = drawn('tied')
  tokens = reference.tokens_of(model, 3, seed=9)[:, :120]
  want, fresh = run(model, params, tokens)
  zero = jax.tree.map(np.zeros_like, fresh.state)
  cache = Cache((cached.slots(fresh, np.zeros((3, 120), bool)),), zero)
  got, other = run(model, params, tokens, cache=cache)
  assert_close(got, want, 1e-5)
  assert_close(other.state, fresh.state, 1e-5)
