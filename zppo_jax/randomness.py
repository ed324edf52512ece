"""Randomness derived from names, never stored.

Device draws are a function of (seed, step, purpose, question, prompt kind,
rollout, position); host draws are a function of (seed, step, purpose). So a
resumed run, another batch layout or another mesh draws the same numbers.
"""

import enum
import functools
import hashlib
from collections.abc import Sequence

import jax
import numpy as np
from jax.typing import ArrayLike

from zppo_jax.records import PromptKind


class Purpose(enum.IntEnum):
  """What a random draw is used for."""
  INIT = 0
  ROLLOUT = 1
  TEACHER = 2
  COMPRESSION = 3
  EVALUATION = 4
  DATA = 5
  REPLAY = 6
  TIES = 7
  CANDIDATES = 8
  MINIBATCHES = 9
  CORPUS = 10
  PROBE = 11
  SAMPLES = 12
  ROUNDING = 13
  STATES = 14
  HINTS = 15
  CONTEXTS = 16
  WRITTEN = 17  # texts for contexts: reflections, notes, hints
  ROUTES = 18
  BALANCE = 19
  PRIVILEGED = 20  # rollouts under a teacher's context
  # The teacher's answers with and without its context, to compare them.
  LIFTED, UNLIFTED = 23, 24
  GOLD = 30
  MARGIN = 31
  LENDERS = 32  # the order in which questions lend to each other's contexts


def question_uid(question_id: str) -> int:
  """A stable 32-bit name of a question, the same on every host."""
  digest = hashlib.blake2b(question_id.encode(), digest_size=4).digest()
  return int.from_bytes(digest, 'big')


@functools.partial(jax.jit, static_argnums=0)
def _step_key(seed: int, step: ArrayLike, purpose: ArrayLike) -> jax.Array:
  key = jax.random.key(seed)
  return jax.random.fold_in(jax.random.fold_in(key, step), purpose)


@functools.cache
def like_key() -> jax.ShapeDtypeStruct:
  """The shape and type of a key, for what is traced and never run."""
  return jax.eval_shape(lambda: jax.random.key(0))


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


_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def _threefry(key: tuple, data: np.ndarray | int) -> tuple:
  """Both words of Threefry-2x32 (Salmon et al. 2011) with 20 rounds of the
  block (0, data), which is jax.random.fold_in; words broadcast."""
  keys = (*key, key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
  x, y = keys[0], keys[1] + np.asarray(data).astype(np.uint32)
  for i in range(5):
    for turn in _ROTATIONS[i % 2]:
      x = x + y
      y = (y << np.uint32(turn) | y >> np.uint32(32 - turn)) ^ x
    x = x + keys[(i + 1) % 3]
    y = y + keys[(i + 2) % 3] + np.uint32(i + 1)
  return x, y


def step_key_data(seed: int, step: int, purpose: Purpose) -> np.ndarray:
  """uint32 [2]: the data of `step_key`, made on the host."""
  seed = int(np.int64(seed))
  high = seed >> 32 if jax.dtypes.canonicalize_dtype(
      np.int64) == np.int64 else 0
  key = tuple(np.atleast_1d(np.uint32(word & 0xFFFFFFFF))
              for word in (high, seed))
  return np.concatenate(_threefry(_threefry(key, step), int(purpose)))


def rollout_key_data(key: np.ndarray | jax.Array, uids: Sequence[int],
                     kinds: Sequence[int], num_rollouts: int) -> np.ndarray:
  """uint32 [P, G, 2]: `rollout_keys` as host data. The host computes it, so
  that no number of prompts compiles a program.

  Args:
    key: uint32 [2], a result of `step_key_data`; or a key of JAX.
    uids, kinds: P of each.
    num_rollouts: G.
  """
  if isinstance(key, jax.Array):
    key = jax.random.key_data(key)
  of_prompts = tuple(np.asarray(key)[:, None, None])
  for names in (uids, kinds):
    of_prompts = _threefry(of_prompts, np.asarray(names, np.int64)[:, None])
  return np.stack(_threefry(of_prompts, np.arange(num_rollouts)), -1)


def seed_key_data(seed: int, num_rollouts: int) -> np.ndarray:
  """uint32 [G, 2]: keys of one prompt's rollouts, from a seed alone."""
  key = np.array([0, seed & 0xFFFFFFFF], np.uint32)
  return rollout_key_data(key, [0], [0], num_rollouts)[0]


def host_rng(seed: int, step: int, purpose: Purpose) -> np.random.Generator:
  """A numpy generator for draws on the host, keyed like the device's draws."""
  return np.random.default_rng([seed, step, int(purpose)])


def question_rng(seed: int, step: int, purpose: Purpose, question_id: str,
                 kind: PromptKind) -> np.random.Generator:
  """`host_rng` of one question and kind of prompt, so that its draws depend on
  no other question of the step."""
  return np.random.default_rng([seed, step, int(purpose),
                                question_uid(question_id), int(kind)])
