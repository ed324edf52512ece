"""How the groups of a mini-batch lie in micro-batches: a table of layouts.

  shared: the prompt of a group is stored once, and each response of the group
    is a row of its own that continues it;
  padded: a row holds a prompt and one response;
  packed: a row holds a prompt and one response, and the places that a long row
    leaves free are filled with short rows.

All layouts have the same loss and gradient. Shapes come from a small table of
buckets (`shapes`), so the number of compilations is bounded. If rows would
leave a micro-batch partly empty, they go into free places of micro-batches of
larger shapes (`packing.batches`).
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zppo_jax.arrays import MicroBatch
from zppo_jax.learner import packing
from zppo_jax.learner.packing import Row
from zppo_jax.records import Group, PromptMedia


class Layout(NamedTuple):
  """A row of LAYOUTS and its tables.

  Attributes:
    kind: one of LAYOUTS.
    max_tokens: the most positions of a micro-batch, padding and patches
      included. The smallest micro-batch (one row per device) may have more.
    multiple: in how many parts the mesh cuts a batch; the number of rows is a
      multiple of it.
    rollouts: the most rollouts of a group.
    row_buckets: lengths of prompt and response together, for padded and packed.
    prompt_buckets, response_buckets: lengths of prompts and of responses, for
      shared.
    patch_buckets: numbers of patches of a prompt's media.
    num_axes: A of the model's positions.
  """
  kind: str
  max_tokens: int
  multiple: int
  rollouts: int
  row_buckets: tuple[int, ...]
  prompt_buckets: tuple[int, ...]
  response_buckets: tuple[int, ...]
  patch_buckets: tuple[int, ...]
  num_axes: int


class BatchShape(NamedTuple):
  """The shape of a micro-batch.

  Attributes:
    units: the number of prompts, or of rows that hold their own prompt.
    rows: the number of responses per unit.
    prompt: tokens of a prompt that is stored apart from its rows; 0 if rows
      hold their own prompt.
    length: tokens of a row.
    patches: patches of a prompt's media.
  """
  units: int
  rows: int
  prompt: int
  length: int
  patches: int


class _Asked(NamedTuple):
  """The fields of a prompt that packing.pad_prompts reads."""
  tokens: Sequence[int]
  media: PromptMedia | None


def _shape(of: Layout, prompt: int, length: int, patches: int) -> BatchShape:
  """As many rows and units as fit; a group that does not fit is cut evenly."""
  rows = 1
  if prompt:
    room = of.max_tokens // of.multiple - prompt - patches
    parts = -(-of.rollouts // max(1, min(of.rollouts, room // length)))
    rows = -(-of.rollouts // parts)
  units = packing.rows_per_micro_batch(
      prompt + patches + rows * length, of.max_tokens, of.multiple)
  return BatchShape(units, rows, prompt, length, patches)


def shapes(of: Layout) -> list[BatchShape]:
  """All shapes that micro-batches of a layout can have, the largest last."""
  ends = (of.response_buckets if of.kind == 'shared' else of.row_buckets)
  starts = of.prompt_buckets if of.kind == 'shared' else (0,)
  return [_shape(of, *sizes) for sizes in itertools.product(
      sorted(starts), sorted(ends), (0, *sorted(of.patch_buckets)))]


def fill(units: Sequence[Sequence[Row]], shape: BatchShape,
         num_axes: int) -> MicroBatch:
  """Turns responses, grouped by their prompt, into arrays.

  Args:
    units: at most `shape.units` units; each holds at most `shape.rows` rows of
      one prompt.
    shape: a shape with a prompt.
    num_axes: A.

  Returns:
    A host `MicroBatch` whose old log-probs are still zero.
  """
  B, T = shape.units * shape.rows, shape.length
  tokens, segment = np.zeros((2, B, T), np.int32)
  mask, adv, sampler = np.zeros((3, B, T), np.float32)
  prompts = packing.pad_prompts(
      [_Asked(rows[0].prompt, rows[0].media) for rows in units], shape.units,
      shape.prompt, shape.patches, num_axes)
  first_B = np.repeat(prompts.next_P, shape.rows)
  positions = np.broadcast_to(
      (first_B[:, None] + np.arange(T))[..., None], (B, T, num_axes))
  for u, rows in enumerate(units):
    for b, row in enumerate(rows, u * shape.rows):
      size = len(row.response)
      tokens[b, :size], sampler[b, :size] = row.response, row.logps
      segment[b, :size] = mask[b, :size] = 1
      adv[b, :size] = row.advantage
  return MicroBatch(tokens, positions.astype(np.int32), segment, mask, adv,
                    np.zeros_like(mask), sampler, None, prompts)


def _shared(units: Sequence[Sequence[Row]], of: Layout) -> list[MicroBatch]:
  by_size: dict[tuple[int, int, int], list[Sequence[Row]]] = {}
  shape_of = lambda size: _shape(of, *size)
  for rows in units:
    size = (packing.bucket(len(rows[0].prompt), of.prompt_buckets,
                           'a prompt in tokens'),
            packing.bucket(max(len(row.response) for row in rows),
                           of.response_buckets, 'a response in tokens'),
            packing.patch_bucket(rows[0].media, of.patch_buckets, 'a prompt'))
    most = shape_of(size).rows
    by_size.setdefault(size, []).extend(
        rows[i:i + most] for i in range(0, len(rows), most))

  def holds(larger, size):
    return (shape_of(larger).rows >= shape_of(size).rows
            and all(a >= b for a, b in zip(larger, size, strict=True)))

  return [fill(found, shape_of(size), of.num_axes)
          for size, found in packing.batches(
              by_size, lambda size: shape_of(size).units, holds)]


def _alone(units: Sequence[Sequence[Row]], of: Layout) -> list[MicroBatch]:
  return packing.bucketed_rows(
      list(itertools.chain(*units)), max_tokens=of.max_tokens,
      multiple=of.multiple, buckets=of.row_buckets,
      patch_buckets=of.patch_buckets, num_axes=of.num_axes,
      packed=of.kind == 'packed')


LAYOUTS = {'shared': _shared, 'padded': _alone, 'packed': _alone}


def empty(of: Layout, shape: BatchShape) -> MicroBatch:
  """A host micro-batch of a shape that holds no rows."""
  if shape.prompt:
    return fill([], shape, of.num_axes)
  return packing.pad_rows([], shape.units, shape.length, shape.patches,
                          of.num_axes)


def micro_batches(groups: Sequence[Group], adv_by_group, of: Layout, *,
                  skip_zero: bool) -> list[MicroBatch]:
  """Turns the rows of a mini-batch into micro-batches of few shapes.

  Args:
    groups: groups of the mini-batch.
    adv_by_group: advantages of each group's rollouts.
    of: the layout.
    skip_zero: leave out rows whose advantage is 0, because their gradient is 0;
      the caller counts their tokens.

  Returns:
    Micro-batches; the list may be empty.

  Raises:
    ValueError: if a prompt, a response or media fit no bucket, or a prompt is
      empty, because its first response token then has no context.
  """
  units = []
  for group, advantages in zip(groups, adv_by_group, strict=True):
    if not len(group.prompt.tokens):
      raise ValueError('a prompt has 0 tokens; it must have >= 1')
    rows = [Row(group.prompt.tokens, rollout.tokens, rollout.logps,
                float(advantage), group.prompt.media)
            for rollout, advantage in zip(group.rollouts, advantages,
                                          strict=True)
            if not (skip_zero and advantage == 0)]
    if rows:
      units.append(rows)
  return LAYOUTS[of.kind](units, of)
