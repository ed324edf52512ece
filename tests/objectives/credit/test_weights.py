"""Weights of tokens and of rollouts."""

import numpy as np
import pytest

from zppo_jax.objectives.credit import evidence, rollout_weights, token_weights
from zppo_jax.objectives.credit.evidence import Evidence

P_S = np.array([.5, .3, .2])


def _weights(text, *batch, done=0, schedule=None):
  call = evidence.read('distil.weights', text, token_weights.TOKEN_WEIGHTS,
                       schedule)
  return [w.tolist() for w in call(batch, done)]


def test_places():
  four, two = Evidence(logps=np.zeros(4)), Evidence(logps=np.zeros(2))
  assert _weights('first(3)', four, two) == [[1, 1, 1, 0], [1, 1]]
  assert _weights('after(3)', four, two) == [[0, 0, 0, 1], [0, 0]]
  assert _weights('last(3)', four, two) == [[0, 1, 1, 1], [1, 1]]


def test_entropies():
  of = Evidence(entropies=np.array([.1, .9, .5]),
                teacher_entropies=np.array([.8, .81, 2.]))
  assert _weights('teacher_entropy', of) == [[0, 1, 1]]
  assert _weights('student_entropy(0.4)', of) == [[0, 1, 1]]


def test_the_highest_entropies_of_the_whole_mini_batch():
  a = Evidence(entropies=np.array([3., 1.]))
  b = Evidence(entropies=np.array([2., 2., 0.]))
  assert _weights('entropy_top(0.4)', a, b) == [[1, 0], [1, 0, 0]]
  assert _weights('entropy_top(0.41)', a, b) == [[1, 0], [1, 1, 0]]
  assert _weights('entropy_top(1)', a, b) == [[1, 1], [1, 1, 1]]
  # Each rollout alone has another answer: so it is computed before
  # micro-batches are made.
  assert _weights('entropy_top(0.4)', b) == [[1, 1, 0]]


def test_differences():
  of = Evidence(logps=np.log([.5, .1, .5]),
                teacher_logps=np.log([.25, .9, 1e-9]))
  assert _weights('bounded', of) == [[1, 1, 0]]
  np.testing.assert_allclose(_weights('trust', of)[0], [.5, 1, 2e-9])


def test_centred_log_likelihood():
  entropy = -(P_S * np.log(P_S)).sum()
  of = Evidence(logps=np.log(P_S), entropies=np.full(3, entropy))
  phi = token_weights.centred_logps(of)
  np.testing.assert_allclose(phi, (.336506, -.174320, -.579785), atol=1e-6)
  assert P_S @ phi == pytest.approx(0, abs=1e-12)
  gamma = np.clip(np.exp(-phi), .1, 2)
  np.testing.assert_allclose(
      _weights('in_distribution', of)[0], P_S ** gamma, atol=1e-12)
  np.testing.assert_allclose(_weights('in_distribution(1, 0, 0)', of)[0], 1)


def test_surprise_and_ids():
  of = Evidence(logps=np.array([-.1, -3., -2.]), tokens=np.array([7, 9, 7]))
  assert _weights('surprisal(2)', of) == [[1, 0, 1]]
  assert _weights('not_special(7, 8)', of) == [[0, 1, 0]]
  assert _weights('not_special(9)', of) == [[1, 0, 1]]


def test_soft_or_is_one_minus_both_doubts():
  of = Evidence(logps=np.zeros(2), teacher_logps=np.array([0., -50.]),
                entropies=np.array([0., 0.]))
  np.testing.assert_allclose(_weights('soft_or', of)[0], [0, 1], atol=1e-12)


def test_weights_multiply_and_numbers_follow_the_updates():
  def growing(field, text):
    assert (field, text) == ('distil.weights: tokens', 'growing')
    def at(done):
      return 1 + done
    at.ends = (1, 3)
    return at
  of = Evidence(logps=np.array([-9., 0., 0., 0.]))
  table = token_weights.TOKEN_WEIGHTS
  calls = [
      evidence.read('distil.weights', text, table, growing)
      for text in ('first(growing)', 'surprisal(1)')]
  for done, expected in ((0, [0, 0, 0, 0]), (2, [0, 1, 1, 0])):
    product, = token_weights.product(calls, [of], done)
    assert product.tolist() == expected
  assert token_weights.product([], [of], 0)[0].tolist() == [1, 1, 1, 1]


def _of_perplexity(ppl, **more):
  logps = -np.log(ppl) * np.ones(3)
  return Evidence(logps=logps, teacher_logps=logps, **more)


def test_shares_by_perplexity():
  correct = [_of_perplexity(x) for x in (1.2, 2.6, 3.8)]
  np.testing.assert_allclose(rollout_weights.ppl_student(correct, 1.0),
                             (.157895, .342105, .5), atol=1e-6)
  wrong = [_of_perplexity(x) for x in (4.5, 2.9, 1.7)]
  np.testing.assert_allclose(rollout_weights.ppl_teacher(wrong, 1.0),
                             (.192353, .298478, .509169), atol=1e-6)
  np.testing.assert_allclose(rollout_weights.ppl_teacher(wrong, 1e9), 1 / 3)
  assert rollout_weights.ppl_student([], 1.0).size == 0


def test_the_best_stay():
  members = [_of_perplexity(x) for x in (4.5, 2.9, 1.7, 1.7, 9)]
  assert rollout_weights.keep_best(members, .8).tolist() == [1, 1, 1, 1, 0]
  assert rollout_weights.keep_best(members, .2).tolist() == [0, 0, 1, 0, 0]
  call = evidence.read('distil.rollout_weights', 'keep_best(0.4)',
                       rollout_weights.ROLLOUT_WEIGHTS)
  assert rollout_weights.product([call], members, 0).tolist() == [0, 0, 1, 1, 0]


def test_weights_by_accuracy():
  """PACED: p (1 - p) peaks at one half; a = 1 and b = 3 at a quarter."""
  members = [Evidence(accuracy=p) for p in (0., .25, .5, 1.)]
  call = evidence.read('credit.rollout_weights', 'accuracy(1, 3)',
                       rollout_weights.ROLLOUT_WEIGHTS)
  np.testing.assert_allclose(rollout_weights.product([call], members, 0),
                             [0, .25 * .75 ** 3, .0625, 0])
  plain = evidence.read('credit.rollout_weights', 'accuracy',
                        rollout_weights.ROLLOUT_WEIGHTS)
  assert plain(members, 0).tolist() == [0, .1875, .25, 0]
  squared = evidence.read('credit.rollout_weights', 'accuracy(2, 1)',
                          rollout_weights.ROLLOUT_WEIGHTS)
  assert squared(members, 0).tolist() == [0, .046875, .125, 0]
  assert plain([Evidence(accuracy=np.nan)], 0).tolist() == [0]
  shares = [Evidence(accuracy=p) for p in np.linspace(0, 1, 101)]
  assert int(np.argmax(call(shares, 0))) == 25


def test_outliers_are_what_the_teacher_finds_far_less_likely():
  of = Evidence(logps=np.log([.5, .1, .5]),
                teacher_logps=np.log([.25, .9, 1e-9]))
  assert _weights('outlier(2)', of) == [[0, 0, 1]]
  assert _weights('trusted(2)', of) == [[1, 1, 0]]
  assert _weights('outlier(0.5)', of) == [[1, 0, 1]]


def test_a_token_behind_a_drifted_prefix_counts_less():
  """|d| is 1, 0, 3: before the tokens lie 0, 1 and 1 of 4."""
  of = Evidence(logps=np.array([-1., -2, -1]),
                teacher_logps=np.array([-2., -2, -4]))
  np.testing.assert_allclose(_weights('prefix_drift', of)[0],
                             [1.5, 1.375, 1.375])
  same = Evidence(logps=np.zeros(2), teacher_logps=np.zeros(2))
  assert _weights('prefix_drift(2)', same) == [[3, 3]]


def test_a_sure_teacher_and_an_unsure_student():
  """Maxima over both rollouts: H_T 2, H_S 4."""
  a = Evidence(entropies=np.array([4., 1.]), teacher_entropies=np.array([0, 2]))
  b = Evidence(entropies=np.array([2.]), teacher_entropies=np.array([.5]))
  np.testing.assert_allclose(_weights('entropy_product', a)[0], [1, 0])
  both = _weights('entropy_product', a, b)
  np.testing.assert_allclose(both[0], [1, 0])
  np.testing.assert_allclose(both[1], [.75 * .5])
  none = Evidence(entropies=np.zeros(2), teacher_entropies=np.zeros(2))
  assert _weights('entropy_product', none) == [[0, 0]]


def test_rewards_of_segments():
  """Segments 'a b |', 'c |', 'd' with 9 as the break: mean probabilities .5
  (geometric), .25 and .75, whose mean is .5."""
  of = Evidence(tokens=np.array([1, 2, 9, 3, 9, 4]), teacher_logps=np.log(
      [.25, 1, .5, .125, .5, .75]))
  np.testing.assert_allclose(_weights('per_segment(9)', of)[0],
                             [1, 1, 1, .5, .5, 1.5])
  np.testing.assert_allclose(_weights('per_segment(7)', of)[0], 1)
  with_two = _weights('per_segment(9, 3)', of)[0]
  assert with_two[3] != with_two[4]  # 3 ends a segment as well
  far = Evidence(tokens=np.array([9, 1]), teacher_logps=np.array([-2e3, -2e3]))
  np.testing.assert_allclose(_weights('per_segment(9)', far)[0], 1)


def test_accuracy_of_the_group():
  """PACED: p (1 - p) at a = b = 1."""
  call = evidence.read('w', 'accuracy', rollout_weights.ROLLOUT_WEIGHTS)
  members = [Evidence(logps=np.zeros(1), accuracy=.25)] * 2
  np.testing.assert_allclose(call(members, 0), .1875)
  call = evidence.read('w', 'accuracy(2, 1)', rollout_weights.ROLLOUT_WEIGHTS)
  np.testing.assert_allclose(call(members[:1], 0), .75 / 16)
  ungraded = [Evidence(logps=np.zeros(1), accuracy=float('nan'))]
  assert call(ungraded, 0).tolist() == [0]
