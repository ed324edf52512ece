"""What files of rows hold, and which mapping or suite fits them (`zppo data`).

Nothing here imports jax. Columns are those of a sample of rows; the counts of a
fit are of all rows, or of as many as the caller allows.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zppo_jax import allowed
from zppo_jax.chat.wording import Chat
from zppo_jax.data import filters, mappings, readers, sources, suites
from zppo_jax.data.contents import files, fits
from zppo_jax.data.contents.columns import Column, columns_of, images_in
from zppo_jax.data.contents.examples import Example, example, save
from zppo_jax.data.contents.files import Part, Survey
from zppo_jax.data.contents.fits import Fit
from zppo_jax.verdicts import verifier

_WHOLE, _SPREAD = 24, 8  # rows of a sample: the first, and others


@dataclasses.dataclass(frozen=True)
class Counted:
  """The rows of a part, as a fit reads them.

  Attributes:
    looked: rows that were read.
    all: rows of the part; one of several questions counts as several.
    asked: rows that become questions.
    skipped: reason -> rows.
    refused: reason -> rows, each of which would end a run.
    first_refused: the first error, with its file and row; '' without one.
    unreadable: rows whose gold answer is not of its kind.
    kinds: kind -> questions.
    subsets: subset -> questions, if rows name one.
    twice: the first name that two rows have; '' if names are unique.
    unshown: why the pictures of a question that should be shown cannot be
      read; '' if they can.
  """
  looked: int
  all: int
  asked: int
  skipped: dict[str, int]
  refused: dict[str, int]
  first_refused: str
  unreadable: int
  kinds: dict[str, int]
  subsets: dict[str, int]
  twice: str
  unshown: str


@dataclasses.dataclass(frozen=True)
class Described:
  """A part and what was found in it.

  Attributes:
    part: its files.
    rows: their number; 0 if it cannot be read.
    error: why it cannot be read; '' if it can.
    columns: of a sample of its rows.
    fits: the best first.
    counted: by the fit that was taken; None if nothing fits.
    examples: questions as a model would be asked them.
  """
  part: Part
  rows: int
  error: str = ''
  columns: tuple[Column, ...] = ()
  fits: tuple[Fit, ...] = ()
  counted: Counted | None = None
  examples: tuple[Example, ...] = ()


@dataclasses.dataclass(frozen=True)
class Contents:
  """What `zppo data` found: the files, and each part of them."""
  survey: Survey
  parts: tuple[Described, ...]


class _Rows:
  """The rows of several files, each of which may have its own columns."""

  def __init__(self, of: Sequence[readers.Reader]):
    self.readers = of
    self._lengths = [len(reader) for reader in of]

  def __len__(self) -> int:
    return sum(self._lengths)

  def __getitem__(self, index: int) -> dict[str, Any]:
    for reader, length in zip(self.readers, self._lengths, strict=True):
      if index < length:
        return reader[index]
      index -= length
    raise IndexError(index)


def _open(part: Part, most: int, leave_out: Sequence[str] = ()
          ) -> list[readers.Reader]:
  """A reader of each file of a part; of a part that `datasets` saved, one."""
  if part.form == 'hf':
    return [readers.open_reader(part.form, part.path, leave_out, most)]
  return [readers.open_reader(part.form, file, leave_out, most)
          for file in part.files]


def _by_columns(part: Part, of: Sequence[readers.Reader]
                ) -> list[tuple[Part, list[readers.Reader]]]:
  """Parts of files that share at least half of their columns.

  Files of one data set may differ in a few columns; those of two data sets in
  one folder have hardly any in common.
  """
  if len(of) == 1:
    return [(part, list(of))]
  groups: list[tuple[set[str], list[int]]] = []
  for i, reader in enumerate(of):
    own = set(reader.columns)
    for columns, members in groups:
      if 2 * len(own & columns) >= len(own | columns):
        members.append(i)
        columns |= own
        break
    else:
      groups.append((own, [i]))
  return [(files.some(part, members), [of[i] for i in members])
          for _, members in groups]


def _sample(part: Part, rows: _Rows, most: int
            ) -> tuple[tuple[Column, ...], list[dict[str, Any]]]:
  """(columns, rows) of a sample: the first rows as they are, and rows from all
  over the part without their images, which are null there."""
  first = [rows[i] for i in range(min(_WHOLE, len(rows)))]
  rest = range(len(first), len(rows))
  if not rest:
    return columns_of(first), first
  images = images_in(columns_of(first))
  light = _Rows(_open(part, most, images)) if images else rows
  at = sorted({rest[i * (len(rest) - 1) // max(1, _SPREAD - 1)]
               for i in range(_SPREAD)})
  others = [light[i] for i in at]
  without = [{c: v for c, v in row.items() if c not in images}
             for row in others]
  return columns_of([*first, *without]), [*first, *(
      {**row, **{c: None for c in images}} for row in without)]


def _source(part: Part, path: str, fit: Fit, most: int) -> sources.Source:
  """The open source of a fit over the files at a path."""
  bounds = sources.Bounds(max_bytes=most)
  if fit.kind == 'suite':
    home = fits.home_of(pathlib.Path(part.files[0]), fit.name,
                        suites.get(fit.name))
    return suites.open_home(fit.name, home, bounds)
  of = ({'mapping': fit.name} if fit.kind == 'mapping' else
        {'columns': fit.columns, 'kind': fit.answers})
  return sources.Source(sources.Spec(
      files.name_of(part), part.form, path, images=fit.images, **of),
      bounds=bounds)


def _questions(part: Part, fit: Fit, most: int
               ) -> Iterator[tuple[sources.Source, int]]:
  """Yields (source, row) of every row of a part."""
  whole = part.path or fit.kind == 'suite'
  for path in [part.path] if whole else part.files:
    source = _source(part, path, fit, most)
    for index in range(len(source)):
      # The copy of a suite may hold other files.
      if fit.kind != 'suite' or source.file(index) in part.files:
        yield source, index


class _Count:
  """Counts rows under a fit; `add` takes one after the other."""

  def __init__(self) -> None:
    self.asked, self.unreadable, self.looked = 0, 0, 0
    self.skipped: collections.Counter = collections.Counter()
    self.refused: collections.Counter = collections.Counter()
    self.kinds: collections.Counter = collections.Counter()
    self.subsets: collections.Counter = collections.Counter()
    self.first_refused, self.twice, self.unshown = '', '', ''
    self._ids: set[str] = set()
    self._texts: set[tuple[sources.Source, bytes]] = set()

  def add(self, source: sources.Source, index: int) -> bool:
    """Counts a row; whether it is asked."""
    self.looked += 1
    try:
      words = source.mapped(index)
      why = sources.why_not(words) or self._repeated(source, words)
      question = None if why else source.words(index, words)
      bad = question is not None and bool(
          verifier.check_golds([question]).unreadable)
    except (KeyError, ValueError, OSError) as e:
      text = sources.ascii_name(e)
      self.first_refused = self.first_refused or text
      self.refused[fits.reason(
          text.removeprefix(f'{source.where(index)}: '))] += 1
      return False
    if question is None:
      self.skipped[fits.reason(why)] += 1
      return False
    self.asked += 1
    self.unreadable += bad
    self.kinds[question.kind] += 1
    if words.subset:
      self.subsets[words.subset] += 1
    if question.id in self._ids:
      self.twice = self.twice or question.id
    self._ids.add(question.id)
    return True

  def _repeated(self, source: sources.Source, words: mappings.Mapped) -> str:
    """Why a text is left out that its source asks once; '' if it is asked."""
    if not source.mapping.distinct:
      return ''
    text = (source, filters.text_hash(words.text))
    if text in self._texts:
      return sources.REPEATED
    self._texts.add(text)
    return ''

  def counted(self, rows: int) -> Counted:
    plain = lambda of: dict(of.most_common())
    return Counted(
        looked=self.looked, all=rows, asked=self.asked,
        skipped=plain(self.skipped), refused=plain(self.refused),
        first_refused=self.first_refused, unreadable=self.unreadable,
        kinds=plain(self.kinds), subsets=plain(self.subsets), twice=self.twice,
        unshown=self.unshown)


@dataclasses.dataclass(frozen=True)
class Options:
  """What a caller wants to see.

  Attributes:
    mapping, suite: the fit to take; '' takes the best one.
    rows: the most rows of a part that are counted under the fit; 0: all.
    show: questions of a part that are shown.
    to: a folder for their pictures; None saves none.
    chat: of a model, which counts tokens; None counts none.
    max_bytes: the most bytes that a line or a row group may unpack to.
  """
  mapping: str = ''
  suite: str = ''
  rows: int = 10_000
  show: int = 1
  to: pathlib.Path | None = None
  chat: Chat | None = None
  max_bytes: int = readers.MOST_BYTES

  def __post_init__(self) -> None:
    if self.mapping and self.suite:
      raise ValueError(f'--mapping is {self.mapping!r} and --suite is '
                       f'{self.suite!r}; name one of them')
    if self.mapping:
      mappings.get(self.mapping)
    if self.suite:
      suites.get(self.suite)
    allowed.number('rows', self.rows, '>= 0', whole=True)
    allowed.number('show', self.show, '>= 0', whole=True)


def _chosen(found: Sequence[Fit], options: Options) -> Fit | None:
  """The fit that counts: the one that is named, or the best."""
  name = options.mapping or options.suite
  if not name:
    return next((f for f in found if f.kind != 'conversations'), None)
  kind = 'mapping' if options.mapping else 'suite'
  return next((f for f in found if (f.kind, f.name) == (kind, name)),
              Fit(kind, name, 0, 0, {}, {}))


def _counted(part: Part, fit: Fit, rows: int, options: Options, number: int
             ) -> tuple[Counted, tuple[Example, ...]]:
  """The rows of a part under a fit, and the first questions.

  Args:
    rows: of the part.
    number: of the part, which begins the names of saved pictures.
  """
  count = _Count()
  shown: list[Example] = []
  for source, index in _questions(part, fit, options.max_bytes):
    if options.rows and count.looked >= options.rows:
      break
    if not count.add(source, index) or len(
        shown) >= options.show or count.unshown:
      continue
    try:
      question = source.question(index)
    except (ValueError, OSError) as e:
      count.unshown = sources.ascii_name(e)
      continue
    saved = () if options.to is None else save(
        question, options.to / f'part-{number}', len(shown))
    shown.append(example(question, source.where(index), options.chat,
                                  saved))
  several = (len(suites.get(fit.name).variants) if fit.kind == 'suite' else 0)
  return count.counted(rows * max(1, several)), tuple(shown)


def _described(part: Part, of: Sequence[readers.Reader], number: int,
               options: Options) -> Described:
  rows = _Rows(of)
  try:
    columns, sample = _sample(part, rows, options.max_bytes)
  except (KeyError, ValueError, OSError) as e:
    return Described(part, len(rows), error=sources.ascii_name(e))
  found = fits.fits(part.files[0], columns, sample)
  fit = _chosen(found, options)
  if fit is None:
    return Described(part, len(rows), columns=columns, fits=tuple(found))
  rest = tuple(f for f in found if f is not fit)
  while fit is not None and fit.kind != 'conversations':
    try:
      counted, shown = _counted(part, fit, len(rows), options, number)
    except (KeyError, ValueError, FileNotFoundError):
      # The files of a suite may be of another split, or tell no config.
      if fit.kind != 'suite' or options.suite:
        raise
      fit, rest = (rest[0], rest[1:]) if rest else (None, ())
    else:
      return Described(part, len(rows), columns=columns, fits=(fit, *rest),
                       counted=counted, examples=shown)
  return Described(part, len(rows), columns=columns,
                   fits=rest if fit is None else (fit, *rest))


def describe(path: str, options: Options | None = None) -> Contents:
  """What files hold and which mapping or suite fits them.

  Args:
    path: a file, a folder, or `FOLDER:SPLIT` of a TFDS builder or of a
      DatasetDict that `datasets` saved.
    options: what to show; None takes the defaults.

  Raises:
    FileNotFoundError: if nothing is there.
    KeyError, ValueError: for a name that is not known, for a folder without
      rows, or if no part can be read.
  """
  options = options or Options()
  survey = files.survey(path)
  parts: list[Described] = []
  for whole in survey.parts:
    try:
      opened = _open(whole, options.max_bytes)
    except (KeyError, ValueError, OSError) as e:
      parts.append(Described(whole, 0, error=sources.ascii_name(e)))
      continue
    for part, of in _by_columns(whole, opened):
      parts.append(_described(part, of, len(parts), options))
  if all(of.error for of in parts):
    raise ValueError(parts[0].error)
  return Contents(survey, tuple(parts))


def plain(contents: Contents) -> Mapping[str, Any]:
  """The contents as JSON values."""
  survey = contents.survey
  return {
      'root': str(survey.root), 'others': survey.others,
      'unread': survey.unread,
      'parts': [dataclasses.asdict(part) for part in contents.parts]}
