"""The record of an attempt: numbers of its steps, evaluations, best weights and
checkpoints.
"""

import collections
import dataclasses
import time
from collections.abc import Callable, Sequence

from zppo_jax.devices import hosts
from zppo_jax.runs import console, watch
from zppo_jax.runs.checkpoints import Checkpoints
from zppo_jax.runs.totals import History
from zppo_jax.runs.workdir import Workdir
from zppo_jax.runs.writers import Writer
from zppo_jax.train import guards, resume
from zppo_jax.train.control import best
from zppo_jax.train.control.callbacks import Events
from zppo_jax.train.control.evaluations import Evaluations
from zppo_jax.train.guards import Idle, TeacherFailed
from zppo_jax.train.resume import RunState
from zppo_jax.train.run import Procedure, Run
from zppo_jax.train.step import Outcome
from zppo_jax.weights import safetensors_file


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
               say: Callable[[str], None], procedure: Procedure,
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
