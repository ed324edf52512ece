"""Reducers by hand, and the same numbers however rows fall into batches."""

import numpy as np
import pytest

from zppo_jax.objectives import advantages, reducers

# Two rows: responses of 2 and 1 tokens (prompts of 1), then one of 2 tokens
# and a sequence without a response token, then padding.
SEGMENT = np.int32([[1, 1, 1, 2, 2, 0, 0], [1, 1, 1, 2, 2, 0, 0]])
MASK = np.float32([[0, 1, 1, 0, 1, 0, 0], [0, 1, 1, 0, 0, 0, 0]])
TAUGHT = np.float32([[0, 1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0]])
LOSS = np.float32([[9, 1, 2, 9, 4, 9, 9], [9, 8, 16, 9, 9, 9, 9]])
WANT = {  # numerator, count: 3 responses with tokens, longest 10
    'token_mean': (31, 5), 'per_rollout': (1.5 + 4 + 12, 3),
    'taught_tokens': (5, 2), 'constant_length': (31, 30)}


def sums(kind, rows):
  weight, count = reducers.reduced(
      kind, MASK[rows], SEGMENT[rows], TAUGHT[rows], 10)
  return np.array([(weight * LOSS[rows]).sum(), count])


@pytest.mark.parametrize('kind', reducers.REDUCERS)
def test_by_hand(kind):
  np.testing.assert_allclose(sums(kind, [0, 1]), WANT[kind], rtol=1e-6)


@pytest.mark.parametrize('kind', reducers.REDUCERS)
def test_one_division_for_the_whole_mini_batch(kind):
  """Micro-batches of one row each sum to the same numbers, and the mean of
  their own means is another number."""
  apart = [sums(kind, [i]) for i in (0, 1)]
  np.testing.assert_allclose(sum(apart), WANT[kind], rtol=1e-6)
  of_each = np.mean([x[0] / max(x[1], 1) for x in apart])
  assert abs(of_each - WANT[kind][0] / WANT[kind][1]) > 0.1


def test_a_batch_without_tokens_counts_nothing():
  """Neither weights nor NaN."""
  none = np.zeros_like(MASK)
  for kind in reducers.REDUCERS:
    weight, count = reducers.reduced(kind, none, SEGMENT, none, 10)
    assert count == 0 and not np.any(weight)


def test_dr_grpo():
  """r - mean(r), and every token of every rollout weighs the same: the group
  of Dr. GRPO's Eq. 1 with rewards 1, 0, 0 and lengths 2, 1, 2."""
  adv = advantages.no_norm(np.float32([[1, 0, 0]]), np.ones((1, 3)))
  np.testing.assert_allclose(adv, [[2 / 3, -1 / 3, -1 / 3]], rtol=1e-6)
  weight, count = reducers.reduced(
      'constant_length', MASK, SEGMENT, TAUGHT, 10)
  of_token = np.zeros_like(MASK)
  of_token[0, 1:3], of_token[0, 4], of_token[1, 1:3] = np.asarray(adv)[0]
  loss = -(np.asarray(weight) * of_token).sum() / count
  np.testing.assert_allclose(loss, -(2 * 2 - 1 - 2) / 3 / (3 * 10), atol=1e-7)
  np.testing.assert_array_equal(np.unique(weight), [0, 1])


def test_unknown():
  with pytest.raises(KeyError, match="unknown reducer 'mean'; known: token"):
    reducers.reduced('mean', MASK, SEGMENT, TAUGHT, 10)
  with pytest.raises(AssertionError):
    reducers.reduced('token_mean', MASK, SEGMENT[:1], TAUGHT, 10)
