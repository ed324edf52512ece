"""Answers to questions in, results out: cache, journal, sandbox and judge.

A run has a verifier of its own (`of_run`), with its judge, its journal and a
cache of its results. All verifiers of a process share the sandbox, because they
share the machine; its workers start when the first question with a kind is
graded.
"""

import collections
import contextlib
import dataclasses
import functools
import os
import pathlib
import threading
from collections.abc import Iterable, Iterator, Sequence

from zppo_jax.devices import hosts
from zppo_jax.records import Grader, Question, Verdict
from zppo_jax.verdicts import journal, kinds, official, rubric
from zppo_jax.verdicts.judge import MALFORMED, Ask, judge
from zppo_jax.verdicts.kinds import boxed, gym, prefilter
from zppo_jax.verdicts.sandbox import (
  GradingJob,
  GradingResult,
  Sandbox,
  SandboxLimits,
)

CACHED = 200_000  # results in memory
# Characters of a gold answer that this process reads. Longer ones hold
# thousands of members or digits, so only the sandbox reads them.
LONGEST_CHECKED = 20_000
# The verdict of each status that has no score.
VERDICTS = {'unreadable': Verdict.GOLD_UNREADABLE,
            'timeout': Verdict.TIMEOUT, 'crash': Verdict.CRASH,
            MALFORMED: Verdict.JUDGE_MALFORMED}


def verdict(result: GradingResult, threshold: float) -> Verdict:
  """The verdict of a task whose grader has this threshold."""
  if result.status != 'score':
    return VERDICTS[result.status]
  return Verdict.CORRECT if result.score >= threshold else Verdict.WRONG


def reference(question: Question) -> str:
  """The text with which answers to a question are compared."""
  if question.kind == 'reasoning_gym':
    return gym.reference(question.source, question.id)
  return question.answer


class Verifier:
  """Grades answers to questions that have a kind.

  Several processes share the answers and know all results: whether an answer
  meets a deadline depends on the machine, so each is graded by one of them. The
  first process keeps the journal.

  Attributes:
    sandbox: grades all kinds but the judge's.
    ask: the judge (judge.Ask), or None without one.
    path: the file of the journal, or None without one.
  """

  def __init__(self, sandbox: Sandbox, ask: Ask | None = None):
    self.sandbox, self.ask = sandbox, ask
    self.path: pathlib.Path | None = None
    self._lock = threading.Lock()
    self._reasons: collections.OrderedDict[str, str] = (
        collections.OrderedDict())
    self._known: collections.OrderedDict[str, GradingResult] = (
        collections.OrderedDict())

  def keep(self, path: str | os.PathLike) -> journal.Contents:
    """Reads a journal, to which it appends from then on."""
    contents = hosts.from_first(lambda: journal.read(path), 'the verdicts')
    for name, result in contents.verdicts.items():
      self._remember(name, result)
    self.path = pathlib.Path(path)
    return contents

  def forget(self) -> None:
    """Leaves the journal and empties the cache."""
    self.path = None
    self._known.clear()

  def reasons(self) -> list[str]:
    """The last reason of each status that has no score."""
    return [f'last {name}: {why}' for name, why in self._reasons.items()]

  def _remember(self, name: str, result: GradingResult) -> None:
    if result.status in journal.STORED:
      self._known[name] = result
      while len(self._known) > CACHED:
        self._known.popitem(last=False)

  def grade(self, rows: Sequence[tuple[str, Question]]) -> list[GradingResult]:
    """A result for each (parsed answer, question), in their order.

    Equal rows are graded once. Threads may share a verifier, because a call
    waits for the one before it.

    Raises:
      KeyError: for an unknown kind.
      ValueError: for a judge's question without a judge.
      SandboxError: if no answer can be graded.
    """
    with self._lock:
      return self._results(rows)

  def _results(self, rows: Sequence[tuple[str, Question]]
               ) -> list[GradingResult]:
    names = []
    ungraded: dict[str, tuple[Question, str, str]] = {}
    results: dict[str, GradingResult] = {}
    for answer, question in rows:
      against = reference(question)
      name = journal.key(question.kind, self._about(question, against), answer)
      names.append(name)
      if name in results or name in ungraded:
        continue
      if name in self._known:
        results[name] = self._known[name]
      elif question.kind not in kinds.WHOLE and prefilter.too_long(
          answer, question.answer):
        if question.kind != kinds.JUDGE:
          kinds.get(question.kind)  # an unknown kind is an error here too
        results[name] = GradingResult('score', 0.0)
      else:
        ungraded[name] = (question, answer, against)
    results |= self._grade(ungraded)
    self._reasons.update({r.status: r.reason for r in results.values()
                          if r.status != 'score'})
    return [results[name] for name in names]

  def _about(self, question: Question, against: str) -> str:
    if question.kind in kinds.JUDGED:
      return f'{question.text}\n{against}'
    return against

  def _grade(self, ungraded: dict[str, tuple[Question, str, str]]
             ) -> dict[str, GradingResult]:
    """Results by key, of (question, answer, reference) by key."""
    judged = {n: v for n, v in ungraded.items() if v[0].kind in kinds.JUDGED}
    sandboxed = {n: v for n, v in ungraded.items() if n not in judged}
    for question, _, _ in sandboxed.values():
      kinds.get(question.kind)
    if judged and self.ask is None:
      first = next(iter(judged.values()))[0]
      raise ValueError(f'question {first.id!r} is of kind {first.kind!r}; the '
                       'run has no judge')
    results: dict[str, GradingResult] = {}
    for rows, grade in ((sandboxed, self._in_sandbox), (judged, self._judged)):
      results |= zip(rows, hosts.shared(
          grade, list(rows.values()), 'the grading'), strict=True)
    for name, result in results.items():
      self._remember(name, result)
    if self.path is not None and hosts.first():
      journal.append(self.path, [(n, ungraded[n][0].kind, r)
                                 for n, r in results.items()])
    return results

  def _in_sandbox(self, rows: Sequence[tuple[Question, str, str]]
                  ) -> list[GradingResult]:
    return self.sandbox.grade([
        GradingJob(kind=question.kind, answer=answer, reference=against)
        for question, answer, against in rows])

  def _judged(self, rows: Sequence[tuple[Question, str, str]]
              ) -> list[GradingResult]:
    if self.ask is None or not rows:
      return []
    out: list[GradingResult | None] = [None] * len(rows)
    for kind in dict.fromkeys(question.kind for question, _, _ in rows):
      ask = judge if kind == kinds.JUDGE else functools.partial(
          rubric.judge, kind, forms=official.FORMS)
      at = [i for i, (question, _, _) in enumerate(rows)
            if question.kind == kind]
      for i, result in zip(at, ask(self.ask, [
          (rows[i][0].text, rows[i][2], rows[i][1]) for i in at]), strict=True):
        out[i] = result
    return [result for result in out if result is not None]


_SHARED: list[Verifier] = []


def shared() -> Verifier:
  """The verifier of this process, for answers that belong to no run."""
  if not _SHARED:
    _SHARED.append(Verifier(Sandbox(SandboxLimits())))
  return _SHARED[0]


def of_run(ask: Ask | None) -> Verifier:
  """A verifier with a judge of its own and the sandbox of this process."""
  return Verifier(shared().sandbox, ask)


@contextlib.contextmanager
def journalled(verifier: Verifier,
               path: str | os.PathLike) -> Iterator[journal.Contents]:
  """Keeps the results of a verifier in a file for the length of the context.

  Yields what the file held before. The verifier forgets its cache first,
  because the journal of a run holds each verdict that the run used.
  """
  verifier.forget()
  try:
    yield verifier.keep(path)
  finally:
    verifier.forget()


def needs_kind(answer: str, question: Question) -> float:
  """The `Grader.grade` of tasks whose questions all have a kind."""
  del answer
  raise ValueError(f'question {question.id!r} has no kind; its kind must be '
                   f'one of {", ".join(kinds.NAMES)}')


# For tasks that ask for \boxed{} and name how each answer is compared.
BOXED = Grader(boxed.last, needs_kind)
# The last number of a response counts if the response has no box.
NUMBERS = Grader(boxed.last_or_number, needs_kind)


@dataclasses.dataclass(frozen=True)
class GoldCheck:
  """The gold answers that were checked before a run.

  Attributes:
    checked: questions of kinds that are cheap to check, with gold answers of
      at most LONGEST_CHECKED characters.
    unreadable: question id -> the reason why its gold answer is unreadable.
    judged: the id of the first question that a judge grades, '' without one.
  """
  checked: int
  unreadable: dict[str, str]
  judged: str


def check_golds(questions: Iterable[Question]) -> GoldCheck:
  """Checks that gold answers are of their kind, where the check is cheap.

  Raises:
    KeyError: for an unknown kind, with the question's id.
  """
  checked, judged = 0, ''
  unreadable: dict[str, str] = {}
  for question in questions:
    if kinds.judged(question.kind):
      judged = judged or question.id
    if not question.kind or question.kind == kinds.JUDGE:
      continue
    if question.kind in kinds.WHOLE:
      checked += 1
      try:
        official.FORMS[question.kind].gold(question.answer)
      except ValueError as e:
        unreadable[question.id] = str(e)
      continue
    try:
      row = kinds.get(question.kind)
    except (KeyError, ValueError) as e:
      raise KeyError(f'question {question.id!r}: {e.args[0]}') from None
    if not row.cheap or len(question.answer) > LONGEST_CHECKED:
      continue
    checked += 1
    try:
      row.mark('', reference(question))
    except ValueError as e:
      unreadable[question.id] = str(e)
  return GoldCheck(checked=checked, unreadable=unreadable, judged=judged)
