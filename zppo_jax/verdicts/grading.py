"""From response texts to verdicts and components of rewards."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from zppo_jax.devices import hosts
from zppo_jax.records import UNGRADED, Grader, Question, StopReason, Verdict
from zppo_jax.verdicts import kinds, official, rubric, verifier
from zppo_jax.verdicts.kinds import published
from zppo_jax.verdicts.kinds.plain import Unreadable
from zppo_jax.verdicts.rewards import Response, Scoring
from zppo_jax.verdicts.sandbox import GradingResult


class Graded(NamedTuple):
  """What grading says of a response.

  Attributes:
    verdict: right, wrong, or why there is neither.
    answer: the parsed answer, '' without one.
    components: as Rollout.components.
    score: in [0, 1], of a kind that gives parts of a point; otherwise None.
  """
  verdict: Verdict
  answer: str
  components: tuple[tuple[str, float], ...] = ()
  score: float | None = None


class _Scored(NamedTuple):
  """A verdict, the parsed answer, and the score behind the verdict.

  Attributes:
    parts: whether an evaluation counts parts of a point.
  """
  verdict: Verdict
  answer: str
  score: float = 0.0
  parts: bool = False

  @property
  def graded(self) -> Graded:
    """Without components."""
    return Graded(verdict=self.verdict, answer=self.answer,
                  score=self.score if self.parts else None)


Row = tuple[str, StopReason, Question]


def _read(text: str, answer: str, question: Question) -> str:
  """What is graded: the parsed answer or, by kind, the whole response."""
  return rubric.visible(text) if question.kind in kinds.WHOLE else answer


def _at_once(text: str, stop: StopReason, question: Question,
             grader: Grader) -> _Scored:
  """The grading of a response; CRASH where the verifier decides later."""
  answer = grader.parse(text)
  if kinds.asks_judge(question.kind):
    return _Scored(Verdict.CRASH if text.strip() else Verdict.NO_ANSWER, answer)
  read = _read(text, answer, question)
  if stop == StopReason.LENGTH:
    return _Scored(Verdict.TRUNCATED, answer)
  if not read:
    return _Scored(Verdict.NO_ANSWER, answer)
  if question.kind:
    return _Scored(Verdict.CRASH, answer)
  score = grader.grade(answer, question)
  right = score >= grader.threshold
  return _Scored(Verdict.CORRECT if right else Verdict.WRONG, answer, score)


def _first(row: Row, answer: str) -> tuple[str, Question] | None:
  """What a row's own kind compares; None where only a judge can look."""
  text, _, question = row
  if not kinds.asks_judge(question.kind):
    return _read(text, answer, question), question
  if not answer:
    return None
  return answer, dataclasses.replace(question, kind=kinds.first(question.kind))


def _second(row: Row, answer: str) -> tuple[str, Question] | None:
  """What the judge behind a kind compares; None for a gold answer that cannot
  be shown to it."""
  text, _, question = row
  try:
    gold = published.spoken(kinds.first(question.kind), question.answer)
  except Unreadable:
    return None
  if answer:
    return answer, dataclasses.replace(question, kind=kinds.JUDGE, answer=gold)
  return text[-official.LONGEST:], dataclasses.replace(
      question, kind=kinds.RESPONSE, answer=gold)


def _verdict(result: GradingResult, row: Row, answer: str,
             grader: Grader) -> _Scored:
  """A result as what is said of a response."""
  _, stop, question = row
  verdict = verifier.verdict(result, grader.threshold)
  if verdict == Verdict.WRONG and kinds.asks_judge(question.kind):
    if stop == StopReason.LENGTH:
      verdict = Verdict.TRUNCATED
    elif not answer:
      verdict = Verdict.NO_ANSWER
  scored = result.status == 'score'
  return _Scored(verdict=verdict, answer=answer,
                 score=result.score if scored else 0.0,
                 parts=scored and kinds.graded(question.kind))


def _by_kind(rows: Sequence[Row], answers: Sequence[str],
             grader: Grader) -> list[_Scored]:
  """What is said of answers to questions with a kind.

  A judge is asked about what the first kind of `KIND+judge` does not call
  right (the paper's Exact+Judge).
  """
  grade = (grader.verifier or verifier.shared()).grade
  results: list[GradingResult | None] = [None] * len(rows)
  for step, compared in enumerate((_first, _second)):
    asked = {}
    for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
      before = results[i]
      if step and (not kinds.asks_judge(row[2].kind) or before is not None
                   and verifier.verdict(before, grader.threshold)
                   == Verdict.CORRECT):
        continue
      if (pair := compared(row, answer)) is not None:
        asked[i] = pair
    if asked:
      for i, result in zip(asked, grade(list(asked.values())), strict=True):
        results[i] = result
  unshown = GradingResult('unreadable', reason='the gold answer cannot be '
                          'shown to a judge')
  return [_verdict(result or unshown, row, answer, grader)
          for row, answer, result in zip(rows, answers, results, strict=True)]


def _scored(rows: Sequence[Row], grader: Grader) -> list[_Scored]:
  """As `graded_all`, with the scores of all kinds."""
  results = hosts.shared(lambda some: [_at_once(*row, grader) for row in some],
                         rows, 'the verdicts')
  with_kind = [i for i, of in enumerate(results) if of.verdict == Verdict.CRASH]
  for i, of in zip(with_kind, _by_kind(
      [rows[i] for i in with_kind], [results[i].answer for i in with_kind],
      grader), strict=True):
    results[i] = of
  return results


def graded_all(rows: Sequence[Row], grader: Grader) -> list[Graded]:
  """What is said of each (text, stop, question), graded at once.

  A truncated response is wrong (docs/paper.md), but its answer is parsed all
  the same, because an NCQ may list it; only a judge behind a kind may find it
  right. The grader's own function grades answers to questions without a kind,
  in this process; its verifier grades the others. Several processes share the
  responses; each gets all verdicts. The section `reward` is not read here, see
  `reward_all`.

  Raises:
    KeyError, ValueError, SandboxError: as verifier.Verifier.grade.
  """
  return [of.graded for of in _scored(rows, grader)]


def grade_all(rows: Sequence[Row],
              grader: Grader) -> list[tuple[Verdict, str]]:
  """(verdict, parsed answer) of each row; see `graded_all`."""
  return [(of.verdict, of.answer) for of in _scored(rows, grader)]


def reward_all(rows: Sequence[Row], lengths: Sequence[int],
               grader: Grader) -> list[Graded]:
  """As `graded_all`, by the rules of the section `reward` of a run with one.

  Args:
    rows: (text, stop, question) of each response.
    lengths: tokens of each response.
    grader: grades them.

  Raises:
    KeyError, ValueError, SandboxError: as `graded_all`; also for a component
      that is not in [0, 1].
  """
  scored = _scored(rows, grader)
  if grader.scoring is None:
    return [of.graded for of in scored]
  return hosts.shared(
      lambda some: [_rewarded(*one, grader.scoring) for one in some],
      list(zip(rows, lengths, scored, strict=True)), 'the rewards')


def _rewarded(row: Row, length: int, of: _Scored, scoring: Scoring) -> Graded:
  """A response with its components; one without a verdict has none."""
  if of.verdict in UNGRADED:
    return of.graded
  text, stop, question = row
  verdict, components = scoring.graded(Response(
      text=text, answer=of.answer, question=question,
      right=of.verdict == Verdict.CORRECT, score=of.score, length=length,
      limit=scoring.limit, truncated=stop == StopReason.LENGTH,
      overlong=scoring.config.overlong), of.verdict)
  return of.graded._replace(verdict=verdict, components=components)


def grade(text: str, stop: StopReason, question: Question,
          grader: Grader) -> tuple[Verdict, str]:
  """(verdict, parsed answer) of one response; see `graded_all`."""
  return grade_all([(text, stop, question)], grader)[0]
