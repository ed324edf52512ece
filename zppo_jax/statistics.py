"""Estimates and intervals over seeds and over questions."""

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

# scipy is imported where it is needed, because its import takes a fifth of
# those of a training run, which needs none of it.


@functools.cache
def _t_quantile(p: float, freedom: int) -> float:
  from scipy import special
  return float(special.stdtrit(freedom, p))


@functools.cache
def _normal_quantile(p: float) -> float:
  from scipy import special
  return float(special.ndtri(p))


def t_interval(values: Sequence[float],
               level: float = 0.95) -> tuple[float, float, float]:
  """(mean, low, high) of the two-sided t interval; it needs two values."""
  n, mean = len(values), float(np.mean(values))
  deviation = float(np.std(values, ddof=1))
  half = _t_quantile((1 + level) / 2, n - 1) * deviation / math.sqrt(n)
  return mean, mean - half, mean + half


def with_interval(mean: float, low: float, high: float, number: str = '.3f',
                  marks: tuple[str, str] = ('', '')) -> str:
  """'mean [low, high]', as tables show an estimate.

  Args:
    mean, low, high: the estimate and the limits of its interval.
    number: the format of each, e.g. '+.3f' of a difference.
    marks: what stands around the interval, e.g. the tags of a page.
  """
  before, behind = marks
  return (f'{mean:{number}} {before}[{low:{number}}, {high:{number}}]'
          f'{behind}')


def over_seeds(values: Sequence[float],
               marks: tuple[str, str] = ('', '')) -> str:
  """`with_interval` of the 95 % t interval; one value stands alone."""
  if len(values) == 1:
    return f'{values[0]:.3f}'
  return with_interval(*t_interval(values), marks=marks)


def sign_flip_p(differences: Sequence[float]) -> float:
  """Exact two-sided sign-flip test of a zero mean over all 2^n flips."""
  values = np.asarray(differences, float)
  observed = abs(values.mean())
  flips = np.array(list(itertools.product((1, -1), repeat=len(values))))
  means = np.abs((flips * values).mean(axis=1))
  return float(np.mean(means >= observed - 1e-12))


def pass_at_k(num: int, correct: int, k: int) -> float:
  """The chance that k of `num` samples hold a correct one.

  The k samples are drawn without replacement.
  It is unbiased for pass@k of the policy: 1 - C(n - c, k) / C(n, k) (Chen et
  al. 2021, arXiv 2107.03374, Eq. 1).

  Raises:
    ValueError: unless 1 <= k <= num and 0 <= correct <= num.
  """
  if not 1 <= k <= num:
    raise ValueError(f'k is {k}; pass@k of {num} samples needs 1 <= k <= {num}')
  if not 0 <= correct <= num:
    raise ValueError(f'{correct} of {num} samples cannot be correct')
  return 1.0 - math.comb(num - correct, k) / math.comb(num, k)


def wilson_interval(values: Sequence[float], level: float = 0.95,
                    count: int = 0) -> tuple[float, float, float]:
  """(mean, low, high): Wilson's score interval over questions.

  Args:
    values: one value in [0, 1] per question. For zeros and ones this is the
      binomial interval. For averages the interval is, if anything, too wide,
      because the variance of a value in [0, 1] with mean p is at most
      p (1 - p). It has a width even if all questions agree.
    level: coverage.
    count: of independent values, where some of them go together; 0: all.
  """
  n, p = count or len(values), float(np.mean(values))
  z = _normal_quantile((1 + level) / 2)
  centre = (p + z * z / (2 * n)) / (1 + z * z / n)
  half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
  return p, max(0.0, centre - half), min(1.0, centre + half)


def square_and_add(parts: Sequence[tuple[float, float, float]]
                   ) -> tuple[float, float, float]:
  """(mean, low, high) of the average of independent estimates.

  The distances of the limits of each estimate are added as squares, below and
  above apart (Newcombe 1998, Statistics in Medicine 17:873-890, for a
  difference; Zou and Donner 2008 for any sum). With Wilson's limits the
  interval of an average has a width even where all questions agree.

  Args:
    parts: (mean, low, high) of each estimate.
  """
  means, lows, highs = (np.array(x) for x in zip(*parts, strict=True))
  mean = float(means.mean())
  below = math.sqrt(float(((means - lows)**2).sum())) / len(parts)
  above = math.sqrt(float(((highs - means)**2).sum())) / len(parts)
  return mean, max(0.0, mean - below), min(1.0, mean + above)
