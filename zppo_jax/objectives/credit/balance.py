"""How many right and wrong rollouts are taught. (Uni-OPD, 2605.03677.)"""

import math

import numpy as np

from zppo_jax import allowed


def excess(right_G: np.ndarray, ratio: float) -> tuple[bool, int]:
  """What is too much for right : wrong = ratio : 1.

  With r right and w wrong rollouts, at most int(ratio w) right ones stay, or,
  if there are too many wrong ones, at most int(r / ratio); int cuts off, and
  one of a class that is not wanted less than the other always stays. A ratio of
  0 leaves the wrong ones alone, inf the right ones. A group with an empty class
  stays as it is.

  Args:
    right_G: bool [G].
    ratio: >= 0 (Uni-OPD: 1.0 for mathematics, 1.2 for code).

  Returns:
    (whether it is right rollouts that are too many, how many of them go).
  """
  allowed.number('ratio', ratio, '>= 0', finite=False)
  right_G = np.asarray(right_G, bool)
  right, wrong = int(right_G.sum()), int((~right_G).sum())
  if not right or not wrong:
    return True, 0
  if math.isinf(ratio):
    return False, wrong
  if right > ratio * wrong:
    stay = int(ratio * wrong)
    return True, right - (max(1, stay) if ratio else 0)
  return False, max(0, wrong - max(1, int(right / ratio)))


def online(right_G: np.ndarray, ratio: float,
           rng: np.random.Generator) -> np.ndarray:
  """Leaves out the excess of a class; which of it go is drawn.

  Args:
    right_G, ratio: see `excess`.
    rng: a generator that was made from names (randomness.question_rng).

  Returns:
    bool [G], those that stay.
  """
  right_G = np.asarray(right_G, bool)
  side, count = excess(right_G, ratio)
  kept = np.ones(len(right_G), bool)
  places = np.flatnonzero(right_G == side)
  kept[places[rng.permutation(len(places))[:count]]] = False
  return kept


def at_random(right_G: np.ndarray, ratio: float,
              rng: np.random.Generator) -> np.ndarray:
  """Leaves out as many rollouts as `online` does, drawn among all of the group,
  whatever their verdicts: a control of what the ratio itself does.

  Args:
    right_G, ratio, rng: see `online`.

  Returns:
    bool [G], those that stay.
  """
  _, count = excess(right_G, ratio)
  kept = np.ones(len(right_G), bool)
  kept[rng.permutation(len(right_G))[:count]] = False
  return kept


def offline(right_counts: np.ndarray, factors: np.ndarray) -> np.ndarray:
  """How often each question is repeated, by how many of its rollouts are right.

  Uni-OPD repeats the easy and the hard (a U over 1 to 7 right of 8, or a
  mirrored J over 1 to 8); its factors are not published, so the caller brings
  them. Nothing is deleted: every question is asked at least once.

  Args:
    right_counts: int [N], right rollouts of each question, of n rollouts.
    factors: float [n + 1], by that count. A factor of 2.5 repeats every
      question twice and every second one a third time, in their order.

  Returns:
    int [N], at least 1.

  Raises:
    ValueError: for a count that has no factor, or a factor below 1.
  """
  factors = np.asarray(factors, float)
  for value in factors:
    allowed.number('factors', float(value), '>= 1')
  repeats = np.ones(len(right_counts), int)
  seen = dict.fromkeys(range(len(factors)), 0)
  for place, count in enumerate(np.asarray(right_counts)):
    allowed.number('right_counts', int(count), f'[0, {len(factors) - 1}]',
                   whole=True)
    before = seen[int(count)]
    factor = factors[int(count)]
    repeats[place] = int((before + 1) * factor) - int(before * factor)
    seen[int(count)] = before + 1
  return repeats
