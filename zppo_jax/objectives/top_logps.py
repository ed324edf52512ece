"""The likeliest tokens at every position, never all of [B, T, V] at once."""

import chex
import jax
import jax.numpy as jnp


def top_logps(hidden_BTD: jax.Array, head_DV: jax.Array,
              tokens_BT: jax.Array, *, top: int, chunk: int,
              ranks: bool = False) -> tuple[jax.Array, ...]:
  """Log-probs of the tokens and of the `top` likeliest tokens at each position.

  All of them come from one softmax: if a token is the likeliest, its log-prob
  equals the first of the top log-probs exactly.

  Args:
    hidden_BTD: hidden states; position t predicts token t + 1.
    head_DV: the matrix from hidden states to logits.
    tokens_BT: int32 ids.
    top: K, the number of likeliest tokens that are returned.
    chunk: the positions whose logits exist at a time.
    ranks: whether the result also holds rank_BT, int32; the likeliest token has
      rank 1.

  Returns:
    (logp_BT, top_logp_BTK, top_id_BTK), nats at temperature 1, aligned with
    tokens: position t describes token t given the tokens before it, and
    position 0 holds 0.
  """
  chex.assert_equal_shape_prefix([hidden_BTD, tokens_BT], 2)
  B, T, D = hidden_BTD.shape
  length = T - 1
  size = max(1, min(chunk, length))
  pad = -length % size
  num = (length + pad) // size
  cut = lambda x, axes: jnp.pad(x, ((0, 0), (0, pad), *axes)).reshape(
      B, num, size, *x.shape[2:]).swapaxes(0, 1)

  def one_chunk(xs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
    hidden_BcD, targets_Bc = xs
    logits = jnp.einsum('bcd,dv->bcv', hidden_BcD,
                        head_DV.astype(hidden_BcD.dtype),
                        preferred_element_type=jnp.promote_types(
                            hidden_BcD.dtype, jnp.float32))
    logps = jax.nn.log_softmax(logits, axis=-1)
    picked = jnp.take_along_axis(logps, targets_Bc[..., None], axis=-1)
    of_token = (picked[..., 0], *jax.lax.top_k(logps, top))
    if not ranks:
      return of_token
    return *of_token, 1 + (logps > picked).sum(-1, dtype=jnp.int32)

  out = jax.lax.map(one_chunk, (cut(hidden_BTD[:, :-1], [(0, 0)]),
                                cut(tokens_BT[:, 1:], [])))

  def align(x: jax.Array) -> jax.Array:
    x = x.swapaxes(0, 1).reshape(B, length + pad, *x.shape[3:])[:, :length]
    return jnp.pad(x, ((0, 0), (1, 0), *[(0, 0)] * (x.ndim - 2)))
  return tuple(align(x) for x in out)
