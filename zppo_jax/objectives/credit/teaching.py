"""Rewards of a teacher that is trained to teach: numbers of an explanation.

A teacher writes an explanation e of a question x, and the student's log-probs
say how much it helps. They are rewards, so that the clipped surrogate trains
the one who explains; d_t below is how far a token lies below the student's
likeliest one. (RLT: support and additive reward. Pedagogical RL: the peak of
surprise, not its mean, and the product; the closed forms of `spike` and `calm`
are ours, because the source describes their limits alone.)
"""

import numpy as np

from zppo_jax import allowed


def solution_support(solution_logps_R: np.ndarray) -> float:
  """r_SS: the student's mean log p of the solution behind question and
  explanation, nats. (RLT.)

  Raises:
    ValueError: for a solution without tokens.
  """
  logps = np.asarray(solution_logps_R, np.float64)
  allowed.number('solution tokens', logps.size, '>= 1', whole=True)
  return float(logps.mean())


def surprise(logps_R: np.ndarray, most_R: np.ndarray) -> np.ndarray:
  """d_t = max_v log p_S(v) - log p_S(y_t) >= 0 of each token, nats.

  Args:
    logps_R: the student's log-probs of the tokens.
    most_R: those of its likeliest token at each position.
  """
  # The likeliest token is the token itself where rounding makes it less.
  return np.maximum(0.0, np.asarray(most_R, np.float64)
                    - np.asarray(logps_R, np.float64))


def spike(surprise_R: np.ndarray, beta: float) -> float:
  """(1 / beta) log mean_t exp(beta d_t), nats: between mean and maximum.

  It rises with beta: towards 0 it is the mean, towards infinity the maximum.
  (Pedagogical RL.)

  Args:
    surprise_R: d_t, see `surprise`.
    beta: > 0.

  Raises:
    ValueError: for another beta, or an explanation without tokens.
  """
  allowed.number('beta', beta, '> 0')
  d = np.asarray(surprise_R, np.float64)
  allowed.number('explanation tokens', d.size, '>= 1', whole=True)
  top = d.max()
  return float(top + np.log(np.mean(np.exp(beta * (d - top)))) / beta)


def calm(surprise_R: np.ndarray, beta: float) -> float:
  """G = exp(-spike), within (0, 1]: 1 where nothing surprises the student."""
  return float(np.exp(-spike(surprise_R, beta)))


def additive(support: float, divergence: float, lam: float) -> float:
  """r_SS - lambda r_KL. (RLT.)

  Args:
    support: see `solution_support`, nats.
    divergence: KL(teacher || student) of the explanation, nats, by its mean
      or its spike.
    lam: >= 0.
  """
  allowed.number('lambda', lam, '>= 0')
  return support - lam * divergence


def product(reward: float, calmness: float) -> float:
  """R G: no reward of any size pays for a spike. (Pedagogical RL.)

  Args:
    reward: R >= 0, e.g. whether the answer is right. A negative one would be
      better the more it surprises.
    calmness: G, see `calm`.
  """
  allowed.number('reward', reward, '>= 0')
  allowed.number('calmness', calmness, '[0, 1]')
  return reward * calmness
