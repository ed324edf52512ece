"""Sources of a config as one pool of questions that are read when asked for.

  sources = dict(mine=dict(format='parquet', path='data/mine', ...), ...)

Opening reads every row's words once (its images only where a filter needs
them), applies the filters and keeps a name and a number a question.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping as Dict, Sequence
from typing import Any

from zppo_jax import allowed
from zppo_jax.data import digest, filters, mappings, media, readers, values
from zppo_jax.data.filters import Candidate
from zppo_jax.data.mappings import Mapped, Mapping, mapping as rows
from zppo_jax.records import Question
from zppo_jax.verdicts import kinds

ROWS = 'rows'  # of counts: what was read
SKIPPED = 'skipped'  # by the mapping
PLACES = ('check', 'strip', 'text')


@dataclasses.dataclass(frozen=True)
class Bounds:
  """What files of data may reach and take.

  Attributes:
    media_roots: folders outside of the data's own that images may lie in.
    max_bytes: that a line, a row group or a record may unpack to.
  """
  media_roots: tuple[str, ...] = ()
  max_bytes: int = readers.MOST_BYTES

  def __post_init__(self):
    allowed.number('data.pool.max_bytes', self.max_bytes, '>= 1', whole=True,
                   note=' of bytes')


def roots(given, where: str) -> tuple[str, ...]:
  """Folders of a config, one or several; ValueError for what is no path."""
  several = [given] if isinstance(given, str | pathlib.Path) else list(given)
  for root in several:
    if not isinstance(root, str | pathlib.Path) or not str(root):
      raise ValueError(f'{where}.media_roots holds {root!r}; allowed: folders')
  return tuple(map(str, several))


@dataclasses.dataclass(frozen=True)
class Spec:
  """A source in a config.

  Attributes:
    name: its key.
    format: in readers.READERS.
    path: as the reader takes it.
    mapping: in mappings.MAPPINGS, or '' with columns.
    columns: field -> column or path into one, of a mapping of your own.
    kind: how answers are compared; '' leaves it to the mapping.
    images: column, or several with commas; '' leaves it to the mapping.
    video: column; '' leaves it to the mapping.
    fps: of a video's frames, where its rows do not say.
    folder: of relative paths in rows; '' is the reader's.
    split: label of the questions; '' is the source's name.
    weight: share of draws in a mixture, > 0 (see loader.QuestionLoader).
    filters: name -> value, of this source alone.
    media_roots: folders besides `folder` in which images may lie.
    places: what is done with <image> and <video> in a text: 'check' compares
      their number with what is shown and takes them out, 'strip' does not
      compare, 'text' leaves them where the mapping does.
  """
  name: str
  format: str
  path: str
  mapping: str = ''
  columns: Dict[str, str] = dataclasses.field(default_factory=dict)
  kind: str = ''
  images: str = ''
  video: str = ''
  fps: float = 2.0
  folder: str = ''
  split: str = ''
  weight: float = 1.0
  filters: Dict[str, Any] = dataclasses.field(default_factory=dict)
  media_roots: Sequence[str] = ()
  places: str = 'check'

  def __post_init__(self):
    where = f'data.pool.sources.{self.name}'
    if bool(self.mapping) == bool(self.columns):
      raise ValueError(f'{where}: one of mapping and columns is needed; '
                       f'mappings: {", ".join(mappings.MAPPINGS)}')
    allowed.number(f'{where}.weight', self.weight, '> 0')
    fps = f'{where}.fps'
    allowed.number(fps, values.number(self.fps, fps), '> 0')
    allowed.one_of(f'{where}.places', self.places, PLACES)
    roots(self.media_roots, where)
    filters.check(self.filters, f'{where}.filters')


def spec(name: str, fields) -> Spec:
  """A Spec of a config's fields; KeyError names the known ones."""
  known = [f.name for f in dataclasses.fields(Spec) if f.name != 'name']
  for field in fields:
    allowed.one_of(f'field of data.pool.sources.{name}:', field, known)
  for field in ('format', 'path'):
    if field not in fields:
      raise KeyError(f'data.pool.sources.{name} lacks {field!r}')
  return Spec(name, **{f: fields[f] for f in fields})


def _nothing(value) -> bool:
  return value is None or isinstance(value, str) and not value


class Source:
  """An open source: rows by number as questions.

  Raises:
    KeyError: for an unknown format or mapping, or columns that the files do
      not have, naming file, column and what is there.
    FileNotFoundError, ValueError: as the reader.
  """

  def __init__(self, of: Spec, store: pathlib.Path | None = None,
               mapping: Mapping | None = None, bounds: Bounds | None = None):
    self.of, self.store = of, store
    bounds = bounds or Bounds()
    self.mapping = mapping or (
        mappings.get(of.mapping) if of.mapping
        else mappings.of_columns(of.columns, of.kind))
    self.images = tuple(
        c for c in (of.images or self.mapping.images).split(',') if c)
    self.video = of.video or self.mapping.video
    self._shown = (*self.images, *([self.video] if self.video else []))
    self._rows = readers.open_reader(of.format, of.path,
                                     most=bounds.max_bytes)
    if not len(self._rows):
      raise ValueError(f'data.pool.sources.{of.name}: {of.path} holds no rows')
    there = dict.fromkeys(self._rows.columns)
    needed = {values.base(c, there) for c in self.mapping.columns}
    self._words = readers.open_reader(of.format, of.path, tuple(
        c for c in (values.base(c, there) for c in self._shown)
        if c not in needed), bounds.max_bytes)
    self.folder = (pathlib.Path(of.folder).expanduser() if of.folder
                   else self._rows.folder)
    self._media = dict(roots=(*bounds.media_roots, *roots(
        of.media_roots, f'data.pool.sources.{of.name}')))
    self._check(there, 0, (*self.mapping.columns, *self._shown))

  def __len__(self) -> int:
    return len(self._rows)

  def where(self, index: int) -> str:
    """File and row."""
    return self._rows.where(index)

  def file(self, index: int) -> str:
    return self._rows.file(index)

  def _check(self, row, index: int, columns) -> None:
    missing = [c for c in columns if values.base(c, row) not in row]
    if missing:
      raise KeyError(
          f'{self._rows.where(index)}: no column '
          f'{", ".join(map(repr, missing))}, which the source '
          f'{self.of.name!r} reads; columns there: '
          f'{", ".join(map(ascii_name, row))}{self._doubt(missing)}')

  def _doubt(self, columns) -> str:
    """What is said beside a fault if nobody could confirm these columns."""
    found = [repr(c) for c in columns if c in self.mapping.unconfirmed]
    return (f'; no public description was found for {", ".join(found)}'
            if found else '')

  def mapped(self, index: int) -> Mapped:
    """The words of a row."""
    row = self._words[index]
    self._check(row, index, self.mapping.columns)
    try:
      made = rows.checked(self.mapping.read(row), self.of.places)
    # A row of another schema makes a mapping raise almost anything.
    except Exception as e:
      raise ValueError(
          f'{self._rows.where(index)}: not of the mapping '
          f'{self.of.mapping or "columns"!r}: {type(e).__name__}: '
          f'{ascii_name(e)}{self._doubt(self.mapping.columns)}') from e
    if self.of.kind:
      made = made._replace(kind=self.of.kind)
    else:
      self._check_kind(made.kind, index)
    if not made.skip and all(values.base(c, row) in row for c in self._shown):
      self._compare(index, made, row)
    return made

  def _check_kind(self, kind: str, index: int) -> None:
    """A row may name a kind of the table, no function: `module:function`
    imports code, which is the config's to say and not a data file's."""
    if kind and kind not in (*kinds.KINDS, kinds.JUDGE):
      raise ValueError(
          f'{self._rows.where(index)}: the row\'s kind is {kind[:80]!r}; '
          f'allowed in a row: {", ".join((*kinds.KINDS, kinds.JUDGE))}. '
          'A function of your own is named in the config alone: '
          f'data.pool.sources.{self.of.name}.kind')

  def _compare(self, index: int, made: Mapped, row) -> None:
    """ValueError where placeholders and what is shown differ in number."""
    if self.of.places != 'check':
      return
    try:
      video = values.at(row, self.video) if self.video else None
      rows.check_places(
          made.places,
          len(made.images) + sum(media.count(values.at(row, c))
                                 for c in self.images),
          len(made.videos) + (not _nothing(video)))
    except ValueError as e:
      raise ValueError(f'{self._rows.where(index)}: {e}') from None

  def show(self, index: int, made: Mapped | None = None):
    """The images and videos of a row, whose words may be given."""
    made = self.mapped(index) if made is None else made
    if not (self._shown or made.images or made.videos):
      return ()
    row, more = {}, dict(self._media, where=self._rows.where(index))
    if self._shown:
      row = self._rows[index]
      self._check(row, index, self._shown)
    self._compare(index, made, row)
    try:
      shown = [values.at(row, c) for c in self.images]
      out = tuple(p for value in (*shown, list(made.images))
                  for p in media.pictures(value, self.folder, self.store,
                                          **more))
      video = values.at(row, self.video) if self.video else None
      for value in (video, *made.videos):
        if not _nothing(value):
          out += (media.clip(value, self.folder, self.of.fps, self.store,
                             **more),)
    except FileNotFoundError as e:
      raise FileNotFoundError(
          f'{self._rows.where(index)}: {ascii_name(e)}') from e
    # Whatever a broken image raises, its row is named.
    except Exception as e:
      said = ascii_name(e).removeprefix(f'{self._rows.where(index)}: ')
      raise ValueError(f'{self._rows.where(index)}: {said}') from e
    return out

  def id_of(self, index: int, made: Mapped) -> str:
    return f'{self.of.name}/{made.id or index}'

  def words(self, index: int, made: Mapped | None = None) -> Question:
    """A row's question without its images and videos."""
    made = self.mapped(index) if made is None else made
    return Question(
        self.id_of(index, made), made.text, made.answer,
        self.of.split or self.of.name, (), made.kind, self.of.name, made.hint,
        made.responses)

  def question(self, index: int) -> Question:
    made = self.mapped(index)
    return dataclasses.replace(self.words(index, made),
                               media=self.show(index, made))

  def candidates(self, counts) -> list[Candidate]:
    """Rows that can be asked and pass the source's own filters."""
    out, name = [], self.of.name
    counts.setdefault(ROWS, {})[name] = len(self)
    skipped = counts.setdefault(SKIPPED, {})
    skipped[name] = 0
    for index in range(len(self)):
      made = self.mapped(index)
      if made.skip or not made.text.strip() or not made.answer.strip():
        skipped[name] += 1
        continue
      out.append(Candidate(
          name, index, self.id_of(index, made), made.subset, len(made.text),
          len(made.answer), made.pass_rate, filters.text_hash(made.text),
          functools.partial(self.show, index),
          digest.of_words(self.words(index, made)),
          not (self._shown or made.images or made.videos)))
    return filters.apply(out, self.of.filters, counts)


class Pool(Sequence):
  """Questions of several sources by number; each is read when asked for.

  Attributes:
    ids: of the questions, in order.
    parts: the number of questions of each source, in order.
    weights: of each source in a mixture; None draws questions alike.
    counts: what was read, skipped and left out: name -> source -> number.
    digests: (source, row) -> digest, of questions whose images were read.
    tracks: whether what is read is put there.
  """
  tracks = False

  def __init__(self, sources: Sequence[Source], wanted: Dict[str, Any],
               mix: bool = False):
    filters.check(wanted, 'data.pool.filters')
    self.counts: dict[str, dict[str, int]] = {}
    found = [c for source in sources for c in source.candidates(self.counts)]
    _check_ids(found, sources)
    found = filters.apply(found, wanted, self.counts)
    kept = {s.of.name: 0 for s in sources}
    for c in found:
      kept[c.source] += 1
    empty = [name for name, count in kept.items() if not count]
    if empty:
      raise ValueError(f'no question of {", ".join(empty)} is left; '
                       f'{account(self.counts, kept)}')
    self.kept = kept
    self.ids = tuple(c.id for c in found)
    self.parts = tuple(kept.values())
    self.weights = tuple(s.of.weight for s in sources) if mix else None
    self._sources = {s.of.name: s for s in sources}
    self._at = [(c.source, c.row) for c in found]
    self._words = {(c.source, c.row): c.words for c in found}
    self.digests = {(c.source, c.row): digest.of_media(c.words, ())
                    for c in found if c.bare}

  def __len__(self) -> int:
    return len(self._at)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return [self[i] for i in range(*index.indices(len(self)))]
    name, row = self._at[index]
    made = self._sources[name].question(row)
    if self.tracks:
      self._note(name, row, made)
    return made

  def _note(self, name: str, row: int, made: Question) -> None:
    if (name, row) not in self.digests:
      self.digests[name, row] = digest.of_media(self._words[name, row],
                                                made.media)

  def contents(self) -> list[bytes]:
    """Digests of all questions in order; their words are those of the opening,
    images that were not read yet are read."""
    for i, at in enumerate(self._at):
      if at not in self.digests:
        self._note(*at, self[i])
    return [self.digests[at] for at in self._at]

  def where(self, index: int) -> str:
    """File and row of a question."""
    name, row = self._at[index]
    return self._sources[name].where(row)

  def files(self) -> list[str]:
    """The file of each question, with its source's name before it."""
    return [f'{name}: {self._sources[name].file(row)}'
            for name, row in self._at]

  def words(self) -> Iterator[Question]:
    """All questions without their images and videos, one by one."""
    for name, row in self._at:
      yield self._sources[name].words(row)

  def keep(self, name: str, indices: Sequence[int]) -> 'Pool':
    """A pool of some of the questions; the others are counted as `name`."""
    out = object.__new__(Pool)
    kept = {source: 0 for source in self.kept}
    for i in indices:
      kept[self._at[i][0]] += 1
    out.counts = {**self.counts, name: {
        s: self.kept[s] - kept[s] for s in kept}}
    out.kept, out.weights, out._sources = kept, self.weights, self._sources
    out.digests, out._words = self.digests, self._words
    out.tracks = self.tracks
    out.parts = tuple(kept.values())
    out.ids = tuple(self.ids[i] for i in indices)
    out._at = [self._at[i] for i in indices]
    return out

  def record(self) -> dict:
    """What a run's data.json holds."""
    return {'counts': self.counts, 'kept': self.kept}

  def account(self) -> str:
    return account(self.counts, self.kept)


def _check_ids(found: Sequence[Candidate], sources: Sequence[Source]) -> None:
  of = {s.of.name: s for s in sources}
  seen: dict[str, Candidate] = {}
  for c in found:
    other = seen.setdefault(c.id, c)
    if other is not c:
      raise ValueError(
          f'two questions are called {c.id!r}: rows {other.row} and {c.row} of '
          f'the source {c.source!r} ({of[other.source].where(other.row)}; '
          f'{of[c.source].where(c.row)})')


def account(counts, kept) -> str:
  """A line a source: rows, what was left out by what, and what stays."""
  return '\n'.join(
      ', '.join([f'{name}: {counts[ROWS][name]} rows',
                 *(f'{of[name]} by {what}' if what != SKIPPED
                   else f'{of[name]} skipped'
                   for what, of in counts.items()
                   if what != ROWS and of.get(name)),
                 f'{kept[name]} kept']) for name in kept)


def ascii_name(value) -> str:
  """A text of a file that may go into an error; KeyError's quotes go."""
  text = value.args[0] if isinstance(value, KeyError) and value.args else value
  return str(text).encode('utf-8', 'backslashreplace').decode()


def open_pool(sources, wanted: Dict[str, Any], store: str = '',
              bounds: Bounds | None = None) -> Pool:
  """The pool of a config; a mixture if a source of it has a weight.

  Args:
    sources: name -> fields of Spec.
    wanted: filter -> value, over all sources.
    store: a folder for images that come as bytes; '' keeps them in memory.
    bounds: of all sources; None takes the defaults.

  Raises:
    KeyError, ValueError, FileNotFoundError: naming what does not fit.
  """
  if not sources:
    raise ValueError('data.pool.sources is empty; name at least one')
  folder = pathlib.Path(store).expanduser() if store else None
  return Pool([Source(spec(name, sources[name]), folder, bounds=bounds)
               for name in sources], wanted,
              any('weight' in sources[name] for name in sources))
