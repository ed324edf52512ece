"""From response texts to verdicts and components of rewards."""

from collections.abc import Sequence
from typing import NamedTuple

from zppo_jax.devices import hosts
from zppo_jax.records import UNGRADED, Grader, Question, StopReason, Verdict
from zppo_jax.verdicts import kinds, rubric, verifier
from zppo_jax.verdicts.rewards import Response, Scoring


class Graded(NamedTuple):
  """What grading says of a response.

  Attributes:
    verdict: its verdict.
    answer: the parsed answer, '' without one.
    components: as Rollout.components.
  """
  verdict: Verdict
  answer: str
  components: tuple[tuple[str, float], ...] = ()


class _Scored(NamedTuple):
  """A verdict, the parsed answer, and the score behind the verdict."""
  verdict: Verdict
  answer: str
  score: float = 0.0


def _by_kind(rows: Sequence[tuple[str, Question]],
             grader: Grader) -> list[tuple[Verdict, float]]:
  """(verdict, score) of answers to questions with a kind."""
  if not rows:
    return []
  results = (grader.verifier or verifier.shared()).grade(rows)
  return [(verifier.verdict(r, grader.threshold),
           r.score if r.status == 'score' else 0.0) for r in results]


def _read(text: str, answer: str, question: Question) -> str:
  """What is graded: the parsed answer or, by kind, the whole response."""
  return rubric.visible(text) if question.kind in kinds.WHOLE else answer


def _at_once(text: str, stop: StopReason, question: Question,
             grader: Grader) -> _Scored:
  """The grading of a response; CRASH where the verifier decides later."""
  answer = grader.parse(text)
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


def _scored(rows: Sequence[tuple[str, StopReason, Question]],
            grader: Grader) -> list[_Scored]:
  """As `grade_all`, with scores."""
  results = hosts.shared(lambda some: [_at_once(*row, grader) for row in some],
                         rows, 'the verdicts')
  with_kind = [i for i, of in enumerate(results)
               if of.verdict == Verdict.CRASH]
  by_kind = _by_kind([(_read(rows[i][0], results[i].answer, rows[i][2]),
                       rows[i][2]) for i in with_kind], grader)
  for i, (verdict, score) in zip(with_kind, by_kind, strict=True):
    results[i] = _Scored(verdict, results[i].answer, score)
  return results


def grade_all(rows: Sequence[tuple[str, StopReason, Question]],
              grader: Grader) -> list[tuple[Verdict, str]]:
  """(verdict, parsed answer) of each (text, stop, question), graded at once.

  A truncated response is wrong (docs/paper.md), but its answer is parsed all
  the same, because an NCQ may list it. The grader's own function grades answers
  to questions without a kind, in this process; its verifier grades the others.
  Several processes share the responses; each gets all verdicts. The section
  `reward` is not read here, see `reward_all`.

  Raises:
    KeyError, ValueError, SandboxError: as verifier.Verifier.grade.
  """
  return [(of.verdict, of.answer) for of in _scored(rows, grader)]


def reward_all(rows: Sequence[tuple[str, StopReason, Question]],
               lengths: Sequence[int], grader: Grader) -> list[Graded]:
  """As `grade_all`, by the rules of the section `reward` where a run has one.

  Args:
    rows: (text, stop, question) of each response.
    lengths: tokens of each response.
    grader: grades them.

  Raises:
    KeyError, ValueError, SandboxError: as `grade_all`; also for a component
      that is not in [0, 1].
  """
  graded = _scored(rows, grader)
  if grader.scoring is None:
    return [Graded(of.verdict, of.answer) for of in graded]
  return hosts.shared(
      lambda some: [_rewarded(*one, grader.scoring) for one in some],
      list(zip(rows, lengths, graded, strict=True)), 'the rewards')


def _rewarded(row: tuple[str, StopReason, Question], length: int, of: _Scored,
              scoring: Scoring) -> Graded:
  """A response with its components; one without a verdict has none."""
  if of.verdict in UNGRADED:
    return Graded(of.verdict, of.answer)
  text, stop, question = row
  verdict, components = scoring.graded(Response(
      text=text, answer=of.answer, question=question,
      right=of.verdict == Verdict.CORRECT, score=of.score, length=length,
      limit=scoring.limit, truncated=stop == StopReason.LENGTH,
      overlong=scoring.config.overlong), of.verdict)
  return Graded(verdict, of.answer, components)


def grade(text: str, stop: StopReason, question: Question,
          grader: Grader) -> tuple[Verdict, str]:
  """(verdict, parsed answer) of one response; see `grade_all`."""
  return grade_all([(text, stop, question)], grader)[0]
