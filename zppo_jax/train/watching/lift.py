"""What a context is worth to the teacher that reads it (`watch.lift`)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zppo_jax.randomness import Purpose
from zppo_jax.records import Group, Prompt, PromptKind
from zppo_jax.runs import diagnostics


class Lift(NamedTuple):
  """The teacher's graded answers to some questions of a step.

  Attributes:
    with_context: those behind its context.
    without: those to the same questions, asked plain.
  """
  with_context: Sequence[Group]
  without: Sequence[Group]

  def numbers(self) -> dict[str, float]:
    """They by their names in metrics.jsonl; a question counts if both of its
    groups were graded."""
    both = [(w.accuracy, wo.accuracy) for w, wo in zip(
        self.with_context, self.without, strict=True) if w.graded and wo.graded]
    groups = (*self.with_context, *self.without)
    out: dict[str, float] = {
        'tokens/lift_prompt': sum(len(g.prompt.tokens) for g in groups),
        'tokens/lift_generated': sum(
            len(r.tokens) for g in groups for r in g.rollouts)}
    if both:
      with_context, without = zip(*both, strict=True)
      out |= {'context/accuracy': float(np.mean(with_context)),
              'context/accuracy_without': float(np.mean(without)),
              'context/lift': diagnostics.context_lift(with_context, without)}
    return out


def measure(teacher: Any, prompts: Mapping[tuple[int, int], Prompt],
            groups: Sequence[Group], step: int, questions: int) -> Lift:
  """Asks the teacher with and without the context.

  Args:
    teacher: a teachers.in_process.InProcessTeacher.
    prompts: (group, rollout) -> what the teacher reads; a group counts by the
      first of its rollouts that has a lesson.
    groups: the groups that are trained on. Those whose prompt is not plain are
      left out, because it holds a context itself.
    step: the step.
    questions: how many groups at most.
  """
  first: dict[int, Prompt] = {}
  for (p, _), prompt in sorted(prompts.items(), key=lambda item: item[0]):
    if groups[p].prompt.kind == PromptKind.PLAIN:
      first.setdefault(p, prompt)
  places = sorted(first)[:questions]
  if not places:
    return Lift((), ())
  return Lift(
      teacher.draw([first[p] for p in places], step, Purpose.LIFTED),
      teacher.draw([groups[p].prompt for p in places], step, Purpose.UNLIFTED))
