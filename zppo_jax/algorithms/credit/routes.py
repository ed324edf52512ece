"""Routes: which rollouts of a group a term of the loss is for.

A route reads verdicts and answers alone, so that it is decided before the
teacher is asked and what nobody is taught costs no pass. Ungraded rollouts have
neither verdict: only `all`, `random` and `not` of another route take them.
"""

import collections
import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from zppo_jax.algorithms.privileged import copies
from zppo_jax.objectives.credit import evidence
from zppo_jax.objectives.credit.evidence import Call, Number, Row
from zppo_jax.records import Group, PromptKind, Rollout

_NOT = 'not '
_AND = '&'


@dataclasses.dataclass(frozen=True)
class Visit:
  """A group, and one uniform draw per rollout, which was made from names.

  Attributes:
    group: the group.
    draws_G: float [G] within [0, 1).
    taught: whether the divergence term teaches some rollout of the group.
  """
  group: Group
  draws_G: np.ndarray
  taught: bool = False


def _where(group: Group, test: Callable[[Rollout], bool]) -> np.ndarray:
  return np.array([test(r) for r in group.rollouts], bool)


def everything(visit: Visit) -> np.ndarray:
  """Every rollout."""
  return np.ones(len(visit.group.rollouts), bool)


def correct(visit: Visit) -> np.ndarray:
  """Right rollouts."""
  return _where(visit.group, lambda r: r.graded and r.reward == 1)


def wrong(visit: Visit) -> np.ndarray:
  """Wrong rollouts."""
  return _where(visit.group, lambda r: r.graded and r.reward != 1)


def wrong_below(visit: Visit, tau: float) -> np.ndarray:
  """Wrong rollouts of a group whose accuracy is below tau. (PTD-PO; 1.0 is any
  failure.)"""
  none = np.zeros(len(visit.group.rollouts), bool)
  return wrong(visit) if visit.group.accuracy < tau else none


def cliff(visit: Visit) -> np.ndarray:
  """Every rollout of a group in which none is right. (HDPO.)"""
  return np.full(len(visit.group.rollouts), visit.group.accuracy == 0)


def has_sibling(rollout: Rollout, group: Group) -> bool:
  """Whether another right rollout, which is another response, is in the
  group: one that the context `sibling` may show."""
  return any(
      r is not rollout and not copies.same_response(r.text, rollout.text)
      for r in group.correct)


def sibling(visit: Visit) -> np.ndarray:
  """Rollouts beside which the group has a right one of another text. (SDPO.)"""
  return _where(visit.group, lambda r: has_sibling(r, visit.group))


def wrong_with_sibling(visit: Visit) -> np.ndarray:
  """Wrong rollouts beside a right one. (SRPO; `not` of it are the others.)"""
  return wrong(visit) & sibling(visit)


def consensus(visit: Visit, share: float) -> np.ndarray:
  """Rollouts with the most frequent answer, if at least `share` of the group
  give it; a tie goes to the answer that came first. (GATES: it reads no gold.)
  """
  answers = [r.answer for r in visit.group.rollouts]
  counts = collections.Counter(a for a in answers if a)
  if not counts:
    return np.zeros(len(answers), bool)
  answer, count = counts.most_common(1)[0]
  agreed = count >= share * len(answers)
  return np.array([agreed and a == answer for a in answers], bool)


def at_random(visit: Visit, share: float) -> np.ndarray:
  """Each rollout with the probability `share`: a control for other routes."""
  return np.asarray(visit.draws_G) < share


def below(visit: Visit, tau: float) -> np.ndarray:
  """Every rollout of a group whose accuracy is below tau."""
  return np.full(len(visit.group.rollouts), visit.group.accuracy < tau)


def taught(visit: Visit) -> np.ndarray:
  """Every rollout of a group of which the divergence term teaches some.
  (PTD-PO: `not` of it keeps the reference penalty.)"""
  return np.full(len(visit.group.rollouts), visit.taught)


def student(visit: Visit) -> np.ndarray:
  """Rollouts that the student drew behind the prompt on which they are
  trained, without a context."""
  return np.full(len(visit.group.rollouts), visit.group.prompt.kind not in (
      PromptKind.PRIVILEGED, PromptKind.CARRIED))


def plain(visit: Visit) -> np.ndarray:
  """Rollouts behind the plain question, in its first visit or in a later one,
  and not behind a reformulation."""
  return np.full(len(visit.group.rollouts),
                 visit.group.prompt.kind == PromptKind.PLAIN)


def privileged(visit: Visit) -> np.ndarray:
  """Rollouts under a context, trained behind the context."""
  return np.full(len(visit.group.rollouts),
                 visit.group.prompt.kind == PromptKind.PRIVILEGED)


def carried(visit: Visit) -> np.ndarray:
  """Rollouts under a context, trained behind the plain question."""
  return np.full(len(visit.group.rollouts),
                 visit.group.prompt.kind == PromptKind.CARRIED)


ROUTES: dict[str, Row] = {
    'all': Row(everything, frozenset()),
    'correct': Row(correct, frozenset()),
    'wrong': Row(wrong, frozenset()),
    'wrong_below': Row(wrong_below, frozenset(),
                       (Number('tau', '(0, 1]', 1.0),)),
    'cliff': Row(cliff, frozenset()),
    'sibling': Row(sibling, frozenset()),
    'wrong_with_sibling': Row(wrong_with_sibling, frozenset()),
    'consensus': Row(consensus, frozenset(), (Number('share', '(0, 1]'),)),
    'random': Row(at_random, frozenset(), (Number('share', '[0, 1]'),)),
    'below': Row(below, frozenset(), (Number('tau', '(0, 1]'),)),
    'student': Row(student, frozenset()),
    'plain': Row(plain, frozenset()),
    'privileged': Row(privileged, frozenset()),
    'carried': Row(carried, frozenset()),
}
# Of a penalty towards a reference, which is decided after the terms.
ANCHOR_ROUTES: dict[str, Row] = {**ROUTES, 'taught': Row(taught, frozenset())}


@dataclasses.dataclass(frozen=True)
class Route:
  """A row of ROUTES with its numbers, or what it leaves ('not wrong').

  Attributes:
    call: the row with its numbers.
    inverted: whether the route is for the others.
    narrowed: another route, which takes these rollouts too; None for none.
  """
  call: Call
  inverted: bool = False
  narrowed: 'Route | None' = None

  def __call__(self, group: Group, draws_G: np.ndarray, done: int = 0,
               taught: bool = False) -> np.ndarray:
    """bool [G]: the rollouts that are taught.

    Args:
      group: the group.
      draws_G: see Visit.
      done: optimizer steps done, for numbers that move.
      taught: see Visit.
    """
    taken = self.call(
        Visit(group=group, draws_G=draws_G, taught=taught), done)
    taken = ~taken if self.inverted else taken
    if self.narrowed is None:
      return taken
    return taken & self.narrowed(group, draws_G, done, taught)


def read(field: str, text: str,
         table: Mapping[str, Row] = ROUTES) -> Route:
  """'wrong_below(0.5)', 'not wrong' or 'carried & correct' as a Route.

  Args:
    field: the config field, for errors.
    text: what it says.
    table: the rows by name.

  Raises:
    KeyError, ValueError: see evidence.read.
  """
  first, joined, rest = text.partition(_AND)
  first = first.strip()
  inverted = first.startswith(_NOT)
  return Route(
      evidence.read(field, first.removeprefix(_NOT), table), inverted,
      read(field, rest, table) if joined else None)
