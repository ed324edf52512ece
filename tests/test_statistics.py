"""Intervals by hand; pass@k against every subset."""

import itertools
import math

import pytest

from zppo_jax import statistics


def test_t_interval_by_hand():
  """1, 2, 3: mean 2, s 1, half width 4.303 / sqrt(3)."""
  mean, low, high = statistics.t_interval([1.0, 2.0, 3.0])
  assert mean == 2
  assert high - mean == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)
  assert mean - low == pytest.approx(high - mean)


def test_an_interval_is_written_in_one_way():
  """Tables of Markdown and pages differ in what stands around it alone."""
  values, soft = [0.1, 0.2, 0.3], ('<i>', '</i>')
  assert statistics.over_seeds(values) == '0.200 [-0.048, 0.448]'
  assert statistics.over_seeds(values, soft) == (
      '0.200 <i>[-0.048, 0.448]</i>')
  assert statistics.over_seeds([0.5], soft) == '0.500'
  assert statistics.with_interval(0.25, -1, 2, '+.1f') == '+0.2 [-1.0, +2.0]'


def test_sign_flip_is_exact():
  """All eight differences positive: 2 of 2^8 flips are as extreme."""
  assert statistics.sign_flip_p([0.1] * 8) == 2 / 256
  # 3, 1, -1 sums to 3; the flips sum to +-5, +-3, +-3, +-1: 6 of 8 reach it.
  assert statistics.sign_flip_p([3.0, 1.0, -1.0]) == 6 / 8


@pytest.mark.parametrize('num', [1, 4, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_one(num):
  """Every subset of k of n samples, c of them correct, enumerated."""
  for correct, k in itertools.product(range(num + 1), range(1, num + 1)):
    subsets = list(itertools.combinations([True] * correct
                                          + [False] * (num - correct), k))
    share = sum(map(any, subsets)) / len(subsets)
    assert statistics.pass_at_k(num, correct, k) == pytest.approx(share)


def test_pass_at_k_by_hand_and_at_large_counts():
  """1 of 4 right: two draws miss it in 3 of 6 ways. Exact integers inside."""
  assert statistics.pass_at_k(4, 1, 2) == 0.5
  assert statistics.pass_at_k(10000, 1, 100) == pytest.approx(0.01, abs=1e-12)


@pytest.mark.parametrize('num, correct, k, named', [
    (4, 1, 5, 'k is 5'), (4, 1, 0, 'k is 0'), (4, 5, 1, '5 of 4')])
def test_pass_at_k_refuses_what_has_no_meaning(num, correct, k, named):
  with pytest.raises(ValueError, match=named):
    statistics.pass_at_k(num, correct, k)


def test_wilson_interval_by_hand():
  """p = 1/2, n = 4: half width z / (2 sqrt(n + z^2)); all right: not 0."""
  z2 = 1.959964**2
  mean, low, high = statistics.wilson_interval([1, 1, 0, 0])
  assert mean == 0.5
  assert high - 0.5 == pytest.approx(math.sqrt(z2 / (4 + z2)) / 2, rel=1e-5)
  assert 0.5 - low == pytest.approx(high - 0.5)
  _, low, high = statistics.wilson_interval([1.0] * 10)
  assert low == pytest.approx(10 / (10 + z2), rel=1e-5)
  assert high == pytest.approx(1)
