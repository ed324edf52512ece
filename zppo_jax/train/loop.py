"""The loop: all steps of a run, from where the run's directory stands.

The numbers of a step are read, checked and written while the next step is under
way, so that the host does not wait for the update. They are read earlier where
something must know them: a checkpoint, an evaluation, the end of the run.
"""

import collections
import contextlib
import dataclasses
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Sequence

import jax

from zppo_jax.chat import dates, hub_chat
from zppo_jax.data import digest
from zppo_jax.data.pool import Pool
from zppo_jax.devices import disk, hosts, sharding
from zppo_jax.devices.notice import Notice, Noticed
from zppo_jax.endpoints import client
from zppo_jax.models import lora
from zppo_jax.rollout import journal as rollouts
from zppo_jax.rollout.journal import RolloutJournal
from zppo_jax.runs import checkpoints, console, lock, watch, workdir
from zppo_jax.runs.checkpoints import Checkpoints
from zppo_jax.runs.totals import History
from zppo_jax.runs.workdir import Workdir
from zppo_jax.runs.writers import Writer, open_writers
from zppo_jax.teachers import panel
from zppo_jax.teachers.ahead import AheadTeacher
from zppo_jax.teachers.endpoint import EndpointTeacher
from zppo_jax.teachers.in_process import InProcessTeacher
from zppo_jax.teachers.journal import CachedTeacher
from zppo_jax.train import attention_kernels, evaluate, guards, resume
from zppo_jax.train.build import build
from zppo_jax.train.guards import Idle, Interrupted, TeacherFailed
from zppo_jax.train.resume import RunState
from zppo_jax.train.run import Procedure, Run
from zppo_jax.train.step import Outcome, metrics_row, sample_rows, train_step
from zppo_jax.verdicts import verifier

# Seconds after which a directory that one host made must show on all.
_SEEN_S = 60.0


@contextlib.contextmanager
def catch_signals(notice: Notice):
  """Notes the number of a SIGINT or SIGTERM, while the context lasts.

  A second signal raises KeyboardInterrupt at once. In a thread other than the
  main one nothing is noted, because Python delivers signals to that alone.
  """
  def handle(number, frame):
    del frame
    if notice.number:
      raise KeyboardInterrupt
    notice.number = number

  of_main = threading.current_thread() is threading.main_thread()
  kinds = (signal.SIGINT, signal.SIGTERM) if of_main else ()
  before = [signal.signal(kind, handle) for kind in kinds]
  try:
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


def _kept(run: Run, config, out: Workdir) -> Run:
  """The run whose samplers keep what they draw, and stop for a notice."""
  journal = None
  if run.checkpoint.journal:
    journal = RolloutJournal(
        out.path / rollouts.FOLDER, disk.digest(
            [workdir.identity(config), hub_chat.record(run.chat)]), out.note)
  run.notice.heeded = journal is not None
  # Verdicts of several processes come from one call of all of them.
  overlapped = config.overlap and hosts.count() == 1
  heeding = lambda sampler, journal: dataclasses.replace(
      sampler, journal=journal, between=run.notice.check,
      overlapped=overlapped)
  def of_teacher(teacher: InProcessTeacher) -> InProcessTeacher:
    return dataclasses.replace(
        teacher, answers=heeding(teacher.answers, journal),
        summaries=heeding(teacher.summaries, journal),
        hints=heeding(teacher.hints, journal))
  return dataclasses.replace(
      run, journal=journal, sampler=heeding(run.sampler, journal),
      greedy=heeding(run.greedy, None),
      teacher=panel.with_in_process(run.teacher, of_teacher))


def _with_journals(run: Run, config, out: Workdir, add, say) -> Run:
  """The run with the journals of its directory, which `add` closes. If its
  teacher may answer differently a second time, a journal on disk keeps the
  answers."""
  run = _kept(run, config, out)
  if run.teacher is not None and not run.teacher.capabilities.repeatable:
    teacher, asked = config.teacher, run.teacher
    if isinstance(asked, EndpointTeacher) and run.sampler.overlapped:
      session = client.Session(asked.endpoint)
      add(session.close)
      asked = dataclasses.replace(asked, session=session)
    cached = CachedTeacher.open(
        asked, out.path / 'teacher.jsonl', run.sampler.chat,
        run.sampler.grader, kind=teacher.kind,
        name='/'.join((teacher.kind, teacher.endpoint.model,
                       teacher.endpoint.scores)))
    run = dataclasses.replace(run, teacher=(
        # A member of this process shares the devices with the student.
        AheadTeacher(cached) if run.sampler.overlapped
        and not panel.in_process_of(cached) else cached))
  journal = contextlib.ExitStack()
  add(journal.close)
  verdicts = journal.enter_context(
      verifier.journalled(run.verifier, out.verdicts))
  if verdicts.outdated:
    say(verdicts.note(out.verdicts))
  return run


# Reinforcement learning. The functions are looked up when they are called.
RL = Procedure(
    build=lambda config, day: build(config, day),
    opened=_with_journals,
    kernels=lambda run: attention_kernels.summary(
        attention_kernels.of_run(run)),
    step=lambda run, at, read_previous: train_step(
        run, at.state, at.buffer, at.step, read_previous),
    row=lambda run, outcome: metrics_row(run, outcome),
    samples=lambda run, outcome: sample_rows(run, outcome),
    check=_check,
    evaluate=lambda run, state: evaluate.of_state(run, state),
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

  Attributes:
    seconds: seconds by phase since the last written row. The next row holds
      them, because a row cannot hold how long its own writing takes.
  """

  def __init__(self, run: Run, out: Workdir, history: History,
               writers: Sequence[Writer], progress: console.ProgressView,
               say: Callable[[str], None], procedure: Procedure = RL):
    self.procedure = procedure
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
    """Evaluates the policy, writes its accuracy and notes it in the state."""
    since = time.perf_counter()
    accuracy = self.procedure.evaluate(self._run, at.state)
    numbers = {**accuracy, **self.procedure.drift(self._run, at.state)}
    self._out.log_eval(at.step, numbers, self._history)
    self._progress.note(console.evaluation(at.step, accuracy))
    for writer in self._writers:
      writer.write(at.step, {f'eval/{s}': a for s, a in numbers.items()})
    self.lap('evaluate', since)
    return dataclasses.replace(at, latest=accuracy, evaluated=True)

  def save(self, store: Checkpoints, at: RunState) -> None:
    """Starts writing a checkpoint; `record` must have been called before."""
    since = time.perf_counter()
    self.count_seconds()
    resume.save(store, self._run, at, self._out.written())
    # The checkpoint before this one is on disk now.
    self._forget(self._saved)
    self._saved = at.step
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
             recorder: Recorder) -> RunState:
  """Runs steps `at.step` to `run.steps`; records, evaluates and saves when due.

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
            + (', and what was drawn since' if in_step and run.journal else ''))
    out.note(text)
    return Interrupted(f'{text}; the same command goes on from there', number)

  with catch_signals(run.notice):
    begun = at.step
    if not at.evaluated:
      at = recorder.evaluate(at)
    while at.step < run.steps:
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
      evaluates = last or (run.eval_every and at.step % run.eval_every == 0)
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
      # A signal that comes later must not say that this step was saved.
      number = run.notice.agreed()
      if last or number or error or run.checkpoint.due(at.step):
        recorder.save(store, at)
      if error is not None:
        recorder.finish(store)
        raise error
      if number:
        raise interrupted(number)
  recorder.finish(store)
  if run.journal is not None:
    run.journal.cut()
  return at


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


@contextlib.contextmanager
def _alone(path: pathlib.Path):
  """The lock of a directory, which the first process of a run takes.

  Raises:
    Locked: on every process, if another run works there.
    ValueError: if not all processes see the directory.
  """
  with contextlib.ExitStack() as held:
    hosts.from_first(lambda: held.enter_context(
        lock.hold(path, patient=hosts.count() > 1)), 'the lock')
    _check_seen(path)
    yield


def _check_seen(path: pathlib.Path) -> None:
  """ValueError unless every process sees the directory, with its lock."""
  until = time.monotonic() + _SEEN_S
  while not (seen := (path / lock.NAME).exists()) and time.monotonic() < until:
    time.sleep(0.5)
  blind = [i for i, sees in enumerate(hosts.gather(seen, 'the directory'))
           if not sees]
  if blind:
    raise ValueError(
        f'--workdir is {str(path)!r}, which process '
        f'{", ".join(map(str, blind))} of {hosts.count()} does not see; a run '
        'of several hosts needs a directory on a file system that all share')


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
  if fork_from is not None:
    disk.local('--fork-from', fork_from)
  completed = lambda: hosts.from_first(
      lambda: resume.complete_summary(path, config, fork_from), 'the summary')
  complete = completed()
  if complete is not None:
    return complete
  with contextlib.ExitStack() as alone:
    # An existing directory is locked before the build, which takes long. A
    # missing one is made later, so that a bad config leaves no directory.
    if there := hosts.broadcast(path.is_dir(), 'the directory'):
      alone.enter_context(_alone(path))
    # A fork keeps the date of the prompts that its policy and buffer come from.
    day = hosts.from_first(lambda: dates.choose(config, path, fork_from),
                           'the date')
    run = procedure.build(config, day)
    forked = (None if fork_from is None else resume.fork(
        run, config, fork_from, procedure.evaluate))
    if not there:
      hosts.from_first(lambda: path.mkdir(parents=True, exist_ok=True),
                       'the directory')
      alone.enter_context(_alone(path))
      # Another process may have finished the run in the meantime.
      complete = completed()
      if complete is not None:
        return complete
    out = hosts.from_first(lambda: Workdir.open(
        path, config, None if forked is None else {
            'path': str(fork_from), 'step': forked.step},
        day.date.isoformat(), run.chat.prompts), 'the attempt')
    if not hosts.first():
      out = dataclasses.replace(out, writes=False)
    return _work(run, config, out, forked, procedure)


def _work(run: Run, config, out: Workdir, forked: RunState | None,
          procedure: Procedure) -> dict:
  """Runs an attempt in an opened directory to its end; returns the summary."""
  path = out.path
  if isinstance(run.source.pool, Pool):
    out.record('data.json', run.source.pool.record())
  for line in procedure.kernels(run):
    out.note(line)
  with _Closing(out.note) as closing:
    try:
      store = Checkpoints(path / 'checkpoints', run.checkpoint,
                          resume.manifest(config, run))
      closing.add(store.close)

      def say(text):
        """Prints a line in the terminal and writes it to the log."""
        out.note(text)
        print(text, flush=True)

      run = procedure.opened(run, config, out, closing.add, say)
      at = resume.resume(run, out, store, forked, say, procedure.evaluate)
      run.init_state.release()
      out.record(digest.NAME, run.source.record())
      writers = open_writers(
          config.log, path, workdir.config_values(config), at.step) if (
              out.writes) else []
      for writer in writers:
        closing.add(writer.close)
      at = _with_progress(run, at, out, store, writers, procedure)
    except BaseException as e:
      with contextlib.suppress(OSError):  # the disk may be full
        out.note(f'ended: {type(e).__name__}: {e}')
      raise
  summary = {'method': config.method, 'seed': config.seed,
             **at.history.summary(at.base, at.latest, at.step)}
  summary = out.finish(summary, *_final(run, config, at.state))
  for line in watch.warnings(summary):
    out.note(line)
    print(line, flush=True)
  out.note(f'complete after {at.step} steps')
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


def _with_progress(run: Run, at: RunState, out: Workdir, store: Checkpoints,
                   writers: Sequence[Writer],
                   procedure: Procedure) -> RunState:
  """`run_loop`, shown to a person who watches."""
  progress = console.progress(run.steps, at.step)

  def say(text):
    out.note(text)
    progress.note(text)

  try:
    if at.step:
      progress.note(f'goes on after {at.step} of {run.steps} steps')
    progress.note(console.evaluation(at.step, at.latest))
    return run_loop(run, at, out, store, Recorder(
        run, out, at.history, writers, progress, say, procedure))
  finally:
    progress.close()
