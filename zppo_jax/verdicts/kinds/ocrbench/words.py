"""Words, counts and formulas of OCRBench v2.

Each function takes (answer, row) and gives a score in [0, 1]. A short gold
answer must stand in the answer; a long one is compared by its edit distance,
and a similarity below one half is 0.
"""

import re
from collections.abc import Callable
from typing import Any

from zppo_jax.verdicts.kinds import edits
from zppo_jax.verdicts.kinds.numerals import Unreadable

Row = dict[str, Any]
_LONG = 5  # words of an English answer that is compared by its distance
_LONG_LIST = 4  # parts between commas of a Chinese one
_TEXT = re.compile(r'\\text\{([^{}]*)\}')
_BETWEEN = ('', '.', '. ', ',', ', ', '、', ';', '; ', ' ', '和')


def _flat(text: str) -> str:
  return text.strip().replace('\n', ' ')


def _close(answer: str, gold: str) -> float:
  score = edits.similarity(answer, gold)
  return score if score >= .5 else 0.0


def _best(answer: str, row: Row, spelled: Callable[[str], str],
          long: Callable[[str], bool]) -> float:
  """The best score beside any of the row's answers."""
  given = spelled(answer)
  scores = [0.0]
  for one in row['answers']:
    gold = spelled(str(one))
    scores.append(_close(given, gold) if long(gold) else float(gold in given))
  return max(scores)


def contained(answer: str, row: Row, same_case: bool = False) -> float:
  """The best score of English answers; `same_case` keeps capitals apart."""
  return _best(answer, row,
               _flat if same_case else lambda text: _flat(text.lower()),
               lambda gold: len(gold.split()) >= _LONG)


def _letters(answer: str, row: Row) -> float:
  """1 for the letters of a choice."""
  if len(row['answers']) != 1:
    raise Unreadable(f'{len(row["answers"])} answers of a multiple choice')
  return float(''.join(filter(str.isalpha, answer)) == row['answers'][0])


def _by_eval(answer: str, row: Row,
             otherwise: Callable[[str, Row], float]) -> float:
  match row.get('eval'):
    case 'multiple choice':
      return _letters(answer, row)
    case 'case sensitive':
      return contained(answer, row, same_case=True)
  return otherwise(answer, row)


def english(answer: str, row: Row) -> float:
  """By the row's `eval`: letters, the same case, or any case."""
  return _by_eval(answer, row, contained)


def _chinese(answer: str, row: Row) -> float:
  return _best(answer, row,
               lambda text: _flat(text.lower()).replace(' ', ''),
               lambda gold: len(gold.split(',')) >= _LONG_LIST)


def chinese(answer: str, row: Row) -> float:
  """As `english`, without spaces."""
  return _by_eval(answer, row, _chinese)


def handwritten(answer: str, row: Row) -> float:
  """1 if the answer holds the gold letters, however they are separated."""
  if len(row['answers']) != 1:
    raise Unreadable(f'{len(row["answers"])} answers of one blank')
  gold = str(row['answers'][0])
  return float(any(mark.join(gold) in answer for mark in _BETWEEN))


def _joined(text: str) -> str:
  return _flat(text).replace(' ', '')


def formula(answer: str, row: Row) -> float:
  """1 if the answer holds a gold formula, spaces aside."""
  given = _joined(answer)
  return float(any(_joined(str(one)) in given for one in row['answers']))


def chinese_formula(answer: str, row: Row) -> float:
  """As `formula`, without the marks of texts."""
  plain = lambda text: _TEXT.sub(r'\1', text)
  return formula(plain(answer), {
      'answers': [plain(str(one)) for one in row['answers']]})


def count(answer: str, row: Row) -> float:
  """By the row's `eval`: containment, or 1 - |n - gold| / gold above a half.

  Raises:
    Unreadable: for another `eval`, or a gold number that is none.
  """
  given = _flat(answer.lower())
  scores = [0.0]
  for one in row['answers']:
    gold = _flat(str(one).lower())
    if row.get('eval') == 'exact match':
      scores.append(float(gold in answer))
      continue
    if row.get('eval') != 'regression' or not gold.isdecimal() or not int(gold):
      raise Unreadable(f'a count of eval {row.get("eval")!r} and gold '
                       f'{gold[:40]!r}')
    number = re.search(r'[0-9]{1,18}', given)
    near = 1 - abs(int(number[0]) - int(gold)) / int(gold) if number else 0.0
    scores.append(near if near > .5 else 0.0)
  return max(scores)
