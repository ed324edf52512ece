"""Signals: a detached number per token that multiplies log p_S of the token.

d = log p_T - log p_S of the sampled token, b the log-prob under a base model,
A the group-relative advantage of the rollout. Each row of SIGNALS maps Evidence
and its numbers to float64 [R]. COMBINE says how a signal meets the advantage of
the verdict.
"""

from collections.abc import Callable

import numpy as np

from zppo_jax import allowed
from zppo_jax.objectives.credit.evidence import Evidence, Number, Row

# Bounds of diagnostics, on the host and in losses alike.
TENTHS = 10  # of a response, whose statistics are apart
COPIED = -0.01  # nats: above it the teacher read the token (SDPO, Table 6)
LARGE = 10.0  # nats: |log p_T - log p_S| beyond it is extreme (Uni-OPD)
UNLIKELY = 0.01  # a probability; the tutorial names the cliff and no bound


def log_ratio(of: Evidence) -> np.ndarray:
  """d: the policy gradient of the reverse KL, one token at a time.

  (MiniLLM, Gu et al. 2024, with the return of one token; on-policy
  distillation of the Tinker cookbook with its coefficient 1.)
  """
  return of.difference


def extrapolated(of: Evidence, lam: float) -> np.ndarray:
  """d + (lambda - 1)(t - b): lambda (t - b) + (b - s).

  It is the policy gradient of KL(S || b (p_T / b)^lambda / Z), so that lambda
  above 1 goes beyond the teacher, 1 is `log_ratio` to the bit whatever the base
  is, and 0 pulls to the base alone. (ExOPD.)
  """
  extra = (np.asarray(of.teacher_logps, np.float64)
           - np.asarray(of.base_logps, np.float64))
  return of.difference + (lam - 1) * extra


def floor_of(lam: float) -> float:
  """ln(lambda) / (1 - lambda), the floor of REOPOLD, nats; -1 at lambda = 1."""
  return -1.0 if lam == 1 else float(np.log(lam) / (1 - lam))


def floored(of: Evidence, lam: float) -> np.ndarray:
  """max(d, ln(lambda) / (1 - lambda)): tokens that the teacher finds
  impossible have a bounded penalty. (REOPOLD.)"""
  return np.maximum(of.difference, floor_of(lam))


def clipped(of: Evidence, bound: float) -> np.ndarray:
  """d within [-bound, bound], nats."""
  return np.clip(of.difference, -bound, bound)


def softened(of: Evidence) -> np.ndarray:
  """sign(d) log(1 + |d|): it keeps the sign and tames the tails."""
  d = of.difference
  return np.sign(d) * np.log1p(np.abs(d))


def power(of: Evidence, a: float) -> np.ndarray:
  """p_T^a - p_S^a, within [-1, 1]. (PowerOPD.)"""
  return (np.exp(a * np.asarray(of.teacher_logps, np.float64))
          - np.exp(a * np.asarray(of.logps, np.float64)))


def verdict_scaled(of: Evidence, lam: float, epsilon: float) -> np.ndarray:
  """A ((1 - lambda) + lambda clip(exp(sign(A) d), 1 - epsilon, 1 + epsilon)).

  The verdict gives the sign, which never changes; the teacher scales within
  1 +- lambda epsilon. (RLSD.)
  """
  advantage = float(of.advantage or 0.0)
  # exp of more than 20 is far beyond every bound and would overflow.
  exponent = np.clip(np.sign(advantage) * of.difference, -20, 20)
  factor = np.clip(np.exp(exponent), 1 - epsilon, 1 + epsilon)
  return advantage * ((1 - lam) + lam * factor)


def gated(of: Evidence, delta: float) -> np.ndarray:
  """d where teacher and verdict agree by more than delta, else 0.

  They agree where A > 0 and d > delta, or A <= 0 and d < -delta. (RG-OPD.)
  """
  d, advantage = of.difference, float(of.advantage or 0.0)
  agree = d > delta if advantage > 0 else d < -delta
  return np.where(agree, d, 0.0)


def centred(of: Evidence) -> np.ndarray:
  """d + KL(S || T) of the position: its mean over the student is 0. (vOPD.)"""
  return of.difference + np.asarray(of.divergences, np.float64)


_D = frozenset({'logps', 'teacher_logps'})
SIGNALS: dict[str, Row] = {
    'log_ratio': Row(log_ratio, _D),
    'extrapolated': Row(extrapolated, _D | {'base_logps'},
                        (Number('lambda', '>= 0', 1.25),)),
    'floored': Row(floored, _D, (Number('lambda', '(0, 1]', 0.17),)),
    'clipped': Row(clipped, _D, (Number('bound', '> 0'),)),
    'softened': Row(softened, _D),
    'power': Row(power, _D, (Number('a', '> 0'),)),
    'verdict_scaled': Row(verdict_scaled, _D | {'advantage'}, (
        Number('lambda', '[0, 1]', 0.5), Number('epsilon', '[0, 1)', 0.2))),
    'gated': Row(gated, _D | {'advantage'}, (Number('delta', '>= 0', 0.0),)),
    'centred': Row(centred, _D | {'divergences'}),
}


def discounted(signal_R: np.ndarray, gamma: float) -> np.ndarray:
  """The discounted return-to-go of a signal: G_t = x_t + gamma G_(t+1).

  gamma = 0 keeps the signal. gamma = 1 is the return-to-go of MiniLLM, whose
  policy gradient is that of the KL between whole sequences.

  Args:
    signal_R: [R].
    gamma: within [0, 1].

  Returns:
    float64 [R].
  """
  allowed.number('gamma', gamma, '[0, 1]')
  out = np.array(signal_R, np.float64)
  for t in range(len(out) - 2, -1, -1):
    out[t] += gamma * out[t + 1]
  return out


def overlap(student_logps_RK: np.ndarray,
            teacher_logps_RK: np.ndarray) -> np.ndarray:
  """-p_S (s - t) of each kept id, with both renormalised over the K ids.

  Its sum over K is minus the reverse KL on the support: a number per id, not
  per sampled token. (Revisit-OPD uses the sum as an advantage, which is never
  above 0 and has no direction per token; the vector has one.)

  Args:
    student_logps_RK, teacher_logps_RK: [R, K] nats.

  Returns:
    float64 [R, K].
  """
  s, t = (x - np.logaddexp.reduce(x, axis=-1, keepdims=True) for x in (
      np.asarray(student_logps_RK, np.float64),
      np.asarray(teacher_logps_RK, np.float64)))
  return -np.exp(s) * (s - t)


def anchored_logps(old_logps_R: np.ndarray, teacher_logps_R: np.ndarray,
                   alpha: float) -> np.ndarray:
  """(1 - alpha) log p_T + alpha log p_old: the old policy of an anchored ratio.

  The clipped surrogate against it pulls to the teacher; alpha = 1 is the
  clipped surrogate itself. (RLAD, TRRD.)

  Args:
    old_logps_R, teacher_logps_R: [R] nats.
    alpha: within [0, 1].
  """
  allowed.number('alpha', alpha, '[0, 1]')
  if alpha == 1:  # 0 times an infinite log-prob is no number
    return np.asarray(old_logps_R)
  return ((1 - alpha) * np.asarray(teacher_logps_R, np.float64)
          + alpha * np.asarray(old_logps_R, np.float64))


def replace(advantage_R: np.ndarray, signal_R: np.ndarray,
            coefficient: float) -> np.ndarray:
  """coefficient x the signal; the verdict counts only where the signal read
  it."""
  del advantage_R
  return coefficient * signal_R


def add(advantage_R: np.ndarray, signal_R: np.ndarray,
        coefficient: float) -> np.ndarray:
  """The advantage + coefficient x the signal. The advantage is normalised
  before: to z-score the sum would erase or rescale the teacher."""
  return advantage_R + coefficient * signal_R


def multiply(advantage_R: np.ndarray, signal_R: np.ndarray,
             coefficient: float) -> np.ndarray:
  """coefficient x the advantage x the signal."""
  return coefficient * advantage_R * signal_R


COMBINE = {'replace': replace, 'add': add, 'multiply': multiply}
# Names that one may expect -> why there is no such row.
REFUSED = {
    'add_before_normaliser':
        "the normaliser of the advantages would divide the teacher's signal by "
        'the spread of the verdicts, or erase it in groups without spread'}


def combine_of(name: str) -> Callable[..., np.ndarray]:
  """The row of COMBINE.

  Raises:
    KeyError: for another name, with the known ones.
    ValueError: for a name of REFUSED, with the reason.
  """
  if name in REFUSED:
    raise ValueError(f'credit.combine is {name!r}, which is refused: '
                     f'{REFUSED[name]}')
  return allowed.known('credit.combine', name, COMBINE)
