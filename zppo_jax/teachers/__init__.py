"""Teachers: answers to questions, and short versions of traces.

One contract, three kinds (docs/teachers.md): `in_process`, `endpoint`,
`stored`. What a teacher does not send is missing, never made up: a question
without a correct answer falls back to its NCQ (papers: Algorithm 1, step 4).
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from zppo_jax.records import Answers, Prompt, Scores, Summaries, TokenSequence


@dataclasses.dataclass(frozen=True)
class Capabilities:
  """What a teacher can do, known before the first step.

  Attributes:
    max_compression_prompt: longest compression prompt that it takes, in
      tokens of the student's vocabulary; 0: it writes no summaries.
    scores: whether it tells log-probs of given tokens.
    pictures: whether questions may hold pictures.
    clips: whether they may hold clips.
    repeatable: whether the same (prompts, step) brings the same answers in a
      resumed run. If not, answers are journalled (teachers/journal.py).
  """
  max_compression_prompt: int
  scores: bool
  pictures: bool
  clips: bool
  repeatable: bool


class Teacher(Protocol):
  """Answers depend on (question, step), on nobody else who was asked."""
  capabilities: Capabilities

  def answer(self, prompts: Sequence[Prompt], step: int) -> Answers:
    """New graded answers, at most G_T a prompt."""

  def summarise(self, prompts: Sequence[Prompt], traces: Sequence[str],
                step: int) -> Summaries:
    """A graded summary of each trace; a prompt is the same request in the
    student's tokens."""

  def score(self, sequences: Sequence[TokenSequence]) -> Scores:
    """Log-probs (nats, temperature 1) of responses' tokens under prompts.

    Raises:
      ValueError: if `capabilities.scores` is False.
    """
