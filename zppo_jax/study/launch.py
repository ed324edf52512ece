"""Studies: many runs of the main job, paired by seed, from one command.

A study file (studies/*.py) names its arms, learning rates and seeds. The
command first pre-trains the models that the study names. It then runs the
development seeds at every rate, and fixes each arm's rate by a rule stated
beforehand (the highest mean endpoint over the development seeds; ties go to the
lower rate), or takes the rates that another study chose. Arms of an equal
budget get their steps from the development runs too. Then it runs the reported
seeds. A complete run is never run again, so the same command resumes a study,
on another machine from records.jsonl and models/ (study/records.py).
Results are written to results.json, and table.md is made of them alone.

Fields of a study (docs/study.md has the rules):

  title, base, arms, common, endpoint, splits, seeds, development_seeds
  rates          learning rates of every arm; () with the next two
  fixed_rates    arm -> rate
  rates_of       results.json of a study that chose them
  models         name -> (role, overrides), made by `zppo pretrain`; a value
                 '{models}/NAME.safetensors' is one of them
  matched        arm -> (arm with other steps, arm whose budget it gets, what)
  answers        splits whose greedy answers after training are kept
  spread_steps   the last steps whose samples say the spread, and with it all
                 endpoints of study/endpoints.py
  saturation_steps  steps of a window in which saturated BCQs are counted
                 (study/saturation.py)
  watched        metrics whose means over the steps are endpoints too
  contrasts      pairs of arms, each on all splits
  confirmatory   (arm, arm, endpoint), one family under Holm's method
  exploratory    (arm, arm, endpoint)
  hours          what the table may take on two cores
"""

import dataclasses
import json
import os
import pathlib
import platform
import runpy
from collections.abc import Mapping, Sequence

import numpy as np

from zppo_jax import allowed
from zppo_jax.devices.disk import write_json
from zppo_jax.runs import lock, same_config, workdir
from zppo_jax.study import analysis, budgets, running
from zppo_jax.study.jobs import Place, StudyRun, jobs
from zppo_jax.study.page import table
from zppo_jax.study.tables import contrast
from zppo_jax.study.workers import Workers


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


def _place(config, home: pathlib.Path, cores: str | None,
           workers: Workers) -> Place:
  return Place(
      home=home, base=config.base, answers=tuple(config.get('answers', ())),
      cores=tuple(map(int, cores.split(','))) if cores else (None,),
      last=config.get('spread_steps', 0),
      width=config.get('saturation_steps', 0),
      watched=tuple(config.get('watched', ())), workers=workers)


def main(config, path, cores: str | None, smoke: int = 0) -> None:
  """Runs a study and writes results.json and table.md.

  Args:
    config: a study (studies/*.py).
    path: its directory; complete runs in it are kept.
    cores: e.g. '0,1': one run at a time is pinned to each core; None: one run
      at a time, unpinned.
    smoke: > 0: runs each arm for so many steps instead, and says how long the
      whole table would take.

  Raises:
    Locked: if another process works in the directory.
    RuntimeError: see running.run_job.
    ValueError, KeyError: for a study whose fields do not fit together.
  """
  home = pathlib.Path(path)
  check(config)
  home.mkdir(parents=True, exist_ok=True)
  with lock.hold(home), Workers() as workers:
    place = _place(config, home, cores, workers)
    if smoke:
      _smoke(config, place, smoke)
    else:
      _run(config, place)


def check(config) -> None:
  """Refuses a study that names an arm which it does not have.

  Raises:
    KeyError: naming the field and the arm.
    ValueError: without rates, or if arms of an equal budget have no development
      runs from which it could be computed.
  """
  matched = dict(config.get('matched', {}))
  known = (*config.arms, *matched)
  for field in ('contrasts', 'confirmatory', 'exploratory'):
    for first, second, *_ in config.get(field, ()):
      for arm in (first, second):
        allowed.one_of(f'arm of {field}', arm, known)
  for arm, (lengthened, reference, spent) in matched.items():
    for of in (lengthened, reference):
      allowed.one_of(f'arm of matched.{arm}', of, config.arms)
    allowed.one_of(f'matched.{arm}', spent, budgets.SPENT)
  if matched and not config.rates:
    raise ValueError(f'matched is {", ".join(matched)}, whose steps come from '
                     'development runs; rates is (), so there are none')
  if config.get('watched') and not config.get('spread_steps'):
    raise ValueError(f'watched is {tuple(config.watched)} and spread_steps is '
                     '0; endpoints of metrics need at least 1')
  if not (config.rates or config.get('fixed_rates')
          or config.get('rates_of')):
    raise ValueError('rates is () and there is neither fixed_rates nor '
                     'rates_of')


def _rates_of(config) -> dict[str, float]:
  """The rates of a study without development seeds."""
  if not config.get('rates_of'):
    return dict(config.fixed_rates)
  chosen = json.loads(pathlib.Path(config.rates_of).read_text())['rates']
  return {arm: allowed.known(f'arm of {config.rates_of}', arm, chosen)
          for arm in config.arms}


def _matched(config, development: Sequence[Mapping],
             rates: Mapping[str, float]) -> dict[str, int]:
  """Arm of an equal budget -> its steps."""
  at_chosen = [r for r in development if r['rate'] == rates[r['arm']]]
  return {arm: budgets.equal_steps(at_chosen, *of)
          for arm, of in config.get('matched', {}).items()}


def _with_matched(config, steps: Mapping[str, int]):
  """The study with its arms of an equal budget as arms."""
  whole = config.copy_and_resolve_references()
  with whole.unlocked():
    for arm, (lengthened, *_) in config.get('matched', {}).items():
      whole.arms[arm] = (*config.arms[lengthened], ('steps', steps[arm]))
  return whole


def _run(config, place: Place) -> None:
  home, splits = place.home, tuple(config.splits)
  running.make_models(config.get('models', {}), place)
  development: list[dict] = []
  if config.rates:
    rates = {arm: tuple(config.rates) for arm in config.arms}
    todo = jobs(config, rates, config.development_seeds, home)
    development = running.run_all(
        todo, dataclasses.replace(place, width=0), config.endpoint)
    chosen = choose_rates(development, config.endpoint)
  else:
    chosen = _rates_of(config)
  steps = _matched(config, development, chosen)
  whole = _with_matched(config, steps)
  chosen |= {arm: chosen[of[0]]
             for arm, of in config.get('matched', {}).items()}
  todo = jobs(whole, {arm: (rate,) for arm, rate in chosen.items()},
              config.seeds, home)
  reported = running.run_all(todo, place, config.endpoint)
  results = {
      'study': json.loads(whole.to_json_best_effort()), 'rates': chosen,
      'matched_steps': steps, 'machine': machine(),
      'development': development, 'reported': reported,
      'contrasts': [contrast(reported, a, b, s)
                    for s in splits for a, b in config.contrasts],
      'confirmatory': analysis.family(
          reported, [analysis.Contrast(*of)
                     for of in config.get('confirmatory', ())]),
      'exploratory': [analysis.contrast(reported, analysis.Contrast(*of))
                      for of in config.get('exploratory', ())]}
  file = home / 'results.json'
  file.write_text(json.dumps(results, sort_keys=True) + '\n')
  text = table(json.loads(file.read_text()))
  (home / 'table.md').write_text(text)
  print(text)


def _base(config, job: StudyRun) -> tuple[int, int]:
  """(steps, evaluations) of a whole run of a job."""
  file, _, argument = config.base.partition(':')
  values = runpy.run_path(file)['get_config'](*[argument] if argument else [])
  flat = {**same_config.flat(same_config.config_values(values)),
          **dict(job.overrides)}
  steps, every = int(flat['steps']), int(flat['eval.every'])
  return steps, 1 + (-(-steps // every) if every else 1)


def _smoke(config, whole_place: Place, steps: int) -> None:
  """One short run of each arm, and what the table would take."""
  allowed.number('smoke', steps, '>= 4', whole=True)
  home = whole_place.home
  running.make_models(config.get('models', {}), whole_place)
  place = dataclasses.replace(whole_place, home=home / 'smoke', last=0,
                              width=0)
  place.home.mkdir(exist_ok=True)
  rates = {arm: (dict(config.get('fixed_rates', {})).get(arm)
                 or (*config.rates, 1e-4)[0],) for arm in config.arms}
  short = {arm: (('steps', steps), ('eval.every', steps // 2))
           for arm in config.arms}
  seeds = (*config.development_seeds, *config.seeds)[:1]
  todo = jobs(config, rates, seeds, home, short)
  records = running.run_all(todo, place, config.endpoint)
  run_s, seen = {}, {}
  for job, whole, record in zip(
      todo, jobs(config, rates, seeds, home), records, strict=True):
    lines = running.endpoints.json_lines(place.of(job) / 'metrics.jsonl')
    measured = budgets.Measured(
        whole_s=record['cpu_s'], step_s=record['step_s'], steps=steps,
        evaluation_s=lines[steps // 2].get('time/evaluate', 0.0),
        evaluations=3)
    run_s[job.arm] = measured.run_s(*_base(config, whole))
    seen[job.arm] = measured._asdict()
  counts = {arm: len(config.rates) * len(config.development_seeds)
            + len(config.seeds) for arm in config.arms}
  for arm, (lengthened, *_) in config.get('matched', {}).items():
    # Their steps are not known yet; twice as many are more than they will be.
    run_s[arm] = 2 * run_s[lengthened]
    counts[arm] = len(config.seeds)
  hours = budgets.table_hours(run_s, counts, len(place.cores))
  write_json(home / 'smoke.json', {
      'measured': seen, 'run_s': run_s, 'runs': counts,
      'workers': len(place.cores), 'hours': hours, 'machine': machine()})
  runs = sum(counts.values())
  print(f'{config.title}: {runs} runs, {hours:.2f} h on {len(place.cores)} '
        f'core(s); allowed are {config.get("hours", 6.0):g} h on 2')
