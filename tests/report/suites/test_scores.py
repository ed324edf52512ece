"""Scores of benchmarks: means, parts, abilities, worst case, intervals."""

import dataclasses
import math

import pytest

from zppo_jax import statistics
from zppo_jax.data import suites
from zppo_jax.report.suites import page, scores, table
from zppo_jax.verdicts.kinds import ocrbench


def row(name, points, subset='', sample=0):
  """A line of samples.jsonl."""
  return {'id': name, 'split': 's', 'question': f'{name}?', 'gold': 'g',
          'sample': sample, 'text': f'<b>{name}', 'answer': 'a',
          'verdict': 'correct' if points == 1 else 'wrong', 'points': points,
          'reward': float(points == 1), 'subset': subset, 'length': 3}


def test_a_score_is_the_mean_over_questions_of_their_rollouts():
  rows = [row('a', 1.0), row('a', 0.0, sample=1), row('b', 0.5),
          row('b', 0.5, sample=1)]
  of = scores.score_of('mmvet', rows, ks=(2,))
  assert of.score.mean == 0.5 and of.score.over == 2 and not of.parts
  assert of.how == scores.MEAN
  # Half a point is not a right answer.
  assert of.extra['pass@2'].mean == 0.5
  low, high = statistics.wilson_interval([0.5, 0.5])[1:]
  assert (of.score.low, of.score.high) == (low, high)
  with pytest.raises(ValueError, match='mmvet: no question'):
    scores.score_of('mmvet', [])
  with pytest.raises(ValueError, match='k is 3'):
    scores.score_of('mmvet', rows, ks=(3,))


def test_parts_are_averaged_beside_the_mean():
  rows = [row('a', 1.0, 'x'), row('b', 1.0, 'x'), row('c', 1.0, 'x'),
          row('d', 0.0, 'y')]
  of = scores.score_of('vlmsareblind', rows)
  assert of.score.mean == 0.75
  assert of.extra['average of parts'].mean == 0.5
  assert {name: (e.mean, e.over) for name, e in of.parts.items()} == {
      'x': (1.0, 3), 'y': (0.0, 1)}


def test_ocrbench_is_averaged_over_abilities():
  """The questions of all types of an ability share its weight."""
  by_ability = {}
  for kind, ability in ocrbench.ABILITIES.items():
    if kind.endswith(' en'):
      by_ability.setdefault(ability, []).append(kind)
  pair = next(kinds for kinds in by_ability.values() if len(kinds) > 1)
  other = next(kinds for kinds in by_ability.values() if kinds != pair)
  rows = [*(row(f'a{i}', 1.0, pair[0]) for i in range(3)),
          row('b', 0.0, pair[1]), row('c', 0.0, other[0])]
  of = scores.score_of('ocrbench_en', rows)
  assert of.score.mean == pytest.approx((0.75 + 0.0) / 2)
  assert of.how == 'average over abilities'
  assert of.extra[scores.MEAN].mean == pytest.approx(0.6)
  with pytest.raises(KeyError, match="'nothing en'"):
    scores.score_of('ocrbench_en', [row('a', 1.0, 'nothing en')])


def test_the_worst_case_of_dynamath_takes_all_variants_of_a_question():
  rows = [row(f'bench:dynamath/{seed}/variant{v}', points, f'variant{v}')
          for seed, several in ((1, (1.0, 1.0)), (11, (1.0, 0.0)))
          for v, points in enumerate(several, 1)]
  of = scores.score_of('dynamath', rows)
  assert of.score.mean == 0.75 and of.extra['worst case'].mean == 0.5
  assert of.extra['worst case'].over == 2
  # The variants of a question count once for the interval.
  assert (of.score.low, of.score.high) == statistics.wilson_interval(
      [1.0, 1.0, 1.0, 0.0], count=2)[1:]
  first, second = of.parts.values()
  assert of.extra['average of parts'].low == (first.low + second.low) / 2
  # Two rollouts: the least of the variants, rollout by rollout.
  rows = [row('d/1/variant1', 1.0), row('d/1/variant1', 0.0, sample=1),
          row('d/1/variant2', 0.0), row('d/1/variant2', 1.0, sample=1)]
  assert scores.score_of('dynamath', rows).extra['worst case'].mean == 0.0


def test_intervals_of_averages():
  """Of one part it is the part's; of n alike it is narrower by sqrt(n)."""
  one = statistics.wilson_interval([1.0, 0.0] * 50)
  assert statistics.square_and_add([one]) == pytest.approx(one)
  mean, low, high = statistics.square_and_add([one] * 4)
  assert mean == 0.5 and mean - low == pytest.approx((one[0] - one[1]) / 2)
  assert high - mean == pytest.approx((one[2] - one[0]) / 2)
  # It has a width where all agree, and stays in [0, 1].
  all_right = statistics.wilson_interval([1.0] * 5)
  mean, low, high = statistics.square_and_add([all_right] * 2)
  assert mean == high == 1.0 and math.isclose(
      1 - low, (1 - all_right[1]) / math.sqrt(2))


def summary(name, share, count=10, **fields):
  """A summary of a suite whose first questions are right."""
  rows = [row(f'q{i}', float(i < share * count)) for i in range(count)]
  return {'name': name, 'questions': count, 'skipped': {}, 'left_out': {},
          'notes': [], 'reasons': [], 'verdicts': {'correct': share},
          'score': dataclasses.asdict(scores.score_of(name, rows)), **fields}


def test_the_table_has_families_averages_and_the_mean_of_families():
  found = table.text([
      summary('mvbench', 0.5), summary('ai2d', 1.0), summary(
          'mathvista', 0.4, skipped={'no gold': 3}, left_out={'too long': 1}),
      summary('aime25', 0.1, verdicts={'correct': 0.1, 'ungraded': 0.25})])
  titles = [line.strip().split('  ')[0] for line in found.splitlines()]
  assert [title for title in titles if title] == [
      'benchmark', 'VLM', 'AI2 Diagrams', 'MathVista', 'average of 2 of 16',
      'LLM', 'AIME 2025', 'average of 1 of 10', 'Video', 'MVBench',
      'average of 1 of 5', 'mean of 3 families',
      'MathVista: 3 skipped: no gold; 1 left out: too long',
      'AIME 2025: 25.0% ungraded', table.NOTE]
  numbers = {line.title: line.estimate.mean for line in table.lines([
      summary('mvbench', 0.5), summary('ai2d', 1.0), summary('aime25', 0.1),
      summary('mathvista', 0.4)]) if line.estimate}
  assert numbers['average of 2 of 16'] == pytest.approx(0.7)
  assert numbers['mean of 3 families'] == pytest.approx((0.7 + 0.1 + 0.5) / 3)
  count = suites.get('ai2d').count
  assert f'10 of {count:,}' in found
  assert 'mean of' not in table.text([summary('ai2d', 1.0)])


def test_the_page_shows_scores_and_escapes_what_models_wrote():
  found = page.render('<run>', {'temperature': 0.6}, [summary('ai2d', 0.5)],
                      {'ai2d': [row('q0', 1.0)]})
  assert '&lt;b&gt;q0' in found and '<b>q0' not in found
  assert '&lt;run&gt;' in found and '50.0' in found and '#ai2d' in found
  assert 'script' not in found.replace('script-src', '')
