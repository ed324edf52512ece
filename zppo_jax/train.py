"""The loop: all steps of a run, from wherever its directory says it stands."""

import collections
import contextlib
import dataclasses
import pathlib
import signal
import time

from zppo_jax import (
  checkpoints,
  console,
  evaluate,
  kernels,
  sharding,
  workdir,
  writers,
)
from zppo_jax.build import Run, build
from zppo_jax.checkpoints import Checkpoints
from zppo_jax.data.pool import Pool
from zppo_jax.history import History
from zppo_jax.metrics import trouble, ungraded
from zppo_jax.records import TrainState
from zppo_jax.replay import ReplayBuffer
from zppo_jax.step import train_step
from zppo_jax.teachers.journal import Journalled
from zppo_jax.verdicts import verifier
from zppo_jax.workdir import Workdir


class Interrupted(Exception):
  """A signal asked the run to stop; it was saved and can go on.

  Attributes:
    number: of the signal.
  """

  def __init__(self, text: str, number: int):
    super().__init__(text)
    self.number = number


class Ungraded(RuntimeError):
  """More rollouts without a verdict than guard.max_ungraded."""


class TeacherFailed(RuntimeError):
  """More missing answers than teacher.max_failures; the run was saved."""


class Diverged(RuntimeError):
  """NaN, or probability ratios beyond guard.max_ratio."""


@dataclasses.dataclass(frozen=True)
class Standing:
  """Where a run stands between two steps; what a checkpoint holds.

  Attributes:
    step: steps done.
    state: TrainState.
    buffer: the replay buffer.
    history: totals.
    base: accuracy by split before the first step of this run.
    latest: accuracy by split at the last evaluation.
  """
  step: int
  state: TrainState
  buffer: ReplayBuffer
  history: History
  base: dict[str, float]
  latest: dict[str, float]


def evaluate_state(run: Run, state: TrainState) -> dict[str, float]:
  params = run.reshard_fn(state.params)
  return evaluate.accuracy(run.greedy, params, run.splits, run.seed)


def save(kept: Checkpoints, run: Run, at: Standing) -> None:
  """Starts writing a checkpoint."""
  kept.save(at.step, at.state, {
      'buffer': at.buffer.dump(), 'history': at.history.dump(),
      'data': run.source.position(at.step), 'base': at.base,
      'latest': at.latest})


def restore(kept: Checkpoints, run: Run, step: int) -> Standing:
  """What `save` wrote after `step` steps.

  Raises:
    CheckpointError: as checkpoints.Checkpoints.restore.
    ValueError: if a buffered question is not in the pool, or the data would
      not go on where the checkpoint's stopped.
  """
  state, host = kept.restore(step, run.abstract_state)
  if host['data'] != run.source.position(step):
    raise ValueError(
        f'the checkpoint after {step} steps stands at {host["data"]} of its '
        f'data; this config would go on at {run.source.position(step)}')
  buffer = ReplayBuffer.load(
      run.buffer_capacity, host['buffer'] if run.method.replay else [],
      run.source.find)
  return Standing(step, state, buffer, History.load(host['history']),
                  host['base'], host['latest'])


def _manifest(config, run: Run) -> dict:
  return {'model': run.description['model'],
          'config': workdir.config_values(config),
          'versions': workdir.versions()}


def fork(run: Run, config, path) -> Standing:
  """The standing of another run's checkpoint, as the start of a new one.

  State, buffer and step carry over; totals start anew.

  Raises:
    FileNotFoundError, CheckpointError, ValueError: as `restore`, or if
      `steps` does not reach beyond the checkpoint.
  """
  folder, step = checkpoints.open_any(path)
  other = Checkpoints(folder, run.checkpoint, _manifest(config, run),
                      read_only=True)
  step = other.latest() if step is None else step
  if not step < run.steps:
    raise ValueError(f'steps is {run.steps}; the checkpoint to fork from '
                     f'already stands at {step}')
  found = restore(other, run, step)
  other.close()
  base = evaluate_state(run, found.state)
  return dataclasses.replace(found, history=History(), base=base, latest=base)


def begin(run: Run, out: Workdir, kept: Checkpoints,
          forked: Standing | None) -> Standing:
  """Where this attempt starts: a checkpoint of this run, one of another, or
  the pretrained weights. Lines beyond it are cut."""
  step = kept.latest()
  if step is not None:
    at = restore(kept, run, step)
    lines = out.cut(step)
    out.note(f'resumed after {step} steps; {lines} lines cut')
    return at
  out.cut(None)
  if forked is not None:
    at = forked
    out.note(f'forked after {at.step} steps')
  else:
    state = run.init_state()
    base = evaluate_state(run, state)
    at = Standing(0, state, ReplayBuffer(run.buffer_capacity), History(), base,
                  base)
  out.log_eval(at.step, at.base, at.history)
  return at


@contextlib.contextmanager
def catch_signals():
  """SIGINT and SIGTERM are kept in the list that is yielded; a second one
  raises KeyboardInterrupt at once."""
  found: list[int] = []

  def handle(number, frame):
    del frame
    if found:
      raise KeyboardInterrupt
    found.append(number)

  kinds = (signal.SIGINT, signal.SIGTERM)
  before = [signal.signal(kind, handle) for kind in kinds]
  try:
    yield found
  finally:
    for kind, handler in zip(kinds, before, strict=True):
      signal.signal(kind, handler)


def _check(run: Run, out: Workdir, outcome) -> None:
  """Ungraded, or Diverged with the step's batch on disk, if the numbers say
  so."""
  reason = ungraded(outcome.row, run.max_ungraded)
  if reason is not None:
    reasons = run.verifier.reasons()
    raise Ungraded(
        f'stopped at step {outcome.row["step"]}: {reason}'
        + ''.join(f'; {why}' for why in reasons)
        + f'. No checkpoint holds this update; {out.verdicts} keeps all '
        'verdicts but crashes, remove it to have them graded anew')
  reason = trouble(outcome.row, run.max_ratio)
  if reason is None:
    return
  step = outcome.row['step']
  batches = [(i, sharding.to_host(batch))
             for i, (found, _) in enumerate(outcome.minibatches)
             for batch in found]
  folder = out.keep_batch(step, reason, batches)
  raise Diverged(f'stopped at step {step}: {reason}. Its batch is in {folder}; '
                 'no checkpoint holds this update')


def run_loop(run: Run, at: Standing, out: Workdir, kept: Checkpoints,
             outlets, screen) -> Standing:
  """Steps `at.step` to `run.steps`; logs, evaluates and saves as due.

  Raises:
    Interrupted: after a signal, once the step in progress is saved.
    TeacherFailed: if too many answers of the teacher are missing; the step is
      saved, and a resumed run counts anew.
    Diverged: for NaN or an exploding ratio; the last checkpoint is intact.
    Ungraded: for too many rollouts without a verdict; likewise.
    CheckpointError: if a checkpoint cannot be written.
  """
  spent: dict[str, float] = {}  # by what came after the last row was written
  begun = time.perf_counter()
  asked: collections.deque = collections.deque(maxlen=run.patience.window)

  def lap(name, since):
    now = time.perf_counter()
    spent[f'time/{name}'] = spent.get(f'time/{name}', 0.0) + now - since
    return now

  with catch_signals() as signals:
    while at.step < run.steps:
      outcome = train_step(run, at.state, at.buffer, at.step)
      _check(run, out, outcome)
      row, history = outcome.row, at.history
      if outcome.calls.answers:
        asked.append(outcome.calls)
      failed = run.patience.ended(asked)
      row.update(spent)
      spent.clear()
      since = time.perf_counter()
      history.add(row, outcome.settled)
      if outcome.settled is not None:
        out.log_fates(at.step, outcome.settled)
      out.log_samples(outcome.samples)
      out.log_step(row)
      for outlet in outlets:
        outlet.write(at.step, row)
      screen.step(row)
      since = lap('log', since)

      done, latest = at.step + 1, at.latest
      last = done == run.steps
      if last or (run.eval_every and done % run.eval_every == 0):
        latest = evaluate_state(run, outcome.state)
        out.log_eval(done, latest, history)
        screen.note(console.evaluation(done, latest))
        for outlet in outlets:
          outlet.write(done, {f'eval/{s}': a for s, a in latest.items()})
        since = lap('evaluate', since)
      now = time.perf_counter()
      history.seconds += now - begun
      begun = now
      at = Standing(done, outcome.state, outcome.buffer, history, at.base,
                    latest)
      if last or signals or failed or run.checkpoint.due(done):
        save(kept, run, at)
        lap('checkpoint', since)
      if failed:
        kept.wait()
        raise TeacherFailed(f'stopped after step {at.step - 1}, which is '
                            f'saved: {failed}')
      if signals:
        kept.wait()
        name = signal.Signals(signals[0]).name
        out.note(f'{name}: saved after {done} steps')
        raise Interrupted(f'{name}: saved after {done} of {run.steps} steps; '
                          'the same command goes on from there', signals[0])
  kept.wait()
  return at


def _with_journal(run: Run, path: pathlib.Path) -> Run:
  """The run with answers kept on disk where they may not come again."""
  if run.teacher is None or run.teacher.capabilities.repeatable:
    return run
  return dataclasses.replace(run, teacher=Journalled.open(
      run.teacher, path / 'teacher.jsonl', run.sampler.chat,
      run.sampler.grader))


def main(config, path, fork_from=None) -> dict:
  """Trains by a config in a directory and returns the summary.

  A new directory starts a run; that of the same config goes on where its last
  checkpoint stands; a complete one is left as it is.

  Args:
    config: the run's config.
    path: its directory.
    fork_from: a workdir or checkpoint whose state a new run starts from.

  Raises:
    Interrupted, TeacherFailed, Diverged, Ungraded, CheckpointError: as
      run_loop.
    ValueError, KeyError, FileNotFoundError, FileExistsError: for a config, a
      directory or a checkpoint that does not fit, naming what.
  """
  path = pathlib.Path(path)
  stored = workdir.read_config(path)
  if stored is not None:
    if fork_from is not None and not (
        stored['forked_from'] or {}).get('path') == str(fork_from):
      raise FileExistsError(f'{path} holds a run already; --fork-from needs '
                            'a new directory')
    workdir.check_same_config(path, stored, config)
    complete = workdir.read_summary(path)
    if complete is not None and complete['steps'] == config.steps:
      return complete
  run = build(config)
  forked = None if fork_from is None else fork(run, config, fork_from)
  out = Workdir.open(path, config, None if forked is None else {
      'path': str(fork_from), 'step': forked.step})
  if isinstance(run.source.pool, Pool):
    workdir.write_json(path / 'data.json', run.source.pool.record())
  for line in kernels.summary(kernels.of_run(run)):
    out.note(line)
  kept = Checkpoints(path / 'checkpoints', run.checkpoint,
                     _manifest(config, run))
  run = _with_journal(run, path)
  outlets = []
  judging = contextlib.ExitStack()
  try:
    judging.enter_context(verifier.journalled(run.verifier, out.verdicts))
    at = begin(run, out, kept, forked)
    outlets = writers.open_all(config.log, path, workdir.config_values(config),
                               at.step)
    screen = console.screen(run.steps, at.step)
    try:
      if at.step:
        screen.note(f'goes on after {at.step} of {run.steps} steps')
      screen.note(console.evaluation(at.step, at.latest))
      at = run_loop(run, at, out, kept, outlets, screen)
    finally:
      screen.close()
  except BaseException as e:
    out.note(f'ended: {type(e).__name__}: {e}')
    raise
  finally:
    for outlet in outlets:
      outlet.close()
    kept.close()
    judging.close()
  summary = {'method': config.method, 'seed': config.seed,
             **at.history.summary(at.base, at.latest, at.step)}
  out.finish(summary, sharding.to_host(at.state.params), run.description)
  out.note(f'complete after {at.step} steps')
  return summary
