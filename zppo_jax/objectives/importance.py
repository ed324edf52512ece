"""Importance weights that correct the gap between sampler and trainer.

The sampler draws tokens from pi_sampler and the trainer differentiates
pi_trainer. Both have the same weights, but they are different programs and
compute in different types. With w = pi_trainer / pi_sampler, taken before the
first update and without gradient, the loss of a token is multiplied by f(w).

A new level or form is one function here and one row of its table.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from zppo_jax import allowed
from zppo_jax.arrays import MicroBatch, PolicyOutput
from zppo_jax.objectives.losses import Loss

_LOG_RATIO_BOUND = 20.0  # nats


@dataclasses.dataclass(frozen=True)
class Correction:
  """The section `algorithm.correction`.

  Attributes:
    kind: a key of CORRECTIONS.
    bound: the bound of the weights. Ratios of tokens and ratios of sequences
      need bounds of different size, because log w of a sequence grows with its
      length.

  Raises:
    KeyError: for an unknown kind, with the known ones.
    ValueError: for a bound that is not above 1.
  """
  kind: str = 'none'
  bound: float = 2.0

  def __post_init__(self) -> None:
    allowed.one_of('correction.kind', self.kind, CORRECTIONS)
    allowed.number('correction.bound', self.bound, '> 1', finite=False)

  @property
  def on(self) -> bool:
    return self.kind != 'none'

  def of(self, loss: Loss, gap_measured: bool) -> Loss:
    """A loss with this correction.

    Args:
      loss: the loss of the policy. Its batch must hold the targets 'old_logp'
        and 'sampler_logp' if there is a correction or the gap is measured.
      gap_measured: whether the statistic 'gap' is wanted without a correction;
        a correction always has it.
    """
    if self.on:
      return functools.partial(corrected, loss=loss, correct=functools.partial(
          CORRECTIONS[self.kind], bound=self.bound))
    if gap_measured:
      return functools.partial(corrected, loss=loss, correct=gap_alone)
    return loss


def token(log_ratio_BT: jax.Array, segment_BT: jax.Array) -> jax.Array:
  """log w_t of each token alone (Yao et al. 2025)."""
  del segment_BT
  return log_ratio_BT


def sequence(log_ratio_BT: jax.Array, segment_BT: jax.Array) -> jax.Array:
  """log w = the sum of log w_t over the response, on each of its tokens.

  (Liu et al. 2025.) A segment of a row holds one response.
  """
  most = segment_BT.shape[1] + 1  # a segment has 1 token or more; 0 is padding
  sums_BS = jax.vmap(functools.partial(
      jax.ops.segment_sum, num_segments=most))(log_ratio_BT, segment_BT)
  return jnp.take_along_axis(sums_BS, segment_BT, axis=1)


def truncate(weight_BT: jax.Array, bound: float) -> jax.Array:
  """min(w, bound) (Yao et al. 2025; Ionides 2008)."""
  return jnp.minimum(weight_BT, bound)


def mask(weight_BT: jax.Array, bound: float) -> jax.Array:
  """w up to the bound, and 0 above the bound (Liu et al. 2025)."""
  return jnp.where(weight_BT <= bound, weight_BT, 0)


LEVELS = {'token': token, 'sequence': sequence}
FORMS = {'truncate': truncate, 'mask': mask}


def none(loss_BT: jax.Array, old_logp_BT: jax.Array, sampler_logp_BT: jax.Array,
         mask_BT: jax.Array, segment_BT: jax.Array, *,
         bound: float = 2.0) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Leaves the loss unchanged.

  Args:
    loss_BT: token losses.
    old_logp_BT: the trainer's log-probs before the first update, nats.
    sampler_logp_BT: the log-probs that the sampler stored, nats. They are those
      of the full vocabulary. Under top-p or top-k the sampler drew from a part
      of the vocabulary, and the weights do not correct for that.
    mask_BT: 1 on response tokens; other tokens neither count nor change.
    segment_BT: 0 on padding; each other number marks one sequence of a row.
    bound: the bound of the weights, in (1, infinity].

  Returns:
    (loss_BT, statistics). The statistics are {} here; other corrections return
    arrays [B, T] by the names that `weighted` lists.
  """
  del old_logp_BT, sampler_logp_BT, mask_BT, segment_BT, bound
  return loss_BT, {}


def gap_alone(loss_BT: jax.Array, old_logp_BT: jax.Array,
              sampler_logp_BT: jax.Array, mask_BT: jax.Array,
              segment_BT: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
  """`none` that also measures the gap: (loss_BT, {'gap': see `weighted`})."""
  del segment_BT
  return loss_BT, {'gap': jax.lax.stop_gradient(jnp.where(
      mask_BT > 0, jnp.abs(old_logp_BT - sampler_logp_BT), 0))}


def weighted(loss_BT: jax.Array, old_logp_BT: jax.Array,
             sampler_logp_BT: jax.Array, mask_BT: jax.Array,
             segment_BT: jax.Array, *, bound: float,
             level: Callable[..., jax.Array], form: Callable[..., jax.Array]
             ) -> tuple[jax.Array, dict[str, jax.Array]]:
  """form(exp(level(old_logp - sampler_logp))) * loss; weights have no gradient.

  Sources: Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You
  Off-Policy RL Training" (truncation, token level); Liu et al. 2025, "When
  Speed Kills Stability: Demystifying RL Collapse from the Training-Inference
  Mismatch" (sequence level and masks). log w is bounded at +-20 nats.

  A masked token still counts in the token mean, as a clipped token does.

  Args: those of `none`, and
    level: a value of LEVELS.
    form: a value of FORMS.

  Returns:
    (loss_BT, {'weight': after the form, 'weight_held': 1 where the bound
    truncated or masked, 'gap': |old_logp - sampler_logp|}).
  """
  chex.assert_equal_shape([
      loss_BT, old_logp_BT, sampler_logp_BT, mask_BT, segment_BT])
  # The sampler stored no log-probs outside the response.
  log_ratio_BT = jax.lax.stop_gradient(jnp.where(
      mask_BT > 0, old_logp_BT - sampler_logp_BT, 0))
  ratio_BT = jnp.exp(jnp.clip(
      level(log_ratio_BT, segment_BT), -_LOG_RATIO_BOUND, _LOG_RATIO_BOUND))
  weight_BT = form(ratio_BT, bound)
  return weight_BT * loss_BT, {
      'weight': weight_BT,
      'weight_held': (ratio_BT > bound).astype(weight_BT.dtype),
      'gap': jnp.abs(log_ratio_BT)}


def corrected(output: PolicyOutput, batch: MicroBatch, *, loss: Loss,
              correct: Callable[..., Any]
              ) -> tuple[jax.Array, dict[str, jax.Array]]:
  """A loss times its importance weights; itself a `losses.Loss`.

  Args:
    output, batch: see losses.Loss.
    loss: the loss of the policy.
    correct: a function of CORRECTIONS, or `gap_alone`.
  """
  loss_BT, statistics = loss(output, batch)
  loss_BT, more = correct(
      loss_BT, batch.targets['old_logp'], batch.targets['sampler_logp'],
      batch.mask_BT, batch.segment_BT)
  return loss_BT, {**statistics, **more}


CORRECTIONS = {'none': none} | {
    f'{level}_{form}': functools.partial(
        weighted, level=LEVELS[level], form=FORMS[form])
    for level in LEVELS for form in FORMS}
