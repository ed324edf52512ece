"""Rows of the benchmarks in data/suites.py as questions.

There is a function for each schema. None adds a directive about the format,
because the chat's closer asks for the box. Options become lines `A. ...`, and
the answer becomes its letter.
"""

import ast
import hashlib
from collections.abc import Callable, Mapping as Dict, Sequence
from typing import Any

from zppo_jax.data import values
from zppo_jax.data.mappings.mapping import Mapped, Row, asked, letters

_LONGEST = 20_000  # characters of a row's options
_LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'


def _literal(text: str) -> Any:
  """The value of a text that is a Python literal and not too long.

  Raises:
    ValueError: for anything else.
  """
  if len(text) > _LONGEST:
    raise ValueError(f'options of {len(text)} characters; at most {_LONGEST}')
  try:
    return ast.literal_eval(text)
  except (SyntaxError, RecursionError, MemoryError) as e:
    raise ValueError(f'options {text[:80]!r} are no list: {e}') from None


def _listed(options: Any) -> list[str]:
  """Options as a list; some data sets write the list as a text."""
  if options is None:
    return []
  if isinstance(options, str):
    options = _literal(options) if options.strip() else []
  if isinstance(options, Dict):
    options = [v for v in options.values() if v]
  if not isinstance(options, list | tuple):
    raise ValueError(f'options are {values.shown(options)}, not a list')
  return [values.text(o, f'option {i}') for i, o in enumerate(options)]


def _letter(answer: Any, options: Sequence[str]) -> str:
  """The letter of an answer that is an index, a letter or an option's text."""
  said = values.text(answer, 'answer').strip()
  if isinstance(answer, int) or said.isdecimal() and said not in options:
    if not 0 <= int(said) < len(options):
      raise ValueError(f'answer is {said}; there are {len(options)} options, '
                       'counted from 0')
    return _LETTERS[int(said)]
  if said in options:
    return _LETTERS[list(options).index(said)]
  return said


def _choice(question: Any, options: Any, answer: Any, name: Any = '',
            subset: Any = '') -> Mapped:
  options = _listed(options)
  return asked(question, _letter(answer, options), 'choice',
               f'\n{letters(options)}', id=name, subset=subset)


def _open(question: Any, answer: Any, kind: str, name: Any = '',
          subset: Any = '') -> Mapped:
  return asked(question, answer, kind, id=name, subset=subset)


def ai2d(row: Row) -> Mapped:
  return _choice(row['question'], row['options'], row['answer'])


def babyvision(row: Row) -> Mapped:
  if row['ansType'] == 'choice':
    return _choice(row['question'], row['options'], row['choiceAns'],
                   row['taskId'])
  return _open(row['question'], row['blankAns'], 'text', row['taskId'])


def charxiv(row: Row) -> Mapped:
  return _open(row['reasoning_q'], row['reasoning_a'], 'judge')


def dynamath(row: Row) -> Mapped:
  kind = {'float': 'number', 'multiple choice': 'choice'}.get(
      row['answer_type'], 'text')
  return _open(row['question'], row['ground_truth'], kind)


def embspatial(row: Row) -> Mapped:
  return _choice(row['question'], row['answer_options'], row['answer'])


def infovqa(row: Row) -> Mapped:
  return _open(row['question'], row['answers'][0], 'text', row['questionId'])


def mathverse(row: Row) -> Mapped:
  kind = 'choice' if row['question_type'] == 'multi-choice' else 'math'
  return _open(row['question'], row['answer'], kind, row['sample_index'])


def mathvision(row: Row) -> Mapped:
  if _listed(row['options']):
    return _choice(row['question'], row['options'], row['answer'], row['id'])
  return _open(row['question'], row['answer'], 'math', row['id'])


def mathvista(row: Row) -> Mapped:
  if row['question_type'] == 'multi_choice':
    return _choice(row['question'], row['choices'], row['answer'], row['pid'])
  kind = 'text' if row['answer_type'] in ('text', 'list') else 'number'
  unit = (f' (Unit: {values.text(row["unit"], "unit")})' if row['unit']
          else '')
  return _open(row['question'] + unit, row['answer'], kind, row['pid'])


def mmmu_pro(row: Row) -> Mapped:
  return _choice(row['question'], row['options'], row['answer'], row['id'])


def mmvet(row: Row) -> Mapped:
  return _open(row['question'], row['answer'], 'judge', row['question_id'])


def ocrbench(language: str) -> Callable[[Row], Mapped]:
  """A function for the rows of one language, which ends the type of a row."""
  def read(row: Row) -> Mapped:
    words = _open(row['question'], row['answers'][0], 'text', row['id'],
                  row['type'])
    if row['type'].split()[-1] == language:
      return words
    return words._replace(skip=f'not {language}')
  return read


def visualpuzzles(row: Row) -> Mapped:
  return _choice(row['question'], row['options'], row['answer'], row['id'],
                 row['category'])


def vlmsareblind(row: Row) -> Mapped:
  return _open(row['prompt'], row['groundtruth'], 'text', subset=row['task'])


def wemath(row: Row) -> Mapped:
  return asked(row['question'], row['answer'], 'choice',
               f'\n{values.text(row["option"], "option")}', id=row['ID'])


def aime25(row: Row) -> Mapped:
  return _open(row['question'], row['answer'], 'number')


def aime26(row: Row) -> Mapped:
  return _open(row['problem'], row['answer'], 'number', row['problem_idx'])


def ceval(row: Row) -> Mapped:
  return _choice(row['question'], [row[x] for x in 'ABCD'],
                 _LETTERS.index(row['answer']))


def gpqa(row: Row) -> Mapped:
  """A hash of the question chooses the place of the right option."""
  options = [row[f'Incorrect Answer {i}'].strip() for i in (1, 2, 3)]
  at = hashlib.blake2b(row['Question'].encode(), digest_size=1).digest()[0] % 4
  options.insert(at, row['Correct Answer'].strip())
  return _choice(row['Question'], options, at)


def hle(row: Row) -> Mapped:
  return _open(row['question'], row['answer'], 'judge', row['id'],
               row['category'])


def imo_answerbench(row: Row) -> Mapped:
  return _open(row['Problem'], row['Short Answer'], 'math',
               row['Problem ID'], row['Category'])


def mmlu(row: Row) -> Mapped:
  return _choice(row['question'], row['choices'], row['answer'],
                 subset=row['subject'])


def mmlu_pro(row: Row) -> Mapped:
  return _choice(row['question'], row['options'], row['answer'],
                 row['question_id'], row['category'])


def mmlu_redux(row: Row) -> Mapped:
  return _choice(row['question'], row['choices'], row['answer'])


def multichallenge(row: Row) -> Mapped:
  """The conversation as one text; the judge holds the criterion."""
  turns = '\n\n'.join(
      f'{turn["role"]}: {values.text(turn["content"], "content")}'
      for turn in row['CONVERSATION'])
  gold = ' '.join(values.text(row[column], column)
                  for column in ('TARGET_QUESTION', 'PASS_CRITERIA'))
  return Mapped(turns, gold, 'judge', row['QUESTION_ID'], subset=row['AXIS'])


def mmvu(row: Row) -> Mapped:
  if row['question_type'] == 'multiple-choice':
    return _choice(row['question'], row['choices'], row['answer'], row['id'])
  return _open(row['question'], row['answer'], 'judge', row['id'])


def mvbench(row: Row) -> Mapped:
  return _choice(row['question'], row['candidates'], row['answer'])


def video_mme(row: Row) -> Mapped:
  options = '\n'.join(_listed(row['options']))  # with letters already
  question = values.text(row['question'], 'question')
  return Mapped(f'{question}\n{options}', row['answer'], 'choice',
                row['question_id'])


def video_mme_subtitles(row: Row) -> Mapped:
  words = video_mme(row)
  subtitles = values.text(row['subtitles'], 'subtitles')
  return words._replace(text=f'Subtitles:\n{subtitles}\n\n{words.text}')


def video_mmmu(row: Row) -> Mapped:
  if _listed(row['options']):
    return _choice(row['question'], row['options'], row['answer'], row['id'])
  return _open(row['question'], row['answer'], 'math', row['id'])
