"""A teacher that runs on the same mesh as the student."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from zppo_jax.learner import packing, scoring
from zppo_jax.records import (
  Answers,
  CallStats,
  Prompt,
  Purpose,
  Scores,
  Summaries,
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
        max_compression_prompt=self.answers.engine.shapes.prompts[-1],
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

  def score(self, rows: Sequence[tuple[Prompt, tuple[int, ...]]]) -> Scores:
    """Log-probs by the trainer's graph; rows are padded to the run's buckets.

    Raises:
      ValueError: if a row is longer than every row bucket.
    """
    programs = self.answers.engine.programs
    padded = [packing.Row(prompt.tokens, response, (0.0,) * len(response), 0.0,
                          prompt.media) for prompt, response in rows]
    scored = scoring.by_row(
        self.score_fn, self.params, padded, mesh=programs.mesh,
        max_tokens=self.micro_tokens, buckets=self.row_buckets,
        patch_buckets=programs.shapes.patches,
        num_axes=programs.model.num_axes)
    logps = tuple(tuple(logp_T[len(row.prompt):].tolist())
                  for row, (logp_T, _) in zip(padded, scored, strict=True))
    return Scores(logps=logps, calls=CallStats(answers=len(rows)))
