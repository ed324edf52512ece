"""The runs of a study: their commands, side by side on pinned cores.

Everything here can be killed and started again: what is complete is not made
again, and what is not goes on.
"""

import concurrent.futures
import ctypes
import dataclasses
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zppo_jax.devices.disk import write_json
from zppo_jax.runs import lock, same_config, workdir
from zppo_jax.study import endpoints, saturation
from zppo_jax.study.tables import step_seconds

MODELS = '{models}'  # in a value of a study: the folder of its own models
NOTE = 'study.json'  # in a run's folder: its command and the seconds it took
PRETRAIN = 'configs/micro_pretrain.py'
PATIENCE_S = 120.0  # for a run of a killed study, which still saves its step
_PR_SET_PDEATHSIG = 1  # of prctl(2)


@dataclasses.dataclass(frozen=True)
class StudyRun:
  """One run: its directory and its config overrides."""
  arm: str
  rate: float
  seed: int
  overrides: tuple[tuple[str, object], ...]

  @property
  def name(self) -> str:
    return f'{self.arm}-lr{self.rate:g}-seed{self.seed}'


@dataclasses.dataclass(frozen=True)
class Place:
  """Where and how runs are made.

  Attributes:
    home: the directory of the study.
    base: the config of all runs.
    cores: one run at a time is pinned to each; None for one that is not.
    answers: splits whose greedy answers after training are kept; () for none.
  """
  home: pathlib.Path
  base: str
  cores: tuple[int | None, ...]
  answers: tuple[str, ...] = ()

  def of(self, job: StudyRun) -> pathlib.Path:
    """The folder of a run."""
    return self.home / 'runs' / job.name


def placed(fields: Iterable[Sequence], home: pathlib.Path
           ) -> tuple[tuple[str, object], ...]:
  """Overrides with the folder of the study's models in the place of MODELS."""
  return tuple(
      (name, value.replace(MODELS, str(home / 'models'))
       if isinstance(value, str) else value) for name, value in fields)


def jobs(config, rates: Mapping[str, Sequence[float]], seeds: Sequence[int],
         home: pathlib.Path = pathlib.Path(),
         changes: Mapping[str, Sequence] | None = None) -> list[StudyRun]:
  """Every arm at its rates and all seeds; seeds vary slowest.

  Args:
    config: the study.
    rates: arm -> learning rates.
    seeds: the seeds.
    home: the directory of the study.
    changes: arm -> overrides that come after those of the study.
  """
  return [
      StudyRun(arm, rate, seed, placed(
          (*config.common, *fields, *(changes or {}).get(arm, ())), home))
      for seed in seeds for arm, fields in config.arms.items() if arm in rates
      for rate in rates[arm]]


def _main(*words: str) -> list[str]:
  return [sys.executable, '-m', 'zppo_jax.main', *words]


def command(job: StudyRun, base: str, path: pathlib.Path) -> list[str]:
  """The documented command that a job stands for."""
  return _main('train', f'--config={base}', f'--workdir={path}',
               f'--config.seed={job.seed}',
               f'--config.optimizer.learning_rate={job.rate}',
               *(f'--config.{name}={value}' for name, value in job.overrides))


def answers_command(job: StudyRun, base: str, path: pathlib.Path,
                    splits: Sequence[str]) -> list[str]:
  """The command that keeps a run's greedy answers after training."""
  return _main('eval', f'--config={base}', f'--checkpoint={path}',
               f'--to={path / endpoints.ANSWERS}',
               f'--splits={",".join(splits)}', f'--config.seed={job.seed}',
               *(f'--config.{name}={value}' for name, value in job.overrides))


def pretrain_command(role: str, fields: Iterable[Sequence],
                     to: pathlib.Path) -> list[str]:
  """The command that makes a model of a study."""
  return _main('pretrain', f'--config={PRETRAIN}:{role}', f'--to={to}',
               *(f'--config.{name}={value}' for name, value in fields))


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


class Done(NamedTuple):
  """How a command ended, and the seconds of its processors."""
  returncode: int
  cpu_s: float


def execute(line: Sequence[str], **options) -> Done:
  """Runs a command to its end; options are those of subprocess.Popen."""
  process = subprocess.Popen(line, **options)
  _, status, usage = os.wait4(process.pid, 0)
  process.returncode = os.waitstatus_to_exitcode(status)
  return Done(process.returncode, usage.ru_utime + usage.ru_stime)


class Seconds(NamedTuple):
  """What a command took, by the clock and of the processors."""
  seconds: float
  cpu_s: float


def _run(line: Sequence[str], log: pathlib.Path, core: int | None) -> Seconds:
  """Runs a command, its output added to a log; returns what it took.

  If this process dies, the command is told to save and end, where the system is
  Linux; elsewhere it goes on to its own end.

  Raises:
    RuntimeError: if it fails.
  """
  libc = ctypes.CDLL(None) if sys.platform == 'linux' else None

  def begin():
    if libc is not None:
      libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if core is not None:
      os.sched_setaffinity(0, {core})
  log.parent.mkdir(parents=True, exist_ok=True)
  since = time.perf_counter()
  with open(log, 'a') as out:
    done = execute(line, stdout=out, stderr=subprocess.STDOUT,
                   preexec_fn=begin)
  if done.returncode:
    raise RuntimeError(f'{log.stem} failed; see {log}')
  return Seconds(time.perf_counter() - since, done.cpu_s)


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
  its answers, unless they are there.

  Raises:
    Locked: if another process works on the run.
    RuntimeError: if the run fails; its output is in NAME.log.
    ValueError: if the fields of a complete run differ from the job's.
  """
  path = place.of(job)
  log = path.parent / f'{job.name}.log'
  _wait_until_free(path)
  if (path / 'summary.json').is_file():
    _check_complete(job, path)
  else:
    line = command(job, place.base, path)
    _note(path, line, _run(line, log, core))
  answers = path / endpoints.ANSWERS
  if place.answers and not (answers / 'summary.json').is_file():
    if answers.is_dir():
      shutil.rmtree(answers)  # of a command that was killed
    line = answers_command(job, place.base, path, place.answers)
    _note(path, line, _run(line, log, core))


def _note(path: pathlib.Path, line: Sequence[str], took: Seconds) -> None:
  """Adds a command and its seconds to the note of a run."""
  note = noted(path)
  note[line[3]] = {'command': ' '.join(['zppo', *line[3:]]),
                   **took._asdict()}
  write_json(path / NOTE, note)


def noted(path: pathlib.Path) -> dict:
  """Command -> what `run_job` noted of it; {} of a run from elsewhere."""
  file = path / NOTE
  return json.loads(file.read_text()) if file.is_file() else {}


def seconds_of(path: pathlib.Path) -> Seconds:
  """The seconds of a run's commands, the last attempt of each; 0 if unknown."""
  notes = noted(path).values()
  return Seconds(*(float(sum(of[name] for of in notes))
                   for name in Seconds._fields))


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


def run_all(todo: Sequence[StudyRun], place: Place, split: str) -> None:
  """Runs jobs in order, one at a time on every core; prints the endpoint of
  each on a split, and when the rest will be done."""
  known: dict[str, list[float]] = {}
  left = dict.fromkeys(todo)
  said = threading.Lock()

  def one(job, core):
    run_job(job, place, core)
    path = place.of(job)
    with said:
      del left[job]
      if seconds := seconds_of(path).seconds:
        known.setdefault(job.arm, []).append(seconds)
      rest = clock(left_s(list(left), known, len(place.cores)))
      print(f'[{len(todo) - len(left)}/{len(todo)}] {job.name}: '
            f'{_final(path, split):.3f} on {split}; {rest} left', flush=True)
  side_by_side(todo, place.cores, one)


def _final(path: pathlib.Path, split: str) -> float:
  summary = json.loads((path / 'summary.json').read_text())
  return summary['eval'][split]['final']


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
    took = _run(line, folder / f'{name}.log', core)
    print(f'made {name} in {took.seconds:.0f} s', flush=True)
  side_by_side(todo, place.cores, one)


def read(place: Place, job: StudyRun, last: int, width: int = 0) -> dict:
  """The summary, the evaluation curve, the seconds per step and the endpoints
  of a complete run.

  Args:
    place: where the runs are.
    job: the run.
    last: the last steps whose samples say the spread; 0: no endpoints but those
      of the summary.
    width: steps of a window in which saturated BCQs are counted; 0: they are
      not.
  """
  path = place.of(job)
  curve, metrics = (endpoints.json_lines(path / name)
                    for name in ('eval.jsonl', 'metrics.jsonl'))
  record = {'arm': job.arm, 'rate': job.rate, 'seed': job.seed,
            'summary': json.loads((path / 'summary.json').read_text()),
            'curve': curve, 'step_s': step_seconds(metrics)}
  if last:
    record['endpoints'] = endpoints.of_run(path, last)
    record['spread'] = record['endpoints'].get('spread', float('nan'))
  if width:
    record['saturation'] = saturation.by_steps(
        endpoints.json_lines(path / 'samples.jsonl'), width)
  if (path / 'config.json').is_file():
    record['revision'] = workdir.read_config(path).get('git_revision', '')
  if note := noted(path):
    record['commands'] = [of['command'] for of in note.values()]
    record |= seconds_of(path)._asdict()
  return record
