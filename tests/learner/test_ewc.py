"""Elastic weight consolidation and frozen parameters, by hand and on a mesh."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from zppo_jax import models
from zppo_jax.arrays import TrainState
from zppo_jax.devices import sharding
from zppo_jax.learner import ewc, optimizers, states, update
from zppo_jax.learner.optimizers import AdamWConfig

START = {'a': np.float32([1.0, 2.0]), 'b': np.float32([3.0])}
FISHER = {'a': np.float32([2.0, 0.0]), 'b': np.float32([4.0])}
NOW = {'a': np.float32([1.5, 9.0]), 'b': np.float32([2.0])}


def test_penalty_by_hand():
  """0.5 / 2 x (2 x 0.25 + 0 + 4 x 1); its gradient is what `pull` adds."""
  anchor = ewc.Anchor(0.5, START, FISHER)
  assert float(anchor.penalty(NOW, START, FISHER)) == 0.25 * 4.5
  zero = jax.tree.map(jnp.zeros_like, NOW)
  grads = anchor.pull(zero, NOW, START, FISHER)
  np.testing.assert_array_equal(grads['a'], [0.5 * 2 * 0.5, 0])
  np.testing.assert_array_equal(grads['b'], [0.5 * 4 * -1])
  want = jax.grad(lambda p: anchor.penalty(p, START, FISHER))(NOW)
  jax.tree.map(np.testing.assert_allclose, grads, want)


def test_the_optimizer_step_adds_it_to_the_mean_gradient():
  """Divided by the token count are the losses alone; plain descent returns to
  the start where F x coefficient x rate is 1."""
  anchor = ewc.Anchor(0.5, START, FISHER)
  state = TrainState(params=NOW, opt_state=optax.sgd(0.5).init(NOW),
                     updates=jnp.int32(0))
  step = functools.partial(update.optimizer_step, tx=optax.sgd(0.5),
                           pull=anchor.pull)
  grads = {'a': np.float32([0, 8]), 'b': np.float32([0])}
  made, norm = step(state, grads, 4.0, *anchor.arrays)
  np.testing.assert_allclose(made.params['a'], [1.25, 8.0])
  np.testing.assert_allclose(made.params['b'], [3.0])
  np.testing.assert_allclose(norm, np.sqrt(0.5**2 + 2**2 + 2**2), rtol=1e-6)


@pytest.mark.parametrize('fields, words', [
    (dict(coefficient=-1.0, fisher='x'), 'algorithm.ewc.coefficient is -1.0'),
    (dict(coefficient=1.0), 'a file is named exactly'),
    (dict(fisher='x'), 'a file is named exactly')])
def test_refused_sections(fields, words):
  with pytest.raises(ValueError, match=words):
    ewc.EwcConfig(**fields)


def test_a_negative_entry_is_no_information():
  ewc.check('f', FISHER)
  with pytest.raises(ValueError, match=r"\['b'\] in f is -4.0"):
    ewc.check('f', {**FISHER, 'b': -FISHER['b']})


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_frozen_parameters_have_no_moments(dtype):
  """Two steps: the frozen leaf stays to the bit, weight decay included; the
  others move as if it did not exist, the global norm included."""
  config = AdamWConfig(learning_rate=0.1, state_dtype=dtype, frozen=('b*',))
  tx = optimizers.adamw(config)
  alone = optimizers.adamw(dataclasses.replace(config, frozen=()))
  grads = {'a': np.float32([3.0, -1.0]), 'b': np.float32([100.0])}
  params, some = NOW, {'a': NOW['a']}
  state, state_alone = tx.init(params), alone.init(some)
  for _ in range(2):
    updates, state = tx.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    updates, state_alone = alone.update({'a': grads['a']}, state_alone, some)
    some = optax.apply_updates(some, updates)
  np.testing.assert_array_equal(params['b'], NOW['b'])
  np.testing.assert_array_equal(params['a'], some['a'])
  moments = [x for x in jax.tree.leaves(state) if x.ndim]
  assert [x.shape for x in moments] == [(2,), (2,)]


def test_patterns_of_names():
  params = {'blocks': {'mlp': {'up': 0}, 'attn': {'q': 0}}, 'embed': 0}
  of = functools.partial(optimizers.trained, params)
  assert of(('blocks/mlp/*',)) == {
      'blocks': {'mlp': {'up': False}, 'attn': {'q': True}}, 'embed': True}
  optimizers.check_frozen(('embed',), params)
  with pytest.raises(ValueError, match=r"has 'embeds'.*blocks/attn/q"):
    optimizers.check_frozen(('embed', 'embeds'), params)
  with pytest.raises(ValueError, match='no parameter is left'):
    optimizers.check_frozen(('*',), params)
  with pytest.raises(ValueError, match='must be a tuple'):
    AdamWConfig(frozen='embed')


def test_moments_without_frozen_ones_are_sharded_like_parameters():
  model = models.build('decoder', vocab_size=16, width=8, num_layers=2,
                       num_heads=2, num_kv_heads=2, head_dim=4, mlp_width=16,
                       max_positions=32)
  mesh = sharding.make_mesh(sharding.MeshConfig(data=4, fsdp=2))
  tx = optimizers.adamw(AdamWConfig(frozen=('embed*',)))
  shardings = states.state_shardings(model, tx, mesh)
  state = states.abstract_state(model, tx, shardings)
  mu = optax.tree.get(state.opt_state, 'mu')
  of = dict(jax.tree_util.tree_flatten_with_path(state.params)[0])
  moments = dict(jax.tree_util.tree_flatten_with_path(mu)[0])
  assert 0 < len(moments) < len(of)
  assert any(not x.sharding.is_fully_replicated for x in moments.values())
  for path, x in moments.items():
    assert x.sharding == of[path].sharding, path
