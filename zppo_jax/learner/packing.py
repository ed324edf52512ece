"""From sequences to arrays: mini-batches, length buckets, packs, padding.

Shapes come from a small table of buckets, so the number of compilations is
bounded; padding has weight zero. A pack is a list of sequences that share one
row of a micro-batch; each of them is one segment of the row.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zppo_jax import allowed
from zppo_jax.arrays import (
  LessonRows,
  Media,
  MicroBatch,
  OwnPrompts,
  PromptBatch,
)
from zppo_jax.records import Group, PromptMedia, TokenSequence, TrainingSequence


def bucket(length: int, buckets: Sequence[int], what: str) -> int:
  """The smallest bucket that holds `length`.

  Raises:
    ValueError: if no bucket does; the message names `what` and the buckets.
  """
  for size in sorted(buckets):
    if length <= size:
      return size
  raise ValueError(f'{what} is {length}; the largest of the configured '
                   f'buckets is {max(buckets)} ({tuple(buckets)})')


def split_minibatches(num_groups: int, num_minibatches: int, rng):
  """Group indices of I equal mini-batches after a seeded shuffle.

  Groups are never split. If I does not divide the number of groups, the last
  mini-batches hold one group less; that stands for the paper's padding with
  zero weight.

  Args:
    num_groups: groups of the step.
    num_minibatches: I.
    rng: numpy generator.

  Returns:
    I lists of group indices; every index occurs once.
  """
  order = rng.permutation(num_groups)
  size = -(-num_groups // num_minibatches)
  padded = np.full(size * num_minibatches, -1)
  # The padding is spread: position i of mini-batch j is element i * I + j.
  padded[:num_groups] = order
  columns = padded.reshape(size, num_minibatches).T
  return [[int(i) for i in column if i >= 0] for column in columns]


def trained_tokens(groups: Sequence[Group]) -> int:
  """Response tokens of all rollouts, those of trivial groups included."""
  return sum(len(r.tokens) for g in groups for r in g.rollouts)


def reducer_count(kind: str, groups: Sequence[Group],
                  targets: Mapping[tuple[int, int], Mapping[str, np.ndarray]],
                  longest: int) -> int:
  """The count of a reducer over a whole mini-batch, by which its summed loss is
  divided.

  Args:
    kind: a key of reducers.REDUCERS.
    groups: the groups of the mini-batch.
    targets: (group, rollout) -> targets of the rollouts that are trained.
    longest: the most tokens of a response.
  """
  if kind == 'token_mean':
    return trained_tokens(groups)
  if kind == 'taught_tokens':
    return int(sum(
        np.sum(of['taught']) if 'taught' in of
        else len(groups[p].rollouts[g].tokens)
        for (p, g), of in targets.items()))
  rollouts = sum(bool(r.tokens) for g in groups for r in g.rollouts)
  return {'per_rollout': rollouts, 'constant_length': rollouts * longest}[kind]


def patch_bucket(media: PromptMedia | None, buckets: Sequence[int],
                 what: str) -> int:
  """Patches to which a prompt's media are padded; 0 for text alone.

  Raises:
    ValueError: if there are media and no bucket holds them.
  """
  if media is None:
    return 0
  if not buckets:
    raise ValueError(f'{what} has images or videos; shapes.patch_buckets is '
                     'empty')
  return bucket(len(media.patches_IC), buckets, f'{what} in patches')


def pad_media(media: Sequence[PromptMedia | None], num_rows: int,
              patches: int) -> Media | None:
  """Media of a batch's rows, right-padded; None if `patches` is 0."""
  if not patches:
    return None
  one = next(m for m in media if m is not None)
  out = []
  for name in ('patches_IC', 'rotary_I2', 'segment_I', 'corners_I4',
               'weights_I4'):
    like = getattr(one, name)
    array = np.zeros((num_rows, patches, *like.shape[1:]), like.dtype)
    for b, m in enumerate(media):
      if m is not None:
        array[b, :len(m.patches_IC)] = getattr(m, name)
    out.append(array)
  return Media(*out)


def blank_media(num_rows: int, patches: int, values: int) -> Media | None:
  """`pad_media` of rows without any media; `values` is C, of a patch.

  Its arrays are views of one zero, because plans ask for shapes whose arrays
  this machine could not hold.
  """
  if not patches:
    return None
  integers, floats = (
      lambda *shape, dtype=dtype: np.broadcast_to(
          dtype(0), (num_rows, patches, *shape))
      for dtype in (np.int32, np.float32))
  return Media(patches_BIC=floats(values), rotary_BI2=integers(2),
               segment_BI=integers(), corners_BI4=integers(4),
               weights_BI4=floats(4))


def positions_of(prompt_length: int, response_length: int,
                 media: PromptMedia | None, num_axes: int) -> np.ndarray:
  """int32 [T, A] positions of a prompt and the response behind it.

  Media of a whole conversation give the positions of the response, too.
  """
  length = prompt_length + response_length
  if media is None:
    start, first = np.arange(prompt_length)[:, None], prompt_length
  else:
    start, first = media.positions_TA, media.next_position
  out = np.zeros((length, num_axes), np.int32)
  known = len(start)
  out[:known] = start
  out[known:] = first + np.arange(length - known)[:, None]
  return out


class PromptTokens(NamedTuple):
  """The fields of a prompt that `pad_prompts` reads."""
  tokens: Sequence[int]
  media: PromptMedia | None


class LessonTable(NamedTuple):
  """The sizes of lessons.

  Attributes:
    of_question: whether the rollouts of a group have one lesson prompt.
    prompt_buckets: lengths of prompts.
    row_buckets: lengths of prompt and response together.
    patch_buckets: numbers of patches of a prompt's media.
  """
  of_question: bool
  prompt_buckets: tuple[int, ...]
  row_buckets: tuple[int, ...]
  patch_buckets: tuple[int, ...]

  def row(self, length: int) -> int:
    """The bucket of a row, or a multiple of the largest for lessons of a pack,
    which may be longer than the pack."""
    most = max(self.row_buckets)
    if length > most:
      return -(-length // most) * most
    return bucket(length, self.row_buckets, 'a lesson')

  def patches(self, media: Sequence[PromptMedia | None]) -> int:
    """The bucket of the most patches; 0 for text alone."""
    return max((patch_bucket(of, self.patch_buckets, 'a lesson')
                for of in media), default=0)


def pad_prompts(prompts: Sequence, num_rows: int, length: int,
                patches: int, num_axes: int) -> PromptBatch:
  """Prompts as one host batch.

  Args:
    prompts: at most `num_rows` records.Prompt, or other records with tokens and
      media. Each has at most `length` tokens.
    num_rows: P; missing prompts get length 0.
    length: T.
    patches: I; 0 if no prompt has media.
    num_axes: A.
  """
  tokens = np.zeros((num_rows, length), np.int32)
  positions = np.zeros((num_rows, length, num_axes), np.int32)
  lengths, first = np.zeros((2, num_rows), np.int32)
  for p, prompt in enumerate(prompts):
    size = len(prompt.tokens)
    tokens[p, :size] = prompt.tokens
    positions[p, :size] = positions_of(size, 0, prompt.media, num_axes)
    first[p] = size if prompt.media is None else prompt.media.next_position
    lengths[p] = size
  return PromptBatch(tokens, lengths, positions, first,
                     pad_media([p.media for p in prompts], num_rows, patches))


def to_score(sequence: TokenSequence) -> TrainingSequence:
  """A sequence whose whole response is scored; there is nothing to train."""
  return TrainingSequence(
      sequence=sequence, mask_R=np.ones(len(sequence.response), bool),
      targets={})


def weighted(sequence: TokenSequence, *, mask=True,
             lesson: TokenSequence | None = None,
             **targets) -> TrainingSequence:
  """A sequence with targets; a number stands for an array of it.

  Args:
    sequence: the tokens.
    mask: bool [R], or one bool for all: whether a token has a loss.
    lesson: as in TrainingSequence.
    **targets: name -> array [R, ...], or a number for float32 [R].
  """
  length = len(sequence.response)
  return TrainingSequence(
      sequence=sequence, lesson=lesson, mask_R=np.broadcast_to(mask, length),
      targets={name: np.full(length, x, np.float32) if np.ndim(x) == 0
               else np.asarray(x) for name, x in targets.items()})


class TargetArrays:
  """Mask and targets of a micro-batch while its sequences are placed.

  Args:
    shape: (B, T).
    like: name -> an array whose type and trailing axes a target has.
  """

  def __init__(self, shape: tuple[int, int], like: Mapping[str, np.ndarray]):
    self.mask_BT = np.zeros(shape, np.float32)
    self.targets = {
        name: np.zeros((*shape, *x.shape[1:]), x.dtype)
        for name, x in like.items()}

  def put(self, row: int, start: int, of: TrainingSequence) -> None:
    """Writes a sequence whose response begins at `start`.

    Raises:
      ValueError: if its targets are not those of the micro-batch.
    """
    if of.targets.keys() != self.targets.keys():
      raise ValueError(
          f'a sequence has the targets {sorted(of.targets)}; the others of its '
          f'micro-batch have {sorted(self.targets)}')
    stop = start + len(of.mask_R)
    self.mask_BT[row, start:stop] = of.mask_R
    for name, array in self.targets.items():
      new = of.targets[name]
      if new.dtype != array.dtype or new.shape[1:] != array.shape[2:]:
        raise ValueError(
            f'target {name!r} of a sequence is {new.dtype} {new.shape[1:]} per '
            f'token; that of the others of its micro-batch is {array.dtype} '
            f'{array.shape[2:]}')
      array[row, start:stop] = new


def pad_rows(sequences: Sequence[TrainingSequence], num_rows: int, length: int,
             patches: int = 0, num_axes: int = 1,
             like: Mapping[str, np.ndarray] | None = None) -> MicroBatch:
  """`fill_rows` with each sequence in a pack of its own."""
  return fill_rows([[s] for s in sequences], num_rows, length, patches,
                   num_axes, like)


def fill_rows(packs: Sequence[Sequence[TrainingSequence]], num_rows: int,
              length: int, patches: int = 0, num_axes: int = 1,
              like: Mapping[str, np.ndarray] | None = None,
              lessons: LessonTable | None = None) -> MicroBatch:
  """Packs as arrays: the sequences of a pack follow each other, segments
  1, 2, ...

  Args:
    packs: at most `num_rows` packs; each has at most `length` tokens in all. A
      sequence with media is alone in its pack.
    num_rows: rows of the result; missing rows have weight zero.
    length: T.
    patches: I; 0 if no sequence has media.
    num_axes: A.
    like: targets whose names, types and trailing axes the result has; by
      default those of the first sequence, and none without a sequence.
    lessons: the tables of the sequences' lessons; None if they have none.

  Returns:
    A host `MicroBatch`.
  """
  shape = (num_rows, length)
  tokens, segment = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
  positions = np.zeros((*shape, num_axes), np.int32)
  arrays = TargetArrays(shape, targets_like(packs) if like is None else like)
  for b, pack in enumerate(packs):
    begin = 0
    for i, training in enumerate(pack):
      of = training.sequence
      start, stop = begin + len(of.prompt), begin + len(of)
      tokens[b, begin:start], tokens[b, start:stop] = of.prompt, of.response
      positions[b, begin:stop] = positions_of(
          len(of.prompt), len(of.response), of.media, num_axes)
      segment[b, begin:stop] = i + 1
      arrays.put(b, start, training)
      begin = stop
  return MicroBatch(
      tokens_BT=tokens, positions_BTA=positions, segment_BT=segment,
      mask_BT=arrays.mask_BT, targets=arrays.targets,
      prompts=OwnPrompts(media=pad_media(
          [pack[0].sequence.media for pack in packs], num_rows, patches)),
      lessons=None if lessons is None else _lesson_rows(
          packs, shape, num_axes, lessons))


def _lesson_rows(packs: Sequence[Sequence[TrainingSequence]],
                 shape: tuple[int, int], num_axes: int,
                 of: LessonTable) -> LessonRows:
  """The lessons of packs, each pack in one row as its sequences are."""
  sizes = [sum(len(s.lesson) for s in pack) for pack in packs]
  length = of.row(max(sizes, default=max(of.row_buckets)))
  rows = (shape[0], length)
  tokens, segment = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
  positions = np.zeros((*rows, num_axes), np.int32)
  column = np.zeros(shape, np.int32)
  for b, pack in enumerate(packs):
    begin = begun = 0
    for i, training in enumerate(pack):
      of_lesson = training.lesson
      start, stop = begin + len(of_lesson.prompt), begin + len(of_lesson)
      tokens[b, begin:start] = of_lesson.prompt
      tokens[b, start:stop] = of_lesson.response
      positions[b, begin:stop] = positions_of(
          len(of_lesson.prompt), len(of_lesson.response), of_lesson.media,
          num_axes)
      segment[b, begin:stop] = i + 1
      first = begun + len(training.sequence.prompt)
      column[b, first:begun + len(training.sequence)] = np.arange(start, stop)
      begin, begun = stop, begun + len(training.sequence)
  media = [pack[0].lesson.media for pack in packs]
  return LessonRows(
      tokens_BT=tokens, positions_BTA=positions, segment_BT=segment,
      column_BT=column,
      media=pad_media(media, shape[0], of.patches(media)))


def targets_like(
    units: Sequence[Sequence[TrainingSequence]]) -> Mapping[str, np.ndarray]:
  """The targets of the first sequence; none if there is no sequence."""
  return next((s.targets for unit in units for s in unit), {})


def first_fit(sizes: Sequence[int],
              buckets: Sequence[int]) -> list[list[int]]:
  """First-fit-decreasing bin packing (Johnson 1973) into bins of some sizes.

  A bin is as large as the smallest bucket that holds its first item, which is
  its largest. So no bucket has more bins than if every item were alone.

  Args:
    sizes: sizes of the items.
    buckets: sizes of bins; at least one of them holds the largest item.

  Returns:
    Bins of item indices. Each index occurs once; the largest items come first,
    and items of equal size keep their order.
  """
  bins: list[list[int]] = []
  room: list[int] = []
  for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
    at = next((j for j, left in enumerate(room) if sizes[i] <= left),
              len(bins))
    if at == len(bins):
      bins.append([])
      room.append(bucket(sizes[i], buckets, 'an item'))
    bins[at].append(i)
    room[at] -= sizes[i]
  return bins


def batches(by_shape: dict, room: Callable[[Any], int],
            holds: Callable[[Any, Any], bool]) -> list[tuple[Any, list]]:
  """Cuts the items of each shape into batches; shapes come in order.

  The last batch of a shape may be partly empty. If batches of larger shapes
  have free places for all of its items, the items go there. This saves one
  batch and never adds one.

  Args:
    by_shape: shape -> its items. Shapes are ordered; larger ones come later.
    room: shape -> the number of items that a batch of this shape holds.
    holds: (larger shape, shape) -> whether items of the second shape fit in the
      first.

  Returns:
    (shape, at most `room(shape)` items) of each batch.
  """
  order = sorted(by_shape)
  found = {shape: list(by_shape[shape]) for shape in order}
  for at, shape in enumerate(order):
    rest = len(found[shape]) % room(shape)
    free = {s: -len(found[s]) % room(s) for s in order[at + 1:]
            if holds(s, shape)}
    if not 0 < rest <= sum(free.values()):
      continue
    for larger, places in free.items():
      some = min(places, rest)
      found[larger] += found[shape][len(found[shape]) - some:]
      del found[shape][len(found[shape]) - some:]
      rest -= some
  return [(shape, items[i:i + room(shape)]) for shape, items in found.items()
          for i in range(0, len(items), room(shape))]


def rows_per_micro_batch(length: int, max_tokens: int, multiple: int) -> int:
  """Rows of length T if each part of the batch holds `max_tokens` positions.

  Args:
    length: T.
    max_tokens: the most positions of a part; it holds at least one row.
    multiple: in how many parts the mesh cuts the batch.
  """
  return multiple * max(1, max_tokens // length)


def bucketed_rows(sequences: Sequence[TrainingSequence], *, max_tokens: int,
                  multiple: int, buckets: Sequence[int],
                  patch_buckets: Sequence[int] = (), num_axes: int = 1,
                  packed: bool = False,
                  lessons: LessonTable | None = None) -> list[MicroBatch]:
  """Cuts sequences into micro-batches by `batches`, shortest length bucket
  first.

  Patches count as positions. If `packed`, shorter sequences fill the places
  that longer ones leave free in their bucket (`first_fit`), and the shapes are
  those that the sequences have without packing. A sequence with media stays
  alone, because padded patches and their places belong to one prompt.

  Raises:
    ValueError: if a sequence or its media fit no bucket, or a prompt is empty,
      because its first response token then has no context.
  """
  size_of = lambda training: len(training.sequence)
  media_of = lambda training: training.sequence.media
  what = 'a row (prompt + response tokens)'
  for training in sequences:
    allowed.number('the number of tokens of a prompt',
                   len(training.sequence.prompt), '>= 1')
    bucket(size_of(training), buckets, what)
  alone = [s for s in sequences if not packed or media_of(s) is not None]
  text = [s for s in sequences if packed and media_of(s) is None]
  packs = [[s] for s in alone] + [
      [text[i] for i in chosen]
      for chosen in first_fit([size_of(s) for s in text], buckets)]
  by_shape: dict[tuple[int, int], list[list[TrainingSequence]]] = {}
  for pack in packs:
    size = bucket(sum(map(size_of, pack)), buckets, what)
    patches = patch_bucket(media_of(pack[0]), patch_buckets, what)
    by_shape.setdefault((size, patches), []).append(pack)
  beside = 0 if lessons is None else max(lessons.row_buckets)
  room = lambda shape: rows_per_micro_batch(sum(shape) + beside, max_tokens,
                                            multiple)
  holds = lambda larger, shape: larger[1] >= shape[1]
  return [fill_rows(chosen, room(shape), *shape, num_axes, lessons=lessons)
          for shape, chosen in batches(by_shape, room, holds)]
