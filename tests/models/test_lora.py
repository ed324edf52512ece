"""Adapters inside the networks: forward, merge, gradients, meshes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import random_models
from tests.learner import test_meshes as meshes
from tests.long import LONG, long, long_but
from zppo_jax import models
from zppo_jax.devices import sharding
from zppo_jax.learner import states, update
from zppo_jax.learner.optimizers import AdamWConfig, adamw
from zppo_jax.models import layers, lora
from zppo_jax.models.lora import LoraConfig
from zppo_jax.objectives import losses
from zppo_jax.rollout import weight_sync

pytestmark = pytest.mark.usefixtures('quick_compile')

ALL = ('q_gate', 'k', 'v', 'o', 'gate', 'up', 'down', 'delta_qkv', 'delta_z',
       'delta_a', 'delta_b', 'delta_o')


def config_of(family, **fields):
  """A section with every matrix of a family."""
  return LoraConfig(**{'rank': 3, 'alpha': 6.0, 'matrices': ALL if (
      family == 'qwen3_5') else (), **fields})


@functools.cache
def drawn(family, dtype='float32'):
  """(model, base, adapters with B off zero, section)."""
  model, base = random_models.build(family, dtype=dtype)
  config = config_of(family)
  adapters = lora.init(config, base, jax.random.key(3))
  rng = np.random.default_rng(5)
  adapters = jax.tree.map(lambda x: np.asarray(x) if np.any(x) else (
      0.1 * rng.standard_normal(x.shape)).astype(np.float32), adapters)
  return model, base, adapters, config


def hidden(model, params):
  rng = np.random.default_rng(0)
  tokens_BT = rng.integers(2, 40, (2, 9)).astype(np.int32)
  positions = np.broadcast_to(
      np.arange(9, dtype=np.int32)[None, :, None], (2, 9, model.num_axes))
  return jax.jit(model.apply)(params, tokens_BT, positions,
                              np.ones((2, 9), np.int32))[0]


def test_by_hand():
  """W = [[1, 0], [0, 1]], A = [1, 2], B = [3, 4], scale 2: x = [1, 1] goes to
  [1, 1] + 2 * 3 * [3, 4]."""
  w = lora.Adapted(base=jnp.eye(2), lora_a=jnp.array([[1.0], [2.0]]),
                   lora_b=jnp.array([[3.0, 4.0]]), scale=2.0)
  x = jnp.array([[1.0, 1.0]])
  np.testing.assert_array_equal(layers.project(x, w), [[19, 25]])
  np.testing.assert_array_equal(w.merged(), [[7, 8], [12, 17]])
  np.testing.assert_array_equal(x @ w.merged(), [[19, 25]])


@pytest.mark.default_emitters
@pytest.mark.parametrize('family', random_models.FIELDS)
def test_new_adapters_change_nothing(family):
  """B is zero, so that the network is that of the base, to the bit."""
  model, base, _, config = drawn(family)
  fresh = lora.join(base, lora.init(config, base, jax.random.key(1)), 2.0)
  np.testing.assert_array_equal(hidden(model, fresh), hidden(model, base))


@pytest.mark.parametrize('family', long_but(
    ['qwen3'], random_models.FIELDS))
def test_merged_is_unmerged(family):
  """The rollout copy, which is merged, computes what the trainer computes."""
  model, base, adapters, config = drawn(family)
  params = lora.join(base, adapters, config.scale)
  apart = hidden(model, params)
  copy = weight_sync.rollout_copy(params, jnp.float32)
  whole = lora.merge_stacked(params)
  assert np.abs(apart - hidden(model, base)).max() > 0.1
  for merged in (copy, whole):
    assert not any(map(lora.is_adapted, jax.tree.leaves(
        merged, is_leaf=lora.is_adapted)))
    np.testing.assert_allclose(hidden(model, merged), apart, atol=3e-5)


@LONG
def test_bfloat16_rounds_like_the_merged_matrix():
  """Both outputs are rounded in the place of one: the distance to float32 is
  that of merged weights but for a factor."""
  model, base, adapters, config = drawn('qwen3')
  params = lora.join(base, adapters, config.scale)
  exact = hidden(model, params)
  narrow = models.build('qwen3', **{**random_models.FIELDS['qwen3'],
                                    'dtype': 'bfloat16'})
  apart, merged = (np.abs(hidden(narrow, of).astype(np.float32) - exact).mean()
                   for of in (params, weight_sync.rollout_copy(
                       params, jnp.bfloat16)))
  assert 0 < apart < 1.5 * merged


@LONG
def test_each_name_is_its_matrix():
  """Adapters of one name change the merged weights of that matrix alone."""
  _, base, _, _ = drawn('qwen3_5')
  for name in ALL:
    config = config_of('qwen3_5', matrices=(name,))
    adapters = jax.tree.map(jnp.ones_like, lora.init(
        config, base, jax.random.key(0)))
    merged = lora.merge_stacked(lora.join(base, adapters, 1.0))
    moved = {'/'.join(k.key for k in path[-2:]) for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(merged), jax.tree.leaves(base),
        strict=True) if np.any(x != y)}
    assert moved == {lora.MATRICES[name]}


def test_draws_have_names():
  """A's numbers are those of (key, matrix), whatever else has adapters."""
  _, base, _, _ = drawn('qwen3')
  every, one = (lora.init(LoraConfig(rank=3, matrices=names), base,
                          jax.random.key(0)) for names in ((), ('up',)))
  up = every['blocks']['mlp']['up']['lora_a']
  np.testing.assert_array_equal(up, one['blocks']['mlp']['up']['lora_a'])
  bound = random_models.TEXT['width']**-0.5
  assert 0.9 * bound < np.abs(up).max() <= bound
  assert not np.array_equal(up, every['blocks']['mlp']['gate']['lora_a'])
  assert not np.any(every['blocks']['mlp']['up']['lora_b'])


@pytest.mark.parametrize('fields, message', [
    (dict(rank=-1), r'lora\.rank is -1'), (dict(rank=1.5), r'lora\.rank'),
    (dict(rank=2, alpha=0), r'lora\.alpha is 0'),
    (dict(rank=2, matrices=('qkv',)), r"lora\.matrices 'qkv'; known: q,")])
def test_refused(fields, message):
  with pytest.raises((ValueError, KeyError), match=message):
    LoraConfig(**fields)


def test_a_matrix_that_the_model_lacks_is_refused():
  _, base, _, _ = drawn('qwen3')
  with pytest.raises(KeyError, match="lora.matrices 'delta_z'; known: q, k"):
    lora.init(LoraConfig(rank=2, matrices=('delta_z',)), base,
              jax.random.key(0))


def programs_of(family, dtype, mesh, rank):
  """(accumulate's arguments, programs) of a micro-batch; rank 0 trains all."""
  model, base, adapters, config = drawn(family)
  cast = lambda tree: jax.tree.map(lambda x: np.asarray(x, dtype), tree)
  model = models.build(family, **{
      **random_models.FIELDS[family], 'dtype': dtype, 'remat': 'full'})
  of = dict(loss_fn=functools.partial(
      update.policy_loss, model=models.on_mesh(model, mesh), temperature=0.9,
      chunk=5, loss=losses.negative_log_likelihood), mesh=mesh,
      tx=adamw(AdamWConfig()))
  base = jax.device_put(cast(base), sharding.param_shardings(
      base, mesh, sharding.TRAIN_RULES))
  adapted = lora.Lora(config, base) if rank else None
  trained = model._replace(init=adapted.init) if rank else model
  shardings = states.state_shardings(trained, of['tx'], mesh)
  programs = update.compile_update(
      **of, shardings=shardings, adapted=adapted).keywords
  params = jax.device_put(cast(adapters) if rank else base, shardings.params)
  beside = programs['beside_fn'](states.TrainState(params, None, 0))
  batch = meshes.batch_of('shared', family == 'qwen3_5', model.num_axes)
  return (programs['zeros_fn'](params), params,
          sharding.put_batch(mesh, batch), *beside), programs


def gradient(family, dtype, mesh):
  arguments, programs = programs_of(family, dtype, mesh, 3)
  grads, sums = programs['accumulate_fn'](*arguments)
  return jax.tree.map(np.asarray, grads), float(sums.loss)


@LONG
@pytest.mark.parametrize('family, shape', [
    ('qwen3', (2, 2, 2)),
    long('qwen3', (1, 1, 4)),  # copies of key heads
    long('llama', (2, 2, 2)), long('qwen3_vl', (2, 2, 2)),
    long('qwen3_5', (2, 2, 2))])
def test_a_mesh_changes_no_gradient(family, shape, make_mesh):
  """In float64, as in test_meshes; several devices against one."""
  with jax.enable_x64(True):
    want, loss = gradient(family, 'float64', make_mesh(1, 1, 1))
    got, same = gradient(family, 'float64', make_mesh(*shape))
  np.testing.assert_allclose(same, loss, rtol=1e-6)
  for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(got),
                          jax.tree.leaves(want), strict=True):
    assert np.abs(y).max() > 0, path
    np.testing.assert_allclose(x, y, rtol=0, atol=1e-11 * np.abs(y).max(),
                               err_msg=jax.tree_util.keystr(path))


@LONG
def test_gradient_by_differences(make_mesh):
  """The gradient of one number of A and of B, by central differences."""
  with jax.enable_x64(True):
    arguments, programs = programs_of('qwen3', 'float64', make_mesh(1, 1, 1), 3)
    grads, params, *rest = arguments
    got, _ = programs['accumulate_fn'](
        jax.tree.map(jnp.zeros_like, params), params, *rest)
    for leaf in ('lora_a', 'lora_b'):
      place = (1, 2, 1) if leaf == 'lora_a' else (1, 1, 2)
      def at(step, leaf=leaf, place=place):
        moved = jax.tree.map(jnp.asarray, params)
        of = moved['blocks']['mlp']['up']
        of[leaf] = of[leaf].at[place].add(step)
        _, sums = programs['accumulate_fn'](
            jax.tree.map(jnp.zeros_like, params), moved, *rest)
        return np.float64(sums.loss)
      slope = (at(1e-4) - at(-1e-4)) / 2e-4
      np.testing.assert_allclose(
          got['blocks']['mlp']['up'][leaf][place], slope, rtol=2e-3, atol=1e-4)


@LONG
def test_no_gradient_of_a_frozen_matrix(make_mesh):
  """The products of the update are those of x, and not of the weights: 4 of 6
  units, and recomputed ones. The gradient is that of the adapters."""
  mesh = make_mesh(1, 1, 1)
  costs, results = [], []
  for rank in (3, 0):
    arguments, programs = programs_of('qwen3', 'float32', mesh, rank)
    program = programs['accumulate_fn'].lower(*arguments).compile()
    costs.append(program.cost_analysis()['flops'])
    results.append(program.memory_analysis().output_size_in_bytes)
  assert costs[0] < 0.85 * costs[1]
  assert results[0] < 0.2 * results[1]


def test_reshard_merges_on_a_mesh(make_mesh):
  """The programs that make a rollout copy, from adapters on 2 x 2 x 2."""
  mesh = make_mesh(2, 2, 2)
  model, base, adapters, config = drawn('qwen3_5')
  put = lambda tree: jax.device_put(tree, sharding.param_shardings(
      tree, mesh, sharding.TRAIN_RULES))
  adapted = lora.Lora(config, put(base))
  reshard = weight_sync.compile_reshard(
      models.on_mesh(model, mesh), mesh, adapted=adapted)
  got = reshard(put(adapters))
  want = weight_sync.rollout_copy(
      lora.join(base, adapters, config.scale), jnp.float32)
  for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(got),
                          jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-6,
                               err_msg=jax.tree_util.keystr(path))
  assert jax.tree.map(lambda x: x.sharding, got) == jax.tree.map(
      lambda x: x.sharding, reshard.copy)
