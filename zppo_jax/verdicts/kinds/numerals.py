r"""How numbers are read, and when two of them are the same.

A number knows its last digit: `0.50` is exact to a hundredth; whole numbers and
fractions are exact.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from zppo_jax.verdicts.kinds.spelling import tidy, without_markdown


class Unreadable(ValueError):
  """A gold answer that is not of its question's kind."""


# How far an answer may be from a gold number that is not whole.
RELATIVE = Fraction(1, 10**6)
MAX_DIGITS = 1_000  # of a number; Python itself reads no more than 4,300

_NUMBER = r'(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]*)?|\.[0-9]+)'
_GROUPED = rf'\{{?\s*({_NUMBER})\s*\}}?'
_PLAIN = re.compile(rf'([+-]?)\s*({_NUMBER})(?:[eE]([+-]?[0-9]{{1,3}}))?')
_TIMES_TEN = re.compile(
    rf'([+-]?)\s*(?:({_NUMBER})\s*(?:\\times(?![A-Za-z])|\\cdot(?![A-Za-z])'
    r'|\*|x|×|·)\s*)?'
    r'10\s*(?:\^|\*\*)\s*[{(]?\s*([+-]?\s*[0-9]{1,3})\s*[})]?')
_SLASH = re.compile(rf'([+-]?)\s*({_NUMBER})\s*/\s*({_NUMBER})')
_MIXED = re.compile(rf'([+-]?)\s*([0-9]+)\s+({_NUMBER})\s*/\s*({_NUMBER})')
_FRAC = re.compile(
    rf'([+-]?)\s*([0-9]*)\s*\\[dtc]?frac\s*\{{\s*(-?\s*{_NUMBER})\s*\}}\s*'
    rf'\{{\s*({_NUMBER})\s*\}}')
_SHORT_FRAC = re.compile(  # `\frac12`, `\frac{1}2`
    r'\\[dtc]?frac\s*(?:\{([^{}]*)\}|([0-9]))\s*(?:\{([^{}]*)\}|([0-9]))')
_RECURRING = re.compile(
    r'([+-]?)\s*([0-9]{0,30})\.([0-9]{0,30})(?:\\(?:overline|bar|dot)\s*'
    r'(?:\{\s*([0-9]{1,30})\s*\}|([0-9]))(?:\\dot\s*\{\s*([0-9])\s*\})?'
    r'|\(([0-9]{1,30})\))(?:\\(?:l|c)?dots|\.\.\.)?')
_SPACED = re.compile(r'([+-]?\s*[0-9]{1,3})((?: [0-9]{3})+)(\.[0-9]*)?')
_WRAPPED = re.compile(r'\{([^{}]*)\}')
_LONG = re.compile(r'(?<![0-9])(?<![0-9],)[0-9]'
                   rf'(?:[0-9]|,(?=[0-9]{{3}}(?![0-9]))){{{MAX_DIGITS}}}')


class Numeral(NamedTuple):
  """A number and its last digit.

  Attributes:
    value: of the number.
    step: the value of one unit of its last decimal; 0 if it is exact.
  """
  value: Fraction
  step: Fraction = Fraction(0)

  def times(self, factor: Fraction) -> 'Numeral':
    """The number in a unit that is `factor` times as small."""
    return Numeral(self.value * factor, self.step * abs(factor))


def too_many_digits(text: str) -> str:
  """The reason why no number of a text is read, or ''."""
  if _LONG.search(text):
    return f'a number of more than {MAX_DIGITS:,} digits'
  return ''


def _read(digits: str) -> Numeral:
  digits = digits.replace(',', '')
  whole, _, decimals = digits.partition('.')
  value = Fraction(int((whole + decimals) or '0'), 10 ** len(decimals))
  return Numeral(value, Fraction(1, 10 ** len(decimals)) if decimals
                 else Fraction(0))


def _scaled(numeral: Numeral, power: str | None) -> Numeral:
  if not power:
    return numeral
  factor = Fraction(10) ** int(power.replace(' ', ''))
  return Numeral(numeral.value * factor, (numeral.step or 1) * factor)


def _recurring(match: re.Match) -> Numeral:
  r"""The number of `0.1\overline{6}`, `0.\dot{3}`, `0.(27)`."""
  sign, whole, fixed, *parts = match.groups()
  again = ''.join(filter(None, parts))
  tail = Fraction(int(again), (10 ** len(again) - 1) * 10 ** len(fixed))
  value = Fraction(int(whole + fixed or '0'), 10 ** len(fixed)) + tail
  return Numeral(value)


def numeral(text: str) -> Numeral | None:
  r"""The number that a text is, with its last digit, or None.

  It reads ASCII digits after NFKC: signs, thousands commas or spaces, decimals
  (recurring ones too), exponents of at most three digits, a/b, \frac (mixed
  too, `\frac12`) and a \times 10^n. More than MAX_DIGITS digits are no number.
  """
  if len(text) > MAX_DIGITS and too_many_digits(text):
    return None
  text = tidy(without_markdown(text))
  if m := _RECURRING.fullmatch(text):
    return _recurring(m).times(Fraction(-1 if m[1] == '-' else 1))
  text = text.rstrip('. ,;' if not text.endswith('..') else '')
  if m := _SPACED.fullmatch(text):
    text = text.replace(' ', '')
  if '\\' in text:
    text = _SHORT_FRAC.sub(lambda m: rf'\frac{{{m[1] or m[2]}}}'
                           rf'{{{m[3] or m[4]}}}', text)
  if m := _WRAPPED.fullmatch(text):
    text = m[1].strip()
  if m := _PLAIN.fullmatch(text):
    number_read = _scaled(_read(m[2]), m[3])
  elif m := _TIMES_TEN.fullmatch(text):
    number_read = _scaled(_read(m[2] or '1'), m[3])
    if m[2] is None:
      number_read = Numeral(number_read.value)
  elif (m := _SLASH.fullmatch(text)) or (m := _MIXED.fullmatch(text)):
    whole = m[2] if len(m.groups()) == 4 else '0'
    above, below = map(_read, m.groups()[-2:])
    if not below.value:
      return None
    number_read = Numeral(int(whole) + above.value / below.value)
  elif m := _FRAC.fullmatch(text):
    _, whole, over, under = m.groups()
    if not _read(under).value:
      return None
    part = _read(over.lstrip('- ')).value / _read(under).value
    number_read = Numeral(int(whole or 0) + (-part if over[0] == '-' else part))
  else:
    return None
  return number_read.times(Fraction(-1)) if m[1] == '-' else number_read


def number(text: str) -> Fraction | None:
  """The number that a text is, or None; see `numeral`."""
  value = numeral(text)
  return None if value is None else value.value


def close(given: Numeral, gold: Numeral, whole: bool = True) -> bool:
  """Whether a number equals the gold number.

  If the gold number is whole, the answer must be exact; only 0 is 0. For any
  other gold number the answer may be off by RELATIVE, and by less than one unit
  of the last decimal of the coarser of the two: 3.14159 is 3.14159265, 2.5 is
  not 2.6.

  Args:
    given, gold: the numbers.
    whole: False if a change of units has made decimals of a whole number.
  """
  off = abs(given.value - gold.value)
  if not off:
    return True
  if whole and gold.value.denominator == 1:
    return False
  return off < max(given.step, gold.step) and off <= RELATIVE * max(
      abs(given.value), abs(gold.value))
