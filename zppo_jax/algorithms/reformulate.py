"""Reformulations of hard questions, and the caps on them (ZPPO Alg. 1, 3-5).

A reformulation chooses, from a `HardVisit`, what the prompt shows.
A new reformulation is one function and one row of REFORMULATIONS.
chat/renderers.py has the renderer of each kind of prompt.
"""

import bisect
import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from zppo_jax.records import (
  Group,
  HardVisit,
  Instance,
  PromptKind,
  Rollout,
  StopReason,
)

PREFIX_SHARE = 0.4  # of a teacher's response that is forced (App. D.2)


def by_list(hard: Sequence[Group], rng: np.random.Generator) -> list[Group]:
  """Groups of the step's hard questions in a random order of that list, which
  is known when all groups have ended."""
  return [hard[i] for i in rng.permutation(len(hard))]


def by_name(hard: Sequence[Group], rng: np.random.Generator) -> list[Group]:
  """The same in a random order of the questions' names, which is known before
  any group has ended."""
  salt = salt_of(rng)
  return sorted(hard, key=lambda g: rank(g.prompt.question.id, salt))


# How ties among equally hard questions break, where the cap leaves some out.
Ties = Callable[[Sequence[Group], np.random.Generator], list[Group]]
TIES: dict[str, Ties] = {'list': by_list, 'name': by_name}


def salt_of(rng: np.random.Generator) -> str:
  """What `rank` mixes into names, so that steps differ."""
  return str(rng.integers(2**62))


def rank(name: str, salt: str) -> bytes:
  """Where a question stands among equally hard ones; the least comes first."""
  return hashlib.blake2b(f'{salt}/{name}'.encode(), digest_size=8).digest()


def pre_cap(plain: Iterable[Group], tau: float, limit: int,
            rng: np.random.Generator, ties: Ties = by_list) -> list[Group]:
  """The hardest questions below tau, at most `limit` (step 3).

  Args:
    plain: plain groups of the step.
    tau: a question is hard if its accuracy is below tau.
    limit: floor(rho_aug * |X_new|).
    rng: numpy generator that breaks ties.
    ties: a function of TIES.

  Returns:
    Groups by ascending accuracy; groups of equal accuracy are in seeded random
    order.
  """
  hard = [g for g in plain if g.accuracy < tau]
  return sorted(ties(hard, rng), key=lambda g: g.accuracy)[:limit]


def accuracy_bounds(rollouts: Sequence[Rollout],
                    size: int) -> tuple[float, float]:
  """The least and the largest accuracy that a group may end with.

  Args:
    rollouts: its graded rollouts so far.
    size: how many it will have.
  """
  graded = [r for r in rollouts if r.graded]
  left = size - len(rollouts)
  if not graded:  # without any verdict it is not hard
    return (0.0, 1.0) if left else (math.inf, math.inf)
  right = sum(r.reward for r in graded)
  count = len(graded) + left
  return right / count, (right + left) / count


def surely_capped(bounds: Mapping[int, tuple[float, float]],
                  ranks: Sequence[bytes], tau: float, limit: int) -> list[int]:
  """Questions that `pre_cap` takes by name, whatever is still to come.

  Args:
    bounds: place -> accuracy_bounds of each group that has begun to end.
    ranks: the rank of each question of the step.
    tau, limit: as of `pre_cap`.
  """
  low = [(bounds.get(i, (0.0, 1.0))[0], rank) for i, rank in enumerate(ranks)]
  ordered = sorted(low)
  sure = []
  for i, (_, high) in bounds.items():
    if high < tau:
      place = high, ranks[i]
      before = bisect.bisect_left(ordered, place) - (low[i] < place)
      if before < limit:
        sure.append(i)
  return sure


def surely_shown(names: Sequence[str], name: str, limit: int) -> int:
  """How many of the hardest visits surely have their instance of a
  reformulation within the post-cap, if they have one.

  Each visit before has at most one instance per name, as have the names before
  it in its own visit.

  Args:
    names, limit: as of `post_cap`.
    name: one of `names`, or another, which no visit has.
  """
  if name not in names:
    return 0
  left = limit - names.index(name)
  return max(0, -(-left // len(names)))


def _pick(rollouts: Sequence[Rollout], rng: np.random.Generator) -> Rollout:
  return rollouts[int(rng.integers(len(rollouts)))]


def bcq(visit: HardVisit, rng: np.random.Generator) -> Instance | None:
  """One correct teacher rollout and one wrong student rollout, in random order.

  Both are drawn uniformly. None if the teacher has no correct rollout.
  """
  if not visit.teacher_correct:
    return None
  pair = [_pick(visit.teacher_correct, rng), _pick(visit.wrong, rng)]
  if rng.random() < 0.5:
    pair.reverse()
  return Instance(question=visit.question, kind=PromptKind.BCQ,
                  candidates=tuple(pair))


def ncq(visit: HardVisit, rng: np.random.Generator) -> Instance | None:
  """All wrong student rollouts, in sampling order."""
  del rng
  return Instance(question=visit.question, kind=PromptKind.NCQ,
                  candidates=visit.wrong)


def placebo_bcq(visit: HardVisit, rng: np.random.Generator) -> Instance | None:
  """A control: a BCQ whose 'correct' candidate is another wrong rollout.

  It exists exactly if the BCQ would exist and there are two wrong rollouts, so
  that it takes the same slots; no text of the teacher enters it.
  """
  if not visit.teacher_correct or len(visit.wrong) < 2:
    return None
  first, second = rng.permutation(len(visit.wrong))[:2]
  return Instance(question=visit.question, kind=PromptKind.BCQ,
                  candidates=(visit.wrong[first], visit.wrong[second]))


def with_others(visits: Sequence[HardVisit]) -> list[HardVisit]:
  """The visits, each with all others of the step."""
  return [dataclasses.replace(v, others=(*visits[:i], *visits[i + 1:]))
          for i, v in enumerate(visits)]


def random_bcq(visit: HardVisit, rng: np.random.Generator) -> Instance | None:
  """A control: the candidates of a BCQ of another question.

  It takes the slot of the question's own BCQ, and exists where that does and
  another visit of the step has one; the other question is drawn uniformly.
  """
  others = [v for v in visit.others if v.teacher_correct]
  if not visit.teacher_correct or not others:
    return None
  shown = bcq(others[int(rng.integers(len(others)))], rng)
  assert shown is not None  # the other visit has a correct response
  return dataclasses.replace(shown, question=visit.question)


def random_ncq(visit: HardVisit, rng: np.random.Generator) -> Instance | None:
  """A control: the wrong rollouts of another question of the step, which is
  drawn uniformly. None without one."""
  if not visit.others:
    return None
  other = visit.others[int(rng.integers(len(visit.others)))]
  return Instance(question=visit.question, kind=PromptKind.NCQ,
                  candidates=other.wrong)


def without_candidates(visit: HardVisit, rng: np.random.Generator, *,
                       kind: PromptKind) -> Instance | None:
  """A control: the question in a slot of ZPPO, with no candidate.

  Args:
    visit: the visit.
    rng: nothing is drawn.
    kind: BCQ or NCQ for its words alone, AGAIN_BCQ or AGAIN_NCQ for the plain
      prompt. In the slot of a BCQ it exists exactly if the BCQ would exist.
  """
  del rng
  of_bcq = kind in (PromptKind.BCQ, PromptKind.AGAIN_BCQ)
  if of_bcq and not visit.teacher_correct:
    return None
  return Instance(question=visit.question, kind=kind)


def prefix(visit: HardVisit, rng: np.random.Generator) -> Instance | None:
  """The beginning of a correct teacher rollout, drawn uniformly (App. D.2).

  It has floor(PREFIX_SHARE * L) of the L tokens before the end token. None if
  the teacher has no correct rollout or this number is 0, because the prompt
  would then be the plain one.
  """
  if not visit.teacher_correct:
    return None
  trace = _pick(visit.teacher_correct, rng)
  length = len(trace.tokens) - (trace.stop == StopReason.END)
  forced = beginning(trace.tokens[:length], PREFIX_SHARE)
  if not forced:
    return None
  return Instance(question=visit.question, kind=PromptKind.PREFIX,
                  forced=forced)


def beginning(tokens: Sequence[int], share: float) -> tuple[int, ...]:
  """The first floor(share x L) of L tokens, the end token not among them."""
  # 0.4 * 5 may be 1.999... in binary; rounding removes that before the floor.
  return tuple(tokens[:math.floor(round(share * len(tokens), 9))])


def oracle_prefix(visit: HardVisit,
                  rng: np.random.Generator) -> Instance | None:
  """The beginning of the reference solution (POPE). None without one."""
  del rng
  if not visit.oracle:
    return None
  return Instance(question=visit.question, kind=PromptKind.PREFIX,
                  forced=visit.oracle)


def hint(visit: HardVisit, rng: np.random.Generator) -> Instance | None:
  """The hint of a visit (App. D.2; privileged/hints.py). None without one."""
  del rng
  if not visit.hint:
    return None
  return Instance(question=visit.question, kind=PromptKind.HINT,
                  hints=(visit.hint,))


REFORMULATIONS: dict[str, Callable[
    [HardVisit, np.random.Generator], Instance | None]] = {
        'bcq': bcq, 'ncq': ncq, 'placebo_bcq': placebo_bcq, 'prefix': prefix,
        'hint': hint, 'oracle_prefix': oracle_prefix,
        'random_bcq': random_bcq, 'random_ncq': random_ncq,
        **{name: functools.partial(without_candidates, kind=kind)
           for name, kind in (('bare_bcq', PromptKind.BCQ),
                              ('bare_ncq', PromptKind.NCQ),
                              ('again_bcq', PromptKind.AGAIN_BCQ),
                              ('again_ncq', PromptKind.AGAIN_NCQ))}}
# Those that show something of the other questions of the step.
OF_OTHERS = frozenset({'random_bcq', 'random_ncq'})


def instances_of(visit: HardVisit, names: Sequence[str],
                 rng: np.random.Generator) -> list[Instance]:
  """A visit's instances in the order of `names`, without those that do not
  exist."""
  all_ = [REFORMULATIONS[name](visit, rng) for name in names]
  return [instance for instance in all_ if instance is not None]


def post_cap(visits: Sequence[HardVisit], names: Sequence[str], limit: int,
             rng_of: Callable[[str], np.random.Generator]) -> list[Instance]:
  """One pool of instances, at most `limit` (step 5).

  It walks the visits in the given order (hardest first) and appends each
  question's instances in the order of `names` (BCQ first), so that the last
  slot prefers the BCQ.

  Args:
    visits: the visits.
    names: keys of REFORMULATIONS.
    limit: floor(rho_aug * |X_new|).
    rng_of: question id -> the generator that draws its candidates.
  """
  instances: list[Instance] = []
  for visit in visits:
    if len(instances) >= limit:
      break
    instances += instances_of(visit, names, rng_of(visit.question.id))
  return instances[:limit]
