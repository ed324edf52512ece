"""Kills a run again and again, resumes it, and compares it with one that was
left alone.

  python -m tests.kill_and_resume --kills=20 --seed=0 --to=DIR
  python -m tests.kill_and_resume --signal=SIGTERM --kills=10 --to=DIR

SIGKILL comes in the middle of rollouts, teacher calls, updates, saves and
metric lines, behind a record of the journal of rollouts and in the middle of
one, at places drawn from the seed. Prints a JSON line: what was killed where,
what differed, and how many rollouts were drawn although the journal held them
(nothing and none, or it exits with 1). Under --signal=SIGTERM the run saves and
ends by itself; the line also says how many seconds that took. `tests/train/
test_resume.py` runs it with few kills.
"""

import argparse
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from tests.environments import ROOT, alone

PHASES = ('rollouts', 'kept', 'teacher', 'update', 'torn', 'save', 'line')
FILES = ('eval.jsonl', 'buffer.jsonl', 'samples.jsonl')
DRAWS, SIGNALLED = 'draws.jsonl', 'signalled.json'  # beside the workdirs


def command_line(path, steps: int) -> list[str]:
  """A small ZPPO run; a checkpoint every three steps, an evaluation every two.
  Few slots are refilled as rollouts end, so that a step has many chunks.
  """
  fields = {
      # With this seed three of the first four steps train.
      'steps': steps, 'seed': 4, 'algorithm.num_new': 8, 'data.pool.size': 64,
      'data.pool.hard_share': 0.75, 'shapes.group_buckets': (2,),
      'shapes.prompt_buckets': (184,), 'shapes.row_buckets': (200,),
      'shapes.micro_tokens': 3200, 'shapes.slots': 32, 'eval.size': 8,
      'eval.every': 2, 'eval.splits': ('hard', 'easy'), 'checkpoint.every': 3,
      'probe.every': 2, 'algorithm.buffer_capacity': 12}
  return ['train', f'--config={ROOT}/configs/micro.py', f'--workdir={path}',
          *(f'--config.{k}={v}' for k, v in fields.items())]


def arm(phase: str, count: int, delay: float, number: int = signal.SIGKILL,
        home: pathlib.Path | None = None) -> None:
  """Makes this process signal itself in the `count`-th call of a phase, and
  note the time in the folder `home`."""
  from zppo_jax.devices import disk
  from zppo_jax.rollout import journal
  from zppo_jax.rollout.programs import Programs
  from zppo_jax.runs import workdir
  from zppo_jax.runs.checkpoints import Checkpoints
  from zppo_jax.teachers.in_process import InProcessTeacher
  from zppo_jax.train import step
  calls = 0

  def end():
    if home is not None:
      (home / SIGNALLED).write_text(json.dumps(time.time()))
    os.kill(os.getpid(), number)

  def soon():
    time.sleep(delay)
    end()

  def counted() -> bool:
    nonlocal calls
    calls += 1
    return calls == count

  def dying(function):
    def call(*args, **kwargs):
      if counted():
        threading.Thread(target=soon, daemon=True).start()
      return function(*args, **kwargs)
    return call

  def dead_behind(function):
    def call(*args, **kwargs):
      function(*args, **kwargs)
      if counted():
        end()
    return call

  def half_a_record(path, data):
    if not counted():
      return disk.append_bytes(path, data)
    disk.append_bytes(path, data[:len(data) // 2])
    end()
    return disk.append_bytes(path, data[len(data) // 2:])

  def half_a_line(self, name, rows):
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    half = len(text) // 2 if counted() else len(text)
    with open(self.path / name, 'a') as f:
      f.write(text[:half])
    if half < len(text):
      end()
      with open(self.path / name, 'a') as f:
        f.write(text[half:])

  if phase == 'rollouts':
    Programs.decode = dying(Programs.decode)
  elif phase == 'kept':
    journal.RolloutJournal.keep = dead_behind(journal.RolloutJournal.keep)
  elif phase == 'torn':
    journal.append_bytes = half_a_record
  elif phase == 'teacher':
    InProcessTeacher.answer = dying(InProcessTeacher.answer)
  elif phase == 'update':
    step.update = dying(step.update)
  elif phase == 'save':
    Checkpoints.save = dying(Checkpoints.save)
  else:
    workdir.Workdir._append = half_a_line


class Ended(Exception):
  """What ends a run in place of a signal, in the process of a test."""


def fail(monkeypatch, count: int) -> None:
  """Makes the `count`-th update of this process raise Ended."""
  from zppo_jax.train import step
  update, calls = step.update, itertools.count(1)

  def failing(*args, **kwargs):
    if next(calls) == count:
      raise Ended
    return update(*args, **kwargs)

  monkeypatch.setattr(step, 'update', failing)


def end_a_run(how: str, monkeypatch, count: int, program: str, words: Sequence,
              run: Callable[[], object]) -> None:
  """A run up to its `count`-th update.

  Args:
    how: 'kill -9' for a process of its own, or 'error' for one that is raised
      in this process.
    monkeypatch: pytest's.
    count: counted from 1.
    program: Python that makes the run and kills its process in that update.
    words: its arguments.
    run: makes the same run here.
  """
  if how == 'error':
    with monkeypatch.context() as patch:
      fail(patch, count)
      try:
        run()
      except Ended:
        return
      raise RuntimeError(f'the run has no update {count}')
  env = {**os.environ, 'PYTHONPATH': str(ROOT),
         'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}
  killed = subprocess.run(
      [sys.executable, '-c', program, *map(str, words)], cwd=ROOT, env=env,
      capture_output=True, text=True)
  assert killed.returncode == -signal.SIGKILL, killed.stderr


def count_draws(path: pathlib.Path) -> None:
  """Makes this process note how many rollouts it draws, and how many of them
  the journal held when the process started."""
  from zppo_jax.rollout import journal
  held = set()
  for file in (path / journal.FOLDER).glob('*'):
    for payload in list(journal.payloads(file.read_bytes()))[1:]:
      held |= {(int(file.name), name, rollout)
               for name, rollout, _ in journal.rollouts(payload[1])}
  keep = journal.RolloutJournal.keep

  def noting(self, step, purpose, prompts, ended):
    names = [(journal.name_of(purpose, prompts[i]), done.rollout)
             for i, done in ended]
    # The engine hands back what it was told, which it has not drawn.
    drawn = {(step, name, rollout) for name, rollout in names
             if rollout not in self._drawn.get(name, {})}
    with open(path.parent / DRAWS, 'a') as f:
      f.write(json.dumps({'run': path.name, 'drawn': len(drawn),
                          'twice': len(drawn & held)}) + '\n')
    keep(self, step, purpose, prompts, ended)

  journal.RolloutJournal.keep = noting


def launch(path, steps: int, kill: tuple | None, number: int) -> int:
  """Runs the command in a process of its own; its return code."""
  words = [] if kill is None else ['--die', json.dumps(kill)]
  done = subprocess.run(
      [sys.executable, '-m', 'tests.kill_and_resume', *words, '--to', str(path),
       '--signal', signal.Signals(number).name, '--run', str(steps)],
      cwd=ROOT, env=alone(), capture_output=True, text=True)
  ended = -number if number == signal.SIGKILL else 128 + number
  if done.returncode not in (0, ended):
    raise RuntimeError(done.stdout + done.stderr)
  return done.returncode


def without_clocks(path) -> list[dict]:
  return [{k: v for k, v in json.loads(line).items()
           if not k.startswith(('time/', 'compilations/'))}
          for line in (path / 'metrics.jsonl').read_text().splitlines()]


def differences(one: pathlib.Path, other: pathlib.Path, steps: int) -> list:
  """Names of what is not the same in two finished runs; clocks aside."""
  out = []
  if without_clocks(one) != without_clocks(other):
    out.append('metrics.jsonl')
  if [row['step'] for row in without_clocks(other)] != list(range(steps)):
    out.append('steps')
  for name in (*FILES, 'final.safetensors'):
    if (one / name).read_bytes() != (other / name).read_bytes():
      out.append(name)
  hosts = []
  for path in (one, other):
    content = json.loads(
        (path / f'checkpoints/{steps}/host/metadata').read_text())
    content['host']['history'].pop('seconds')
    summary = json.loads((path / 'summary.json').read_text())
    summary.pop('wall_s')
    hosts.append((content['host'], content['checksums'], summary))
  if hosts[0] != hosts[1]:
    out.append('buffer, totals, optimizer state or summary')
  return out


def draws(home: pathlib.Path, run: str) -> tuple[int, int]:
  """(rollouts drawn in all attempts of a run, those that its journal held)."""
  rows = [json.loads(line)
          for line in (home / DRAWS).read_text().splitlines()]
  of = [row for row in rows if row['run'] == run]
  return sum(row['drawn'] for row in of), sum(row['twice'] for row in of)


def torture(home: pathlib.Path, kills: int, seed: int,
            number: int = signal.SIGKILL,
            phases: Sequence[str] = PHASES) -> dict:
  """The kills that happened and the differences that they left."""
  rng = np.random.default_rng(seed)
  steps = 4 + 2 * kills
  home.mkdir(parents=True, exist_ok=True)
  if launch(home / 'whole', steps, None, number):
    raise RuntimeError('the uninterrupted run was killed')
  happened, seconds = [], []
  for i in range(kills):
    # Every phase in turn: with as many kills as phases each is hit once.
    phase = phases[i % len(phases)]
    # So few that the run does not end before the phases that follow.
    most = {'rollouts': 60, 'kept': 20, 'torn': 12, 'save': 1}.get(phase, 6)
    kill = (phase, int(rng.integers(1, most + 1)),
            float(rng.uniform(0, 0.03)))
    if launch(home / 'killed', steps, kill, number):
      happened.append(kill)
      seconds.append(time.time() - json.loads(
          (home / SIGNALLED).read_text()))
  if launch(home / 'killed', steps, None, number):
    raise RuntimeError('the last attempt was killed')
  attempts = len(list((home / 'killed' / 'attempts').iterdir()))
  whole, _ = draws(home, 'whole')
  drawn, twice = draws(home, 'killed')
  return {'steps': steps, 'signal': signal.Signals(number).name,
          'kills': happened, 'attempts': attempts,
          'seconds_to_end_max': max(seconds, default=0.0),
          'rollouts': whole, 'drawn': drawn, 'drawn_twice': twice,
          'differences': differences(home / 'whole', home / 'killed', steps)}


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--signal', default='SIGKILL',
                      choices=['SIGKILL', 'SIGTERM', 'SIGINT'])
  parser.add_argument('--to', type=pathlib.Path, required=True)
  parser.add_argument('--run', type=int, help=argparse.SUPPRESS)
  parser.add_argument('--die', type=json.loads, help=argparse.SUPPRESS)
  args = parser.parse_args()
  number = signal.Signals[args.signal]
  if args.run:
    count_draws(args.to)
    if args.die:
      arm(*args.die, number, args.to.parent)
    from zppo_jax import main as command
    command.main(command_line(args.to, args.run))
    return
  from zppo_jax.study.launch import machine
  begun = time.perf_counter()
  found = torture(args.to, args.kills, args.seed, number)
  print(json.dumps({'seed': args.seed, **found, 'machine': machine(),
                    'seconds': time.perf_counter() - begun}))
  sys.exit(bool(found['differences'] or found['drawn_twice']))


if __name__ == '__main__':
  main()
