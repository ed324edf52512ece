"""From token losses to the loss of a mini-batch: weights and counts.

A reducer maps the masks of a micro-batch to (weight_BT, count). The loss of a
mini-batch is

  sum over all micro-batches of sum(weight_BT * loss_BT)
  ------------------------------------------------------
  sum over all micro-batches of count

The caller sums numerators (or their gradients) and counts over the WHOLE
mini-batch and divides once, at the end. A division per micro-batch would weigh
a token by the micro-batch that it fell into. If the caller runs no forward pass
for some rollouts (those of trivial groups, say), it still adds their counts
where the row counts them; the counts need the masks alone, so they can be
computed on the host or before any pass.

A segment of a row holds one response, whole: 0 is padding, every other number
marks one sequence of that row.
"""

import functools

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from zppo_jax import allowed


def _sizes(mask_BT: jax.Array, segment_BT: jax.Array) -> jax.Array:
  """Response tokens of each segment: float [B, segments]; 0 for padding."""
  most = segment_BT.shape[1] + 1  # a segment has 1 token or more; 0 is padding
  sizes_BS = jax.vmap(functools.partial(
      jax.ops.segment_sum, num_segments=most))(mask_BT, segment_BT)
  return sizes_BS.at[:, 0].set(0)


def _rollouts(mask_BT: jax.Array, segment_BT: jax.Array) -> jax.Array:
  return (_sizes(mask_BT, segment_BT) > 0).sum().astype(mask_BT.dtype)


def token_mean(mask_BT: jax.Array, segment_BT: jax.Array, taught_BT: jax.Array,
               longest: ArrayLike) -> tuple[jax.Array, jax.Array]:
  """The mean over response tokens (DAPO, Yu et al. 2025, arXiv 2503.14476).

  The caller sums response tokens, those of rollouts without a pass included if
  they are to count, as this library's token mean does.

  Args:
    mask_BT: float, 1 on response tokens, 0 elsewhere.
    segment_BT: int32; see the module.
    taught_BT: float, 1 on response tokens whose loss is wanted: those with a
      teacher's score, on the route of the row. It is at most mask_BT.
    longest: the most tokens that a response may have.

  Returns:
    (weight_BT, count), floats; see the module.
  """
  del segment_BT, taught_BT, longest
  return mask_BT, mask_BT.sum()


def per_rollout(mask_BT: jax.Array, segment_BT: jax.Array, taught_BT: jax.Array,
                longest: ArrayLike) -> tuple[jax.Array, jax.Array]:
  """The mean over rollouts of the mean over their tokens.

  (GRPO, Shao et al. 2024, arXiv 2402.03300, Eq. 3; GSPO's outer mean.) A token
  weighs 1 / (response tokens of its rollout). The caller sums rollouts that
  have a response token.

  Args, Returns: those of `token_mean`.
  """
  del taught_BT, longest
  sizes_BT = jnp.take_along_axis(
      _sizes(mask_BT, segment_BT), segment_BT, axis=1)
  return mask_BT / jnp.maximum(sizes_BT, 1), _rollouts(mask_BT, segment_BT)


def taught_tokens(mask_BT: jax.Array, segment_BT: jax.Array,
                  taught_BT: jax.Array,
                  longest: ArrayLike) -> tuple[jax.Array, jax.Array]:
  """The mean over taught tokens alone.

  The caller sums taught tokens. The size of the loss then does not depend on
  how many rollouts were taught; with few of them each weighs more.

  Args, Returns: those of `token_mean`.
  """
  del segment_BT, longest
  taught_BT = mask_BT * taught_BT
  return taught_BT, taught_BT.sum()


def constant_length(mask_BT: jax.Array, segment_BT: jax.Array,
                    taught_BT: jax.Array,
                    longest: ArrayLike) -> tuple[jax.Array, jax.Array]:
  """Sums over rollouts, divided by the same constant for each rollout.

  The reducer of Dr. GRPO (Liu et al. 2025, arXiv 2503.20783, section 3.2 and
  its listing): no division by a response's own length, which would weigh the
  tokens of long wrong responses down; all rollouts are divided by `longest`,
  the generation limit. Its advantage, r - mean(r) without the standard
  deviation, is `advantages.no_norm`. The caller sums rollouts times `longest`.

  Args, Returns: those of `token_mean`.
  """
  del taught_BT
  return mask_BT, _rollouts(mask_BT, segment_BT) * longest


REDUCERS = {
    'token_mean': token_mean,
    'per_rollout': per_rollout,
    'taught_tokens': taught_tokens,
    'constant_length': constant_length,
}


def reduced(kind: str, mask_BT: jax.Array, segment_BT: jax.Array,
            taught_BT: jax.Array,
            longest: ArrayLike) -> tuple[jax.Array, jax.Array]:
  """The row of REDUCERS by name.

  Args:
    kind: a key of REDUCERS.
    mask_BT, segment_BT, taught_BT, longest: those of `token_mean`.

  Returns:
    (weight_BT, count) of `token_mean`.

  Raises:
    KeyError: for an unknown kind, with the known ones.
  """
  allowed.one_of('reducer', kind, REDUCERS)
  chex.assert_equal_shape([mask_BT, segment_BT, taught_BT])
  return REDUCERS[kind](mask_BT, segment_BT, taught_BT, longest)
