"""From a model and tables of sizes to an engine."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from zppo_jax import allowed
from zppo_jax.chat import segments
from zppo_jax.chat.wording import Chat
from zppo_jax.devices import sharding
from zppo_jax.models import Model
from zppo_jax.rollout import programs
from zppo_jax.rollout.engine import Engine

# Tokens of a response cache at first; it grows as responses do.
_FIRST_LENGTH = 64


def _slot_counts(sizes: Sequence[int], unit: int) -> tuple[int, ...]:
  """Numbers of slots: the given ones, and others between two that are far
  apart; all are multiples of `unit`."""
  sizes = sorted(set(sizes))
  counts = {sizes[0]}.union(*(
      (n * unit for n in programs.table_of(more // unit, fewer // unit))
      for fewer, more in itertools.pairwise(sizes)))
  return tuple(counts)


def make_engine(*, model: Model, mesh: Mesh, chat: Chat, max_tokens: int,
                num_rollouts: Sequence[int], prompt_buckets: Sequence[int],
                group_buckets: Sequence[int],
                prefill_tokens: int | None = None,
                patch_buckets: Sequence[int] = (), slots: int | None = None,
                padding_counts: bool = True,
                cache_buckets: Sequence[int] = (), share_from: int = 0,
                **options: Any) -> Engine:
  """An engine for a model on a mesh; nothing is compiled yet.

  Args:
    model: the network.
    mesh: the mesh on which it runs.
    chat: its codec decodes tokens and says which tokens may be drawn.
    max_tokens: tokens of the longest response.
    num_rollouts: the numbers of rollouts per prompt that will be requested.
    prompt_buckets: allowed prompt lengths in tokens.
    group_buckets: allowed numbers of prompts in a prefill; larger numbers are
      split. The engine has the slots that one prefill fills, or a number
      between two such numbers that are far apart.
    prefill_tokens: the most positions of a prefill on each batch shard; a
      prefill of more prompts is split, and prompts with media count as the
      longest. One prompt per shard is the least, and a smaller number counts as
      that. None sets no limit.
    patch_buckets: allowed patches of a prompt's images and videos.
    slots: the most rollouts that decode at once (vLLM's max_num_seqs). It is
      rounded down to whole groups on all devices, with at least one group per
      device. More slots than the largest prefill fills are not made. None sets
      no limit.
    padding_counts: whether the padding columns of the head have mass in the
      log-probs of what is drawn; they are never drawn.
    cache_buckets: tokens of a prompt that decode states hold, besides those of
      the largest prompt bucket; (): the prompt buckets.
    share_from: see programs.Shapes.
    options: keyword arguments of engine.Engine.

  Raises:
    ValueError: if a prompt bucket and the response limit exceed the model's
      positions, for a size below 1, or for an empty table of sizes.
  """
  for field, sizes in (('prompt_buckets', prompt_buckets),
                       ('group_buckets', group_buckets),
                       ('num_rollouts', num_rollouts)):
    programs.sorted_sizes(field, sizes)
  for size in cache_buckets:
    allowed.number('shapes.cache_buckets', size, f'[1, {max(prompt_buckets)}]',
                   whole=True, note=', the largest of shapes.prompt_buckets')
  longest = max(prompt_buckets) + max_tokens
  if longest > model.config.max_positions:
    raise ValueError(
        f'prompt bucket {max(prompt_buckets)} + max_tokens {max_tokens} = '
        f'{longest} exceeds the model\'s max_positions, '
        f'{model.config.max_positions}; prompt_buckets may end at '
        f'{model.config.max_positions - max_tokens}')
  shards, most = sharding.batch_shards(mesh), max(num_rollouts)
  round_up = lambda n, unit: -(-n // unit) * unit
  prefill_sizes = tuple(round_up(g, shards) for g in group_buckets)
  samples = (1, *(n for n in num_rollouts if n > 1))
  unit = math.lcm(*samples) * shards
  filled = [round_up(g * most, unit) for g in prefill_sizes]
  if slots is not None:
    allowed.number('slots', slots, '>= 1', whole=True)
    filled = [min(n, max(slots // unit, 1) * unit) for n in filled]
  limits: tuple[int, ...] = ()
  if prefill_tokens is not None:
    allowed.number('prefill_tokens', prefill_tokens, '>= 1', whole=True)
    limits = tuple(max(prefill_tokens // length, 1) * shards
                   for length in sorted(set(prompt_buckets)))
  shapes = programs.Shapes(
      slots=_slot_counts(filled, unit), samples_per_prompt=samples,
      prompt_lengths=tuple(prompt_buckets),
      response_lengths=programs.table_of(
          max_tokens, min(_FIRST_LENGTH, max_tokens)),
      patches=tuple(patch_buckets), prefill_sizes=prefill_sizes,
      cache_lengths=(*cache_buckets, max(prompt_buckets))
      if cache_buckets else (), share_from=share_from, prefill_limits=limits)
  codec = chat.codec
  return Engine(
      programs.Programs(
          model, mesh, shapes,
          None if padding_counts else segments.true_vocabulary(codec)),
      decode=chat.decode_response,
      end_id=segments.end_ids(codec), allowed_V=np.isin(
          np.arange(codec.vocab_size), list(codec.sampled_ids)), **options)
