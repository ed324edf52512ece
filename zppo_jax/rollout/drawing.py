"""One token per slot: truncation, the draw, and its log-prob.

A token is drawn by the inverse of the cumulative distribution (CDF). A large
vocabulary is written in rows; uniform numbers choose a block of columns, a
column in it and a row. So a draw needs no noise per id, which would cost more
than everything else that is done with the logits of a step.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from zppo_jax.records import Decoding

# How tokens are drawn; the decodings of a chunk decide which mode is compiled.
# Greedy slots have no mode of their own: in a chunk without others, DRAW draws
# nothing, and so evaluations share the programs of rollouts.
DRAW, TRUNCATE = 'draw', 'truncate'
MODES = (DRAW, TRUNCATE)
ALL = slice(None)  # of ids
# A vocabulary of that size is folded, so that its ids are read once and few
# numbers are left to sum up.
FOLDED_FROM, FOLDS = 4096, 16


def mode_of(decoding: Decoding) -> str:
  """The cheapest mode that can serve a decoding."""
  cut = decoding.temperature and (decoding.top_k or decoding.top_p < 1)
  return TRUNCATE if cut else DRAW


def truncate(logits_BV: jax.Array, top_p_B: jax.Array,
             top_k_B: jax.Array) -> jax.Array:
  """Sets logits to -inf outside top-k, then outside the nucleus, per slot.

  The nucleus is the smallest set of most likely tokens whose mass reaches
  top_p; the most likely token always stays. Tokens tied with the last kept
  token stay too, so there may be more than top_k. top_k = 0 and top_p = 1 keep
  all tokens (nucleus sampling: arXiv 1904.09751, section 3.1).

  Args:
    logits_BV: float32.
    top_p_B, top_k_B: see records.Decoding.
  """
  V = logits_BV.shape[-1]
  ordered = jnp.sort(logits_BV, axis=-1, descending=True)
  last = jnp.where(top_k_B > 0, jnp.minimum(top_k_B, V), V) - 1
  kth = jnp.take_along_axis(ordered, last[:, None], axis=-1)
  ordered = jnp.where(ordered < kth, -jnp.inf, ordered)
  mass = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1)
  # The last token needed: the first at which the mass before it is < p. Of the
  # most likely one it counts as negative, for a p that is 0 in float32.
  needed = jnp.concatenate(
      [jnp.full_like(mass[..., :1], -1), mass[..., :-1]], -1) < top_p_B[:, None]
  lowest = jnp.min(jnp.where(needed, ordered, jnp.inf), -1, keepdims=True)
  lowest = jnp.where(top_p_B[:, None] < 1, lowest, -jnp.inf)
  return jnp.where(logits_BV < jnp.maximum(kth, lowest), -jnp.inf, logits_BV)


def _first_max(x_BV):
  """argmax in two passes, because a CPU runs these ten times faster."""
  top = jnp.max(x_BV, axis=-1, keepdims=True)
  ids = jnp.arange(x_BV.shape[-1], dtype=jnp.int32)
  first = jnp.min(jnp.where(x_BV == top, ids, x_BV.shape[-1]), axis=-1)
  # If the logits of a slot hold NaN, no element equals its maximum. The result
  # is then the last id, so that it is in range, and its log-prob shows the NaN.
  return jnp.minimum(first, x_BV.shape[-1] - 1)


def _invert(mass_BN, uniform_B):
  """The index at which the CDF passes a uniform number in [0, 1).

  Rounding moves an edge of the CDF by about 1e-7. An index without mass is
  never the result, whatever the sums round to.
  """
  cdf_BN = jnp.cumsum(mass_BN, axis=-1)
  ids = jnp.arange(mass_BN.shape[-1], dtype=jnp.int32)
  passed_BN = cdf_BN > uniform_B[:, None] * cdf_BN[:, -1:]
  held_BN = mass_BN > 0
  first_B = jnp.min(jnp.where(held_BN & passed_BN, ids, ids.size), axis=-1)
  last_B = jnp.max(jnp.where(held_BN, ids, 0), axis=-1)
  return jnp.minimum(first_B, last_B)


def uniforms(key_B2: jax.Array, position_B: jax.Array) -> jax.Array:
  """float32 [B, 3] in [0, 1): the numbers behind a token of each slot."""
  def one(key, position):
    key = jax.random.fold_in(jax.random.wrap_key_data(key), position)
    return jax.random.uniform(key, (3,))
  return jax.vmap(one)(key_B2, position_B)


def block_size(count: int) -> int:
  """Of `count` ids or columns: the power of two nearest to their root."""
  return 2**round(math.log2(count) / 2)


def columns(vocab_size: int) -> int:
  """Columns in which a vocabulary is written row by row, in FOLDS rows at most;
  a small one has a column per id. TPUs keep 128 numbers together."""
  if vocab_size < FOLDED_FROM:
    return vocab_size
  return 128 * math.ceil(vocab_size / (128 * FOLDS))


def _invert_blocks(mass_BN, uniform_B2):
  """As _invert, by the block and then inside it: shorter sums."""
  B, N = mass_BN.shape
  size = block_size(N)
  blocks_BMK = jnp.pad(mass_BN, ((0, 0), (0, -N % size))).reshape(B, -1, size)
  block_B = _invert(blocks_BMK.sum(-1), uniform_B2[:, 0])
  inside_BK = jnp.take_along_axis(
      blocks_BMK, block_B[:, None, None], axis=1)[:, 0]
  return block_B * size + _invert(inside_BK, uniform_B2[:, 1])


def from_cdf(logits_BV: jax.Array, uniform_B3: jax.Array,
             of_ids: Callable = lambda logits, ids: logits) -> jax.Array:
  """int32 [B]: tokens of the distributions softmax(of_ids(logits_BV, ALL)).

  Args:
    logits_BV: float32; -inf where no token may be drawn.
    uniform_B3: see `uniforms`.
    of_ids: the logits to draw from, of some logits [B, N] and their ids, which
      are a slice or an array [B, N]. It is called for parts of them, so that
      no array of all that it returns is made.
  """
  V = logits_BV.shape[1]
  top_B1 = jnp.max(of_ids(logits_BV, ALL), axis=-1, keepdims=True)
  N = columns(V)
  # Slices, because a reshape of this axis would move all of it on a TPU.
  rows = [slice(at, min(at + N, V)) for at in range(0, V, N)]
  mass_BN = sum(jnp.pad(
      jnp.exp(of_ids(logits_BV[:, row], row) - top_B1),
      ((0, 0), (0, N - (row.stop - row.start)))) for row in rows)
  column_B = _invert_blocks(mass_BN, uniform_B3[:, :2])
  ids_BF = column_B[:, None] + N * jnp.arange(len(rows))[None]
  real_BF = jnp.minimum(ids_BF, V - 1)  # also where logits hold NaN alone
  if len(rows) == 1:
    return real_BF[:, 0]
  logits_BF = of_ids(jnp.take_along_axis(logits_BV, real_BF, axis=1), real_BF)
  mass_BF = jnp.where(ids_BF < V, jnp.exp(logits_BF - top_B1), 0)
  row_B = _invert(mass_BF, uniform_B3[:, 2])
  return jnp.take_along_axis(real_BF, row_B[:, None], axis=1)[:, 0]


def draw(logits_BV: jax.Array, key_B2: jax.Array, position_B: jax.Array,
         temperature_B: jax.Array, top_p_B: jax.Array, top_k_B: jax.Array,
         allowed_V: jax.Array, mode: str, vocab: int | None = None,
         live_B: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
  """Draws one token per slot.

  Args:
    logits_BV: float32 logits of the model.
    key_B2: key data of each slot; its response position is folded in.
    position_B: response positions.
    temperature_B, top_p_B, top_k_B: see records.Decoding.
    allowed_V: False on ids that may never be drawn.
    mode: DRAW if no slot truncates, else TRUNCATE. A slot's token is the same
      in every mode that can serve it.
    vocab: static; columns of the head from it on have no mass in logp. None:
      all columns count.
    live_B: bool, the slots that count; None: all. What only others would need
      is not computed, and their tokens mean nothing.

  Returns:
    (token_B, logp_B). logp is taken under the full vocabulary at the
    temperature (at 1 if that is 0), before truncation and before `allowed_V`.
    So it is what the trainer computes for the same token.
  """
  B, V = logits_BV.shape
  hot_B = temperature_B > 0
  live_B = jnp.ones(B, bool) if live_B is None else live_B
  scale = lambda logits: logits / jnp.where(hot_B, temperature_B, 1.0)[:, None]
  allowed_V = jnp.asarray(allowed_V)
  candidates = lambda logits, ids: jnp.where(
      jnp.atleast_2d(allowed_V[ids]), scale(logits), -jnp.inf)
  given_BV = logits_BV
  if mode == TRUNCATE:
    every_BV = candidates(logits_BV, ALL)
    given_BV = jnp.where(
        hot_B[:, None], truncate(every_BV, top_p_B, top_k_B), every_BV)
    candidates = lambda logits, ids: logits
  nothing = lambda _: jnp.zeros(B, jnp.int32)
  uniform_B3 = uniforms(key_B2, position_B)
  hot_token_B = jax.lax.cond(
      jnp.any(live_B & hot_B),
      lambda x: from_cdf(x, uniform_B3, candidates), nothing, given_BV)
  likeliest_B = jax.lax.cond(
      jnp.any(live_B & ~hot_B),
      lambda x: _first_max(candidates(x, ALL)), nothing, given_BV)
  token_B = jnp.where(hot_B, hot_token_B, likeliest_B)
  scaled_BV = scale(logits_BV)
  if vocab is not None:
    scaled_BV = jnp.where(jnp.arange(V) < vocab, scaled_BV, -jnp.inf)
  top_B = jnp.max(scaled_BV, axis=-1)
  total_B = jnp.sum(jnp.exp(scaled_BV - top_B[:, None]), axis=-1)
  picked_B = jnp.take_along_axis(scaled_BV, token_B[:, None], axis=-1)[:, 0]
  return token_B, (picked_B - top_B) - jnp.log(total_B)
