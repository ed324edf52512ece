"""From the groups of a step to its mini-batches on the mesh."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zppo_jax.algorithms.methods import Method
from zppo_jax.algorithms.targets import TargetContext
from zppo_jax.arrays import MicroBatch, TrainState
from zppo_jax.devices import sharding
from zppo_jax.learner import layouts, packing
from zppo_jax.randomness import host_rng
from zppo_jax.records import (
  CallStats,
  Group,
  Prompt,
  PromptKind,
  Purpose,
  Question,
  Rollout,
  Scores,
  StopReason,
  TokenSequence,
  Verdict,
  Wanted,
)
from zppo_jax.teachers import PLAIN
from zppo_jax.train.run import Run


class MiniBatch(NamedTuple):
  """What one optimizer step is made of.

  Attributes:
    batches: micro-batches, on the mesh.
    tokens: response tokens of its groups, those of groups without a gradient
      included.
  """
  batches: list[MicroBatch]
  tokens: int


def advantages(run: Run, groups: Sequence[Group]) -> np.ndarray:
  """Advantages [len(groups), G] with statistics over these groups; a rollout
  without a verdict does not enter them and has advantage 0."""
  shape = (len(groups), run.num_rollouts)
  rewards, mask = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
  for p, group in enumerate(groups):
    rewards[p] = group.rewards
    mask[p] = [r.graded for r in group.rollouts]
  return run.advantage_fn(rewards, mask)


def make(run: Run, groups: Sequence[Group], advantages_PG: np.ndarray,
         step: int) -> tuple[list[MiniBatch], CallStats]:
  """I mini-batches, and statistics of the calls to the teacher for them."""
  split = packing.split_minibatches(
      len(groups), run.num_updates,
      host_rng(run.seed, step, Purpose.MINIBATCHES))
  calls = [CallStats()]

  def score(sequences: Sequence[TokenSequence],
            wanted: Wanted = PLAIN) -> Scores:
    if not run.method.teacher_scores:
      raise ValueError("a method's targets ask for scores of the teacher; its "
                       'row of methods.METHODS must say teacher_scores=True')
    scores = run.teacher.score(sequences, wanted, step)
    calls.append(scores.calls)
    return scores

  out = []
  for indices in split:
    chosen = [groups[i] for i in indices]
    advantages_pG = (advantages_PG[indices]
                     if run.advantage_scope == 'rollout_batch'
                     else advantages(run, chosen))
    targets = run.method.targets(TargetContext(
        groups=chosen, advantages=advantages_pG, step=step, seed=run.seed,
        score=score))
    batches = layouts.micro_batches(chosen, targets, run.layout)
    out.append(MiniBatch(
        batches=[sharding.put_batch(run.mesh, b) for b in batches],
        tokens=packing.trained_tokens(chosen)))
  return out, sum(calls[1:], calls[0])


def score(run: Run, state: TrainState,
          minibatches: Sequence[MiniBatch]) -> list[MiniBatch]:
  """Adds the target 'old_logp' by the trainer's own graph, before the first
  update. A method whose loss reads none needs no scoring, nor does a step of
  one update, which takes its own."""
  if run.num_updates == 1 or not run.method.old_logps:
    return list(minibatches)
  return [MiniBatch(
      batches=[b.with_target('old_logp', run.score_fn(state.params, b)[0])
               for b in batches], tokens=tokens)
      for batches, tokens in minibatches]


def sampler_gap(minibatches: Sequence[MiniBatch]) -> jax.Array:
  """Largest |sampler - trainer| log-prob on trained tokens (nats), on the
  device; 0 for a method without these targets."""
  gaps = [jnp.max(jnp.abs(b.targets['old_logp'] - b.targets['sampler_logp'])
                  * b.mask_BT)
          for batches, _ in minibatches for b in batches
          if {'old_logp', 'sampler_logp'} <= b.targets.keys()]
  return functools.reduce(jnp.maximum, gaps, jnp.zeros(()))


def _example_scores(sequences: Sequence[TokenSequence],
                    wanted: Wanted = PLAIN) -> Scores:
  """Scores of the right shapes, all 0."""
  def zeros(dtype, *axes: int):
    return tuple(np.zeros((len(s.response), *axes), dtype) for s in sequences)
  return Scores(
      logps=zeros(np.float32), calls=CallStats(),
      top_ids=zeros(np.int32, wanted.top) if wanted.top else (),
      top_logps=zeros(np.float32, wanted.top) if wanted.top else (),
      given_logps=tuple(np.zeros(np.shape(i), np.float32) for i in wanted.ids),
      entropies=zeros(np.float32) if wanted.entropy else ())


def example_targets(method: Method, num_updates: int) -> dict[str, np.ndarray]:
  """The targets of a made-up rollout, with the names, types and trailing axes
  that micro-batches of a run hold when they are trained on.

  Args:
    method: the run's method.
    num_updates: optimizer steps per step.
  """
  rollouts = tuple(
      Rollout(tokens=(0,), logps=(0.0,), text='', stop=StopReason.END,
              verdict=verdict, answer='')
      for verdict in (Verdict.CORRECT, Verdict.WRONG))
  prompt = Prompt(Question(id='example', text='', answer='', split=''),
                  PromptKind.PLAIN, tokens=(0,))
  targets = method.targets(TargetContext(
      groups=[Group(prompt, rollouts)], advantages=np.float32([[1, -1]]),
      step=0, seed=0, score=_example_scores))
  example = dict(next(iter(targets.values())))
  if num_updates > 1 and method.old_logps:
    example['old_logp'] = np.zeros(1, np.float32)
  return example
