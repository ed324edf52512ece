"""Randomness derived from names, never stored.

Device draws are a function of (seed, step, purpose, question, prompt kind,
rollout, position); host draws are a function of (seed, step, purpose). So a
resumed run, another batch layout or another mesh draws the same numbers.
"""

import functools
import hashlib
from collections.abc import Sequence

import jax
import numpy as np
from jax.typing import ArrayLike

from zppo_jax.records import PromptKind, Purpose

_CHUNK = 64


def question_uid(question_id: str) -> int:
  """A stable 32-bit name of a question, the same on every host."""
  digest = hashlib.blake2b(question_id.encode(), digest_size=4).digest()
  return int.from_bytes(digest, 'big')


@functools.partial(jax.jit, static_argnums=0)
def _step_key(seed: int, step: ArrayLike, purpose: ArrayLike) -> jax.Array:
  key = jax.random.key(seed)
  return jax.random.fold_in(jax.random.fold_in(key, step), purpose)


def step_key(seed: int, step: ArrayLike, purpose: Purpose) -> jax.Array:
  """The key from which all device draws of one purpose and step derive."""
  return _step_key(seed, step, int(purpose))


def rollout_keys(key: jax.Array, uid_P: jax.Array, kind_P: jax.Array,
                 num_rollouts: int) -> jax.Array:
  """Keys [P, G]: one key for each (question, prompt kind, rollout)."""
  def one(uid: jax.Array, kind: jax.Array, rollout: jax.Array) -> jax.Array:
    of_prompt = jax.random.fold_in(jax.random.fold_in(key, uid), kind)
    return jax.random.fold_in(of_prompt, rollout)
  over_rollouts = jax.vmap(one, in_axes=(None, None, 0))
  over_prompts = jax.vmap(over_rollouts, in_axes=(0, 0, None))
  return over_prompts(uid_P, kind_P, jax.numpy.arange(num_rollouts))


@functools.partial(jax.jit, static_argnums=3)
def _rollout_key_data(key: jax.Array, uid_P: jax.Array, kind_P: jax.Array,
                      num_rollouts: int) -> jax.Array:
  return jax.random.key_data(rollout_keys(key, uid_P, kind_P, num_rollouts))


def rollout_key_data(key: jax.Array, uids: Sequence[int],
                     kinds: Sequence[int], num_rollouts: int) -> np.ndarray:
  """uint32 [P, G, 2]: `rollout_keys` as host data, _CHUNK prompts per call, so
  that another number of prompts compiles nothing."""
  out = np.zeros((len(uids), num_rollouts, 2), np.uint32)
  for start in range(0, len(uids), _CHUNK):
    uid, kind = np.zeros(_CHUNK, np.uint32), np.zeros(_CHUNK, np.int32)
    found = len(uids[start:start + _CHUNK])
    uid[:found] = uids[start:start + _CHUNK]
    kind[:found] = kinds[start:start + _CHUNK]
    out[start:start + found] = np.asarray(
        _rollout_key_data(key, uid, kind, num_rollouts))[:found]
  return out


def seed_key_data(seed: int, num_rollouts: int) -> np.ndarray:
  """uint32 [G, 2]: keys of one prompt's rollouts, from a seed alone."""
  return rollout_key_data(jax.random.key(seed), [0], [0], num_rollouts)[0]


def host_rng(seed: int, step: int, purpose: Purpose) -> np.random.Generator:
  """A numpy generator for draws on the host, keyed like the device's draws."""
  return np.random.default_rng([seed, step, int(purpose)])


def question_rng(seed: int, step: int, purpose: Purpose, question_id: str,
                 kind: PromptKind) -> np.random.Generator:
  """`host_rng` of one question and kind of prompt, so that its draws depend on
  no other question of the step."""
  return np.random.default_rng([seed, step, int(purpose),
                                question_uid(question_id), int(kind)])
