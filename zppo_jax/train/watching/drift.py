"""How far a policy has left student.weights (`watch.drift`).

student.weights write a text for some questions once, at temperature 1. Each
evaluation scores these texts under the policy of its time: the mean of
log p_base - log p_policy estimates KL(base || policy) per token, which predicts
how much is forgotten (RL's Razor). It also counts the parameters that have
changed.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from zppo_jax.algorithms import zppo
from zppo_jax.randomness import Purpose
from zppo_jax.records import Question, Scores, TokenSequence
from zppo_jax.rollout import collect
from zppo_jax.runs import diagnostics


@jax.jit
def _changed(before: jax.Array, after: jax.Array) -> jax.Array:
  """How many numbers of a leaf differ after rounding to bfloat16."""
  rounded = lambda x: x.astype(jnp.bfloat16)
  return jnp.sum(rounded(before) != rounded(after), dtype=jnp.int32)


def changed_share(before: Any, after: Any) -> float:
  """`diagnostics.changed_share` of two trees on the devices."""
  pairs = list(zip(jax.tree.leaves(before), jax.tree.leaves(after),
                   strict=True))
  return (sum(int(_changed(x, y)) for x, y in pairs)
          / sum(x.size for x, _ in pairs))


@dataclasses.dataclass(frozen=True)
class Drift:
  """What an evaluation needs for it.

  Attributes:
    base: a rollout copy of student.weights.
    sampler: it draws one text per question at temperature 1, from the
      distribution that is scored.
    questions: those for which texts are written.
    reshard_fn: trained params -> a rollout copy.
    score_fn: (rollout copy, sequences) -> Scores at temperature 1.
    seed: the run's seed.
  """
  base: Any
  sampler: collect.Sampler
  questions: Sequence[Question]
  reshard_fn: Callable[[Any], Any]
  score_fn: Callable[[Any, Sequence[TokenSequence]], Scores]
  seed: int

  @functools.cached_property
  def written(self) -> tuple[list[TokenSequence], Scores]:
    """The texts of student.weights and their scores. A resumed run draws the
    same ones again, because the draws are keyed by question."""
    groups = collect.collect(
        self.sampler, self.base,
        zppo.plain_prompts(self.questions, self.sampler.chat), seed=self.seed,
        step=0, purpose=Purpose.EVALUATION)
    self.sampler.engine.release()
    sequences = [
        TokenSequence(prompt=g.prompt.tokens, media=g.prompt.media,
                      response=g.rollouts[0].tokens) for g in groups
        if g.rollouts[0].tokens]
    return sequences, self.score_fn(self.base, sequences)

  def of(self, trained: Any) -> Mapping[str, float]:
    """The numbers of an evaluation, by their names in eval.jsonl.

    Args:
      trained: the trained params.
    """
    sequences, base = self.written
    params = self.reshard_fn(trained)
    return {
        'drift/kl': diagnostics.drift(
            base.logps, self.score_fn(params, sequences).logps),
        'drift/changed_share': changed_share(self.base, params)}
