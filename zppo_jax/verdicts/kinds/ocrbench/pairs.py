"""Key-value pairs of OCRBench v2."""

import json
import re
from typing import Any

from zppo_jax.verdicts.kinds.numerals import Unreadable
from zppo_jax.verdicts.kinds.published import literal

_FENCE = re.compile(r'```(?:python|json)?\n(.*?)\n```', re.DOTALL | re.I)
_PAIR = re.compile(r'["\']?(\w[\w\s]{0,200})["\']?\s{0,9}[:=]\s{0,9}["\']?'
                   r'([^\n,"\'{}]+)["\']?')


def read(answer: str) -> dict[str, Any]:
  """The pairs of an answer: JSON, a Python dict, or `key: value`.

  A value is a text, or a list where the answer has one.
  """
  fenced = _FENCE.search(answer)
  words = fenced[1] if fenced else answer.strip()
  value = literal(words)
  if not isinstance(value, dict):
    value = {key.strip(): said.strip() for key, said in _PAIR.findall(words)}
  return {str(key).strip(): said if isinstance(said, list) else
          str(said).strip() for key, said in value.items()}


def _spelled(value: Any) -> str:
  return str(value).lower().strip().replace('\n', ' ').replace(' ', '')


def _gold(answers: list) -> dict[str, list]:
  """Each key of the gold object, and the values that are right for it."""
  if len(answers) != 1:
    raise Unreadable(f'{len(answers)} answers; one object of pairs is wanted')
  value = answers[0]
  for _ in range(2):  # some are the text of a text
    if isinstance(value, str):
      value = literal(value.strip('"'))
  if not isinstance(value, dict) or not value:
    raise Unreadable(f'{json.dumps(answers)[:80]} is no object of pairs')
  return {str(key): said if isinstance(said, list) else [said]
          for key, said in value.items()}


def _right(given: Any, said: list) -> bool:
  """Whether a value is one of the right ones, or the list of them itself."""
  spelled = [*map(_spelled, said)]
  if isinstance(given, list):
    return [*map(_spelled, given)] == spelled
  return _spelled(given) in spelled


def f1(answer: str, row: dict[str, Any]) -> float:
  """The share of keys whose values agree, of those that either side has.

  Where a key has several right values, the best choice of them counts, which is
  the best one of each key, because keys count alone.
  """
  gold = _gold(row['answers'])
  given = read(answer)
  right = sum(_right(given[key], said)
              for key, said in gold.items() if key in given)
  return right / len(set(gold) | set(given))
