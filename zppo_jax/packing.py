"""From groups to arrays: mini-batches, length buckets, micro-batches.

Shapes come from a small table of buckets, so the number of compilations is
bounded; what is padded has weight zero.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zppo_jax.records import Group, Media, MicroBatch, PromptBatch, PromptMedia


def bucket(length: int, buckets: Sequence[int], what: str) -> int:
  """The smallest bucket that holds `length`.

  Raises:
    ValueError: if none does, naming `what` and the buckets.
  """
  for size in sorted(buckets):
    if length <= size:
      return size
  raise ValueError(f'{what} is {length}; the largest of the configured '
                   f'buckets is {max(buckets)} ({tuple(buckets)})')


def split_minibatches(num_groups: int, num_minibatches: int, rng):
  """Group indices of I equal mini-batches after a seeded shuffle.

  Whole groups only. Where the count does not divide, the last mini-batches
  hold a group less: it stands for the paper's padding with zero weight.

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
  # Spread the padding: position i of mini-batch j is element i * I + j.
  padded[:num_groups] = order
  columns = padded.reshape(size, num_minibatches).T
  return [[int(i) for i in column if i >= 0] for column in columns]


def response_tokens(groups: Sequence[Group]) -> int:
  """Response tokens of all rollouts, trivial groups included."""
  return sum(len(r.tokens) for g in groups for r in g.rollouts)


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


def positions_of(prompt_length: int, response_length: int,
                 media: PromptMedia | None, num_axes: int) -> np.ndarray:
  """int32 [T, A] positions of a prompt and the response behind it."""
  length = prompt_length + response_length
  if media is None:
    start, first = np.arange(prompt_length)[:, None], prompt_length
  else:
    start, first = media.positions_TA, media.next_position
  out = np.zeros((length, num_axes), np.int32)
  out[:prompt_length] = start
  out[prompt_length:] = first + np.arange(response_length)[:, None]
  return out


def pad_prompts(prompts: Sequence, num_rows: int, length: int,
                patches: int, num_axes: int) -> PromptBatch:
  """Prompts as one host batch.

  Args:
    prompts: at most `num_rows` records.Prompt, or anything with tokens and
      media, each of at most `length` tokens.
    num_rows: P; missing prompts get length 0.
    length: T.
    patches: I, 0 if none of them has media.
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


class Row(NamedTuple):
  """What is trained on: a response under its prompt.

  Attributes:
    prompt: ids.
    response: ids.
    logps: the sampler's log-prob of each response token, nats.
    advantage: of the row.
    media: of the prompt.
  """
  prompt: Sequence[int]
  response: Sequence[int]
  logps: Sequence[float]
  advantage: float
  media: PromptMedia | None = None


def pad_rows(rows: Sequence[Row], num_rows: int, length: int,
             patches: int = 0, num_axes: int = 1) -> MicroBatch:
  """Rows as arrays.

  Args:
    rows: at most `num_rows` of them, each at most `length` tokens.
    num_rows: rows of the result; missing ones have weight zero.
    length: T.
    patches: I, 0 if no row has media.
    num_axes: A.

  Returns:
    A host `MicroBatch` whose old log-probs are still zero.
  """
  shape = (num_rows, length)
  tokens, segment = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
  mask, sampler = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
  positions = np.zeros((*shape, num_axes), np.int32)
  adv = np.zeros(num_rows, np.float32)
  rows = [Row(*row) for row in rows]
  for b, row in enumerate(rows):
    start, stop = len(row.prompt), len(row.prompt) + len(row.response)
    tokens[b, :start], tokens[b, start:stop] = row.prompt, row.response
    positions[b, :stop] = positions_of(
        start, len(row.response), row.media, num_axes)
    segment[b, :stop] = 1
    mask[b, start:stop] = 1
    sampler[b, start:stop] = row.logps
    adv[b] = row.advantage
  return MicroBatch(
      tokens, positions, segment, mask, adv, np.zeros_like(mask), sampler,
      pad_media([row.media for row in rows], num_rows, patches))


def rows_per_micro_batch(length: int, max_tokens: int, multiple: int) -> int:
  """Rows of length T that fit in `max_tokens` positions, at least `multiple`
  and a multiple of it (the ways in which the mesh cuts the batch)."""
  return max(multiple, max_tokens // length // multiple * multiple)


def bucketed_rows(rows: Sequence[Row], *, max_tokens: int, multiple: int,
                  buckets: Sequence[int], patch_buckets: Sequence[int] = (),
                  num_axes: int = 1) -> list[MicroBatch]:
  """Rows as micro-batches, shortest length bucket first; patches count as
  positions."""
  by_shape: dict[tuple[int, int], list[Row]] = {}
  for row in (Row(*row) for row in rows):
    what = 'a row (prompt + response tokens)'
    size = bucket(len(row.prompt) + len(row.response), buckets, what)
    patches = patch_bucket(row.media, patch_buckets, what)
    by_shape.setdefault((size, patches), []).append(row)
  out = []
  for (size, patches), found in sorted(by_shape.items()):
    num_rows = rows_per_micro_batch(size + patches, max_tokens, multiple)
    out += [pad_rows(found[i:i + num_rows], num_rows, size, patches, num_axes)
            for i in range(0, len(found), num_rows)]
  return out


def micro_batches(groups: Sequence[Group], adv_by_group, *,
                  max_tokens: int, multiple: int, buckets: Sequence[int],
                  skip_zero: bool, patch_buckets: Sequence[int] = (),
                  num_axes: int = 1) -> list[MicroBatch]:
  """The rows of a mini-batch as micro-batches of few shapes.

  Args:
    groups: groups of the mini-batch.
    adv_by_group: advantages of each group's rollouts.
    max_tokens: positions of a micro-batch, padding and patches included.
    multiple: its rows are a multiple of this.
    buckets: allowed lengths T, prompt and response together.
    skip_zero: leave out rows whose advantage is 0; their gradient is 0 and
      their tokens are counted by the caller.
    patch_buckets: allowed patches of a prompt's media.
    num_axes: A of the model's positions.

  Returns:
    Micro-batches; possibly none.
  """
  rows = []
  for group, advantages in zip(groups, adv_by_group, strict=True):
    for rollout, advantage in zip(group.rollouts, advantages, strict=True):
      if not (skip_zero and advantage == 0):
        rows.append(Row(group.prompt.tokens, rollout.tokens, rollout.logps,
                        float(advantage), group.prompt.media))
  return bucketed_rows(rows, max_tokens=max_tokens, multiple=multiple,
                       buckets=buckets, patch_buckets=patch_buckets,
                       num_axes=num_axes)
