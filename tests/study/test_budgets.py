"""Equal budgets and hours, by hand."""

import pytest

from zppo_jax.study import budgets


def record(arm, steps, rollouts, tokens, probe=0):
  return {'arm': arm, 'summary': {
      'steps': steps, 'student_rollouts': rollouts,
      'tokens': {'student_generated': tokens, 'teacher_generated': tokens,
                 'probe_generated': probe}}}


def test_steps_of_an_equal_budget_by_hand():
  """ZPPO spent 760 and 770 rollouts in 200 steps; the other arm spends 3 a
  step: 765 / 3 = 255. Tokens: 2 x 1000 against 2 x 6 a step, 166.67 up."""
  records = [record('zppo', 200, 760, 900, probe=10**6),
             record('zppo', 200, 770, 1100),
             record('grpo_replay', 100, 300, 600),
             record('other', 1, 10**6, 10**6)]
  assert budgets.equal_steps(
      records, 'grpo_replay', 'zppo', 'student_rollouts') == 255
  assert budgets.equal_steps(records, 'grpo_replay', 'zppo', 'tokens') == 167
  assert budgets.equal_steps(records, 'zppo', 'zppo', 'tokens') == 200
  with pytest.raises(ValueError, match="'hint' has no development run"):
    budgets.equal_steps(records, 'grpo_replay', 'hint', 'tokens')
  with pytest.raises(KeyError, match='seconds'):
    budgets.equal_steps(records, 'grpo_replay', 'zppo', 'seconds')


def test_hours_of_a_table_by_hand():
  """A short run of 8 steps took 20 s; 192 more at 0.2 s and 6 more evaluations
  at 0.5 s make 61.4 s. Ten of these and 4 of 100 s, two at a time."""
  measured = budgets.Measured(whole_s=20.0, step_s=0.2, evaluation_s=0.5,
                              steps=8, evaluations=3)
  assert measured.run_s(200, 9) == pytest.approx(61.4)
  assert budgets.table_hours(
      {'a': 61.4, 'b': 100.0}, {'a': 10, 'b': 4}, 2) == pytest.approx(
          (614 + 400) / 7200)
