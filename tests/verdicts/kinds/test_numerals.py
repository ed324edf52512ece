"""Numbers as they are written."""

from fractions import Fraction

import pytest

from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.kinds.numerals import close, numeral
from zppo_jax.verdicts.kinds.plain import Unreadable
from zppo_jax.verdicts.worker import grade


@pytest.mark.parametrize('text, value, step', [
    ('5', 5, 0), ('5.0', 5, '1/10'), ('-1,234.50', '-1234.5', '1/100'),
    (r'\frac{1}{3}', '1/3', 0), ('1/3', '1/3', 0), ('1 1/2', '3/2', 0),
    (r'-3\frac{1}{2}', '-7/2', 0), ('.5', '1/2', '1/10'), ('½', '1/2', 0),
    (r'8.2\times10^{-12}', '8.2e-12', '1e-13'), ('2e3', 2000, 1000),
    (r'.5\times 10^3', 500, 100), ('10^{-3}', '1/1000', 0),
    ('2×10⁻³', '1/500', '1/1000'), ('10²', 100, 0), ('**41**', 41, 0)])
def test_value_and_last_digit(text, value, step):
  """fault B8: by hand, powers of one character and bold ones too."""
  assert numeral(text) == (Fraction(value), Fraction(step))


@pytest.mark.parametrize('text', ['', '5 or 7', '1/0', '{1}{2}', 'x', '1e9999',
                                  '1' * 1001, '1' * 5000, '1,' * 999 + '1'])
def test_what_is_no_number(text):
  assert numeral(text) is None


@pytest.mark.parametrize('gold, answer, want', [
    ('2000002', '2000003', False), ('3628800', '3628801', False),
    ('3628800', '3628800.5', False), ('5', '5.0000001', False),
    ('0', '1e-30', False), ('8.2e-12', '0', False),
    ('8.2e-12', '-8.2e-12', False), ('8.2e-12', '8.3e-12', False),
    ('8.2e-12', '8.2000001e-12', True), ('3.14159265', '3.14159', True),
    ('2000002.5', '2000002.6', False), ('1/3', '0.333333', True),
    ('1/3', '0.3333', False), ('1000001/3', '1000002/3', False)])
def test_numbers_are_as_close_as_they_are_written(gold, answer, want):
  """fault B2 and fault B3: whole numbers are exact, nothing but 0 is 0, and a
  decimal is not its neighbour."""
  assert close(numeral(answer), numeral(gold)) == want


@pytest.mark.parametrize('kind', ['math', 'number', 'relaxed_number', 'unit',
                                  'set'])
@pytest.mark.parametrize('gold', [
    '7' * 5000, '-' + '7' * 5000, '7' * 5000 + ' m', '0.' + '7' * 5000,
    '7,' * 4000 + '7', '7,777' + ',777' * 1500, '7' * 5000 + '/3'])
def test_a_gold_of_thousands_of_digits_is_unreadable(kind, gold):
  """fault B8: and no crash, in whatever kind reads numbers."""
  if kind == 'math':
    pytest.importorskip('math_verify')
  kinds.get(kind).load()
  for answer in ('5', '7' * 4999):
    if kind in ('set', 'relaxed_number') and ',7,' in gold:
      # A list of sevens, or a text of them.
      assert kinds.get(kind).mark(answer, gold) == 0
      continue
    said = grade({'kind': kind, 'answer': answer, 'reference': gold,
                  'cpu_s': 0, 'wall_s': 0})
    assert list(said) == ['unreadable'], said


def test_an_answer_of_thousands_of_digits_is_wrong():
  """fault B8: the same for the other side."""
  for kind in ('number', 'relaxed_number', 'unit', 'set', 'choice', 'text'):
    gold = 'B' if kind == 'choice' else '5'
    assert kinds.get(kind).mark('7' * 5000, gold) == 0


def test_unreadable_names_the_digits():
  with pytest.raises(Unreadable, match='more than 1,000 digits'):
    kinds.get('number').mark('5', '7' * 5000)
