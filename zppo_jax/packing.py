"""From groups to arrays: mini-batches, length buckets, micro-batches.

Shapes come from a small table of buckets, so the number of compilations is
bounded; what is padded has weight zero.
"""

from collections.abc import Sequence

import numpy as np

from zppo_jax.records import Group, MicroBatch


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


def pad_rows(rows, num_rows: int, length: int) -> MicroBatch:
  """Rows (prompt ids, response ids, response log-probs, advantage) as arrays.

  Args:
    rows: at most `num_rows` of them, each at most `length` tokens.
    num_rows: rows of the result; missing ones have weight zero.
    length: T.

  Returns:
    A host `MicroBatch` whose old log-probs are still zero.
  """
  shape = (num_rows, length)
  tokens, segment = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
  mask, sampler = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
  adv = np.zeros(num_rows, np.float32)
  for b, (prompt, response, logps, advantage) in enumerate(rows):
    start, stop = len(prompt), len(prompt) + len(response)
    tokens[b, :start], tokens[b, start:stop] = prompt, response
    segment[b, :stop] = 1
    mask[b, start:stop] = 1
    sampler[b, start:stop] = logps
    adv[b] = advantage
  return MicroBatch(tokens, segment, mask, adv, np.zeros_like(mask), sampler)


def rows_per_micro_batch(length: int, max_tokens: int, multiple: int) -> int:
  """Rows of length T that fit in `max_tokens` positions, at least `multiple`
  and a multiple of it (the ways in which the mesh cuts the batch)."""
  return max(multiple, max_tokens // length // multiple * multiple)


def bucketed_rows(rows, *, max_tokens: int, multiple: int,
                  buckets: Sequence[int]) -> list[MicroBatch]:
  """Rows as micro-batches, shortest length bucket first."""
  by_length: dict[int, list] = {}
  for row in rows:
    size = bucket(len(row[0]) + len(row[1]), buckets,
                  'a row (prompt + response tokens)')
    by_length.setdefault(size, []).append(row)
  out = []
  for size, found in sorted(by_length.items()):
    num_rows = rows_per_micro_batch(size, max_tokens, multiple)
    out += [pad_rows(found[i:i + num_rows], num_rows, size)
            for i in range(0, len(found), num_rows)]
  return out


def micro_batches(groups: Sequence[Group], adv_by_group, *,
                  max_tokens: int, multiple: int, buckets: Sequence[int],
                  skip_zero: bool) -> list[MicroBatch]:
  """The rows of a mini-batch as micro-batches of few shapes.

  Args:
    groups: groups of the mini-batch.
    adv_by_group: advantages of each group's rollouts.
    max_tokens: positions of a micro-batch, padding included.
    multiple: its rows are a multiple of this.
    buckets: allowed lengths T, prompt and response together.
    skip_zero: leave out rows whose advantage is 0; their gradient is 0 and
      their tokens are counted by the caller.

  Returns:
    Micro-batches; possibly none.
  """
  rows = []
  for group, advantages in zip(groups, adv_by_group, strict=True):
    for rollout, advantage in zip(group.rollouts, advantages, strict=True):
      if not (skip_zero and advantage == 0):
        rows.append((group.prompt.tokens, rollout.tokens, rollout.logps,
                     float(advantage)))
  return bucketed_rows(rows, max_tokens=max_tokens, multiple=multiple,
                       buckets=buckets)
