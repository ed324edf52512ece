"""Divergences between a student S and a teacher T, from log-probs [..., N].

The axis N holds the ids of the support in use: the whole vocabulary, or the
kept ids of a position with or without a bucket for all other ids. Everything is
in nats and at least float32. The letters of the docstrings: p_S and p_T are the
distributions, s and t their logs, z the student's logits.

A function takes the student's log-probs first and is differentiable in both
arguments. The functions of TARGETS decide what the teacher's argument is and
detach it, so that a composition of a target and a divergence has the gradient
of the value that it names and trains the student alone.

An id without mass (-inf, or a log-prob whose exp underflows) contributes 0 to
value and gradient. Where a divergence is infinite (p_S > 0 = p_T in the reverse
form) the value is +inf.

A new divergence is one function of `Terms` here and one row of TERMS.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from zppo_jax import allowed

Scalar = float | jax.Array  # a schedule gives a traced one
# Stands for a log-prob of -inf where a difference of two of them must be a
# number; its exp is 0.
_FAR = -1e30
_MASSLESS = -1e20  # a log-prob below it comes from _FAR
# The least mass of the bucket: float32 cannot resolve 1 - sum(p) below it.
LEAST_REST = 1e-8


def _number(x: Scalar, field: str, bounds: str,
            valid: Callable[[float], bool]) -> None:
  """Checks a number at once; a schedule's traced number passes unchecked."""
  if not isinstance(x, jax.core.Tracer) and not valid(float(x)):
    raise ValueError(f'{field} is {float(x)}; it must be {bounds}')


def _log_mix(a: jax.Array, b: jax.Array, share: Scalar) -> jax.Array:
  """log(share e^a + (1 - share) e^b), at least _FAR."""
  return jnp.logaddexp(jnp.maximum(a + jnp.log(share), _FAR),
                       jnp.maximum(b + jnp.log1p(-share), _FAR))


def _log_mass(logp: jax.Array) -> jax.Array:
  """logsumexp over the last axis; -inf without NaN where nothing has mass."""
  top = jax.lax.stop_gradient(logp.max(axis=-1, keepdims=True))
  present = top > -jnp.inf
  top = jnp.where(present, top, 0)
  total = jnp.exp(logp - top).sum(axis=-1, keepdims=True)
  return jnp.where(
      present, top + jnp.log(jnp.where(present, total, 1)), -jnp.inf)[..., 0]


def _normalised(logp: jax.Array) -> jax.Array:
  mass = _log_mass(logp)[..., None]
  return logp - jnp.where(mass > -jnp.inf, mass, 0)


class Terms(NamedTuple):
  """The terms h of D = sum h and their derivatives, of the shape of s.

  Attributes:
    value: h of each id.
    of_s, of_t: dh / ds and dh / dt, with s and t as independent numbers.
  """
  value: jax.Array
  of_s: jax.Array
  of_t: jax.Array


def _kl_terms(p: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
  """(exp(p) (p - q) of each id, and 0 where exp(p) is 0; exp(p))."""
  mass = jnp.exp(p)
  present = mass > 0
  ratio = jnp.where(present, p, 0) - jnp.where(present, q, 0)
  return jnp.where(present, mass * ratio, 0), mass


def reverse_terms(s: jax.Array, t: jax.Array,
                  beta: Scalar | None = None) -> Terms:
  """h = p_S (s - t)."""
  del beta
  value, mass = _kl_terms(s, t)
  return Terms(value=value, of_s=value + mass, of_t=-mass)


def forward_terms(s: jax.Array, t: jax.Array,
                  beta: Scalar | None = None) -> Terms:
  """h = p_T (t - s)."""
  del beta
  value, mass = _kl_terms(t, s)
  return Terms(value=value, of_s=-mass, of_t=value + mass)


def jensen_shannon_terms(s: jax.Array, t: jax.Array, beta: Scalar) -> Terms:
  """h = beta p_T (t - m) + (1 - beta) p_S (s - m).

  What m adds to the derivatives cancels, because m is the mixture of both.
  """
  mix = beta * jnp.exp(t) + (1 - beta) * jnp.exp(s)
  m = jnp.log(jnp.where(mix > 0, mix, 1))
  of_s, of_t = (1 - beta) * _kl_terms(s, m)[0], beta * _kl_terms(t, m)[0]
  return Terms(value=of_s + of_t, of_s=of_s, of_t=of_t)


# (s, t, beta) -> Terms.
TERMS: dict[str, Callable[..., Terms]] = {
    'reverse': reverse_terms,
    'forward': forward_terms,
    'jensen_shannon': jensen_shannon_terms,
}


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _total(kind: str, s: jax.Array, t: jax.Array, beta: Scalar) -> jax.Array:
  return TERMS[kind](s, t, beta).value.sum(axis=-1)


@_total.defjvp
def _total_jvp(kind: str, primals: Any,
               tangents: Any) -> tuple[jax.Array, jax.Array]:
  terms = TERMS[kind](*primals)
  of_s, of_t, _ = tangents  # beta is no parameter that is trained
  return terms.value.sum(axis=-1), (
      terms.of_s * of_s + terms.of_t * of_t).sum(axis=-1)


def _check_beta(beta: Scalar) -> None:
  _number(beta, 'beta', 'in (0, 1): the limits are other divergences, of '
          'another scale, and have names of their own: forward_kl '
          "('forward') at 0 and reverse_kl ('reverse') at 1",
          lambda x: 0 < x < 1)


def reverse_kl(s: jax.Array, t: jax.Array) -> jax.Array:
  """KL(S || T) = sum p_S (s - t); seeks modes of the teacher.

  Gradient to z: p_S (s - t - KL).

  Args:
    s, t: log-probs [..., N] of the student and of the target, nats.

  Returns:
    [...], nats.
  """
  chex.assert_equal_shape([s, t])
  return _total('reverse', s, t, 0.0)


def forward_kl(s: jax.Array, t: jax.Array) -> jax.Array:
  """KL(T || S) = sum p_T (t - s); covers the teacher's mass.

  Gradient to z: p_S sum(p_T) - p_T, that is p_S - p_T.

  Args, Returns: those of `reverse_kl`.
  """
  chex.assert_equal_shape([s, t])
  return _total('forward', s, t, 0.0)


def jensen_shannon(s: jax.Array, t: jax.Array, beta: Scalar) -> jax.Array:
  """beta KL(T || m) + (1 - beta) KL(S || m), m = beta p_T + (1 - beta) p_S.

  The generalised Jensen-Shannon divergence (Agarwal et al. 2024, "On-Policy
  Distillation of Language Models", section 2; Huszar 2015). It is at most the
  entropy of (beta, 1 - beta), which disjoint distributions reach. Divided by
  beta it tends to the forward KL as beta -> 0, and divided by 1 - beta to the
  reverse KL as beta -> 1, so that its own scale vanishes at both ends.

  Gradient to z: (1 - beta) p_S (log(p_S / m) - KL(S || m)).

  Args:
    s, t: log-probs [..., N] of the student and of the target, nats.
    beta: a number in (0, 1).

  Returns:
    [...], nats.

  Raises:
    ValueError: for another beta, with the names of the two KLs.
  """
  chex.assert_equal_shape([s, t])
  _check_beta(beta)
  return _total('jensen_shannon', s, t, beta)


DIVERGENCES = {
    'reverse': reverse_kl,
    'forward': forward_kl,
    'jensen_shannon': jensen_shannon,
}


@dataclasses.dataclass(frozen=True)
class Divergence:
  """A row of DIVERGENCES with its number.

  Attributes:
    kind: a key of DIVERGENCES.
    beta: the number of `jensen_shannon`; the two KLs ignore it. A schedule may
      put a traced scalar here.

  Raises:
    KeyError: for an unknown kind, with the known ones.
    ValueError: for a beta outside (0, 1).
  """
  kind: str = 'reverse'
  beta: Scalar = 0.5

  def __post_init__(self) -> None:
    allowed.one_of('divergence', self.kind, DIVERGENCES)
    _check_beta(self.beta)

  def __call__(self, s: jax.Array, t: jax.Array) -> jax.Array:
    """[...] from log-probs [..., N] of the student and of the target."""
    chex.assert_equal_shape([s, t])
    return _total(self.kind, s, t, self.beta)


@jax.custom_jvp
def log_rest(log_mass: jax.Array) -> jax.Array:
  """log(1 - e^log_mass), at least log LEAST_REST.

  The gradient -e^log_mass / rest is kept at the floor, with the floor as the
  rest. Without it a student whose mass all lies on the kept ids could never
  move mass out of them, whatever the teacher holds there.
  """
  # A sum of all probabilities may round to more than 1.
  return jnp.maximum(jax.nn.log1mexp(-jnp.minimum(log_mass, 0)),
                     math.log(LEAST_REST))


@log_rest.defjvp
def _log_rest_jvp(primals: Any, tangents: Any) -> Any:
  log_mass, = primals
  value = log_rest(log_mass)
  return value, -jnp.exp(log_mass - value) * tangents[0]


def bucket(logp: jax.Array) -> jax.Array:
  """Kept log-probs and one entry with the mass of all other ids.

  S = T is stationary, the divergence is at most that of the whole vocabulary,
  it grows with the kept set, and it is exact if one id or none is left out.

  In float32 the mass of the rest is known to about 1e-7, because it is 1 -
  sum(p). Its log is therefore off by 1e-7 / rest, in the student and in the
  teacher, and where the kept ids hold more than 1 - 1e-6 of the student's mass
  while the teacher's rest is large, its share of the gradient is rounding
  noise. `gathered_logps` can return the rest from the logits themselves, which
  has no such loss.

  Args:
    logp: log-probs [..., K] of distinct ids, nats; -inf where no id stands.

  Returns:
    [..., K + 1]; the last entry is `log_rest`.
  """
  rest = log_rest(_log_mass(logp))
  return jnp.concatenate([logp, rest[..., None]], axis=-1)


def renormalised(logp: jax.Array) -> jax.Array:
  """Kept log-probs as a distribution of their own.

  S = T is stationary, but the divergence is blind to the mass that S and T keep
  and is 0 if K is 1.

  Args:
    logp: log-probs [..., K] of distinct ids, nats; -inf where no id stands.

  Returns:
    [..., K].
  """
  return _normalised(logp)


def dropped(logp: jax.Array) -> jax.Array:
  """Kept log-probs alone, which sum to less than 1; to reproduce papers.

  S = T is NOT stationary. With q the kept mass, the gradient to z there is
  p_S (1[kept] - q) for the reverse KL, so that descent pushes mass out of the
  kept set, and its negative for the forward KL, which pulls mass in. A sum of
  kept terms may also be negative, which no divergence is.

  Args, Returns: those of `renormalised`.
  """
  return logp


# What stands for the ids that are not kept: logp [..., K] -> [..., N].
REST = {'bucket': bucket, 'renormalised': renormalised, 'dropped': dropped}


def plain(s: jax.Array, t: jax.Array) -> jax.Array:
  """The teacher itself.

  Args:
    s, t: log-probs [..., N] of student and teacher over one support, nats.

  Returns:
    log-probs [..., N]. Only `mixture` has a gradient, and only to s.
  """
  del s
  return jax.lax.stop_gradient(t)


def geometric(s: jax.Array, t: jax.Array, beta: Scalar) -> jax.Array:
  """log of p_T p_S^beta, normalised over the support; S is detached.

  (Veto, arXiv 2601.07155.) Iterating S <- target has the fixed point p_T^(1 /
  (1 - beta)), sharper than T, so that beta has to decay; beta = 0 is `plain`.

  Args:
    s, t: see `plain`.
    beta: a number >= 0.

  Returns: see `plain`.
  """
  s, t = jax.lax.stop_gradient((s, t))
  z = jnp.maximum(t, _FAR) + beta * jnp.maximum(s, _FAR)
  return _normalised(jnp.where(z > _MASSLESS, z, -jnp.inf))


def mixture(s: jax.Array, t: jax.Array, alpha: Scalar) -> jax.Array:
  """log(alpha p_S + (1 - alpha) p_T), with the gradient to S.

  (DistiLLM, Ko et al. 2024, arXiv 2402.03898.) The reverse KL to it is their
  skewed reverse KL, which stays finite where the teacher has no mass. Their
  skewed KL, KL(T || (1 - alpha) p_S + alpha p_T), has the mixture on the
  student's side: `forward_kl(mixture(t, s, alpha), t)` is its value, and
  `jensen_shannon` holds it with the factor beta.

  Args:
    s, t: see `plain`.
    alpha: a number in [0, 1); 0 is `plain`.

  Returns: see `plain`.
  """
  t = jax.lax.stop_gradient(t)
  m = _log_mix(s, t, alpha)
  return jnp.where(m > _MASSLESS, m, -jnp.inf)


def extrapolated(s: jax.Array, t: jax.Array, lam: Scalar,
                 base: jax.Array) -> jax.Array:
  """lam t + (1 - lam) b, normalised: proportional to b (p_T / b)^lam.

  (G-OPD, generalised on-policy distillation with a base model b.) lam = 1 is
  `plain`, exactly and for any base; lam = 0 is the base; lam > 1 goes beyond
  the teacher.

  Args:
    s, t: see `plain`.
    lam: a number.
    base: log-probs [..., N] of the base b over the same support.

  Returns: see `plain`.
  """
  del s
  base, t = jax.lax.stop_gradient((base, t))
  # An id without mass in both stays without mass: both terms are _FAR times
  # weights that sum to 1.
  z = lam * jnp.maximum(t, _FAR) + (1 - lam) * jnp.maximum(base, _FAR)
  return _normalised(jnp.where(z > _MASSLESS, z, -jnp.inf))


TARGETS: dict[str, Callable[..., jax.Array]] = {
    'plain': plain,
    'geometric': geometric,
    'mixture': mixture,
    'extrapolated': extrapolated,
}
_WEIGHTS = {  # kind -> (what the weight is, allowed, test)
    'geometric': ('beta', '>= 0 and finite', lambda x: 0 <= x < math.inf),
    'mixture': ('alpha', 'in [0, 1)', lambda x: 0 <= x < 1),
    'extrapolated': ('lam', 'finite', math.isfinite),
}


@dataclasses.dataclass(frozen=True)
class Target:
  """A row of TARGETS with its number.

  Attributes:
    kind: a key of TARGETS.
    weight: beta of `geometric`, alpha of `mixture`, lam of `extrapolated`;
      `plain` ignores it. A schedule may put a traced scalar here.

  Raises:
    KeyError: for an unknown kind, with the known ones.
    ValueError: for a weight that the kind does not allow.
  """
  kind: str = 'plain'
  weight: Scalar = 0.0

  def __post_init__(self) -> None:
    allowed.one_of('target', self.kind, TARGETS)
    if self.kind in _WEIGHTS:
      letter, bounds, valid = _WEIGHTS[self.kind]
      _number(self.weight, f'weight ({letter} of {self.kind})', bounds, valid)

  def __call__(self, s: jax.Array, t: jax.Array,
               base: jax.Array | None = None) -> jax.Array:
    """Log-probs [..., N]; `base` is for `extrapolated`, which requires it."""
    if (base is None) == (self.kind == 'extrapolated'):
      raise ValueError(f'the target {self.kind!r} takes '
                       f'{"a" if base is None else "no"} base')
    if self.kind == 'plain':
      return plain(s, t)
    function = TARGETS[self.kind]
    if base is not None:
      function = functools.partial(function, base=base)
    return function(s, t, self.weight)
