"""Comparisons of student and teacher on the sampled token alone.

d = t - s, with s and t the log-probs of the sampled token y under student and
teacher. The expectations below hold for y drawn from the student itself. For
tokens of another policy only `ratio_weighted` keeps them.

Loss-style use differentiates the estimate. Its expected gradient is not the
gradient of its expectation, because the student also draws y: k1 and k3 have
the same expectation KL(S || T), but k1 trains nothing and k3 trains towards the
forward KL (Schulman 2020, "Approximating KL Divergence"; Tang and Munos 2025,
arXiv 2506.09477). Each function says the direction of its expected gradient.

Advantage-style use multiplies log p_S(y) by a detached number.

The teacher may be any other policy. With the frozen reference policy, k1, k2
and k3 are the reference penalties of GRPO (Shao et al. 2024, arXiv 2402.03300,
Eq. 4, is k3) and of its successors; the exact penalty is the reverse KL of
`whole_vocabulary` with the reference in the teacher's place.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from zppo_jax import allowed

# Bound of d in exponents, nats: a ratio beyond it would overflow.
_LOG_RATIO_BOUND = 20.0


def _difference(logp: jax.Array, teacher_logp: jax.Array) -> jax.Array:
  chex.assert_equal_shape([logp, teacher_logp])
  return jax.lax.stop_gradient(teacher_logp) - logp


def k1(logp: jax.Array, teacher_logp: jax.Array) -> jax.Array:
  """-d. Expected value: KL(S || T). Expected gradient: ZERO.

  E[-grad d] = E[grad log p_S] = 0: as a loss it adds noise and trains nothing.
  Use it as an advantage (`log_ratio`) or under `ratio_weighted`.

  Args:
    logp: log-probs of the sampled tokens under the student, nats.
    teacher_logp: the same under the teacher; detached.

  Returns:
    An array of their shape.
  """
  return -_difference(logp, teacher_logp)


def k2(logp: jax.Array, teacher_logp: jax.Array) -> jax.Array:
  """d^2 / 2. Expected gradient: that of the REVERSE KL(S || T), exactly.

  E[-d grad log p_S] is the policy gradient with the advantage d. The value is
  not the divergence.

  Args, Returns: those of `k1`.
  """
  return 0.5 * jnp.square(_difference(logp, teacher_logp))


def k3(logp: jax.Array, teacher_logp: jax.Array) -> jax.Array:
  """e^d - 1 - d. Expected gradient: that of the FORWARD KL(T || S), p_S - p_T.

  Its expected value is KL(S || T), with a smaller variance than k1 and never
  negative, but E[(1 - e^d) grad log p_S] = -sum p_T grad log p_S: as a loss it
  covers the teacher's mass whatever it is called. |d| is bounded at 20 nats in
  the exponent, where e^d has no gradient beyond the bound.

  Args, Returns: those of `k1`.
  """
  d = _difference(logp, teacher_logp)
  return jnp.exp(jnp.clip(d, -_LOG_RATIO_BOUND, _LOG_RATIO_BOUND)) - 1 - d


ESTIMATORS = {'k1': k1, 'k2': k2, 'k3': k3}
# As a loss the gradient of these has zero mean, so that a builder refuses them.
ZERO_MEAN_GRADIENT = frozenset({'k1'})


def as_loss(kind: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """The function of ESTIMATORS, if its expected gradient trains anything.

  Args:
    kind: a key of ESTIMATORS.

  Returns:
    (logp, teacher_logp) -> token losses.

  Raises:
    KeyError: for an unknown kind, with the known ones.
    ValueError: for a kind of ZERO_MEAN_GRADIENT.
  """
  allowed.one_of('estimator', kind, ESTIMATORS)
  if kind in ZERO_MEAN_GRADIENT:
    losses = [k for k in ESTIMATORS if k not in ZERO_MEAN_GRADIENT]
    raise ValueError(
        f'the estimator {kind!r} as a loss has a gradient of zero mean; '
        f'allowed losses: {", ".join(losses)}; as an advantage, use log_ratio')
  return ESTIMATORS[kind]


def ratio_weighted(estimate: jax.Array, logp: jax.Array,
                   old_logp: jax.Array) -> jax.Array:
  """r k with r = p_S(y) / p_old(y), both differentiated.

  For y drawn from the old policy, E[r k] = E_S[k] and its gradient is the
  gradient of that expectation: for k1 and k3 the gradient of the REVERSE
  KL(S || T). On policy (old_logp equal to logp) the value is k and the gradient
  is still right. |log r| is bounded at 20 nats.

  Args:
    estimate: the result of a function of ESTIMATORS on the same tokens.
    logp: log-probs under the student, nats.
    old_logp: log-probs under the policy that drew the tokens; detached.

  Returns:
    Token losses.
  """
  chex.assert_equal_shape([estimate, logp, old_logp])
  log_ratio = logp - jax.lax.stop_gradient(old_logp)
  return estimate * jnp.exp(
      jnp.clip(log_ratio, -_LOG_RATIO_BOUND, _LOG_RATIO_BOUND))


def log_ratio(logp: jax.Array, teacher_logp: jax.Array) -> jax.Array:
  """d as an advantage: -d is the sampled reverse KL; no gradient.

  The policy gradient with this advantage has the expectation of the gradient
  of -KL(S || T).

  Args:
    logp: log-probs of the sampled tokens under the policy before the update,
      by the trainer's own scorer (the sampler's log-probs would add the gap
      between the two programs to every advantage), nats.
    teacher_logp: the same under the teacher.

  Returns:
    Advantages of their shape.
  """
  return jax.lax.stop_gradient(_difference(logp, teacher_logp))
