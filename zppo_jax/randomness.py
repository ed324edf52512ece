"""Randomness derived from names, never stored.

Device draws are a function of (seed, step, purpose, question, prompt kind,
rollout, position); host draws of (seed, step, purpose). So a resumed run, a
different batch layout or another mesh draws the same.
"""

import hashlib

import jax
import numpy as np

from zppo_jax.records import Purpose


def question_uid(question_id: str) -> int:
  """A stable 32-bit name of a question, the same on every host."""
  digest = hashlib.blake2b(question_id.encode(), digest_size=4).digest()
  return int.from_bytes(digest, 'big')


def step_key(seed: int, step: int, purpose: Purpose) -> jax.Array:
  """The key under which all device draws of one purpose and step lie."""
  key = jax.random.key(seed)
  return jax.random.fold_in(jax.random.fold_in(key, step), int(purpose))


def rollout_keys(key, uid_P, kind_P, num_rollouts: int):
  """Keys [P, G]: one for each (question, prompt kind, rollout)."""
  def one(uid, kind, rollout):
    of_prompt = jax.random.fold_in(jax.random.fold_in(key, uid), kind)
    return jax.random.fold_in(of_prompt, rollout)
  over_rollouts = jax.vmap(one, in_axes=(None, None, 0))
  over_prompts = jax.vmap(over_rollouts, in_axes=(0, 0, None))
  return over_prompts(uid_P, kind_P, jax.numpy.arange(num_rollouts))


def host_rng(seed: int, step: int, purpose: Purpose):
  """A numpy generator for host-side draws, keyed like the device's."""
  return np.random.default_rng([seed, step, int(purpose)])
