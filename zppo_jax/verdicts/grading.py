"""From response texts to verdicts."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from zppo_jax.records import Grader, Question, StopReason, Verdict
from zppo_jax.verdicts import verifier


def _by_kind(rows: Sequence[tuple[str, Question]],
             grader: Grader) -> list[Verdict]:
  """Verdicts of answers to questions with a kind, the same on every host.

  Whether an answer meets a deadline is a matter of the machine, so the first
  process says it for all.
  """
  if not rows:
    return []
  if jax.process_count() == 1 or jax.process_index() == 0:
    by = grader.verifier or verifier.shared()
    found = [verifier.verdict(reply, grader.threshold)
             for reply in by.grade(rows)]
  else:
    found = [Verdict.CRASH] * len(rows)  # replaced below
  if jax.process_count() == 1:
    return found
  told = multihost_utils.broadcast_one_to_all(np.asarray(found, np.int32))
  return [Verdict(int(v)) for v in told]


def grade_all(rows: Sequence[tuple[str, StopReason, Question]],
              grader: Grader) -> list[tuple[Verdict, str]]:
  """(verdict, parsed answer) of each (text, stop, question), graded at once.

  A truncated response is wrong (docs/paper.md); its answer is parsed all the
  same, for the NCQ list. Questions without a kind are graded by the grader's
  own function in this process, the others by its verifier.

  Raises:
    KeyError, ValueError, WallError: as verifier.Verifier.grade.
  """
  answers = [grader.parse(text) for text, _, _ in rows]
  found: list[Verdict | None] = []
  walled = []
  for i, (answer, (_, stop, question)) in enumerate(
      zip(answers, rows, strict=True)):
    if stop == StopReason.LENGTH:
      found.append(Verdict.TRUNCATED)
    elif not answer:
      found.append(Verdict.NO_ANSWER)
    elif question.kind:
      found.append(None)
      walled.append(i)
    else:
      right = grader.grade(answer, question) >= grader.threshold
      found.append(Verdict.CORRECT if right else Verdict.WRONG)
  told = _by_kind([(answers[i], rows[i][2]) for i in walled], grader)
  for i, verdict in zip(walled, told, strict=True):
    found[i] = verdict
  return list(zip(found, answers, strict=True))


def grade(text: str, stop: StopReason, question: Question,
          grader: Grader) -> tuple[Verdict, str]:
  """(verdict, parsed answer) of one response; see `grade_all`."""
  return grade_all([(text, stop, question)], grader)[0]
