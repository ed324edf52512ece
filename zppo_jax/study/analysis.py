"""Paired contrasts of endpoints, their multiplicity, and power by seeds.

A contrast is the mean over seeds of a difference between two arms, with the
95 % t interval of paired differences and an exact sign-flip p. The confirmatory
contrasts of a study are one family, whose p are adjusted by Holm's method;
everything else is exploratory.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy import stats

from zppo_jax import allowed
from zppo_jax.statistics import sign_flip_p, t_interval

VERDICTS = ('holds', 'reversed', 'not resolvable')
MOST_SEEDS = 1000  # beyond, `seeds_for` says that no number is known


class Contrast(NamedTuple):
  """A claim that `first` has more of an endpoint than `second`."""
  first: str
  second: str
  endpoint: str


def differences(records: Sequence[Mapping], of: Contrast
                ) -> dict[int, float]:
  """Seed -> the first arm's endpoint minus the second's, where both have it.

  Args:
    records: {'arm', 'seed', 'endpoints'} of complete runs.
    of: the contrast.
  """
  values = {(r['arm'], r['seed']): r['endpoints'][of.endpoint]
            for r in records if of.endpoint in r['endpoints']}
  return {seed: values[of.first, seed] - values[of.second, seed]
          for arm, seed in sorted(values)
          if arm == of.first and (of.second, seed) in values}


def holm(ps: Sequence[float]) -> list[float]:
  """Holm's adjusted p, in the order given (Holm 1979).

  With the p in ascending order, the i-th of m is multiplied by m - i + 1; each
  is at least the one before it and at most 1.
  """
  order = sorted(range(len(ps)), key=lambda i: ps[i])
  out, least = [0.0] * len(ps), 0.0
  for place, i in enumerate(order):
    least = max(least, min(1.0, (len(ps) - place) * ps[i]))
    out[i] = least
  return out


def power(effect: float, deviation: float, seeds: int,
          level: float = 0.05) -> float:
  """The power of the two-sided paired t test.

  Args:
    effect: the true mean difference.
    deviation: the standard deviation of differences between seeds.
    seeds: n >= 2.
    level: the significance level.
  """
  allowed.number('seeds', seeds, '>= 2', whole=True)
  if not deviation:
    return float(effect != 0)
  freedom, shift = seeds - 1, abs(effect) / deviation * math.sqrt(seeds)
  critical = float(stats.t.ppf(1 - level / 2, freedom))
  upper = float(stats.nct.sf(critical, freedom, shift))
  # Far from 0 the other tail is nothing, and scipy's number for it is nan.
  lower = float(stats.nct.cdf(-critical, freedom, shift)) if shift < 5 else 0.0
  return upper + lower


def seeds_for(effect: float, deviation: float, wanted: float = 0.8,
              level: float = 0.05) -> int | None:
  """The fewest seeds with a power; None where MOST_SEEDS are too few.

  An exact sign-flip test has no p below 2 / 2^n, so that there are at least as
  many seeds as that allows: 6 at 5 %.
  """
  fewest = math.ceil(1 - math.log2(level))
  for seeds in range(max(2, fewest), MOST_SEEDS + 1):
    if power(effect, deviation, seeds, level) >= wanted:
      return seeds
  return None


def contrast(records: Sequence[Mapping], of: Contrast) -> dict:
  """A contrast as JSON values: mean, interval, p, and the seeds that a power of
  80 % takes if mean and deviation are the true ones.

  Raises:
    ValueError: with fewer than two seeds that both arms have.
  """
  by_seed = differences(records, of)
  if len(by_seed) < 2:
    raise ValueError(f'{of.first} - {of.second} on {of.endpoint} has '
                     f'{len(by_seed)} seeds in both arms; an interval needs 2')
  values = list(by_seed.values())
  mean, low, high = t_interval(values)
  deviation = (high - low) / 2 * math.sqrt(len(values)) / float(
      stats.t.ppf(0.975, len(values) - 1))
  return {**of._asdict(), 'seeds': list(by_seed), 'differences': values,
          'mean': mean, 'low': low, 'high': high, 'deviation': deviation,
          'sign_flip_p': sign_flip_p(values),
          'seeds_for_80': seeds_for(mean, deviation)}


def family(records: Sequence[Mapping],
           contrasts: Sequence[Contrast]) -> list[dict]:
  """The confirmatory contrasts, each with `holm_p` and its `verdict`.

  A claim holds if its adjusted p is at most 5 % and the mean is positive, is
  reversed if the mean is negative then, and else is not resolvable with these
  seeds.
  """
  found = [contrast(records, of) for of in contrasts]
  adjusted = holm([c['sign_flip_p'] for c in found])
  for of, p in zip(found, adjusted, strict=True):
    of['holm_p'] = p
    of['verdict'] = VERDICTS[
        2 if p > 0.05 else 0 if of['mean'] > 0 else 1]
  return found


def share_with_headroom(finals: Mapping[float, Sequence[float]],
                        within: tuple[float, float] = (0.6, 0.95),
                        deviation: float = 0.12) -> float | None:
  """The least share of deep misconceptions at which a study has headroom.

  Args:
    finals: share -> an endpoint of each development seed, at least two.
    within: where its mean must lie, ends included.
    deviation: what its standard deviation must be below. If that holds
      nowhere, the share with the least deviation is taken.

  Returns:
    The share; None where no mean lies within.
  """
  low, high = within
  seen = {share: (statistics.mean(values), statistics.stdev(values))
          for share, values in sorted(finals.items())}
  inside = {share: sd for share, (mean, sd) in seen.items()
            if low <= mean <= high}
  quiet = [share for share, sd in inside.items() if sd < deviation]
  return quiet[0] if quiet else min(
      inside, key=lambda share: inside[share], default=None)
