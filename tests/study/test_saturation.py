"""What rollouts do with candidates, by hand."""

import math

import pytest

from zppo_jax.study import saturation


@pytest.mark.parametrize(('answer', 'what'), [
    ('1 5 9', 'right'), ('1 2 9', 'wrong'), ('1 3 9', 'neither'),
    ('9 5 0', 'right'),  # only the second value tells
    ('1', 'neither'), ('', 'neither')])
def test_what_an_answer_follows_is_said_by_the_first_difference(answer, what):
  assert saturation.followed(answer, '1 5 9', '1 2 8') == what
  assert saturation.followed(answer, '1 5 9', '1 5') == 'neither'


def line(step, plain, right_first, answers, kind='bcq'):
  """A question whose right candidate has 4 2, and the wrong one 4 7."""
  candidates = [{'answer': '4 2', 'verdict': 'correct'},
                {'answer': '4 7', 'verdict': 'wrong'}]
  return {'step': step, 'accuracy': plain, 'groups': [
      {'kind': 'plain', 'candidates': [], 'rollouts': []},
      {'kind': kind,
       'candidates': candidates if right_first else candidates[::-1],
       'rollouts': [{'answer': a, 'reward': float(a == '4 2')}
                    for a in answers]}]}


SAMPLES = [
    line(0, 0.25, True, ['4 2'] * 4),  # all follow the first, which is right
    line(1, 0.0, False, ['4 7'] * 4),  # and here it is wrong
    line(5, 0.5, False, ['4 2', '4 2', '4 7', '3 1']),
    line(5, 0.5, True, ['4 2'] * 4, kind='ncq')]


def test_counts_by_hand():
  """12 rollouts: 6 follow the right one, 5 the wrong one. Of these 11, the
  first candidate is followed by 4 + 4 + 1."""
  found = saturation.of_samples(SAMPLES)
  three = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
  pooled = -sum(x / 12 * math.log(x / 12) for x in (6, 5, 1))
  assert found == pytest.approx({
      'groups': 3, 'all_right': 1 / 3, 'all_wrong': 1 / 3,
      'saturated': 1 / 3,  # the plain rollouts of the second were all wrong
      'follows_right': 6 / 12, 'follows_wrong': 5 / 12,
      'follows_neither': 1 / 12, 'follows_first': 9 / 11, 'accuracy': 0.5,
      'accuracy_right_first': 1.0, 'accuracy_right_second': 0.25,
      'plain': 0.25, 'entropy_within': three / 3, 'entropy_pooled': pooled})
  windows = saturation.by_steps(SAMPLES, 5)
  assert {first: of['groups'] for first, of in windows.items()} == {0: 2, 5: 1}
  assert windows[0]['entropy_within'] == 0 < windows[0]['entropy_pooled']


def test_nothing_counted_is_no_number():
  found = saturation.of_samples(SAMPLES[3:])
  assert found.pop('groups') == 0 and set(found.values()) == {None}
