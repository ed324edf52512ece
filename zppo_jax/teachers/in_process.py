"""A teacher that runs on the same mesh as the student."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from zppo_jax import rollouts
from zppo_jax.records import Group, Prompt, Purpose, Rollout


@dataclasses.dataclass(frozen=True)
class InProcessTeacher:
  """A frozen model with two samplers of one engine.

  Attributes:
    params: in the rollout sharding.
    answers: sampler of G_T rollouts a question.
    summaries: sampler of one summary a trace, cut at the compression cap.
    seed: the run's seed.
  """
  params: Any
  answers: rollouts.Sampler
  summaries: rollouts.Sampler
  seed: int

  def answer(self, prompts: Sequence[Prompt], step: int) -> list[Group]:
    """Fresh graded rollouts, keyed by (question, step)."""
    return rollouts.collect(self.answers, self.params, prompts,
                            seed=self.seed, step=step,
                            purpose=Purpose.TEACHER)

  def summarise(self, prompts: Sequence[Prompt], step: int) -> list[Rollout]:
    """One summary a prompt."""
    groups = rollouts.collect(self.summaries, self.params, prompts,
                              seed=self.seed, step=step,
                              purpose=Purpose.COMPRESSION)
    return [g.rollouts[0] for g in groups]

  @property
  def max_compression_prompt(self) -> int:
    return self.summaries.engine.shapes.prompts[-1]
