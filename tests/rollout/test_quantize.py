"""Rollout copies in fewer bits: what they hold, mean, weigh and where they
lie; one step with them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import random_models
from tests.builders import small_config
from tests.long import LONG, long, long_but
from tests.rollout.test_engine import engine, request
from zppo_jax import models
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.devices import sharding
from zppo_jax.learner import forward, packing
from zppo_jax.models import layers
from zppo_jax.records import Decoding, TokenSequence
from zppo_jax.rollout import quantize, weight_sync
from zppo_jax.train import build, step

pytestmark = pytest.mark.usefixtures('quick_compile')

is_int8 = lambda x: isinstance(x, quantize.Int8)
CASES = [('qwen3', True), ('qwen3_5', False), ('qwen3_vl', True)]


@functools.cache
def made(family, tied):
  fields = {**random_models.FIELDS[family], 'tied': tied}
  model = models.build(family, **fields)
  return model, random_models.draw(model, 0)


def dense(copy):
  return jax.tree.map(lambda x: x.astype(jnp.float32), copy, is_leaf=is_int8)


def logps(model, params):
  tokens = np.random.default_rng(0).integers(2, 500, (2, 24))
  batch = packing.pad_rows(
      [packing.to_score(TokenSequence(prompt=t[:8], response=t[8:]))
       for t in tokens], 2, 24, 0, model.num_axes)
  return jax.jit(functools.partial(
      forward.token_logps, model=model, temperature=1.0, chunk=64))(
          params, batch)[0]


def test_int8_is_the_nearest_with_a_scale_a_channel():
  """By hand; half a scale off at most, and zeros stay zeros."""
  w = jnp.float32([[1.27, 0.0], [-0.634, 0.0]])
  found = quantize.int8(w, (0,))
  np.testing.assert_array_equal(found.values, [[127, 0], [-63, 0]])
  np.testing.assert_allclose(found.scale, [[0.01, 1]])
  w = jax.random.normal(jax.random.key(0), (6, 4, 10))
  found = quantize.int8(w, (0, 1))
  assert found.scale.shape == (1, 1, 10) and found.values.dtype == jnp.int8
  assert jnp.all(abs(found.astype(jnp.float32) - w) <= found.scale * 0.5001)
  assert jnp.max(abs(found.values)) == 127


@pytest.mark.parametrize('family, tied', long_but(['qwen3'], CASES))
def test_the_network_reads_int8_as_the_weights_that_it_stands_for(
    family, tied):
  """Log-probs of the copy are those of its dequantised weights (1e-5), and
  other ones than those of the trained weights."""
  model, params = made(family, tied)
  copy = weight_sync.rollout_copy(params, jnp.float32, 'int8')
  got = logps(model, copy)
  np.testing.assert_allclose(got, logps(model, dense(copy)), atol=1e-5)
  assert jnp.max(abs(got - logps(model, layers.unstack(params)))) > 1e-3


@pytest.mark.parametrize('family, tied', CASES)
def test_leaves_by_name(family, tied):
  """Every matrix of LEAVES outside the tower is int8, nothing else is; its
  bytes, scales included, are little more than a quarter of float32's."""
  model, params = made(family, tied)
  copy = weight_sync.rollout_copy(params, jnp.float32, 'int8')
  small, rest = set(), set()
  was = is_now = 0
  for path, x in jax.tree_util.tree_leaves_with_path(copy, is_leaf=is_int8):
    name = path[-1].key
    (small if is_int8(x) else rest).add(
        ('vision/' if path[0].key == 'vision' else '') + name)
    if is_int8(x):
      was += 4 * x.values.size
      is_now += x.values.nbytes + x.scale.nbytes
    else:
      assert x.dtype == jnp.float32
  want = {'embed', 'q', 'k', 'v', 'o', 'gate', 'up', 'down'}
  want |= set() if tied else {'head'}
  if family == 'qwen3_5':
    want = want - {'q'} | {'q_gate', 'qkv', 'z'}
    assert {'a', 'b', 'conv', 'A_log', 'dt_bias'} <= rest
  assert small == want and not small & rest
  assert is_now <= 0.27 * was


@pytest.mark.parametrize('family, tied', [
    ('qwen3', False), long('qwen3_5', True)])
def test_the_copy_on_four_devices(family, tied, make_mesh):
  """One jitted call; scales lie where their channels lie; same log-probs, and
  the same bytes as without a mesh."""
  model, params = made(family, tied)
  mesh = make_mesh(1, 2, 2)
  placed = jax.device_put(params, sharding.param_shardings(
      params, mesh, sharding.TRAIN_RULES))
  copy = weight_sync.compile_reshard(model, mesh, 'int8')(placed)
  want = weight_sync.rollout_copy(params, jnp.float32, 'int8')
  up, down = (copy['blocks_0'].get('layer_0', copy['blocks_0'])['mlp'][n]
              for n in ('up', 'down'))
  D, F = up.shape
  shard = lambda x: x.sharding.shard_shape(x.shape)
  assert shard(up.values) == (D, F // 2) and shard(up.scale) == (1, F // 2)
  assert shard(down.values) == (F // 2, D) and shard(down.scale) == (1, D)
  assert shard(copy['embed'].scale) == (256, 1)
  for a, b in zip(jax.tree.leaves(copy), jax.tree.leaves(want), strict=True):
    # Scales may differ in the last bit, and a value at a half with them.
    np.testing.assert_allclose(
        np.float32(a), np.float32(b), rtol=1e-6, atol=a.dtype == jnp.int8)
  np.testing.assert_allclose(logps(model, copy), logps(model, want), atol=1e-3)


def test_placing_and_resharding_agree(tiny, make_mesh):
  mesh = make_mesh()
  for weights in weight_sync.WEIGHTS:
    one = weight_sync.place_copy(tiny[1], tiny[0], mesh, weights)
    other = weight_sync.compile_reshard(tiny[0], mesh, weights)(tiny[1])
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
      assert a.dtype == b.dtype and a.sharding == b.sharding
      np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=1e-6)


def greedy_tokens(model, mesh, params):
  ask = [dataclasses.replace(request(i), decoding=Decoding(9, temperature=0.0))
         for i in range(2)]
  groups = engine(model, mesh, slots=8, decode_chunk=8).generate(params, ask)
  return [c.tokens for group in groups for c in group]


@LONG
def test_a_bfloat16_copy_of_a_bfloat16_model_draws_the_same(
    make_tiny, make_mesh):
  model, params = make_tiny(dtype='bfloat16')
  mesh = make_mesh()
  same, half = (greedy_tokens(model, mesh, weight_sync.place_copy(
      params, model, mesh, weights)) for weights in ('same', 'bfloat16'))
  assert same == half


@LONG
def test_the_engine_draws_from_int8_what_its_weights_say(tiny, make_mesh):
  """Greedy tokens are those of the dequantised weights."""
  model, params = tiny
  copy = weight_sync.place_copy(params, model, make_mesh(), 'int8')
  assert greedy_tokens(model, make_mesh(), copy) == greedy_tokens(
      model, make_mesh(), dense(copy))


@pytest.mark.parametrize('updates', [1, long(2)])
def test_a_step_reports_the_gap(updates, capsys):
  """int8 without a correction: told, measured without a scoring pass, and the
  trained weights stay float32."""
  c = small_config()
  c.student.rollout_weights, c.algorithm.updates = 'int8', updates
  run = build.build(c)
  assert 'algorithm.correction is recommended' in capsys.readouterr().out
  made = step.train_step(
      run, run.init_state(), ReplayBuffer(run.buffer_capacity), 0)
  row = step.metrics_row(run, made)
  mean, most = (row[f'sampler_trainer/logp_gap_{name}']
                for name in ('mean', 'max'))
  assert 1e-4 < mean < 0.1 and mean < most < 2
  assert 'correction/weight' not in row
  assert {x.dtype for x in jax.tree.leaves(made.state.params)} == {
      jnp.dtype('float32')}


@pytest.mark.parametrize('weights', ['bfloat16', 'int8'])
def test_decoding_carries_the_small_weights(weights, make_tiny, make_mesh):
  """The compiled loop goes round with what the copy holds, not with matrices
  that were widened before it."""
  model, _ = make_tiny(vocab_size=400, width=48)
  mesh = make_mesh()
  programs = engine(model, mesh, slots=8).programs
  copy = weight_sync.compile_reshard(model, mesh, weights).eval_shape(
      jax.eval_shape(model.init, jax.random.key(0)))
  text = programs.largest(copy)['decode chunk'].compile().as_text()
  loops = [line for line in text.splitlines() if ' while(' in line]
  held = {'bfloat16': 'bf16', 'int8': 's8'}[weights]
  assert any(f'{held}[20,48]' in line for line in loops)
  # A CPU widens a bf16 table before it takes rows of it, so no 400,48 here.
  assert not any(f'f32[{size}]' in line for line in loops
                 for size in ('20,48', '48,20', '48,400'))
