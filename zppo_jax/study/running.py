"""The runs of a study: their commands, side by side on pinned cores.

Everything here can be killed and started again: what is complete is not made
again, and what is not goes on.
"""

import concurrent.futures
import json
import pathlib
import queue
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from zppo_jax.devices.disk import write_json
from zppo_jax.runs import lock, same_config, workdir
from zppo_jax.study import endpoints
from zppo_jax.study.jobs import (
    NOTE,
    Place,
    Seconds,
    StudyRun,
    answers_command,
    command,
    noted,
    pretrain_command,
)
from zppo_jax.study.records import Records
from zppo_jax.study.workers import Done, Workers

PATIENCE_S = 120.0  # for a run of a killed study, which still saves its step
# Errors of train/guards.py that are a result of the run: its arm failed. The
# others name something outside, such as a grader that is down.
STOPS = ('Diverged', 'Idle')


def _check_complete(job: StudyRun, path: pathlib.Path) -> None:
  """ValueError if the study's file was changed since the run was made, as far
  as the job's fields tell; the run's name holds arm, rate and seed alone."""
  if not (path / 'config.json').is_file():
    return
  stored = same_config.flat(workdir.read_config(path)['config'])
  wanted = {'seed': job.seed, 'optimizer.learning_rate': job.rate,
            **dict(job.overrides)}
  for name, value in json.loads(json.dumps(wanted)).items():
    if name in stored and str(stored[name]) != str(value):
      raise ValueError(f'{path} is complete, with {name} = {stored[name]!r}; '
                       f'the study now says {value!r}. Take another --to, or '
                       'remove that run')


class _Failed(RuntimeError):
  """A command failed.

  Attributes:
    done: how it ended.
    took: what it took.
  """

  def __init__(self, log: pathlib.Path, done: Done, took: Seconds):
    super().__init__(f'{log.stem} failed; see {log}')
    self.done, self.took = done, took


def _run(words: Sequence[str], log: pathlib.Path, core: int | None,
         workers: Workers) -> Seconds:
  """Runs a command, its output added to a log; returns what it took.

  Raises:
    _Failed: if it fails.
  """
  log.parent.mkdir(parents=True, exist_ok=True)
  since = time.perf_counter()
  done = workers.run(words, log, core)
  took = Seconds(time.perf_counter() - since, done.cpu_s)
  if done.returncode:
    raise _Failed(log, done, took)
  return took


def _wait_until_free(path: pathlib.Path, seconds: float = PATIENCE_S) -> None:
  """Waits for the process that works on a run, if one does.

  Raises:
    Locked: if it still does after so many seconds.
  """
  until = time.monotonic() + seconds
  while path.is_dir():
    try:
      with lock.hold(path):
        return
    except lock.Locked:
      if time.monotonic() > until:
        raise
      time.sleep(min(1.0, seconds))


def run_job(job: StudyRun, place: Place, core: int | None) -> None:
  """Runs a job unless it is complete; an incomplete run is resumed. Then keeps
  its answers, unless they are there. A run that a guard stops is a result, and
  it is not run again.

  Raises:
    Locked: if another process works on the run.
    RuntimeError: if the run fails otherwise; its output is in NAME.log.
    ValueError: if the fields of a complete run differ from the job's.
  """
  path = place.of(job)
  log = path.parent / f'{job.name}.log'
  _wait_until_free(path)
  if (path / 'summary.json').is_file() or endpoints.stop_of(path):
    _check_complete(job, path)
  else:
    line = command(job, place.base, path)
    try:
      took = _run(line, log, core, place.workers)
    except _Failed as e:
      if e.done.error not in STOPS:
        raise
      took = e.took
      write_json(path / endpoints.STOPPED,
                 {'error': e.done.error, 'why': e.done.why})
    _note(path, line, took)
  answers = path / endpoints.ANSWERS
  if (place.answers and not endpoints.stop_of(path)
      and not (answers / 'summary.json').is_file()):
    if answers.is_dir():
      shutil.rmtree(answers)  # of a command that was killed
    line = answers_command(job, place.base, path, place.answers)
    _note(path, line, _run(line, log, core, place.workers))


def _note(path: pathlib.Path, line: Sequence[str], took: Seconds) -> None:
  """Adds a command and its seconds to the note of a run."""
  note = noted(path)
  note[line[0]] = {'command': ' '.join(['zppo', *line]), **took._asdict()}
  write_json(path / NOTE, note)


def left_s(todo: Sequence[StudyRun], known: Mapping[str, Sequence[float]],
           workers: int) -> float | None:
  """The seconds that runs will take; None where no run was timed yet.

  Args:
    todo: the runs.
    known: arm -> seconds of its complete runs; an arm without any takes the
      mean of all.
    workers: how many runs go on at a time.
  """
  timed = [s for seconds in known.values() for s in seconds]
  if not timed:
    return None
  each = lambda arm: float(np.mean(known.get(arm) or timed))
  return sum(each(job.arm) for job in todo) / min(workers, max(len(todo), 1))


def clock(seconds: float | None) -> str:
  """'2 h 05 min', or what stands for an unknown time."""
  if seconds is None:
    return 'an unknown time'
  minutes = round(seconds / 60)
  return f'{minutes // 60} h {minutes % 60:02d} min'


def side_by_side(todo: Sequence, cores: Sequence[int | None],
                 one: Callable) -> None:
  """one(work, core) for each piece of work, one at a time on every core. After
  the first error nothing else begins.

  Raises:
    Exception: the first that `one` raises, when all that began have ended.
  """
  free: queue.Queue = queue.Queue()
  for core in cores:
    free.put(core)
  stop = threading.Event()

  def on_a_core(work):
    core = free.get()
    try:
      if not stop.is_set():
        one(work, core)
    except BaseException:
      stop.set()
      raise
    finally:
      free.put(core)
  with concurrent.futures.ThreadPoolExecutor(len(cores)) as pool:
    for _ in pool.map(on_a_core, todo):
      pass


def run_all(todo: Sequence[StudyRun], place: Place, split: str) -> list[dict]:
  """Runs jobs in order, one at a time on every core; prints the endpoint of
  each on a split, and when the rest will be done.

  Returns:
    The record of each job, in their order.

  Raises:
    Locked, RuntimeError, ValueError: see run_job and Records.of.
  """
  kept = Records(place.home)
  records = {job: record for job in todo
             if (record := kept.of(place, job)) is not None}
  left = {job: None for job in todo if job not in records}
  if records:
    print(f'{len(records)} of {len(todo)} runs have a record', flush=True)
  known: dict[str, list[float]] = {}
  said = threading.Lock()

  def one(job, core):
    run_job(job, place, core)
    with said:
      records[job] = record = kept.keep(place, job)
      del left[job]
      if seconds := record.get('seconds'):
        known.setdefault(job.arm, []).append(seconds)
      rest = clock(left_s(list(left), known, len(place.cores)))
      final = record['summary']['eval'][split]['final']
      print(f'[{len(todo) - len(left)}/{len(todo)}] {job.name}: '
            f'{final:.3f} on {split}'
            + (', stopped by a guard' if 'stopped' in record else '')
            + f'; {rest} left', flush=True)
  side_by_side(list(left), place.cores, one)
  return [records[job] for job in todo]


def make_models(models: Mapping[str, Sequence], place: Place) -> None:
  """Pre-trains the models of a study that are not there yet.

  Args:
    models: name -> (role of configs/micro_pretrain.py, overrides).
    place: where.
  """
  folder = place.home / 'models'
  todo = [(name, pretrain_command(role, fields,
                                  folder / f'{name}.safetensors'))
          for name, (role, fields) in models.items()
          if not (folder / f'{name}.safetensors').is_file()]

  def one(work, core):
    name, line = work
    took = _run(line, folder / f'{name}.log', core, place.workers)
    print(f'made {name} in {took.seconds:.0f} s', flush=True)
  side_by_side(todo, place.cores, one)
