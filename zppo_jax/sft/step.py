"""One supervised step, its numbers, and the loss on validation splits."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.arrays import MicroBatch, TrainState
from zppo_jax.devices import sharding
from zppo_jax.records import CallStats, TrainingSequence
from zppo_jax.sft import dataset
from zppo_jax.sft.dataset import Dataset
from zppo_jax.sft.run import SftRun
from zppo_jax.train.resume import RunState
from zppo_jax.train.run import Measured
from zppo_jax.train.step import Clock

_EVALUATED = 64  # conversations that are encoded at a time


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a step produced; `metrics_row` reads it.

  Attributes:
    step: the number of the step.
    state: the next TrainState, which the device may still be computing.
    buffer: the empty buffer.
    minibatches: ((micro-batches on the mesh, trained tokens),).
    tokens: tokens of the conversations, prompts included.
    conversations: their number.
    sums: the Sums of the update, on the device.
    norm: its gradient norm, on the device.
    seconds: seconds by phase.
    settled, calls: those of a step without a buffer and a teacher.
  """
  step: int
  state: TrainState
  buffer: ReplayBuffer
  minibatches: Sequence[tuple[list[MicroBatch], int]]
  tokens: int
  conversations: int
  sums: Any
  norm: Any
  seconds: dict[str, float]
  settled: None = None
  calls: CallStats = CallStats()


def trained_tokens(sequences: Sequence[TrainingSequence]) -> int:
  """Tokens that carry a loss."""
  return sum(int(np.sum(s.mask_R)) for s in sequences)


def micro_batches(run: SftRun,
                  sequences: Sequence[TrainingSequence]) -> list[MicroBatch]:
  """The micro-batches of conversations, on the mesh."""
  return [sharding.put_batch(run.mesh, b) for b in dataset.batches(
      sequences, run.room, max_tokens=run.micro_tokens,
      multiple=sharding.batch_shards(run.mesh), num_axes=run.model.num_axes,
      packed=run.packed)]


def sft_step(run: SftRun, at: RunState,
             read_previous: Callable[[], None] = lambda: None) -> Outcome:
  """One optimizer step on the conversations of step `at.step`.

  The loss is the mean over all trained tokens of the step, whatever
  micro-batches they lie in. The update may still run on the device when this
  function returns.

  Args:
    run: the run.
    at: where it stands.
    read_previous: reads the numbers of the step before; it is called when the
      rows of this step are ready, before its update.
  """
  clock = Clock()
  sequences = run.source.draw(at.step)
  batches, tokens = micro_batches(run, sequences), trained_tokens(sequences)
  clock.lap('data')
  read_previous()
  clock.restart()
  state, sums, norm = run.update_fn(at.state, batches, float(tokens),
                                    between=run.notice.pace)
  clock.lap('update')
  return Outcome(
      step=at.step, state=state, buffer=at.buffer,
      minibatches=((batches, tokens),),
      tokens=sum(len(s.sequence) for s in sequences),
      conversations=len(sequences), sums=sums, norm=norm, seconds=clock.seconds)


def metrics_row(run: SftRun, outcome: Outcome) -> dict[str, float]:
  """The numbers of a step by name (docs/metrics.md); it waits for the
  update."""
  clock = Clock(outcome.seconds)
  sums, norm = jax.device_get((outcome.sums, outcome.norm))
  clock.lap('update')
  (_, tokens), = outcome.minibatches
  spent = sum(clock.seconds.values())
  done = (outcome.step + 1) * run.source.batch
  return {
      'step': outcome.step, 'learning_rate': float(run.rate(outcome.step)),
      'sft/loss': float(sums.loss) / tokens,
      'sft/accuracy': float(sums.total['accuracy']) / tokens,
      'sft/tokens': tokens,
      'sft/tokens_per_second': outcome.tokens / max(spent, 1e-9),
      'sft/conversations': outcome.conversations,
      'sft/epoch': done / len(run.source.pool),
      'update/grad_norm': float(norm),
      'update/entropy': float(sums.total['entropy']) / tokens,
      'update/padding': float(sums.padding) / max(float(sums.positions), 1.0),
      'tokens/student_prompt': outcome.tokens - tokens,
      'tokens/student_trained': tokens,
      **clock.seconds}


def check(run: SftRun, row: dict) -> str | None:
  """Why a run may not continue after a step with these numbers, or None."""
  del run
  for name in ('sft/loss', 'update/grad_norm'):
    if not np.isfinite(row[name]):
      return f'{name} is {row[name]}'
  return None


def _of_split(run: SftRun, params, data: Dataset) -> tuple[float, float]:
  """(nats per token, share of tokens that are the likeliest) of a split."""
  loss = right = tokens = 0.0
  for start in range(0, len(data), _EVALUATED):
    for batch in micro_batches(run, data[start:start + _EVALUATED]):
      sums = jax.device_get(run.evaluate_fn(params, batch))
      loss += float(sums.loss)
      right += float(sums.total['accuracy'])
      tokens += float(sums.tokens)
  return loss / tokens, right / tokens


def numbers(run: SftRun) -> tuple[str, ...]:
  """The names of `evaluate`."""
  return tuple(f'{name}/{what}' for name in run.splits
               for what in ('loss', 'accuracy'))


def evaluate(run: SftRun, state: TrainState) -> Measured:
  """SPLIT/loss and SPLIT/accuracy of a state's policy on validation splits."""
  out = {}
  for name, data in run.splits.items():
    out[f'{name}/loss'], out[f'{name}/accuracy'] = _of_split(
        run, state.params, data)
  return Measured(out)
