"""From response texts to verdicts."""

from collections.abc import Sequence

from zppo_jax.devices import hosts
from zppo_jax.records import Grader, Question, StopReason, Verdict
from zppo_jax.verdicts import kinds, rubric, verifier


def _by_kind(rows: Sequence[tuple[str, Question]],
             grader: Grader) -> list[Verdict]:
  """Verdicts of answers to questions with a kind."""
  if not rows:
    return []
  results = (grader.verifier or verifier.shared()).grade(rows)
  return [verifier.verdict(r, grader.threshold) for r in results]


def _read(text: str, answer: str, question: Question) -> str:
  """What is graded: the parsed answer or, by kind, the whole response."""
  return rubric.visible(text) if question.kind in kinds.WHOLE else answer


def _at_once(text: str, stop: StopReason, question: Question,
             grader: Grader) -> tuple[Verdict, str]:
  """(verdict, parsed answer) of a response; CRASH where the verifier decides
  later."""
  answer = grader.parse(text)
  read = _read(text, answer, question)
  if stop == StopReason.LENGTH:
    return Verdict.TRUNCATED, answer
  if not read:
    return Verdict.NO_ANSWER, answer
  if question.kind:
    return Verdict.CRASH, answer
  right = grader.grade(answer, question) >= grader.threshold
  return Verdict.CORRECT if right else Verdict.WRONG, answer


def grade_all(rows: Sequence[tuple[str, StopReason, Question]],
              grader: Grader) -> list[tuple[Verdict, str]]:
  """(verdict, parsed answer) of each (text, stop, question), graded at once.

  A truncated response is wrong (docs/paper.md), but its answer is parsed all
  the same, because an NCQ may list it. The grader's own function grades answers
  to questions without a kind, in this process; its verifier grades the others.
  Several processes share the responses; each gets all verdicts.

  Raises:
    KeyError, ValueError, SandboxError: as verifier.Verifier.grade.
  """
  results = hosts.shared(lambda some: [_at_once(*row, grader) for row in some],
                         rows, 'the verdicts')
  with_kind = [i for i, (verdict, _) in enumerate(results)
               if verdict == Verdict.CRASH]
  by_kind = _by_kind([(_read(rows[i][0], results[i][1], rows[i][2]), rows[i][2])
                      for i in with_kind], grader)
  for i, verdict in zip(with_kind, by_kind, strict=True):
    results[i] = verdict, results[i][1]
  return results


def grade(text: str, stop: StopReason, question: Question,
          grader: Grader) -> tuple[Verdict, str]:
  """(verdict, parsed answer) of one response; see `grade_all`."""
  return grade_all([(text, stop, question)], grader)[0]
