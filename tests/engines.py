"""Engines of small random models of every kind of layer."""

import functools
import types

import numpy as np

from benchmarks import random_models
from zppo_jax import randomness
from zppo_jax.records import Decoding
from zppo_jax.rollout import weight_sync
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


def request(i, length=None, limit=LIMIT):
  length = length or 3 + i % 6
  tokens = np.random.default_rng(i).integers(2, V, length)
  return Request(i, tuple(tokens.tolist()), randomness.seed_key_data(i, 2),
                 Decoding(limit))
