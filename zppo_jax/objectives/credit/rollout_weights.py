"""Weights per rollout of a group, >= 0, which multiply all of its tokens."""

from collections.abc import Sequence

import numpy as np

from zppo_jax.objectives.credit.evidence import Call, Evidence, Number, Row

Members = Sequence[Evidence]


def perplexity(logps: np.ndarray | None) -> float:
  """exp(-mean log p) of a response; 1 of an empty one."""
  logps = np.asarray(logps, np.float64)
  return float(np.exp(-logps.mean())) if logps.size else 1.0


def _shares(exponents: np.ndarray) -> np.ndarray:
  """Softmax of exponents over the group; an empty group has none."""
  if not exponents.size:
    return exponents
  raised = np.exp(exponents - exponents.max())
  return raised / raised.sum()


def ppl_student(members: Members, tau: float) -> np.ndarray:
  """Shares in the group, proportional to PPL_S^(1 / tau). (SCOPE, correct
  rollouts: those that the student finds unlikely count more.)"""
  return _shares(np.array([
      np.log(perplexity(of.logps)) / tau for of in members]))


def ppl_teacher(members: Members, tau: float) -> np.ndarray:
  """Shares in the group, proportional to PPL_T^(-1 / tau). (SCOPE, wrong
  rollouts: those that the teacher understands count more.)"""
  return _shares(np.array([
      -np.log(perplexity(of.teacher_logps)) / tau for of in members]))


def keep_best(members: Members, share: float) -> np.ndarray:
  """1 for the `share` of the group with the highest mean log p_T, else 0;
  ceil(share x members) of them, equal ones by their order. (FiRe drops the
  lowest fifth.)"""
  means = np.array([-np.log(perplexity(of.teacher_logps)) for of in members])
  weights = np.zeros(len(means))
  kept = int(np.ceil(share * len(means)))
  weights[np.argsort(-means, kind='stable')[:kept]] = 1
  return weights


def accuracy(members: Members, a: float, b: float) -> np.ndarray:
  """p^a (1 - p)^b of the group, whose share of right rollouts is p; 0 where no
  rollout has a verdict. (PACED: it peaks at a / (a + b), and leaves out what is
  always or never right.)"""
  shares = np.array([of.accuracy for of in members], np.float64)
  known = np.nan_to_num(shares)  # nan: nothing was graded
  return np.where(np.isnan(shares), 0.0, known ** a * (1 - known) ** b)


ROLLOUT_WEIGHTS: dict[str, Row] = {
    'ppl_student': Row(ppl_student, frozenset({'logps'}),
                       (Number('tau', '> 0', 1.0),)),
    'ppl_teacher': Row(ppl_teacher, frozenset({'teacher_logps'}),
                       (Number('tau', '> 0', 1.0),)),
    'keep_best': Row(keep_best, frozenset({'teacher_logps'}),
                     (Number('share', '(0, 1]', 0.8),)),
    'accuracy': Row(accuracy, frozenset({'accuracy'}), (
        Number('a', '>= 0', 1.0), Number('b', '>= 0', 1.0))),
}


def product(calls: Sequence[Call], members: Members, done: int) -> np.ndarray:
  """The product of weights, float64 [G]; 1 without any call."""
  weights = np.ones(len(members))
  for call in calls:
    weights = weights * call(members, done)
  return weights
