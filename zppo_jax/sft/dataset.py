"""Conversations of files as sequences to train on, in the order of a run.

Opening a data set encodes every conversation once, to measure it and to take
its digest. A step encodes its own again, so that nothing but places and digests
stays in memory.
"""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zppo_jax import allowed
from zppo_jax.chat import conversation
from zppo_jax.chat.conversation import Taught
from zppo_jax.chat.wording import Chat
from zppo_jax.data import conversations, digest, media
from zppo_jax.data.conversations import Lesson, LessonSource
from zppo_jax.data.sources import Bounds
from zppo_jax.devices import hosts
from zppo_jax.learner import packing
from zppo_jax.randomness import Purpose, host_rng
from zppo_jax.records import Clip, TokenSequence, TrainingSequence

# What happens to a conversation that no row holds (`data.on_overlong`).
ON_OVERLONG = ('refuse', 'drop')


def _patches(taught: Taught) -> int:
  """The patches of a conversation's images and videos."""
  return 0 if taught.media is None else len(taught.media.patches_IC)


@dataclasses.dataclass(frozen=True)
class Room:
  """The rows of a run's micro-batches.

  Attributes:
    row_buckets: lengths of rows, in tokens.
    patch_buckets: patches of a row's images and videos.
  """
  row_buckets: tuple[int, ...]
  patch_buckets: tuple[int, ...]

  def why_not(self, taught: Taught) -> str:
    """Why no row holds a conversation; '' if one does."""
    size, most = len(taught.tokens), max(self.row_buckets)
    patches = _patches(taught)
    if patches > max(self.patch_buckets, default=0):
      return (f'the conversation has {patches} patches; the largest of '
              f'shapes.patch_buckets is {max(self.patch_buckets, default=0)}')
    if size > most:
      return (f'the conversation has {size} tokens; the largest of '
              f'shapes.row_buckets is {most}')
    return ''


@dataclasses.dataclass(frozen=True)
class Reader:
  """Turns conversations into token ids.

  Attributes:
    chat: of the student.
    thinking: how its template is rendered.
  """
  chat: Chat
  thinking: bool | None

  def taught(self, lesson: Lesson) -> Taught:
    """ValueError for a conversation that the chat does not take."""
    if not lesson.asked:
      return conversation.teach(lesson.messages, self.chat, self.thinking)
    user, said = lesson.messages
    text = ''.join(p for p in user.shown if isinstance(p, str))
    shown = tuple(p for p in user.shown if not isinstance(p, str))
    return conversation.behind(
        self.chat.plain(text, shown), ''.join(said.shown), self.chat)


def sequence(taught: Taught) -> TrainingSequence:
  """A sequence whose assistant's tokens carry the loss, with weight 1.

  Raises:
    ValueError: if the first token is the assistant's, because nothing predicts
      it.
  """
  first = taught.taught.index(True)
  if not first:
    raise ValueError('the conversation begins with the assistant\'s words; '
                     'there must be a token before them')
  response = taught.tokens[first:]
  return TrainingSequence(
      sequence=TokenSequence(prompt=taught.tokens[:first], response=response,
                             media=taught.media),
      mask_R=np.array(taught.taught[first:]),
      targets={'advantage': np.ones(len(response), np.float32)})


def _digest(lesson: Lesson) -> bytes:
  """digest.SIZE bytes that cover all that a conversation teaches."""
  out = hashlib.blake2b(digest_size=digest.SIZE)

  def add(*parts: bytes) -> None:
    for part in parts:
      out.update(len(part).to_bytes(8, 'little') + part)

  words = lambda text: text.encode('utf-8', 'surrogatepass')
  add(words(lesson.id), bytes([lesson.asked]))
  for message in lesson.messages:
    add(b'message', words(message.role))
    for part in message.parts:
      if isinstance(part, str):
        add(b'text', words(part))
      elif isinstance(part, conversation.Field):
        add(b'field', words(part.name), words(part.text))
      elif isinstance(part, Clip):
        add(b'clip', repr(float(part.fps)).encode(), *(
            hashlib.blake2b(media.content(f)).digest() for f in part.frames))
      else:
        add(b'picture', hashlib.blake2b(media.content(part)).digest())
  return out.digest()


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset(Sequence):
  """Conversations by number.

  Attributes:
    sources: the open sources, by name.
    reader: encodes them.
    places: (source, row, conversation of the row) of each.
    digests: of each.
    sizes: (tokens, trained tokens) of each.
    counts: 'rows', 'unanswered' (questions without responses), 'overlong',
      'kept': source -> number.
  """
  sources: Mapping[str, LessonSource]
  reader: Reader
  places: tuple[tuple[str, int, int], ...]
  digests: tuple[bytes, ...]
  sizes: tuple[tuple[int, int], ...]
  counts: Mapping[str, Mapping[str, int]]

  def __len__(self) -> int:
    return len(self.places)

  def lesson(self, index: int) -> Lesson:
    name, row, k = self.places[index]
    return self.sources[name].lessons(row)[k]

  def __getitem__(self, index):
    if isinstance(index, slice):
      return [self[i] for i in range(*index.indices(len(self)))]
    return sequence(self.reader.taught(self.lesson(index)))

  def where(self, index: int) -> str:
    """The file and the row."""
    name, row, _ = self.places[index]
    return self.sources[name].where(row)

  def files(self) -> list[str]:
    """The file of each conversation, behind the name of its source."""
    return [f'{name}: {self.sources[name].file(row)}'
            for name, row, _ in self.places]

  def keep(self, indices: Sequence[int]) -> 'Dataset':
    """Some of the conversations; `counts` stay those of the files."""
    take = lambda of: tuple(of[i] for i in indices)
    return dataclasses.replace(
        self, places=take(self.places), digests=take(self.digests),
        sizes=take(self.sizes))

  def account(self) -> str:
    """A line per source."""
    return '\n'.join(', '.join(
        [f'{name}: {self.counts["rows"][name]} rows',
         *(f'{self.counts[what][name]} {what}' for what in (
             'unanswered', 'overlong') if self.counts[what][name]),
         f'{self.counts["kept"][name]} conversations'])
                     for name in self.sources)


def _measured(source: LessonSource, row: int, reader: Reader, room: Room,
              drops: bool) -> list[tuple[bytes, tuple[int, int, int]] | None]:
  """(digest, (tokens, trained tokens, patches)) of each conversation of a row;
  None for one that is left out because no row of a micro-batch holds it."""
  out: list[tuple[bytes, tuple[int, int, int]] | None] = []
  for lesson in source.lessons(row):
    try:
      taught = reader.taught(lesson)
      sequence(taught)
    except ValueError as e:
      raise ValueError(f'{source.where(row)}: {e}') from e
    why = room.why_not(taught)
    if why and not drops:
      raise ValueError(f'{source.where(row)}: {why}; data.on_overlong is '
                       "'refuse', 'drop' leaves it out")
    out.append(None if why else (
        _digest(lesson),
        (len(taught.tokens), sum(taught.taught), _patches(taught))))
  return out


def _read_source(source: LessonSource, reader: Reader, room: Room,
                 drops: bool):
  """(places, digests, sizes, counts) of a source; several processes share its
  rows."""
  name = source.of.name
  places, digests, sizes = [], [], []
  counts = {'rows': len(source), 'unanswered': 0, 'overlong': 0}
  measured = hosts.shared(
      lambda rows: [_measured(source, row, reader, room, drops)
                    for row in rows], range(len(source)), 'the rows')
  for row, lessons in enumerate(measured):
    counts['unanswered'] += not lessons
    for k, of in enumerate(lessons):
      if of is None:
        counts['overlong'] += 1
        continue
      places.append((name, row, k))
      digests.append(of[0])
      sizes.append(of[1])
  counts['kept'] = len(places)
  return places, digests, sizes, counts


def open_dataset(what: str, sources: Mapping[str, Mapping[str, Any]],
                 reader: Reader, room: Room, on_overlong: str,
                 store: str = '', bounds: Bounds | None = None) -> Dataset:
  """The conversations of a config's sources.

  Args:
    what: the config field that holds them, for errors.
    sources: name -> fields of conversations.LessonSpec.
    reader: encodes them.
    room: the rows that must hold them.
    on_overlong: one of ON_OVERLONG.
    store: a folder for images that come as bytes; '' keeps them in memory.
    bounds: of what is read; None takes the defaults.

  Raises:
    KeyError, ValueError, FileNotFoundError: for a field, a row or a file that
      cannot be used; the message names it.
  """
  allowed.one_of('data.on_overlong', on_overlong, ON_OVERLONG)
  if not sources:
    raise ValueError(f'{what} is empty; name at least one source')
  folder = pathlib.Path(store).expanduser() if store else None
  opened = {name: LessonSource(conversations.spec(name, sources[name]),
                               folder, bounds) for name in sources}
  places, digests, sizes, by_name = [], [], [], {}
  for name, source in opened.items():
    more = _read_source(source, reader, room, on_overlong == 'drop')
    places += more[0]
    digests += more[1]
    sizes += more[2]
    by_name[name] = more[3]
  counts = {what: {name: by_name[name][what] for name in opened}
            for what in ('rows', 'unanswered', 'overlong', 'kept')}
  data = Dataset(sources=opened, reader=reader, places=tuple(places),
                 digests=tuple(digests), sizes=tuple(sizes), counts=counts)
  empty = [name for name, kept in counts['kept'].items() if not kept]
  if empty:
    raise ValueError(f'{what}: no conversation of {", ".join(empty)} is left; '
                     f'{data.account()}')
  return data


def split(data: Dataset, count: int, seed: int) -> tuple[Dataset, Dataset]:
  """(the rest, held-out conversations of `count` rows).

  All conversations of a row are on one side. Rows are drawn by the seed.
  """
  rows = list(dict.fromkeys(place[:2] for place in data.places))
  if not count < len(rows):
    raise ValueError(f'eval.holdout is {count}; the data have {len(rows)} '
                     'rows, and one must be left to train on')
  order = host_rng(seed, 0, Purpose.EVALUATION).permutation(len(rows))
  out = {rows[i] for i in order[:count]}
  sides: tuple[list[int], list[int]] = ([], [])
  for i, place in enumerate(data.places):
    sides[place[:2] in out].append(i)
  return data.keep(sides[0]), data.keep(sides[1])


@dataclasses.dataclass(frozen=True)
class Lessons:
  """The conversations of each step, as a function of (seed, step).

  Each pass has a shuffle of its own and holds every conversation once; a step
  may hold the end of a pass and the beginning of the next one.

  Attributes:
    pool: all conversations.
    batch: conversations per step.
    seed: of the shuffles.
    epochs: the most passes; 0: no limit.
  """
  pool: Dataset
  batch: int
  seed: int
  epochs: float = 0

  def check_steps(self, steps: int) -> None:
    """ValueError if the steps need more than `epochs` passes."""
    most = int(self.epochs * len(self.pool) / self.batch)
    if self.epochs and steps > most:
      raise ValueError(
          f'steps is {steps}; data.epochs = {self.epochs:g} pass(es) over '
          f'{len(self.pool)} conversations hold {most} steps of '
          f'{self.batch}. Set steps to at most that, or data.epochs to 0 (no '
          'limit)')

  @functools.lru_cache(maxsize=2)  # noqa: B019 - a run has one
  def _order(self, epoch: int) -> np.ndarray:
    return host_rng(self.seed, epoch, Purpose.DATA).permutation(len(self.pool))

  def chosen(self, step: int) -> list[int]:
    """The numbers of a step's conversations, in order."""
    places = (divmod(at, len(self.pool)) for at in range(
        step * self.batch, (step + 1) * self.batch))
    return [int(self._order(epoch)[at]) for epoch, at in places]

  def draw(self, step: int) -> list[TrainingSequence]:
    """The conversations of a step, encoded."""
    chosen = self.chosen(step)
    # Rows are read in the order of the files, because that is faster.
    encoded = {i: self.pool[i] for i in sorted(set(chosen))}
    return [encoded[i] for i in chosen]

  def record(self) -> dict:
    """The contents of digest.NAME of a run."""
    return digest.record(self.pool.files(), self.pool.digests)

  def position(self, step: int) -> dict:
    """The position of the data before `step`, with a digest of all of them."""
    epoch, at = divmod(step * self.batch, len(self.pool))
    return {'pass': epoch, 'conversations': at,
            'pool': digest.joined(self.pool.digests)}

  def check_position(self, stored: dict, step: int,
                     folder: pathlib.Path) -> None:
    """ValueError unless the position of a checkpoint is that of this run.

    Args:
      stored: the `position` in the checkpoint.
      step: the number of steps done.
      folder: of the run, which holds the digests of its rows.
    """
    here = self.position(step)
    if stored == here:
      return
    if stored.get('pool') == here['pool']:
      raise ValueError(
          f'the checkpoint after {step} steps stands at {stored} of its data; '
          f'this config would go on at {here}')
    files, before = digest.read(folder)
    now = self.pool.digests
    first = digest.first_difference(before, now) if before else None
    if first is None:
      where = f'{folder / digest.NAME} does not say which differ'
    elif first < len(now):
      where = (f'the first that differs is {self.pool.where(first)}, '
               f'{self.pool.lesson(first).id!r}')
    else:
      where = f'the first that is gone was in {files[first]}'
    raise ValueError(
        f'the checkpoint after {step} steps was trained on other data: '
        f'{len(before)} conversations then, {len(now)} now; {where}')


def batches(sequences: Sequence[TrainingSequence], room: Room, *,
            max_tokens: int, multiple: int, num_axes: int, packed: bool):
  """Micro-batches of sequences (packing.bucketed_rows)."""
  return packing.bucketed_rows(
      sequences, max_tokens=max_tokens, multiple=multiple,
      buckets=room.row_buckets, patch_buckets=room.patch_buckets,
      num_axes=num_axes, packed=packed)


def rows_of(length: int, patches: int, max_tokens: int, multiple: int) -> int:
  """The rows of a micro-batch of a shape."""
  return packing.rows_per_micro_batch(length + patches, max_tokens, multiple)


def shapes(room: Room) -> list[tuple[int, int]]:
  """(tokens, patches) of every shape that a row can have."""
  return [(length, patches) for length in sorted(room.row_buckets)
          for patches in (0, *sorted(room.patch_buckets))]
