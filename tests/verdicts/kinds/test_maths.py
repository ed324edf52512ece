"""The kind 'math', and what it does not fall for."""

import pytest

from zppo_jax.verdicts.kinds import maths
from zppo_jax.verdicts.kinds.plain import Unreadable

pytest.importorskip('math_verify')


@pytest.mark.parametrize('answer, gold, score', [
    ('1+x', 'x+1', 1), (r'\frac12', '0.5', 1), (r'\{1,2\}', r'\{2,1\}', 1),
    ('x=5', '5', 1), ('50\\%', '50', 1), ('90^\\circ', '90', 1),
    ('2^{2^{2}}', '2^{2^{2}}', 1), ('4', '5', 0),
    (r'-5 \text{ or } 5', '5', 0), ('7=5', '5', 0), ('5 5 5', '15', 0),
    ('seat', 'east', 0), ('east', r'\text{east}', 1),
    ('on', 'no', 0), ('No.', r'\text{no}', 1), ('$pu$', r'$\text{up}$', 0),
    (r'\text{ti}', r'\mathrm{it}', 0), (r'\textbf{It}', r'\text{it}.', 1),
    ('yx', 'xy', 1), ('BA', r'\text{AB}', 1),
    ('2^{2^{2}}', '5', 0), (r'\int_0^1 10x dx', '5', 0)])
def test_scores(answer, gold, score):
  """Forms are equal; hedges, anagrams and open work are not."""
  assert maths.maths(answer, gold) == score


def test_a_gold_that_cannot_be_read_says_so():
  """A tower as a gold answer is the data's fault."""
  with pytest.raises(Unreadable, match='tower'):
    maths.maths('5', '2^{2^{2}}')


@pytest.mark.parametrize('gold', [
    'x+' * 800 + '1', '7' * 5000, r'\sqrt{' + '7' * 5000 + '}', '(' * 40,
    '9' * 99999])
def test_a_gold_that_the_library_cannot_read_is_no_crash(gold):
  """fault B8: whatever is raised while a gold answer is read."""
  with pytest.raises(Unreadable):
    maths.maths('5', gold)


def test_an_answer_that_the_library_cannot_read_is_wrong(monkeypatch):
  """fault B8: an error inside of the library is a wrong answer's, if the gold
  one is read, and passes no further."""
  import math_verify
  parse = math_verify.parse

  def broken(text, *args, **kwargs):
    if 'y' in text:
      raise ValueError('Exceeds the limit (4300 digits)')
    return parse(text, *args, **kwargs)

  monkeypatch.setattr(math_verify, 'parse', broken)
  assert maths.maths('y+1', 'x+1') == 0
  with pytest.raises(Unreadable):
    maths.maths('x+1', 'y+1')


@pytest.mark.parametrize('answer, gold, score', [
    ('0', r'\sqrt{2}\cdot10^{-20}', 0), ('0', r'10^{-30}\pi', 0),
    (r'-\sqrt{2}\cdot10^{-20}', r'\sqrt{2}\cdot10^{-20}', 0),
    ('(0,1)', r'(8.2\times10^{-12},1)', 0),
    (r'\{0,1\}', r'\{8.2\times10^{-12},1\}', 0),
    (r'\begin{pmatrix}0\\1\end{pmatrix}',
     r'\begin{pmatrix}10^{-9}\\1\end{pmatrix}', 0),
    ('x=0', r'x=8.2\times10^{-12}', 0), ('0', r'10^{-12}x', 0),
    ('0', 'e^{-40}', 0), (r'0.0174533', r'\frac{\pi}{180}', 1),
    ('x=2000003', '2000002', 0), ('2000003', 'x=2000002', 0),
    (r'2000003\text{ m}', r'2000002\text{ m}', 0),
    ('(2000003,1)', '(2000002,1)', 0), (r'2000003\%', '2000002', 0)])
def test_no_tolerance_is_larger_than_the_gold(answer, gold, score):
  """fault B2 and fault B3: inside of formulas, lists and matrices, too."""
  assert maths.maths(answer, gold) == score


@pytest.mark.parametrize('answer, gold, score', [
    ('1', r'\frac{M}{m}', 0), ('0', r'\pi R^2-\pi r^2', 0),
    ('t-T', 'T-t', 0), (r'\theta', r'\Theta', 0), ('f(x)', "f'(x)", 0),
    ('60', r'2^3\cdot 5+20=60', 1), ('12', r'A=3\cdot 4=12', 1),
    ('13', r'A=3\cdot 4=12', 0), (r'\log_2 8', '3', 1), ('y=5', 'x=5', 0),
    ('7:00 am', '7:00 pm', 0), (r'\text{12 dollars}', '12', 1),
    (r'5^{\text{th}}', '5', 1), ('x^2+y^2=1', 'x^2+y^2=1', 1),
    ('1', 'x^2+y^2=1', 0), ('x=2 or x=3', '3', 0), ('x=2, y=3', '3', 0),
    ('x=3 or x=2', 'x=2 or x=3', 1), ('2,3', r'x=2\text{ or }x=3', 1),
    (r'x=2\text{ or }x=3', '2,3', 1), ('3', 'x=2 or x=3', 0),
    ('x = 1,000', '1000', 1), (r'x=\pm 3', '3', 0), (r'\boxed{x+1}', '1+x', 1)])
def test_what_the_library_takes_for_the_same(answer, gold, score):
  """fault B4 and fault B8b: capitals, primes, chains, logarithms."""
  assert maths.maths(answer, gold) == score
