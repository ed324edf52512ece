"""Greedy plain accuracy of a policy on evaluation splits."""

from collections.abc import Mapping, Sequence

from zppo_jax import rollouts, zppo
from zppo_jax.records import Purpose, Question


def accuracy(sampler: rollouts.Sampler, params,
             splits: Mapping[str, Sequence[Question]],
             seed: int) -> dict[str, float]:
  """Mean reward by split, each question asked plain.

  Args:
    sampler: with the evaluation's decoding; several rollouts are averaged.
    params: policy in the rollout sharding.
    splits: split -> questions; all are sampled together.
    seed: of the draws, if the decoding draws.
  """
  questions = [q for found in splits.values() for q in found]
  prompts = zppo.plain_prompts(questions, sampler.chat)
  groups = rollouts.collect(sampler, params, prompts, seed=seed, step=0,
                            purpose=Purpose.EVALUATION)
  out, start = {}, 0
  for split, found in splits.items():
    chosen = groups[start:start + len(found)]
    out[split] = sum(g.accuracy for g in chosen) / len(found)
    start += len(found)
  return out
