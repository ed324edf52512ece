"""Rows of other policy objectives, and the penalty, in the embedded world."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from tests.builders import documented_metrics, json_rows, small_config
from tests.long import LONG, long
from zppo_jax import assets
from zppo_jax.algorithms import methods
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.commands import dry_run
from zppo_jax.runs import watch
from zppo_jax.train import build, loop, minibatches, resume, step
from zppo_jax.weights import safetensors_file

pytestmark = pytest.mark.usefixtures('quick_compile')


def config_of(method, kind='none', **changes):
  """Four questions; the temperature is high, so that groups are mixed."""
  c = small_config(method=method, **changes)
  c.algorithm.num_new, c.algorithm.temperature = 4, 1.6
  c.data.pool.hard_share = 0.5
  if kind != 'none':
    c.algorithm.reference.update(kind=kind, coefficient=0.5)
  return c


def steps_of(run, count):
  """(row, outcome) of each of the first steps."""
  state, buffer = run.init_state(), ReplayBuffer(run.buffer_capacity)
  for i in range(count):
    outcome = step.train_step(run, state, buffer, i)
    state, buffer = outcome.state, outcome.buffer
    yield step.metrics_row(run, outcome), outcome


@pytest.mark.parametrize('method, kind', [
    ('gspo', 'none'), long('dr_grpo', 'k2'), long('cispo', 'k3'),
    long('zppo', 'full')])
def test_each_trains_three_steps(method, kind):
  """Finite numbers that docs/metrics.md names. In the first update the policy
  is its reference, whose KL is 0; then it moves."""
  run = build.build(config_of(method, kind))
  rows, sums = zip(*((row, outcome.sums) for row, outcome in steps_of(run, 3)),
                   strict=True)
  trained = [row for row in rows if row['update/trained_tokens']]
  names = documented_metrics()
  assert trained
  for row in trained:
    assert all(any(p.fullmatch(k) for p in names) for k in row)
    assert np.isfinite(row['update/loss']) and row['update/grad_norm'] > 0
    assert ('update/sequence_clip_low' in row) == (method == 'gspo')
    assert ('reference/kl' in row) == (kind != 'none')
  if kind != 'none':
    first = next(of for step_sums in sums for of in step_sums if of.tokens)
    assert abs(first.total['reference/kl']) / first.tokens < 1e-6
    assert all(1e-6 < row['reference/kl'] < 0.1 for row in trained)
    assert all(row['update/trained_tokens'] == 1 for row in trained[1:])


@LONG
def test_dr_grpo_is_no_norm_grpo_up_to_its_constant():
  """The gradients of one step, times what each sum was divided by."""
  found = []
  for method, normaliser in (('dr_grpo', 'without_zero'), ('grpo', 'none')):
    c = config_of(method)
    c.algorithm.updates, c.algorithm.normaliser = 1, normaliser
    run = build.build(c)
    ((row, outcome),) = steps_of(run, 1)
    found.append((outcome, row))
  (ours, of_ours), (theirs, of_theirs) = found
  np.testing.assert_array_equal(ours.advantages_PG, theirs.advantages_PG)
  assert np.any(ours.advantages_PG)
  (ours,), (theirs,) = ours.minibatches, theirs.minibatches
  assert ours.count == 4 * c.algorithm.rollouts * c.algorithm.max_tokens
  assert theirs.count == theirs.tokens == ours.tokens < ours.count
  for name in ('update/loss', 'update/grad_norm'):
    np.testing.assert_allclose(of_ours[name] * ours.count,
                               of_theirs[name] * theirs.count, rtol=1e-4)


def weights_of(tmp_path):
  """A copy of the student's weights that a test may change."""
  path = tmp_path / 'student.safetensors'
  shutil.copy(assets.find('micro/student'), path)
  return path


@LONG
def test_a_resumed_run_has_the_same_reference(tmp_path):
  """Two steps and one more equal three to the byte; changed weights of the
  student are refused, because the reference is made of them again."""
  weights = weights_of(tmp_path)
  original = weights.read_bytes()

  def config(steps):
    c = config_of('grpo', 'k3', steps=steps)
    c.student.weights = str(weights)
    return c
  loop.main(config(3), tmp_path / 'whole')
  loop.main(config(2), tmp_path / 'run')
  manifest = json.loads(
      (tmp_path / 'run/checkpoints/2/host/metadata').read_text())
  assert re.fullmatch('[0-9a-f]{64}', manifest['reference'])

  like = build.build(config(3)).abstract_state.params
  params = safetensors_file.load(weights, like)
  description = safetensors_file.description(weights)
  safetensors_file.save(
      weights, jax.tree.map(lambda x: x * np.float32(1.001), params),
      description)
  with pytest.raises(ValueError, match='towards another reference policy '
                     r'\(algorithm.reference\): the weights that student.w'):
    loop.main(config(3), tmp_path / 'run')
  weights.write_bytes(original)
  loop.main(config(3), tmp_path / 'run')
  clocks = re.compile('time/|compilations/')
  rows = [[{k: v for k, v in row.items() if not clocks.match(k)}
           for row in json_rows(tmp_path / name / 'metrics.jsonl')]
          for name in ('run', 'whole')]
  assert rows[0] == rows[1]
  assert any(row.get('reference/kl') for row in rows[0])
  assert (tmp_path / 'run/final.safetensors').read_bytes() == (
      tmp_path / 'whole/final.safetensors').read_bytes()


@LONG
@pytest.mark.parametrize('kind', ['k3', long('full')])
def test_the_reference_counts_in_memory_and_is_one_on_every_mesh(kind):
  runs = []
  for shape in ((1, 1, 1), (2, 2, 2)):
    c = config_of('grpo', kind)
    c.mesh.update(dict(zip(('data', 'fsdp', 'tensor'), shape, strict=True)))
    runs.append(build.build(c))
  memory = dry_run.standing_memory(runs[0])
  assert memory['reference parameters'] == (
      memory['rollout copy of the student']) > 0
  digests = {resume.manifest(c, run)['reference'] for run in runs}
  assert len(digests) == 1
  lowered = dry_run.lowered(runs[0])
  assert ('scoring by the reference' in lowered) == (kind == 'k3')
  assert 'reference' not in resume.manifest(c, build.build(config_of('grpo')))


@LONG
def test_one_pass_of_the_reference_per_rollout_batch():
  """On the tokens, layout and temperature of the trainer's own scorer, whose
  numbers it gives before anything was trained."""
  run = build.build(config_of('grpo', 'k2'))
  ((_, outcome),) = steps_of(run, 1)
  batches = [b for of in outcome.minibatches for b in of.batches]
  assert batches
  for b in batches:
    np.testing.assert_allclose(b.targets['reference_logp'],
                               b.targets['old_logp'], atol=1e-5)
    assert np.any(b.targets['reference_logp'])


@LONG
def test_before_the_first_advantage_nothing_is_trained():
  """The penalty's gradient is rounding alone then, and Adam would make steps
  of full size of it."""
  run = build.build(config_of('grpo', 'k3'))
  state = run.init_state()
  before = jax.device_get(state.params)
  (row, outcome), = steps_of(run, 1)
  groups, zeros = outcome.groups, np.zeros_like(outcome.advantages_PG)
  made, _ = minibatches.make(run, groups, zeros, 0)
  assert all(of.batches and not of.rewarded for of in made)
  state, sums, _ = step.update(run, state, minibatches.score(run, state, made))
  assert all(of.tokens == 0 for of in sums)
  for x, y in zip(jax.tree.leaves(before),
                  jax.tree.leaves(jax.device_get(state.params)), strict=True):
    np.testing.assert_array_equal(x, y)
  # Once something was trained, the penalty acts without an advantage too.
  moved = outcome.state
  made = minibatches.score(run, moved, made)
  _, sums, norms = step.update(run, moved, made)
  assert all(of.tokens > 0 for of in sums) and all(norms)
  assert row['reference/kl'] >= 0


def test_a_step_of_the_penalty_alone_is_idle():
  row = {'update/trained_tokens': 1.0, 'update/grad_norm': 0.1,
         'advantage/abs_max': 0.0}
  assert not watch.idle(row)
  assert watch.idle({**row, 'reference/kl': 0.1})
  assert not watch.idle({**row, 'reference/kl': 0.1, 'advantage/abs_max': 1.0})


@pytest.mark.parametrize('method, changes, message', [
    ('gspo', {'algorithm.normaliser': 'with_zero'},
     "algorithm.normaliser is 'with_zero'; method 'gspo' has 'group'"),
    ('on_distill', {'algorithm.reference.kind': 'k3',
                    'algorithm.reference.coefficient': 0.1},
     "algorithm.reference.kind is 'k3'; method 'on_distill' is no policy "
     'objective .*grpo, .*cispo'),
    ('grpo', {'algorithm.reference.kind': 'k1',
              'algorithm.reference.coefficient': 0.1}, 'zero mean'),
    ('gspo', {'algorithm.sequence_clip.low': 1.0}, 'sequence_clip.low is 1.0'),
    ('cispo', {'algorithm.weight_clip.high': -1.0}, 'weight_clip.high is -1')])
def test_what_is_refused(method, changes, message):
  c = small_config(method=method)
  c.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=message):
    build.build(c)


def test_rows_bring_their_own_normaliser(capsys):
  """It is announced where the config has another one, which is not read."""
  rewards = np.float32([[1, 0, 0, 0]])
  ones = np.ones_like(rewards)
  for method, first in (('gspo', 0.75 / np.sqrt(3 / 16)), ('dr_grpo', 0.75),
                        ('cispo', 0.75 / np.sqrt(3 / 16))):
    run = build.build(small_config(method=method))
    np.testing.assert_allclose(run.advantage_fn(rewards, ones)[0, 0], first,
                               rtol=1e-4)
    assert run.reducer == methods.METHODS[method].reducer
    own = methods.METHODS[method].normaliser
    assert (f"method '{method}' normalises advantages by '{own}'"
            in capsys.readouterr().out)
