"""The loop: all steps of a run, from where the run's directory stands.

The numbers of a step are read, checked and written while the next step is under
way, so that the host does not wait for the update. They are read earlier where
something must know them: a checkpoint, an evaluation, the end of the run.
"""

import collections
import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Sequence

import jax

from zppo_jax.chat import dates
from zppo_jax.data import digest
from zppo_jax.data.pool import Pool
from zppo_jax.devices import disk, hosts, sharding
from zppo_jax.devices.notice import Notice, Noticed, heed
from zppo_jax.models import lora
from zppo_jax.runs import checkpoints, console, same_config, watch, workdir
from zppo_jax.runs.checkpoints import Checkpoints
from zppo_jax.runs.totals import History
from zppo_jax.runs.workdir import Workdir
from zppo_jax.runs.writers import Writer, open_writers
from zppo_jax.train import (
  attention_kernels,
  evaluate,
  guards,
  models as loading,
  resume,
)
from zppo_jax.train.build import build, with_row
from zppo_jax.train.compiling import likely
from zppo_jax.train.control import (
  best,
  callbacks,
  directory,
  evaluations,
  journals,
)
from zppo_jax.train.control.callbacks import Events
from zppo_jax.train.control.evaluations import Evaluations
from zppo_jax.train.guards import Idle, Interrupted, TeacherFailed
from zppo_jax.train.resume import RunState
from zppo_jax.train.run import Procedure, Run
from zppo_jax.train.shapes import auto
from zppo_jax.train.step import Outcome, metrics_row, sample_rows, train_step
from zppo_jax.train.watching import signs
from zppo_jax.weights import safetensors_file


@contextlib.contextmanager
def catch_signals(notice: Notice):
  """Notes the number of a SIGINT or SIGTERM, while the context lasts.

  A second signal raises KeyboardInterrupt with its number at once, and so does
  a Ctrl-C that came before and was dropped (`notice.interrupts`). In a thread
  other than the main one nothing is noted, because Python delivers signals to
  that alone.
  """
  def handle(number, frame):
    del frame
    if notice.number:
      raise KeyboardInterrupt(number)
    notice.number = number

  of_main = threading.current_thread() is threading.main_thread()
  kinds = (signal.SIGINT, signal.SIGTERM) if of_main else ()
  before = [signal.signal(kind, handle) for kind in kinds]
  try:
    heed()
    yield
  finally:
    for kind, handler in zip(kinds, before, strict=True):
      signal.signal(kind, handler)


def _check(run: Run, out: Workdir, outcome: Outcome, row: dict) -> None:
  """Raises an error if a step's numbers are beyond the limits.

  Raises:
    Ungraded: for too many rollouts without a verdict.
    Diverged: for NaN or an exploding ratio, once the step's batch is on disk.
  """
  why = guards.ungraded(row, run.max_ungraded)
  if why is not None:
    reasons = run.verifier.reasons()
    raise guards.Ungraded(
        f'stopped at step {outcome.step}: {why}'
        + ''.join(f'; {reason}' for reason in reasons)
        + f'. No checkpoint holds this update; {out.verdicts} keeps all '
        'verdicts but crashes, remove it to have them graded anew')
  why = guards.trouble(row, run.max_ratio)
  if why is not None:
    stop_diverged(out, outcome, why)


def stop_diverged(out: Workdir, outcome, why: str) -> None:
  """Raises Diverged for a step, once its batch is on disk."""
  batches = [(i, sharding.to_host(batch))
             for i, (micro_batches, *_) in enumerate(outcome.minibatches)
             for batch in micro_batches]
  folder = out.keep_batch(outcome.step, why, batches)
  raise guards.Diverged(
      f'stopped at step {outcome.step}: {why}. Its batch is in {folder}; '
      'no checkpoint holds this update')


def _opened(run: Run, config, out: Workdir, add, say) -> Run:
  """The run with its journals; what its first step needs gets compiled."""
  likely.begin(run, add, out.note)
  return journals.with_journals(run, config, out, add, say)


# Reinforcement learning. The functions are looked up when they are called.
RL = Procedure(
    of_workdir=lambda config, path: auto.of_workdir(with_row(config), path),
    proposed=auto.proposed,
    build=lambda config, day: build(config, day),
    opened=_opened,
    kernels=lambda run: attention_kernels.summary(
        attention_kernels.of_run(run)),
    step=lambda run, at, read_previous: train_step(
        run, at.state, at.buffer, at.step, read_previous),
    row=lambda run, outcome: metrics_row(run, outcome),
    samples=lambda run, outcome: sample_rows(run, outcome),
    check=_check,
    evaluate=lambda run, state: evaluate.of_state(run, state),
    numbers=evaluate.names,
    drift=lambda run, state: (
        {} if run.drift is None else run.drift.of(state.params)))


class Recorder:
  """Reads, checks and writes the numbers of the steps of one attempt.

  A step is added when its work was given to the device, and recorded once, as
  late as possible: reading its numbers waits for the device.

  Args:
    run: the run.
    out: its directory.
    history: its totals, to which recorded steps are added.
    writers: where numbers go besides the directory.
    progress: what a person sees.
    say: shows the user a line.
    procedure: what a run of this kind does.
    plan: when it evaluates what.
    events: tells the user's callbacks.

  Attributes:
    seconds: seconds by phase since the last written row. The next row holds
      them, because a row cannot hold how long its own writing takes.
  """

  def __init__(self, run: Run, out: Workdir, history: History,
               writers: Sequence[Writer], progress: console.ProgressView,
               say: Callable[[str], None], procedure: Procedure = RL,
               plan: Evaluations | None = None, events: Events | None = None):
    self.procedure = procedure
    self.plan = plan or Evaluations(splits=tuple(run.splits))
    self._events = events or Events({}, out.path)
    self._run, self._out, self._history = run, out, history
    self._writers, self._progress, self._say = writers, progress, say
    self._pending: Outcome | None = None
    self._calls: collections.deque = collections.deque(
        maxlen=run.patience.window)
    self._watch = watch.Watch(run.vain)
    self._saved: int | None = None  # steps in the checkpoint begun last
    self._since = time.perf_counter()
    self.seconds: dict[str, float] = {}

  def lap(self, name: str, since: float) -> None:
    """Adds the seconds since `since` to a phase."""
    key = f'time/{name}'
    self.seconds[key] = (
        self.seconds.get(key, 0.0) + time.perf_counter() - since)

  def add(self, outcome: Outcome) -> None:
    """Takes a step, whose predecessor must have been recorded."""
    self._pending = outcome

  def record(self) -> Exception | None:
    """Records the step that was added last, unless that was done before.

    Returns:
      The error with which the run must stop after this step, once the step is
      saved: TeacherFailed or Idle; else None.

    Raises:
      Ungraded, Diverged: see the procedure's check. Nothing of the step is
        written then.
    """
    outcome, self._pending = self._pending, None
    if outcome is None:
      return None
    row = self.procedure.row(self._run, outcome)
    self.procedure.check(self._run, self._out, outcome, row)
    since = time.perf_counter()
    shown = self.procedure.samples(self._run, outcome)
    self.lap('log', since)
    # A phase may have both: time in this step, and time after the last row.
    for name, seconds in self.seconds.items():
      row[name] = row.get(name, 0.0) + seconds
    self.seconds.clear()
    # Rules that stop a run may read seconds, which no two processes share.
    row = hosts.broadcast(row, 'the numbers of a step')
    for line in self._watch.see(row):
      self._say(line)
    since = time.perf_counter()
    self._write(outcome, row, shown)
    self.lap('log', since)
    return self._stop(outcome, row)

  def _write(self, outcome: Outcome, row: dict, shown: list[dict]) -> None:
    self._history.add(row, outcome.settled)
    if outcome.settled is not None:
      self._out.log_fates(outcome.step, outcome.settled)
    self._out.log_samples(shown)
    self._out.log_step(row)
    for writer in self._writers:
      writer.write(outcome.step, row)
    self._progress.step(row)
    self._events.tell('step', outcome.step, row)

  def _stop(self, outcome: Outcome, row: dict) -> Exception | None:
    if outcome.calls.answers:
      self._calls.append(outcome.calls)
    text = f'stopped after step {outcome.step}, which is saved: '
    if why := self._run.patience.ended(self._calls):
      return TeacherFailed(text + why)
    if 'distil/missing' in row and (why := guards.unscored(
        row, self._run.distil.max_missing)):
      error = outcome.calls.error
      last_error = f'; last error: {error}' if error else ''
      return TeacherFailed(text + why + last_error)
    last = outcome.step + 1 == self._run.steps  # it stops anyway
    if not last and (why := self._watch.ended()):
      return Idle(text + why)
    return None

  def evaluate(self, at: RunState) -> RunState:
    """Evaluates the splits that are due, writes the numbers, and notes them in
    the state; all splits if the run ends with this evaluation."""
    due = self.plan.due(at.step, at.step == self._run.steps)
    at = self._evaluate(at, due)
    rest = [name for name in self.plan.splits if name not in due]
    return self._evaluate(at, rest) if rest and self.plan.ended(
        at.best) else at

  def _evaluate(self, at: RunState, splits: Sequence[str]) -> RunState:
    since = time.perf_counter()
    run = self._run
    if len(splits) < len(self.plan.splits):
      run = dataclasses.replace(
          run, splits={name: run.splits[name] for name in splits})
    accuracy, beside = self.procedure.evaluate(run, at.state)
    numbers = {**accuracy, **beside, **self.procedure.drift(run, at.state)}
    self._out.log_eval(at.step, numbers, self._history)
    self._progress.note(console.evaluation(at.step, accuracy))
    for writer in self._writers:
      writer.write(at.step, {f'eval/{s}': a for s, a in numbers.items()})
    self._events.tell('evaluation', at.step, numbers)
    self.lap('evaluate', since)
    return dataclasses.replace(
        at, latest={**at.latest, **accuracy}, evaluated=True,
        best=self.plan.judged(at.best, at.step, numbers))

  def keep_best(self, store: Checkpoints, at: RunState, weights) -> None:
    """Writes the weights of the best evaluation if these are they.

    Args:
      store: the checkpoints, of which that one is kept.
      at: where the run stands.
      weights: TrainState -> the result of `_final`.
    """
    if at.best is None:
      return
    store.kept = at.best.step
    if (at.best.step != at.step
        or hosts.from_first(lambda: best.step_of(self._out.path)) == at.step):
      return
    since = time.perf_counter()
    store.wait()  # a kill from here on resumes at these weights
    params, description, adapters = weights(at.state)
    files = {safetensors_file.FINAL: (params, description)}
    if adapters is not None:
      files[safetensors_file.ADAPTERS] = adapters
    if self._out.writes:
      best.write(self._out.path, at.best, files)
    self._events.tell('best', at.step, {at.best.metric: at.best.value})
    self.lap('checkpoint', since)

  def save(self, store: Checkpoints, at: RunState) -> None:
    """Starts writing a checkpoint; `record` must have been called before."""
    since = time.perf_counter()
    self.count_seconds()
    resume.save(store, self._run, at, self._out.written())
    # The checkpoint before this one is on disk now.
    self._forget(self._saved)
    self._saved = at.step
    self._events.tell('checkpoint', at.step)
    self.lap('checkpoint', since)

  def finish(self, store: Checkpoints) -> None:
    """Waits until the last checkpoint is on disk."""
    store.wait()
    self._forget(self._saved)

  def _forget(self, step: int | None) -> None:
    """Drops kept rollouts of the steps that a checkpoint holds."""
    if self._run.journal is not None and step is not None:
      self._run.journal.cut(step)

  def count_seconds(self) -> None:
    """Adds the time since the last call to the totals."""
    now = time.perf_counter()
    self._history.seconds += now - self._since
    self._since = now


def run_loop(run: Run, at: RunState, out: Workdir, store: Checkpoints,
             recorder: Recorder, weights=None) -> RunState:
  """Runs steps `at.step` to `run.steps`; records, evaluates and saves when due.

  It ends earlier if best.patience says so.

  Args:
    run: the run.
    at: where it stands.
    out: its directory.
    store: its checkpoints.
    recorder: writes its numbers.
    weights: TrainState -> the result of `_final`, for the best weights.

  Raises:
    Interrupted: after a signal, once the state and what was drawn are saved.
    TeacherFailed: if too many answers or scores of the teacher are missing. The
      step is saved, and a resumed run starts counting anew.
    Idle: for more work in vain than guard.max_idle or teacher.min_answered
      allows. The step is saved, and a resumed run starts counting anew.
    Diverged: for NaN or an exploding ratio; the last checkpoint is intact.
    Ungraded: for too many rollouts without a verdict; the last checkpoint is
      intact.
    CheckpointError: if a checkpoint cannot be written.
  """
  def record_previous() -> None:
    """Records the step before; saves it and raises if the run must stop."""
    error = recorder.record()
    if error is not None:
      recorder.save(store, at)  # the state before the step under way
      recorder.finish(store)
      raise error

  def interrupted(number: int, in_step: bool = False) -> Interrupted:
    """The error that ends the run, once its last checkpoint is on disk."""
    recorder.finish(store)
    name = signal.Signals(number).name
    steps = store.latest()
    text = (f'{name}: saved after {steps or 0} of {run.steps} steps'
            + (resume.again_from(run) if in_step else ''))
    out.note(text)
    return Interrupted(f'{text}; the same command goes on from there', number)

  plan = recorder.plan
  with catch_signals(run.notice):
    begun = at.step
    if not at.evaluated:
      at = recorder.evaluate(at)
    if store.latest() is not None:
      recorder.keep_best(store, at, weights)
    elif at.best is None:
      at = dataclasses.replace(
          at, best=plan.judged(None, at.step, {**at.latest, **at.beside}))
    while at.step < run.steps and not plan.ended(at.best):
      try:
        outcome = recorder.procedure.step(run, at, record_previous)
      except Noticed as notice:
        record_previous()
        if at.step > begun and at.intact:
          recorder.save(store, at)
        raise interrupted(notice.number, in_step=True) from None
      except Exception:
        record_previous()  # it is complete, whatever failed in this step
        raise
      recorder.add(outcome)
      at = dataclasses.replace(at, step=at.step + 1, state=outcome.state,
                               buffer=outcome.buffer)
      del outcome  # its batches live until it is recorded
      last = at.step == run.steps
      evaluates = bool(last or plan.due(at.step))
      number = run.notice.agreed()
      if not (evaluates or number or run.checkpoint.due(at.step)):
        continue
      error = recorder.record()
      if evaluates:
        try:
          at = recorder.evaluate(at)
        except Noticed as notice:
          # Of the last step the summary needs the evaluation.
          if not last:
            recorder.save(store, dataclasses.replace(at, evaluated=False))
          raise error or interrupted(notice.number, in_step=last) from None
        last = last or plan.ended(at.best) is not None
      # A signal that comes later must not say that this step was saved.
      number = run.notice.agreed()
      best_now = evaluates and at.best is not None and at.best.step == at.step
      if last or number or error or best_now or run.checkpoint.due(at.step):
        recorder.save(store, at)
      recorder.keep_best(store, at, weights)
      if error is not None:
        recorder.finish(store)
        raise error
      if number:
        raise interrupted(number)
  recorder.finish(store)
  if run.journal is not None:
    run.journal.cut()
  return at


def main(config, path, fork_from=None, procedure: Procedure = RL) -> dict:
  """Trains by a config in a directory and returns the summary.

  A new directory starts a run. A directory of the same config continues at its
  last checkpoint. A complete run is left unchanged.

  Args:
    config: the run's config.
    path: the run's directory.
    fork_from: a workdir or checkpoint from whose state a new run starts.
    procedure: what a run of this kind does.

  Raises:
    Interrupted, TeacherFailed, Idle, Diverged, Ungraded, CheckpointError: see
      run_loop.
    Locked: if another process works in the directory.
    ValueError, KeyError, FileNotFoundError, FileExistsError: for a config, a
      directory or a checkpoint that does not fit; the message names it.
    OSError: for a file that cannot be written; the message names it.
  """
  path = disk.local('--workdir', path)
  proposed = procedure.proposed(config)
  config = procedure.of_workdir(config, path)
  if fork_from is not None:
    disk.local('--fork-from', fork_from)
  completed = lambda: hosts.from_first(
      lambda: resume.complete_summary(path, config, fork_from), 'the summary')
  complete = completed()
  if complete is not None:
    print(evaluations.stopped(complete), end='\n' * ('stopped' in complete))
    return complete
  called = callbacks.load(config.run.callbacks)
  # What a checkpoint follows upon is not read again, and may be gone.
  if fork_from is None and not hosts.from_first(
      lambda: workdir.goes_on(path, config), 'the run'):
    loading.check_start(config)
  with contextlib.ExitStack() as alone:
    # An existing directory is locked before the build, which takes long. A
    # missing one is made later, so that a bad config leaves no directory.
    if there := hosts.broadcast(path.is_dir(), 'the directory'):
      alone.enter_context(directory.alone(path))
    # A fork keeps the date of the prompts that its policy and buffer come from.
    day = hosts.from_first(lambda: dates.choose(
        config, path if workdir.read_same(path, config, fork_from) else None,
        fork_from), 'the date')
    run = procedure.build(config, day)
    config = getattr(run, 'config', None) or config
    plan = evaluations.of_run(config, run.splits, procedure.numbers(run))
    forked = (None if fork_from is None else resume.fork(
        run, config, fork_from, procedure.evaluate))
    if not there:
      hosts.from_first(lambda: path.mkdir(parents=True, exist_ok=True),
                       'the directory')
      alone.enter_context(directory.alone(path))
      # Another process may have finished the run in the meantime.
      complete = completed()
      if complete is not None:
        return complete
    out = hosts.from_first(lambda: Workdir.open(
        path, config, None if forked is None else {
            'path': str(fork_from), 'step': forked.step},
        day.date.isoformat(), run.chat.prompts, proposed), 'the attempt')
    if not hosts.first():
      out = dataclasses.replace(out, writes=False)
    return _work(run, config, out, forked, procedure, plan,
                 Events(called, out.path))


def _work(run: Run, config, out: Workdir, forked: RunState | None,
          procedure: Procedure, plan: Evaluations, events: Events) -> dict:
  """Runs an attempt in an opened directory to its end; returns the summary."""
  path = out.path
  if isinstance(run.source.pool, Pool):
    out.record('data.json', run.source.pool.record())
  for line in procedure.kernels(run):
    out.note(line)
  with directory.Closing(out.note) as closing:
    try:
      store = Checkpoints(path / 'checkpoints', run.checkpoint,
                          resume.manifest(config, run))
      closing.add(store.close)

      def say(text):
        """Prints a line in the terminal and writes it to the log."""
        out.note(text)
        print(text, flush=True)

      run = procedure.opened(run, config, out, closing.add, say)
      begun_before = store.latest() is not None
      at = resume.resume(run, out, store, forked, say, procedure.evaluate)
      run.init_state.release()
      out.record(digest.NAME, run.source.record())
      writers = open_writers(
          config.log, path, same_config.config_values(config), at.step) if (
              out.writes) else []
      for writer in writers:
        closing.add(writer.close)
      events.tell('begin', at.step)
      if not begun_before:
        events.tell('evaluation', at.step, {**at.base, **at.beside})
      at = _with_progress(run, config, at, out, store, lambda *shown: Recorder(
          run, out, at.history, writers, *shown, procedure, plan, events))
    except BaseException as e:
      with contextlib.suppress(OSError):  # the disk may be full
        out.note(f'ended: {type(e).__name__}: {e}')
      raise
  summary = {'method': config.method, 'seed': config.seed,
             **at.history.summary(at.base, at.latest, at.step),
             **evaluations.summary(plan, at.best, at.step, run.steps),
             **(signs.in_summary(out.path, config) if out.writes else {})}
  summary = out.finish(summary, *_final(run, config, at.state))
  for line in watch.warnings(summary):
    out.note(line)
    print(line, flush=True)
  if why := evaluations.stopped(summary):
    out.note(why)
    print(why, flush=True)
  out.note(f'complete after {at.step} steps')
  events.tell('end', at.step, summary)
  return summary


def _final(run: Run, config, state) -> tuple:
  """(weights on the host, their description, and the adapters that are merged
  in them with theirs, or None)."""
  if run.adapted is None:
    return sharding.to_host(state.params), run.description, None
  # Leaf by leaf, so that the device holds one merged matrix at a time.
  whole = jax.tree.map(
      lambda x: sharding.to_host(lora.merge_stacked(x)),
      run.adapted.join(state.params), is_leaf=lora.is_adapted)
  description = {**run.description, 'lora': checkpoints.adapters_of(
      run.adapted, config.student.weights)}
  return whole, run.description, (sharding.to_host(state.params), description)


def _with_progress(run: Run, config, at: RunState, out: Workdir,
                   store: Checkpoints,
                   recorder_of: Callable[..., Recorder]) -> RunState:
  """`run_loop`, shown to a person who watches."""
  progress = console.progress(run.steps, at.step)

  def say(text):
    out.note(text)
    progress.note(text)

  try:
    if at.step:
      progress.note(f'goes on after {at.step} of {run.steps} steps')
    progress.note(console.evaluation(at.step, at.latest))
    return run_loop(run, at, out, store, recorder_of(progress, say),
                    lambda state: _final(run, config, state))
  finally:
    progress.close()
