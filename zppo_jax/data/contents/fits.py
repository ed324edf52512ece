"""Which mapping, suite or columns fit the rows of files.

A mapping fits if the files have its columns and some rows of a sample become
questions. One whose name stands in the path comes first, then those that ask at
least half of the sample. Of these the one whose hub id shares words with the
path is first, then the one that reads more columns. Behind columns of one's own
come, if their name is not in the path, a suite of few columns, because many
files have a `question` and an `answer`, and a mapping of few columns that asks
just what these columns hold: `problem`, `answer` and `images` are Geometry3K's
and those of many others.
"""

import collections
import dataclasses
import pathlib
import re
from collections.abc import Iterable, Mapping as Dict, Sequence
from typing import Any

from zppo_jax.data import mappings, suites, values
from zppo_jax.data.contents.columns import Column, images_in
from zppo_jax.data.mappings.mapping import Mapping, checked, image_columns
from zppo_jax.data.sources import why_not
from zppo_jax.data.suites import benchmark
from zppo_jax.data.suites.benchmark import Benchmark
from zppo_jax.data.suites.copies import named_alike

KINDS = ('mapping', 'suite', 'columns', 'conversations')
# Names of columns that often hold a field, the first of them preferred.
TEXT = ('question', 'problem', 'prompt', 'query', 'instruction', 'input',
        'Question', 'Problem', 'text')
ANSWER = ('final_answer', 'answer', 'ground_truth', 'gold', 'target', 'label',
          'reward_model.ground_truth', 'solution', 'Answer')
NAMES = ('id', 'question_id', 'qid', 'index', 'extra_info.index')
CHATS = ('messages', 'conversations', 'conversation')
_NUMBER = re.compile(r'\d+')
_WORD = re.compile(r'[a-z]+[0-9]*')
_LETTER = re.compile(r'\(?[A-Ja-e]\)?')
# A few words of letters, at least one of them longer than a variable's name.
_WORDS = re.compile(r'(?=.*[^\W\d_]{2})[^\W\d_]+(?:[ -][^\W\d_]+){0,3}')
_VALUE = re.compile(r'[+-]?[\d,]*\.?\d+')
_WHOLE = 100  # more than the words that a hub id and a path may share
_FEW = 3  # columns that many data sets have


@dataclasses.dataclass(frozen=True)
class Fit:
  """A way to read the rows.

  Attributes:
    kind: in KINDS.
    name: of the mapping or the suite; 'columns' or 'conversations'.
    asked: rows of the sample that become questions.
    rows: of the sample.
    skipped: reason -> rows of the sample that are skipped.
    refused: reason -> rows of the sample that end a run.
    columns: field -> column, for the kinds 'columns' and 'conversations'.
    images: the columns of images that the config has to name.
    answers: how answers are compared, for the kind 'columns'.
    score: sorts the fits, the best last.
  """
  kind: str
  name: str
  asked: int
  rows: int
  skipped: dict[str, int]
  refused: dict[str, int]
  columns: dict[str, str] = dataclasses.field(default_factory=dict)
  images: str = ''
  answers: str = ''
  score: tuple = ()


def reason(error: BaseException | str) -> str:
  """A reason under which rows are counted: numbers do not tell rows apart."""
  text = str(error.args[0] if isinstance(error, KeyError) and error.args
             else error)
  if isinstance(error, KeyError) and ' ' not in text:
    text = f'no {text!r}'
  return _NUMBER.sub('#', ' '.join(text.split()))[:160]


def _tried(mapping: Mapping, rows: Sequence[Dict[str, Any]]
           ) -> tuple[int, collections.Counter, collections.Counter]:
  """(asked, reasons of skipped rows, reasons of refused rows) of a sample."""
  skipped: collections.Counter[str] = collections.Counter()
  refused: collections.Counter[str] = collections.Counter()
  asked = 0
  for row in rows:
    try:
      why = why_not(checked(mapping.read(row)))
    # A row of another schema makes a mapping raise almost anything.
    except Exception as e:
      refused[reason(e)] += 1
      continue
    asked += not why
    if why:
      skipped[reason(why)] += 1
  return asked, skipped, refused


def named(name: str, hub: str, path: str) -> int:
  """How many words of a mapping's name and hub id are among those of a path."""
  there = set(_WORD.findall(path.lower()))
  own = name.lower().replace('_', '')
  whole = own in re.sub(r'[^a-z0-9]', '', path.lower())
  return _WHOLE * whole + len(there & set(_WORD.findall(hub.lower())))


def _has(columns: Iterable[str], there: Dict[str, Any]) -> bool:
  return all(values.base(c, there) in there for c in columns)


def _public(path: str, columns: Sequence[Column],
            rows: Sequence[Dict[str, Any]]) -> list[Fit]:
  """The mappings and suites that fit."""
  there = {c.name: None for c in columns}
  out = []
  for name, mapping in mappings.MAPPINGS.items():
    shown = [*image_columns(mapping.images, there),
             *([mapping.video] if mapping.video else [])]
    seen = sum(values.base(c, there) in there for c in shown)
    # A source may name the column of images.
    images = ','.join(images_in(columns)) if seen < len(shown) else ''
    tried = _tried(mapping, rows) if _has(mapping.columns, there) else None
    if tried and tried[0] and (seen == len(shown) or images):
      out.append(_fit('mapping', name, mapping, path, rows, tried, images))
  lower = {c.lower() for c in there}
  for name, of in suites.BENCHMARKS.items():
    mapping, names = suites.mapping(of), lower if of.lower else {*there}
    optional = {*of.optional, *benchmark.ADDED}
    needed = {c for c in (*mapping.columns, *of.images.split(','), of.video)
              if c and c not in optional}
    if not needed <= names:
      continue
    file = pathlib.Path(path)
    home = str(home_of(file, name, of))
    tried = _tried(mapping, [_of_copy(of, row, i, file, home)
                             for i, row in enumerate(rows)])
    if tried[0]:
      out.append(_fit('suite', name, mapping, path, rows, tried))
  return out


def _fit(kind: str, name: str, mapping: Mapping, path: str,
         rows: Sequence[Dict[str, Any]],
         tried: tuple[int, collections.Counter, collections.Counter],
         images: str = '') -> Fit:
  """A mapping or a suite with its place among others."""
  asked, skipped, refused = tried
  agree = named(name, mapping.source, path)
  strong = bool(agree) or kind == 'mapping' or len(mapping.columns) > _FEW
  return Fit(kind, name, asked, len(rows), dict(skipped), dict(refused),
             images=images, score=(
                 agree >= _WHOLE, 2 * asked >= len(rows), strong, agree,
                 len(mapping.columns)))


def home_of(file: pathlib.Path, name: str, of: Benchmark) -> pathlib.Path:
  """The folder of a copy that holds a file: one above it that has the name of
  the suite, or that of its repository on the hub, or the file's own."""
  for names in ({name, of.shares}, {of.hub.rpartition('/')[2]}):
    alike = {*map(named_alike, names)} - {''}
    above = [named_alike(folder.name) in alike for folder in file.parents]
    if True in above:
      at = above.index(True)
      # The repository DocVQA holds a folder DocVQA.
      while above[at + 1]:
        at += 1
      return file.parents[at]
  return file.parent


def _of_copy(of: Benchmark, row: Dict[str, Any], number: int,
             file: pathlib.Path, home: str) -> dict[str, Any]:
  """A row as data/suites/copies.Rows gives it; of a row of several questions
  the first."""
  told = file.as_posix().lower()
  config = next((name for name, config in of.configs.items()
                 if re.search(config.path, told)), '')
  named_columns = {(c.lower() if of.lower else c): v for c, v in row.items()}
  return {**dict.fromkeys(of.optional), **named_columns,
          benchmark.CONFIG: config,
          benchmark.ROW: number, benchmark.HOME: home,
          benchmark.VARIANT: (of.variants or ('',))[0]}


def _first(names: Sequence[str], rows: Sequence[Dict[str, Any]]) -> str:
  """The first of some columns that every row has, with a value in one."""
  for name in names:
    try:
      held = [values.at(row, name) for row in rows]
    except ValueError:
      continue
    if any(value is not None for value in held):
      return name
  return ''


def _compared(answers: Sequence[Any]) -> str:
  """The kind that compares such gold answers: number, choice, text or math."""
  texts = [str(a).strip() for a in answers if a is not None and str(a).strip()]
  for kind, form in (('number', _VALUE), ('choice', _LETTER),
                     ('text', _WORDS)):
    if texts and all(map(form.fullmatch, texts)):
      return kind
  return 'math'


def _own(columns: Sequence[Column], rows: Sequence[Dict[str, Any]]
         ) -> list[Fit]:
  """A mapping of one's own by the usual names of columns, if it fits."""
  out = []
  shown = ','.join(images_in(columns))
  text, answer = _first(TEXT, rows), _first(ANSWER, rows)
  if text and answer and text != answer:
    fields = {'text': text, 'answer': answer}
    name = _first(NAMES, rows)
    if name:
      fields['id'] = name
    mapping = mappings.of_columns(fields, 'math')
    asked, skipped, refused = _tried(mapping, rows)
    if asked:
      out.append(Fit('columns', 'columns', asked, len(rows), dict(skipped),
                     dict(refused), fields, shown, _compared(
                         [values.at(row, answer) for row in rows]),
                     (False, 2 * asked >= len(rows), True, 0, 0)))
  chats = _first(CHATS, rows)
  if chats and isinstance(values.at(rows[0], chats), list):
    out.append(Fit('conversations', 'conversations', len(rows), len(rows), {},
                   {}, {'messages': chats}, shown, '',
                   (False, True, True, -1, 0)))
  return out


def fits(path: str, columns: Sequence[Column],
         rows: Sequence[Dict[str, Any]]) -> list[Fit]:
  """All that fits some rows, the best first.

  Args:
    path: of the files, whose names may tell the data set.
    columns: of the rows.
    rows: a sample.
  """
  if not rows:
    return []
  own = _own(columns, rows)
  found = _public(str(pathlib.Path(path).expanduser().absolute()), columns,
                  rows)
  found = [dataclasses.replace(fit, score=(*fit.score[:2], False,
                                           *fit.score[3:]))
           if any(_as_plain(fit, mine, rows) for mine in own) else fit
           for fit in found]
  return sorted(found + own, key=lambda fit: fit.score, reverse=True)


def _as_plain(fit: Fit, own: Fit, rows: Sequence[Dict[str, Any]]) -> bool:
  """Whether a mapping of few columns asks what columns of one's own ask, while
  the path says nothing of it."""
  mapping = mappings.MAPPINGS.get(fit.name)
  if (fit.kind != 'mapping' or own.kind != 'columns' or mapping is None
      or fit.score[3] or len(mapping.columns) > _FEW):
    return False
  plain = mappings.of_columns(own.columns, own.answers)
  return fit.asked == own.asked and all(
      _words(mapping, row) == _words(plain, row) for row in rows)


def _words(mapping: Mapping, row: Dict[str, Any]) -> tuple[str, str]:
  """The question and the gold answer of a row; both '' for a bad one."""
  try:
    words = checked(mapping.read(row))
  except Exception:  # as in _tried
    return '', ''
  return ('', '') if why_not(words) else (words.text, words.answer)
