"""Estimates of an evaluation by hand, and its rows."""

import dataclasses

import pytest

from tests import builders
from zppo_jax.records import Group, StopReason, Verdict
from zppo_jax.statistics import wilson_interval
from zppo_jax.train import evaluate


def test_estimates_by_hand():
  """4 samples each; 0, 1 and 4 of them right: avg 5/12; pass@2 is the mean of
  0, 1 - 3/6 and 1; pass@4 asks for any."""
  groups = [builders.group(f'q{c}', c, size=4) for c in (0, 1, 4)]
  found = evaluate.estimates(groups, (1, 2, 4))
  assert list(found) == ['avg@4', 'pass@1', 'pass@2', 'pass@4']
  assert found['avg@4'].mean == pytest.approx(5 / 12)
  assert found['pass@1'] == found['avg@4']
  assert found['pass@2'].mean == pytest.approx(0.5)
  assert found['pass@4'].mean == pytest.approx(2 / 3)
  assert (found['pass@4'].low, found['pass@4'].high) == wilson_interval(
      [0, 1, 1])[1:]


@pytest.mark.parametrize('k', [0, 5])
def test_k_beyond_the_samples_is_refused(k):
  with pytest.raises(ValueError, match=rf'k is {k}; .* in \[1, 4\],.* 4 '
                     'rollouts'):
    evaluate.estimates([builders.group('q', 1, size=4)], (1, k))


def test_a_row_per_rollout_says_all():
  group = builders.group('q', 1, size=2)
  cut = builders.rollout('4 h', Verdict.TRUNCATED, StopReason.LENGTH)
  rows = evaluate.sample_rows(
      [type(group)(group.prompt, (group.rollouts[0], cut))])
  assert rows[0] == {
      'id': 'q', 'split': 'hard', 'question': 'C h 4', 'gold': '9',
      'sample': 0, 'text': builders.RIGHT, 'verdict': 'correct',
      'answer': '9', 'reward': 1.0, 'length': 6, 'stop': 'end'}
  assert (rows[1]['sample'], rows[1]['verdict'], rows[1]['reward'],
          rows[1]['stop']) == (1, 'truncated', 0.0, 'length')


def test_accuracy_takes_each_split_its_own_groups(monkeypatch):
  """Groups come back in the order of the questions of all splits."""
  right = {'a': 4, 'b': 0, 'c': 1}
  monkeypatch.setattr(evaluate.zppo, 'plain_prompts', lambda qs, chat: qs)
  monkeypatch.setattr(
      evaluate.collect, 'collect', lambda sampler, params, questions, **_: [
          builders.group(q, right[q.id], size=4) for q in questions])
  q = builders.question
  sampler = type('S', (), {'chat': None})
  found = evaluate.accuracy(evaluate.answer(
      sampler, None, {'x': [q('a'), q('b')], 'y': [q('c')]}, seed=0))
  assert found == {'x': 0.5, 'y': 0.25}


def test_what_has_no_verdict_earns_nothing():
  """One right of four, two of them without a verdict: 1/4, not 1/2."""
  of = builders.group('q', 1, size=4)
  lost = builders.rollout(verdict=Verdict.TIMEOUT)
  of = Group(of.prompt, (*of.rollouts[:2], lost, lost))
  assert of.accuracy == 0.5
  assert evaluate.accuracy({'x': [of]}) == {'x': 0.25}
  found = evaluate.estimates([of], (1, 2))
  assert found['avg@4'].mean == found['pass@1'].mean == 0.25
  assert found['pass@2'].mean == 0.5  # 3 of the 6 pairs hold the right one


def test_parts_of_a_point_are_averaged():
  """Scores of 1, .75 and .5 beside a rollout whose kind gives none: avg over
  the first question .75, over the second 1; only whole points pass."""
  plain, = builders.group('q', 1, size=1).rollouts
  of = lambda verdict, score: dataclasses.replace(
      plain, verdict=verdict, score=score)
  groups = [Group(prompt=builders.group('q', 1, size=1).prompt, rollouts=parts)
            for parts in ((of(Verdict.CORRECT, 1.), of(Verdict.WRONG, .75),
                           of(Verdict.WRONG, .5)), (plain,) * 3)]
  found = evaluate.estimates(groups, (1,))
  assert found['avg@3'].mean == pytest.approx((.75 + 1) / 2)
  assert found['pass@1'].mean == pytest.approx((1 / 3 + 1) / 2)
  rows = evaluate.sample_rows(groups)
  assert [row.get('score') for row in rows] == [1, .75, .5, None, None, None]
  assert 'score' not in rows[3] and rows[1]['reward'] == 0
