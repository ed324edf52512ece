"""Studies: many runs of the main job, paired by seed, from one command.

A study file (studies/*.py) names its arms, learning rates and seeds. The
command first runs the development seeds at every rate. It then fixes each arm's
rate by a rule stated beforehand (the highest mean endpoint over the development
seeds; ties go to the lower rate) and runs the reported seeds. A complete run is
never run again, so the same command resumes a study. Results are written to
results.json and table.md.
"""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import platform
import queue
import subprocess
import sys
from collections.abc import Sequence

import numpy as np

from zppo_jax.runs import lock, same_config, workdir
from zppo_jax.study.tables import (
  arm_table,
  contrast,
  contrast_table,
  cost_table,
  spread,
  spread_table,
  step_seconds,
)


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


def jobs(config, rates: dict, seeds: Sequence[int]) -> list[StudyRun]:
  """Every arm at its rates and all seeds; seeds vary slowest.

  Args:
    config: the study.
    rates: arm -> learning rates.
    seeds: the seeds.
  """
  return [
      StudyRun(arm, rate, seed,
               (*map(tuple, config.common), *map(tuple, fields)))
      for seed in seeds for arm, fields in config.arms.items()
      for rate in rates[arm]]


def command(job: StudyRun, base: str, path: pathlib.Path) -> list[str]:
  """The documented command that a job stands for."""
  return [sys.executable, '-m', 'zppo_jax.main', 'train', f'--config={base}',
          f'--workdir={path}', f'--config.seed={job.seed}',
          f'--config.optimizer.learning_rate={job.rate}',
          *(f'--config.{name}={value}' for name, value in job.overrides)]


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


def run_job(job: StudyRun, base: str, home: pathlib.Path,
            core: int | None) -> None:
  """Runs a job unless it is complete; an incomplete run is resumed.

  Raises:
    RuntimeError: if the run fails; its output is in NAME.log.
    ValueError: if the fields of a complete run differ from the job's.
  """
  path = home / 'runs' / job.name
  if (path / 'summary.json').is_file():
    _check_complete(job, path)
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  pin = None if core is None else lambda: os.sched_setaffinity(0, {core})
  with open(path.parent / f'{job.name}.log', 'a') as log:
    done = subprocess.run(command(job, base, path), stdout=log,
                          stderr=subprocess.STDOUT, preexec_fn=pin)
  if done.returncode:
    raise RuntimeError(f'{job.name} failed; see {log.name}')


def run_all(todo: Sequence[StudyRun], base: str, home: pathlib.Path,
            cores: Sequence[int | None], split: str) -> None:
  """Runs jobs in order, one at a time on every core of `cores`; prints each
  one's endpoint on a split."""
  free: queue.Queue = queue.Queue()
  for core in cores:
    free.put(core)
  def one(job):
    core = free.get()
    try:
      run_job(job, base, home, core)
      print(f'{job.name}: {endpoint_of(home, job, split)}', flush=True)
    finally:
      free.put(core)
  with concurrent.futures.ThreadPoolExecutor(len(cores)) as pool:
    for _ in pool.map(one, todo):
      pass


def read(home: pathlib.Path, job: StudyRun) -> dict:
  """The summary, the evaluation curve and the seconds per step of a complete
  run."""
  path = home / 'runs' / job.name
  curve, metrics = ([json.loads(line)
                     for line in (path / name).read_text().splitlines()]
                    for name in ('eval.jsonl', 'metrics.jsonl'))
  summary = json.loads((path / 'summary.json').read_text())
  return {'arm': job.arm, 'rate': job.rate, 'seed': job.seed,
          'summary': summary, 'curve': curve,
          'step_s': step_seconds(metrics)}


def spread_of(home: pathlib.Path, job: StudyRun, last: int) -> float:
  """tables.spread of a complete run over its `last` steps."""
  path = home / 'runs' / job.name
  lines = (path / 'samples.jsonl').read_text().splitlines()
  steps = json.loads((path / 'summary.json').read_text())['steps']
  return spread(list(map(json.loads, lines)), steps, last)


def endpoint_of(home: pathlib.Path, job: StudyRun, split: str) -> float:
  """The greedy plain accuracy on a split at the last step."""
  return read(home, job)['summary']['eval'][split]['final']


def choose_rates(records: Sequence[dict], split: str) -> dict[str, float]:
  """Each arm's rate: the highest mean endpoint; ties go to the lower rate."""
  by_arm: dict[str, dict[float, list[float]]] = {}
  for r in records:
    final = r['summary']['eval'][split]['final']
    by_arm.setdefault(r['arm'], {}).setdefault(r['rate'], []).append(final)
  return {arm: max(sorted(finals), key=lambda rate: np.mean(finals[rate]))
          for arm, finals in by_arm.items()}


def machine() -> dict:
  """The machine and versions that the numbers come from."""
  return {'python': platform.python_version(), 'system': platform.system(),
          'processor': platform.machine(), 'cores': os.cpu_count(),
          'versions': same_config.versions(),
          'git_revision': workdir.git_revision()}


def main(config, path, cores: str | None) -> None:
  """Runs a study and writes results.json and table.md.

  Args:
    config: a study (studies/*.py).
    path: its directory; complete runs in it are kept.
    cores: e.g. '0,1': one run at a time is pinned to each core; None: one run
      at a time, unpinned.

  Raises:
    Locked: if another process works in the directory.
    RuntimeError: see run_job.
  """
  home = pathlib.Path(path)
  home.mkdir(parents=True, exist_ok=True)
  with lock.hold(home):
    _run(config, home, cores)


def _run(config, home: pathlib.Path, cores: str | None) -> None:
  where = [int(x) for x in cores.split(',')] if cores else [None]
  splits, split = tuple(config.splits), config.endpoint
  development: list[dict] = []
  if config.rates:
    rates = {arm: tuple(config.rates) for arm in config.arms}
    todo = jobs(config, rates, config.development_seeds)
    run_all(todo, config.base, home, where, split)
    development = [read(home, job) for job in todo]
    chosen = choose_rates(development, split)
  else:
    chosen = dict(config.fixed_rates)
  todo = jobs(config, {arm: (rate,) for arm, rate in chosen.items()},
              config.seeds)
  run_all(todo, config.base, home, where, split)
  reported = [read(home, job) for job in todo]
  if last := config.get('spread_steps', 0):
    for job, record in zip(todo, reported, strict=True):
      record['spread'] = spread_of(home, job, last)
  contrasts = [contrast(reported, a, b, s)
               for s in splits for a, b in config.contrasts]
  results = {
      'study': json.loads(config.to_json_best_effort()), 'rates': chosen,
      'machine': machine(), 'development': development, 'reported': reported,
      'contrasts': contrasts}
  (home / 'results.json').write_text(
      json.dumps(results, sort_keys=True) + '\n')
  parts = [f'# {config.title}', '']
  if development:
    parts += ['Development seeds, all rates:', '',
              arm_table(development, splits), '']
  parts += ['Reported seeds:', '', arm_table(reported, splits), '']
  if last:
    parts += ['Different right answers of the student to a question, in the '
              f'recorded samples of the last {last} steps:', '',
              spread_table(reported), '']
  parts += ['What a step costs:', '', cost_table(reported), '']
  if contrasts:
    parts += [contrast_table(contrasts), '']
  (home / 'table.md').write_text('\n'.join(parts))
  print('\n'.join(parts))
