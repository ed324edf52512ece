"""Kills a run again and again, resumes it, and compares it with one that was
left alone.

  python -m tests.kill_and_resume --kills=20 --seed=0 --to=DIR

SIGKILL comes in the middle of rollouts, teacher calls, updates, saves and
metric lines, at places drawn from the seed. Prints a JSON line: what was
killed where, and what differed (nothing, or it exits with 1). `tests/
test_resume.py` runs it with few kills.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
PHASES = ('rollouts', 'teacher', 'update', 'save', 'line')
FILES = ('eval.jsonl', 'buffer.jsonl', 'samples.jsonl')


def command_line(path, steps: int) -> list[str]:
  """A small ZPPO run; a checkpoint every two steps, an evaluation every three.
  """
  fields = {
      'steps': steps, 'algorithm.num_new': 8, 'data.pool.size': 64,
      'data.pool.hard_share': 0.75, 'shapes.group_buckets': (2,),
      'shapes.prompt_buckets': (184,), 'shapes.row_buckets': (200,),
      'shapes.micro_tokens': 3200, 'eval.size': 8, 'eval.every': 3,
      'eval.splits': ('hard', 'easy'), 'checkpoint.every': 2,
      'probe.every': 2, 'algorithm.buffer_capacity': 12}
  return ['train', f'--config={ROOT}/configs/micro.py', f'--workdir={path}',
          *(f'--config.{k}={v}' for k, v in fields.items())]


def _die() -> None:
  os.kill(os.getpid(), signal.SIGKILL)


def arm(phase: str, count: int, delay: float) -> None:
  """Makes this process kill itself in the `count`-th call of a phase."""
  from zppo_jax.rollout import collect
  from zppo_jax.runs import workdir
  from zppo_jax.runs.checkpoints import Checkpoints
  from zppo_jax.teachers.in_process import InProcessTeacher
  from zppo_jax.train import step
  calls = 0

  def soon():
    time.sleep(delay)
    _die()

  def dying(function):
    def call(*args, **kwargs):
      nonlocal calls
      calls += 1
      if calls == count:
        threading.Thread(target=soon, daemon=True).start()
      return function(*args, **kwargs)
    return call

  def half_a_line(self, name, rows):
    nonlocal calls
    calls += 1
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    with open(self.path / name, 'a') as f:
      f.write(text[:len(text) // 2] if calls == count else text)
    if calls == count:
      _die()

  if phase == 'rollouts':
    collect.collect = dying(collect.collect)
  elif phase == 'teacher':
    InProcessTeacher.answer = dying(InProcessTeacher.answer)
  elif phase == 'update':
    step.update = dying(step.update)
  elif phase == 'save':
    Checkpoints.save = dying(Checkpoints.save)
  else:
    workdir.Workdir._append = half_a_line


def launch(path, steps: int, kill: tuple[str, int, float] | None) -> int:
  """Runs the command in a process of its own; its return code."""
  env = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': '',
         'PYTHONPATH': str(ROOT)}
  words = [] if kill is None else ['--die', json.dumps(kill)]
  done = subprocess.run(
      [sys.executable, '-m', 'tests.kill_and_resume', *words, '--to', str(path),
       '--run', str(steps)], cwd=ROOT, env=env, capture_output=True, text=True)
  if done.returncode not in (0, -signal.SIGKILL):
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


def torture(home: pathlib.Path, kills: int, seed: int) -> dict:
  """The kills that happened and the differences that they left."""
  rng = np.random.default_rng(seed)
  steps = 4 + 2 * kills
  if launch(home / 'whole', steps, None):
    raise RuntimeError('the uninterrupted run was killed')
  happened = []
  for i in range(kills):
    # Every phase in turn: with five kills each is hit once.
    phase = PHASES[i % len(PHASES)]
    count = int(rng.integers(1, 7)) if phase != 'save' else 1
    kill = phase, count, float(rng.uniform(0, 0.03))
    if launch(home / 'killed', steps, kill):
      happened.append(kill)
  if launch(home / 'killed', steps, None):
    raise RuntimeError('the last attempt was killed')
  attempts = len(list((home / 'killed' / 'attempts').iterdir()))
  return {'steps': steps, 'kills': happened, 'attempts': attempts,
          'differences': differences(home / 'whole', home / 'killed', steps)}


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  parser.add_argument('--run', type=int, help=argparse.SUPPRESS)
  parser.add_argument('--die', type=json.loads, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.run:
    if args.die:
      arm(*args.die)
    from zppo_jax import main as command
    command.main(command_line(args.to, args.run))
    return
  from zppo_jax.study.launch import machine
  begun = time.perf_counter()
  found = torture(args.to, args.kills, args.seed)
  print(json.dumps({'seed': args.seed, **found, 'machine': machine(),
                    'seconds': time.perf_counter() - begun}))
  sys.exit(bool(found['differences']))


if __name__ == '__main__':
  main()
