"""The kind 'math': LaTeX and formulas compared by math-verify.

Loaded in worker processes only. The library's own timeouts are alarms, which
need the main thread and do not hold (docs/verdicts.md): they are off, and the
worker's are meant.
"""

import logging
import re

from zppo_jax.verdicts import screen
from zppo_jax.verdicts.plain import (
  Unreadable,
  close,
  number,
  plain_text,
  retried,
  tidy,
)

# A word is not a product of its letters: `east` is not `seat`.
_WORDS = re.compile(r'[^\W\d_]{3,}(?:[ -][^\W\d_]+)*')

# Numbers in a row are added up by the library; only `1 1/2` is a number.
_RUN_ON = re.compile(r'[0-9]\s+[0-9]')
_MIXED = re.compile(r'[0-9]+\s+[0-9]+\s*/\s*[0-9]+')
_EQUALS = re.compile(r'(?<![!<>:=\\])=(?!=)')
_LETTER = re.compile(r'[^\W\d_]')
_MACRO = re.compile(r'\\[A-Za-z]+')


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
  # What is built or imported at the first use would count for an answer.
  for answer, gold in (('x+1', '1+x'), ('x+1', '2'), (r'\frac{x}{2}', '(1,2)'),
                       (r'\sqrt{2}', r'\{1,2\}')):
    maths(answer, gold)


def _parse(text: str) -> list:
  import math_verify
  return math_verify.parse(
      f'${text}$', [math_verify.LatexExtractionConfig(),
                    math_verify.ExprExtractionConfig()],
      extraction_mode='first_match',
      parsing_timeout=None)


def _mark(answer: str, gold: str) -> float:
  a, b = number(answer), number(gold)
  if a is not None and b is not None and close(a, b):
    return 1.0
  if _WORDS.fullmatch(plain_text(gold)):
    return float(plain_text(answer) == plain_text(gold))
  reason = screen.too_steep(gold)
  right = [] if reason else _parse(gold)
  if not right:
    raise Unreadable(f'{gold[:80]!r}: {reason or "no formula"}')
  if screen.too_steep(answer) or (
      screen.undone(answer) and not screen.undone(gold)):
    return 0.0
  if _RUN_ON.search(_MIXED.sub('', answer)):
    return 0.0
  sides = _EQUALS.split(answer)
  if len(sides) > 1 and not _EQUALS.search(gold) and not _LETTER.search(
      _MACRO.sub('', ''.join(sides[:-1]))):
    # `7=5` says nothing of an unknown: each side has to be the answer.
    return min(_equal(side, right) for side in sides)
  return _equal(answer, right)


def _equal(answer: str, right: list) -> float:
  import math_verify
  given = _parse(answer)
  return float(bool(given) and math_verify.verify(
      right, given, timeout_seconds=None))


def maths(answer: str, gold: str) -> float:
  """Equal as formulas, numbers, sets, intervals or matrices (math-verify)."""
  answer, gold = tidy(answer), tidy(gold)
  if not gold:
    raise Unreadable('an empty gold answer')
  if answer.replace(' ', '') == gold.replace(' ', ''):
    return 1.0
  return retried(_mark)(answer, gold)
