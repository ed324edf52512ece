"""Answers to questions in, marks out: cache, journal, wall and judge.

A run has a verifier of its own, with its judge, its journal and what it was
told so far (`of_run`). All of a process share the wall, as they share the
machine; its workers start when the first question with a kind is graded.
"""

import collections
import contextlib
import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

from zppo_jax.records import Grader, Question, Verdict
from zppo_jax.verdicts import boxed, gym, journal, kinds, screen
from zppo_jax.verdicts.judge import MALFORMED, Ask, judge
from zppo_jax.verdicts.wall import Job, Limits, Reply, Wall

CACHED = 200_000  # verdicts in memory
# Characters of a gold answer that this process reads; longer ones, which hold
# thousands of members or digits, are read behind the wall alone.
LONGEST_CHECKED = 20_000
# What a reply without a score means.
VERDICTS = {'unreadable': Verdict.GOLD_UNREADABLE,
            'timeout': Verdict.TIMEOUT, 'crash': Verdict.CRASH,
            MALFORMED: Verdict.JUDGE_MALFORMED}


def verdict(reply: Reply, threshold: float) -> Verdict:
  """What a reply means to a task."""
  if reply.status != 'score':
    return VERDICTS[reply.status]
  return Verdict.CORRECT if reply.score >= threshold else Verdict.WRONG


def reference(question: Question) -> str:
  """What answers to a question are held against."""
  if question.kind == 'reasoning_gym':
    return gym.reference(question.source, question.id)
  return question.answer


class Verifier:
  """Grades answers to questions that have a kind.

  Attributes:
    wall: where kinds are computed.
    ask: the judge (judge.Ask), or None without one.
    path: of the journal, or None.
  """

  def __init__(self, wall: Wall, ask: Ask | None = None):
    self.wall, self.ask, self.path = wall, ask, None
    self._reasons: collections.OrderedDict[str, str] = (
        collections.OrderedDict())
    self._known: collections.OrderedDict[str, Reply] = (
        collections.OrderedDict())

  def keep(self, path) -> int:
    """Reads a journal and goes on writing it; how many verdicts it held."""
    found = journal.read(path)
    for name, reply in found.items():
      self._remember(name, reply)
    self.path = pathlib.Path(path)
    return len(found)

  def forget(self) -> None:
    """Leaves the journal and empties the cache."""
    self.path = None
    self._known.clear()

  def reasons(self) -> list[str]:
    """What was last said about each way not to be graded."""
    return [f'last {name}: {why}' for name, why in self._reasons.items()]

  def _remember(self, name: str, reply: Reply) -> None:
    if reply.status in journal.KEPT:
      self._known[name] = reply
      while len(self._known) > CACHED:
        self._known.popitem(last=False)

  def grade(self, rows: Sequence[tuple[str, Question]]) -> list[Reply]:
    """A reply for each (parsed answer, question); equal ones are graded once.

    Raises:
      KeyError: for an unknown kind.
      ValueError: for a judge's question without a judge.
      WallError: if nothing can be graded at all.
    """
    names, fresh = [], {}
    replies: dict[str, Reply] = {}
    for answer, question in rows:
      against = reference(question)
      name = journal.key(question.kind, self._about(question, against), answer)
      names.append(name)
      if name in replies or name in fresh:
        continue
      if name in self._known:
        replies[name] = self._known[name]
      elif screen.too_long(answer, question.answer):
        kinds.get(question.kind) if question.kind != kinds.JUDGE else None
        replies[name] = Reply('score', 0.0)
      else:
        fresh[name] = (question, answer, against)
    replies |= self._grade(fresh)
    self._reasons.update({r.status: r.reason for r in replies.values()
                          if r.status != 'score'})
    return [replies[name] for name in names]

  def _about(self, question: Question, against: str) -> str:
    if question.kind == kinds.JUDGE:
      return f'{question.text}\n{against}'
    return against

  def _grade(self, fresh: dict) -> dict[str, Reply]:
    judged = {n: v for n, v in fresh.items() if v[0].kind == kinds.JUDGE}
    walled = {n: v for n, v in fresh.items() if n not in judged}
    for question, _, _ in walled.values():
      kinds.get(question.kind)
    if judged and self.ask is None:
      name = next(iter(judged.values()))[0].id
      raise ValueError(f'question {name!r} is of kind {kinds.JUDGE!r}; the run '
                       'has no judge')
    out = dict(zip(walled, self.wall.grade(
        [Job(q.kind, a, r) for q, a, r in walled.values()]), strict=True))
    if judged:
      out.update(zip(judged, judge(
          self.ask, [(q.text, r, a) for q, a, r in judged.values()]),
          strict=True))
    for name, reply in out.items():
      self._remember(name, reply)
    if self.path is not None:
      journal.append(self.path, [(n, fresh[n][0].kind, r)
                                 for n, r in out.items()])
    return out


_SHARED: list[Verifier] = []


def shared() -> Verifier:
  """The verifier of this process, for what belongs to no run."""
  if not _SHARED:
    _SHARED.append(Verifier(Wall(Limits())))
  return _SHARED[0]


def of_run(ask: Ask | None) -> Verifier:
  """A verifier behind the wall of this process, with a judge of its own."""
  return Verifier(shared().wall, ask)


@contextlib.contextmanager
def journalled(found: Verifier, path):
  """Verdicts of a verifier are kept in a file for a while.

  Yields the number of verdicts that it held. What is cached from before is
  left out: a run's journal holds all that the run was told.
  """
  found.forget()
  try:
    yield found.keep(path)
  finally:
    found.forget()


def needs_kind(answer: str, question: Question) -> float:
  """The `Grader.grade` of tasks whose questions all have a kind."""
  del answer
  raise ValueError(f'question {question.id!r} has no kind; known: '
                   f'{", ".join((*kinds.KINDS, kinds.JUDGE))}')


# Of tasks that ask for \boxed{} and name how each answer is compared.
BOXED = Grader(boxed.last, needs_kind)
# The same, where the last number counts if there is no box.
NUMBERS = Grader(boxed.last_or_number, needs_kind)


@dataclasses.dataclass(frozen=True)
class GoldCheck:
  """What a look at gold answers found.

  Attributes:
    checked: questions of kinds that are cheap to check, with gold answers of
      at most LONGEST_CHECKED characters.
    unreadable: question id -> why.
    judged: id of the first question of kind 'judge', '' without one.
  """
  checked: int
  unreadable: dict[str, str]
  judged: str


def check_golds(questions: Iterable[Question]) -> GoldCheck:
  """Whether gold answers are of their kind, where that is cheap to tell.

  Raises:
    KeyError: for an unknown kind, with the question's id.
  """
  checked, bad, judged = 0, {}, ''
  for question in questions:
    if question.kind == kinds.JUDGE:
      judged = judged or question.id
    if not question.kind or question.kind == kinds.JUDGE:
      continue
    try:
      row = kinds.get(question.kind)
    except KeyError as e:
      raise KeyError(f'question {question.id!r}: {e.args[0]}') from None
    if not row.cheap or len(question.answer) > LONGEST_CHECKED:
      continue
    checked += 1
    try:
      row.mark('', reference(question))
    except ValueError as e:
      bad[question.id] = str(e)
  return GoldCheck(checked, bad, judged)
