"""Rows of the benchmarks of pictures as questions, a function for each schema.

None adds a directive about the form of an answer, because the chat's closer
asks for the box. `gold` reads the answer of a choice as the table says.
"""

import json
import re
from typing import Any

from zppo_jax.data import values
from zppo_jax.data.mappings.mapping import Mapped, Places, Row, asked, letters
from zppo_jax.data.suites.benchmark import CONFIG, NO_GOLD, NO_QUESTION, skipped
from zppo_jax.data.suites.choices import (
  LETTERS,
  NULLS,
  Gold,
  blank,
  by_letter,
  choice,
  listed,
  opened,
  picture_choice,
  pictured,
  why_not,
)
from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.kinds import ocrbench as metrics
from zppo_jax.verdicts.kinds.numerals import Unreadable

# Where the picture holds what the row does not.
IN_THE_PICTURE = 'The question is in the picture. Answer it.'
_BOTH_IN_THE_PICTURE = 'The question and its options are in the picture.'
_OPTIONS_IN_THE_PICTURE = 'The options A, B, C and D are in the picture.'


def ai2d(row: Row, gold: Gold) -> Mapped:
  return choice(row['question'], row['options'], row['answer'], gold)


def babyvision(row: Row, gold: Gold) -> Mapped:
  if row['ansType'] == 'choice':
    return choice(row['question'], row['options'], row['choiceAns'], gold)
  if row['ansType'] != 'blank':
    raise ValueError(f'ansType is {values.shown(row["ansType"])}; BabyVision '
                     'has choice and blank')
  answer = row['blankAns']
  if isinstance(answer, str) and answer.strip().lower() in NULLS:
    answer = None
  return opened(row['question'], answer, 'text')


def dynamath(row: Row) -> Mapped:
  known = {'float': 'absolute(0.001)', 'multiple choice': 'choice',
           'text': 'within'}
  if row['answer_type'] not in known:
    raise ValueError(f'answer_type is {values.shown(row["answer_type"])}; '
                     f'DynaMath has {", ".join(known)}')
  return opened(row['question'], row['ground_truth'],
                known[row['answer_type']], subset=row[CONFIG])


def embspatial(row: Row, gold: Gold) -> Mapped:
  return choice(row['question'], row['answer_options'], row['answer'], gold)


def infovqa(row: Row) -> Mapped:
  answers = [a for a in values.texts(row['answers'], 'answers') if a.strip()]
  return opened(row['question'], json.dumps(answers, ensure_ascii=False)
                if answers else None, 'anls')


def mathverse(row: Row, gold: Gold) -> Mapped:
  question = row['question']
  if row['problem_version'] == 'Vision Only':
    if not blank(question):
      raise ValueError('a row of Vision Only has a question; MathVerse leaves '
                       'it to the picture')
    question = IN_THE_PICTURE
  if reason := why_not(question, row['answer']):
    return skipped(reason)
  form = row['question_type']
  if form == 'multi-choice':
    return opened(question, gold(row['answer'], ()), 'choice')
  if form != 'free-form':
    raise ValueError(f'question_type is {values.shown(form)}; MathVerse has '
                     'multi-choice and free-form')
  return opened(question, row['answer'], 'math')


def mathvision(row: Row, gold: Gold) -> Mapped:
  """One picture holds everything that `<image1>`, `<image2>` ... name."""
  options = listed(row['options'])
  question = values.text(row['question'], 'question')
  if reason := why_not(question, row['answer']):
    return skipped(reason)
  question, options, _ = pictured(question, options)
  if not options:
    return Mapped(question, row['answer'], 'math', places=Places())
  letter = gold(row['answer'], options)
  return Mapped(f'{question}\n{letters(options)}', json.dumps(
      {'options': options, 'letter': letter}, ensure_ascii=False), 'option',
      places=Places())


def _decimals(row: Row) -> int:
  """The decimals that MathVista rounds to; its files hold 1.0 for 1."""
  precision = values.number(row['precision'], 'precision')
  if precision not in range(21):
    raise ValueError(f'precision is {values.shown(row["precision"])}; it must '
                     'be a whole number of decimals')
  return int(precision)


def _measured(answer: Any, unit: str, kind: str,
              of_units: str) -> tuple[str, str]:
  """(gold, kind) of a number with its unit: another unit is another answer.

  A unit that is a part of the number stays away (`million`), because the
  question names it and a bare number must stay right.

  Args:
    answer: the number.
    unit: of the row; '' if there is none.
    kind: how numbers without a unit are compared.
    of_units: how those with one are.
  """
  said = values.text(answer, 'answer').strip()
  # A bare dollar would delimit a formula.
  measured = f'{said} {unit.strip()}'.replace('$', '\\$').strip()
  try:
    if unit.strip() and kinds.get(of_units).mark(said, measured) == 1:
      return measured, of_units
  except Unreadable:
    pass
  return said, kind


def mathvista(row: Row, gold: Gold) -> Mapped:
  if reason := why_not(row['question'], row['answer']):
    return skipped(reason)
  unit = values.text(row['unit'], 'unit')
  question = values.text(row['question'], 'question')
  if unit:
    question = f'{question} (Unit: {unit})'
  if row['question_type'] == 'multi_choice':
    options = listed(row['choices'])
    letter = gold(row['answer'], options)
    return asked(question, json.dumps(
        {'options': options, 'answer': options[LETTERS.index(letter)]},
        ensure_ascii=False), 'nearest', f'\n{letters(options)}')
  if row['question_type'] != 'free_form':
    raise ValueError(f'question_type is {values.shown(row["question_type"])}; '
                     'MathVista has multi_choice and free_form')
  known = {'text': 'text', 'list': 'number_list'}
  of = row['answer_type']
  if of in known:
    return opened(question, row['answer'], known[of])
  if of not in ('integer', 'float'):
    raise ValueError(f'answer_type is {values.shown(of)}; MathVista has float, '
                     f'integer, {", ".join(known)}')
  if of == 'integer':
    return opened(question, *_measured(row['answer'], unit, 'number', 'unit'))
  digits = _decimals(row)
  return opened(question, *_measured(
      row['answer'], unit, f'rounded({digits})', f'rounded_unit({digits})'))


def mmmu_pro(row: Row, gold: Gold) -> Mapped:
  """Options refer to pictures too, and pictures out of order."""
  options = listed(row['options'])
  if blank(row['answer']):
    return skipped(NO_GOLD)
  letter = gold(row['answer'], options)
  if row[CONFIG] == 'vision':
    return Mapped(_BOTH_IN_THE_PICTURE, letter, 'choice')
  if row['question'] is None:
    raise KeyError("no column 'question'")
  if blank(row['question']):
    return skipped(NO_QUESTION)
  return picture_choice(values.text(row['question'], 'question'), options,
                        letter)


def mmvet(row: Row) -> Mapped:
  return opened(row['question'], row['answer'], 'mmvet')


def _plain(value: Any) -> Any:
  """A value of a file as JSON holds it."""
  if isinstance(value, dict):
    return {k: _plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(v) for v in value]
  return float(value) if isinstance(value, values.Single) else value


_OF_METRICS = ('answers', 'eval', 'bbox', 'bbox_list', 'content', 'question')


def ocrbench(language: str) -> Any:
  """A function for the rows of one language, which ends the type of a row."""
  def read(row: Row) -> Mapped:
    of = values.text(row['type'], 'type')
    if of.split()[-1:] != [language]:
      return skipped('another language')
    question = values.text(row['question'], 'question')
    answers = metrics.told(row['answers'])
    if reason := why_not(question, answers or of in metrics.NO_ANSWERS or None):
      return skipped(reason)
    if reason := metrics.unscored(of, question):
      return skipped(reason)
    gold = {name: _plain(row[name]) for name in _OF_METRICS}
    gold['answers'] = _plain(answers)
    return asked(question, json.dumps(gold, ensure_ascii=False),
                 f'ocrbench({of})')
  return read


def visualpuzzles(row: Row, gold: Gold) -> Mapped:
  if listed(row['options']):
    return choice(row['question'], row['options'], row['answer'], gold)
  if reason := why_not(row['question'], row['answer']):
    return skipped(reason)
  return asked(row['question'], by_letter(row['answer'], LETTERS[:4]),
               'choice', f'\n{_OPTIONS_IN_THE_PICTURE}')


def vlmsareblind(row: Row) -> Mapped:
  return opened(row['prompt'], row['groundtruth'], 'values')


def _separate(text: str) -> list[str]:
  """Options of one text, `A. ...; B. ...`: a semicolon or a new line ends one
  where the next letter follows."""
  options, start = [], 0
  for letter in LETTERS[1:]:
    end = re.compile(rf'\s*[;\n]\s*(?={letter}\.)').search(text, start)
    if not end:
      break
    options.append(text[start:end.start()])
    start = end.end()
  return [*options, text[start:].rstrip('; \n')]


def wemath(row: Row, gold: Gold) -> Mapped:
  return choice(row['question'], _separate(values.text(
      row['option'], 'option').strip()), row['answer'], gold)
