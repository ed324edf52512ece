"""What a run leaves on disk: config, metrics a line a step, summary, weights.

  config.json     the resolved config
  metrics.jsonl   {'step', ...} a line a step, flushed
  eval.jsonl      {'step', 'student_rollouts', 'tokens', split: accuracy}
  summary.json    written last: its presence means that the run is complete
  final.safetensors
"""

import dataclasses
import json
import os
import pathlib
import subprocess
from collections import Counter
from importlib import metadata

from zppo_jax import weights

PACKAGES = ('zppo_jax', 'jax', 'jaxlib', 'flax', 'optax', 'numpy')


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


def _write_json(path: pathlib.Path, value) -> None:
  partial = path.with_suffix('.partial')
  partial.write_text(json.dumps(value, indent=2, sort_keys=True) + '\n')
  os.replace(partial, path)


class History:
  """Totals over the steps of a run."""

  def __init__(self):
    self.student_rollouts = 0
    self.tokens: Counter = Counter()
    self.graduated: Counter = Counter()
    self.admitted: Counter = Counter()

  def add(self, row: dict, settled) -> None:
    """Adds a step's metrics and buffer settlement."""
    self.student_rollouts += row['student_rollouts']
    for name, value in row.items():
      if name.startswith('tokens/'):
        self.tokens[name.removeprefix('tokens/')] += value
    if settled is not None:
      self.admitted.update(e.entry_accuracy for e in settled.admitted)
      self.graduated.update(e.entry_accuracy for e in settled.graduated)

  def summary(self, base, final, steps: int, seconds: float) -> dict:
    """The summary; graduation is counted by accuracy at admission."""
    return {
        'steps': steps, 'wall_s': seconds,
        'student_rollouts': self.student_rollouts,
        'tokens': dict(self.tokens),
        'eval': {s: {'base': base[s], 'final': final[s]} for s in base},
        'graduated': sum(self.graduated.values()),
        'admitted': sum(self.admitted.values()),
        'graduation_by_entry_accuracy': {
            f'{a:g}': {'admitted': n, 'graduated': self.graduated[a]}
            for a, n in sorted(self.admitted.items())},
    }


def check_unused(path) -> None:
  """FileExistsError for a file, or a directory that is not empty."""
  path = pathlib.Path(path)
  if path.exists() and not path.is_dir():
    raise FileExistsError(f'{path} is a file; a run needs a directory')
  if path.exists() and any(path.iterdir()):
    raise FileExistsError(f'{path} is not empty; a run needs a directory '
                          'of its own')


@dataclasses.dataclass(frozen=True)
class Workdir:
  """A run's directory; never one that was used before."""
  path: pathlib.Path

  @classmethod
  def create(cls, path, config) -> 'Workdir':
    """Makes the directory and writes the config.

    Raises:
      FileExistsError: as `check_unused`.
    """
    check_unused(path)
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    _write_json(path / 'config.json', {
        'config': json.loads(config.to_json_best_effort()),
        'versions': versions(), 'git_revision': git_revision()})
    return cls(path)

  def _append(self, name: str, row: dict) -> None:
    with open(self.path / name, 'a') as f:
      f.write(json.dumps(row) + '\n')

  def log_step(self, row: dict) -> None:
    self._append('metrics.jsonl', row)

  def log_eval(self, step: int, accuracy: dict, history: History) -> None:
    """An evaluation after `step` steps, with what had been spent by then."""
    self._append('eval.jsonl', {
        'step': step, 'student_rollouts': history.student_rollouts,
        'tokens': sum(history.tokens.values()), **accuracy})

  def finish(self, summary: dict, params, description: dict) -> None:
    """Writes the final weights with their description, then the summary."""
    weights.save(self.path / 'final.safetensors', params, description)
    _write_json(self.path / 'summary.json', summary)
