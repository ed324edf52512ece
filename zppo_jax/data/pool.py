"""The sources of a config as one pool, which reads questions one by one.

Opening a pool reads the words of every row once, and its images only if a
filter needs them. It applies the filters and keeps the name and the row number
of each question.
"""

import pathlib
from collections.abc import Iterator, Mapping as Dict, Sequence
from typing import Any, overload

from zppo_jax import import_paths
from zppo_jax.data import digest, filters, tiers
from zppo_jax.data.filters import Candidate
from zppo_jax.data.sources import ROWS, SKIPPED, Bounds, Source, spec
from zppo_jax.devices import hosts
from zppo_jax.records import Question


class Pool(Sequence[Question]):
  """Questions of several sources by number, which are read when asked for.

  Attributes:
    ids: of the questions, in order.
    parts: the number of questions of each source, in order.
    weights: of each source in a mixture; None draws all questions alike.
    counts: rows that were read, skipped and left out: name -> source -> number.
    kept: source -> number of questions.
    digests: (source, row) -> digest, of questions whose images were read.
    tracks: whether reading a question adds its digest.
    notes: lines about the files for people, e.g. that a set is not complete.
    tiered: the (source, subset) of each question, where tiers cap them.
  """
  tracks = False
  notes: tuple[str, ...] = ()
  tiered: tuple[tuple[str, str], ...] = ()

  def __init__(self, sources: Sequence[Source], wanted: Dict[str, Any],
               mix: bool = False):
    filters.check(wanted, 'data.pool.filters')
    self.counts: dict[str, dict[str, int]] = {}
    candidates = [c for source in sources
                  for c in source.candidates(self.counts)]
    _check_ids(candidates, sources)
    candidates = filters.apply(candidates, wanted, self.counts)
    kept = {s.of.name: 0 for s in sources}
    for c in candidates:
      kept[c.source] += 1
    empty = [name for name, count in kept.items() if not count]
    if empty:
      said = [account(self.counts, kept), *_reasons(
          {s.of.name: s.skipped for s in sources})]
      given = [('data.pool.filters', wanted, empty), *(
          (f'data.pool.sources.{s.of.name}.filters', s.of.filters, [s.of.name])
          for s in sources if s.of.name in empty)]
      bounds = [f'{section}.{name} is {value!r}'
                for section, values, names in given
                for name, value in values.items()
                if any(self.counts.get(name, {}).get(n) for n in names)]
      raise ValueError(f'no question of {", ".join(empty)} is left; '
                       f'{"; ".join([*said, *bounds])}')
    self.kept = kept
    if wanted.get('tiers'):
      self.tiered = tuple((c.source, c.subset) for c in candidates)
    self.ids = tuple(c.id for c in candidates)
    self.parts = tuple(kept.values())
    self.weights = tuple(s.of.weight for s in sources) if mix else None
    self._sources = {s.of.name: s for s in sources}
    self._at = [(c.source, c.row) for c in candidates]
    self._words = {(c.source, c.row): c.words for c in candidates}
    self.digests = {(c.source, c.row): digest.of_media(c.words, ())
                    for c in candidates if c.bare}

  def __len__(self) -> int:
    return len(self._at)

  @overload
  def __getitem__(self, index: int) -> Question: ...

  @overload
  def __getitem__(self, index: slice) -> list[Question]: ...

  def __getitem__(self, index: int | slice) -> Question | list[Question]:
    if isinstance(index, slice):
      return [self[i] for i in range(*index.indices(len(self)))]
    name, row = self._at[index]
    question = self._sources[name].question(row)
    if self.tracks:
      self._note(name, row, question)
    return question

  def _note(self, name: str, row: int, question: Question) -> None:
    if (name, row) not in self.digests:
      self.digests[name, row] = digest.of_media(self._words[name, row],
                                                question.media)

  def contents(self) -> list[bytes]:
    """The digests of all questions in order.

    Words count as they were when the pool was opened. Images that were not read
    yet are read now; several processes share this.
    """
    # A process that read a row alone has its digest alone.
    unread = hosts.agreed(
        [i for i, at in enumerate(self._at) if at not in self.digests],
        lambda of: sorted(set().union(*of)), 'the images to read')
    digests = hosts.shared(self._contents, unread, 'the images')
    self.digests.update(zip((self._at[i] for i in unread), digests,
                            strict=True))
    return [self.digests[at] for at in self._at]

  def _contents(self, indices: Sequence[int]) -> list[bytes]:
    for i in indices:
      self._note(*self._at[i], self[i])
    return [self.digests[self._at[i]] for i in indices]

  def where(self, index: int) -> str:
    """The file and the row of a question."""
    name, row = self._at[index]
    return self._sources[name].where(row)

  def files(self) -> list[str]:
    """The file of each question, behind the name of its source."""
    return [f'{name}: {self._sources[name].file(row)}'
            for name, row in self._at]

  def words(self) -> Iterator[Question]:
    """Yields all questions without their images and videos."""
    for name, row in self._at:
      yield self._sources[name].words(row)

  def keep(self, name: str, indices: Sequence[int]) -> 'Pool':
    """A pool of some of the questions, which counts the others as `name`."""
    out = object.__new__(Pool)
    kept = {source: 0 for source in self.kept}
    for i in indices:
      kept[self._at[i][0]] += 1
    out.counts = {**self.counts, name: {
        s: self.kept[s] - kept[s] for s in kept}}
    out.kept, out.weights, out._sources = kept, self.weights, self._sources
    out.digests, out._words = self.digests, self._words
    out.tracks, out.notes = self.tracks, self.notes
    out.tiered = tuple(self.tiered[i] for i in indices if self.tiered)
    out.parts = tuple(kept.values())
    out.ids = tuple(self.ids[i] for i in indices)
    out._at = [self._at[i] for i in indices]
    return out

  @property
  def skipped(self) -> dict[str, dict[str, int]]:
    """Source -> reason -> rows that were skipped, of the sources with any."""
    return {name: dict(source.skipped) for name, source
            in self._sources.items() if source.skipped}

  def _lines(self) -> list[str]:
    """The notes, and the counts by tier beside the paper's."""
    return [*self.notes, *(tiers.account(self.tiered) if self.tiered else ())]

  def record(self) -> dict:
    """The contents of data.json of a run."""
    lines = self._lines()
    return {'counts': self.counts, 'kept': self.kept,
            **({'skipped': self.skipped} if self.skipped else {}),
            **({'notes': lines} if lines else {})}

  def account(self) -> str:
    """A line per source and per reason of what was skipped, and the notes."""
    return '\n'.join([account(self.counts, self.kept), *(
        f'  {reason}' for reason in _reasons(self.skipped)), *self._lines()])


def _reasons(skipped: Dict[str, Dict[str, int]]) -> list[str]:
  """A line per source and reason of the rows that were skipped."""
  return [f'{name}: {count} skipped: {why}' for name, of in skipped.items()
          for why, count in of.items()]


def _check_ids(candidates: Sequence[Candidate],
               sources: Sequence[Source]) -> None:
  of = {s.of.name: s for s in sources}
  seen: dict[str, Candidate] = {}
  for c in candidates:
    other = seen.setdefault(c.id, c)
    if other is not c:
      raise ValueError(
          f'two questions are called {c.id!r}: rows {other.row} and {c.row} of '
          f'the source {c.source!r} ({of[other.source].where(other.row)}; '
          f'{of[c.source].where(c.row)})')


def account(counts: Dict[str, Dict[str, int]], kept: Dict[str, int]) -> str:
  """A line per source, with the rows that were left out and that stay."""
  return '\n'.join(
      ', '.join([f'{name}: {counts[ROWS][name]} rows',
                 *(f'{of[name]} by {what}' if what != SKIPPED
                   else f'{of[name]} skipped'
                   for what, of in counts.items()
                   if what != ROWS and of.get(name)),
                 f'{kept[name]} kept']) for name in kept)


def open_pool(sources: Dict[str, Dict[str, Any]], wanted: Dict[str, Any],
              store: str = '', bounds: Bounds | None = None,
              section: str = 'data.pool.sources') -> Pool:
  """The pool of a config; it is a mixture if one of its sources has a weight.

  Args:
    sources: name -> fields of Spec.
    wanted: filter -> value, for all sources together.
    store: a folder for images that come as bytes; '' keeps them in memory.
    bounds: of all sources; None takes the defaults.
    section: the config section of `sources`, for the error of a missing file.

  Raises:
    KeyError, ValueError, FileNotFoundError: for a field, a row or a file that
      cannot be used; the message names it.
  """
  if not sources:
    raise ValueError('data.pool.sources is empty; name at least one')
  folder = pathlib.Path(store).expanduser() if store else None
  specs = sorted((spec(name, sources[name]) for name in sources),
                 key=lambda of: of.rank)
  readers: list[Source] = []
  for of in specs:
    try:
      readers.append(Source(of, folder, bounds=bounds))
    except FileNotFoundError as e:
      raise FileNotFoundError(f'{section}.{of.name}.path: {e}') from e
  return Pool(readers, wanted,
              any('weight' in sources[name] for name in sources))


import_paths.refuse_moved_names(__name__)
