"""Token log-probs from hidden states, never all of [B, T, V] at once."""

import chex
import jax
import jax.numpy as jnp


def scaled(temperature: float) -> float:
  """The temperature of stored log-probs; greedy decoding scores at 1."""
  return temperature if temperature > 0 else 1.0


def token_logps(hidden_BTD, head_DV, tokens_BT, *, temperature: float = 1.0,
                chunk: int = 512):
  """Log-prob and entropy of each token given those before it.

  Args:
    hidden_BTD: hidden states; position t predicts token t + 1.
    head_DV: matrix to logits.
    tokens_BT: int32 ids.
    temperature: logits are divided by it (1 for greedy decoding).
    chunk: positions whose logits exist at a time.

  Returns:
    (logp_BT, entropy_BT), nats, at least float32, aligned with tokens:
    position t holds log p(token t | tokens < t) and the entropy of that
    distribution.
    Position 0 has no context: 0.
  """
  chex.assert_rank([hidden_BTD, head_DV, tokens_BT], [3, 2, 2])
  chex.assert_equal_shape_prefix([hidden_BTD, tokens_BT], 2)
  B, T, D = hidden_BTD.shape
  length = T - 1
  size = max(1, min(chunk, length))
  pad = -length % size
  hidden = jnp.pad(hidden_BTD[:, :-1], ((0, 0), (0, pad), (0, 0)))
  targets = jnp.pad(tokens_BT[:, 1:], ((0, 0), (0, pad)))
  num = (length + pad) // size
  hidden = hidden.reshape(B, num, size, D).swapaxes(0, 1)
  targets = targets.reshape(B, num, size).swapaxes(0, 1)

  @jax.checkpoint
  def one_chunk(hidden_BcD, targets_Bc):
    logits = jnp.einsum('bcd,dv->bcv', hidden_BcD,
                        head_DV.astype(hidden_BcD.dtype),
                        preferred_element_type=jnp.promote_types(
                            hidden_BcD.dtype, jnp.float32))
    logps = jax.nn.log_softmax(logits / scaled(temperature), axis=-1)
    entropy = -jnp.sum(jnp.exp(logps) * logps, axis=-1)
    picked = jnp.take_along_axis(logps, targets_Bc[..., None], axis=-1)
    return picked[..., 0], entropy

  if num == 1:
    logp, entropy = one_chunk(hidden[0], targets[0])
  else:
    logp, entropy = jax.lax.map(lambda x: one_chunk(*x), (hidden, targets))
    logp = logp.swapaxes(0, 1).reshape(B, -1)
    entropy = entropy.swapaxes(0, 1).reshape(B, -1)
  align = lambda x: jnp.pad(x[:, :length], ((0, 0), (1, 0)))
  return align(logp), align(entropy)
