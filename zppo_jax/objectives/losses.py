"""Token objectives: they map arrays [B, T] to a loss and its clip flags.

A new objective is one function here and one row of OBJECTIVES.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp

_LOG_RATIO_BOUND = 20.0  # nats


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

  def __post_init__(self):
    if not 0 <= self.low < 1:
      raise ValueError(f'clip.low is {self.low}; it must be in [0, 1)')
    if not self.high >= 0:
      raise ValueError(f'clip.high is {self.high}; it must be >= 0')
    if not self.dual > 1:
      raise ValueError(f'clip.dual is {self.dual}; it must be > 1')


def clipped_surrogate(logp_BT, old_logp_BT, adv_BT, clip: ClipBounds):
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
  surrogate = jnp.minimum(plain, clipped)
  floor = clip.dual * adv_BT
  bounded = jnp.where(adv_BT < 0, jnp.maximum(surrogate, floor), surrogate)
  return -bounded, {
      'clip_high': (adv_BT > 0) & (ratio > 1 + clip.high),
      'clip_low': (adv_BT < 0) & (ratio < 1 - clip.low),
      'clip_dual': (adv_BT < 0) & (ratio > clip.dual),
  }


def negative_log_likelihood(logp_BT, old_logp_BT, adv_BT, clip: ClipBounds):
  """The loss of supervised learning: -adv * logp, with adv_BT as weights."""
  del old_logp_BT, clip
  zero = jnp.zeros_like(logp_BT, bool)
  return -adv_BT * logp_BT, {
      'clip_high': zero, 'clip_low': zero, 'clip_dual': zero}


OBJECTIVES = {
    'clipped_surrogate': clipped_surrogate,
    'negative_log_likelihood': negative_log_likelihood,
}
