"""One training step: Algorithm 1, from the questions to the updated policy."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zppo_jax.algorithms import ahead, lessons as lesson_lib, zppo
from zppo_jax.algorithms.credit.scores import Scored
from zppo_jax.algorithms.lessons import Lessons
from zppo_jax.algorithms.replay import ReplayBuffer, Settlement
from zppo_jax.arrays import TrainState
from zppo_jax.learner import ewc
from zppo_jax.learner.update import no_sums
from zppo_jax.randomness import Purpose
from zppo_jax.records import CallStats, Group, Prompt, PromptKind, Question
from zppo_jax.rollout import collect
from zppo_jax.rollout.engine import Engine
from zppo_jax.runs import checkpoints, metrics, samples
from zppo_jax.teachers import panel
from zppo_jax.train import minibatches as minibatch_lib
from zppo_jax.train.compiling import likely
from zppo_jax.train.run import Run
from zppo_jax.train.watching import lift
from zppo_jax.train.watching.lift import Lift


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a step produced; `metrics_row` and `sample_rows` read it.

  Attributes:
    step: the number of the step.
    state: the next TrainState, which the device may still be computing.
    buffer: the next buffer.
    settled: what happened to the buffer, or None without a buffer.
    new, replayed: the questions that were asked plain.
    groups: all groups of the student, in the order of `new`, `replayed`,
      reformulated prompts.
    lessons: what was trained on: these groups, or texts of others.
    scored: the teacher's stored scores of what was trained on.
    reformulated: the reformulated prompts and how they came about.
    probe: the probe and its groups, or None in a step without a probe.
    calls: statistics of the calls to the teacher, probes included.
    advantages_PG: the advantages of the rollouts of `groups`.
    minibatches: the minibatches.MiniBatch of each update.
    gaps: the largest |sampler - trainer| log-prob of each micro-batch before
      the first update, nats, on the device; None if they were not computed.
    sums: the Sums of each update, on the device.
    norms: the gradient norm of each update, on the device.
    compilations: rollout programs compiled so far, by role.
    seconds: seconds by phase.
    lift: the teacher's answers with and without its context, or None in a step
      without them.
    ewc: the penalty of algorithm.ewc behind the updates, on the device; None
      without one.
  """
  step: int
  state: TrainState
  buffer: ReplayBuffer
  settled: Settlement | None
  new: Sequence[Question]
  replayed: Sequence[Question]
  groups: list[Group]
  lessons: Lessons
  scored: Scored
  reformulated: zppo.Reformulated
  probe: tuple[zppo.Probe, list[Group]] | None
  calls: CallStats
  advantages_PG: np.ndarray
  minibatches: Any
  gaps: Any
  sums: Sequence[Any]
  norms: Sequence[Any]
  compilations: dict[str, int]
  seconds: dict[str, float]
  ewc: Any = None
  lift: Lift | None = None


def _moved(state: TrainState) -> bool:
  """Whether any gradient has reached the optimizer's first moment."""
  moments = optax.tree_utils.tree_get(state.opt_state, 'mu')
  return any(bool(jnp.any(x)) for x in jax.tree.leaves(moments))


def _penalised_later(run: Run, state: TrainState, minibatches):
  """Mini-batches; those before the first advantage of the run are emptied.

  Until then the policy is its reference and the penalty has no gradient but
  rounding errors, of which Adam would make steps of full size.
  """
  moves = [of.rewarded or bool(of.gold) for of in minibatches]
  if run.reference is None or moves[0] or _moved(state):
    return minibatches
  first = [*moves, True].index(True)
  return [*(of._replace(batches=[]) for of in minibatches[:first]),
          *minibatches[first:]]


def update(run: Run, state: TrainState, minibatches):
  """I optimizer steps: (next state, [Sums], [gradient norm]).

  No optimizer step is made until a step has trained a row, because weight decay
  alone would shrink weights from which nothing was learnt. Later idle steps
  make theirs, in which the momentum of earlier steps continues.
  """
  run.notice.check()  # the first optimizer step takes the state over
  minibatches = _penalised_later(run, state, minibatches)
  if not any(of.batches or of.gold for of in minibatches) and (
      not _moved(state)):
    count = len(minibatches)
    return (state.replace(updates=state.updates + count),
            [jax.device_get(no_sums())] * count, [np.float32(0)] * count)
  sums, norms = [], []
  for of in minibatches:
    state, new_sums, norm = run.update_fn(
        state, of.batches, float(of.count), between=run.notice.pace,
        gold=of.gold)
    sums.append(new_sums)
    norms.append(norm)
  return state, sums, norms


@functools.cache
def _penalty_of(coefficient: float):
  """(params, start, fisher) -> the penalty that holds them, compiled."""
  return jax.jit(lambda params, start, fisher: ewc.Anchor(
      coefficient, start, fisher).penalty(params, start, fisher))


class Clock:
  """Seconds by phase of a step.

  Args:
    seconds: what earlier phases took; new seconds are added to it.
  """

  def __init__(self, seconds: dict[str, float] | None = None):
    self.seconds = dict(seconds or {})
    self._last = time.perf_counter()

  def restart(self) -> None:
    """Leaves out the time since the last lap."""
    self._last = time.perf_counter()

  def lap(self, name: str) -> None:
    now = time.perf_counter()
    key = f'time/{name}'
    self.seconds[key] = self.seconds.get(key, 0.0) + now - self._last
    self._last = now


def _probe(run: Run, plain: list[Group], step: int, ask):
  """(Probe, its groups), or None in a step without a probe."""
  if not run.probe.due(step):
    return None
  probe = zppo.probe_copying(
      plain, step, count=run.probe.questions, rules=run.rules,
      teacher=run.teacher, chat=run.sampler.chat, compress=run.compress)
  return probe, ask(probe.prompts)


def _engines(run: Run) -> dict[str, Engine]:
  """The engines of this process by role."""
  return {'student': run.sampler.engine, **{
      role: teacher.answers.engine
      for role, teacher in panel.in_process_of(run.teacher).items()}}


def _compilations(run: Run) -> dict[str, int]:
  return {role: engine.programs.compilations
          for role, engine in _engines(run).items()}


def _draw_under_context(run: Run, params, step: int,
                        prompts: list[Prompt]) -> Sequence[Group]:
  """Graded rollouts of prompts with a context, by the policy or the teacher."""
  if run.drawing.by_teacher:
    return run.teacher.draw(prompts, step)
  return collect.collect(run.sampler, params, prompts, seed=run.seed, step=step,
                         purpose=Purpose.PRIVILEGED)


def train_step(run: Run, state: TrainState, buffer: ReplayBuffer, step: int,
               read_previous: Callable[[], None] = lambda: None) -> Outcome:
  """One step of Algorithm 1.

  The update may still run on the device when this function returns: nothing
  here waits for its numbers, which are read by `metrics_row`.

  Args:
    run: the run.
    state: the state before the step.
    buffer: the buffer before the step.
    step: the number of the step.
    read_previous: is called once the first work of this step was given to the
      device, and before anything is asked of the policy or the teacher. The
      loop reads the numbers of the step before here. What it raises ends the
      step, which has changed nothing by then.
  """
  clock = Clock()
  chat = run.sampler.chat
  if run.own is not None:
    run = dataclasses.replace(run, teacher=run.own.at(run.teacher, state))
  if run.journal is not None:
    run.journal.begin(step, checkpoints.fingerprint(state.params))
  params = run.reshard_fn(state.params)
  ask = functools.partial(collect.collect, run.sampler, params,
                          seed=run.seed, step=step, purpose=Purpose.ROLLOUT)
  new = run.source.draw(step)
  replayed = zppo.draw_replays(buffer, new, step, run.rules, run.method)
  prompts = zppo.plain_prompts(new + replayed, chat)
  clock.lap('rollouts')
  read_previous()
  clock.restart()

  hard = dict(rules=run.rules, method=run.method, teacher=run.teacher,
              chat=chat, compress=run.compress, hint=run.hint)
  drawn = ask(prompts, ahead=ahead.of_plain(
      prompts, step, num_rollouts=run.num_rollouts, **hard))
  plain, early = drawn[:len(prompts)], drawn[len(prompts):]
  clock.lap('rollouts')
  settled = None
  if run.method.replay:
    buffer, settled = buffer.settle(plain, run.rules.tau, step)
  early += ask(ahead.of_hard(plain, step, **hard))
  clock.lap('rollouts')
  resting = buffer.resting(step, run.rules.rest_saturated)
  reformulated = zppo.reformulate_hard(plain, step, resting=resting, **hard)
  clock.lap('teacher')
  # Of reformulated prompts the longest take longest; plain ones are trained on
  # once the student is right at times.
  likely.trained_on(run, [
      *sorted(reformulated.prompts, key=lambda p: -len(p.tokens)), *prompts])
  groups = plain + collect.all_of(reformulated.prompts, early, ask)
  if run.rules.rest_saturated:
    buffer = buffer.with_saturated(groups, step)
  clock.lap('rollouts')
  probe = _probe(run, plain, step, ask)
  if probe:
    clock.lap('probe')

  advantages_PG = minibatch_lib.advantages(run, groups)
  lessons = lesson_lib.learn_from(
      lesson_lib.states_of(run.method.states, run.distil, run.seed, step),
      run.distil, plain, groups, step, teacher=run.teacher, stored=run.stored,
      longest=max(run.layout.response_buckets), drawing=run.drawing,
      draw=functools.partial(_draw_under_context, run, params, step))
  if lessons.others:
    clock.lap('teacher')
  scored = minibatch_lib.score_by_teacher(
      run, state, params, lessons.groups, step, lessons.read)
  lifted = None
  if run.lift.due(step) and scored.lessons is not None:
    lifted = lift.measure(run.teacher, scored.lessons.prompts, lessons.groups,
                          step, run.lift.questions)
    clock.lap('probe')
  # Caches and rollout copy make room for scoring and the update.
  del ask, params
  for engine in _engines(run).values():
    engine.release()
  minibatches, asked = minibatch_lib.make(
      run, lessons.groups,
      minibatch_lib.of_lessons(run, lessons, advantages_PG), step, scored)
  minibatches = minibatch_lib.with_gold(run, minibatches, plain, step)
  minibatches = minibatch_lib.score(run, state, minibatches)
  gaps = (minibatch_lib.sampler_gaps(minibatches)
          if run.num_updates > 1 and run.method.old_logps else None)
  clock.lap('scoring')
  state, sums, norms = update(run, state, minibatches)
  held = None if run.ewc is None else _penalty_of(run.ewc.coefficient)(
      state.params, *run.ewc.arrays)
  clock.lap('update')
  return Outcome(
      step=step, state=state, buffer=buffer, settled=settled, new=new,
      replayed=replayed, groups=groups, lessons=lessons, scored=scored,
      reformulated=reformulated, probe=probe,
      calls=(reformulated.calls + lessons.calls + scored.calls + asked
             + (probe[0].calls if probe else CallStats())),
      advantages_PG=advantages_PG, minibatches=minibatches, gaps=gaps,
      sums=sums, norms=norms, compilations=_compilations(run),
      seconds=clock.seconds, ewc=held, lift=lifted)


def metrics_row(run: Run, outcome: Outcome) -> dict[str, float]:
  """The numbers of a step by name (docs/metrics.md).

  It waits until the device has finished the step's updates. What the host knows
  is computed before that, while the device is at work.
  """
  clock = Clock(outcome.seconds)
  groups, reformulated = outcome.groups, outcome.reformulated
  host = {
      **metrics.of_groups(groups),
      **metrics.of_plain_splits(groups[:len(outcome.new)]),
      **{f'{metrics.REWARD}{name}': value
         for name, value in metrics.of_rewards(
             [g for g in groups if g.prompt.kind == PromptKind.PLAIN],
             run.scoring).items()},
      **metrics.of_advantages(outcome.advantages_PG),
      **metrics.of_reformulation(reformulated),
      **metrics.of_calls(reformulated, outcome.calls),
      **(metrics.of_lessons(outcome.lessons, outcome.scored)
         | metrics.of_scores(outcome.lessons, outcome.scored)
         | metrics.of_texts(outcome.lessons, **run.watched)
         if run.distil else {}),
      **metrics.of_contexts(outcome.scored.lessons),
      **metrics.of_drawn(outcome.lessons, groups),
      **(outcome.lift.numbers() if outcome.lift else {}),
      'plain/removed': sum(
          g.prompt.removed
          for g in groups[:len(outcome.new) + len(outcome.replayed)]),
      **metrics.of_tokens(groups,
                          (*reformulated.teacher, *outcome.lessons.teacher),
                          reformulated.written),
      **(metrics.of_probe(*outcome.probe) if outcome.probe else {})}
  clock.lap('log')
  sums, norms, gaps, held = jax.device_get(
      (outcome.sums, outcome.norms, outcome.gaps, outcome.ewc))
  clock.lap('update')
  tokens = [of.tokens for of in outcome.minibatches]
  row = {'step': outcome.step, 'learning_rate': float(run.rate(outcome.step)),
         **host, **metrics.of_updates(
             sums, tokens, norms, [of.count for of in outcome.minibatches])}
  if run.distil:
    # What was read before the updates says more than what is read in them.
    row.update({name: x for name, x in metrics.of_distillation(sums).items()
                if name not in row})
    row.update(metrics.of_order(
        [of.returned for of in outcome.minibatches], sums))
  row.update(metrics.of_sequence_clips(sums, len(groups) * run.num_rollouts))
  if run.reference is not None:
    row.update(metrics.of_reference(sums))
  if held is not None:
    row['ewc/penalty'] = float(held)
  if run.credit is not None and run.credit.gold is not None:
    row.update(metrics.of_gold(
        sums, sum(of.over_long for of in outcome.minibatches)))
  if outcome.settled is not None:
    row.update(metrics.of_buffer(outcome.buffer, outcome.settled))
  if run.rules.rest_saturated:
    row['buffer/resting'] = len(outcome.buffer.resting(
        outcome.step, run.rules.rest_saturated))
  if gaps is not None:
    row['sampler_trainer/logp_gap_max'] = float(np.max(gaps, initial=0))
  if run.correction.on:
    row.update(metrics.of_correction(sums))
  elif run.gap_measured:
    row.update(metrics.of_gap(sums))
  for role, count in outcome.compilations.items():
    row[f'compilations/{role}'] = count
  row['student_rollouts'] = len(groups) * run.num_rollouts
  clock.lap('log')
  return row | clock.seconds


def sample_rows(run: Run, outcome: Outcome) -> list[dict]:
  """Lines of samples.jsonl for a step; none where samples are not due."""
  if not run.samples.due(outcome.step):
    return []
  return samples.rows(
      outcome.groups, outcome.advantages_PG, outcome.reformulated,
      [q.id for q in outcome.replayed], outcome.step,
      count=run.samples.questions, seed=run.seed, chat=run.sampler.chat,
      lessons=outcome.lessons.others, scoring=run.scoring)
