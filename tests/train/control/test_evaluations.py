"""When splits are evaluated, which evaluation is the best, when a run ends."""

import pytest

from tests.builders import small_config
from zppo_jax.train.control import evaluations
from zppo_jax.train.control.evaluations import Best, BestConfig, Evaluations


def plan_of(splits=('a', 'b'), every=4, cadence=None, **best) -> Evaluations:
  return Evaluations(every=every, cadence=cadence or {}, splits=splits,
                     best=BestConfig(**best))


def test_each_split_has_its_own_steps():
  plan = plan_of(splits=('a', 'b', 'c'), cadence={'b': 6, 'c': 0})
  due = {step: plan.due(step) for step in range(1, 13)}
  assert {s: names for s, names in due.items() if names} == {
      4: ('a',), 6: ('b',), 8: ('a',), 12: ('a', 'b')}
  assert plan.due(5, last=True) == ('a', 'b', 'c')
  # Before the first step all three, then 4, 6, 8, and all at the end.
  assert plan.count(9) == pytest.approx(1 + 3 / 3 + 1)
  assert plan_of(every=0).count(9) == 2


def judged(plan, values, metric='a'):
  best = plan.judged(None, 0, {'a': values[0], 'b': 0.0})
  for step, value in enumerate(values[1:], 1):
    best = plan.judged(best, step, {'a': value, 'b': 0.0})
  return best


@pytest.mark.parametrize('of, values, want', [
    ({}, (0.1, 0.3, 0.2, 0.3), (1, 0.3, 2)),
    ({'mode': 'min'}, (0.4, 0.3, 0.5), (1, 0.3, 1)),
    ({'least': 0.15}, (0.1, 0.2, 0.3), (2, 0.3, 0)),
    ({'least': 0.15, 'mode': 'min'}, (0.3, 0.2, 0.1), (2, 0.1, 0)),
    ({}, (0.5, 0.5), (0, 0.5, 1))])
def test_the_best_is_the_first_of_equals(of, values, want):
  best = judged(plan_of(metric='a', **of), values)
  assert (best.step, best.value, best.waited) == want


def test_a_mean_needs_all_splits():
  plan = plan_of(metric='mean', cadence={'b': 8})
  best = plan.judged(None, 4, {'a': 0.2})
  assert best is None
  best = plan.judged(best, 8, {'a': 0.2, 'b': 0.6, 'drift/kl': 9.0})
  assert best.value == pytest.approx(0.4)
  assert plan.judged(best, 12, {'a': 1.0}) is best


def test_a_number_that_was_not_measured_counts_for_nothing():
  plan = plan_of(metric='b', cadence={'b': 8}, patience=1)
  best = plan.judged(None, 0, {'a': 0.1, 'b': 0.5})
  for step in (4, 12):
    best = plan.judged(best, step, {'a': 0.9})
  assert best.waited == 0 and plan.ended(best) is None
  assert plan.ended(plan.judged(best, 16, {'a': 0.9, 'b': 0.4}))


def test_patience_ends_a_run_and_says_why():
  plan = plan_of(metric='a', patience=2)
  assert plan.ended(judged(plan, (0.1, 0.5, 0.4))) is None
  best = judged(plan, (0.1, 0.5, 0.4, 0.5))
  assert plan.ended(best) == (
      'a was no better than 0.5, which it was after 1 steps, in 2 evaluations; '
      'best.patience is 2')
  assert plan_of(metric='a').ended(best) is None  # no patience, no end


def test_another_metric_starts_anew():
  """The section may be changed between two attempts."""
  plan = plan_of(metric='b', patience=1)
  assert plan.judged(Best('a', 'max', 1, 0.9, 7), 2, {'a': 0.1, 'b': 0.1}) == (
      Best('b', 'max', 2, 0.1, 0))


def test_a_summary_says_what_ended_the_run_and_the_config_decides():
  plan = plan_of(metric='hard', patience=1)
  best = Best('hard', 'max', 2, 0.5, 1)
  summary = {'steps': 4, **evaluations.summary(plan, best, 4, 9)}
  assert summary['best'] == {'metric': 'hard', 'step': 2, 'value': 0.5}
  assert 'stopped early after 4 steps: hard was no better' in (
      evaluations.stopped(summary))
  c = small_config()
  c.best.update(metric='hard', patience=1)
  assert evaluations.is_stopped(summary, c)
  c.best.patience = 3
  assert not evaluations.is_stopped(summary, c)
  # A run whose last step was due anyway did not stop early.
  assert 'stopped' not in evaluations.summary(plan, best, 4, 4)
  assert evaluations.stopped({'steps': 4}) == ''


@pytest.mark.parametrize('changes, error', [
    ({'best.metric': 'hart'}, "unknown best.metric 'hart'; known: hard, easy, "
     'mean'),
    ({'best.mode': 'more'}, "unknown best.mode 'more'; known: max, min"),
    ({'best.patience': -1}, 'best.patience is -1'),
    ({'best.patience': 2}, 'best.metric names no number'),
    ({'best.least': -0.5}, 'best.least is -0.5'),
    ({'eval.cadence': {'hart': 3}}, "unknown eval.cadence 'hart'; known: hard"),
    ({'eval.cadence': {'hard': -3}}, 'eval.cadence.hard is -3'),
])
def test_what_does_not_fit_is_refused(changes, error):
  c = small_config()
  for name, value in changes.items():
    section, field = name.split('.')
    c[section][field] = value
  with pytest.raises((KeyError, ValueError), match=error):
    evaluations.of_run(c, ('hard', 'easy'), ('hard', 'easy'))


def test_a_mean_of_losses_and_accuracies_is_refused():
  c = small_config()
  c.best.metric = 'mean'
  with pytest.raises(KeyError, match='known: own/loss, own/accuracy'):
    evaluations.of_run(c, ('own',), ('own/loss', 'own/accuracy'))
