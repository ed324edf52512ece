"""The kind 'math', and what it does not fall for."""

import pytest

from zppo_jax.verdicts import maths
from zppo_jax.verdicts.plain import Unreadable

pytest.importorskip('math_verify')


@pytest.mark.parametrize('answer, gold, score', [
    ('1+x', 'x+1', 1), (r'\frac12', '0.5', 1), (r'\{1,2\}', r'\{2,1\}', 1),
    ('x=5', '5', 1), ('50\\%', '50', 1), ('90^\\circ', '90', 1),
    ('2^{2^{2}}', '2^{2^{2}}', 1), ('4', '5', 0),
    (r'-5 \text{ or } 5', '5', 0), ('7=5', '5', 0), ('5 5 5', '15', 0),
    ('seat', 'east', 0), ('east', r'\text{east}', 1),
    ('2^{2^{2}}', '5', 0), (r'\int_0^1 10x dx', '5', 0)])
def test_scores(answer, gold, score):
  """Forms are equal; hedges, anagrams and open work are not."""
  assert maths.maths(answer, gold) == score


def test_a_gold_that_cannot_be_read_says_so():
  """A tower as a gold answer is the data's fault."""
  with pytest.raises(Unreadable, match='tower'):
    maths.maths('5', '2^{2^{2}}')
