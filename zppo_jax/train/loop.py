"""The loop: all steps of a run, from where the run's directory stands."""

import collections
import contextlib
import dataclasses
import json
import pathlib
import signal
import time
from collections.abc import Callable

import jax

from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.arrays import TrainState
from zppo_jax.chat import dates, hub_chat
from zppo_jax.data import digest
from zppo_jax.data.pool import Pool
from zppo_jax.devices import sharding
from zppo_jax.runs import checkpoints, console, lock, watch, workdir, writers
from zppo_jax.runs.checkpoints import Checkpoints
from zppo_jax.runs.metrics import trouble, ungraded
from zppo_jax.runs.totals import History
from zppo_jax.runs.workdir import Workdir
from zppo_jax.teachers.journal import CachedTeacher
from zppo_jax.train import attention_kernels, evaluate
from zppo_jax.train.build import build
from zppo_jax.train.run import Run
from zppo_jax.train.step import train_step
from zppo_jax.verdicts import verifier


class Interrupted(Exception):
  """A signal asked the run to stop; the run was saved and can be resumed.

  Attributes:
    number: the number of the signal.
  """

  def __init__(self, text: str, number: int):
    super().__init__(text)
    self.number = number


class Ungraded(RuntimeError):
  """More rollouts without a verdict than guard.max_ungraded allows."""


class TeacherFailed(RuntimeError):
  """More missing answers than teacher.max_failures; the run was saved."""


class Idle(RuntimeError):
  """More work in vain than guard.max_idle or teacher.min_answered allows; the
  run was saved."""


class Diverged(RuntimeError):
  """NaN, or probability ratios beyond guard.max_ratio."""


@dataclasses.dataclass(frozen=True)
class RunState:
  """Where a run stands between two steps; a checkpoint holds it.

  Attributes:
    step: the number of steps done.
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


def save(kept: Checkpoints, run: Run, at: RunState,
         files: dict | None = None) -> None:
  """Starts writing a checkpoint.

  Args:
    kept: the checkpoints of the run.
    run: the run.
    at: where it stands.
    files: sizes and digests of the run's line files (Workdir.written).
  """
  kept.save(at.step, at.state, {
      'buffer': at.buffer.dump(), 'history': at.history.dump(),
      'data': run.source.position(at.step), 'base': at.base,
      'latest': at.latest, 'words': hub_chat.record(run.sampler.chat)}, files)


def restore(kept: Checkpoints, run: Run, step: int) -> RunState:
  """What `save` wrote after `step` steps.

  Raises:
    CheckpointError: see checkpoints.Checkpoints.restore.
    ValueError: if a buffered question is not in the pool, or the data would
      not continue where it stopped in the checkpoint.
  """
  state, host = kept.restore(step, run.abstract_state)
  run.source.check_position(host['data'], step, kept.path.parent)
  buffer = ReplayBuffer.load(
      run.buffer_capacity, host['buffer'] if run.method.replay else [],
      run.source.find)
  return RunState(step, state, buffer, History.load(host['history']),
                  host['base'], host['latest'])


def _check_words(run: Run, step: int, host: dict) -> None:
  """ValueError if prompts would not be what they were; checkpoints of earlier
  versions do not say."""
  here = hub_chat.record(run.sampler.chat)
  there = host.get('words', here)
  differ = [f'{name} (now {here.get(name)!r}, then {there.get(name)!r})'
            for name in {**there, **here} if there.get(name) != here.get(name)]
  if differ:
    raise ValueError(
        f'the checkpoint after {step} steps was trained on other prompts: '
        f'{", ".join(differ)}. Put back what was changed in the files of '
        'student.weights, student.chat_template or in config.json, or fork '
        'the run into a new --workdir')


def _manifest(config, run: Run) -> dict:
  return {'model': run.description['model'],
          'config': workdir.config_values(config),
          'versions': workdir.versions()}


def fork(run: Run, config, path) -> RunState:
  """The standing of another run's checkpoint, as the start of a new run.

  State, buffer and step are carried over; totals start anew.

  Raises:
    FileNotFoundError, CheckpointError, ValueError: see `restore`; also if
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
  for note in other.notes:
    print(note, flush=True)
  base = evaluate_state(run, found.state)
  return dataclasses.replace(found, history=History(), base=base, latest=base)


def begin(run: Run, out: Workdir, kept: Checkpoints,
          forked: RunState | None, say: Callable[[str], None]) -> RunState:
  """Where this attempt starts: at a checkpoint of this run, at a checkpoint of
  another run, or at the pretrained weights. Lines after it are cut, and the
  user is told what somebody changed in the run's files."""
  if others := out.cores_before():
    say(f'warning: this process may use {workdir.usable_cores()} cores; '
        f'earlier attempts of this run had {", ".join(map(str, others))}. The '
        'last bits of sums depend on it, so the run will not end to the byte '
        'as it would have (docs/numerics.md)')
  step = kept.latest()
  if step is not None:
    at = restore(kept, run, step)
    held = kept.read(step)
    _check_words(run, step, held['host'])
    for line in (*kept.notes, *out.changes(step, held.get('files'))):
      say(f'warning: {line}')
    lines = out.cut(step)
    out.note(f'resumed after {step} steps; {lines} lines cut')
    return at
  if lines := out.cut(None):
    say(f'warning: {out.path} has no checkpoint; it starts from the beginning, '
        f'and {lines} lines of before are in {out.attempt}')
  if forked is not None:
    at = forked
    out.note(f'forked after {at.step} steps')
  else:
    state = run.init_state()
    base = evaluate_state(run, state)
    at = RunState(0, state, ReplayBuffer(run.buffer_capacity), History(), base,
                  base)
  out.log_eval(at.step, at.base, at.history)
  return at


@contextlib.contextmanager
def catch_signals():
  """Collects SIGINT and SIGTERM in the list that it yields; a second signal
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
  """Raises Ungraded, or Diverged once the step's batch is on disk, if a step's
  numbers are beyond the limits."""
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


def run_loop(run: Run, at: RunState, out: Workdir, kept: Checkpoints,
             outlets, screen, say: Callable[[str], None]) -> RunState:
  """Runs steps `at.step` to `run.steps`; logs, evaluates and saves when due.

  Raises:
    Interrupted: after a signal, once the step in progress is saved.
    TeacherFailed: if too many answers of the teacher are missing. The step is
      saved, and a resumed run starts counting anew.
    Idle: for more work in vain than guard.max_idle or teacher.min_answered
      allows. The step is saved, and a resumed run starts counting anew.
    Diverged: for NaN or an exploding ratio; the last checkpoint is intact.
    Ungraded: for too many rollouts without a verdict; the last checkpoint is
      intact.
    CheckpointError: if a checkpoint cannot be written.
  """
  spent: dict[str, float] = {}  # seconds by phase since the last written row
  begun = time.perf_counter()
  asked: collections.deque = collections.deque(maxlen=run.patience.window)
  seen = watch.Watch(run.vain)

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
      failed, vain = run.patience.ended(asked), None
      for line in seen.see(row):
        say(line)
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
      at = RunState(done, outcome.state, outcome.buffer, history, at.base,
                    latest)
      if not last:
        vain = seen.ended()
      if last or signals or failed or vain or run.checkpoint.due(done):
        save(kept, run, at, out.written())
        lap('checkpoint', since)
      if failed or vain:
        kept.wait()
        kind = TeacherFailed if failed else Idle
        raise kind(f'stopped after step {at.step - 1}, which is saved: '
                   f'{failed or vain}')
      if signals:
        kept.wait()
        name = signal.Signals(signals[0]).name
        out.note(f'{name}: saved after {done} steps')
        raise Interrupted(f'{name}: saved after {done} of {run.steps} steps; '
                          'the same command goes on from there', signals[0])
  kept.wait()
  return at


def _with_journal(run: Run, path: pathlib.Path) -> Run:
  """The run; if its teacher may answer differently a second time, answers are
  kept on disk."""
  if run.teacher is None or run.teacher.capabilities.repeatable:
    return run
  return dataclasses.replace(run, teacher=CachedTeacher.open(
      run.teacher, path / 'teacher.jsonl', run.sampler.chat,
      run.sampler.grader))


def read_complete(path, config) -> dict | None:
  """The summary of a run that has done all steps of its config, else None.

  Raises:
    ValueError: if the summary cannot be read, or differs from the last
      checkpoint, if there is one.
    CheckpointError: for a damaged checkpoint.
  """
  summary = workdir.read_summary(path)
  if summary is None or summary['steps'] != config.steps:
    return None
  told = {'method': config.method, 'seed': config.seed}
  held = checkpoints.peek(path / 'checkpoints', config.steps)
  if held is not None:
    host = held['host']
    told |= History.load(host['history']).summary(
        host['base'], host['latest'], config.steps)
  wrong = [name for name, value in json.loads(json.dumps(told)).items()
           if summary.get(name) != value]
  if wrong:
    raise ValueError(
        f'{path}/summary.json is not what the run came to: {wrong[0]} is '
        f'{summary.get(wrong[0])!r}, the run has {told[wrong[0]]!r}. Without '
        'that file the same command writes it again')
  return summary


class _Closing:
  """Closes everything that was opened, and raises the first error.

  An error in closing that follows another error only goes to the log, because
  it is mostly a consequence of the first.
  """

  def __init__(self, note: Callable[[str], None]):
    self._note, self._open = note, []

  def add(self, close: Callable[[], None]) -> None:
    self._open.append(close)

  def __enter__(self):
    return self

  def __exit__(self, kind, error, traceback):
    first = error
    while self._open:
      try:
        self._open.pop()()
      except Exception as e:
        if first is None:
          first = e
        else:
          with contextlib.suppress(OSError):
            self._note(f'then, in closing: {type(e).__name__}: {e}')
    if first is not error:
      raise first


def _found(path: pathlib.Path, config, fork_from) -> dict | None:
  """The summary of a directory whose run is complete, else None.

  Raises:
    FileExistsError, ValueError: if the directory holds anything but a run of
      this config, or if a fork would be written over a run.
  """
  stored = workdir.read_config(path)
  if stored is None:
    return None
  if fork_from is not None and not (
      stored['forked_from'] or {}).get('path') == str(fork_from):
    raise FileExistsError(f'{path} holds a run already; --fork-from needs '
                          'a new directory')
  workdir.check_same_config(path, stored, config)
  return read_complete(path, config)


def _alone(path: pathlib.Path):
  """The lock of a directory, which one process of a run takes."""
  return (lock.hold(path) if jax.process_index() == 0
          else contextlib.nullcontext())


def main(config, path, fork_from=None) -> dict:
  """Trains by a config in a directory and returns the summary.

  A new directory starts a run. A directory of the same config continues at its
  last checkpoint. A complete run is left unchanged.

  Args:
    config: the run's config.
    path: the run's directory.
    fork_from: a workdir or checkpoint from whose state a new run starts.

  Raises:
    Interrupted, TeacherFailed, Idle, Diverged, Ungraded, CheckpointError: see
      run_loop.
    Locked: if another process works in the directory.
    ValueError, KeyError, FileNotFoundError, FileExistsError: for a config, a
      directory or a checkpoint that does not fit; the message names it.
    OSError: for a file that cannot be written; the message names it.
  """
  path = pathlib.Path(path)
  complete = _found(path, config, fork_from)
  if complete is not None:
    return complete
  with contextlib.ExitStack() as alone:
    # An existing directory is locked before the build, which takes long. A
    # missing one is made later, so that a bad config leaves no directory.
    if there := path.is_dir():
      alone.enter_context(_alone(path))
    # A fork keeps the date of the prompts that its policy and buffer come from.
    day = dates.choose(config, path, fork_from)
    run = build(config, day)
    forked = None if fork_from is None else fork(run, config, fork_from)
    if not there:
      path.mkdir(parents=True, exist_ok=True)
      alone.enter_context(_alone(path))
      # Another process may have finished the run in the meantime.
      complete = _found(path, config, fork_from)
      if complete is not None:
        return complete
    out = Workdir.open(path, config, None if forked is None else {
        'path': str(fork_from), 'step': forked.step}, day.date.isoformat())
    return _work(run, config, out, forked)


def _work(run: Run, config, out: Workdir, forked: RunState | None) -> dict:
  """Runs an attempt in an opened directory to its end; returns the summary."""
  path = out.path
  if isinstance(run.source.pool, Pool):
    workdir.write_json(path / 'data.json', run.source.pool.record())
  for line in attention_kernels.summary(attention_kernels.of_run(run)):
    out.note(line)
  with _Closing(out.note) as closing:
    try:
      kept = Checkpoints(path / 'checkpoints', run.checkpoint,
                         _manifest(config, run))
      closing.add(kept.close)
      run = _with_journal(run, path)
      judging = contextlib.ExitStack()
      closing.add(judging.close)
      verdicts = judging.enter_context(
          verifier.journalled(run.verifier, out.verdicts))

      def say(text):
        """Prints a line in the terminal and writes it to the log."""
        out.note(text)
        print(text, flush=True)

      if verdicts.outdated:
        say(verdicts.note(out.verdicts))
      at = begin(run, out, kept, forked, say)
      workdir.write_json(path / digest.NAME, run.source.record())
      outlets = writers.open_all(
          config.log, path, workdir.config_values(config), at.step)
      for outlet in outlets:
        closing.add(outlet.close)
      at = _on_screen(run, at, out, kept, outlets)
    except BaseException as e:
      with contextlib.suppress(OSError):  # the disk may be full
        out.note(f'ended: {type(e).__name__}: {e}')
      raise
  summary = {'method': config.method, 'seed': config.seed,
             **at.history.summary(at.base, at.latest, at.step)}
  out.finish(summary, sharding.to_host(at.state.params), run.description)
  for line in watch.told(summary):
    out.note(line)
    print(line, flush=True)
  out.note(f'complete after {at.step} steps')
  return summary


def _on_screen(run: Run, at: RunState, out: Workdir, kept: Checkpoints,
               outlets) -> RunState:
  """`run_loop` with a screen for a person who watches."""
  screen = console.screen(run.steps, at.step)

  def say(text):
    out.note(text)
    screen.note(text)

  try:
    if at.step:
      screen.note(f'goes on after {at.step} of {run.steps} steps')
    screen.note(console.evaluation(at.step, at.latest))
    return run_loop(run, at, out, kept, outlets, screen, say)
  finally:
    screen.close()
