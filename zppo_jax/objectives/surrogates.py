"""Policy objectives beside the clipped surrogate of `losses`.

`gspo` and `cispo` map token arrays [B, T] to (loss_BT, statistics [B, T]), and
`make_gspo` and `make_cispo` make a `losses.Loss` of them; SURROGATES has all by
name. Which mean over
tokens and rollouts a paper takes is a row of `reducers`, named in each
docstring. Dr. GRPO (arXiv 2503.20783) has no function here: it is the clipped
surrogate with `advantages.no_norm` and `reducers.constant_length`.

Penalties towards a frozen reference policy are the estimators k2 and k3 with
the reference as the teacher, and over the whole vocabulary the reverse KL of
`whole_vocabulary` with the reference's head as the teacher.
"""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp

from zppo_jax import allowed
from zppo_jax.arrays import MicroBatch, PolicyOutput
from zppo_jax.objectives import importance, losses
from zppo_jax.objectives.losses import Loss, LossContext

_LOG_RATIO_BOUND = 20.0  # nats


def _bounded_exp(log_ratio: jax.Array) -> jax.Array:
  return jnp.exp(jnp.clip(log_ratio, -_LOG_RATIO_BOUND, _LOG_RATIO_BOUND))


@dataclasses.dataclass(frozen=True)
class SequenceClip:
  """Bounds of GSPO's sequence ratio (its section 5.1).

  Attributes:
    low, high: the ratio is clipped to [1 - low, 1 + high]. They are far
      smaller than those of token ratios, because the sequence ratio is a
      geometric mean.

  Raises:
    ValueError: for a `low` outside [0, 1) or a `high` below 0.
  """
  low: float = 3e-4
  high: float = 4e-4

  def __post_init__(self) -> None:
    allowed.number('sequence_clip.low', self.low, '[0, 1)')
    allowed.number('sequence_clip.high', self.high, '>= 0', finite=False)


@dataclasses.dataclass(frozen=True)
class WeightClip:
  """Bounds of CISPO's importance weight.

  Attributes:
    high: the weight is at most 1 + high. The paper tunes it and names no value.
    low: the weight is at least 1 - low. 1 sets no lower bound, which is the
      paper's choice.

  Raises:
    ValueError: for a `low` outside [0, 1] or a `high` below 0.
  """
  high: float
  low: float = 1.0

  def __post_init__(self) -> None:
    allowed.number('weight_clip.low', self.low, '[0, 1]')
    allowed.number('weight_clip.high', self.high, '>= 0', finite=False)


def gspo(logp_BT: jax.Array, old_logp_BT: jax.Array, adv_BT: jax.Array,
         mask_BT: jax.Array, segment_BT: jax.Array,
         clip: SequenceClip) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Group sequence policy optimisation (Zheng et al. 2025, arXiv 2507.18071).

    s_i = exp(mean over the response of log p(y_t) - log p_old(y_t))   (Eq. 7)
    J_i = min(s_i A_i, clip(s_i, 1 - low, 1 + high) A_i)               (Eq. 5)

  in the token form GSPO-token (Eqs. 13, 14):

    s_it = sg(s_i) p(y_t) / sg(p(y_t)),  J = min(s_it A_t, clip(s_it) A_t).

  Its values are s_i, and with one advantage per response value and gradient of
  the mean of J over the response equal those of J_i. The loss is -J, and the
  paper's reducer is `per_rollout`.

  Args:
    logp_BT: current log-probs, nats.
    old_logp_BT: log-probs before the first update; they get no gradient.
    adv_BT: advantages.
    mask_BT: 1 on response tokens; other tokens neither count nor change.
    segment_BT: 0 on padding; each other number marks one sequence of a row.
    clip: the bounds.

  Returns:
    (loss_BT, {'clip_low', 'clip_high': bool [B, T], True where that bound
    determines the loss, so that the token has no gradient}).
  """
  chex.assert_equal_shape([logp_BT, old_logp_BT, adv_BT, mask_BT, segment_BT])
  chex.assert_rank(logp_BT, 2)
  log_ratio_BT = jax.lax.stop_gradient(jnp.where(
      mask_BT > 0, logp_BT - old_logp_BT, 0))
  mean_BT = importance.sequence(log_ratio_BT, segment_BT) / jnp.maximum(
      importance.sequence(mask_BT, segment_BT), 1)
  ratio_BT = _bounded_exp(mean_BT) * jnp.exp(
      logp_BT - jax.lax.stop_gradient(logp_BT))
  clipped_BT = jnp.clip(ratio_BT, 1 - clip.low, 1 + clip.high)
  loss_BT = -jnp.minimum(ratio_BT * adv_BT, clipped_BT * adv_BT)
  return jnp.where(mask_BT > 0, loss_BT, 0), {
      'clip_low': (adv_BT < 0) & (ratio_BT < 1 - clip.low) & (mask_BT > 0),
      'clip_high': (adv_BT > 0) & (ratio_BT > 1 + clip.high) & (mask_BT > 0)}


def cispo(logp_BT: jax.Array, old_logp_BT: jax.Array, adv_BT: jax.Array,
          clip: WeightClip) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Clipped importance weights (MiniMax-M1, arXiv 2506.13585, Eqs. 4 and 5).

    w = clip(exp(logp - old_logp), 1 - low, 1 + high)
    loss = -sg(w) A logp

  The bound limits a token's weight and never removes its gradient, unlike the
  clipped surrogate. The paper's reducer is `token_mean`.

  Args:
    logp_BT: current log-probs, nats.
    old_logp_BT: log-probs before the first update; they get no gradient.
    adv_BT: advantages.
    clip: the bounds.

  Returns:
    (loss_BT, {'clip_low', 'clip_high': bool [B, T], True where the weight is at
    that bound; such a token still has a gradient}).
  """
  chex.assert_equal_shape([logp_BT, old_logp_BT, adv_BT])
  chex.assert_rank(logp_BT, 2)
  ratio_BT = jax.lax.stop_gradient(_bounded_exp(logp_BT - old_logp_BT))
  weight_BT = jnp.clip(ratio_BT, 1 - clip.low, 1 + clip.high)
  return -weight_BT * adv_BT * logp_BT, {
      'clip_low': ratio_BT < 1 - clip.low,
      'clip_high': ratio_BT > 1 + clip.high}


def sequence_surrogate(output: PolicyOutput, batch: MicroBatch, *,
                       clip: SequenceClip
                       ) -> tuple[jax.Array, dict[str, jax.Array]]:
  """`gspo` of the targets 'old_logp' and 'advantage'; a `Loss`.

  Returns:
    (loss_BT, statistics). 'clip_low' and 'clip_high' flag every token of a
    response that the bound holds, so that their sums count tokens.
    'sequence_clip_low' and 'sequence_clip_high' are these flags divided by the
    tokens of the response, so that their sums count responses.
  """
  loss_BT, flags = gspo(
      output.logp_BT, batch.targets['old_logp'], batch.targets['advantage'],
      batch.mask_BT, batch.segment_BT, clip)
  sizes_BT = jnp.maximum(
      importance.sequence(batch.mask_BT, batch.segment_BT), 1)
  return loss_BT, {**flags, **{
      f'sequence_{name}': flag_BT / sizes_BT
      for name, flag_BT in flags.items()}}


def weighted_log_probs(output: PolicyOutput, batch: MicroBatch, *,
                       clip: WeightClip
                       ) -> tuple[jax.Array, dict[str, jax.Array]]:
  """`cispo` of the targets 'old_logp' and 'advantage'; a `Loss`."""
  return cispo(output.logp_BT, batch.targets['old_logp'],
               batch.targets['advantage'], clip)


def make_gspo(context: LossContext) -> Loss:
  """`sequence_surrogate` with the bounds of `algorithm.sequence_clip`.

  Raises:
    ValueError: for a bound out of its range, naming it.
  """
  return functools.partial(sequence_surrogate, clip=SequenceClip(
      **context.algorithm.sequence_clip))


def make_cispo(context: LossContext) -> Loss:
  """`weighted_log_probs` with the bounds of `algorithm.weight_clip`.

  Raises:
    ValueError: for a bound out of its range, naming it.
  """
  return functools.partial(weighted_log_probs, clip=WeightClip(
      **context.algorithm.weight_clip))


# Objectives of advantages that a row with another term may take.
SURROGATES: dict[str, losses.MakeLoss] = {
    'clipped': losses.make_clipped_surrogate,
    'gspo': make_gspo,
    'cispo': make_cispo,
}


def make_surrogate(context: LossContext) -> Loss:
  """The row of SURROGATES that `algorithm.surrogate` names; '' is 'clipped'.

  Raises:
    KeyError: for another name, with the known ones.
    ValueError: for a bound out of its range, naming it.
  """
  make = allowed.known('algorithm.surrogate',
                       context.algorithm.surrogate or 'clipped', SURROGATES)
  return make(context)
