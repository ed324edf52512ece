"""Reformulations of hard questions, and the caps on them (ZPPO Alg. 1, 3-5).

A reformulation chooses, from a `HardVisit`, which traces become candidates.
A new reformulation is one function and one row of REFORMULATIONS.
chat/wording.py renders it to tokens.
"""

from collections.abc import Iterable, Sequence

from zppo_jax.records import Group, HardVisit, Instance, PromptKind, Rollout


def pre_cap(plain: Iterable[Group], tau: float, limit: int,
            rng) -> list[Group]:
  """The hardest questions below tau, at most `limit` (step 3).

  Args:
    plain: plain groups of the step.
    tau: a question is hard if its accuracy is below tau.
    limit: floor(rho_aug * |X_new|).
    rng: numpy generator that breaks ties.

  Returns:
    Groups by ascending accuracy; groups of equal accuracy are in seeded random
    order.
  """
  hard = [g for g in plain if g.accuracy < tau]
  order = rng.permutation(len(hard))
  return sorted((hard[i] for i in order), key=lambda g: g.accuracy)[:limit]


def _pick(rollouts: Sequence[Rollout], rng) -> Rollout:
  return rollouts[rng.integers(len(rollouts))]


def bcq(visit: HardVisit, rng) -> Instance | None:
  """One correct teacher rollout and one wrong student rollout, in random order.

  Both are drawn uniformly. None if the teacher has no correct rollout.
  """
  if not visit.teacher_correct:
    return None
  pair = [_pick(visit.teacher_correct, rng), _pick(visit.wrong, rng)]
  if rng.random() < 0.5:
    pair.reverse()
  return Instance(visit.question, PromptKind.BCQ, tuple(pair))


def ncq(visit: HardVisit, rng) -> Instance | None:
  """All wrong student rollouts, in sampling order."""
  del rng
  return Instance(visit.question, PromptKind.NCQ, visit.wrong)


def placebo_bcq(visit: HardVisit, rng) -> Instance | None:
  """A control: a BCQ whose 'correct' candidate is another wrong rollout.

  It exists exactly if the BCQ would exist and there are two wrong rollouts, so
  that it takes the same slots; no text of the teacher enters it.
  """
  if not visit.teacher_correct or len(visit.wrong) < 2:
    return None
  first, second = rng.permutation(len(visit.wrong))[:2]
  return Instance(visit.question, PromptKind.BCQ,
                  (visit.wrong[first], visit.wrong[second]))


REFORMULATIONS = {'bcq': bcq, 'ncq': ncq, 'placebo_bcq': placebo_bcq}


def post_cap(visits: Sequence[HardVisit], names: Sequence[str], limit: int,
             rng) -> list[Instance]:
  """One pool of instances, at most `limit` (step 5).

  It walks the visits in the given order (hardest first) and appends each
  question's instances in the order of `names` (BCQ first), so that the last
  slot prefers the BCQ. It stops at the first instance that does not fit.
  """
  out = []
  for visit in visits:
    for name in names:
      instance = REFORMULATIONS[name](visit, rng)
      if instance is None:
        continue
      if len(out) == limit:
        return out
      out.append(instance)
  return out
