"""Processor time of a step of two checkouts, on one core at the same time.

  git worktree add ../old 775fe6a
  python -m benchmarks.same_core --trees=../old,. --core=0 --repeats=3 \\
      --to=benchmarks/results/same_core.json
  python -m benchmarks.same_core --trees=../old,. --core=0 --repeats=3 \\
      --measure=sample --model=tiny --load=16x64x8x64 --first=2 --last=12 \\
      --to=benchmarks/results/same_core.json

Where a machine's speed changes by a third within minutes, runs by turns say
little. Here both run on one core together, which gives them turns of
milliseconds, and the processor's seconds of each are counted between two steps.
Who gets to the first of these steps first waits for the other. Two runs of one
checkout (--trees=.,.) say how much of a difference is noise.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from zppo_jax import allowed
from zppo_jax.study.launch import machine
from zppo_jax.study.tables import markdown

_LOOK_S = 0.01  # between two looks at the runs
# `zppo bench` whose measurement never ends and writes a line per call.
_BENCH = """
import sys
from zppo_jax import main
from zppo_jax.bench import measurements

def measure(make, setting, repeats):
  work, calls = make(setting), 0
  while True:
    work.once(calls)
    calls += 1
    with open('metrics.jsonl', 'a') as f:
      f.write('{}\\n')

measurements.measure = measure
main.main(sys.argv[1:])
"""
_TICKS = os.sysconf('SC_CLK_TCK')


def _cpu_s(process: subprocess.Popen) -> float:
  """The processor's seconds of a process so far, all threads together."""
  text = pathlib.Path(f'/proc/{process.pid}/stat').read_text()
  fields = text[text.rindex(')') + 2:].split()
  return (int(fields[11]) + int(fields[12])) / _TICKS


def _steps(folder: pathlib.Path) -> int:
  file = folder / 'metrics.jsonl'
  return file.read_bytes().count(b'\n') if file.is_file() else 0


def measure(runs: Mapping[str, tuple[Sequence[str], Mapping[str, str]]],
            home: pathlib.Path, first: int, last: int) -> dict[str, float]:
  """Processor seconds of a step of each run.

  Args:
    runs: name -> (the words of its process, its environment). A process is
      begun in `home`/NAME, where it writes a line to metrics.jsonl per step.
    home: a folder.
    first, last: the steps between which is counted.

  Raises:
    RuntimeError: if a process ends before its last step.
  """
  begun: dict[str, subprocess.Popen] = {}
  marks: dict[str, list[tuple[int, float]]] = {name: [] for name in runs}
  try:
    for name, (words, environment) in runs.items():
      (home / name).mkdir()
      begun[name] = subprocess.Popen(
          words, cwd=home / name, env=dict(environment),
          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for step in (first, last):
      for process in begun.values():
        process.send_signal(signal.SIGCONT)
      waiting = set(runs)
      while waiting:
        for name in sorted(waiting):
          if begun[name].poll() is not None:
            raise RuntimeError(f'the run {name} ended with code '
                               f'{begun[name].returncode} before step {step}')
          if (done := _steps(home / name)) >= step:
            begun[name].send_signal(signal.SIGSTOP)
            marks[name].append((done, _cpu_s(begun[name])))
            waiting.remove(name)
        time.sleep(_LOOK_S)
  finally:
    for process in begun.values():
      process.kill()
      process.wait()
  return {name: (b[1] - a[1]) / (b[0] - a[0])
          for name, (a, b) in marks.items()}


def table(result: Mapping) -> str:
  """The ratios of each comparison, and their median."""
  rows = [['what', 'old', 'new', 'new / old', 'each']]
  for of in result['records']:
    what = (f'{of["measure"]}, {of["model"]}, {of["load"]}' if 'measure' in of
            else f'step, {pathlib.Path(of["config"]).stem}')
    ratios = sorted(row['new'] / row['old'] for row in of['seconds'])
    rows.append([what, *of['revisions'], f'{of["ratio"]:.3f}',
                 ', '.join(f'{ratio:.3f}' for ratio in ratios)])
  return markdown(rows)


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--trees', required=True, help='two checkouts: OLD,NEW')
  parser.add_argument('--config', default='configs/micro.py')
  parser.add_argument('--measure', default='', help=(
      'sample, score or update of a named shape (--model, --load), in place of '
      'the steps of --config'))
  parser.add_argument('--model', default='tiny')
  parser.add_argument('--load', default='16x64x8x64')
  parser.add_argument('--core', type=int, default=0)
  parser.add_argument('--first', type=int, default=20)
  parser.add_argument('--last', type=int, default=80)
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--cache', type=pathlib.Path, help=(
      'keeps compiled programs, those of each checkout apart; none: anew'))
  parser.add_argument('--to', type=pathlib.Path, required=True)
  flags = parser.parse_args(argv)
  allowed.number('--repeats', flags.repeats, '>= 1')
  allowed.number('--last', flags.last, f'> {flags.first}')
  trees = [pathlib.Path(of).resolve() for of in flags.trees.split(',')]
  if len(trees) != 2:
    raise ValueError(f'--trees is {flags.trees!r}; it must be OLD,NEW')
  found = []
  with tempfile.TemporaryDirectory() as folder:
    cache = (flags.cache or pathlib.Path(folder, 'cache')).resolve()
    for repeat in range(flags.repeats):
      runs = {}
      for name, tree in zip(('old', 'new'), trees, strict=True):
        words = ['-c', _BENCH, 'bench', f'--measure={flags.measure}',
                 f'--model={flags.model}', f'--load={flags.load}'] if (
            flags.measure) else [
                '-m', 'zppo_jax.main', 'train',
                f'--config={tree / flags.config}', '--workdir=.',
                '--config.steps=100000', '--config.eval.every=0',
                '--config.checkpoint.every=100000']
        of_core = ['taskset', '-c', str(flags.core), sys.executable]
        runs[name] = of_core + words, {
            **os.environ, 'PYTHONPATH': str(tree), 'JAX_PLATFORMS': 'cpu',
            'JAX_COMPILATION_CACHE_DIR': str(cache / name)}
      home = pathlib.Path(folder, str(repeat))
      home.mkdir()
      found.append(measure(runs, home, flags.first, flags.last))
      print(found[-1], f'{found[-1]["new"] / found[-1]["old"]:.3f}',
            flush=True)
  revisions = [subprocess.run(
      ['git', '-C', str(tree), 'describe', '--always', '--dirty'],
      capture_output=True, text=True, check=True).stdout.strip()
      for tree in trees]
  record = {
      'revisions': revisions,
      **({'measure': flags.measure, 'model': flags.model, 'load': flags.load}
         if flags.measure else {'config': flags.config}),
      'steps': [flags.first, flags.last], 'machine': machine(),
      'seconds': found, 'ratio': statistics.median(
          of['new'] / of['old'] for of in found)}
  earlier = (json.loads(flags.to.read_text())['records']
             if flags.to.exists() else [])
  flags.to.write_text(json.dumps({
      'machine': record['machine'], 'records': [*earlier, record]},
                                 indent=1) + '\n')


if __name__ == '__main__':
  main()
