"""Diagnostics against small cases worked by hand."""

import numpy as np
import pytest

from zppo_jax.runs import diagnostics


def test_repetition():
  assert diagnostics.repetition('') == 0
  assert diagnostics.repetition('wait ' * 3000) > 10
  assert diagnostics.repetition('the quick brown fox jumps over it') < 2
  # The tail alone counts.
  assert diagnostics.repetition('ab' * 9000 + 'x' * 10_000) == (
      diagnostics.repetition('x' * 10_000))
  assert diagnostics.repeated_ngrams([1, 2, 1, 2, 1], 2) == .5
  assert diagnostics.repeated_ngrams([1, 2], 3) == 0


def test_words_and_phrases():
  texts = ['Wait, wait. No', 'the waiter']
  assert diagnostics.word_rate(texts, ['wait']) == 1000 * 2 / 5
  assert diagnostics.word_rate([], ['wait']) == 0
  assert diagnostics.phrase_rate(
      ['As the REFERENCE says', 'x'], ['the reference']) == .5


def test_how_a_group_parts():
  """A, A, AB, AC: three texts that differ; they begin alike for 1 of 1 token in
  the pairs with A, and for 1 of 2 between AB and AC."""
  group = [(1,), (1,), (1, 2), (1, 3)]
  assert diagnostics.branches(group) == 2 / 4
  assert diagnostics.branches([(1, 2)] * 3) == diagnostics.branches([]) == 0
  assert diagnostics.parting(group) == pytest.approx(5.5 / 6)
  assert diagnostics.parting([(1, 2), (2, 2)]) == 0 == diagnostics.parting([])


def test_cliff_and_recovery_and_gain():
  logps = [np.log([.5, .009]), np.log([.001]), np.log([.02])]
  assert diagnostics.cliff(logps) == .5
  assert diagnostics.cliff(logps, .01) > diagnostics.cliff(logps, .005)
  assert diagnostics.cliff([]) == 0
  assert diagnostics.depth_recovery(
      [8, 2, 8, 4], [[True], [True, True], [False], []]) == {2: 1.0, 8: .5}
  assert diagnostics.teaching_gain(.2, .5, .6) == pytest.approx(.5)
  with pytest.raises(ValueError, match="the teacher's accuracy is 0"):
    diagnostics.teaching_gain(0, .1, 0)


def test_shares_of_tokens():
  assert diagnostics.copied([np.array([-.001, -.02]), np.array([0.])]) == (
      pytest.approx(2 / 3))
  assert diagnostics.large([np.array([-11., 3.])], 10) == .5
  assert diagnostics.copied([]) == diagnostics.large([], 1) == 0


def test_depth_is_relative_to_each_response():
  means = diagnostics.by_depth([np.array([1., 3.]), np.arange(4.)], parts=2)
  np.testing.assert_allclose(means, [(1 + 0 + 1) / 3, (3 + 2 + 3) / 3])
  sparse = diagnostics.by_depth([np.array([5.])], parts=3)
  assert sparse[0] == 5 and np.isnan(sparse[1:]).all()


def test_overlap():
  assert diagnostics.overlap_ratio([[1, 2]], [[2, 3]]) == .5
  s, t = np.log([[.5, .3]]), np.log([[.2, .2]])
  ids = [[4, 7]]
  assert diagnostics.overlap_advantage(ids, s, ids, t) == pytest.approx(
      -.031584, abs=1e-6)
  assert diagnostics.overlap_advantage(ids, s, ids, s) == 0
  # Ids 0 and 2 are common: (2, 1) / 3 against (3, 4) / 7.
  assert diagnostics.overlap_advantage(
      [[0, 1, 2]], np.log([[.4, .3, .2]]), [[2, 0, 3]],
      np.log([[.4, .3, .2]])) == pytest.approx(-.114890, abs=1e-6)
  assert diagnostics.overlap_advantage([[0]], [[-1.]], [[1]], [[-1.]]) == 0


def test_order():
  right = np.array([True, True, False, False])
  returns = np.array([-.1, -.3, -.25, -.05])
  none = (np.zeros(2), np.ones(2, bool))
  assert diagnostics.order_consistency([(returns, right), none]) == .25
  assert diagnostics.order_consistency([none]) is None


def test_of_models():
  assert diagnostics.context_lift([True, True], [True, False]) == .5
  assert diagnostics.confidence_gap([.9, .9], [True, False]) == (
      pytest.approx(.4))
  assert diagnostics.drift([np.log([.5, .5])], [np.log([.25, .5])]) == (
      pytest.approx(np.log(2) / 2))
  tiny = {'a': np.ones(3), 'b': np.ones(1)}
  # 1 + 2^-9 rounds to 1 in bfloat16, 1 + 2^-7 does not.
  moved = {'a': np.array([1, 1 + 2**-9, 1 + 2**-7]), 'b': np.ones(1)}
  assert diagnostics.changed_share(tiny, moved) == .25
  np.testing.assert_allclose(
      diagnostics.forgetting([[.9, 0], [.5, .8], [.6, .9]]), [.3, -.1])
  assert diagnostics.forgetting([[.5]]).tolist() == [0]
