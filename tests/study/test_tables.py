"""Which configs differ, and the tables of arms by hand."""

import json
import math
import pathlib

import pytest

from zppo_jax.study import analysis, budgets, page, tables

RESULTS = pathlib.Path(__file__).parents[2] / 'studies' / 'results'


def summary(hard, wall=10.0):
  return {'eval': {'hard': {'base': 0.25, 'final': hard}}, 'wall_s': wall,
          'student_rollouts': 8, 'tokens': {'a': 3, 'b': 4},
          'graduation_by_entry_accuracy': {
              '0': {'admitted': 5, 'graduated': 2}}}


def test_differing_fields_by_dotted_name():
  one = {'a': 1, 'b': {'c': [1, 2], 'd': {}}}
  two = {'a': 1, 'b': {'c': [1, 3], 'd': {}}, 'e': 0}
  assert tables.differing([one, two]) == {
      'b.c': [[1, 2], [1, 3]], 'e': [tables.ABSENT, 0]}
  assert tables.differing([one, one]) == {}


def test_table_by_hand():
  """Two seeds of 0.5 and 0.7: 0.6 +- 12.706 * 0.1; sums and means."""
  rows = tables.arm_table(
      [{'arm': 'a|b', 'rate': 2e-4, 'summary': summary(0.5, 10.0)},
       {'arm': 'a|b', 'rate': 2e-4, 'summary': summary(0.7, 20.0)},
       {'arm': 'c', 'rate': 1e-4, 'summary': summary(0.3)}],
      ['hard'], base=True).splitlines()
  assert rows[0] == ('| arm | rate | seeds | hard base | hard final | '
                     'graduated / admitted at 0 | student rollouts | '
                     'all tokens | wall s |')
  assert rows[2] == (r'| a\|b | 0.0002 | 2 | 0.250 [0.250, 0.250] | '
                     '0.600 [-0.671, 1.871] | 4 / 10 | 8 | 7 | 15 |')
  assert rows[3].startswith('| c | 0.0001 | 1 | 0.250 | 0.300 | 2 / 5 |')


def test_different_right_answers_by_hand():
  """Steps 2 and 3 of 4: groups with 2, 1 and no right texts; a BCQ and an
  earlier step do not count."""
  roll = lambda text, verdict='correct': {'text': text, 'verdict': verdict}
  plain = lambda *rollouts: {'kind': 'plain', 'rollouts': rollouts}
  samples = [
      {'step': 1, 'groups': [plain(*map(roll, 'abcd'))]},
      {'step': 2, 'groups': [plain(roll('a'), roll('b'), roll('b')),
                             {**plain(*map(roll, 'abcd')), 'kind': 'bcq'}]},
      {'step': 3, 'groups': [plain(roll('a'), roll('c', 'wrong'))]},
      {'step': 3, 'groups': [plain(roll('a', 'wrong'))]}]
  assert tables.spread(samples, steps=4, last=2) == 1.5
  assert math.isnan(tables.spread(samples[-1:], steps=4, last=2))
  assert tables.spread_table([{'arm': 'x', 'spread': 1.5}]).splitlines()[2] == (
      '| x | 1.500 |')


def test_seconds_and_tokens_of_a_step_by_hand():
  """Steps of 1, 2 and 9 s: the median is 2; sums over 4 steps, two seeds."""
  lines = [{'step': i, 'time/rollouts': 0.5, 'time/update': s, 'loss': 7.0,
            'time/evaluate': 30.0}
           for i, s in enumerate((0.5, 1.5, 8.5))]
  assert tables.step_seconds(lines) == 2.0
  made = lambda generated: {
      'steps': 4, 'student_rollouts': 40,
      'tokens': {'student_generated': generated, 'teacher_generated': 20},
      'eval': {'hard': {'final': 0.5}}}
  records = [{'arm': 'a', 'step_s': 2.0, 'summary': made(100)},
             {'arm': 'a', 'step_s': 3.0, 'summary': made(300)}]
  rows = tables.cost_table(records).splitlines()
  assert rows[2] == '| a | 2.500 | 10 | 50 | 5 |'
  rows = tables.cost_table(records[:1], ['hard']).splitlines()
  assert rows[2] == '| a | 0.500 | 2.000 | 10 | 25 | 5 |'


@pytest.mark.parametrize('name', ['headline', 'terse', 'no_separation'])
def test_committed_tables_are_made_again(name):
  """The tables of the studies, from their committed data."""
  results = json.loads((RESULTS / name / 'results.json').read_text())
  text = (RESULTS / name / 'table.md').read_text()
  splits = tuple(results['study']['splits'])
  assert tables.arm_table(results['reported'], splits) in text
  assert tables.contrast_table(results['contrasts']) in text


def committed(name):
  return json.loads((RESULTS / name / 'results.json').read_text())


def planned():
  """Studies of docs/study.md whose results are committed."""
  return sorted(file.parent.name for file in RESULTS.glob('*/results.json')
                if 'confirmatory' in json.loads(file.read_text()))


def test_some_planned_study_is_committed():
  assert 'smoke' in planned()


@pytest.mark.parametrize('name', planned())
def test_a_committed_study_is_made_again_from_its_runs(name):
  """The page, the analysis and the computed steps, from the runs alone."""
  results = committed(name)
  assert page.table(results) == (RESULTS / name / 'table.md').read_text()
  study, reported = results['study'], results['reported']
  family = analysis.family(reported, [
      analysis.Contrast(*of) for of in study.get('confirmatory', ())])
  assert family == results['confirmatory']
  assert results['exploratory'] == [
      analysis.contrast(reported, analysis.Contrast(*of))
      for of in study['exploratory']]
  at_chosen = [r for r in results['development']
               if r['rate'] == results['rates'][r['arm']]]
  assert results['matched_steps'] == {
      arm: budgets.equal_steps(at_chosen, *of)
      for arm, of in study.get('matched', {}).items()}
  for record in reported:
    assert record['commands'] and record['seconds'] > 0
    assert record['endpoints']['hard'] == (
        record['summary']['eval']['hard']['final'])


def test_a_changed_run_is_seen_in_the_page():
  results = committed('smoke')
  results['reported'][0]['endpoints']['mean_hard'] += 0.25
  assert page.table(results) != (RESULTS / 'smoke' / 'table.md').read_text()


def test_the_digest_of_a_study_by_hand():
  """Accuracies with intervals (12.706 * 0.1 of two seeds), costs as means; an
  arm without a buffer graduates nothing, and a claim has its verdict."""
  def run(arm, seed, hard, **more):
    return {'arm': arm, 'seed': seed, 'rate': 2e-4, 'endpoints': {
        'hard': hard, 'mean_hard': hard / 2, 'student_rollouts': 100 + seed,
        'tokens': 4e6, 'flops': 3e12, 'seconds': 40.0, **more}}
  reported = [run('a', 0, 0.5, graduated_from_0=0.25),
              run('a', 1, 0.7, graduated_from_0=0.75),
              run('b', 0, 0.25), run('b', 1, 0.25)]
  of = lambda *names: analysis.Contrast('a', 'b', *names)
  results = {'study': {'splits': ['hard']}, 'reported': reported,
             'confirmatory': analysis.family(reported, [of('mean_hard')]),
             'exploratory': [analysis.contrast(reported, of('hard')),
                             analysis.contrast(reported, of('tokens'))]}
  lines = page.digest(results).splitlines()
  assert lines[0] == (
      '| arm | rate | seeds | mean_hard | hard | graduated from 0 | '
      'student rollouts | tokens | TFLOP | seconds |')
  assert lines[2] == (
      '| a | 0.0002 | 2 | 0.300 [-0.335, 0.935] | 0.600 [-0.671, 1.871] | '
      '0.500 | 100 | 4e+06 | 3.000 | 40 |')
  assert lines[3] == (
      '| b | 0.0002 | 2 | 0.125 [0.125, 0.125] | 0.250 [0.250, 0.250] | - | '
      '100 | 4e+06 | 3.000 | 40 |')
  claim, = (x for x in lines if x.startswith('| a - b | mean_hard'))
  assert 'not resolvable' in claim  # two seeds have no p below 0.5
  shown, = (x for x in lines if x.startswith('| a - b | hard'))
  assert '+0.350' in shown and not any('| a - b | tokens' in x for x in lines)


def test_an_arm_against_others_by_hand():
  """Differences 0.2 and 0.4, paired by seed: 0.3 +- 12.706 * 0.1."""
  run = lambda arm, seed, hard, **more: {
      'arm': arm, 'seed': seed, 'endpoints': {'hard': hard, **more}}
  results = {'reported': [
      run('a', 0, 0.5, graduated_from_0=0.2),
      run('a', 1, 0.9, graduated_from_0=0.4), run('c', 0, 0.0),
      run('b', 1, 0.5), run('b', 0, 0.3)]}
  assert page.against(
      results, 'a', {'a': 'ours', 'b': 'theirs'}, ('hard',)).splitlines() == [
          '|  | hard | graduated from 0 | ours minus this one, in hard | '
          'sign-flip p |', '| --- | --- | --- | --- | --- |',
          '| ours | 0.700 [-1.841, 3.241] | 30% |  |  |',
          '| theirs | 0.400 [-0.871, 1.671] | - | +0.300 [-0.971, +1.571] | '
          '0.5000 |']


def test_spread_of_arms_leaves_out_seeds_without_one():
  records = [{'arm': 'a', 'spread': 1.5}, {'arm': 'a', 'spread': float('nan')},
             {'arm': 'b', 'spread': float('nan')}]
  rows = tables.spread_table(records).splitlines()[2:]
  assert rows == ['| a | 1.500 |', '| b | - |']
