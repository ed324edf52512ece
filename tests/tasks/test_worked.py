"""Worked solutions: by hand, and true to the last line."""

import re

import pytest

from zppo_jax.tasks import reasoning_gym, worked
from zppo_jax.verdicts import kinds, verifier
from zppo_jax.verdicts.kinds import boxed

pytest.importorskip('reasoning_gym')


def test_by_hand():
  entry = {'metadata': {'expression': '4 - 1 - 7'}, 'answer': '-4'}
  assert worked.solution('chain_sum', entry) == (
      '<think>\n4 - 1 = 3\n3 - 7 = -4\n</think>\n\\boxed{-4}')
  entry = {'metadata': {'numbers': [36, 48, 9]}, 'answer': '3'}
  assert worked.solution('gcd', entry) == (
      '<think>\n48 = 1 * 36 + 12\n36 = 3 * 12 + 0\n12 = 1 * 9 + 3\n'
      '9 = 3 * 3 + 0\n</think>\n\\boxed{3}')


@pytest.mark.parametrize('name', worked.STEPS)
def test_every_line_is_true_and_the_scorer_agrees(name):
  """Both sides of each line are equal; a gcd's numbers do not grow."""
  for q in reasoning_gym.pool(name, 20, worked=True):
    (text,) = q.responses
    lines = re.findall(r'<think>\n(.*)\n</think>', text, re.DOTALL)[0]
    for line in lines.split('\n'):
      assert re.fullmatch(r'[-+* =0-9]+', line), line
      left, right = line.split(' = ')
      assert eval(left) == eval(right), line
    assert kinds.get(q.kind).mark(boxed.last(text), verifier.reference(q)) == 1


def test_others_have_none():
  with pytest.raises(KeyError, match="unknown data set with worked solution"
                                     "s 'lcm'; known: chain_sum, gcd"):
    reasoning_gym.pool('lcm', 1, worked=True)
  assert reasoning_gym.pool('lcm', 1)[0].responses == ()
