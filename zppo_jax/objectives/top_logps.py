"""What a model says about every position, never all of [B, T, V] at once.

Logits exist in the blocks of `token_logps`, whose axes are used here: one sweep
over the parts of the vocabulary sums the mass, gathers what is asked for and
merges the likeliest ids. Nothing here has a gradient (see gathered_logps).
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import ArrayLike

from zppo_jax import allowed
from zppo_jax.objectives import token_logps as blocks
from zppo_jax.objectives.rounding import rounded


class Description(NamedTuple):
  """Numbers of a distribution over tokens; None where they were not asked for.

  They are aligned with tokens: position t describes token t given the tokens
  before it. They are 0 at position 0 and where nothing was asked. All of them
  come from one softmax, so that equal logits have equal log-probs.

  Attributes:
    logp_BT: of the tokens, nats.
    entropy_BT: nats.
    top_logp_BTK: of the likeliest tokens, the likeliest first.
    top_id_BTK: int32, these tokens; of equally likely ones the lower id first.
    given_logp_BTN: of the given ids; -inf where no id stands.
    rank_BT: int32, the rank of each token; the likeliest one has rank 1.
  """
  logp_BT: jax.Array
  entropy_BT: jax.Array | None = None
  top_logp_BTK: jax.Array | None = None
  top_id_BTK: jax.Array | None = None
  given_logp_BTN: jax.Array | None = None
  rank_BT: jax.Array | None = None


def _likeliest(z: jax.Array, ids: jax.Array,
               top: int) -> tuple[jax.Array, jax.Array]:
  """The `top` largest of the last axis and their ids; ties: lower id first."""
  fallen, ids = jax.lax.sort((-z, ids), num_keys=2)
  return -fallen[..., :top], ids[..., :top]


def _of_part(z: jax.Array, part: ArrayLike, top: int,
             b: blocks.Blocks) -> tuple[jax.Array, jax.Array]:
  """The likeliest logits and ids of a part; ties: lower id first."""
  z, places = jax.lax.top_k(z, min(top, b.v))
  return z, b.ids(places, part)


def _block(hidden_BcD: jax.Array, targets_Bc: jax.Array,
           given_BcN: jax.Array | None,
           head_nDv: jax.Array, top: int, entropy: bool, ranks: bool,
           b: blocks.Blocks) -> Description:
  """The results of `describe` for a block of positions."""
  wide = jnp.promote_types(hidden_BcD.dtype, jnp.float32)
  shape = targets_Bc.shape
  tile = lambda part: blocks.block_logits(hidden_BcD, head_nDv[part], part, b)
  here = lambda part: blocks.is_target(targets_Bc, part, b)

  def merge(part: ArrayLike, state: Any) -> Any:
    mass, picked, likeliest, gathered = state
    z = tile(part)
    mass, _, _ = mass.grown(z)
    picked += jnp.sum(jnp.where(here(part), z, 0), axis=-1)
    if top:
      more_z, more_id = _of_part(z, part, top, b)
      likeliest = _likeliest(jnp.concatenate([likeliest[0], more_z], axis=-1),
                             jnp.concatenate([likeliest[1], more_id], axis=-1),
                             top)
    if given_BcN is not None:
      gathered += z.at[blocks.places(given_BcN, part, b)].get(
          mode='fill', fill_value=0)
    return mass, picked, likeliest, gathered

  # An id beyond the parts: it comes last among equals.
  nothing = (jnp.full((*shape, top), -jnp.inf, wide),
             jnp.full((*shape, top), b.n * b.v, jnp.int32))
  gathered = None if given_BcN is None else jnp.zeros(given_BcN.shape, wide)
  mass, picked, (top_z, top_id), gathered = blocks.over_parts(b.n, merge, (
      blocks.Mass.none(shape, wide), jnp.zeros(shape, wide), nothing, gathered))
  above = lambda part: ((tile(part) > picked[..., None]) & ~here(part)).sum(
      axis=-1, dtype=jnp.int32)
  return Description(
      logp_BT=mass.logp(picked),
      entropy_BT=mass.entropy if entropy else None,
      top_logp_BTK=mass.logp(top_z) if top else None,
      top_id_BTK=top_id if top else None,
      given_logp_BTN=None if given_BcN is None else jnp.where(
          given_BcN >= 0, mass.logp(gathered), -jnp.inf),
      rank_BT=blocks.over_parts(
          b.n, lambda part, rank: rank + above(part),
          jnp.ones(shape, jnp.int32)) if ranks else None)


def _check(top: int, least: int, vocab: int, width: int) -> None:
  allowed.number('vocab', vocab, f'[1, {width}]',
                 note=', the columns of the head')
  allowed.number('top', top, f'[{least}, {vocab}]',
                 note=', the ids of the vocabulary')


def describe(hidden_BTD: jax.Array, head_DV: jax.Array, tokens_BT: jax.Array,
             asked_BT: jax.Array | None = None,
             given_BTN: jax.Array | None = None, *, top: int = 0,
             entropy: bool = False, ranks: bool = False, chunk: int,
             vocab: int | None = None, temperature: float = 1.0,
             vocab_chunk: int = blocks.VOCAB_CHUNK,
             mesh: Mesh | None = None) -> Description:
  """Log-probs of tokens, of the likeliest and of given ids, and entropies.

  Args:
    hidden_BTD: hidden states; position t predicts token t + 1.
    head_DV: the matrix from hidden states to logits.
    tokens_BT: int32 ids.
    asked_BT: True on positions that are wanted; None asks for all. The others
      cost nothing.
    given_BTN: int32 ids below `vocab` whose log-probs are wanted at each
      position, aligned with tokens; -1 where no id stands. None for none.
    top: K, the number of likeliest tokens; 0 for none.
    entropy: whether entropies are wanted.
    ranks: whether ranks are wanted. More than one part of the vocabulary then
      needs a second pass over it.
    chunk: the positions per row whose logits exist at a time.
    vocab: the true vocabulary, in ids; columns from it on have no mass. None:
      all columns are ids.
    temperature: logits are divided by it (1 for greedy decoding).
    vocab_chunk: the ids whose logits exist at a time.
    mesh: the mesh on which it runs, or None.

  Raises:
    ValueError: for a `top` outside the vocabulary, or a vocabulary wider than
      the head.
  """
  chex.assert_equal_shape_prefix([hidden_BTD, tokens_BT], 2)
  B, T, _ = hidden_BTD.shape
  width = head_DV.shape[1]
  vocab = width if vocab is None else vocab
  _check(top, 0, vocab, width)
  if T == 1:  # there is nothing to describe, but the arrays have their shapes
    more = lambda x: jnp.pad(x, ((0, 0), (0, 1)) + ((0, 0),) * (x.ndim - 2))
    return jax.tree.map(lambda x: x[:, :1], describe(
        more(hidden_BTD), head_DV, more(tokens_BT),
        None if asked_BT is None else more(asked_BT),
        None if given_BTN is None else more(given_BTN), top=top,
        entropy=entropy, ranks=ranks, chunk=chunk, vocab=vocab,
        temperature=temperature, vocab_chunk=vocab_chunk, mesh=mesh))
  asked = blocks.Asked.of(asked_BT, T, chunk, mesh)
  b = blocks.Blocks.of(width, asked.c, temperature=temperature, vocab=vocab,
                       most=vocab_chunk, mesh=mesh)
  head_nDv = blocks.head_parts(rounded(head_DV, hidden_BTD.dtype), b)
  hidden, targets = asked.pack(hidden_BTD[:, :-1]), asked.pack(tokens_BT[:, 1:])
  given = None if given_BTN is None else asked.pack(given_BTN[:, 1:])
  take = blocks.take_block
  of_block = lambda i: _block(
      take(hidden, i, b.c), take(targets, i, b.c),
      None if given is None else take(given, i, b.c), head_nDv, top, entropy,
      ranks, b)
  none = jax.tree.map(
      lambda x: jnp.zeros((B, targets.shape[1], *x.shape[2:]), x.dtype),
      jax.eval_shape(of_block, 0))
  put = lambda i, out: jax.tree.map(
      lambda x, block: blocks.put_block(x, block, i, b.c), out, of_block(i))
  return jax.tree.map(asked.unpack, jax.lax.fori_loop(0, asked.num, put, none))


def top_logps(hidden_BTD: jax.Array, head_DV: jax.Array, tokens_BT: jax.Array,
              *, top: int, chunk: int, ranks: bool = False,
              vocab: int | None = None, temperature: float = 1.0,
              vocab_chunk: int = blocks.VOCAB_CHUNK,
              mesh: Mesh | None = None) -> tuple[jax.Array, ...]:
  """Log-probs of the tokens and of the `top` likeliest tokens at each position.

  If a token is the likeliest, its log-prob equals the first of the top
  log-probs exactly.

  Args: as `describe`, with `top` at least 1.

  Returns:
    (logp_BT, top_logp_BTK, top_id_BTK) of a `Description`, and with `ranks`
    rank_BT behind them.

  Raises:
    ValueError: as `describe`.
  """
  width = head_DV.shape[1]
  _check(top, 1, width if vocab is None else vocab, width)
  found = describe(
      hidden_BTD, head_DV, tokens_BT, top=top, ranks=ranks, chunk=chunk,
      vocab=vocab, temperature=temperature, vocab_chunk=vocab_chunk, mesh=mesh)
  names = ('logp_BT', 'top_logp_BTK', 'top_id_BTK') + ('rank_BT',) * ranks
  return tuple(getattr(found, name) for name in names)
