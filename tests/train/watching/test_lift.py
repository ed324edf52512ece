"""What a context is worth to its teacher."""

import math

import pytest

from tests.builders import documented_metrics, group
from tests.long import LONG, long
from tests.train.test_distillation import make_config
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.randomness import Purpose
from zppo_jax.records import PromptKind
from zppo_jax.train import build, step
from zppo_jax.train.watching import lift

pytestmark = pytest.mark.usefixtures('quick_compile')


class Fake:
  """Right twice of four with the context, once without, and it notes what it
  was asked."""

  def __init__(self):
    self.asked = []

  def draw(self, prompts, number, purpose):
    self.asked.append((prompts, number, purpose))
    return [group(p.question, 2 if purpose == Purpose.LIFTED else 1, 4)
            for p in prompts]


def test_the_first_lesson_of_a_group_is_asked_with_and_without():
  groups = [*(group(name, 1, 2) for name in 'abc'),
            group('d', 1, 2, PromptKind.PRIVILEGED)]
  read = {(p, g): group(f'{p}{g}', 0, 1).prompt
          for p, g in ((3, 0), (2, 0), (0, 1), (0, 0))}
  fake = Fake()
  measured = lift.measure(fake, read, groups, 7, questions=5)
  (told, number, _), (plain, _, purpose) = fake.asked
  assert [p.question.id for p in told] == ['00', '20'] and number == 7
  assert plain == [groups[0].prompt, groups[2].prompt]
  assert purpose == Purpose.UNLIFTED
  numbers = measured.numbers()
  assert numbers['context/accuracy'] == .5
  assert numbers['context/accuracy_without'] == .25
  assert numbers['context/lift'] == .25
  assert numbers['tokens/lift_generated'] == sum(
      len(r.tokens) for g in (*measured.with_context, *measured.without)
      for r in g.rollouts)
  assert len(lift.measure(fake, read, groups, 7, 1).without) == 1
  assert lift.measure(fake, {}, groups, 7, 5).numbers() == {
      'tokens/lift_prompt': 0, 'tokens/lift_generated': 0}


@LONG
def test_a_step_measures_it_when_it_is_due():
  """With a moving teacher inside the update, which has no rollout copy else."""
  run = build.build(make_config('opd_reverse', **{
      'distil.context': 'answer', 'teacher.kind': 'own',
      'teacher.own.weights': 'live', 'watch.lift.every': 2,
      'watch.lift.questions': 1, 'watch.overlap': 3}))
  state, buffer = run.init_state(), ReplayBuffer(run.buffer_capacity)
  names, rows = documented_metrics(), []
  for i in range(2):
    made = step.train_step(run, state, buffer, i)
    state, buffer = made.state, made.buffer
    rows.append(step.metrics_row(run, made))
    assert all(any(p.fullmatch(k) for p in names) for k in rows[i]), rows[i]
    assert all(math.isfinite(x) for x in rows[i].values())
  assert rows[0]['context/lift'] == (
      rows[0]['context/accuracy'] - rows[0]['context/accuracy_without'])
  assert rows[0]['tokens/lift_prompt'] > 0
  assert 'context/lift' not in rows[1]
  assert 0 < rows[0]['distil/overlap_ratio'] <= 1
  assert rows[0]['distil/overlap_advantage'] <= 0


@pytest.mark.parametrize(('method', 'fields', 'says'), [
    ('opd_reverse', {'watch.lift.every': 1}, 'no teacher reads a context'),
    ('grpo', {'watch.lift.every': 1}, 'no teacher reads a context'),
    ('grpo', {'watch.overlap': 4}, "watch.overlap is 4 and method 'grpo'"),
    ('seqkd', {'watch.overlap': 4}, "watch.overlap is 4 and method 'seqkd'"),
    ('opd_reverse', {'watch.overlap': 4, 'distil.support': 'teacher',
                     'distil.top': 3}, 'distil.top 3'),
    ('opd_reverse', {'watch.overlap': -1}, 'watch.overlap is -1'),
    ('opd_reverse', {'watch.drift': -1}, 'watch.drift is -1')])
def test_refused(method, fields, says):
  with pytest.raises(ValueError, match=says):
    build.build(make_config(method, **fields))


@LONG
@pytest.mark.parametrize('support', [
    long('student'), long('teacher'), 'sampled'])
def test_stored_scores_have_the_overlap_too(support):
  """The same rollouts under the same weights: the overlap does not depend on
  how the divergence is computed, and the teacher is asked once."""
  run = build.build(make_config('opd_reverse', **{
      'distil.support': support, 'distil.top': 4, 'watch.overlap': 3}))
  row = step.metrics_row(run, step.train_step(
      run, run.init_state(), ReplayBuffer(run.buffer_capacity), 0))
  inside = build.build(make_config('opd_reverse', **{'watch.overlap': 3}))
  same = step.metrics_row(inside, step.train_step(
      inside, inside.init_state(), ReplayBuffer(inside.buffer_capacity), 0))
  for name in ('overlap_ratio', 'overlap_advantage', 'cliff', 'copied'):
    assert row[f'distil/{name}'] == pytest.approx(same[f'distil/{name}'],
                                                  abs=1e-5), name
  assert row['distil/log_ratio'] == pytest.approx(same['distil/log_ratio'],
                                                  abs=1e-4)
  for name in ('depth_0', 'divergence_depth_0'):
    assert row[f'distil/{name}'] > 0 and same[f'distil/{name}'] > 0
