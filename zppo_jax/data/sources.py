"""A source of a config: rows of files as questions.

  sources = dict(mine=dict(format='parquet', path='data/mine', ...), ...)

Opening a source reads sizes and names; `candidates` reads the words of every
row once, and no pictures: whether a row has any, the reader tells.
"""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Mapping as Dict, Sequence
from typing import Any, TypeVar

from zppo_jax import allowed
from zppo_jax.data import digest, filters, mappings, media, readers, values
from zppo_jax.data.filters import Candidate
from zppo_jax.data.mappings import Mapped, Mapping
from zppo_jax.data.mappings.mapping import check_places, checked, image_columns
from zppo_jax.devices import hosts
from zppo_jax.records import Clip, Picture, Question
from zppo_jax.verdicts import kinds

# Names in the counts of a pool.
ROWS = 'rows'  # rows that were read
SKIPPED = 'skipped'  # rows that the mapping skipped
REPEATED = 'a repeated text'  # of a mapping that asks a text once
# Why a row is skipped whose mapping gives no reason.
NO_QUESTION, NO_GOLD = 'no question', 'no gold'
NO_PICTURE = 'no picture'  # of a mapping that needs one
PLACES = ('check', 'strip', 'text')
AnySpec = TypeVar('AnySpec')


@dataclasses.dataclass(frozen=True)
class Bounds:
  """Bounds on what is read for data files.

  Attributes:
    media_roots: folders besides that of the data in which images may lie.
    max_bytes: the most bytes to which a line, a row group or a record may
      unpack.
  """
  media_roots: tuple[str, ...] = ()
  max_bytes: int = readers.MOST_BYTES

  def __post_init__(self) -> None:
    allowed.number('data.pool.max_bytes', self.max_bytes, '>= 1', whole=True,
                   note=' of bytes')


def roots(given: str | pathlib.Path | Iterable[str | pathlib.Path],
          where: str) -> tuple[str, ...]:
  """One folder of a config or several; ValueError for a value that is none."""
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
    path: in the form that the reader takes.
    mapping: in mappings.MAPPINGS; '' if `columns` maps the rows.
    columns: field -> column or path into one, for a mapping of your own.
    kind: how answers are compared; '' leaves it to the mapping.
    images: a column, or several with commas; '' leaves it to the mapping.
    video: a column; '' leaves it to the mapping.
    fps: frames per second of videos whose rows do not give it.
    folder: where relative paths in rows begin; '' takes the reader's folder.
    split: the label of the questions; '' takes the source's name.
    weight: the share of draws in a mixture, > 0 (see loader.QuestionLoader).
    filters: name -> value, for this source alone.
    media_roots: folders besides `folder` in which images may lie.
    rank: sources are read in the order of their ranks, and of equal ranks in
      that of the config, which sorts names. The first of several sources that
      hold a question or a subset keeps it.
    places: says what happens to <image> and <video> in a text: 'check' compares
      their number with that of the media and takes them out, 'strip' takes them
      out, 'text' leaves them where the mapping does.
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
  rank: int = 0

  def __post_init__(self) -> None:
    where = f'data.pool.sources.{self.name}'
    if bool(self.mapping) == bool(self.columns):
      raise ValueError(f'{where}: one of mapping and columns is needed; '
                       f'mappings: {", ".join(mappings.MAPPINGS)}')
    allowed.number(f'{where}.weight', self.weight, '> 0')
    fps = f'{where}.fps'
    allowed.number(fps, values.number(self.fps, fps), '> 0')
    allowed.one_of(f'{where}.places', self.places, PLACES)
    allowed.number(f'{where}.rank', self.rank, '>= 0', whole=True)
    roots(self.media_roots, where)
    filters.check(self.filters, f'{where}.filters')


def read_spec(kind: Callable[..., AnySpec], where: str, name: str,
              fields: Dict[str, Any]) -> AnySpec:
  """A description of a source from the fields of a config.

  Args:
    kind: its dataclass; the first field is `name`.
    where: the config section that holds it, for errors.
    name: the source's name.
    fields: the section's values.

  Raises:
    KeyError: for an unknown field, with the known ones, and for a missing
      `format` or `path`.
  """
  known = [f.name for f in dataclasses.fields(kind)  # type: ignore[arg-type]
           if f.name != 'name']
  for field in fields:
    allowed.one_of(f'field of {where}.{name}:', field, known)
  for field in ('format', 'path'):
    if field not in fields:
      raise KeyError(f'{where}.{name} lacks {field!r}')
  return kind(name=name, **{f: fields[f] for f in fields})


def spec(name: str, fields: Dict[str, Any]) -> Spec:
  """A Spec from the fields of a config; errors as those of `read_spec`."""
  return read_spec(Spec, 'data.pool.sources', name, fields)


def _nothing(value: Any) -> bool:
  return value is None or isinstance(value, str) and not value


def why_not(words: Mapped) -> str:
  """The reason why a row is skipped; '' if it is asked."""
  if words.skip:
    return words.skip
  if not words.text.strip():
    return NO_QUESTION
  return '' if words.answer.strip() else NO_GOLD


class Source:
  """An open source of a pool: its rows by number, as questions.

  Args:
    of: its description.
    store: a folder for images that come as bytes; None keeps them in memory.
    mapping: of its rows; None takes that of `of`.
    bounds: on what is read; None takes the defaults.
    rows: (leave_out, most) -> the reader; None opens that of `of`.

  Attributes:
    skipped: reason -> rows, once `candidates` was called.

  Raises:
    KeyError: for an unknown format or mapping, or for columns that the files
      lack; it names the file, the column and the columns that are there.
    FileNotFoundError, ValueError: as the reader.
  """

  def __init__(self, of: Spec, store: pathlib.Path | None = None,
               mapping: Mapping | None = None, bounds: Bounds | None = None,
               rows: Callable[..., readers.Reader] | None = None):
    self.of, self.store = of, store
    self.skipped: collections.Counter[str] = collections.Counter()
    bounds = bounds or Bounds()
    opened = rows or functools.partial(readers.open_reader, of.format, of.path)
    self.mapping = mapping or (
        mappings.get(of.mapping) if of.mapping
        else mappings.of_columns(of.columns, of.kind))
    self.video = of.video or self.mapping.video
    self._rows = opened(most=bounds.max_bytes)
    if not len(self._rows):
      raise ValueError(f'data.pool.sources.{of.name}: {of.path} holds no rows')
    there = dict.fromkeys(self._rows.columns)
    self.images = image_columns(of.images or self.mapping.images, there)
    # A reader that tells whether a row has pictures; one of paths cannot.
    self._counting = (self._rows if isinstance(self._rows, readers.Counting)
                      and {*self.images} <= {*there} else None)
    self._shown = (*self.images, *([self.video] if self.video else []))
    needed = {values.base(c, there) for c in self.mapping.columns}
    self._words = opened(leave_out=tuple(
        c for c in (values.base(c, there) for c in self._shown)
        if c not in needed), most=bounds.max_bytes)
    self.folder = (pathlib.Path(of.folder).expanduser() if of.folder
                   else self._rows.folder)
    self._roots = (*bounds.media_roots, *roots(
        of.media_roots, f'data.pool.sources.{of.name}'))
    self._check(there, 0, (*self.mapping.columns, *self._shown))

  def __len__(self) -> int:
    return len(self._rows)

  def where(self, index: int) -> str:
    """The file and the row, for errors."""
    return self._rows.where(index)

  def file(self, index: int) -> str:
    return self._rows.file(index)

  def _check(self, row: Dict[str, Any], index: int,
             columns: Sequence[str]) -> None:
    missing = [c for c in columns if values.base(c, row) not in row]
    if missing:
      raise KeyError(
          f'{self._rows.where(index)}: no column '
          f'{", ".join(map(repr, missing))}, which the source '
          f'{self.of.name!r} reads; columns there: '
          f'{", ".join(map(ascii_name, row))}{self._doubt(missing)}')

  def _doubt(self, columns: Sequence[str]) -> str:
    """The end of an error about columns that no public description confirms."""
    names = [repr(c) for c in columns if c in self.mapping.unconfirmed]
    return (f'; no public description was found for {", ".join(names)}'
            if names else '')

  def mapped(self, index: int) -> Mapped:
    """The words of a row."""
    row = self._words[index]
    self._check(row, index, self.mapping.columns)
    try:
      words = checked(self.mapping.read(row), self.of.places)
    # A row of another schema makes a mapping raise almost anything.
    except Exception as e:
      raise ValueError(
          f'{self._rows.where(index)}: not of the mapping '
          f'{self.of.mapping or "columns"!r}: {type(e).__name__}: '
          f'{ascii_name(e)}{self._doubt(self.mapping.columns)}') from e
    if self.of.kind:
      words = words._replace(kind=self.of.kind)
    else:
      self._check_kind(words.kind, index)
    if (self.mapping.pictured and not why_not(words)
        and not self._has_pictures(index, words, row)):
      return words._replace(skip=NO_PICTURE)
    if not words.skip and all(values.base(c, row) in row for c in self._shown):
      self._compare(index, words, row)
    return words

  def _has_pictures(self, index: int, words: Mapped,
                    row: Dict[str, Any]) -> bool:
    """Whether a row has a picture, and all that its words number.

    Args:
      index: of the row.
      words: of the row.
      row: what was read for them, which may lack the columns of pictures.
    """
    least = max(1, words.places.last_image if words.places
                and self.of.places == 'check' else 0)
    if not all(values.base(c, row) in row for c in self.images):
      if self._counting is not None:
        there = len(words.images) + self._counting.held(index, self.images)
        return there >= least
      row = self._rows[index]
    # Some JSON leaves out what is null.
    there = len(words.images) + sum(
        values.held(values.at(row, c)) for c in self.images
        if values.base(c, row) in row)
    return there >= least

  def _check_kind(self, kind: str, index: int) -> None:
    """ValueError for a kind of a row that is not in the table.

    A row may not name `module:function`, because that imports code, and only a
    config may choose code.
    """
    if kind and not kinds.known(kind):
      raise ValueError(
          f'{self._rows.where(index)}: the row\'s kind is {kind[:80]!r}; '
          f'allowed in a row: {", ".join(kinds.NAMES)}. '
          'A function of your own is named in the config alone: '
          f'data.pool.sources.{self.of.name}.kind')

  def _compare(self, index: int, words: Mapped, row: Dict[str, Any]) -> None:
    """ValueError if the numbers of placeholders and of media differ."""
    if self.of.places != 'check' or words.places is None:
      return
    try:
      video = values.at(row, self.video) if self.video else None
      check_places(
          words.places,
          len(words.images) + sum(media.count(values.at(row, c))
                                 for c in self.images),
          len(words.videos) + (not _nothing(video)))
    except ValueError as e:
      raise ValueError(f'{self._rows.where(index)}: {e}') from None

  def show(self, index: int,
           words: Mapped | None = None) -> tuple[Picture | Clip, ...]:
    """The images and videos of a row, whose words the caller may have read."""
    words = self.mapped(index) if words is None else words
    if not (self._shown or words.images or words.videos):
      return ()
    row: Dict[str, Any] = {}
    where = self._rows.where(index)
    if self._shown:
      row = self._rows[index]
      self._check(row, index, self._shown)
    self._compare(index, words, row)
    try:
      shown = [values.at(row, c) for c in self.images]
      out: tuple[Picture | Clip, ...] = tuple(
          p for value in (*shown, list(words.images))
          for p in media.pictures(value, self.folder, self.store,
                                  roots=self._roots, where=where))
      video = values.at(row, self.video) if self.video else None
      for value in (video, *words.videos):
        if not _nothing(value):
          out += (media.clip(value, self.folder, self.of.fps, self.store,
                             roots=self._roots, where=where),)
    except FileNotFoundError as e:
      raise FileNotFoundError(
          f'{self._rows.where(index)}: {ascii_name(e)}') from e
    # Whatever a broken image raises, its row is named.
    except Exception as e:
      said = ascii_name(e).removeprefix(f'{self._rows.where(index)}: ')
      raise ValueError(f'{self._rows.where(index)}: {said}') from e
    return out

  def id_of(self, index: int, words: Mapped) -> str:
    return f'{self.of.name}/{words.id or index}'

  def words(self, index: int, words: Mapped | None = None) -> Question:
    """The question of a row without its images and videos."""
    words = self.mapped(index) if words is None else words
    return Question(
        id=self.id_of(index, words), text=words.text, answer=words.answer,
        split=self.of.split or self.of.name, media=(), kind=words.kind,
        source=self.of.name, hint=words.hint, responses=words.responses,
        turns=words.turns, subset=words.subset)

  def question(self, index: int) -> Question:
    words = self.mapped(index)
    return dataclasses.replace(self.words(index, words),
                               media=self.show(index, words))

  def _asked(self, indices: Sequence[int]) -> list[dict[str, Any] | str]:
    """What is counted of rows, by field of Candidate; the reason for a row that
    cannot be asked."""
    out: list[dict[str, Any] | str] = []
    texts: set[bytes] = set()  # of a mapping that asks a text once
    for index in indices:
      words = self.mapped(index)
      why = why_not(words)
      text = b'' if why else filters.text_hash(words.text)
      if why or text in texts:
        out.append(why or REPEATED)
        continue
      if self.mapping.distinct:
        texts.add(text)
      out.append(dict(
          source=self.of.name, row=index, id=self.id_of(index, words),
          subset=words.subset, characters=len(words.text),
          answer_characters=len(words.answer), pass_rate=words.pass_rate,
          difficulty=words.difficulty,
          text_hash=text,
          words=digest.of_words(self.words(index, words)),
          bare=not (self._shown or words.images or words.videos)))
    return out

  def candidates(self,
                 counts: dict[str, dict[str, int]]) -> list[Candidate]:
    """The rows that can be asked and that pass the source's own filters.

    Several processes share the reading.

    Args:
      counts: name -> source -> number; this method adds its own numbers.
    """
    out: list[Candidate] = []
    name = self.of.name
    counts.setdefault(ROWS, {})[name] = len(self)
    self.skipped.clear()
    texts: set[bytes] = set()
    for fields in hosts.shared(self._asked, range(len(self)), 'the rows'):
      if isinstance(fields, str):
        self.skipped[fields] += 1
      elif fields['text_hash'] in texts:
        self.skipped[REPEATED] += 1  # another process read the first one
      else:
        if self.mapping.distinct:
          texts.add(fields['text_hash'])
        out.append(Candidate(
            **fields, show=functools.partial(self.show, fields['row'])))
    counts.setdefault(SKIPPED, {})[name] = self.skipped.total()
    return filters.apply(out, self.of.filters, counts)


def ascii_name(value: Any) -> str:
  """A text of a file, or an exception, in a form that an error may hold.

  The quotes of a KeyError are left out.
  """
  text = value.args[0] if isinstance(value, KeyError) and value.args else value
  return str(text).encode('utf-8', 'backslashreplace').decode()
