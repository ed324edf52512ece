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

  The first process grades for all of them, because whether an answer meets a
  deadline depends on the machine.
  """
  if not rows:
    return []
  if jax.process_count() == 1 or jax.process_index() == 0:
    results = (grader.verifier or verifier.shared()).grade(rows)
    verdicts = [verifier.verdict(r, grader.threshold) for r in results]
  else:
    verdicts = [Verdict.CRASH] * len(rows)  # the broadcast replaces them
  if jax.process_count() == 1:
    return verdicts
  codes = multihost_utils.broadcast_one_to_all(np.asarray(verdicts, np.int32))
  return [Verdict(int(code)) for code in codes]


def grade_all(rows: Sequence[tuple[str, StopReason, Question]],
              grader: Grader) -> list[tuple[Verdict, str]]:
  """(verdict, parsed answer) of each (text, stop, question), graded at once.

  A truncated response is wrong (docs/paper.md), but its answer is parsed all
  the same, because an NCQ may list it. The grader's own function grades answers
  to questions without a kind, in this process; its verifier grades the others.

  Raises:
    KeyError, ValueError, SandboxError: as verifier.Verifier.grade.
  """
  answers = [grader.parse(text) for text, _, _ in rows]
  verdicts: list[Verdict] = []
  with_kind = []
  for i, (answer, (_, stop, question)) in enumerate(
      zip(answers, rows, strict=True)):
    if stop == StopReason.LENGTH:
      verdicts.append(Verdict.TRUNCATED)
    elif not answer:
      verdicts.append(Verdict.NO_ANSWER)
    elif question.kind:
      verdicts.append(Verdict.CRASH)  # replaced below
      with_kind.append(i)
    else:
      right = grader.grade(answer, question) >= grader.threshold
      verdicts.append(Verdict.CORRECT if right else Verdict.WRONG)
  by_kind = _by_kind([(answers[i], rows[i][2]) for i in with_kind], grader)
  for i, verdict in zip(with_kind, by_kind, strict=True):
    verdicts[i] = verdict
  return list(zip(verdicts, answers, strict=True))


def grade(text: str, stop: StopReason, question: Question,
          grader: Grader) -> tuple[Verdict, str]:
  """(verdict, parsed answer) of one response; see `grade_all`."""
  return grade_all([(text, stop, question)], grader)[0]
