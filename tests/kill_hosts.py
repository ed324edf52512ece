"""Ends one of several processes of a run again and again, and resumes it.

  python -m tests.kill_hosts --processes=2 --devices=2 --kills=10 --seed=0
      --to=DIR [--signal=KILL]
  python -m tests.kill_hosts --compare=6 --to=DIR

Under KILL a process dies by itself at a place drawn from the seed: rollouts,
teacher calls, updates, saves, metric lines, as in kill_and_resume. Under TERM
it gets the signal at a moment drawn from the seed. It prints a JSON line: for
each attempt the process, the place, the exit code of each process, and the
seconds until the last one had ended; and what differs from a run that was left
alone (nothing, or it exits with 1).

--compare makes one run of so many steps by 2 processes of 2 devices, by 4 of 1
and by 1 of 4, and says what differs.
"""

import argparse
import json
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np

from tests import kill_and_resume
from tests.environments import ROOT, alone
from tests.kill_and_resume import PHASES, differences
from zppo_jax.devices import hosts

# Phases in which only the first process does something.
OF_FIRST = ('line', 'torn')
MESH = {1: (1, 1), 2: (2, 1), 4: (2, 2)}  # devices -> (data, fsdp)


def free_port() -> int:
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return probe.getsockname()[1]


def command_line(path, steps: int, processes: int, devices: int, index: int,
                 port: int) -> list[str]:
  """kill_and_resume's run, as process `index` of several."""
  data, fsdp = MESH[processes * devices]
  words = [*kill_and_resume.command_line(path, steps),
           f'--config.mesh.data={data}', f'--config.mesh.fsdp={fsdp}']
  if processes == 1:
    return words
  return [*words, f'--coordinator=127.0.0.1:{port}', f'--process={index}',
          f'--processes={processes}']


def launch(path, steps: int, processes: int, devices: int,
           kill: tuple[int, tuple] | None = None) -> list[subprocess.Popen]:
  """Starts all processes of a run.

  Args:
    path: its directory.
    steps: its steps.
    processes: how many.
    devices: of each.
    kill: (process, arguments of kill_and_resume.arm).
  """
  port = free_port()
  started = []
  for index in range(processes):
    words = [] if kill is None or kill[0] != index else [
        '--die', json.dumps(kill[1])]
    run = [steps, processes, devices, index, port]
    with open(f'{path}.{index}.log', 'a') as log:
      started.append(subprocess.Popen(
          [sys.executable, '-m', 'tests.kill_hosts', *words, '--to', str(path),
           '--run', json.dumps(run)], cwd=ROOT, env=alone(), stdout=log,
          stderr=subprocess.STDOUT))
  return started


def wait(started: list[subprocess.Popen],
         deadline_s: float = 1800) -> tuple[list[int], list[float]]:
  """(exit codes, moments of the ends) of processes.

  Raises:
    RuntimeError: if one lives after `deadline_s` seconds; all are killed then.
  """
  until = time.monotonic() + deadline_s
  ends: list[float | None] = [None] * len(started)
  while None in ends and time.monotonic() < until:
    for i, process in enumerate(started):
      if ends[i] is None and process.poll() is not None:
        ends[i] = time.monotonic()
    time.sleep(0.02)
  if None in ends:
    for process in started:
      process.kill()
    raise RuntimeError(f'processes live after {deadline_s:g} s')
  return [process.returncode for process in started], ends


def _lines(path: pathlib.Path) -> int:
  file = path / 'metrics.jsonl'
  return file.read_bytes().count(b'\n') if file.exists() else 0


def by_kill(path, steps: int, processes: int, devices: int, i: int,
            rng: np.random.Generator) -> dict:
  """One attempt, in which a process kills itself."""
  phase = PHASES[i % len(PHASES)]
  victim = 0 if phase in OF_FIRST else int(rng.integers(processes))
  count = 1 if phase == 'save' else int(rng.integers(1, 5))
  kill = phase, count, float(rng.uniform(0, 0.03))
  codes, ends = wait(launch(path, steps, processes, devices, (victim, kill)))
  others = [code for j, code in enumerate(codes) if j != victim]
  if codes[victim] != -signal.SIGKILL or set(others) != {hosts.LOST}:
    raise RuntimeError(f'exit codes {codes} after kill -9 of {victim}')
  return {'process': victim, 'place': kill, 'codes': codes,
          'seconds': max(ends) - ends[victim]}


def by_term(path, steps: int, processes: int, devices: int, i: int,
            rng: np.random.Generator) -> dict:
  """One attempt, in which a process gets SIGTERM once a step was written."""
  del i
  victim, before = int(rng.integers(processes)), _lines(path)
  started = launch(path, steps, processes, devices)
  while _lines(path) <= before:
    if any(process.poll() is not None for process in started):
      raise RuntimeError('a process ended before its first step')
    time.sleep(0.05)
  delay = float(rng.uniform(0, 2))
  time.sleep(delay)
  begun = time.monotonic()
  started[victim].send_signal(signal.SIGTERM)
  codes, ends = wait(started)
  if set(codes) != {128 + signal.SIGTERM}:
    raise RuntimeError(f'exit codes {codes} after SIGTERM to {victim}')
  saved = max(int(p.name) for p in (path / 'checkpoints').iterdir()
              if p.name.isdigit())
  return {'process': victim, 'delay_s': delay, 'saved_after': saved,
          'codes': codes, 'seconds': max(ends) - begun}


KINDS = {'KILL': by_kill, 'TERM': by_term}


def torture(home: pathlib.Path, kind: str, kills: int, seed: int,
            processes: int, devices: int) -> dict:
  """What happened in each attempt, and the differences that they left."""
  rng = np.random.default_rng(seed)
  steps = 4 + 2 * kills
  whole, ended = home / 'whole', home / kind
  if not (whole / 'summary.json').exists():
    codes, _ = wait(launch(whole, steps, processes, devices))
    if any(codes):
      raise RuntimeError(f'the uninterrupted run ended with {codes}')
  happened = []
  for i in range(kills):
    happened.append(KINDS[kind](ended, steps, processes, devices, i, rng))
    print(json.dumps(happened[-1]), file=sys.stderr, flush=True)
  codes, _ = wait(launch(ended, steps, processes, devices))
  if any(codes):
    raise RuntimeError(f'the last attempt ended with {codes}')
  return {'steps': steps, 'happened': happened,
          'slowest_s': max((of['seconds'] for of in happened), default=0.0),
          'differences': differences(whole, ended, steps)}


# Numbers that an update computes; what is not one of them is a decision.
COMPUTED = ('update/', 'sampler_trainer/')
SPLITS = {'2x2': (2, 2), '4x1': (4, 1), '1x4': (1, 4)}  # processes x devices


def _apart(one: list[dict], other: list[dict]) -> dict:
  """How far two runs are apart.

  Returns:
    {'equal_steps': steps before the first number that differs,
     'equal_decisions': steps before the first decision that differs,
     'gradient': the largest relative difference of a gradient norm in those}.
  """
  def before(differ) -> int:
    return next((i for i, rows in enumerate(zip(one, other, strict=True))
                 if differ(*rows)), len(one))

  decided = lambda row: {name: x for name, x in row.items()
                         if not name.startswith(COMPUTED)}
  decisions = before(lambda a, b: decided(a) != decided(b))
  norms = [[row['update/grad_norm'] for row in rows[:decisions]]
           for rows in (one, other)]
  return {'equal_steps': before(lambda a, b: a != b),
          'equal_decisions': decisions,
          'gradient': max((abs(a - b) / max(abs(a), 1e-12)
                           for a, b in zip(*norms, strict=True)), default=0.0)}


def compare(home: pathlib.Path, steps: int) -> dict:
  """Runs of the same mesh by different processes, compared."""
  for name, (processes, devices) in SPLITS.items():
    if not (home / name / 'summary.json').exists():
      codes, _ = wait(launch(home / name, steps, processes, devices))
      if any(codes):
        raise RuntimeError(f'{name} ended with {codes}')
  rows = {name: kill_and_resume.without_clocks(home / name) for name in SPLITS}
  return {
      'steps': steps,
      'differences': differences(home / '2x2', home / '4x1', steps),
      'against_1x4': {**_apart(rows['2x2'], rows['1x4']), 'files': differences(
          home / '2x2', home / '1x4', steps)}}


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--processes', type=int, default=2)
  parser.add_argument('--devices', type=int, default=2)
  parser.add_argument('--kills', type=int, default=10)
  parser.add_argument('--signal', choices=KINDS, default='KILL')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  parser.add_argument('--compare', type=int, default=0)
  parser.add_argument('--run', type=json.loads, help=argparse.SUPPRESS)
  parser.add_argument('--die', type=json.loads, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.run:
    if args.die:
      kill_and_resume.arm(*args.die)
    from zppo_jax import main as command
    command.main(command_line(args.to, *args.run))
    return
  from zppo_jax.study.launch import machine
  begun = time.perf_counter()
  args.to.mkdir(parents=True, exist_ok=True)
  if args.compare:
    found = compare(args.to, args.compare)
  else:
    found = {
        'signal': args.signal, 'seed': args.seed, 'processes': args.processes,
        'devices': args.devices, **torture(
            args.to, args.signal, args.kills, args.seed, args.processes,
            args.devices)}
  command = ' '.join(w for w in sys.argv[1:] if not w.startswith('--to'))
  print(json.dumps({'command': f'python -m tests.kill_hosts {command}',
                    **found, 'machine': machine(),
                    'seconds': time.perf_counter() - begun}))
  sys.exit(bool(found['differences']))


if __name__ == '__main__':
  main()
