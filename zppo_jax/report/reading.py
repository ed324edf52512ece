"""A workdir as one frozen record; notes say what is missing or incomplete."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from zppo_jax.study import tables

LARGEST_TEXT = 6000  # the most characters of a text that a page keeps
LARGEST_SAMPLES = 1_000_000  # the most characters of all questions on a page


@dataclasses.dataclass(frozen=True)
class RecordedRun:
  """The contents of a workdir.

  Attributes:
    name: the directory's name, made unique among the runs read together.
    path: the directory.
    config: the resolved config.
    revision: commit of the code.
    versions: package -> version.
    metrics: rows of metrics.jsonl.
    evals: rows of eval.jsonl.
    departures: rows of buffer.jsonl.
    samples: the chosen rows of samples.jsonl.
    samples_total: the number of rows in samples.jsonl.
    summary: None while the run is unfinished.
    notes: sentences about what is missing or incomplete.
    forked_from: the workdir or checkpoint whose state it began with, or None.
    attempts: what each start of the run said about itself (attempt.json), but
      the config.
    proposed: the fields of the section `shapes` that shapes.auto proposed.
  """
  name: str
  path: pathlib.Path
  config: dict
  revision: str
  versions: dict
  metrics: tuple[dict, ...]
  evals: tuple[dict, ...]
  departures: tuple[dict, ...]
  samples: tuple[dict, ...]
  samples_total: int
  summary: dict | None
  notes: tuple[str, ...]
  forked_from: pathlib.Path | None = None
  attempts: tuple[dict, ...] = ()
  proposed: tuple[str, ...] = ()

  @property
  def complete(self) -> bool:
    return self.summary is not None

  @property
  def method(self) -> str:
    return self.config['method']

  @property
  def supervised(self) -> bool:
    """Whether it is a run of `zppo sft`."""
    return self.method == 'sft'

  @property
  def seed(self) -> int:
    return self.config['seed']

  @property
  def splits(self) -> tuple[str, ...]:
    """Evaluation splits, in the order of the config."""
    spent = ('step', 'student_rollouts', 'tokens')
    return tuple(dict.fromkeys(
        k for row in self.evals for k in row
        if k not in spent and (self.supervised or not k.startswith(
            ('drift/', 'reward/')))))


def _json(path: pathlib.Path) -> dict:
  try:
    return json.loads(path.read_text())
  except json.JSONDecodeError as e:
    raise ValueError(f'{path} is not readable JSON: {e}') from e


def _lines(path: pathlib.Path, torn_allowed: bool, notes: list[str]):
  """Rows of a JSON lines file, one at a time; no rows if the file is missing.

  Raises:
    ValueError: for a line that is not JSON, unless it is the last line and may
      be incomplete.
  """
  if not path.is_file():
    return
  with open(path, encoding='utf-8', errors='replace') as f:
    bad = None  # the line that failed, until we know whether it is the last
    for number, line in enumerate(f, 1):
      if bad is not None:
        break
      if not line.strip():
        continue
      try:
        row = json.loads(line)
      except json.JSONDecodeError as e:
        bad = (number, e)
        continue
      yield row
    else:
      if bad is not None and torn_allowed:
        notes.append(f'The last line of {path.name} ({bad[0]}) is torn and '
                     'was left out: the run was writing it when it was read '
                     'or stopped.')
        return
  if bad is not None:
    raise ValueError(f'{path}, line {bad[0]} is not JSON: {bad[1]}')


def pick_evenly(steps: Sequence[int], limit: int) -> list[int]:
  """Indices of at most `limit` rows that are spread evenly over the steps.

  Args:
    steps: the step of each row.
    limit: the most rows.
  """
  if len(steps) <= limit:
    return list(range(len(steps)))
  if limit < 1:
    return []
  by_step: dict[int, list[int]] = {}
  for i, step in enumerate(steps):
    by_step.setdefault(step, []).append(i)
  known = sorted(by_step)
  if limit < len(known):
    known = [known[i] for i in
             np.linspace(0, len(known) - 1, limit).astype(int)]
  quota = dict.fromkeys(known, 0)
  left = limit
  while left:  # each round gives one more row to each step that has one
    open_steps = [s for s in known if quota[s] < len(by_step[s])]
    if not open_steps:
      break
    if left < len(open_steps):
      open_steps = [open_steps[i] for i in
                    np.linspace(0, len(open_steps) - 1, left).astype(int)]
    for s in open_steps:
      quota[s] += 1
    left -= len(open_steps)
  out = []
  for s in known:
    if quota[s]:
      places = np.linspace(0, len(by_step[s]) - 1, quota[s]).astype(int)
      out += [by_step[s][i] for i in places]
  return out


def shorten(value, limit: int = LARGEST_TEXT):
  """A JSON value whose texts keep `limit` characters from both ends; between
  them stands how many characters were left out."""
  if isinstance(value, str) and len(value) > limit:
    half = limit // 2
    return (f'{value[:half]}\n[... {len(value) - 2 * half} characters left '
            f'out ...]\n{value[-half:]}')
  if isinstance(value, list):
    return [shorten(v, limit) for v in value]
  if isinstance(value, dict):
    return {k: shorten(v, limit) for k, v in value.items()}
  return value


def _samples(path, limit: int, budget: int, torn_allowed: bool,
             notes: list[str]):
  """(chosen rows, number of rows), in two passes as the file may be large."""
  steps, sizes = [], []
  for row in _lines(path, torn_allowed, notes):
    steps.append(row['step'])
    sizes.append(len(json.dumps(shorten(row))) if len(steps) % 16 == 1 else 0)
  if not steps:
    return (), 0
  mean = sum(sizes) / sum(s > 0 for s in sizes)
  limit = min(limit, max(1, int(budget / mean))) if limit else 0
  chosen = set(pick_evenly(steps, limit))
  rows = [shorten(row) for i, row in enumerate(_lines(path, torn_allowed, []))
          if i in chosen]
  return tuple(rows), len(steps)


def read(path, *, name: str | None = None, max_samples: int = 0,
         samples_budget: int = LARGEST_SAMPLES) -> RecordedRun:
  """Reads a workdir.

  Args:
    path: the directory.
    name: the run's name; None: the directory's name.
    max_samples: the most recorded questions kept, evenly over steps.
    samples_budget: about how many characters they may have together.

  Raises:
    FileNotFoundError: for a folder that is no workdir.
    ValueError: for a damaged file, naming it and the line.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    raise FileNotFoundError(f'{path} is not a directory; a workdir of '
                            '`zppo train` is needed')
  if not (path / 'config.json').is_file():
    names = ', '.join(sorted(p.name for p in path.iterdir())[:8]) or 'nothing'
    raise FileNotFoundError(f'{path} is no workdir of `zppo train`: it has no '
                            f'config.json (it holds {names})')
  head = _json(path / 'config.json')
  missing = {'config', 'versions', 'git_revision'} - head.keys()
  if missing:
    raise ValueError(f'{path / "config.json"} lacks {sorted(missing)}')
  for field in ('method', 'seed', 'steps'):
    if field not in head['config']:
      raise ValueError(f'{path / "config.json"} is not of a training run: its '
                       f'config has no {field!r}')
  summary = (_json(path / 'summary.json')
             if (path / 'summary.json').is_file() else None)
  if summary is not None and 'eval' not in summary:
    raise ValueError(f'{path} holds no training run: its summary.json has no '
                     "'eval' (a directory of `zppo eval` has none)")
  notes: list[str] = []
  torn = summary is None
  metrics = tuple(_lines(path / 'metrics.jsonl', torn, notes))
  evals = tuple(_lines(path / 'eval.jsonl', torn, notes))
  departures = tuple(_lines(path / 'buffer.jsonl', torn, notes))
  samples, total = _samples(path / 'samples.jsonl', max_samples,
                            samples_budget, torn, notes)
  if summary is None:
    notes.insert(0, f'Unfinished: {len(metrics)} of '
                 f'{head["config"]["steps"]} steps are recorded.')
  if not metrics:
    notes.append('metrics.jsonl has no step.')
  attempts = _attempts(path, notes)
  return RecordedRun(name or path.resolve().name, path, head['config'],
             head['git_revision'], head['versions'], metrics, evals,
             departures, samples, total, summary, tuple(notes),
             _forked_from(head), attempts, tuple(head.get('proposed', ())))


def _attempts(path: pathlib.Path, notes: list[str]) -> tuple[dict, ...]:
  out = []
  for file in sorted((path / 'attempts').glob('*/attempt.json')):
    try:
      values = _json(file)
    except ValueError:  # a start that died while it wrote the file
      notes.append(f'attempts/{file.parent.name}/attempt.json is not readable.')
      continue
    values.pop('config', None)
    out.append(values)
  return tuple(out)


def _forked_from(head: dict) -> pathlib.Path | None:
  origin = head.get('forked_from')
  return pathlib.Path(origin['path']).resolve() if origin else None


def differing(runs: Sequence[RecordedRun]) -> dict[str, list]:
  """Dotted config fields in which runs differ -> their values, in run order.

  What shapes.auto proposed in all of the runs is no difference: nobody chose
  it, and shapes change no result beyond rounding.
  """
  common = set.intersection(*(set(r.proposed) for r in runs)) if runs else set()
  return {name: values for name, values in tables.differing(
      [r.config for r in runs]).items()
          if not (name.startswith('shapes.')
                  and name.removeprefix('shapes.') in common)}


def sequences(runs: Sequence[RecordedRun]) -> list[list[RecordedRun]]:
  """Runs of which each was forked from the one before, as stages; the longest
  sequence to each run from which no other goes on."""
  def before(run: RecordedRun) -> RecordedRun | None:
    origin = run.forked_from
    return None if origin is None else next(
        (other for other in runs if other is not run and other.evals and (
            origin == other.path.resolve()
            or other.path.resolve() in origin.parents)), None)

  previous = {run.name: before(run) for run in runs if run.evals}
  begun = {run.name for run in previous.values() if run is not None}
  out = []
  for run in runs:
    if run.name in begun or run.name not in previous:
      continue
    stages, at = [run], previous[run.name]
    while at is not None and at not in stages:
      stages.insert(0, at)
      at = previous[at.name]
    if len(stages) > 1:
      out.append(stages)
  return out


def read_all(paths: Sequence, max_samples: int = 0) -> list[RecordedRun]:
  """Reads several workdirs; equal names get their parent folder in front.

  Raises:
    ValueError: if no path is given or a path is given twice.
    FileNotFoundError: see `read`.
  """
  resolved = [pathlib.Path(p).resolve() for p in paths]
  if not resolved:
    raise ValueError('no workdir is given')
  for path in resolved:
    if resolved.count(path) > 1:
      raise ValueError(f'{path} is given twice')
  names = [p.name for p in resolved]
  names = [f'{p.parent.name}/{n}' if names.count(n) > 1 else n
           for p, n in zip(resolved, names, strict=True)]
  return [read(p, name=n, max_samples=max_samples // len(resolved),
               samples_budget=LARGEST_SAMPLES // len(resolved))
          for p, n in zip(paths, names, strict=True)]
