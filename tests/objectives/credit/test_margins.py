"""Margins and balance against numbers worked by hand."""

import numpy as np
import pytest

from zppo_jax.objectives.credit import balance, margins

RETURNS = np.array([-.10, -.30, -.25, -.05])
RIGHT = np.array([True, True, False, False])


def test_a_return_is_the_mean_over_the_tokens_that_count():
  assert margins.returns([1., 2., 9.], [1, 1, 0]) == 1.5
  assert margins.returns([], None) == 0
  assert margins.returns([5.], [0]) == 0


def test_spread_reaches_the_margin_exactly():
  assert margins.margin(RETURNS, RIGHT) == pytest.approx(-.05)
  added = margins.shift(RETURNS, RIGHT, delta=.4)
  np.testing.assert_allclose(added, [.225, .225, -.225, -.225])
  assert margins.margin(RETURNS + added, RIGHT) == pytest.approx(.4)


def test_lift_and_down_move_one_class():
  assert margins.margin(RETURNS, RIGHT, 'extreme') == pytest.approx(-.25)
  lifted = margins.shift(RETURNS, RIGHT, delta=0, kind='extreme', side='lift')
  np.testing.assert_allclose(lifted, [.25, .25, 0, 0])
  assert margins.margin(RETURNS + lifted, RIGHT, 'extreme') == pytest.approx(0)
  down = margins.shift(RETURNS, RIGHT, delta=0, kind='extreme', side='down')
  np.testing.assert_allclose(down, [0, 0, -.25, -.25])


def test_a_satisfied_group_stays_to_the_bit():
  rng = np.random.default_rng(0)
  returns = rng.normal(size=8)
  right = np.arange(8) < 4
  now = margins.margin(returns, right)
  added = margins.shift(returns, right, delta=now)
  assert (returns + added == returns).all()


@pytest.mark.parametrize('right', [np.ones(4, bool), np.zeros(4, bool)])
def test_an_empty_class_stays(right):
  assert margins.margin(RETURNS, right) is None
  assert not margins.shift(RETURNS, right, delta=5).any()
  assert margins.mask(RETURNS, right, delta=5).removed == 0
  assert balance.online(right, 1.0, np.random.default_rng(0)).all()


def test_the_mask_removes_one_at_a_time():
  masked = margins.mask(RETURNS, RIGHT, delta=0, kind='extreme')
  # Both first removals give -.05, so the worst right one goes; then one right
  # one must stay, and the best wrong one goes.
  assert masked.kept_G.tolist() == [True, False, True, False]
  assert masked.removed == 2
  kept = masked.kept_G
  assert margins.margin(RETURNS[kept], RIGHT[kept], 'extreme') == (
      pytest.approx(.15))


def test_the_mask_keeps_a_quarter_of_a_class():
  returns = np.array([0., 1, 2, 3, 4, 5, 6, 7, 100])
  right = np.array([True] * 8 + [False])
  masked = margins.mask(returns, right, delta=0)
  assert (masked.kept_G & right).sum() == 2
  assert masked.kept_G[-1]
  assert margins.fewest(8, .25) == 2 and margins.fewest(3, .25) == 1


def test_pairs_in_order():
  assert margins.order_consistency(RETURNS, RIGHT) == (1, 4)
  assert margins.order_consistency([1., 1.], [True, False]) == (1, 1)


def test_balance():
  rng = np.random.default_rng(0)
  right = np.arange(8) < 6
  kept = balance.online(right, 1.0, rng)
  assert ((kept & right).sum(), (kept & ~right).sum()) == (2, 2)
  right = np.arange(8) < 2
  kept = balance.online(right, 1.2, rng)  # int(2 / 1.2) = 1
  assert ((kept & right).sum(), (kept & ~right).sum()) == (2, 1)
  drawn = {tuple(balance.online(right, 1.0, np.random.default_rng(seed)))
           for seed in range(20)}
  assert len(drawn) > 5
  assert balance.online(right, 0, rng).tolist() == (~right).tolist()
  assert balance.online(right, np.inf, rng).tolist() == right.tolist()
  with pytest.raises(ValueError, match='ratio is -1; it must be >= 0'):
    balance.online(right, -1, rng)


def test_permuted_verdicts_keep_their_number_and_take_every_order():
  right = np.array([True, False, False, False])
  drawn = [margins.permuted(right, np.random.default_rng(seed))
           for seed in range(40)]
  assert all(of.dtype == bool and of.sum() == 1 for of in drawn)
  assert {int(of.argmax()) for of in drawn} == {0, 1, 2, 3}
  assert right.tolist() == [True, False, False, False]
  same = [margins.permuted(right, np.random.default_rng(7)).tolist()
          for _ in range(2)]
  assert same[0] == same[1]


@pytest.mark.parametrize('right, ratio, gone', [
    (6, 1.0, 4), (2, 1.2, 5), (6, 0, 6), (6, np.inf, 2), (6, 3, 0), (8, 1, 0),
    (0, 1, 0)])
def test_as_many_are_left_out_at_random_as_by_the_ratio(right, ratio, gone):
  """Of 8: 6 : 2 is 4 too many for 1 : 1; 2 : 6 keeps int(2 / 1.2) = 1 wrong."""
  right_G = np.arange(8) < right
  random = [balance.at_random(right_G, ratio, np.random.default_rng(seed))
            for seed in range(60)]
  by_ratio = balance.online(right_G, ratio, np.random.default_rng(0))
  assert [int((~kept).sum()) for kept in (by_ratio, *random)] == [gone] * 61
  # Each rollout goes at times, whichever its verdict is.
  assert (~np.array(random)).any(axis=0).all() == (gone > 0)
  again = balance.at_random(right_G, ratio, np.random.default_rng(3))
  assert again.tolist() == random[3].tolist()


def test_at_random_refuses_a_bad_ratio():
  with pytest.raises(ValueError, match='ratio is -1; it must be >= 0'):
    balance.at_random(RIGHT, -1, np.random.default_rng(0))


def test_questions_are_repeated_and_never_dropped():
  counts = np.array([0, 4, 4, 4, 8, 8])
  factors = np.ones(9)
  factors[4], factors[8] = 2.5, 3
  assert balance.offline(counts, factors).tolist() == [1, 2, 3, 2, 3, 3]
  assert balance.offline(counts, factors)[1:4].sum() == int(3 * 2.5)
  with pytest.raises(ValueError, match='factors is 0.5; it must be >= 1'):
    balance.offline(counts, [.5] * 9)
  with pytest.raises(ValueError, match=r'right_counts is 4; .*in \[0, 3\]'):
    balance.offline(counts, [1.] * 4)
