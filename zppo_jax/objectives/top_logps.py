"""The likeliest tokens at every position, never all of [B, T, V] at once.

Logits exist in the blocks of `token_logps`, whose axes are used here: the
likeliest ids of the parts of the vocabulary are merged as the parts come.
"""

import chex
import jax
import jax.numpy as jnp

from zppo_jax.objectives import token_logps as blocks
from zppo_jax.objectives.rounding import rounded


def _likeliest(z, ids, top: int):
  """The `top` largest of the last axis and their ids; ties: lower id first."""
  fallen, ids = jax.lax.sort((-z, ids), num_keys=2)
  return -fallen[..., :top], ids[..., :top]


def _of_part(z, part, top: int, b: blocks.Blocks):
  """The likeliest logits and ids of a part; ties: lower id first."""
  z, places = jax.lax.top_k(z, min(top, b.v))
  return z, places * b.n + part


def _block(hidden_BcD, targets_Bc, head_nDv, top: int, ranks: bool,
           b: blocks.Blocks):
  """The results of `top_logps` for a block of positions."""
  wide = jnp.promote_types(hidden_BcD.dtype, jnp.float32)
  shape = targets_Bc.shape
  tile = lambda part: blocks.block_logits(hidden_BcD, head_nDv[part], part, b)
  here = lambda part: blocks.is_target(targets_Bc, part, b)

  def merge(part, state):
    mass, picked, likeliest = state
    z = tile(part)
    mass, _, _ = mass.grown(z)
    picked += jnp.sum(jnp.where(here(part), z, 0), axis=-1)
    joined = [jnp.concatenate(pair, axis=-1) for pair in zip(
        likeliest, _of_part(z, part, top, b), strict=True)]
    return mass, picked, _likeliest(*joined, top)

  # An id beyond the parts: it comes last among equals.
  nothing = (jnp.full((*shape, top), -jnp.inf, wide),
             jnp.full((*shape, top), b.n * b.v, jnp.int32))
  mass, picked, (top_z, top_id) = blocks.over_parts(b.n, merge, (
      blocks.Mass.none(shape, wide), jnp.zeros(shape, wide), nothing))
  out = mass.logp(picked), mass.logp(top_z), top_id
  if not ranks:
    return out
  above = lambda part: ((tile(part) > picked[..., None]) & ~here(part)).sum(
      axis=-1, dtype=jnp.int32)
  return *out, blocks.over_parts(
      b.n, lambda part, rank: rank + above(part), jnp.ones(shape, jnp.int32))


def top_logps(hidden_BTD, head_DV, tokens_BT, *, top: int, chunk: int,
              ranks: bool = False, vocab: int | None = None,
              temperature: float = 1.0,
              vocab_chunk: int = blocks.VOCAB_CHUNK):
  """Log-probs of the tokens and of the `top` likeliest tokens at each position.

  All of them come from one softmax: if a token is the likeliest, its log-prob
  equals the first of the top log-probs exactly. Of equally likely ids the lower
  one comes first.

  Args:
    hidden_BTD: hidden states; position t predicts token t + 1.
    head_DV: the matrix from hidden states to logits.
    tokens_BT: int32 ids.
    top: K, the number of likeliest tokens that are returned.
    chunk: the positions whose logits exist at a time.
    ranks: whether the result also holds rank_BT, int32; the likeliest token has
      rank 1. More than one part of the vocabulary then needs a second pass.
    vocab: the true vocabulary, in ids; columns from it on have no mass. None:
      all columns are ids.
    temperature: logits are divided by it (1 for greedy decoding).
    vocab_chunk: the ids whose logits exist at a time.

  Returns:
    (logp_BT, top_logp_BTK, top_id_BTK), nats, aligned with tokens: position t
    describes token t given the tokens before it, and position 0 holds 0.

  Raises:
    ValueError: for a `top` outside the vocabulary, or a vocabulary wider than
      the head.
  """
  chex.assert_equal_shape_prefix([hidden_BTD, tokens_BT], 2)
  B, T, _ = hidden_BTD.shape
  width = head_DV.shape[1]
  vocab = width if vocab is None else vocab
  if not 1 <= vocab <= width:
    raise ValueError(f'vocab is {vocab}; the head has {width} columns, so that '
                     f'it must be in [1, {width}]')
  if not 1 <= top <= vocab:
    raise ValueError(f'top is {top}; it must be in [1, {vocab}], because the '
                     f'vocabulary has {vocab} ids')
  length = T - 1
  c = max(1, min(chunk, length))
  pad = -length % c
  num = (length + pad) // c
  n, v = blocks.parts(width, vocab_chunk)
  b = blocks.Blocks(temperature=blocks.scaled(temperature), c=c, n=n, v=v,
                    vocab=vocab, kept=False)
  head_nDv = blocks.head_parts(rounded(head_DV, hidden_BTD.dtype), b)
  cut = lambda x, axes: jnp.pad(x, ((0, 0), (0, pad), *axes)).reshape(
      B, num, c, *x.shape[2:]).swapaxes(0, 1)
  out = jax.lax.map(
      lambda xs: _block(*xs, head_nDv, top, ranks, b),
      (cut(hidden_BTD[:, :-1], [(0, 0)]), cut(tokens_BT[:, 1:], [])))

  def align(x):
    x = x.swapaxes(0, 1).reshape(B, length + pad, *x.shape[3:])[:, :length]
    return jnp.pad(x, ((0, 0), (1, 0), *[(0, 0)] * (x.ndim - 2)))
  return tuple(align(x) for x in out)
