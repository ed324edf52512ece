"""Teachers: answers to questions, and short versions of traces.

There are three kinds with one contract (docs/teachers.md): `in_process`,
`endpoint`, `stored`. What a teacher does not send is missing and never made up:
a question without a correct answer falls back to its NCQ (ZPPO, Algorithm 1,
step 4).
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from zppo_jax.records import Answers, Prompt, Scores, Summaries, TokenSequence


@dataclasses.dataclass(frozen=True)
class Capabilities:
  """What a teacher can do, known before the first step.

  Attributes:
    max_compression_prompt: the longest compression prompt that the teacher
      takes, in tokens of the student's vocabulary; 0 if it writes no summaries.
    scores: whether it returns the log-probs of given tokens.
    pictures: whether questions may hold pictures.
    clips: whether questions may hold clips.
    repeatable: whether the same (prompts, step) brings the same answers in a
      resumed run. If not, a journal keeps the answers (teachers/journal.py).
  """
  max_compression_prompt: int
  scores: bool
  pictures: bool
  clips: bool
  repeatable: bool


class Teacher(Protocol):
  """An answer depends on (question, step) and on no other request."""
  capabilities: Capabilities

  def answer(self, prompts: Sequence[Prompt], step: int) -> Answers:
    """Graded answers, at most G_T per prompt, which are new in every step."""

  def summarise(self, prompts: Sequence[Prompt], traces: Sequence[str],
                step: int) -> Summaries:
    """A graded summary of each trace.

    Args:
      prompts: the requests for the summaries, in the student's tokens.
      traces: the text that each of these prompts holds.
      step: the step; with the prompt it keys the draw.
    """

  def score(self, sequences: Sequence[TokenSequence]) -> Scores:
    """The log-probs (nats, temperature 1) of responses after their prompts.

    Raises:
      ValueError: if `capabilities.scores` is False.
    """
