"""Log-probs of kept ids with their gradient, and which ids are kept.

A support is the set of ids on which two models are compared: int32 [B, T, K],
-1 where no id stands. Ids are chosen once and then gathered from both models,
so that both give exact log-probs for the same ids.

Logits exist in the blocks of `token_logps`, whose axes are used here.
"""

import functools
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from zppo_jax import allowed
from zppo_jax.objectives import token_logps as blocks
from zppo_jax.objectives.divergences import LEAST_REST
from zppo_jax.objectives.rounding import rounded

_EMPTY = -1e20  # a log-mass below it is that of no id at all


def _without(z: jax.Array, places: Any) -> jax.Array:
  """The logits of a part, with those of the kept ids far away."""
  return z.at[places].set(blocks.FAR, mode='drop')


def _forward(hidden_BTD: jax.Array, head_DV: jax.Array, ids_BTK: jax.Array,
             num: ArrayLike, b: blocks.Blocks, rest: bool) -> tuple[Any, Any]:
  """Outputs and residuals of `_gathered`."""
  wide = jnp.promote_types(hidden_BTD.dtype, jnp.float32)
  head_nDv = blocks.head_parts(rounded(head_DV, hidden_BTD.dtype), b)
  zero = jnp.zeros(ids_BTK.shape[:2], wide)

  def block(i: ArrayLike, carry: Any) -> Any:
    logp_BTK, lse_BT, rest_BT = carry
    hidden, ids = (blocks.take_block(x, i, b.c) for x in (hidden_BTD, ids_BTK))

    def one(part: ArrayLike, state: Any) -> Any:
      every, others, picked = state
      z = blocks.block_logits(hidden, head_nDv[part], part, b)
      places = blocks.places(ids, part, b)
      picked += z.at[places].get(mode='fill', fill_value=0)
      every, _, _ = every.grown(z)
      if rest:
        others, _, _ = others.grown(_without(z, places))
      return every, others, picked

    none = blocks.Mass.none(hidden.shape[:2], wide)
    state = none, none, jnp.zeros(ids.shape, wide)
    every, others, picked = blocks.over_parts(b.n, one, state)
    put = lambda x_BT, block: blocks.put_block(x_BT, block, i, b.c)
    return (put(logp_BTK, every.logp(picked)), put(lse_BT, every.lse),
            put(rest_BT, every.logp(others.lse)) if rest else rest_BT)

  logp_BTK, lse_BT, rest_BT = jax.lax.fori_loop(
      0, num, block, (jnp.zeros(ids_BTK.shape, wide), zero, zero))
  return (logp_BTK, jnp.maximum(rest_BT, math.log(LEAST_REST))), (
      hidden_BTD, head_DV, ids_BTK, num, lse_BT, rest_BT)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _gathered(hidden_BTD: jax.Array, head_DV: jax.Array, ids_BTK: jax.Array,
              num: ArrayLike, b: blocks.Blocks,
              rest: bool) -> tuple[jax.Array, jax.Array]:
  """(logp_BTK, rest_BT) of ids; 0 after the first `num` blocks."""
  return _forward(hidden_BTD, head_DV, ids_BTK, num, b, rest)[0]


def _backward(b: blocks.Blocks, rest: bool, residuals: Any,
              cotangents: Any) -> Any:
  """The gradient. With p the distribution, K the kept ids and r their rest,

    d logp_k / d z_v = 1[v = k] - p_v
    d log r / d z_v = 1[v not in K] p_v / r - p_v
  """
  hidden_BTD, head_DV, ids_BTK, num, lse_BT, rest_BT = residuals
  of_logp_BTK, of_rest_BT = cotangents
  head_nDv = blocks.head_parts(rounded(head_DV, hidden_BTD.dtype), b)
  of_logp_BTK = jnp.where(ids_BTK >= 0, of_logp_BTK, 0)
  # Where all ids are kept the rest is empty in either model.
  of_rest_BT = jnp.where(rest_BT > _EMPTY, of_rest_BT, 0)
  of_all_BT = of_logp_BTK.sum(axis=-1) + (of_rest_BT if rest else 0)

  def slope(i: ArrayLike, part: ArrayLike) -> jax.Array:
    take = lambda x_BT: blocks.take_block(x_BT, i, b.c)
    column = lambda x_BT: take(x_BT)[..., None]
    hidden, lse = take(hidden_BTD), column(lse_BT)
    z = blocks.block_logits(hidden, head_nDv[part], part, b)
    places = blocks.places(take(ids_BTK), part, b)
    grad = -jnp.exp(z - lse) * column(of_all_BT)
    if rest:
      others = jnp.maximum(column(rest_BT), _EMPTY) + lse
      grad += column(of_rest_BT) * jnp.exp(_without(z, places) - others)
    return grad.at[places].add(take(of_logp_BTK), mode='drop')

  return (*blocks.back_through(hidden_BTD, head_DV, head_nDv, num, b, slope),
          None, None)


_gathered.defvjp(_forward, _backward)


def gathered_logps(hidden_BTD: jax.Array, head_DV: jax.Array,
                   ids_BTK: jax.Array, asked_BT: jax.Array | None = None, *,
                   vocab: int, temperature: float = 1.0, rest: bool = False,
                   chunk: int = 512,
                   vocab_chunk: int = blocks.VOCAB_CHUNK,
                   mesh: Mesh | None = None) -> jax.Array:
  """Log-probs of given ids at each position, with their gradient.

  Differentiable in hidden states and head. The gradient of the head is summed
  in float32 or wider.

  The rest is summed from the logits of the ids that are not kept. It and its
  gradient are therefore exact where the kept ids hold nearly all mass, which
  1 - sum(p) is not. Without an id outside the support the rest is LEAST_REST
  and has no gradient.

  Args:
    hidden_BTD: hidden states; position t predicts token t + 1.
    head_DV: the matrix from hidden states to logits.
    ids_BTK: int32 distinct ids below `vocab`, aligned with tokens: position t
      holds the candidates for token t. -1 where no id stands.
    asked_BT: True on positions that are wanted; None asks for all. Others are
      treated as if they held no id.
    vocab: the true vocabulary, in ids; columns from it on have no mass.
    temperature: logits are divided by it (1 for greedy decoding).
    rest: whether the mass of all other ids is also returned. It costs a second
      exponential per logit.
    chunk: the asked positions per row whose logits exist at a time.
    vocab_chunk: the ids whose logits exist at a time.
    mesh: the mesh on which it runs, or None.

  Returns:
    logp_BTK, nats, at least float32, -inf where no id stands and at position
    0, which has no context; with `rest` [B, T, K + 1], whose last entry is the
    log of the rest, as of `divergences.bucket` (0 where no id stands at all).

  Raises:
    ValueError: for a vocabulary wider than the head.
  """
  chex.assert_rank([hidden_BTD, head_DV, ids_BTK], [3, 2, 3])
  chex.assert_equal_shape_prefix([hidden_BTD, ids_BTK], 2)
  width = head_DV.shape[1]
  allowed.number('vocab', vocab, f'[1, {width}]',
                 note=', the columns of the head')
  B, T, _ = hidden_BTD.shape
  ids_BTK = jnp.where(np.arange(T)[:, None] > 0, ids_BTK, -1)
  if asked_BT is not None:
    ids_BTK = jnp.where(asked_BT[..., None], ids_BTK, -1)
  if T == 1:
    logp_BTK = jnp.zeros(ids_BTK.shape, jnp.promote_types(
        hidden_BTD.dtype, jnp.float32))
    rest_BT = logp_BTK[..., 0]
  else:
    asked = blocks.Asked.of(asked_BT, T, chunk, mesh)
    b = blocks.Blocks.of(width, asked.c, temperature=temperature, vocab=vocab,
                         most=vocab_chunk, mesh=mesh)
    logp_BTK, rest_BT = (asked.unpack(x) for x in _gathered(
        asked.pack(hidden_BTD[:, :-1]), head_DV, asked.pack(ids_BTK[:, 1:]),
        asked.num, b, rest))
  logp_BTK = where_kept(logp_BTK, ids_BTK)
  return jnp.concatenate(
      [logp_BTK, rest_BT[..., None]], axis=-1) if rest else logp_BTK


def where_kept(logp_BTK: jax.Array, ids_BTK: jax.Array) -> jax.Array:
  """Stored log-probs with -inf where no id stands (id -1)."""
  return jnp.where(ids_BTK >= 0, logp_BTK, -jnp.inf)


def _is_in(ids: jax.Array, others: jax.Array) -> jax.Array:
  """bool [..., K]: True where an id is among `others` [..., K']."""
  return (ids[..., :, None] == others[..., None, :]).any(axis=-1) & (ids >= 0)


def student_ids(student: jax.Array, teacher: jax.Array,
                tokens: jax.Array) -> jax.Array:
  """The student's likeliest ids.

  Args:
    student, teacher: int32 [..., K], distinct; -1 where no id stands.
    tokens: int32 [...], the sampled tokens.

  Returns:
    int32 [..., N], distinct, -1 where no id stands.
  """
  del teacher, tokens
  return student


def teacher_ids(student: jax.Array, teacher: jax.Array,
                tokens: jax.Array) -> jax.Array:
  """The teacher's likeliest ids; the rest is as `student_ids`."""
  del student, tokens
  return teacher


def either_ids(student: jax.Array, teacher: jax.Array,
               tokens: jax.Array) -> jax.Array:
  """The ids of the student or the teacher: 2K places in ascending order.

  -1 stands in the place of a duplicate. The rest is as `student_ids`.
  """
  del tokens
  ids = jnp.sort(jnp.concatenate([student, teacher], axis=-1), axis=-1)
  again = ids[..., 1:] == ids[..., :-1]
  first = jnp.zeros_like(again[..., :1])
  return jnp.where(jnp.concatenate([first, again], axis=-1), -1, ids)


def both_ids(student: jax.Array, teacher: jax.Array,
             tokens: jax.Array) -> jax.Array:
  """The teacher's ids that are also the student's; -1 stands for others.

  The rest is as `student_ids`.
  """
  del tokens
  return jnp.where(_is_in(teacher, student), teacher, -1)


def sampled_ids(student: jax.Array, teacher: jax.Array,
                tokens: jax.Array) -> jax.Array:
  """The sampled token alone: with a bucket, two Bernoulli distributions.

  The rest is as `student_ids`, with N = 1.
  """
  del student, teacher
  return tokens[..., None]


SUPPORTS = {
    'student': student_ids,
    'teacher': teacher_ids,
    'either': either_ids,
    'both': both_ids,
    'sampled': sampled_ids,
}
