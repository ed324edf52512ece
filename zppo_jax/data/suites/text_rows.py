"""Rows of the benchmarks of text as questions, as image_rows.py."""

import hashlib
import json

from zppo_jax.data import values
from zppo_jax.data.mappings.mapping import Mapped, Row, asked, letters
from zppo_jax.data.suites.benchmark import NO_GOLD, skipped
from zppo_jax.data.suites.choices import (
  LETTERS,
  Gold,
  blank,
  choice,
  listed,
  opened,
  why_not,
)
from zppo_jax.records import Turn

_PADDING = 'N/A'  # with which early files of MMLU-Pro fill ten options


def aime25(row: Row) -> Mapped:
  return opened(row['question'], row['answer'], 'number')


def aime26(row: Row) -> Mapped:
  return opened(row['problem'], row['answer'], 'number')


def ceval(row: Row, gold: Gold) -> Mapped:
  return choice(row['question'], [row[x] for x in 'ABCD'], row['answer'], gold)


def gpqa(row: Row, gold: Gold) -> Mapped:
  """A hash of the question chooses the place of the right option."""
  right = values.text(row['Correct Answer'], 'Correct Answer').strip()
  if reason := why_not(row['Question'], right):
    return skipped(reason)
  options = [values.text(row[c], c).strip()
             for c in (f'Incorrect Answer {i}' for i in (1, 2, 3))]
  question = values.text(row['Question'], 'Question')
  at = hashlib.blake2b(question.encode(), digest_size=1).digest()[0] % 4
  options.insert(at, right)  # they keep letters of their own
  return asked(question, gold(right, options), 'choice',
               f'\n{letters(options)}')


def hle(row: Row) -> Mapped:
  return opened(row['question'], row['answer'], 'hle')


def imo_answerbench(row: Row) -> Mapped:
  return opened(row['Problem'], row['Short Answer'], 'math')


def mmlu(row: Row, gold: Gold) -> Mapped:
  return choice(row['question'], row['choices'], row['answer'], gold)


def mmlu_pro(row: Row, gold: Gold) -> Mapped:
  options = listed(row['options'])
  if reason := why_not(row['question'], row['answer_index']):
    return skipped(reason)
  right = LETTERS.index(gold(row['answer_index'], options))
  while len(options) > right + 1 and options[-1] == _PADDING:
    options.pop()
  return choice(row['question'], options, row['answer_index'], gold)


def not_ok(row: Row) -> str:
  """The reason why a row with a known error is left out, of MMLU-Redux."""
  return '' if row['error_type'] == 'ok' else 'error_type is not ok'


def multichallenge(row: Row) -> Mapped:
  """The turns of a conversation, whose last message is the question.

  The gold is what the official judge is asked of the response alone.
  """
  criterion = values.text(row['pass_criteria'], 'pass_criteria').strip()
  if blank(row['target_question']) or not criterion:
    return skipped(NO_GOLD)
  if criterion.upper() not in ('YES', 'NO'):
    raise ValueError(f'pass_criteria is {criterion[:80]!r}; MultiChallenge '
                     'has YES and NO')
  turns, question = values.conversation(row['conversation'], 'conversation')
  target = values.text(row['target_question'], 'target_question')
  return Mapped(question, json.dumps(
      {'target_question': target, 'pass_criteria': criterion.upper()},
      ensure_ascii=False), 'multichallenge', turns=tuple(
          Turn(*turn) for turn in turns))
