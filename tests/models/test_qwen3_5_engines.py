"""The qwen3_5 family in the sampler, on a mesh, in other types; no torch."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import builders
from tests.long import LONG, long
from zppo_jax import models, randomness
from zppo_jax.arrays import Cache
from zppo_jax.devices import sharding
from zppo_jax.learner import forward, layouts, packing, update
from zppo_jax.models import cache as cached, layers
from zppo_jax.objectives import losses
from zppo_jax.records import (
  Decoding,
  Group,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  StopReason,
  TokenSequence,
  Verdict,
)
from zppo_jax.rollout import collect, weight_sync
from zppo_jax.rollout.requests import Request

pytestmark = pytest.mark.usefixtures('optimized_compile')

V, END = 24, 1
TINY = dict(
    vocab_size=V, width=16, num_layers=4, num_heads=4, num_kv_heads=2,
    head_dim=8, mlp_width=20, max_positions=1024, period=2, delta_key_heads=2,
    delta_value_heads=4, delta_key_dim=6, delta_value_dim=8, conv_kernel=3,
    rotary_share=0.75, rope_sections=(1, 1, 1))


@functools.cache
def tiny_of(fields=()):
  """(Model, params): weights drawn by numpy."""
  model = models.build('qwen3_5', **{**TINY, **dict(fields)})
  rng = np.random.default_rng(0)

  def one(path, leaf):
    noise = 0.3 * rng.standard_normal(leaf.shape).astype(np.float32)
    name = path[-1].key
    return {'scale': 1 + noise, 'embed': 2 * noise,
            'A_log': noise - 2}.get(name, noise)

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return model, jax.tree_util.tree_map_with_path(one, shapes)


def tiny(**fields):
  return tiny_of(tuple(sorted(fields.items())))


@LONG
def test_init_has_the_shapes_and_scales():
  """Norms are identities, decays are (0.01, 16), logits deviate by about 1."""
  model, params = tiny(tied=True)
  drawn = jax.jit(model.init)(jax.random.key(0))
  jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), drawn,
               params)
  delta = drawn['blocks']['layer_0']['delta']
  assert (np.exp(delta['A_log']) > 0.01).all()
  assert (np.exp(delta['A_log']) < 16).all()
  assert (delta['dt_bias'] == 1).all()
  assert (delta['out_norm']['scale'] == 1).all()
  assert not drawn['norm']['offset'].any()
  assert 'head' not in drawn


# Sampler = trainer.


@pytest.mark.parametrize('dtype, tolerance', [('float32', 1e-4)])
def test_sampled_logps_are_the_trainers(dtype, tolerance):
  """`make_sampler` as it is: prompts of several lengths, a padded one, rows
  that end early and rows that do not."""
  model, params = tiny(dtype=dtype)
  lengths, width, G, R = [9, 16, 1, 2, 5, 12, 16], 16, 4, 24
  codec = types.SimpleNamespace(
      vocab_size=V, end_id=END, sampled_ids=frozenset(range(1, V)))
  mesh = sharding.make_mesh(sharding.MeshConfig())
  sampler = collect.make_sampler(
      model=model, mesh=mesh,
      chat=types.SimpleNamespace(codec=codec, decode_response=lambda t: ''),
      grader=None, decoding=Decoding(R, temperature=0.8, top_p=0.95),
      num_rollouts=G, prompt_buckets=(width,), group_buckets=(8,))
  tokens = np.random.default_rng(1).integers(2, V, (len(lengths), width))
  found = sampler.engine.generate(layers.unstack(params), [
      Request(p, tuple(tokens[p, :lengths[p]].tolist()),
              randomness.seed_key_data(p, G), sampler.decoding)
      for p in range(len(lengths))])
  stops = {done.stop for group in found for done in group}
  assert stops == {StopReason.END, StopReason.LENGTH}
  rows = [(tokens[p, :lengths[p]], np.int32(found[p][g].tokens))
          for p in range(7) for g in range(G)]
  logp, _ = jax.jit(functools.partial(
      forward.token_logps, model=model, temperature=0.8, chunk=7))(
          params, packing.pad_rows(
              [packing.to_score(TokenSequence(prompt=p, response=r))
               for p, r in rows], 28, 45, num_axes=3))
  for b, (prompt, response) in enumerate(rows):
    got = np.float32(found[b // G][b % G].logps)
    want = np.asarray(logp)[b, len(prompt):len(prompt) + len(response)]
    assert len(want) == len(response)
    assert np.abs(got - want).max(initial=0) < tolerance


def test_rollout_copy_keeps_what_float32_needs():
  """Norms and decays; the rest is in the compute type."""
  _, params = tiny(dtype='bfloat16')
  copy = weight_sync.cast(params, jnp.bfloat16)
  kept = {'/'.join(k.key for k in path[-2:])
          for path, x in jax.tree_util.tree_leaves_with_path(copy)
          if x.dtype == np.float32}
  assert kept == {
      'delta/A_log', 'delta/dt_bias', 'out_norm/scale', 'mixer_norm/offset',
      'mlp_norm/offset', 'q_norm/offset', 'k_norm/offset', 'norm/offset'}


# Mesh, types, rematerialisation.

TOKENS = np.random.default_rng(2).integers(0, V, (8, 70), dtype=np.int32)
SEGMENT = np.ones_like(TOKENS)
SEGMENT[1::2, 20:] = 2
SEGMENT[::3, 50:] = 0
POSITIONS = np.random.default_rng(3).integers(0, 99, (8, 70, 3), dtype=np.int32)


def loss(params, tokens_BT, segment_BT, positions_BTA, *, model):
  """A sum over real tokens of all that apply returns for training."""
  x, _ = model.apply(params, tokens_BT, positions_BTA, segment_BT)
  logp = jax.nn.log_softmax(x @ model.head(params).astype(x.dtype))
  return jnp.where(segment_BT > 0, logp[..., 3], 0).sum() / 100, x


@functools.cache
def value_and_grad(model):
  return jax.jit(jax.value_and_grad(
      functools.partial(loss, model=model), has_aux=True))


def compared(got, want, tolerance):
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


@LONG
def test_packed_rows_equal_padded_ones():
  """Loss, statistics and every gradient of the policy loss: DeltaNet's state
  and convolution start anew in each segment, also where that lies in a later
  chunk (80 positions, chunks of 64). Merged segments are seen."""
  model, params = tiny()
  rng = np.random.default_rng(4)
  draw = lambda size: rng.integers(2, V, size).tolist()
  rows = [builders.training(draw(p), draw(r), rng.uniform(-3, -2, r), a)
          for p, r, a in ((3, 9, 1.0), (1, 5, -1.0), (9, 48, 2.0), (2, 1, 0.5),
                          (4, 40, -0.5), (1, 1, 1.0))]
  make = functools.partial(packing.bucketed_rows, rows, max_tokens=480,
                           multiple=1, buckets=(80,), num_axes=3)
  (padded,), (packed,) = make(packed=False), make(packed=True)
  assert padded.tokens_BT.shape == packed.tokens_BT.shape
  assert packed.segment_BT.max() >= 3
  run = jax.jit(jax.grad(functools.partial(
      update.policy_loss, model=model, temperature=0.9, chunk=8,
      loss=functools.partial(
          losses.clipped_surrogate, clip=losses.ClipBounds())), has_aux=True))

  def of(batch):
    # The sampler's for the old policy's: both lie with their tokens.
    return jax.device_get(run(params, builders.old_is_sampler(batch)))
  grads, sums = of(padded)
  got, got_sums = of(packed)
  compared(got, grads, 1e-5)
  builders.assert_same_sums(got_sums, sums, padding=True)
  merged, _ = of(packed.replace(segment_BT=np.minimum(packed.segment_BT, 1)))
  with pytest.raises(AssertionError):
    compared(merged, grads, 1e-2)


@LONG
def test_shared_prompts_equal_padded_rows():
  """As above, of groups: a prompt's keys, DeltaNet state and last inputs of
  the convolution are what its rows continue, and get their gradients. One
  prompt is shorter than the convolution, one longer than a chunk."""
  model, params = tiny()
  rng = np.random.default_rng(5)
  draw = lambda size: tuple(rng.integers(2, V, size).tolist())
  groups = [Group(
      Prompt(Question(str(n), '', '', ''), PromptKind.PLAIN, draw(n)),
      tuple(Rollout(draw(r), tuple(rng.uniform(-3, -2, r).tolist()), '',
                    StopReason.END, Verdict.WRONG, '') for r in lengths))
      for n, lengths in ((1, (3, 9)), (70, (5, 1)), (12, (2, 7)))]
  layout = layouts.Layout('padded', 480, 1, 2, (80,), (70,), (10,), (), 3)
  make = lambda kind: layouts.micro_batches(
      groups, builders.advantage_targets(
          groups, np.float32([[1, -1], [0.5, 2], [-1, 1]])),
      layout._replace(kind=kind))
  (padded,), (shared,) = make('padded'), make('shared')
  run = jax.jit(jax.grad(functools.partial(
      update.policy_loss, model=model, temperature=0.9, chunk=8,
      loss=functools.partial(
          losses.clipped_surrogate, clip=losses.ClipBounds())), has_aux=True))
  (grads, sums), (got, got_sums) = (
      jax.device_get(run(params, builders.old_is_sampler(b)))
      for b in (padded, shared))
  compared(got, grads, 1e-5)
  builders.assert_same_sums(got_sums, sums)


@functools.cache
def single():
  model, params = tiny(tied=False)
  return jax.device_get(
      value_and_grad(model)(params, TOKENS, SEGMENT, POSITIONS))


@pytest.mark.parametrize('rules', ['TRAIN_RULES', long('ROLLOUT_RULES')])
def test_sharded_is_single(make_mesh, rules):
  """Hidden states and every gradient, on 2x2x2."""
  model, params = tiny(tied=False)
  mesh = make_mesh(2, 2, 2)
  shardings = sharding.param_shardings(params, mesh, getattr(sharding, rules))
  params = jax.device_put(params, shardings)
  for at, size in ((('layer_0', 'delta', 'qkv'), (2, 16, 28)),
                   (('layer_1', 'attention', 'q_gate'), (2, 16, 2, 2, 8))):
    leaf = functools.reduce(lambda x, k: x[k], at, params['blocks'])
    if rules == 'TRAIN_RULES':
      size = (size[0], 8, *size[2:])
    assert leaf.sharding.shard_shape(leaf.shape) == size
  got = value_and_grad(model)(params, *sharding.put_batch(
      mesh, (TOKENS, SEGMENT, POSITIONS)))
  compared(jax.device_get(got), single(), 1e-5)


@LONG
@pytest.mark.parametrize('remat', ['full', long('dots')])
def test_remat_changes_nothing(remat):
  model, params = tiny(tied=False, remat=remat)
  compared(jax.device_get(value_and_grad(model)(
      params, TOKENS, SEGMENT, POSITIONS)), single(), 1e-5)


@LONG
def test_periods_written_out_change_nothing():
  model, params = tiny(tied=False, unroll=2)
  args = params, TOKENS, SEGMENT, POSITIONS
  assert 'unroll=2' in str(jax.make_jaxpr(value_and_grad(model))(*args))
  compared(jax.device_get(value_and_grad(model)(*args)), single(), 1e-5)


def moved_by_rounding(f, params, draws: int = 6):
  """Per leaf of f(params), in float64: the root mean square over `draws` of how
  far it moves when each weight moves by up to half of float32's last bit."""
  rng = np.random.default_rng(1)
  known, squares = f(params), []
  for _ in range(draws):
    near = jax.tree.map(
        lambda x: x * (1 + 2.0**-24 * rng.uniform(-1, 1, x.shape)), params)
    squares.append([np.linalg.norm(np.asarray(a) - b)**2 for a, b in zip(
        jax.tree.leaves(f(near)), jax.tree.leaves(known), strict=True)])
  return np.sqrt(np.mean(squares, axis=0))


@LONG
def test_float64():
  """Throughout, under x64. float32 is as near as its weights allow: each result
  is off by at most 4 times what rounding the weights moves it by (it was 1.0 to
  2.3 times), beside the rounding of the result itself; and by 1e-5 of itself at
  most, unless 2.5 times that movement is more."""
  with jax.enable_x64(True):
    model, params = tiny(tied=False, dtype='float64')
    params = jax.tree.map(lambda x: x.astype(np.float64), params)
    f = lambda params: jax.device_get(value_and_grad(model)(
        params, TOKENS, SEGMENT, POSITIONS))
    got, moved = f(params), moved_by_rounding(f, params)
    fresh = jax.eval_shape(model.apply, params, TOKENS, POSITIONS, SEGMENT)[1]
  assert all(x.dtype == np.float64 for x in jax.tree.leaves((got, fresh)))
  off = [(np.linalg.norm(a - b), np.linalg.norm(b)) for a, b in zip(
      jax.tree.leaves(single()), jax.tree.leaves(got), strict=True)]
  for (error, size), by in zip(off, moved, strict=True):
    assert error <= 4 * (by + 2.0**-24 * size)
    assert error <= max(1e-5 * size, 2.5 * by)


@LONG
def test_bfloat16():
  """Compute is; the memory and decays are float32. Near float32's values,
  and the state keeps its types through the cache."""
  model, params = tiny(tied=False, dtype='bfloat16')
  params = weight_sync.cast(params, jnp.bfloat16)
  apply = jax.jit(model.apply)
  x, fresh = apply(params, TOKENS, POSITIONS, SEGMENT)
  assert x.dtype == fresh.k_LBTKH.dtype == jnp.bfloat16
  assert fresh.state.memory_BNHU.dtype == jnp.float32
  assert fresh.state.conv_BJE.dtype == jnp.bfloat16
  assert fresh.state.memory_BNHU.shape == (2, 8, 4, 6, 8)
  assert fresh.state.conv_BJE.shape == (2, 8, 2, 56)
  want, real = single()[0][1], SEGMENT > 0
  assert np.abs(np.float32(x) - want)[real].mean() < 0.05
  cache = Cache((cached.slots(fresh, SEGMENT > 0),), fresh.state)
  _, after = jax.eval_shape(
      model.apply, params, TOKENS[:, :1], POSITIONS[:, :1], SEGMENT[:, :1],
      cache)
  assert [(x.shape, x.dtype) for x in jax.tree.leaves(after.state)] == [
      (x.shape, x.dtype) for x in jax.tree.leaves(fresh.state)]


# What is refused.


@pytest.mark.parametrize('fields, message', [
    (dict(num_layers=5), 'num_layers is 5.*multiple of period, 2'),
    (dict(period=1), 'period is 1'), (dict(conv_kernel=1), 'conv_kernel is 1'),
    (dict(delta_value_heads=3), 'delta_value_heads is 3.*delta_key_heads, 2'),
    (dict(num_kv_heads=3), 'num_heads is 4.*num_kv_heads, 3'),
    (dict(width=0), 'width is 0'), (dict(delta_key_dim=0), 'delta_key_dim'),
    (dict(rotary_share=0.5), r'sections \(1, 1, 1\) sum to 3; there are 2'),
    (dict(rotary_share=0.7), 'rotary_share is 0.7: 5 of 8'),
    (dict(rotary_share=0.0), 'rotary_share is 0.0'),
    (dict(rotary_share=1.5), 'rotary_share is 1.5'),
    (dict(rope_sections=(3,)), r'rope_sections is \(3,\)'),
    (dict(vision={}), 'vision is {}')])
def test_impossible_configs(fields, message):
  """Each field is checked by name."""
  with pytest.raises(ValueError, match=message):
    models.build('qwen3_5', **{**TINY, **fields})


@pytest.mark.parametrize('field, value, known', [
    ('remat', 'some', 'none, full, dots'), ('dtype', 'f', 'float32, bfloat16')])
def test_unknown_names(field, value, known):
  with pytest.raises(KeyError, match=f"unknown {field} '{value}'; "
                                     f'known: {known}'):
    models.build('qwen3_5', **{**TINY, field: value})


def test_description_round_trip():
  """Through JSON's lists."""
  model, _ = tiny()
  fields = models.describe(model)
  fields['rope_sections'] = list(fields['rope_sections'])
  assert models.build(**fields).config == model.config
  assert dataclasses.asdict(model.config)['vision'] is None


def test_inputs_that_do_not_fit():
  """Media without a tower; positions on one axis."""
  model, params = tiny()
  with pytest.raises(ValueError, match='no vision tower'):
    model.apply(params, TOKENS, POSITIONS, SEGMENT, media=object())
  with pytest.raises(ValueError, match='positions have 1 axes'):
    model.apply(params, TOKENS, POSITIONS[..., :1], SEGMENT)
