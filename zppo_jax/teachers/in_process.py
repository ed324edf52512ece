"""A teacher that runs on the same mesh as the student."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from zppo_jax.learner import scoring
from zppo_jax.records import (
  Answers,
  CallStats,
  Prompt,
  Purpose,
  Scores,
  Summaries,
  TokenSequence,
)
from zppo_jax.rollout import collect
from zppo_jax.teachers import Capabilities


@dataclasses.dataclass(frozen=True)
class InProcessTeacher:
  """A frozen model with two samplers of one engine, and a scorer.

  Attributes:
    params: the teacher's weights, in the rollout sharding.
    answers: the sampler of G_T rollouts per question.
    summaries: the sampler of one summary per trace, cut at the compression cap.
    score_fn: (params, MicroBatch) -> (logp_BT, entropy_BT) at temperature 1.
    row_buckets: the allowed lengths of prompt and response together.
    micro_tokens: the most positions of a scored batch.
    seed: the run's seed.
  """
  params: Any
  answers: collect.Sampler
  summaries: collect.Sampler
  score_fn: Callable
  row_buckets: tuple[int, ...]
  micro_tokens: int
  seed: int

  @property
  def capabilities(self) -> Capabilities:
    sees = self.answers.chat.vision is not None
    return Capabilities(
        max_compression_prompt=self.answers.engine.shapes.prompt_lengths[-1],
        scores=True, pictures=sees, clips=sees, repeatable=True)

  def answer(self, prompts: Sequence[Prompt], step: int) -> Answers:
    """Graded rollouts, whose draws are keyed by (question, step)."""
    groups = collect.collect(self.answers, self.params, prompts,
                              seed=self.seed, step=step,
                              purpose=Purpose.TEACHER)
    wanted = len(prompts) * self.answers.num_rollouts
    return Answers(groups=tuple(groups), calls=CallStats(answers=wanted))

  def summarise(self, prompts: Sequence[Prompt], traces: Sequence[str],
                step: int) -> Summaries:
    """One summary per prompt."""
    del traces  # the prompts hold them
    groups = collect.collect(self.summaries, self.params, prompts,
                              seed=self.seed, step=step,
                              purpose=Purpose.COMPRESSION)
    return Summaries(rollouts=tuple(g.rollouts[0] for g in groups),
                     calls=CallStats(answers=len(prompts)))

  def score(self, sequences: Sequence[TokenSequence]) -> Scores:
    """Log-probs by the trainer's graph; it pads sequences to the run's buckets.

    Raises:
      ValueError: if a sequence is longer than every row bucket.
    """
    programs = self.answers.engine.programs
    results = scoring.by_row(
        self.score_fn, self.params, sequences, mesh=programs.mesh,
        max_tokens=self.micro_tokens, buckets=self.row_buckets,
        patch_buckets=programs.shapes.patches,
        num_axes=programs.model.num_axes)
    logps = tuple(tuple(logp_T[len(s.prompt):].tolist())
                  for s, (logp_T, _) in zip(sequences, results, strict=True))
    return Scores(logps=logps, calls=CallStats(answers=len(sequences)))
