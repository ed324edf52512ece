"""Margins between right and wrong rollouts of a group. (Uni-OPD, 2605.03677.)

The teacher's return of a rollout is the mean of d over its tokens. Where wrong
rollouts have a return as high as right ones, the teacher contradicts the
verdict. `shift` moves the returns of one or both classes until the margin is at
least delta; `mask` leaves rollouts out until it is. A group with an empty class
has no margin and stays as it is.
"""

import dataclasses

import numpy as np

from zppo_jax import allowed

KINDS = ('mean', 'extreme')
SHIFTS = ('lift', 'down', 'spread')
# Whose verdict a rollout has for the margin: its own, or that of one that is
# drawn from its group, as a control.
VERDICTS = ('own', 'permuted')


def returns(difference_R: np.ndarray,
            mask_R: np.ndarray | None = None) -> float:
  """The mean of d over the tokens of a rollout, nats; 0 without a token.

  Args:
    difference_R: log p_T - log p_S, [R].
    mask_R: the tokens that count; None for all.
  """
  kept = (np.asarray(difference_R, np.float64) if mask_R is None
          else np.asarray(difference_R, np.float64)[np.asarray(mask_R) > 0])
  return float(kept.mean()) if kept.size else 0.0


def margin(returns_G: np.ndarray, right_G: np.ndarray,
           kind: str = 'mean') -> float | None:
  """mean(right) - mean(wrong), or min(right) - max(wrong) for 'extreme'.

  Args:
    returns_G: [G] nats.
    right_G: bool [G].
    kind: one of KINDS.

  Returns:
    nats; None if there is no right or no wrong rollout.
  """
  allowed.one_of('margin', kind, KINDS)
  returns_G, right_G = np.asarray(returns_G, float), np.asarray(right_G, bool)
  right, wrong = returns_G[right_G], returns_G[~right_G]
  if not right.size or not wrong.size:
    return None
  if kind == 'mean':
    return float(right.mean() - wrong.mean())
  return float(right.min() - wrong.max())


def permuted(right_G: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """The verdicts of a group, dealt anew among its rollouts: a control in which
  a margin knows how many are right, and not which. All orders are equally
  likely, the present one included.

  Args:
    right_G: bool [G].
    rng: a generator that was made from names (randomness.question_rng).

  Returns:
    bool [G] with as many True as before.
  """
  return rng.permutation(np.asarray(right_G, bool))


def shift(returns_G: np.ndarray, right_G: np.ndarray, *, delta: float,
          kind: str = 'mean', side: str = 'spread') -> np.ndarray:
  """What is added to every token's signal of each rollout, [G] nats.

  lambda = max(0, delta - margin): 'lift' adds it to right rollouts, 'down'
  takes it from wrong ones, 'spread' does half of each. The margin is then at
  least delta. A group that has it already gets zeros.

  Args:
    returns_G, right_G, kind: see `margin`.
    delta: the margin that is wanted, nats.
    side: one of SHIFTS.
  """
  allowed.one_of('shift', side, SHIFTS)
  right_G = np.asarray(right_G, bool)
  now = margin(returns_G, right_G, kind)
  lacking = 0.0 if now is None else max(0.0, delta - now)
  if not lacking:
    return np.zeros(len(right_G))
  up, down = {'lift': (1.0, 0.0), 'down': (0.0, 1.0),
              'spread': (0.5, 0.5)}[side]
  return np.where(right_G, up * lacking, -down * lacking)


@dataclasses.dataclass(frozen=True)
class Masked:
  """What `mask` did to a group.

  Attributes:
    kept_G: bool [G].
    removed: how many rollouts were left out.
  """
  kept_G: np.ndarray
  removed: int


def fewest(count: int, keep: float) -> int:
  """How many rollouts of a class of `count` must stay: max(1, int(keep n))."""
  return min(count, max(1, int(keep * count)))


def mask(returns_G: np.ndarray, right_G: np.ndarray, *, delta: float,
         kind: str = 'mean', keep: float = 0.25) -> Masked:
  """Leaves rollouts out, one at a time, until the margin is at least delta.

  Each time the right rollout of the lowest return or the wrong one of the
  highest goes, whichever makes the margin larger; a tie goes to the right one.
  A class keeps at least max(1, int(keep n)) of its n rollouts.

  Args:
    returns_G, right_G, kind: see `margin`.
    delta: the margin that is wanted, nats.
    keep: the share of a class that stays.
  """
  returns_G = np.asarray(returns_G, float)
  right_G = np.asarray(right_G, bool)
  kept = np.ones(len(right_G), bool)
  least = {side: fewest(int((right_G == side).sum()), keep)
           for side in (True, False)}
  while True:
    now = margin(returns_G[kept], right_G[kept], kind)
    if now is None or now >= delta:
      break
    options = []
    for side, worst in ((True, np.argmin), (False, np.argmax)):
      places = np.flatnonzero(kept & (right_G == side))
      if len(places) > least[side]:
        place = int(places[worst(returns_G[places])])
        without = kept.copy()
        without[place] = False
        options.append((margin(returns_G[without], right_G[without], kind),
                        place))
    if not options:
      break
    # max takes the first of equals, which is the right rollout.
    kept[max(options, key=lambda option: option[0] or 0.0)[1]] = False
  return Masked(kept_G=kept, removed=int((~kept).sum()))


def order_consistency(returns_G: np.ndarray,
                      right_G: np.ndarray) -> tuple[int, int]:
  """(pairs in order, pairs) of a right and a wrong rollout: the teacher's
  return of the right one is at least that of the wrong one."""
  returns_G, right_G = np.asarray(returns_G, float), np.asarray(right_G, bool)
  right, wrong = returns_G[right_G], returns_G[~right_G]
  ordered = right[:, None] >= wrong[None, :]
  return int(ordered.sum()), int(ordered.size)
