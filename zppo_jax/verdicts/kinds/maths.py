"""The kind 'math': LaTeX and formulas compared by math-verify.

Only worker processes load it. The library's own timeouts are off, because they
are alarms, which need the main thread and do not hold (docs/verdicts.md); the
worker's timers replace them. Rules of this package compare numbers, units,
letters of choices and numerals that name their base. forms.py spells the rest
in the way that the library reads as people mean it.
"""

import logging
import math
import re
from fractions import Fraction
from typing import Any

from zppo_jax.verdicts.kinds import forms, prefilter
from zppo_jax.verdicts.kinds.numerals import Unreadable, close, numeral
from zppo_jax.verdicts.kinds.plain import choice, plain_text, retried
from zppo_jax.verdicts.kinds.spelling import (
  GREEK,
  WORD_MACRO,
  open_words,
  tidy,
  undress,
)

# A word is not a product of its letters: `east` is not `seat`.
_WORDS = re.compile(
    r'(?=(?:[^\W\d_]+[ -])*(?!and(?![a-z]))[^\W\d_]{3})'
    r'[^\W\d_]{2,}(?:[ -][^\W\d_]+)*')

# Two letters are a product, as in `xy`, unless they are set as a word or are
# one of these.
_TWO_LETTERS = re.compile(r'[A-Za-z][a-z]')
_SHORT_WORDS = ('no', 'on', 'up')
_WORD_MACRO = re.compile(WORD_MACRO)

# The library adds up numbers in a row, but only `1 1/2` is a number.
_RUN_ON = re.compile(r'(?<!_)[0-9]\s+[0-9]')
_MIXED = re.compile(r'[0-9]+\s+[0-9]+\s*/\s*[0-9]+')
_TABLE = re.compile(r'\\begin\s*\{')  # its numbers are no run of numbers
_EQUALS = re.compile(r'(?<![!<>:=\\])=(?!=)')
_LETTER = re.compile(r'[^\W\d_]')
_GREEK = '|'.join(sorted({*GREEK.values()} - {'pi'}))
_MACRO = re.compile(rf'\\(?!(?:{_GREEK})(?![A-Za-z]))[A-Za-z]+')
# The letter of a choice, with or without the words of that choice.
_OPTION = re.compile(
    r'\(?([A-J])\)?[.]?|\(([A-J])\)[.:]?\s+\S.*|([A-J])[.:)]\s*\S.*', re.DOTALL)
# The letters of several choices: `ABD`, `A, B and D`.
_OPTIONS = re.compile(r'[A-H]{2,8}|\(?[A-H]\)?(?:(?:\s*[,;&]\s*(?:and\s)?|'
                      r'\s+and\s+|\s+)\s*\(?[A-H]\)?){1,7}')
_LISTED = re.compile(r'[,;&]|(?<![A-Za-z])and(?![A-Za-z])')
_REMAINDER = re.compile(r'([0-9]+)\s*(?:[Rr]|[Rr]em(?:ainder)?\.?)\s*([0-9]+)')
_SEVERAL = re.compile(
    r',(?![0-9]{3}(?![0-9]))|[;<>]|(?<![\\A-Za-z])(?:or|and)(?![A-Za-z])|\\(?:l?or|l?and|vee|wedge|'
    r'le|ge|ne|neq|pm|text|quad|cup)(?![A-Za-z])')
_SYMBOL = re.compile(
    r'\s*(?:\\?[A-Za-z]+|\\text\{[A-Za-z]+\})'
    r'(?:_\{?\w+\}?)?(?:\([A-Za-z]\))?\s*')
DECIMALS, DIGITS = 6, 15  # of a float that the library compares
_SMALL = -4  # log10 of a number below which DECIMALS are too few
_MOST_DIGITS = 300
VALUE_DIGITS = 40  # in which two exact numbers are compared


def load() -> None:
  """Imports the library; ModuleNotFoundError names the extra."""
  try:
    import math_verify
  except ModuleNotFoundError as e:
    raise ModuleNotFoundError(
        f"kind 'math' needs math-verify (pip install 'zppo_jax[math]'): {e}"
    ) from e
  logging.disable(logging.CRITICAL)
  del math_verify
  # The first use of the library builds and imports more. That time must not
  # count for an answer.
  for answer, gold in (('x+1', '1+x'), ('x+1', '2'), (r'\frac{x}{2}', '(1,2)'),
                       (r'\sqrt{2}', r'\{1,2\}'), ('i^2', '-1'),
                       (r'2\sin(\frac{\pi t}{3})', r'2\sin t'),
                       ('x<3', r'(-\infty,4)'),
                       (r'\begin{pmatrix}1\\2\end{pmatrix}',
                        r'\begin{pmatrix}2\\1\end{pmatrix}')):
    maths(answer, gold)


def _parse(text: str) -> list:
  """What the library reads of a text; [] if it reads nothing or fails."""
  import math_verify
  from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
  latex = math_verify.LatexExtractionConfig(
      normalization_config=NormalizationConfig(
          basic_latex=True, units=False, malformed_operators=True, nits=True,
          boxed='all', equations=False))
  try:
    return math_verify.parse(
        f'${text}$', [latex, math_verify.ExprExtractionConfig()],
        extraction_mode='first_match', parsing_timeout=None)
  except MemoryError:
    raise
  except Exception:  # e.g. the ValueError of an int of 4,300 digits and more
    return []


def _sizes(expression: Any) -> list[float]:
  """log10 of the size of each number that is not 0 in a parsed formula."""
  import sympy
  unfinished = (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit)
  sizes, left = [], [expression]
  while left:
    node = left.pop()
    if isinstance(node, sympy.MatrixBase):
      left += list(node)
      continue
    if not isinstance(node, sympy.Basic) or isinstance(node, unfinished):
      continue
    if getattr(node, 'is_number', False) and not node.has(*unfinished):
      value = node.evalf(5)
      if value.is_Number and value.is_finite and value != 0:
        sizes.append(float(sympy.log(abs(value), 10).evalf(5)))
    else:
      left += list(node.args)
  return sizes


def _finer(parsed: list) -> int:
  """The decimals that a comparison needs beyond DECIMALS.

  With fewer, it would take the smallest number of a gold answer for 0.
  """
  try:
    sizes = [s for e in parsed for s in _sizes(e)]
  except MemoryError:
    raise
  except Exception:  # sympy cannot evaluate every formula
    return 0
  smallest = min(sizes, default=0.0)
  return min(_MOST_DIGITS, -math.floor(smallest)) if smallest < _SMALL else 0


def _imaginary(parsed: list) -> list | None:
  """The formulas with i as the imaginary unit; None if they lack the letter."""
  import sympy
  pairs = []
  for e in parsed:
    letters = {s for s in getattr(e, 'free_symbols', ()) if s.name == 'i'}
    if letters:
      e = e.subs({s: sympy.I for s in letters})
    pairs.append((e, bool(letters)))
  if not any(changed for _, changed in pairs):
    return None
  return [e for e, _ in pairs]


def _value(parsed: list) -> Any:
  """The exact number of a formula in VALUE_DIGITS digits, or None."""
  import sympy
  expression = parsed[0]
  if not isinstance(expression, sympy.Expr) or expression.free_symbols or (
      expression.has(sympy.Float, sympy.Integral, sympy.Sum, sympy.Product,
                     sympy.Limit)):
    return None
  value = expression.evalf(VALUE_DIGITS)
  return value if value.is_Number and value.is_finite else None


def _same_value(gold: list, answer: list) -> bool:
  """Whether two exact numbers agree in all digits.

  The library does not compare `\\log_2 8` with 3.
  """
  try:
    a, b = _value(answer), _value(gold)
    return a is not None and b is not None and bool(
        abs(a - b) <= abs(b) / 10 ** (VALUE_DIGITS - 5))
  except MemoryError:
    raise
  except Exception:  # sympy cannot evaluate every formula
    return False


def _verify(gold: list, answer: list) -> bool:
  import math_verify
  if not gold or not answer:
    return False
  finer = _finer(gold)
  return math_verify.verify(
      gold, answer, float_rounding=DECIMALS + finer,
      numeric_precision=DIGITS + finer, timeout_seconds=None
  ) or _same_value(gold, answer)


def _equal(answer: str, right: list) -> float:
  given = _parse(answer)
  if not given:
    return 0.0
  if _verify(right, given):
    return 1.0
  a, b = _imaginary(given), _imaginary(right)
  if a is None and b is None:
    return 0.0
  return float(_verify(b or right, a or given))


def _unknowns(text: str) -> bool:
  """Whether a text has letters, Greek ones too, besides macros and \\pi."""
  return bool(_LETTER.search(_MACRO.sub('', text)))


def _sides(text: str) -> list[str]:
  """The sides of an equality or a chain; the text itself if it is neither.

  Several equalities (`x=2 or x=3`) are neither.
  """
  sides = _EQUALS.split(text)
  if _SEVERAL.search(text) or not all(s.strip() for s in sides):
    return [text]
  return sides


def _result(gold: str) -> str:
  """The result of a chain of equalities in a gold answer.

  It is `A=12` for `A=3\\cdot 4=12` and `60` for `5\\cdot 12=60`. An equation in
  unknowns stays.
  """
  sides = _sides(gold)
  if len(sides) < 2:
    return gold
  if _SYMBOL.fullmatch(sides[0]):
    return f'{sides[0]}={sides[-1]}'
  if len(sides) > 2 or (
      not _unknowns(sides[0]) and not _unknowns(sides[-1])):
    return sides[-1]
  return gold


def _numbers(answer: str, gold: str, factor: Fraction) -> float | None:
  """Whether two numbers are the same; None if one side is no number.

  `v = 5` is the number 5 on either side.
  """
  b = numeral(gold)
  a = numeral(answer)
  if b is not None and a is None:
    *left, last = _sides(answer)
    if left and _unknowns(''.join(left)):
      a = numeral(last)
  if a is not None and b is None:
    *left, last = _sides(gold)
    if left and _SYMBOL.fullmatch(left[0]):
      b = numeral(last)
  if a is None or b is None:
    return None
  return float(close(a.times(factor), b, factor == 1))


def _mark(answer: str, gold: str) -> float:
  reason = prefilter.too_steep(gold)
  if reason and numeral(gold) is None:
    raise Unreadable(f'{gold[:80]!r}: {reason}')
  if prefilter.too_steep(answer) and numeral(answer) is None:
    return 0.0
  a, b = forms.read(answer), forms.read(gold)
  b = b._replace(text=_result(b.text))
  factor = forms.ratio(a, b)
  if not b.text:
    raise Unreadable(f'{gold[:80]!r}: no formula')
  if factor is None:
    return 0.0
  score = _numbers(a.text, b.text, factor)
  if score is not None:
    return score
  if factor != 1:
    return _formulas(rf'({a.text})\cdot({factor})', b.text)
  return _formulas(a.text, b.text)


def _formulas(answer: str, gold: str) -> float:
  if answer.replace(' ', '') == gold.replace(' ', ''):
    return 1.0
  if _WORDS.fullmatch(plain_text(gold)):
    return float(plain_text(answer) == plain_text(gold))
  parts, wanted = _REMAINDER.fullmatch(answer), _REMAINDER.fullmatch(gold)
  if parts and wanted:
    return float(parts.groups() == wanted.groups())
  based, gold_based = forms.based(answer), forms.based(gold)
  if based and gold_based:
    return float(based == gold_based)
  answer, gold = forms.in_order(answer, gold)
  if not forms.alike(answer, gold):
    return 0.0
  answer, gold = forms.told_apart(*forms.same_kind_of_set(answer, gold))
  right = _parse(gold)
  if not right:
    raise Unreadable(f'{gold[:80]!r}: no formula')
  if prefilter.undone(answer) and not prefilter.undone(gold):
    return 0.0
  if not _TABLE.search(answer) and _RUN_ON.search(_MIXED.sub('', answer)):
    return 0.0
  sides = _EQUALS.split(answer)
  if len(sides) > 1 and not _EQUALS.search(gold) and not _unknowns(
      ''.join(sides[:-1])):
    # `7=5` has no unknown, so each side has to be the answer.
    return min(_equal(side, right) for side in sides)
  return _equal(answer, right)


def _options(text: str) -> str:
  """The letters of several choices in order, '' for another text."""
  text = open_words(text)
  if not _OPTIONS.fullmatch(text):
    return ''
  letters = ''.join(sorted(re.sub('[^A-H]', '', text)))
  return letters if len(set(letters)) == len(letters) else ''


def _short_word(text: str) -> bool:
  r"""Whether a text is a word of two letters: `\text{it}`, `No`."""
  letters = tidy(text).rstrip('. ')
  return bool(_TWO_LETTERS.fullmatch(letters)) and (
      letters.lower() in _SHORT_WORDS or bool(_WORD_MACRO.search(text)))


def maths(answer: str, gold: str) -> float:
  """1 for equal formulas, numbers, sets, intervals or matrices."""
  answer, gold = forms.unboxed(answer), forms.unboxed(gold)
  if not tidy(gold):
    raise Unreadable('an empty gold answer')
  if tidy(answer).replace(' ', '') == tidy(gold).replace(' ', ''):
    return 1.0
  word = _short_word(gold)
  answer, gold = undress(answer), undress(gold)
  if word:
    return float(plain_text(answer) == plain_text(gold))
  if not gold:
    raise Unreadable('an empty gold answer')
  if (letters := _options(gold)) and letters == _options(answer):
    return 1.0
  if option := _OPTION.fullmatch(open_words(gold)):
    if letters and _LISTED.search(gold):  # `(A) and (C)` is more than A
      return 0.0
    letter = next(filter(None, option.groups()))
    return float(choice(answer) == letter.casefold())
  return retried(_mark)(answer, gold)
