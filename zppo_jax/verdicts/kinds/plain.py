"""Kinds of equality that need no library: numbers, choices, text, sets, units.

Each is a function (answer, gold) -> score in [0, 1], which raises `Unreadable`
if the gold answer is not of its kind. The time of each is linear in its input,
which `prefilter.too_long` bounds.
"""

import re
from collections.abc import Callable, Hashable
from fractions import Fraction

from zppo_jax.verdicts.kinds import forms, units
from zppo_jax.verdicts.kinds.numerals import (
  Numeral,
  Unreadable,
  close,
  number,
  numeral,
  too_many_digits,
)
from zppo_jax.verdicts.kinds.spelling import open_words, tidy, undress

__all__ = ['Unreadable', 'choice', 'choices', 'members', 'number', 'numbers',
           'numbers_by', 'parts', 'plain_text', 'quantities', 'relaxed_numbers',
           'retried', 'sets', 'texts', 'tidy', 'without_marks']

RELAXED = Fraction(5, 100)  # ChartQA's "relaxed accuracy"

_MARKS = re.compile(  # the paper's retry: degrees and percent
    r'\^\s*(?:\{\s*)?\\circ(?:\s*\})?|\\(?:circ|degree)(?![A-Za-z])|°|º|'
    r'\\?%|(?i:\bdegrees?\b|\bper\s?cent\b)')


def without_marks(text: str) -> str:
  """The text without degree and percent marks."""
  return _MARKS.sub(' ', text).strip()


def retried(mark: Callable[[str, str], float]) -> Callable[[str, str], float]:
  """A kind with a second try, as in the paper.

  If the answer is not right at once, the second try strips degree and percent
  marks from both sides.
  """

  def again(answer: str, gold: str) -> float:
    bare_answer, bare_gold = without_marks(answer), without_marks(gold)
    changed = (bare_answer, bare_gold) != (answer, gold)
    try:
      first = mark(answer, gold)
    except Unreadable:
      if not changed:
        raise
      return mark(bare_answer, bare_gold)
    if first >= 1 or not changed:
      return first
    try:
      return max(first, mark(bare_answer, bare_gold))
    except Unreadable:  # nothing but marks
      return first

  return again


def _measure(text: str, marks: bool
             ) -> tuple[Numeral, units.Unit | None] | None:
  """A number and its unit, or None; `marks` as of units.split."""
  numeral_read = None if '$' in text else numeral(text)
  if numeral_read is not None:
    return numeral_read, None
  value = units.measured(text, marks)
  numeral_read = numeral(open_words(value.body))
  if numeral_read is None:
    return None
  return numeral_read.times(value.scale), value.unit


def _quantity(text: str) -> tuple[Numeral, units.Unit | None] | None:
  """A number and its unit, or None."""
  return _measure(text, marks=False)


# `x = 5` is the number 5, as in formulas.
_NAMED = re.compile(r'^\s*\$?\s*\\?[A-Za-z]{1,10}(?:_\{?\w{1,10}\}?)?\s*'
                    r'(?:=|≈|\\approx(?![A-Za-z]))\s*')


def numbers_by(answer: str, gold: str,
               same: Callable[[Numeral, Numeral, bool], bool]) -> float:
  """1 for numbers that are the same by `same`, with the retry of `retried`.

  Args:
    answer, gold: as they are written.
    same: (answer, gold, whether their units are the same) -> bool; the answer
      is in the gold number's unit.
  """

  def mark(answer: str, gold: str) -> float:
    if reason := too_many_digits(gold):
      raise Unreadable(f'{gold[:80]!r}: {reason}')
    right = _quantity(_NAMED.sub('', gold))
    if right is None:
      raise Unreadable(f'{gold[:80]!r} is not a number')
    given = _quantity(_NAMED.sub('', answer))
    if given is None:
      return 0.0
    factor = units.ratio(given[1], right[1])
    return float(factor is not None
                 and same(given[0].times(factor), right[0], factor == 1))

  return retried(mark)(answer, gold)


def numbers(answer: str, gold: str) -> float:
  """1 for the same number (numerals.close), with the retry of `retried`.

  A unit that only one of the two has is not compared.
  """
  return numbers_by(answer, gold, close)


def _relaxed(given: Numeral, gold: Numeral, _: bool) -> bool:
  return abs(given.value - gold.value) <= RELAXED * abs(gold.value)


def relaxed_numbers(answer: str, gold: str) -> float:
  """1 for numbers within 5 %; for the same text if the gold is no number."""
  if reason := too_many_digits(gold):
    raise Unreadable(f'{gold[:80]!r}: {reason}')
  right = _quantity(without_marks(gold))
  if right is None or (right[1] and right[1].name):  # `2019 May` is a text
    return texts(answer, gold)
  return numbers_by(answer, gold, _relaxed)


_QUOTES = str.maketrans("’‘‛“”„", "\'\'\'\"\"\"")
_POINT = re.compile(r'[. ]*\.[0-9]')


def plain_text(text: str) -> str:
  """The text to compare: tidy, without braces, case and outer marks."""
  text = tidy(text.translate(_QUOTES)).replace('{', '').replace('}', '')
  whole = re.sub(r'\s+', ' ', text.casefold())
  text = whole.strip(' "`*_').rstrip('. "`*_')
  text = text.lstrip('. ') if not _POINT.match(text) else text
  if text[:1] == "'" == text[-1:]:  # one behind a letter is a prime
    text = text.strip(" .'")
  return text or whole.strip()


def texts(answer: str, gold: str) -> float:
  """1 for the same text after `plain_text`."""
  right = plain_text(gold)
  if not right:
    raise Unreadable(f'{gold[:80]!r} is an empty text')
  return float(plain_text(answer) == right)


_CHOICE = re.compile(
    r'(?:the )?(?:(?:correct )?(?:answer|option|choice)(?: is)?:? )?'
    r'[(\[]?([a-z])[)\]]?(?:[.:)](?:(?: |(?=[0-9\\$(])).*)?|)',
    re.DOTALL)


# `(a) and (c)`, behind whose first letter no text of a choice begins.
_FURTHER = re.compile(r'[a-z][)\]]?[.:]?\s*(?:[,;&/]|and\b|or\b)\s*'
                      r'[(\[]?[a-z][)\]]?(?![a-z0-9])')


def choice(text: str) -> str:
  """The letter that a text chooses, or ''. `A dog` chooses none, and neither
  does `(A) or (B)`."""
  text = plain_text(text)
  match = _CHOICE.fullmatch(text)
  # "(b) 12" has no further mark behind its letter.
  match = match or re.fullmatch(r'\(([a-z])\) .*', text, re.DOTALL)
  if not match or _FURTHER.match(text, match.start(1)):
    return ''
  return match[1]


def choices(answer: str, gold: str) -> float:
  """1 for the same letter: `B`, `(b)`, `B. 12`, `\\text{B}`, `Option B`."""
  right = choice(gold)
  if not right:
    raise Unreadable(f'{gold[:80]!r} is not the letter of a choice')
  return float(choice(answer) == right)


_GROUPED = re.compile(r'(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])')
_AND = re.compile(r'\band\b')
_EMPTY = re.compile(r'\\(?:emptyset|varnothing)(?![A-Za-z])')


def _inside(text: str) -> str:
  """The content of the brackets around a whole list, or the text itself."""
  outer = forms.enclosed(text)
  if outer:
    return outer.inner
  if text[:1] == '{' and text[-1:] == '}' and min(
      (depth for depth, _ in forms.levels(text)), default=0) > 0:
    return text[1:-1]
  return text


def parts(text: str) -> list[str]:
  """The members as they are written; a member in brackets stays whole."""
  inner = open_words(_inside(undress(text)))
  # `1,000` is one number; `1000,200` is two of them, as `10,20` is.
  inner = _GROUPED.sub(lambda m: m[0].replace(',', ''), inner)
  pieces = forms.top_level(inner, ',;')[::2]
  return [p for part in pieces
          for p in (_AND.split(part) if part.count('(') == 0 else [part])]


def _member(part: str, bare: bool) -> Hashable | None:
  """A member of a list as a number, a quantity, a text, or None."""
  quantity = _quantity(part)
  if quantity is None:
    part = re.sub(r'(?<=[,(\[])\s+|\s+(?=[,)\]])', '', part)
    return _EMPTY.sub('emptyset', plain_text(part)) or None
  (value, _), unit = quantity
  if unit is None or bare:
    return value
  return value * unit.factor, unit.powers or unit.name


def members(text: str, bare: bool = False) -> frozenset:
  """The set of values and texts that a list spells; brackets are optional.

  Commas, semicolons and `and` separate; `1,000` is one number.

  Args:
    bare: whether numbers are taken without their units.
  """
  values = (_member(part, bare) for part in parts(text))
  return frozenset(m for m in values if m is not None)


def sets(answer: str, gold: str) -> float:
  """1 for the same members, whatever their order and repetition.

  Numbers are compared by exact value. Units count if both lists have some.
  """
  if reason := too_many_digits(gold):
    raise Unreadable(f'{gold[:80]!r}: {reason}')
  right = members(gold)
  if not right:
    raise Unreadable(f'{gold[:80]!r} has no members')
  given = members(answer)
  if given == right:
    return 1.0
  if any(isinstance(m, tuple) for m in given) != any(
      isinstance(m, tuple) for m in right):
    return float(members(answer, bare=True) == members(gold, bare=True))
  return 0.0


def _same_name(given: str, gold: str) -> bool:
  """Whether two units that are in no table are the same word."""
  return given.removesuffix('s') == gold.removesuffix('s')


def quantities(answer: str, gold: str,
               same: Callable[[Numeral, Numeral, bool], bool] = close) -> float:
  """1 for the same quantity: `5 km` is `5000 m`.

  A bare number counts in the unit of the other side, because questions name it.

  Args:
    answer, gold: as they are written.
    same: as of numbers_by.
  """
  if reason := too_many_digits(gold):
    raise Unreadable(f'{gold[:80]!r}: {reason}')
  right = _measure(gold, marks=True)
  if right is None:
    raise Unreadable(f'{gold[:80]!r} is not a number with a unit')
  given = _measure(answer, marks=True)
  if given is None:
    return 0.0
  here, there = given[1], right[1]
  if here is None or there is None:
    return float(same(given[0], right[0], True))
  if here.name or there.name:
    return float(_same_name(here.name, there.name)
                 and here.powers == there.powers
                 and same(given[0], right[0], True))
  factor = units.ratio(here, there)
  return float(factor is not None and same(
      given[0].times(factor), right[0], factor == 1))
