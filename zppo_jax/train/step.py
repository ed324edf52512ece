"""One training step: Algorithm 1, from the questions to the updated policy."""

import dataclasses
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zppo_jax.algorithms import zppo
from zppo_jax.algorithms.replay import ReplayBuffer, Settlement
from zppo_jax.arrays import TrainState
from zppo_jax.learner.update import no_sums
from zppo_jax.records import CallStats, Group, Purpose
from zppo_jax.rollout import collect
from zppo_jax.runs import metrics, samples
from zppo_jax.teachers.in_process import InProcessTeacher
from zppo_jax.train import minibatches as minibatch_lib
from zppo_jax.train.run import Run


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The result of a step.

  Attributes:
    state: the next TrainState.
    buffer: the next buffer.
    row: metrics.
    settled: what happened to the buffer, or None without a buffer.
    samples: lines for samples.jsonl.
    groups: all groups that were trained on.
    minibatches: (micro-batches on the mesh, response tokens) of each update.
    calls: statistics of the calls to the teacher, probes included.
  """
  state: TrainState
  buffer: ReplayBuffer
  row: dict[str, float]
  settled: Settlement | None
  samples: list[dict]
  groups: list[Group]
  minibatches: Any
  calls: CallStats


def _moved(state: TrainState) -> bool:
  """Whether any gradient has reached the optimizer's first moment."""
  moments = optax.tree_utils.tree_get(state.opt_state, 'mu')
  return any(bool(jnp.any(x)) for x in jax.tree.leaves(moments))


def update(run: Run, state: TrainState, minibatches):
  """I optimizer steps: (next state, [Sums], [gradient norm]).

  No optimizer step is made until a step has trained a row, because weight decay
  alone would shrink weights from which nothing was learnt. Later idle steps
  make theirs, in which the momentum of earlier steps continues.
  """
  if not any(batches for batches, _ in minibatches) and not _moved(state):
    count = len(minibatches)
    return (state.replace(updates=state.updates + count),
            [jax.device_get(no_sums())] * count, [np.float32(0)] * count)
  sums, norms = [], []
  for batches, tokens in minibatches:
    state, new_sums, norm = run.update_fn(state, batches, float(tokens))
    sums.append(new_sums)
    norms.append(norm)
  return state, *jax.device_get((sums, norms))


class Clock:
  """Seconds by phase of a step."""

  def __init__(self):
    self.seconds: dict[str, float] = {}
    self._last = time.perf_counter()

  def lap(self, name: str) -> None:
    now = time.perf_counter()
    key = f'time/{name}'
    self.seconds[key] = self.seconds.get(key, 0.0) + now - self._last
    self._last = now


def train_step(run: Run, state: TrainState, buffer: ReplayBuffer,
               step: int) -> Outcome:
  """One step of Algorithm 1."""
  clock = Clock()
  chat = run.sampler.chat
  params = run.reshard_fn(state.params)
  ask = functools.partial(collect.collect, run.sampler, params,
                          seed=run.seed, step=step, purpose=Purpose.ROLLOUT)

  new = run.source.draw(step)
  replayed = zppo.draw_replays(buffer, new, step, run.rules, run.method)
  plain = ask(zppo.plain_prompts(new + replayed, chat))
  clock.lap('rollouts')
  settled = None
  if run.method.replay:
    buffer, settled = buffer.settle(plain, run.rules.tau, step)
  made = zppo.reformulate_hard(
      plain, step, rules=run.rules, method=run.method, teacher=run.teacher,
      chat=chat, compress=run.compress)
  clock.lap('teacher')
  groups = plain + ask(made.prompts)
  clock.lap('rollouts')
  probed, calls = {}, made.calls
  if run.probe.due(step):
    probe = zppo.probe_copying(
        plain, step, count=run.probe.questions, rules=run.rules,
        teacher=run.teacher, chat=chat, compress=run.compress)
    probed = metrics.of_probe(probe, ask(probe.prompts))
    calls += probe.calls
    clock.lap('probe')

  advantages_PG = minibatch_lib.advantages(run, groups)
  minibatches, scored = minibatch_lib.make(run, groups, advantages_PG, step)
  calls += scored
  minibatches = minibatch_lib.score(run, state, minibatches)
  gap = (minibatch_lib.sampler_gap(minibatches)
         if run.num_updates > 1 and run.method.old_logps else None)
  clock.lap('scoring')
  state, sums, norms = update(run, state, minibatches)
  clock.lap('update')

  row = {'step': step, 'learning_rate': float(run.rate(step)),
         **metrics.of_groups(groups),
         **metrics.of_plain_splits(plain[:len(new)]),
         **metrics.of_advantages(advantages_PG),
         **metrics.of_reformulation(made), **metrics.of_calls(made, calls),
         'plain/removed': sum(
             chat.plain(q.text).removed for q in new + replayed),
         **metrics.of_tokens(groups, made), **probed,
         **metrics.of_updates(sums, [t for _, t in minibatches], norms)}
  if settled is not None:
    row.update(metrics.of_buffer(buffer, settled))
  if gap is not None:
    row['sampler_trainer/logp_gap_max'] = gap
  if run.correction.on:
    row.update(metrics.of_correction(sums))
  elif run.gap_measured:
    row.update(metrics.of_gap(sums))
  row['compilations/student'] = run.sampler.engine.programs.compilations
  if isinstance(run.teacher, InProcessTeacher):
    row['compilations/teacher'] = (
        run.teacher.answers.engine.programs.compilations)
  row['student_rollouts'] = len(groups) * run.num_rollouts
  shown = []
  if run.samples.due(step):
    shown = samples.rows(
        groups, advantages_PG, made, [q.id for q in replayed], step,
        count=run.samples.questions, seed=run.seed, chat=chat)
  clock.lap('log')
  row.update(clock.seconds)
  return Outcome(state, buffer, row, settled, shown, groups, minibatches,
                 calls)
