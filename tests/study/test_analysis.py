"""Holm, power and contrasts, against numbers from elsewhere."""

import pytest

from zppo_jax.study import analysis
from zppo_jax.study.analysis import Contrast


def test_holm_by_hand():
  """Ascending: .01 x 4, .02 x 3, .03 x 2 = .06, and .04 is not below it."""
  assert analysis.holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx(
      [0.06, 0.04, 0.06, 0.06])
  assert analysis.holm([0.6, 0.9]) == [1.0, 1.0] and analysis.holm([]) == []


def test_power_by_a_published_table():
  """A paired t test with an effect of half a deviation: 34 pairs have 80.8 %
  (G*Power); one deviation: 10 pairs have 80.3 %."""
  assert analysis.power(0.5, 1.0, 34) == pytest.approx(0.8078, abs=1e-3)
  assert analysis.power(1.0, 1.0, 10) == pytest.approx(0.8031, abs=1e-3)
  assert analysis.power(0.0, 1.0, 10) == pytest.approx(0.05)
  assert analysis.power(-0.5, 1.0, 34) == analysis.power(0.5, 1.0, 34)
  assert analysis.power(0.1, 0.0, 5) == 1.0
  with pytest.raises(ValueError, match='seeds'):
    analysis.power(1.0, 1.0, 1)


def test_seeds_for_a_power():
  assert analysis.seeds_for(0.5, 1.0) == 34
  assert analysis.seeds_for(9.0, 1.0) == 6  # the exact test's least number
  assert analysis.seeds_for(1e-3, 1.0) is None


def records(**arms):
  return [{'arm': arm, 'seed': 100 + i, 'endpoints': {'hard': value}}
          for arm, values in arms.items() for i, value in enumerate(values)
          if value is not None]


def test_a_contrast_by_hand():
  """Differences .1, .2, .3: mean .2, deviation .1; t(2) at 97.5 % is 4.303.
  The seed that one arm lacks does not count."""
  found = analysis.contrast(records(
      a=[0.5, 0.5, 0.5, 0.9], b=[0.4, 0.3, 0.2, None]),
      Contrast('a', 'b', 'hard'))
  assert found['seeds'] == [100, 101, 102]
  assert found['mean'] == pytest.approx(0.2)
  assert found['deviation'] == pytest.approx(0.1)
  assert found['low'] == pytest.approx(0.2 - 4.3027 * 0.1 / 3**0.5, abs=1e-4)
  assert found['sign_flip_p'] == 2 / 8
  with pytest.raises(ValueError, match='has 0 seeds in both arms'):
    analysis.contrast(records(a=[1.0]), Contrast('a', 'b', 'hard'))


def test_a_family_says_what_holds_is_reversed_or_is_not_resolved():
  """With 8 seeds of one sign p is 2 / 2^8, times 3 and 2 under Holm."""
  up, down = [0.5 + i / 100 for i in range(8)], [0.1] * 8
  mixed = [0.1 + (-1)**i / 10 for i in range(8)]
  found = analysis.family(records(up=up, down=down, mixed=mixed), [
      Contrast('up', 'down', 'hard'), Contrast('mixed', 'down', 'hard'),
      Contrast('down', 'up', 'hard')])
  assert [c['verdict'] for c in found] == [
      'holds', 'not resolvable', 'reversed']
  assert [c['holm_p'] for c in found] == pytest.approx(
      [3 / 128, 1.0, 3 / 128])


def test_the_share_with_headroom_by_hand():
  """0.3 is at the ceiling and 0.5 too noisy; of 0.7 and 0.8 the lesser."""
  finals = {0.8: [0.7, 0.7], 0.3: [1.0, 0.96], 0.5: [0.6, 0.9],
            0.7: [0.7, 0.8], 0.9: [0.1, 0.2]}
  assert analysis.share_with_headroom(finals) == 0.7
  assert analysis.share_with_headroom({0.5: [0.6, 0.9], 0.4: [0.6, 1.0]}) == 0.5
  assert analysis.share_with_headroom({0.3: [1.0, 0.96]}) is None
  # The ends are within: a mean of exactly 0.6.
  assert analysis.share_with_headroom({0.6: [0.6, 0.6]}) == 0.6
