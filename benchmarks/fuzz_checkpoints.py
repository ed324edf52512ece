"""Damages a small run's files at random and looks at what a resume makes of it.

A target of benchmarks/fuzz.py. A run of four steps, once complete and once as a
kill in its last step leaves it, is copied and edited: a digit or a bit is
changed, a file is cut, emptied or removed, two lines are swapped or one is
doubled, a folder is removed. Then it is opened as `zppo train` opens it. What
may come of it:

  error      a clear error (CheckpointError, ValueError, OSError, Locked)
  same       the very same state, or the very same summary of a complete run
  told       the same state, and a warning of what was changed
  earlier    the very same state of an earlier checkpoint, or the beginning,
             which the log names
  silent     another state, or lines changed without a word
  traceback  any other exception

The last two are faults.
"""

import contextlib
import pathlib
import runpy
import shutil
import tempfile
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from zppo_jax.devices import disk
from zppo_jax.runs import checkpoints, same_config, workdir
from zppo_jax.runs.checkpoints import CheckpointError, Checkpoints
from zppo_jax.runs.lock import Locked
from zppo_jax.teachers import journal as teacher_journal
from zppo_jax.train import build, loop, resume
from zppo_jax.train.run import Run
from zppo_jax.verdicts import journal
from zppo_jax.verdicts.sandbox import GradingResult

ROOT = pathlib.Path(__file__).parents[1]
FAULTS = ('silent', 'traceback')
OUTCOMES = ('error', 'same', 'told', 'earlier', *FAULTS)
CLEAR = (CheckpointError, ValueError, OSError, Locked)


def make_config():
  """Four steps of the embedded world, a checkpoint after two of them."""
  c = runpy.run_path(str(ROOT / 'configs' / 'micro.py'))['get_config']()
  c.steps, c.algorithm.num_new = 4, 8
  c.data.pool.update(size=64, hard_share=0.75)
  c.shapes.update(group_buckets=(2,), prompt_buckets=(184,),
                  row_buckets=(200,), micro_tokens=3200)
  c.eval.update(size=8, splits=('hard',), every=1)
  c.checkpoint.update(every=2, keep=4)
  c.log.tensorboard = False
  return c


class Bench(NamedTuple):
  """What all edits share.

  Attributes:
    config, run: of the run.
    complete, killed: its directory at the end, and without its last step's.
    states: step -> what a resume after so many steps stands on.
    summary: of the complete run.
    kept: file -> what a resume keeps of it after step 2.
    journals: what verdicts.jsonl and teacher.jsonl hold.
  """
  config: Any
  run: Run
  complete: pathlib.Path
  killed: pathlib.Path
  states: dict
  summary: dict
  kept: dict
  journals: tuple


def _journals(path) -> tuple:
  """What a run reads of its journals, as values that can be compared."""
  return (journal.read(path / 'verdicts.jsonl').verdicts,
          teacher_journal._read(path / 'teacher.jsonl'))


def standing(at: resume.RunState) -> tuple:
  """All of a standing, as values that can be compared."""
  return (at.step, checkpoints.checksums(at.state), at.buffer.dump(),
          at.history.dump(), at.base, at.latest)


def prepare(home: pathlib.Path) -> Bench:
  """Makes the run and its two directories."""
  config, complete = make_config(), home / 'complete'
  summary = loop.main(config, complete)
  journal.append(complete / 'verdicts.jsonl', [
      (f'{i:040x}', 'text', GradingResult('score', i % 2)) for i in range(8)])
  disk.append(complete / 'teacher.jsonl', ''.join(disk.sealed({
      'step': i, 'what': 'answer', 'id': f'q{i}', 'texts': [[f'{i}', 'end']]})
      for i in range(4)))
  killed = shutil.copytree(complete, home / 'killed')
  shutil.rmtree(killed / 'checkpoints/4')
  for name in ('summary.json', 'final.safetensors'):
    (killed / name).unlink()
  run = build.build(config)
  kept = Checkpoints(complete / 'checkpoints', run.checkpoint,
                     resume.manifest(config, run), read_only=True)
  states = {step: standing(resume.restore(kept, run, step))
            for step in kept.steps()}
  kept.close()
  again = shutil.copytree(killed, home / 'again')
  workdir.Workdir.open(again, config).cut(2)
  return Bench(config, run, complete, killed, states, summary, {
      n: (again / n).read_bytes() for n in workdir.LINES}, _journals(complete))


def _digit(raw: bytes, rng) -> bytes:
  places = [i for i, b in enumerate(raw) if 48 <= b <= 57]
  if not places:
    return _bit(raw, rng)
  i = int(rng.choice(places))
  new = b'%d' % ((raw[i] - 48 + int(rng.integers(1, 10))) % 10)
  return raw[:i] + new + raw[i + 1:]


def _bit(raw: bytes, rng) -> bytes:
  if not raw:
    return b'0'
  i = int(rng.integers(len(raw)))
  return raw[:i] + bytes([raw[i] ^ 1 << int(rng.integers(8))]) + raw[i + 1:]


def _cut(raw: bytes, rng) -> bytes:
  return raw[:int(rng.integers(len(raw) + 1))]


def _swap(raw: bytes, rng) -> bytes:
  lines = raw.splitlines(keepends=True)
  if len(lines) < 2:
    return _bit(raw, rng)
  i, j = rng.choice(len(lines), 2, replace=False)
  lines[i], lines[j] = lines[j], lines[i]
  return b''.join(lines)


def _double(raw: bytes, rng) -> bytes:
  lines = raw.splitlines(keepends=True)
  i = int(rng.integers(len(lines))) if lines else 0
  return b''.join([*lines[:i + 1], *lines[i:]])


EDITS = {'digit': _digit, 'bit': _bit, 'cut': _cut, 'swap': _swap,
         'double': _double, 'empty': lambda raw, rng: b''}


def damage(path: pathlib.Path, rng) -> str:
  """One random edit; what it was."""
  kind = str(rng.choice([*EDITS, 'digit', 'remove', 'remove folder']))
  inner = rng.random() < 0.6
  among = [p for p in sorted(path.rglob('*'))
           if ('checkpoints' in p.parts) == inner]
  if kind == 'remove folder':
    chosen = [p for p in among if p.is_dir()]
    found = chosen[int(rng.integers(len(chosen)))]
    shutil.rmtree(found)
  else:
    chosen = [p for p in among if p.is_file()]
    found = chosen[int(rng.integers(len(chosen)))]
    if kind == 'remove':
      found.unlink()
    else:
      found.write_bytes(EDITS[kind](found.read_bytes(), rng))
  return f'{kind} {found.relative_to(path)}'


def opened(of: Bench, path: pathlib.Path) -> str:
  """What `zppo train` makes of a directory, up to its first step."""
  stored = workdir.read_config(path)
  if stored is not None:
    same_config.check_same_config(path, stored, of.config)
    complete = resume.read_complete(path, of.config)
    if complete is not None:
      return 'same' if complete == of.summary else 'silent'
  out = workdir.Workdir.open(path, of.config)
  kept = Checkpoints(path / 'checkpoints', of.run.checkpoint,
                     resume.manifest(of.config, of.run))
  said: list[str] = []
  with contextlib.closing(kept):
    at = resume.resume(of.run, out, kept, None, said.append)
  if at.step == 0:
    return 'earlier' if stored is None or said else 'silent'
  if standing(at) != of.states[at.step]:
    return 'silent'
  if not said and any(
      not (path / n).exists() or not (path / n).read_bytes().startswith(raw)
      for n, raw in of.kept.items()):
    return 'silent'
  # What is gone from a journal is asked for again; nothing else may change.
  if any(not found.items() <= whole.items()
         for found, whole in zip(_journals(path), of.journals, strict=True)):
    return 'silent'
  newest = 4 if 'complete' in path.name else 2
  return 'earlier' if at.step < newest else 'told' if said else 'same'


def outcome(of: Bench, path: pathlib.Path) -> tuple[str, str]:
  """(one of OUTCOMES, the error's words or '')."""
  try:
    return opened(of, path), ''
  except CLEAR as e:
    return 'error', f'{type(e).__name__}: {e}'
  except Exception as e:
    return 'traceback', f'{type(e).__name__}: {e}'


def examine(count: int, seed: int, home: pathlib.Path) -> tuple[dict, list]:
  """(counts by outcome, (edit, outcome, words) of each fault)."""
  of, rng = prepare(home), np.random.default_rng(seed)
  counts, faults = Counter(dict.fromkeys(OUTCOMES, 0)), []
  for _ in range(count):
    name = ('complete', 'killed')[int(rng.integers(2))]
    path = shutil.copytree(home / name, home / f'edited-{name}')
    try:
      edit = damage(path, rng)
      found, words = outcome(of, path)
      counts[found] += 1
      if found in FAULTS:
        faults.append((f'{name}: {edit}', found, words))
    finally:
      shutil.rmtree(path)
  return dict(counts), faults


def main(count: int, seed: int) -> dict:
  """`outcomes` of seeded edits, and `faults`: (edit, outcome, words)."""
  logging.set_verbosity(logging.FATAL)  # orbax tells every damage, too
  with tempfile.TemporaryDirectory() as home:
    outcomes, faults = examine(count, seed, pathlib.Path(home))
  return {'outcomes': outcomes, 'faults': faults}
