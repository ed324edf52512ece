"""Teachers of the student's own weights: identities, resumption, refusals."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.long import LONG
from tests.train.test_distillation import make_config
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.arrays import Beside, FollowedState
from zppo_jax.learner import states, update
from zppo_jax.runs import checkpoints
from zppo_jax.train import build, loop, resume, step
from zppo_jax.train.teaching.own import OwnConfig

pytestmark = pytest.mark.usefixtures('quick_compile')


def moved(config, values, start=0.0):
  """The copy after an optimizer step to each of the values."""
  own, out = {'x': jnp.float32([start])}, []
  for i, value in enumerate(values, 1):
    own = config.follow(own, {'x': jnp.float32([value])}, jnp.int32(i))
    out.append(float(own['x'][0]))
  return out


def test_an_average_moves_as_the_closed_form_says():
  """1 - .95^n of the way to constant weights: .401263 at 10."""
  copy = moved(OwnConfig('ema', rate=0.05), [1.0] * 14)
  np.testing.assert_allclose(copy, 1 - 0.95 ** np.arange(1, 15), rtol=1e-5)
  assert copy[9] == pytest.approx(0.401263, abs=1e-6)
  assert copy[12] < 0.5 < copy[13]  # half-life of 13.51 steps


def test_an_average_of_all_or_nothing_is_live_or_frozen():
  values = np.random.default_rng(0).normal(size=9).astype(np.float32).tolist()
  assert moved(OwnConfig('ema', rate=1.0), values, 0.3) == values
  assert moved(OwnConfig('ema', rate=0.0), values, 0.5) == [0.5] * 9


def test_a_lagged_copy_is_taken_every_few_steps():
  assert moved(OwnConfig('lagged', lag=3), range(1, 8)) == [
      0, 0, 3, 3, 3, 6, 6]
  assert moved(OwnConfig('lagged', lag=1), range(1, 5)) == [1, 2, 3, 4]


def _pull(params, batch, beside: Beside):
  """A loss whose gradient is params - the teacher's weights."""
  loss = 0.5 * sum(
      jnp.sum((p - jax.lax.stop_gradient(t)) ** 2) for p, t in zip(
          jax.tree.leaves(params), jax.tree.leaves(beside.frozen['teacher']),
          strict=True)) + batch.sum()
  return loss, update.no_sums()


@pytest.mark.parametrize('config', [
    OwnConfig('live'), OwnConfig('ema', rate=1.0), OwnConfig('ema', rate=0.25),
    OwnConfig('ema', rate=0.0), OwnConfig('lagged', lag=2)], ids=repr)
def test_the_update_reads_and_moves_the_copy(config, tiny, make_mesh):
  """Three steps of plain descent away from the copy's own place; the copy is
  sharded as params and starts at them."""
  model, params = tiny
  mesh, tx = make_mesh(1, 2, 1), optax.sgd(0.5)
  shardings = states.state_shardings(model, tx, mesh, config.followed)
  state = states.new_state(params, tx, shardings)
  assert isinstance(state, FollowedState) == config.followed
  run = update.compile_update(
      loss_fn=lambda p, b, beside: _pull(
          jax.tree.map(lambda x: x + 1.0, p), b, beside),
      tx=tx, mesh=mesh, shardings=shardings, own=config.beside,
      follow=config.follow)
  want = own = 0.0
  for i in range(1, 4):
    state, *_ = run(state, [jnp.zeros(2)], 1.0)
    teacher = want if config.weights == 'live' else own
    want -= 0.5 * (want + 1.0 - teacher)
    if config.weights == 'ema':
      own = config.rate * want + (1 - config.rate) * own
    elif config.weights == 'lagged' and i % config.lag == 0:
      own = want
  leaf = lambda tree: np.asarray(jax.tree.leaves(tree)[0])
  begun = leaf(params)
  np.testing.assert_allclose(leaf(state.params) - begun, want, atol=1e-5)
  if config.followed:
    np.testing.assert_allclose(leaf(state.own) - begun, own, atol=1e-5)
    assert jax.tree.leaves(state.own)[0].sharding == jax.tree.leaves(
        state.params)[0].sharding
    assert {x.dtype for x in jax.tree.leaves(state.own)} == {
        jnp.dtype('float32')}


def own_config(method, weights, **changes):
  c = make_config(method, **{
      'teacher.kind': 'own', 'teacher.own.weights': weights,
      'data.pool.hints': True, **changes})
  c.steps = 2
  return c


def trained(c, steps=2):
  run = build.build(c)
  state, rows = run.init_state(), []
  for i in range(steps):
    made = step.train_step(run, state, ReplayBuffer(run.buffer_capacity), i)
    state = made.state
    rows.append(step.metrics_row(run, made))
  return state, rows


def saved(c, path):
  """The state in the last checkpoint of a run."""
  run = build.build(c)
  store = checkpoints.Checkpoints(
      path / 'checkpoints', run.checkpoint, resume.manifest(c, run),
      read_only=True)
  state = resume.restore(store, run, store.latest()).state
  store.close()
  return jax.device_get(state)


def apart(one, two):
  """The largest difference of params."""
  return max(float(np.abs(x - y).max()) for x, y in zip(
      jax.tree.leaves(jax.device_get(one.params)),
      jax.tree.leaves(jax.device_get(two.params)), strict=True))


@LONG
def test_the_live_policy_in_the_same_context_teaches_nothing():
  _, rows = trained(own_config('opd_reverse', 'live'), 1)
  assert abs(rows[0]['distil/divergence']) < 1e-6
  assert rows[0]['update/grad_norm'] < 1e-4


@LONG
def test_averages_at_the_ends_are_live_and_frozen_in_a_run():
  """A teacher that reads a hint, in stored scores; the test above has the pass
  inside the update."""
  hint = {'distil.context': 'hint', 'optimizer.eps': 1e-3}
  run = {name: trained(own_config('opd_k2', weights, **hint, **more))[0]
         for name, weights, more in (
             ('live', 'live', {}), ('frozen', 'frozen', {}),
             ('one', 'ema', {'teacher.own.rate': 1.0}),
             ('none', 'ema', {'teacher.own.rate': 0.0}))}
  assert apart(run['live'], run['one']) == 0
  assert apart(run['frozen'], run['none']) == 0
  assert apart(run['live'], run['frozen']) > 1e-5


@LONG
def test_a_resumed_run_has_the_same_copy_to_the_bit(tmp_path):
  """Stopped after one of three steps, and straight through."""
  def go(path, steps):
    c = own_config('opd_k2', 'ema', **{'distil.context': 'hint'})
    c.steps, c.checkpoint.every = steps, 1
    loop.main(c, path)
    rows = [json.loads(line) for line in
            (path / 'metrics.jsonl').read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith('time/')
             and not k.startswith('compilations/') and k != 'learning_rate'}
            for row in rows]
  straight = go(tmp_path / 'straight', 3)
  go(tmp_path / 'stopped', 1)
  assert go(tmp_path / 'stopped', 3) == straight
  final = [(tmp_path / name / 'final.safetensors').read_bytes()
           for name in ('straight', 'stopped')]
  assert final[0] == final[1]


@LONG
def test_a_fork_starts_its_copy_at_the_params(tmp_path):
  """From a run without a copy, and back to one without."""
  plain = make_config('opd_k2', **{'data.pool.hints': True})
  plain.steps = 1
  loop.main(plain, tmp_path / 'plain')
  c = own_config('opd_k2', 'lagged', **{'teacher.own.lag': 9})
  loop.main(c, tmp_path / 'own', fork_from=tmp_path / 'plain')
  begun, forked = saved(plain, tmp_path / 'plain'), saved(c, tmp_path / 'own')
  # Two updates are fewer than the lag, so that the copy has not moved.
  jax.tree.map(np.testing.assert_array_equal, forked.own, begun.params)
  assert apart(forked, begun) > 0
  plain.steps = 3
  loop.main(plain, tmp_path / 'back', fork_from=tmp_path / 'own')
  assert not isinstance(saved(plain, tmp_path / 'back'), FollowedState)


@pytest.mark.parametrize('changes, words', [
    ({'teacher.own.weights': 'older'}, ("'older'", 'frozen, live, lagged')),
    ({'teacher.own.weights': 'ema', 'teacher.own.rate': 1.5},
     ('teacher.own.rate is 1.5', '[0, 1]')),
    ({'teacher.own.lag': 0}, ('teacher.own.lag is 0', '>= 1')),
    ({'teacher.own.weights': 'folder'}, ("teacher.own.folder is ''",)),
    ({'teacher.own.folder': 'x'}, ("teacher.own.folder is 'x'", "'frozen'")),
    ({'teacher.own.weights': 'folder', 'teacher.own.folder': 'micro/nothing'},
     ('micro/nothing',)),
])
def test_bad_values_are_refused(changes, words):
  c = make_config('opd_k2', **{'teacher.kind': 'own', **changes})
  with pytest.raises((KeyError, ValueError, FileNotFoundError)) as e:
    build.build(c)
  assert all(word in str(e.value) for word in words), str(e.value)


@LONG
def test_another_folder_of_the_same_model_teaches():
  c = own_config('opd_k2', 'folder', **{
      'teacher.own.folder': 'micro/teacher'})
  _, rows = trained(c, 1)
  assert rows[0]['update/grad_norm'] > 0.1
