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
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zppo_jax.arrays import MicroBatch, PromptBatch
from zppo_jax.learner import packing
from zppo_jax.learner.packing import TargetArrays
from zppo_jax.records import (
  Group,
  Prompt,
  Rollout,
  TokenSequence,
  TrainingSequence,
)


class Layout(NamedTuple):
  """A row of LAYOUTS and its tables.

  Attributes:
    kind: one of LAYOUTS.
    max_tokens: the most positions of a micro-batch on each of `multiple` parts,
      padding and patches included. A part of one row may have more.
    multiple: in how many parts the mesh cuts a batch; the number of rows is a
      multiple of it.
    rollouts: the most rollouts of a group.
    row_buckets: lengths of prompt and response together, for padded and packed.
    prompt_buckets, response_buckets: lengths of prompts and of responses, for
      shared.
    patch_buckets: numbers of patches of a prompt's media.
    num_axes: A of the model's positions.
    lessons: the tables of lessons; None if the teacher reads what the policy
      reads, or reads nothing inside the update.
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
  lessons: packing.LessonTable | None = None


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


def _shape(of: Layout, prompt: int, length: int, patches: int) -> BatchShape:
  """As many rows and units as fit; a group that does not fit is cut evenly.
  Lessons count as if each was the longest."""
  rows, unit, row = 1, prompt + patches, length
  if of.lessons is not None:
    if not prompt:
      row += max(of.lessons.row_buckets)
    elif of.lessons.of_question:
      unit += max(of.lessons.prompt_buckets) + patches
    else:
      row += max(of.lessons.prompt_buckets) + patches
  if prompt:
    room = of.max_tokens - unit
    parts = -(-of.rollouts // max(1, min(of.rollouts, room // row)))
    rows = -(-of.rollouts // parts)
  units = packing.rows_per_micro_batch(
      unit + rows * row, of.max_tokens, of.multiple)
  return BatchShape(units, rows, prompt, length, patches)


def shapes(of: Layout) -> list[BatchShape]:
  """All shapes that micro-batches of a layout can have, the largest last."""
  ends = (of.response_buckets if of.kind == 'shared' else of.row_buckets)
  starts = of.prompt_buckets if of.kind == 'shared' else (0,)
  return [_shape(of, *sizes) for sizes in itertools.product(
      sorted(starts), sorted(ends), (0, *sorted(of.patch_buckets)))]


def fill(units: Sequence[Sequence[TrainingSequence]], shape: BatchShape,
         num_axes: int, like: Mapping[str, np.ndarray] | None = None,
         lessons: packing.LessonTable | None = None) -> MicroBatch:
  """Turns responses, grouped by their prompt, into arrays.

  Args:
    units: at most `shape.units` units; each holds at most `shape.rows`
      sequences of one prompt.
    shape: a shape with a prompt.
    num_axes: A.
    like, lessons: see packing.fill_rows.

  Returns:
    A host `MicroBatch` of responses behind shared prompts.
  """
  B, T = shape.units * shape.rows, shape.length
  tokens, segment = np.zeros((2, B, T), np.int32)
  arrays = TargetArrays(
      (B, T), packing.targets_like(units) if like is None else like)
  prompts = packing.pad_prompts(
      [packing.PromptTokens(tokens=unit[0].sequence.prompt,
                            media=unit[0].sequence.media) for unit in units],
      shape.units, shape.prompt, shape.patches, num_axes)
  first_B = np.repeat(prompts.next_P, shape.rows)
  positions = np.broadcast_to(
      (first_B[:, None] + np.arange(T))[..., None], (B, T, num_axes))
  for u, unit in enumerate(units):
    for b, training in enumerate(unit, u * shape.rows):
      size = len(training.sequence.response)
      tokens[b, :size], segment[b, :size] = training.sequence.response, 1
      arrays.put(b, 0, training)
  return MicroBatch(
      tokens_BT=tokens, positions_BTA=positions.astype(np.int32),
      segment_BT=segment, mask_BT=arrays.mask_BT, targets=arrays.targets,
      prompts=prompts, lessons=None if lessons is None else _lesson_prompts(
          units, shape, num_axes, lessons))


def _lesson_prompts(units: Sequence[Sequence[TrainingSequence]],
                    shape: BatchShape, num_axes: int,
                    of: packing.LessonTable) -> PromptBatch:
  """The prompts of lessons: one per unit if its rollouts share it, else one per
  row."""
  none = packing.PromptTokens(tokens=(), media=None)
  each = 1 if of.of_question else shape.rows
  prompts = [none] * (shape.units * each)
  for u, unit in enumerate(units):
    for i, training in enumerate(unit[:each], u * each):
      prompts[i] = packing.PromptTokens(tokens=training.lesson.prompt,
                                        media=training.lesson.media)
  length = packing.bucket(
      max((len(p.tokens) for p in prompts), default=0)
      or max(of.prompt_buckets), of.prompt_buckets,
      'the prompt of a lesson in tokens')
  return packing.pad_prompts(
      prompts, len(prompts), length, of.patches([p.media for p in prompts]),
      num_axes)


def _shared(units: Sequence[Sequence[TrainingSequence]],
            of: Layout) -> list[MicroBatch]:
  by_size: dict[tuple[int, int, int], list[Sequence[TrainingSequence]]] = {}
  shape_of = lambda size: _shape(of, *size)
  for unit in units:
    first = unit[0].sequence
    size = (packing.bucket(len(first.prompt), of.prompt_buckets,
                           'a prompt in tokens'),
            packing.bucket(max(len(s.sequence.response) for s in unit),
                           of.response_buckets, 'a response in tokens'),
            packing.patch_bucket(first.media, of.patch_buckets, 'a prompt'))
    most = shape_of(size).rows
    by_size.setdefault(size, []).extend(
        unit[i:i + most] for i in range(0, len(unit), most))

  def holds(larger, size):
    return (shape_of(larger).rows >= shape_of(size).rows
            and all(a >= b for a, b in zip(larger, size, strict=True)))

  return [fill(chosen, shape_of(size), of.num_axes, lessons=of.lessons)
          for size, chosen in packing.batches(
              by_size, lambda size: shape_of(size).units, holds)]


def _alone(units: Sequence[Sequence[TrainingSequence]],
           of: Layout) -> list[MicroBatch]:
  return packing.bucketed_rows(
      list(itertools.chain(*units)), max_tokens=of.max_tokens,
      multiple=of.multiple, buckets=of.row_buckets,
      patch_buckets=of.patch_buckets, num_axes=of.num_axes,
      packed=of.kind == 'packed', lessons=of.lessons)


LAYOUTS = {'shared': _shared, 'padded': _alone, 'packed': _alone}


def empty(of: Layout, shape: BatchShape,
          like: Mapping[str, np.ndarray]) -> MicroBatch:
  """A host micro-batch of a shape that holds no sequences.

  Args:
    of: the layout.
    shape: one of `shapes`.
    like: see packing.fill_rows.
  """
  if shape.prompt:
    return fill([], shape, of.num_axes, like, of.lessons)
  return packing.fill_rows([], shape.units, shape.length, shape.patches,
                           of.num_axes, like, of.lessons)


def _lesson(prompt: Prompt, rollout: Rollout) -> TokenSequence:
  return TokenSequence(prompt=prompt.tokens, response=rollout.tokens,
                       media=prompt.media)


def micro_batches(groups: Sequence[Group],
                  targets: Mapping[tuple[int, int], Mapping[str, np.ndarray]],
                  of: Layout,
                  lessons: Mapping[tuple[int, int], Prompt] | None = None
                  ) -> list[MicroBatch]:
  """Turns the rollouts of a mini-batch into micro-batches of few shapes.

  Args:
    groups: groups of the mini-batch.
    targets: (group, rollout) -> targets of the rollout, by its place. A rollout
      without an entry is left out; the caller counts its tokens.
    of: the layout.
    lessons: (group, rollout) -> the prompt that the teacher reads. A rollout
      without an entry has its own; only a layout with lessons reads them.

  Returns:
    Micro-batches; the list may be empty.

  Raises:
    ValueError: if a prompt, a response or media fit no bucket, or a prompt is
      empty, because its first response token then has no context.
  """
  units = []
  for p, group in enumerate(groups):
    prompt = group.prompt
    if not len(prompt.tokens):
      raise ValueError('a prompt has 0 tokens; it must have >= 1')
    read = lambda p, g, own: own if lessons is None else lessons.get(
        (p, g), own)
    unit = [packing.weighted(
        TokenSequence(prompt=prompt.tokens, response=rollout.tokens,
                      media=prompt.media),
        lesson=None if of.lessons is None else _lesson(
            read(p, g, prompt), rollout), **targets[p, g])
        for g, rollout in enumerate(group.rollouts) if (p, g) in targets]
    if unit:
      units.append(unit)
  return LAYOUTS[of.kind](units, of)
