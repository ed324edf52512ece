"""The gold anchor: the likelihood of answers that came with the questions.

  loss = the row's loss + factor x mean over the answers' tokens of -log p

(Stable-OPD, 2604.08527: factor 0.1.) The mean is over the answers' own tokens,
whatever the other tokens of the mini-batch are. The gradient is accumulated
before the one division at the optimizer step, so that a token of an answer
weighs factor x (what the mini-batch is divided by) / (tokens of its answers).

Log-probs are taken at temperature 1. Answers are rows of their own: no other
number of a step counts them.
"""

from collections.abc import Sequence

import numpy as np

from zppo_jax.algorithms.targets import Targets
from zppo_jax.arrays import MicroBatch, PolicyOutput
from zppo_jax.objectives import losses
from zppo_jax.records import Group

TEMPERATURE = 1.0
NLL = 'gold/nll'  # the statistic
WEIGHT = 'weight'  # the target
EXAMPLE = {WEIGHT: np.zeros(1, np.float32)}


def targets(groups: Sequence[Group], factor: float, count: float) -> Targets:
  """The weight of each token of some answers.

  Args:
    groups: the answers of a mini-batch.
    factor: the factor of their mean.
    count: what the summed loss of the mini-batch is divided by; 0 of a
      mini-batch without tokens, whose division is by 1.
  """
  tokens = sum(len(r.tokens) for group in groups for r in group.rollouts)
  return {
      (p, g): {WEIGHT: np.full(len(rollout.tokens),
                               factor * max(count, 1) / tokens, np.float32)}
      for p, group in enumerate(groups)
      for g, rollout in enumerate(group.rollouts) if rollout.tokens}


def likelihood(output: PolicyOutput,
               batch: MicroBatch) -> losses.LossAndStatistics:
  """-weight x log p of each token; a `Loss`."""
  return -batch.targets[WEIGHT] * output.logp_BT, {NLL: -output.logp_BT}
