"""The gold anchor: weights by hand."""

import numpy as np

from tests.builders import group
from zppo_jax.algorithms.credit import gold


def test_a_mean_of_its_own():
  """Factor 0.1, 30 tokens in the mini-batch: the weights of the answers sum to
  3, so that the division by 30 leaves 0.1 x their mean."""
  groups = [group('a', right=1, size=2), group('b', right=1, size=1)]
  tokens = sum(len(r.tokens) for g in groups for r in g.rollouts)
  targets = gold.targets(groups, 0.1, 30)
  assert set(targets) == {(0, 0), (0, 1), (1, 0)}
  weights = np.concatenate([of[gold.WEIGHT] for of in targets.values()])
  np.testing.assert_allclose(weights, 3 / tokens, rtol=1e-6)
  # A mini-batch without tokens is divided by 1.
  alone = gold.targets(groups, 0.1, 0)
  np.testing.assert_allclose(alone[0, 0][gold.WEIGHT], 0.1 / tokens, rtol=1e-6)
  assert gold.targets([], 0.1, 30) == {}
