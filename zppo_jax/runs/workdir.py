"""The files that a run writes to its directory.

  config.json      resolved config, versions, revision, origin of a fork,
                   the date in its prompts and the user's own words
  metrics.jsonl    a line per step; docs/metrics.md names every field of this
                   file and of eval.jsonl, buffer.jsonl and samples.jsonl
  data_rows.json   digests of the questions; see data/digest.py
  verdicts.jsonl   see verdicts/journal.py
  checkpoints/     see runs/checkpoints.py
  rollouts/        what was drawn since the last checkpoint; see
                   rollout/journal.py
  lock.json        exists while a process works here; see runs/lock.py
  attempts/NNNN/   attempt.json and log.txt of every start; lines that a resume
                   cut out of the files above; the batch of a run that
                   diverged; the summary that a longer run replaced
  tensorboard/     events; wandb_id.txt: the run's id at W&B
  summary.json     written last: if it exists, the run is complete
  final.safetensors

One run uses a directory. The same config, started again, resumes the run. If a
start ended before its first step, another config takes its directory over.
"""

import dataclasses
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

import jax
import numpy as np

import zppo_jax
from zppo_jax.chat import prompts
from zppo_jax.devices import disk, hosts
from zppo_jax.devices.disk import write_json
from zppo_jax.runs import lock
from zppo_jax.runs.same_config import (
  check_same_config,
  config_values,
  differences,
  versions,
)
from zppo_jax.weights import safetensors_file

# file -> k, if a line with 'step' s is written when s + k steps are done
LINES = {'metrics.jsonl': 1, 'samples.jsonl': 1, 'buffer.jsonl': 1,
         'eval.jsonl': 0}


def git_revision() -> str:
  """The commit of the running code, with '+' if the code was changed since, or
  'unknown' for an installed package."""
  here = pathlib.Path(zppo_jax.__file__).parent
  git = lambda *words: subprocess.run(
      ['git', '-C', str(here), *words], capture_output=True, text=True)
  try:
    head = git('rev-parse', 'HEAD')
    changed = git('status', '--porcelain', '--untracked-files=no', '--', '.')
  except FileNotFoundError:  # git is not installed
    return 'unknown'
  if head.returncode:
    return 'unknown'
  return head.stdout.strip() + ('+' if changed.stdout.strip() else '')


def usable_cores() -> int:
  """The number of cores that this process may use. The order of sums on a CPU,
  and so the last bits of a run, depends on it."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def command() -> str:
  """The command line of this process, as it can be typed again; the program is
  named without its folder."""
  program, *words = sys.argv
  name = pathlib.Path(program).name
  return shlex.join(['zppo' if name in ('main.py', 'zppo') else name, *words])


def devices() -> dict:
  """What JAX runs on: platform, kind of device, their number."""
  first = jax.devices()[0]
  return {'platform': first.platform, 'kind': first.device_kind,
          'count': jax.device_count()}


def describe(config, forked_from: dict | None = None,
             date: str | None = None, texts: dict | None = None,
             proposed: Sequence[str] = ()) -> dict:
  """The content of config.json: config, versions, revision, origin of a fork,
  cores, date in prompts, a user's own words of prompts (Chat.prompts), fields
  of the section `shapes` that shapes.auto proposed."""
  return {'config': config_values(config), 'versions': versions(),
          'git_revision': git_revision(), 'forked_from': forked_from,
          'cores': usable_cores(), **({} if date is None else {'date': date}),
          **({'prompts': dict(texts)} if texts else {}),
          **({'proposed': list(proposed)} if proposed else {})}


def check_unused(path) -> None:
  """Raises FileExistsError for a file, or a directory that is not empty."""
  path = pathlib.Path(path)
  if path.exists() and not path.is_dir():
    raise FileExistsError(f'{path} is a file; a directory is needed')
  if path.exists() and any(path.iterdir()):
    raise FileExistsError(f'{path} is not empty; a new directory is needed')


def read_config(path) -> dict | None:
  """The config.json of a workdir, or None if there is none yet.

  There is none in a new or empty directory, or if the first attempt died before
  it wrote the file.

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
    if {p.name for p in path.iterdir()} <= {'attempts', 'config.partial',
                                            lock.NAME}:
      return None
    raise FileExistsError(f'{path} is not empty and holds no run; a run needs '
                          'a directory of its own')
  content = _read_object(stored, 'config', 'forked_from')
  origin = content['forked_from']
  if not isinstance(content['config'], dict) or origin is not None and not (
      isinstance(origin, dict) and type(origin.get('step')) is int):
    raise ValueError(f'{stored} is not readable: its config or forked_from is '
                     'not of the form that is written')
  return content


def is_begun(path) -> bool:
  """Whether a directory with a config.json holds what a run came to: a finished
  step, a checkpoint or a summary. A directory without attempts counts as begun,
  because it is not a run's, e.g. that of an evaluation."""
  path = pathlib.Path(path)
  steps, saved = path / 'metrics.jsonl', path / 'checkpoints'
  return (not (path / 'attempts').is_dir()
          or (path / 'summary.json').exists()
          or steps.exists() and steps.stat().st_size > 0
          or saved.is_dir() and any(p.name.isdigit() for p in saved.iterdir()))


def read_same(path, config, fork_from: str | None = None,
              texts: dict | None = None) -> dict | None:
  """The config.json of the run that goes on in a directory; None if a run
  begins there: in a new directory, or in that of another config's start, which
  ended before its first step (`is_begun`).

  Args:
    path: the directory.
    config: the config of now.
    fork_from: where a new run starts from.
    texts: the user's own words of its prompts; None: they are not compared.

  Raises:
    FileExistsError: see read_config; for a fork over a run that has begun.
    ValueError: see read_config, check_same_config and prompts.check_same.
  """
  stored = read_config(path)
  if stored is None:
    return None
  origin = (stored['forked_from'] or {}).get('path')
  try:
    if fork_from is not None and origin != str(fork_from):
      raise FileExistsError(f'{path} holds a run already; --fork-from needs '
                            'a new directory')
    check_same_config(path, stored, config)
    if texts is not None:
      prompts.check_same(path, stored.get('prompts', {}), texts)
  except (FileExistsError, ValueError):
    if is_begun(path):
      raise
    return None
  # Without a checkpoint, a fork has nothing to go on from but its origin.
  return stored if fork_from or not origin or is_begun(path) else None


def goes_on(path, config) -> bool:
  """Whether a run of a config goes on in a directory from what it came to; it
  raises as read_same."""
  return read_same(path, config) is not None and is_begun(path)


def _read_object(path: pathlib.Path, *names: str) -> dict:
  """A JSON object that must have some names; a ValueError names the file."""
  try:
    content = json.loads(path.read_text())
  except (ValueError, RecursionError) as e:
    raise ValueError(f'{path} is not readable: {e}') from e
  missing = [n for n in names
             if not isinstance(content, dict) or n not in content]
  if missing:
    raise ValueError(f'{path} is not readable: it has no {missing[0]!r}')
  return content


def _step_of(line: bytes) -> int | None:
  """The step of a complete line of a run's file; None for anything else."""
  try:
    step = json.loads(line)['step']
  except (ValueError, KeyError, TypeError, RecursionError):
    return None
  return step if type(step) is int and line.endswith(b'\n') else None


def _spans(steps: list[int]) -> str:
  """'3, 5 to 7' for [3, 5, 6, 7]."""
  spans: list[list[int]] = []
  for step in steps:
    if spans and step == spans[-1][1] + 1:
      spans[-1][1] = step
    else:
      spans.append([step, step])
  return ', '.join(f'{a}' if a == b else f'{a} to {b}' for a, b in spans)


@dataclasses.dataclass(frozen=True)
class Workdir:
  """A run's directory and the attempt that writes to it.

  Attributes:
    path: the directory of the run.
    attempt: the folder of this start.
    first: the step at which the run began; above 0 for a fork.
    writes: whether this process writes; of several processes only the first
      does, and the others' calls change nothing on disk.
  """
  path: pathlib.Path
  attempt: pathlib.Path
  first: int = 0
  writes: bool = True

  @classmethod
  def open(cls, path, config, forked_from: dict | None = None,
           date: str | None = None, texts: dict | None = None,
           proposed: Sequence[str] = ()) -> 'Workdir':
    """Starts an attempt; the first one writes the config. So does one that
    takes over the directory of a start that ended before its first step.

    Args:
      path: a new or empty directory, or a workdir of the same config.
      config: the run's config.
      forked_from: {'path', 'step'} of the checkpoint that a new run starts
        from.
      date: the date in the run's prompts, in ISO form.
      texts: the user's own words of its prompts (Chat.prompts).
      proposed: the fields of `shapes` that shapes.auto proposed; those of a run
        that goes on are in its config.json.

    Raises:
      FileExistsError, ValueError: see read_same.
    """
    path = pathlib.Path(path)
    before, fork = read_config(path), (forked_from or {}).get('path')
    stored = read_same(path, config, fork, texts or {})
    attempts = path / 'attempts'
    attempts.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(p.name) for p in attempts.iterdir()
                      if p.name.isdigit()), default=0)
    attempt = attempts / f'{number:04d}'
    attempt.mkdir()
    if taken_over := before is not None and stored is None:
      _move_aside(path, attempt)
    origin = forked_from if stored is None else stored['forked_from']
    proposed = proposed or (stored or {}).get('proposed', ())
    described = describe(config, origin, date, texts, proposed)
    several = {} if hosts.count() == 1 else {'processes': hosts.count()}
    write_json(attempt / 'attempt.json', {
        **described, 'host': platform.node(), 'pid': os.getpid(), **several,
        'command': command(), 'devices': devices(),
        'started': time.strftime('%Y-%m-%dT%H:%M:%S%z')})
    if stored is None or any(stored.get(name) != described.get(name)
                             for name in ('config', 'proposed')):
      write_json(path / 'config.json', described)
    out = cls(path, attempt, (origin or {}).get('step', 0))
    for name in ('summary.json', safetensors_file.FINAL):
      if (path / name).exists():  # left by a run that now continues
        os.replace(path / name, attempt / name)
    said = []
    if taken_over:
      unchosen = tuple(f'shapes.{name} ' for name in proposed)
      differ = [text for text in differences(before['config'], config)
                if not text.startswith(unchosen)]
      said.append(f'{path} holds a start that ended before its first step'
                  + (f' ({"; ".join(differ)})' if differ else '')
                  + '; this run takes the directory over, and what was there '
                  f'is in {attempt}')
    steps = config.steps if stored is None else stored['config']['steps']
    if steps != config.steps:
      said.append(f'steps: {steps} -> {config.steps}')
    for text in said:
      out.note(text)
      print(text, flush=True)
    return out

  def record(self, name: str, values) -> None:
    """Writes JSON values to a file of the run."""
    if self.writes:
      write_json(self.path / name, values)

  @property
  def verdicts(self) -> pathlib.Path:
    """The journal of verdicts, which a resume does not cut."""
    return self.path / 'verdicts.jsonl'

  def cut(self, step: int | None, evaluated: bool = True) -> int:
    """Moves lines after a restored step out of the run's files.

    The lines are kept, byte by byte, in the folder of this attempt.

    Args:
      step: the steps that the restored checkpoint includes; None if there is no
        checkpoint, so that no line stays.
      evaluated: whether the checkpoint includes an evaluation that was due
        after these steps.

    Returns:
      The number of lines that were cut.
    """
    lines = 0
    for name, offset in LINES.items():
      path = self.path / name
      if not self.writes or not path.exists():
        continue
      offset += name == 'eval.jsonl' and not evaluated
      earlier, later = [], []
      for line in path.read_bytes().splitlines(keepends=True):
        at = _step_of(line)
        stays = step is not None and at is not None and at + offset <= step
        (earlier if stays else later).append(line)
      if not later:
        continue
      aside = self.attempt / f'cut_{name}'
      partial = path.with_suffix('.partial')
      with disk.naming(path):
        aside.write_bytes(b''.join(later))
        partial.write_bytes(b''.join(earlier))
        os.replace(partial, path)
      lines += b''.join(later).count(b'\n')
    return lines

  def written(self) -> dict[str, list]:
    """[bytes, digest] of each of the run's line files, for a checkpoint, whose
    JSON the process that writes here writes, too."""
    return {name: list(disk.digest_of_start(self.path / name))
            for name in LINES
            if self.writes and (self.path / name).is_file()}

  def changes(self, step: int, written: dict[str, list] | None) -> list[str]:
    """What somebody changed in the run's line files before a resume.

    Args:
      step: the steps that the restored checkpoint includes.
      written: the result of `written` when the checkpoint was saved; None for a
        checkpoint of an earlier version.
    """
    if not self.writes:
      return []
    sentences = self._unlike(written or {})
    for name, offset in LINES.items():
      path = self.path / name
      lines = (path.read_bytes().splitlines(keepends=True) if path.exists()
               else [])
      steps = [_step_of(line) for line in lines]
      # A kill may leave a part of the last line.
      bad = [i for i, at in enumerate(steps[:-1], 1) if at is None]
      if bad:
        sentences.append(f'{path}: no line of a run in line {_spans(bad)}')
      before = [at for at in steps if at is not None and at + offset <= step]
      if before != sorted(before):
        sentences.append(f'{path}: its steps are not in order')
      if name == 'metrics.jsonl':
        sentences += self._holes(path, before, range(self.first, step))
    return sentences

  def _unlike(self, written: dict[str, list]) -> list[str]:
    sentences = []
    for name, (size, digest) in written.items():
      path = self.path / name
      if not path.is_file():
        sentences.append(f'{path} is gone')
      elif disk.digest_of_start(path, size) != (size, digest):
        sentences.append(f'{path} is not what it was: its first {size} bytes '
                         'were changed after the checkpoint')
    return sentences

  @staticmethod
  def _holes(path, steps: list[int], wanted: range) -> list[str]:
    sentences = []
    missing = sorted(set(wanted) - set(steps))
    twice = sorted({s for s in steps if steps.count(s) > 1})
    if missing:
      sentences.append(f'{path}: no line of step {_spans(missing)}')
    if twice:
      sentences.append(f'{path}: more than one line of step {_spans(twice)}')
    return sentences

  def cores_before(self) -> list[int]:
    """Numbers of usable cores in earlier attempts that differ from ours."""
    counts = set()
    for path in (self.path / 'attempts').glob('*/attempt.json'):
      try:
        counts.add(_read_object(path, 'cores')['cores'])
      except ValueError:
        continue  # an earlier version's or incomplete file: it says nothing
    return sorted(c for c in counts if type(c) is int and c != usable_cores())

  def _append(self, name: str, rows) -> None:
    if self.writes:
      disk.append(self.path / name, ''.join(
          json.dumps(row) + '\n' for row in rows))

  def log_step(self, row: dict) -> None:
    self._append('metrics.jsonl', [row])

  def log_samples(self, rows: list[dict]) -> None:
    self._append('samples.jsonl', rows)

  def log_fates(self, step: int, settled) -> None:
    """Writes a line for every entry that left the buffer in a step."""
    self._append('buffer.jsonl', [
        {'step': step, 'fate': fate, 'id': e.question.id,
         'entry_accuracy': e.entry_accuracy, 'admitted_at': e.admitted_at,
         'visits': e.visits}
        for fate in ('graduated', 'evicted') for e in getattr(settled, fate)])

  def log_eval(self, step: int, accuracy: dict, history) -> None:
    """Writes an evaluation after `step` steps, and what was spent so far."""
    self._append('eval.jsonl', [{
        'step': step, 'student_rollouts': history.student_rollouts,
        'tokens': sum(history.tokens.values()), **accuracy}])

  def note(self, text: str) -> None:
    """Writes a line to this attempt's log."""
    if self.writes:
      disk.append(self.attempt / 'log.txt',
                  f'{time.strftime("%H:%M:%S")} {text}\n')

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
    if not self.writes:
      return folder
    folder.mkdir()
    with disk.naming(folder):
      for i, (minibatch, batch) in enumerate(batches):
        np.savez(folder / f'minibatch_{minibatch}_{i:04d}.npz',
                 **_arrays(batch))
    write_json(folder / 'reason.json', {'step': step, 'reason': reason})
    return folder

  def finish(self, summary: dict, params, description: dict,
             adapters: tuple | None = None) -> dict:
    """Writes the final weights with their description, then the summary.

    Args:
      summary: the summary.
      params: the weights, those of adapters merged.
      description: of the weights.
      adapters: the trained adapters and their description; None: all weights
        were trained.

    Returns:
      The summary with `files`: size and digest of each file of weights, against
      which pretrained.load checks them. A process that does not write has none.
    """
    if not self.writes:
      return summary
    files = {safetensors_file.FINAL: (params, description)}
    if adapters is not None:
      files[safetensors_file.ADAPTERS] = adapters
    digests = {}
    for name, (tree, of) in files.items():
      with disk.naming(self.path / name):
        safetensors_file.save(self.path / name, tree, of)
      digests[name] = list(disk.digest_of_start(self.path / name))
    summary = {**summary, 'files': digests}
    write_json(self.path / 'summary.json', summary)
    return summary


def _arrays(record) -> dict:
  """The arrays of a record and of the records and dicts inside it, by name."""
  out = {}
  for field in dataclasses.fields(record):
    value = getattr(record, field.name)
    if dataclasses.is_dataclass(value):
      out.update(_arrays(value))
    elif isinstance(value, dict):
      out.update(value)
    elif value is not None:
      out[field.name] = value
  return out


def _move_aside(path: pathlib.Path, attempt: pathlib.Path) -> None:
  """Moves what a start left in a directory to the folder of an attempt."""
  for there in sorted(path.iterdir()):
    if there.name not in ('attempts', lock.NAME):
      os.replace(there, attempt / there.name)


def read_summary(path) -> dict | None:
  """summary.json, or None while a run is not complete; ValueError if it cannot
  be read. Its evaluations are in the order of eval.jsonl, which is the
  config's, because the file itself is in alphabetical order."""
  path = pathlib.Path(path)
  if not (path / 'summary.json').is_file():
    return None
  summary = _read_object(path / 'summary.json', 'steps')
  of, rows = summary.get('eval'), path / 'eval.jsonl'
  if isinstance(of, dict) and rows.is_file():
    with open(rows, encoding='utf-8', errors='replace') as f:
      try:
        names = list(json.loads(f.readline()))
      except ValueError:  # no line of a run
        names = []
    summary['eval'] = {name: of[name] for name in (
        *(name for name in names if name in of),
        *(name for name in of if name not in names))}
  return summary
