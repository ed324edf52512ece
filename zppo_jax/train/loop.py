"""The loop: all steps of a run, from where the run's directory stands.

The numbers of a step are read, checked and written while the next step is under
way, so that the host does not wait for the update. They are read earlier where
something must know them: a checkpoint, an evaluation, the end of the run.
"""

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Callable

import jax

from zppo_jax.chat import dates
from zppo_jax.data import digest
from zppo_jax.data.pool import Pool
from zppo_jax.devices import disk, hosts, sharding
from zppo_jax.devices.notice import Notice, Noticed, heed
from zppo_jax.models import lora
from zppo_jax.runs import checkpoints, console, same_config, watch, workdir
from zppo_jax.runs.checkpoints import Checkpoints
from zppo_jax.runs.workdir import Workdir
from zppo_jax.runs.writers import open_writers
from zppo_jax.train import evaluate, guards, models as loading, resume
from zppo_jax.train.build import build, with_row
from zppo_jax.train.compiling import likely
from zppo_jax.train.control import callbacks, directory, evaluations, journals
from zppo_jax.train.control.callbacks import Events
from zppo_jax.train.control.evaluations import Evaluations
from zppo_jax.train.guards import Interrupted
from zppo_jax.train.recorder import Recorder
from zppo_jax.train.resume import RunState
from zppo_jax.train.run import Procedure, Run
from zppo_jax.train.shapes import attention_kernels, auto
from zppo_jax.train.step import Outcome, metrics_row, sample_rows, train_step
from zppo_jax.train.watching import signs


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
