"""Weights per token, >= 0, which multiply a term of the loss.

A row maps the Evidence of a whole mini-batch to one array [R] per rollout,
because some rows compare tokens across it (`entropy_top`). Weights multiply, so
that a method may name several.
"""

from collections.abc import Callable, Sequence

import numpy as np

from zppo_jax.objectives.credit.evidence import Call, Evidence, Number, Row

Batch = Sequence[Evidence]
Weights = list[np.ndarray]


def _by_rollout(batch: Batch,
                weight: Callable[[Evidence], np.ndarray]) -> Weights:
  return [np.asarray(weight(of), np.float64) for of in batch]


def _places(of: Evidence) -> np.ndarray:
  return np.arange(len(of))


def first(batch: Batch, length: int) -> Weights:
  """1 on the first `length` tokens of a response. (Fast-OPD.)"""
  return _by_rollout(batch, lambda of: _places(of) < length)


def after(batch: Batch, length: int) -> Weights:
  """0 on the first `length` tokens, where phrases of the context leak."""
  return _by_rollout(batch, lambda of: _places(of) >= length)


def last(batch: Batch, length: int) -> Weights:
  """1 on the last `length` tokens: the negative control of `first`."""
  return _by_rollout(batch, lambda of: _places(of) >= len(of) - length)


def teacher_entropy(batch: Batch, tau: float) -> Weights:
  """1 where the teacher's entropy is above tau, nats. (EOPD: tau 0.8.)"""
  return _by_rollout(
      batch, lambda of: np.asarray(of.teacher_entropies) > tau)


def student_entropy(batch: Batch, tau: float) -> Weights:
  """1 where the student's entropy is above tau, nats."""
  return _by_rollout(batch, lambda of: np.asarray(of.entropies) > tau)


def entropy_top(batch: Batch, share: float) -> Weights:
  """1 on the `share` of the mini-batch's tokens with the highest entropy of
  the student; ceil(share x tokens) of them, equal entropies by their order.
  (REOPOLD's second phase.)"""
  sizes = [len(of) for of in batch]
  if not sum(sizes):
    return [np.zeros(size) for size in sizes]
  entropies = np.concatenate([
      np.asarray(of.entropies, np.float64) for of in batch])
  order = np.argsort(-entropies, kind='stable')
  weights = np.zeros(len(entropies))
  weights[order[:int(np.ceil(share * len(entropies)))]] = 1
  return np.split(weights, np.cumsum(sizes)[:-1])


def bounded(batch: Batch, bound: float) -> Weights:
  """1 where |d| < bound, nats: tokens on which the two disagree beyond it are
  left out. (Uni-OPD: 10.)"""
  return _by_rollout(batch, lambda of: np.abs(of.difference) < bound)


def trusted(batch: Batch, bound: float) -> Weights:
  """1 where d > -bound, nats. (TrOPD's trust region.)"""
  return _by_rollout(batch, lambda of: of.difference > -bound)


def outlier(batch: Batch, bound: float) -> Weights:
  """1 where d <= -bound, nats: tokens that the teacher finds far less likely,
  which `trusted` leaves out. (TrOPD gives them another loss.)"""
  return _by_rollout(batch, lambda of: of.difference <= -bound)


def prefix_drift(batch: Batch, gamma: float) -> Weights:
  """1 + gamma (1 - sum_{k < t} |d_k| / sum_k |d_k|): a token behind a prefix on
  which the two disagree counts less. (IW-OPD, 2606.22600: gamma 0.5.) Where
  they agree on every token it is 1 + gamma."""
  def weight(of: Evidence) -> np.ndarray:
    sizes = np.abs(of.difference)
    total = sizes.sum()
    before = np.cumsum(sizes) - sizes
    return 1 + gamma * (1 - (before / total if total else before))
  return _by_rollout(batch, weight)


def entropy_product(batch: Batch) -> Weights:
  """(1 - H_T / max H_T)(H_S / max H_S), maxima over the mini-batch: a token
  counts where the teacher is sure and the student is not. (FiRe-OPD.) A maximum
  of 0 is no scale: its quotients are 0."""
  most = {name: max((float(np.max(getattr(of, name), initial=0))
                     for of in batch), default=0.0)
          for name in ('entropies', 'teacher_entropies')}
  def share(of: Evidence, name: str) -> np.ndarray:
    values = np.asarray(getattr(of, name), np.float64)
    return values / most[name] if most[name] else np.zeros_like(values)
  return _by_rollout(batch, lambda of: (
      1 - share(of, 'teacher_entropies')) * share(of, 'entropies'))


def per_segment(batch: Batch, *ids: float) -> Weights:
  """The reward of a token's segment, normalised within the rollout.

  A segment ends with one of the ids (a line break, say), or with the response.
  Its reward is the teacher's mean probability of a token of it, exp(mean log
  p_T); it is divided by the mean reward of the rollout's segments. Segments
  that the teacher finds equally likely weigh 1. (After TAMTRL, whose turns get
  the normalised reward of a teacher that reads the document; a response of one
  turn has segments in their place.)
  """
  def weight(of: Evidence) -> np.ndarray:
    if not len(of):
      return np.zeros(0)
    ends = np.isin(np.asarray(of.tokens), np.asarray(ids))
    segment = np.concatenate([[0], np.cumsum(ends)[:-1]])
    logps = np.asarray(of.teacher_logps, np.float64)
    means = np.bincount(segment, logps) / np.bincount(segment)
    # The highest is taken out, so that not all rewards underflow.
    rewards = np.exp(means - means.max())
    return (rewards / rewards.mean())[segment]
  return _by_rollout(batch, weight)


def centred_logps(of: Evidence) -> np.ndarray:
  """phi = log p_S(y) + H_S, nats: the centred log-likelihood, whose mean over
  the student's own tokens is 0. (Distribution Discriminant Theory, 2602.12222.)
  """
  return (np.asarray(of.logps, np.float64)
          + np.asarray(of.entropies, np.float64))


def in_distribution(batch: Batch, beta: float, low: float,
                    high: float) -> Weights:
  """p_S(y)^gamma with gamma = clip(exp(-phi / beta), low, high).

  Tokens that the student would not write count less. (IDFT, 2602.12222.)
  """
  def weight(of: Evidence) -> np.ndarray:
    # exp of more than 50 lies beyond `high`, and more would overflow.
    surprise = np.minimum(-centred_logps(of) / beta, 50)
    gamma = np.clip(np.exp(surprise), low, high)
    return np.exp(gamma * np.asarray(of.logps, np.float64))
  return _by_rollout(batch, weight)


def surprisal(batch: Batch, cap: float) -> Weights:
  """1 where -log p_S(y) <= cap, nats: no imitation of spikes. (Pedagogical
  RL.)"""
  return _by_rollout(batch, lambda of: -np.asarray(of.logps) <= cap)


def not_special(batch: Batch, *ids: float) -> Weights:
  """0 on every occurrence of the ids. (Revisit-OPD.)"""
  return _by_rollout(
      batch, lambda of: ~np.isin(np.asarray(of.tokens), np.asarray(ids)))


def trust(batch: Batch) -> Weights:
  """min(p_T / p_S, 1)."""
  return _by_rollout(batch, lambda of: np.exp(np.minimum(of.difference, 0)))


def soft_or(batch: Batch, teacher_scale: float,
            student_scale: float) -> Weights:
  """1 - (1 - a)(1 - b) with a = 1 - exp(-H_S / student_scale) and
  b = 1 - exp(-|d| / teacher_scale): a token counts where the student is unsure
  or the two disagree. (The soft-OR of TIP; its scales are ours.)"""
  def weight(of: Evidence) -> np.ndarray:
    unsure = np.exp(-np.asarray(of.entropies, np.float64) / student_scale)
    agree = np.exp(-np.abs(of.difference) / teacher_scale)
    return 1 - unsure * agree
  return _by_rollout(batch, weight)


_D = frozenset({'logps', 'teacher_logps'})
_LENGTH = (Number('tokens', '>= 0', whole=True),)
TOKEN_WEIGHTS: dict[str, Row] = {
    'first': Row(first, frozenset(), _LENGTH),
    'after': Row(after, frozenset(), _LENGTH),
    'last': Row(last, frozenset(), _LENGTH),
    'teacher_entropy': Row(teacher_entropy, frozenset({'teacher_entropies'}),
                           (Number('tau', '>= 0', 0.8),)),
    'student_entropy': Row(student_entropy, frozenset({'entropies'}),
                           (Number('tau', '>= 0'),)),
    'entropy_top': Row(entropy_top, frozenset({'entropies'}),
                       (Number('share', '(0, 1]'),)),
    'bounded': Row(bounded, _D, (Number('bound', '> 0', 10.0),)),
    'trusted': Row(trusted, _D, (Number('bound', '> 0'),)),
    'outlier': Row(outlier, _D, (Number('bound', '> 0'),)),
    'prefix_drift': Row(prefix_drift, _D, (Number('gamma', '>= 0', 0.5),)),
    'entropy_product': Row(
        entropy_product, frozenset({'entropies', 'teacher_entropies'})),
    'per_segment': Row(per_segment, frozenset({'tokens', 'teacher_logps'}),
                       (Number('id', '>= 0', whole=True),), many=True),
    'in_distribution': Row(in_distribution, frozenset({'logps', 'entropies'}), (
        Number('beta', '> 0', 1.0), Number('low', '>= 0', 0.1),
        Number('high', '>= 0', 2.0))),
    'surprisal': Row(surprisal, frozenset({'logps'}), (Number('cap', '>= 0'),)),
    'not_special': Row(not_special, frozenset({'tokens'}),
                       (Number('id', '>= 0', whole=True),), many=True),
    'trust': Row(trust, _D),
    'soft_or': Row(soft_or, _D | {'entropies'}, (
        Number('teacher_scale', '> 0', 1.0),
        Number('student_scale', '> 0', 1.0))),
}


def product(calls: Sequence[Call], batch: Batch, done: int) -> Weights:
  """The product of weights, float64 [R] per rollout; 1 without any call.

  Args:
    calls: rows of TOKEN_WEIGHTS with their numbers.
    batch: the Evidence of every rollout of the mini-batch.
    done: optimizer steps done.
  """
  weights = [np.ones(len(of)) for of in batch]
  for call in calls:
    weights = [a * b for a, b in zip(weights, call(batch, done), strict=True)]
  return weights
