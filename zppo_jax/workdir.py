"""What a run leaves on disk.

  config.json      resolved config, versions, revision, where it was forked from
  metrics.jsonl    a line a step; eval.jsonl, buffer.jsonl, samples.jsonl:
                   docs/metrics.md names every field
  verdicts.jsonl   verdicts/journal.py
  checkpoints/     see checkpoints.py
  attempts/NNNN/   attempt.json and log.txt of every start; what a resume cut
                   out of the files above; the batch of a run that diverged;
                   the summary that a longer run replaced
  tensorboard/     events
  summary.json     written last: its presence means that the run is complete
  final.safetensors

A directory is used by one run. Starting the same config again resumes it.
"""

import dataclasses
import json
import os
import pathlib
import platform
import subprocess
import time
from importlib import metadata

import numpy as np

from zppo_jax import weights

PACKAGES = ('zppo_jax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint',
            'numpy')
# file -> how many steps are done when a line with this 'step' is written
LINES = {'metrics.jsonl': 1, 'samples.jsonl': 1, 'buffer.jsonl': 1,
         'eval.jsonl': 0}


def versions() -> dict[str, str]:
  """Installed versions of what decides the numbers."""
  out = {}
  for name in PACKAGES:
    try:
      out[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      out[name] = 'not installed'
  return out


def git_revision() -> str:
  """Commit of the code that runs, '+' behind it if it was changed since;
  'unknown' for an installed package."""
  here = pathlib.Path(__file__).parent
  git = lambda *words: subprocess.run(
      ['git', '-C', str(here), *words], capture_output=True, text=True)
  try:
    head = git('rev-parse', 'HEAD')
    changed = git('status', '--porcelain', '--untracked-files=no', '--', '.')
  except FileNotFoundError:  # no git here
    return 'unknown'
  if head.returncode:
    return 'unknown'
  return head.stdout.strip() + ('+' if changed.stdout.strip() else '')


def write_json(path: pathlib.Path, value) -> None:
  """Writes JSON under its name only when it is whole."""
  partial = path.with_suffix('.partial')
  partial.write_text(json.dumps(value, indent=2, sort_keys=True) + '\n')
  os.replace(partial, path)


def config_values(config) -> dict:
  """A ConfigDict as the JSON values under which it is stored."""
  return json.loads(config.to_json_best_effort())


def flat(values: dict, prefix: str = '') -> dict:
  """Nested JSON values by dotted name."""
  out = {}
  for key, value in values.items():
    name = f'{prefix}{key}'
    out.update(flat(value, f'{name}.') if isinstance(value, dict) and value
               else {name: value})
  return out


def describe(config, forked_from: dict | None = None) -> dict:
  """What config.json holds: config, versions, revision, origin."""
  return {'config': config_values(config), 'versions': versions(),
          'git_revision': git_revision(), 'forked_from': forked_from}


def check_unused(path) -> None:
  """FileExistsError for a file, or a directory that is not empty."""
  path = pathlib.Path(path)
  if path.exists() and not path.is_dir():
    raise FileExistsError(f'{path} is a file; a directory is needed')
  if path.exists() and any(path.iterdir()):
    raise FileExistsError(f'{path} is not empty; a new directory is needed')


def read_config(path) -> dict | None:
  """config.json of a workdir; None for a directory that is new or empty, or
  whose first attempt died before it wrote one.

  Raises:
    FileExistsError: for a file, or a directory that is not a workdir.
    ValueError: for a config.json that cannot be read.
  """
  path = pathlib.Path(path)
  if path.exists() and not path.is_dir():
    raise FileExistsError(f'{path} is a file; a run needs a directory')
  if not path.exists() or not any(path.iterdir()):
    return None
  stored = path / 'config.json'
  if not stored.is_file():
    if {p.name for p in path.iterdir()} <= {'attempts', 'config.partial'}:
      return None
    raise FileExistsError(f'{path} is not empty and holds no run; a run needs '
                          'a directory of its own')
  try:
    return json.loads(stored.read_text())
  except ValueError as e:
    raise ValueError(f'{stored} is not readable: {e}') from e


# Servers may move, and one may lose patience with them.
MAY_CHANGE = frozenset({'steps', 'teacher.max_failures', 'teacher.window', *(
    f'{of}.{name}' for of in ('teacher.endpoint', 'judge') for name in (
        'url', 'key_env', 'budget_s', 'deadline_s', 'concurrency', 'retries',
        'backoff_s', 'max_reply_mb'))})


def check_same_config(path, stored: dict, config) -> None:
  """Only a run's own config resumes it, but for MAY_CHANGE; `steps` may grow.

  Raises:
    ValueError: naming the fields that differ, with both values.
  """
  there, here = flat(stored['config']), flat(config_values(config))
  differ = [n for n in sorted({**there, **here})
            if n not in MAY_CHANGE and there.get(n) != here.get(n)]
  if differ:
    shown = '; '.join(f'{n} is {there.get(n)!r} there and {here.get(n)!r} here'
                      for n in differ)
    raise ValueError(f'{path} holds a run of another config: {shown}. Resume '
                     'with its own config, or take a new --workdir')
  if here['steps'] < there['steps']:
    raise ValueError(f'steps is {here["steps"]}; {path} holds a run of '
                     f'{there["steps"]} steps, which may only grow')


def _start_of_step(raw: bytes, done: int, offset: int) -> int:
  """Where the lines of a file stop that `done` steps account for, in bytes."""
  at = 0
  for line in raw.splitlines(keepends=True):
    try:
      step = json.loads(line)['step']
    except (ValueError, KeyError, TypeError):
      return at  # torn by a kill
    if not line.endswith(b'\n') or step + offset > done:
      return at
    at += len(line)
  return at


@dataclasses.dataclass(frozen=True)
class Workdir:
  """A run's directory and the attempt that writes to it."""
  path: pathlib.Path
  attempt: pathlib.Path

  @classmethod
  def open(cls, path, config, forked_from: dict | None = None) -> 'Workdir':
    """Starts an attempt; the first one writes the config.

    Args:
      path: a new or empty directory, or a workdir of the same config.
      config: the run's config.
      forked_from: {'path', 'step'} of the checkpoint that a new run starts
        from.

    Raises:
      FileExistsError, ValueError: as `read_config`, `check_same_config`.
    """
    path = pathlib.Path(path)
    stored = read_config(path)
    if stored is not None:
      check_same_config(path, stored, config)
    attempts = path / 'attempts'
    attempts.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(p.name) for p in attempts.iterdir()
                      if p.name.isdigit()), default=0)
    attempt = attempts / f'{number:04d}'
    attempt.mkdir()
    origin = forked_from if stored is None else stored['forked_from']
    described = describe(config, origin)
    write_json(attempt / 'attempt.json', {
        **described, 'host': platform.node(), 'pid': os.getpid(),
        'started': time.strftime('%Y-%m-%dT%H:%M:%S%z')})
    if stored is None or stored['config'] != described['config']:
      write_json(path / 'config.json', described)
    out = cls(path, attempt)
    for name in ('summary.json', 'final.safetensors'):
      if (path / name).exists():  # of a run that now goes on
        os.replace(path / name, attempt / name)
    return out

  @property
  def verdicts(self) -> pathlib.Path:
    """The journal of verdicts, which a resume does not cut."""
    return self.path / 'verdicts.jsonl'

  def cut(self, step: int | None) -> int:
    """Takes lines beyond a restored step out of the run's files.

    They are kept, to the byte, under this attempt.

    Args:
      step: steps that the restored checkpoint accounts for; None if there is
        none, so that nothing stays.

    Returns:
      Lines that were cut.
    """
    lines = 0
    for name, offset in LINES.items():
      path = self.path / name
      if not path.exists():
        continue
      raw = path.read_bytes()
      at = 0 if step is None else _start_of_step(raw, step, offset)
      if at == len(raw):
        continue
      kept = self.attempt / f'cut_{name}'
      kept.write_bytes(raw[at:])
      os.truncate(path, at)
      lines += raw[at:].count(b'\n')
    return lines

  def _append(self, name: str, rows) -> None:
    with open(self.path / name, 'a') as f:
      f.writelines(json.dumps(row) + '\n' for row in rows)

  def log_step(self, row: dict) -> None:
    self._append('metrics.jsonl', [row])

  def log_samples(self, rows: list[dict]) -> None:
    self._append('samples.jsonl', rows)

  def log_fates(self, step: int, settled) -> None:
    """A line for every entry that left the buffer in a step."""
    self._append('buffer.jsonl', [
        {'step': step, 'fate': fate, 'id': e.question.id,
         'entry_accuracy': e.entry_accuracy, 'admitted_at': e.admitted_at,
         'visits': e.visits}
        for fate in ('graduated', 'evicted') for e in getattr(settled, fate)])

  def log_eval(self, step: int, accuracy: dict, history) -> None:
    """An evaluation after `step` steps, with what had been spent by then."""
    self._append('eval.jsonl', [{
        'step': step, 'student_rollouts': history.student_rollouts,
        'tokens': sum(history.tokens.values()), **accuracy}])

  def note(self, text: str) -> None:
    """A line in this attempt's log."""
    with open(self.attempt / 'log.txt', 'a') as f:
      f.write(f'{time.strftime("%H:%M:%S")} {text}\n')

  def keep_batch(self, step: int, reason: str, batches) -> pathlib.Path:
    """Writes the micro-batches of a step that ended the run.

    Args:
      step: the step.
      reason: what was wrong.
      batches: (mini-batch, micro-batch of host arrays) pairs.

    Returns:
      Their folder: reason.json and one .npz of arrays per micro-batch.
    """
    folder = self.attempt / f'stopped_at_step_{step}'
    folder.mkdir()
    write_json(folder / 'reason.json', {'step': step, 'reason': reason})
    for i, (minibatch, batch) in enumerate(batches):
      np.savez(folder / f'minibatch_{minibatch}_{i:04d}.npz', **_arrays(batch))
    return folder

  def finish(self, summary: dict, params, description: dict) -> None:
    """Writes the final weights with their description, then the summary."""
    weights.save(self.path / 'final.safetensors', params, description)
    write_json(self.path / 'summary.json', summary)


def _arrays(record) -> dict:
  """The arrays of a record and of the records in it, by their names."""
  out = {}
  for field in dataclasses.fields(record):
    value = getattr(record, field.name)
    if dataclasses.is_dataclass(value):
      out.update(_arrays(value))
    elif value is not None:
      out[field.name] = value
  return out


def read_summary(path) -> dict | None:
  """summary.json, or None while a run is not complete."""
  path = pathlib.Path(path) / 'summary.json'
  return json.loads(path.read_text()) if path.is_file() else None
