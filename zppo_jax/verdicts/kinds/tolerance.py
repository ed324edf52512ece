"""Numbers within a tolerance, which the kind names: `relative(0.05)`.

  relative(T)  |answer - gold| <= T |gold|   Vero's `tolerance`
  absolute(T)  |answer - gold| <= T          DynaMath: 0.001
  rounded(P)   equal after rounding to P decimals   MathVista's `precision`
  rounded_unit(P)   likewise, of the same unit          its numbers with a unit

A function here takes the argument and gives the comparison. Numbers are exact
fractions, so that an answer at the bound is right.
"""

import math
import re
from collections.abc import Callable
from fractions import Fraction

from zppo_jax import allowed
from zppo_jax.verdicts.kinds import plain
from zppo_jax.verdicts.kinds.numerals import Numeral

Mark = Callable[[str, str], float]
MOST_DECIMALS = 15
_LARGE = 10**300  # no float is much larger
_PI = re.compile(r'\s*\*?\s*(?:\\pi(?![A-Za-z])|π)\s*')


def _valued(text: str) -> str:
  """A multiple of pi as its decimal; any other text as it is."""
  if not (match := _PI.search(text)) or match.end() != len(text):
    return text
  before = text[:match.start()].strip()
  factor = Fraction(1) if before in ('', '+') else (
      Fraction(-1) if before == '-' else plain.number(before))
  if factor is None or abs(factor) > _LARGE:
    return text
  return format(float(factor) * math.pi, '.17g')


def _read(kind: str, argument: str, bounds: str,
          whole: bool = False) -> Numeral:
  value = plain.number(argument)
  if value is None:
    raise ValueError(f'{kind}({argument}): {argument!r} is not a number')
  number = int(value) if whole and value.denominator == 1 else float(value)
  allowed.number(f'the argument of {kind}', number, bounds, whole=whole)
  return Numeral(value)


def _within(same: Callable[[Fraction, Fraction], bool]) -> Mark:

  def mark(answer: str, gold: str) -> float:
    return plain.numbers_by(
        _valued(answer), _valued(gold),
        lambda given, right, _: same(given.value, right.value))

  return mark


def relative(argument: str) -> Mark:
  """1 within a share of the gold number; of 0, within the share itself."""
  most = _read('relative', argument, '>= 0').value
  return _within(lambda given, gold: abs(given - gold) <= most * (
      abs(gold) if gold else 1))


def absolute(argument: str) -> Mark:
  """1 within a distance of the gold number."""
  most = _read('absolute', argument, '>= 0').value
  return _within(lambda given, gold: abs(given - gold) <= most)


def _rounding(kind: str, argument: str) -> Callable[[Fraction, Fraction], bool]:
  """Whether two numbers are the same with so many decimals."""
  digits = int(_read(kind, argument, f'[0, {MOST_DECIMALS}]',
                     whole=True).value)

  def same(given: Fraction, gold: Fraction) -> bool:
    if max(abs(given), abs(gold)) > _LARGE:
      return given == gold
    return round(float(given), digits) == round(float(gold), digits)

  return same


def rounded(argument: str) -> Mark:
  """1 for the same number of so many decimals, as Python rounds floats."""
  return _within(_rounding('rounded', argument))


def rounded_unit(argument: str) -> Mark:
  """1 likewise, where another unit is another answer, as of the kind `unit`."""
  same = _rounding('rounded_unit', argument)
  return lambda answer, gold: plain.quantities(
      answer, gold, lambda given, right, _: same(given.value, right.value))
