"""Losses: they map the policy's output and a micro-batch to a loss per token.

A new loss is one function here, and one row of methods.METHODS holds it. What
it reads of each token, besides the policy's output, are the batch's `targets`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from zppo_jax import allowed
from zppo_jax.arrays import MicroBatch, PolicyOutput

_LOG_RATIO_BOUND = 20.0  # nats

LossAndStatistics = tuple[jax.Array, dict[str, jax.Array]]

# (policy output, micro-batch) -> (loss_BT, {name: statistic [B, T]}). The
# update multiplies both by the batch's mask and sums them. A statistic is bool
# (a flag, which is counted) or float (its sum and its extremes are kept), and
# it has no gradient. A statistic [B, T, N] becomes N sums.
Loss = Callable[[PolicyOutput, MicroBatch], LossAndStatistics]


class LossContext(NamedTuple):
  """What a loss is made from.

  Attributes:
    algorithm: the section `algorithm` of the config.
    distil: the algorithms.distillation.Distil of the config; None for a method
      without a teacher's numbers.
    vocab: the true vocabulary of student and teacher, in ids.
    chunk: positions whose logits exist at a time.
  """
  algorithm: Any
  distil: Any = None
  vocab: int = 0
  chunk: int = 512


MakeLoss = Callable[[LossContext], Loss]


@dataclasses.dataclass(frozen=True)
class ClipBounds:
  """Bounds of the probability ratio (paper section 3.3, Table 8).

  Attributes:
    low, high: the ratio is clipped to [1 - low, 1 + high].
    dual: for negative advantages the loss is bounded at dual * |A|.
  """
  low: float = 0.20
  high: float = 0.28
  dual: float = 10.0

  def __post_init__(self) -> None:
    allowed.number('clip.low', self.low, '[0, 1)')
    allowed.number('clip.high', self.high, '>= 0', finite=False)
    allowed.number('clip.dual', self.dual, '> 1', finite=False)


def surrogate(logp_BT: jax.Array, old_logp_BT: jax.Array, adv_BT: jax.Array,
              clip: ClipBounds) -> tuple[jax.Array, dict[str, jax.Array]]:
  """PPO's clipped surrogate with decoupled bounds and dual clip.

    r = exp(logp - old_logp)
    J = min(r A, clip(r, 1 - low, 1 + high) A)
    J = max(J, dual A)      where A < 0
    loss = -J

  (Schulman et al. 2017; decoupled bounds: DAPO; dual clip: Ye et al. 2020.)

  Args:
    logp_BT: current log-probs, nats.
    old_logp_BT: log-probs before the first update; they get no gradient.
    adv_BT: advantages.
    clip: the bounds.

  Returns:
    (loss_BT, {'clip_low', 'clip_high', 'clip_dual'}: bool [B, T], True where
    that bound determines the loss, so that the token has no gradient).
  """
  chex.assert_rank([logp_BT, old_logp_BT, adv_BT], 2)
  log_ratio = logp_BT - jax.lax.stop_gradient(old_logp_BT)
  # This bound lies far beyond every clip bound. It keeps the product of an
  # infinite ratio and a zero advantage from becoming NaN.
  ratio = jnp.exp(jnp.clip(log_ratio, -_LOG_RATIO_BOUND, _LOG_RATIO_BOUND))
  plain = ratio * adv_BT
  clipped = jnp.clip(ratio, 1 - clip.low, 1 + clip.high) * adv_BT
  lower = jnp.minimum(plain, clipped)
  floor = clip.dual * adv_BT
  bounded = jnp.where(adv_BT < 0, jnp.maximum(lower, floor), lower)
  return -bounded, {
      'clip_high': (adv_BT > 0) & (ratio > 1 + clip.high),
      'clip_low': (adv_BT < 0) & (ratio < 1 - clip.low),
      'clip_dual': (adv_BT < 0) & (ratio > clip.dual),
  }


def clipped_surrogate(output: PolicyOutput, batch: MicroBatch, *,
                      clip: ClipBounds
                      ) -> tuple[jax.Array, dict[str, jax.Array]]:
  """`surrogate` of the targets 'old_logp' and 'advantage'; a `Loss`."""
  return surrogate(output.logp_BT, batch.targets['old_logp'],
                   batch.targets['advantage'], clip)


def negative_log_likelihood(output: PolicyOutput, batch: MicroBatch
                            ) -> tuple[jax.Array, dict[str, jax.Array]]:
  """The loss of supervised learning, -weight * logp; a `Loss`.

  The weight of a token is the target 'advantage'.
  """
  return -batch.targets['advantage'] * output.logp_BT, {}


def added(losses: Sequence[Loss]) -> Loss:
  """The sum of losses; a `Loss`, with the statistics of all.

  Their names differ, except those that say the same of the policy ('entropy').
  """
  def total(output: PolicyOutput, batch: MicroBatch) -> LossAndStatistics:
    parts = [loss(output, batch) for loss in losses]
    return functools.reduce(jnp.add, [loss_BT for loss_BT, _ in parts]), {
        name: x_BT for _, statistics in parts
        for name, x_BT in statistics.items()}

  return total


def make_clipped_surrogate(context: LossContext) -> Loss:
  """`clipped_surrogate` with the bounds of `algorithm.clip`.

  Raises:
    ValueError: for a bound out of its range, naming it.
  """
  return functools.partial(clipped_surrogate,
                           clip=ClipBounds(**context.algorithm.clip))


def make_negative_log_likelihood(context: LossContext) -> Loss:
  """`negative_log_likelihood`, which has no constants."""
  del context
  return negative_log_likelihood
