"""Engines of small random models of every kind of layer."""

import functools
import types

import numpy as np

from benchmarks import random_models
from zppo_jax import randomness
from zppo_jax.records import Decoding
from zppo_jax.rollout import drawing, weight_sync
from zppo_jax.rollout.build import make_engine
from zppo_jax.rollout.requests import Request

FAMILIES = ('qwen3', 'qwen3_5')  # attention alone; DeltaNet and attention
V, END, LIMIT = random_models.TEXT['vocab_size'], 1, 12


@functools.cache
def engine(family, mesh, slots=8):
  """Prompts of 8 or 16 tokens, responses of 64 tokens or 72."""
  codec = types.SimpleNamespace(
      vocab_size=V, end_id=END, sampled_ids=frozenset(range(2, V)))
  return make_engine(
      model=random_models.build(family)[0], mesh=mesh, max_tokens=72,
      chat=types.SimpleNamespace(codec=codec, decode_response=lambda t: ''),
      num_rollouts=(2,), prompt_buckets=(8, 16), group_buckets=(2,),
      slots=slots, decode_chunk=8)


@functools.cache
def placed(family, mesh):
  model, params = random_models.build(family)
  return weight_sync.place_copy(params, model, mesh)


def by_hand(logits_V, uniforms):
  """(the token that uniform numbers draw, how far each of them is from the
  edges of what it chooses: blocks, columns of a block, rows of a column).

  In float64: drawing.from_cdf without its rounding.
  """
  mass = np.exp(np.float64(logits_V) - np.max(logits_V))
  grid = lambda x, width: np.pad(x, (0, -len(x) % width)).reshape(-1, width)
  N = drawing.columns(len(mass))
  size = drawing.block_size(N)
  rows = grid(mass, N)
  blocks = grid(rows.sum(0), size)
  at, gaps = [], []
  for u, of in zip(uniforms, (
      lambda: blocks.sum(1), lambda: blocks[at[0]],
      lambda: rows[:, at[0] * size + at[1]]), strict=True):
    cdf = np.cumsum(of()) / of().sum()
    at.append(int(np.searchsorted(cdf, u, 'right')))
    gaps.append(abs(cdf - u))
  return at[2] * N + at[0] * size + at[1], *gaps


def edge_gap(logits_V, key_2, position, a, b):
  """How near a draw came to giving token b in place of a: the distance of its
  uniform number from the nearest edge of the CDF."""
  uniforms = drawing.uniforms(np.asarray(key_2)[None], np.int32([position]))[0]
  _, of_blocks, inside, _ = by_hand(logits_V, np.float64(uniforms))
  size = drawing.block_size(len(logits_V))
  return (inside if a // size == b // size else of_blocks).min()


def request(i, length=None, limit=LIMIT):
  length = length or 3 + i % 6
  tokens = np.random.default_rng(i).integers(2, V, length)
  return Request(i, tuple(tokens.tolist()), randomness.seed_key_data(i, 2),
                 Decoding(limit))
