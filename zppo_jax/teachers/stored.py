"""Answers that were stored with the questions; a deviation from the paper.

The paper asks its teacher anew at every visit (docs/paper.md). Nobody writes
summaries either, so candidates that are too long are shown by their last
tokens, right and wrong ones alike.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from zppo_jax.chat.wording import Chat
from zppo_jax.randomness import Purpose, question_uid
from zppo_jax.records import (
  Answers,
  CallStats,
  Cause,
  Grader,
  Group,
  Prompt,
  Question,
  Scores,
  StopReason,
  Summaries,
  TokenSequence,
  Wanted,
)
from zppo_jax.rollout import collect
from zppo_jax.teachers import PLAIN, Capabilities, check


@dataclasses.dataclass(frozen=True)
class StoredTeacher:
  """Draws from `Question.responses`.

  Attributes:
    chat: the student's chat.
    grader: grades the stored answers anew at every visit.
    num_answers: G_T.
    seed: the run's seed.
  """
  chat: Chat
  grader: Grader
  num_answers: int
  seed: int

  @property
  def capabilities(self) -> Capabilities:
    return Capabilities(max_compression_prompt=0, scores=False, pictures=True,
                        clips=True, repeatable=True)

  def _draw(self, question: Question,
            step: int) -> list[tuple[str, StopReason]]:
    stored = question.responses
    rng = np.random.default_rng([self.seed, step, int(Purpose.TEACHER),
                                 question_uid(question.id)])
    chosen = rng.permutation(len(stored))[:self.num_answers]
    return [(stored[i], StopReason.END) for i in sorted(chosen)]

  def answer(self, prompts: Sequence[Prompt], step: int) -> Answers:
    """G_T of each question's stored answers, drawn by (question, step)."""
    questions = [p.question for p in prompts]
    groups = tuple(map(Group, prompts, collect.from_texts(
        questions, [self._draw(q, step) for q in questions], self.chat,
        self.grader)))
    wanted = len(prompts) * self.num_answers
    missing = wanted - sum(len(g.rollouts) for g in groups)
    return Answers(groups=groups, calls=CallStats(
        answers=wanted, failed={Cause.MISSING: missing} if missing else {},
        error='not stored' if missing else ''))

  def summarise(self, prompts: Sequence[Prompt], traces: Sequence[str],
                step: int) -> Summaries:
    """No summary; `capabilities` says that there are none."""
    del traces, step
    return Summaries(rollouts=(None,) * len(prompts), calls=CallStats())

  def hint(self, prompts: Sequence[Prompt], traces: Sequence[str],
           step: int) -> Summaries:
    """No hint, because nobody writes one; Question.hint holds stored hints."""
    del traces, step
    return Summaries(rollouts=(None,) * len(prompts), calls=CallStats())

  def score(self, sequences: Sequence[TokenSequence], wanted: Wanted = PLAIN,
            step: int | None = None) -> Scores:
    """ValueError, because stored answers come without a model."""
    del step
    check('stored', self.capabilities, wanted, sequences)
    raise AssertionError('a stored teacher has no scores')
