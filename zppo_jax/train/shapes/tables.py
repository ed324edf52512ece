"""Buckets from lengths: a few sizes that hold everything with little padding.

A bucket costs a compilation and saves padding. Tables therefore have a size for
the bulk of the lengths and one for the longest, and no two that are near.
"""

import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zppo_jax import allowed
from zppo_jax.data.prompt_lengths import rounded

# What `shapes.auto` may propose, with the values of configs/base.py: a field
# that has another value was set by hand and keeps it.
DEFAULTS = {
    'prompt_buckets': (4096, 8704), 'row_buckets': (16384, 20992),
    'patch_buckets': (), 'group_buckets': (4, 16, 96), 'slots': 128,
    'micro_tokens': 65536, 'response_buckets': ()}
NEAR = 0.75  # a size above this share of the next one is left out
MOST_MICRO_TOKENS = 2**17


def proposed(shapes: Any, defaults: Mapping[str, Any] | None = None
             ) -> tuple[str, ...]:
  """The fields of a section `shapes` that were not set by hand.

  Args:
    shapes: the section.
    defaults: field -> its value if nobody set it; None: DEFAULTS.
  """
  defaults = DEFAULTS if defaults is None else defaults
  plain = lambda value: (tuple(value) if isinstance(value, list | tuple)
                         else value)
  return tuple(name for name, default in defaults.items()
               if plain(shapes[name]) == default)


def apart(sizes: Sequence[int]) -> tuple[int, ...]:
  """Sizes in order, without those that are near the next one."""
  ordered = sorted({rounded(size) for size in sizes if size > 0})
  return tuple(size for size, larger in itertools.zip_longest(
      ordered, ordered[1:]) if larger is None or size < NEAR * larger)


def of_lengths(lengths: Sequence[int], longer: Sequence[int] = ()
               ) -> tuple[int, ...]:
  """Buckets for lengths: their 90 % quantile, their largest, and sizes for
  what is longer.

  Args:
    lengths: of what is drawn most.
    longer: further sizes that must fit.
  """
  bulk = math.ceil(np.quantile(lengths, 0.9))
  return apart([bulk, max(lengths), *longer])


@dataclasses.dataclass(frozen=True)
class Lengths:
  """What a config's data asks for, in tokens and patches.

  Attributes:
    prompts: of the plain prompts of pool and splits.
    patches: of their images and videos.
    longer: the longest prompt of each reformulation.
    responses: of recorded responses; () where there are none.
    limit: the most tokens of a response, of student or teacher, that is
      trained on.
    positions: the most that the model takes, of prompt and response together.
  """
  prompts: Sequence[int]
  patches: Sequence[int]
  longer: Sequence[int]
  responses: Sequence[int]
  limit: int
  positions: int = 2**62


def buckets(of: Lengths, prompt_buckets: Sequence[int] = ()
            ) -> dict[str, tuple[int, ...]]:
  """The tables of prompts, rows, patches and responses.

  Args:
    of: the lengths.
    prompt_buckets: those that were set by hand, which rows must hold.
  """
  # A reformulation that is longer than the model's positions is skipped.
  most = max(of.positions - of.limit, max(of.prompts))
  prompts = tuple(sorted({min(size, most) for size in of_lengths(
      of.prompts, of.longer)}))
  prompts = tuple(prompt_buckets) or prompts
  pictures = [n for n in of.patches if n]
  responses: tuple[int, ...] = ()
  if of.responses:
    found = [math.ceil(np.quantile(of.responses, q)) for q in (0.5, 0.9)]
    responses = tuple(size for size in apart([*found, of.limit])
                      if size < of.limit) + (of.limit,)
  return {
      'prompt_buckets': prompts,
      # Rows hold a prompt and the longest response.
      'row_buckets': tuple(sorted({
          min(rounded(size + of.limit), max(of.positions, size + of.limit))
          for size in (prompts[0], prompts[-1])})),
      'patch_buckets': of_lengths(pictures) if pictures else (),
      'response_buckets': responses if len(responses) > 1 else ()}


def slot_counts(total: int, unit: int) -> list[int]:
  """Numbers of slots to try, the largest first: those that take all rollouts
  of a batch, then halves.

  Args:
    total: the rollouts of a batch.
    unit: the least number, of which each is a multiple.
  """
  count = -(-total // unit)
  out = []
  while count > 1:
    out.append(count * unit)
    count = -(-count // 2)
  return [*out, unit]


def micro_counts(longest: int, useful: int) -> list[int]:
  """Positions of a micro-batch to try, the largest first: powers of two times
  the longest row.

  Args:
    longest: the longest row, which a micro-batch must hold.
    useful: the positions of a mini-batch on a batch shard.
  """
  most = min(useful, max(MOST_MICRO_TOKENS, longest))
  doublings = max(0, math.floor(math.log2(max(most / longest, 1))))
  return [longest * 2**n for n in range(doublings, -1, -1)]


def groups(slots: int, rollouts: int) -> tuple[int, ...]:
  """Prompts of a prefill: an eighth of those that the slots hold, and all."""
  most = max(slots // rollouts, 1)
  return tuple(sorted({-(-most // 8), most}))


def recorded_responses(path: str) -> list[int]:
  """Lengths of the responses in a samples.jsonl, in tokens.

  Args:
    path: the file of a run or of `zppo eval`, or its directory.

  Raises:
    FileNotFoundError, ValueError: for a file that holds none; it is named.
  """
  file = pathlib.Path(path)
  file = file / 'samples.jsonl' if file.is_dir() else file
  if not file.is_file():
    raise FileNotFoundError(f'shapes.responses is {path!r}; no samples.jsonl '
                            'of a run or of `zppo eval` is there'
                            f'{allowed.looked_from(path)}')
  out: list[int] = []
  for number, line in enumerate(file.read_text().splitlines(), 1):
    try:
      row = json.loads(line)
      plain = [r for group in row.get('groups', ())
               if group['kind'] == 'plain' for r in group['rollouts']]
      out += [int(r['length']) for r in (plain or [row])]
    except (ValueError, KeyError, TypeError, AttributeError) as e:
      raise ValueError(f'{file}, line {number}: no recorded responses: '
                       f'{type(e).__name__}: {e}') from e
  if not out:
    raise ValueError(f'{file} holds no responses')
  return out
