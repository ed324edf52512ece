"""Rewards of a teacher that explains, by hand."""

import math

import numpy as np
import pytest

from zppo_jax.objectives.credit import teaching

D = np.array([0.0, 0.3, 1.2])


def test_spike_by_hand():
  """Between the mean .5 and the maximum 1.2, rising with beta."""
  assert teaching.spike(D, 1.0) == pytest.approx(.636573, abs=1e-6)
  assert teaching.spike(D, 4.0) == pytest.approx(.934081, abs=1e-6)
  assert teaching.spike(D, 1e-7) == pytest.approx(.5, abs=1e-6)
  assert teaching.spike(D, 1e6) == pytest.approx(1.2, abs=1e-5)
  values = [teaching.spike(D, beta) for beta in (.1, .5, 1, 2, 5, 50)]
  assert values == sorted(values)
  assert teaching.calm(D, 1.0) == pytest.approx(math.exp(-.636573), abs=1e-6)
  assert teaching.calm(np.zeros(3), 1.0) == 1


def test_surprise_is_the_distance_to_the_likeliest_token():
  logps, most = np.log([.5, .2, .1]), np.log([.5, .6, .4])
  np.testing.assert_allclose(teaching.surprise(logps, most),
                             [0, math.log(3), math.log(4)])
  assert teaching.surprise(np.array([-.1]), np.array([-.10001])) == 0


def test_support_and_both_rewards():
  assert teaching.solution_support(np.log([.5, .125])) == pytest.approx(
      math.log(.25))
  assert teaching.additive(-1.0, .5, lam=.2) == pytest.approx(-1.1)
  assert teaching.product(1.0, .25) == .25
  # One spike ruins the product and hardly moves the mean of the sum.
  flat, spiky = np.full(100, .1), np.array([10.0] + [0.0] * 99)
  assert flat.mean() == pytest.approx(spiky.mean())
  assert teaching.product(1.0, teaching.calm(spiky, 4.0)) < 1e-3 < (
      teaching.product(1.0, teaching.calm(flat, 4.0)))


@pytest.mark.parametrize(('call', 'words'), [
    (lambda: teaching.spike(D, 0), 'beta is 0; it must be > 0'),
    (lambda: teaching.spike(D[:0], 1), 'explanation tokens is 0'),
    (lambda: teaching.solution_support(D[:0]), 'solution tokens is 0'),
    (lambda: teaching.additive(0, 0, -1), 'lambda is -1; it must be >= 0'),
    (lambda: teaching.product(-1, 1), 'reward is -1; it must be >= 0'),
    (lambda: teaching.product(1, 1.5), 'calmness is 1.5'),
])
def test_refused(call, words):
  with pytest.raises(ValueError, match=words):
    call()
