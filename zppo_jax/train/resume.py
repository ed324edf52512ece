"""Where a run stands: saved, restored, forked and resumed."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping

import jax

from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.arrays import TrainState
from zppo_jax.chat import hub_chat
from zppo_jax.devices import disk
from zppo_jax.runs import checkpoints, same_config, workdir
from zppo_jax.runs.checkpoints import Checkpoints
from zppo_jax.runs.totals import History
from zppo_jax.runs.workdir import Workdir
from zppo_jax.train import evaluate
from zppo_jax.train.control import evaluations
from zppo_jax.train.control.evaluations import Best
from zppo_jax.train.run import Run


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
    evaluated: False if a signal ended the evaluation that was due after these
      steps.
    best: the best evaluation by the section `best`, or None.
    beside: the other numbers of the evaluation before the first step; no
      checkpoint has them.
  """
  step: int
  state: TrainState
  buffer: ReplayBuffer
  history: History
  base: dict[str, float]
  latest: dict[str, float]
  evaluated: bool = True
  best: Best | None = None
  beside: Mapping[str, float] = dataclasses.field(default_factory=dict)

  @property
  def intact(self) -> bool:
    """Whether no optimizer step has taken the state over yet."""
    return not any(x.is_deleted() for x in jax.tree.leaves(self.state))


def _reference_digest(run: Run) -> str:
  """A digest of the reference policy, which is the same on every mesh."""
  return disk.digest(checkpoints.checksums(run.reference.params))


def _anchor_digest(run: Run) -> str:
  """A digest of what holds the parameters."""
  assert run.ewc is not None
  return disk.digest(checkpoints.checksums(run.ewc.arrays))


def manifest(config, run: Run) -> dict:
  """What every checkpoint of a run says of its origin."""
  frozen = {} if run.reference is None else {
      'reference': _reference_digest(run)}
  if run.ewc is not None:
    frozen['ewc'] = _anchor_digest(run)
  if run.adapted is not None:
    frozen['lora'] = checkpoints.adapters_of(
        run.adapted, config.student.weights)
  return {'model': run.description['model'],
          'config': same_config.config_values(config),
          'versions': same_config.versions(), **frozen}


def save(store: Checkpoints, run: Run, at: RunState,
         files: dict | None = None) -> None:
  """Starts writing a checkpoint.

  Args:
    store: the checkpoints of the run.
    run: the run.
    at: where it stands.
    files: sizes and digests of the run's line files (Workdir.written).

  Raises:
    CheckpointError: see checkpoints.Checkpoints.save.
  """
  store.save(at.step, at.state, {
      'buffer': at.buffer.dump(), 'history': at.history.dump(),
      'data': run.source.position(at.step), 'base': at.base,
      'latest': at.latest, 'words': hub_chat.record(run.chat),
      **({} if at.evaluated else {'evaluated': False}),
      **({} if at.best is None else {'best': at.best._asdict()})}, files)


def restore(store: Checkpoints, run: Run, step: int) -> RunState:
  """What `save` wrote after `step` steps.

  Raises:
    CheckpointError: see checkpoints.Checkpoints.restore.
    ValueError: if a buffered question is not in the pool, or the data would
      not continue where it stopped in the checkpoint.
  """
  state, host = store.restore(step, run.abstract_state)
  run.source.check_position(host['data'], step, store.path.parent)
  buffer = ReplayBuffer.load(
      run.buffer_capacity, host['buffer'] if run.replays else [],
      run.source.find if run.replays else None)
  return RunState(step=step, state=state, buffer=buffer,
                  history=History.load(host['history']), base=host['base'],
                  latest=host['latest'],
                  evaluated=host.get('evaluated', True),
                  best=Best(**host['best']) if 'best' in host else None)


def _check_words(run: Run, step: int, host: dict) -> None:
  """ValueError if prompts would differ from those before the checkpoint.

  Checkpoints of earlier versions do not say what their prompts were.
  """
  here = hub_chat.record(run.chat)
  there = host.get('words', here)
  differ = [f'{name} (now {here.get(name)!r}, then {there.get(name)!r})'
            for name in {**there, **here} if there.get(name) != here.get(name)]
  if differ:
    raise ValueError(
        f'the checkpoint after {step} steps was trained on other prompts: '
        f'{", ".join(differ)}. Put back what was changed in the files of '
        'student.weights, student.chat_template, the prompts of the task or '
        'in config.json, or fork the run into a new --workdir')


def _check_reference(run: Run, step: int, content: dict) -> None:
  """ValueError if the reference policy is not that of the checkpoint."""
  if (run.reference is None
      or content.get('reference') == _reference_digest(run)):
    return
  raise ValueError(
      f'the checkpoint after {step} steps was trained towards another '
      'reference policy (algorithm.reference): the weights that '
      'student.weights names have changed since the run began. Put the former '
      'ones back, or fork the run into a new --workdir')


def _check_anchor(run: Run, step: int, content: dict) -> None:
  """ValueError if what holds the parameters is not that of the checkpoint."""
  if run.ewc is not None and content.get('ewc') != _anchor_digest(run):
    raise ValueError(
        f'the checkpoint after {step} steps was trained with other contents of '
        'student.weights or of algorithm.ewc.fisher; the files have changed '
        'since the run began. Put the former ones back, or fork the run into a '
        'new --workdir')


def fork(run: Run, config, path, evaluate_fn=evaluate.of_state) -> RunState:
  """The state of another run's checkpoint, as the start of a new run.

  The new run takes over state, buffer and step; its totals start anew.

  Args:
    run: the new run.
    config: its config.
    path: a workdir or a checkpoint.
    evaluate_fn: (run, TrainState) -> Measured.

  Raises:
    FileNotFoundError, CheckpointError, ValueError: see `restore`; also if
      `steps` does not reach beyond the checkpoint.
  """
  folder, step = checkpoints.open_any(path)
  store = Checkpoints(folder, run.checkpoint, manifest(config, run),
                      read_only=True)
  step = store.latest() if step is None else step
  if not step < run.steps:
    raise ValueError(f'steps is {run.steps}; the checkpoint to fork from '
                     f'already stands at {step}')
  at = restore(store, run, step)
  store.close()
  for note in store.notes:
    print(note, flush=True)
  base, beside = evaluate_fn(run, at.state)
  return dataclasses.replace(at, history=History(), base=base, latest=base,
                             evaluated=True, best=None, beside=beside)


def again_from(run: Run) -> str:
  """What a run without a newer checkpoint has not lost; '' if nothing."""
  kept = 0 if run.journal is None else run.journal.kept()
  return (f'; the steps since are made again from {kept} rollouts that were '
          'kept' if kept else '')


def resume(run: Run, out: Workdir, store: Checkpoints,
           forked: RunState | None, say: Callable[[str], None],
           evaluate_fn=evaluate.of_state) -> RunState:
  """Where this attempt starts.

  It starts at the last checkpoint of this run, else at a checkpoint of another
  run, else at the pretrained weights. Lines that were written after that are
  cut. The user is told what somebody changed in the run's files.

  Args:
    run: the run.
    out: its directory.
    store: its checkpoints.
    forked: the result of `fork`, for a new run that starts so.
    say: shows the user a line.
    evaluate_fn: (run, TrainState) -> Measured.

  Raises:
    CheckpointError, ValueError: see `restore`; also if prompts or the weights
      of the reference policy changed.
  """
  if others := out.cores_before():
    say(f'warning: this process may use {workdir.usable_cores()} cores; '
        f'earlier attempts of this run had {", ".join(map(str, others))}. The '
        'last bits of sums depend on it, so the run will not end to the byte '
        'as it would have (docs/numerics.md)')
  step = store.latest()
  if step is not None:
    at = restore(store, run, step)
    content = store.read(step)
    _check_words(run, step, content['host'])
    _check_reference(run, step, content)
    _check_anchor(run, step, content)
    for line in (*store.notes, *out.changes(step, content.get('files'))):
      say(f'warning: {line}')
    lines = out.cut(step, at.evaluated)
    if run.journal is not None:
      run.journal.cut(step)
    out.note(f'resumed after {step} steps; {lines} lines cut')
    return at
  if lines := out.cut(None):
    say(f'warning: {out.path} has no checkpoint; it starts from the beginning, '
        f'and the {lines} lines that it held are in {out.attempt}'
        + again_from(run))
  if forked is not None:
    at = forked
    out.note(f'forked after {at.step} steps')
  else:
    state = run.init_state()
    if run.splits:
      say('evaluating before the first step; new programs are compiled first')
    base, beside = evaluate_fn(run, state)
    at = RunState(step=0, state=state, buffer=ReplayBuffer(run.buffer_capacity),
                  history=History(), base=base, latest=base, beside=beside)
  out.log_eval(at.step, {**at.base, **at.beside}, at.history)
  return at


def read_complete(path: pathlib.Path, config) -> dict | None:
  """The summary of a run that has done all steps of its config, or stopped
  early by its section `best`; else None.

  Raises:
    ValueError: if the summary cannot be read, or differs from the last
      checkpoint, if there is one.
    CheckpointError: for a damaged checkpoint.
  """
  summary = workdir.read_summary(path)
  if summary is None or summary['steps'] != config.steps and not (
      evaluations.is_stopped(summary, config)):
    return None
  expected = {'method': config.method, 'seed': config.seed}
  content = checkpoints.peek(path / 'checkpoints', summary['steps'])
  if content is not None:
    host = content['host']
    expected |= History.load(host['history']).summary(
        host['base'], host['latest'], summary['steps'])
  wrong = [name for name, value in json.loads(json.dumps(expected)).items()
           if summary.get(name) != value]
  if wrong:
    raise ValueError(
        f'{path}/summary.json is not what the run came to: {wrong[0]} is '
        f'{summary.get(wrong[0])!r}, the run has {expected[wrong[0]]!r}. '
        'Without that file the same command writes it again')
  return summary


def complete_summary(path: pathlib.Path, config, fork_from) -> dict | None:
  """The summary of a directory whose run is complete, else None.

  Raises:
    FileExistsError, ValueError: if the directory holds anything but a run of
      this config, or if a fork would be written over a run.
    CheckpointError: see `read_complete`.
  """
  if workdir.read_same(path, config, fork_from) is None:
    return None
  return read_complete(path, config)
