"""Our engine fed with ids and exact response lengths."""

import dataclasses

import numpy as np

from zppo_jax import randomness
from zppo_jax.chat.wording import BOXED, Chat
from zppo_jax.records import Decoding
from zppo_jax.rollout.build import make_engine
from zppo_jax.rollout.requests import Request


class Ids:
  """A codec of ids alone, none of which ends a response."""

  def __init__(self, vocab_size: int, end_id: int):
    self.vocab_size, self.end_id, self.pad_id = vocab_size, end_id, 0
    self.ids, self.reserved_ids = {}, frozenset()
    self.sampled_ids = frozenset(range(vocab_size))

  def decode(self, ids):
    return ''


def engine_of(model, mesh, *, end_id: int, max_tokens: int, prompt: int,
              rows: int, slots: int | None = None, **options):
  """An engine for prompts of one length, a rollout each."""
  chat = Chat(Ids(model.config.vocab_size, end_id),
              dataclasses.replace(BOXED, closing=''))
  return make_engine(
      model=model, mesh=mesh, chat=chat, max_tokens=max_tokens,
      num_rollouts=(1,), prompt_buckets=(prompt,),
      group_buckets=(1, 2, 4, rows), slots=slots, **options)


def generate(engine, params, tokens_PT, limits, *, seed: int):
  """Completions in order; rollout p draws exactly limits[p] tokens."""
  key = randomness.step_key(seed, 0, 1)
  keys = randomness.rollout_key_data(
      key, list(range(len(limits))), [0] * len(limits), 1)
  found = engine.generate(params, [
      Request(p, tuple(map(int, row)), keys[p], Decoding(int(limit)))
      for p, (row, limit) in enumerate(zip(tokens_PT, limits, strict=True))])
  return [c for completions in found for c in completions]


def long_tail(count: int, most: int, seed: int = 0) -> np.ndarray:
  """Response lengths: log-normal of median 32 and sigma 1, cut at `most`."""
  draws = np.random.default_rng(seed).lognormal(np.log(32), 1.0, count)
  return np.clip(draws.round().astype(int), 1, most)
