"""What a loss reads of each token: the targets that a method gives rollouts."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from zppo_jax.randomness import Purpose, question_rng
from zppo_jax.records import Group, Rollout, Scores

REFERENCE_WEIGHT = 'reference_weight'  # 1 where a penalty is (reference.py)
# (group, rollout), by their places in the mini-batch -> name -> array [R, ...]
Targets = dict[tuple[int, int], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class TargetContext:
  """What a method makes the targets of a mini-batch from.

  Attributes:
    groups: the groups of the mini-batch.
    advantages: float32 [P, G], one row per group.
    step: the training step.
    seed: the run's seed, for draws by name (randomness.host_rng).
    score: (sequences, records.Wanted) -> the teacher's scores of their
      responses, None where one did not come; without the second argument, the
      log-probs of the response tokens (nats, temperature 1) alone. It raises
      ValueError for a method whose row does not say `teacher_scores`.
    done: optimizer steps done before the mini-batch's own, for numbers that
      move with them.
    scored: (group, rollout) -> the targets of the teacher's pass over the whole
      rollout batch (credit.scores.score_rollouts); {} without such a pass.
    untaught: the rollouts without a lesson (distil.context), whose targets say
      that no token is taught.
  """
  groups: Sequence[Group]
  advantages: np.ndarray
  step: int
  seed: int
  score: Callable[..., Scores]
  scored: Targets = dataclasses.field(default_factory=dict)
  done: int = 0
  untaught: frozenset[tuple[int, int]] = frozenset()


# TargetContext -> Targets. A rollout without an entry is not trained, because
# its gradient would be 0; its tokens count in the token mean all the same.
MakeTargets = Callable[[TargetContext], Targets]


def draws(group: Group, seed: int, step: int, purpose: Purpose) -> np.ndarray:
  """Uniform draws [G] of a group, keyed by its question and kind of prompt."""
  prompt = group.prompt
  rng = question_rng(seed, step, purpose, prompt.question.id, prompt.kind)
  return rng.random(len(group.rollouts))


def sampler_logps(rollout: Rollout) -> np.ndarray:
  """float32 [R] nats as the sampler stored them.

  Raises:
    ValueError: for a text that no sampler of this run drew.
  """
  if not rollout.sampled:
    raise ValueError(
        f'a rollout of {len(rollout.tokens)} tokens has {len(rollout.logps)} '
        "log-probs; only a text that this run's policy drew has the target "
        "'sampler_logp'")
  return np.asarray(rollout.logps, np.float32)


def of_advantage(rollout: Rollout, advantage: float) -> dict[str, np.ndarray]:
  """'advantage', the same on every token, and 'sampler_logp' (nats)."""
  return {'advantage': np.full(len(rollout.tokens), advantage, np.float32),
          'sampler_logp': sampler_logps(rollout)}


def group_advantages(context: TargetContext) -> Targets:
  """`of_advantage` of the rollouts whose advantage is not 0."""
  return {
      (p, g): of_advantage(rollout, context.advantages[p][g])
      for p, group in enumerate(context.groups)
      for g, rollout in enumerate(group.rollouts)
      if context.advantages[p][g] != 0}
