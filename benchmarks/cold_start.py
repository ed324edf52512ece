"""What a user waits for: the main job of two checkouts, by turns.

  python -m benchmarks.cold_start --old=FOLDER --new=FOLDER --repeats=5 \\
      --cores=0,1 --to=FILE.json

Each run is a process of its own, `zppo train` of configs/micro.py. It runs with
an empty cache of compiled programs, and again in a new directory with the cache
that this has filled. The first step has ended when metrics.jsonl holds its row.
Programs are counted, and seconds of tracing, lowering and compiling summed, by
the events that JAX reports; those of a thread beside the main one count too.
`zppo train --dry-run` and `zppo --help` are timed as well. --cores are those on
which all processes run, so that `--cores=0` is one pinned core.
"""

import argparse
import collections
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from zppo_jax.study import launch

CONFIG = '--config=configs/micro.py'
# Runs the command line, and writes what JAX has reported.
CHILD = '''
import collections, json, sys, time
begun = time.perf_counter()
to, *arguments = sys.argv[1:]
import jax
events = collections.defaultdict(lambda: [0, 0.0])
def listen(name, seconds, **of):
  if name.startswith('/jax/core/compile/'):
    for key in (name.split('/')[-1], f"{name.split('/')[-1]} "
                f"{of.get('fun_name', '')}"):
      events[key][0] += 1
      events[key][1] += seconds
jax.monitoring.register_event_duration_secs_listener(listen)
from zppo_jax import main
imported = time.perf_counter() - begun
try:
  main.main(arguments)
finally:
  with open(to, 'w') as f:
    json.dump({'import_s': imported, 'events': events}, f)
'''
# What a run of an earlier checkout and one of this call them.
_TIMES = ('rollouts', 'teacher', 'probe', 'scoring', 'update', 'log',
          'evaluate', 'checkpoint')
GOALS = {'empty/wall_s': 0.55, 'empty/first_step_s': 0.4, 'filled/wall_s': 0.6,
         'empty/programs': 0.5}


def _wait(process: subprocess.Popen, rows: pathlib.Path | None) -> tuple:
  """(seconds until the process ends, seconds until `rows` has one, processor
  seconds)."""
  begun, first, usage = time.perf_counter(), None, None
  while usage is None:
    done, code, used = os.wait4(process.pid, os.WNOHANG)
    now = time.perf_counter() - begun
    if first is None and rows is not None and rows.is_file() and (
        rows.stat().st_size):
      first = now
    if done:
      usage = used
      process.returncode = os.waitstatus_to_exitcode(code)
    else:
      time.sleep(0.02)
  return now, first, usage.ru_utime + usage.ru_stime


def launched(checkout: pathlib.Path, cores: set[int], cache: str,
             argv: list[str], workdir: pathlib.Path | None = None) -> dict:
  """Runs Python in a checkout, and returns its seconds.

  Raises:
    RuntimeError: if it fails, with the end of what it wrote.
  """
  env = {**os.environ, 'PYTHONPATH': str(checkout), 'JAX_PLATFORMS': 'cpu',
         'JAX_COMPILATION_CACHE_DIR': cache}
  with tempfile.TemporaryFile() as out:
    process = subprocess.Popen(
        [sys.executable, *argv], cwd=checkout, env=env, stdout=out,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: os.sched_setaffinity(0, cores))
    wall, first, used = _wait(
        process, workdir and workdir / 'metrics.jsonl')
    if process.returncode:
      out.seek(0)
      raise RuntimeError(f'{checkout}: {argv[-3:]} failed:\n'
                         + out.read().decode()[-2000:])
  return {'wall_s': wall, 'processor_s': used, 'first_step_s': first}


def _phases(workdir: pathlib.Path) -> dict[str, float]:
  """Seconds of the phases of all steps, compilations in them included."""
  totals: collections.Counter = collections.Counter()
  for line in (workdir / 'metrics.jsonl').read_text().splitlines():
    row = json.loads(line)
    totals.update({name: row.get(f'time/{name}', 0.0) for name in _TIMES})
  return dict(totals)


def main_job(checkout: pathlib.Path, cores: set[int], cache: str,
             steps: int) -> dict:
  """One run: seconds in all and by phase, and the programs by name."""
  with tempfile.TemporaryDirectory() as folder:
    workdir, to = pathlib.Path(folder) / 'run', pathlib.Path(folder) / 'events'
    more = [f'--config.steps={steps}'] if steps else []
    found = launched(checkout, cores, cache, [
        '-c', CHILD, str(to), 'train', CONFIG, f'--workdir={workdir}', *more],
        workdir)
    told = json.loads(to.read_text())
    events = told['events']
    compiled = 'backend_compile_duration'
    found |= {
        'import_s': told['import_s'],
        'programs': events[compiled][0],
        'trace_s': events['jaxpr_trace_duration'][1],
        'lower_s': events['jaxpr_to_mlir_module_duration'][1],
        'compile_s': events[compiled][1],
        'by_program': {
            name.split(' ', 1)[1]: {'count': count, 'seconds': seconds}
            for name, (count, seconds) in events.items()
            if name.startswith(f'{compiled} ')},
        'phases': _phases(workdir)}
  return found


def measure(checkout: pathlib.Path, cores: set[int], steps: int) -> dict:
  """One turn of a checkout."""
  with tempfile.TemporaryDirectory() as cache:
    empty = main_job(checkout, cores, cache, steps)
    filled = main_job(checkout, cores, cache, steps)
  zppo = ['-m', 'zppo_jax.main']
  with tempfile.TemporaryDirectory() as cache:
    dry = launched(checkout, cores, cache, [
        *zppo, 'train', CONFIG, f'--workdir={cache}/run', '--dry-run'])
    text = launched(checkout, cores, cache, [*zppo, '--help'])
  return {'empty': empty, 'filled': filled, 'dry_run': dry, 'help': text}


def _flat(values: dict, prefix: str = '') -> dict[str, float]:
  out = {}
  for name, value in values.items():
    if isinstance(value, dict):
      out |= _flat(value, f'{prefix}{name}/')
    elif value is not None:
      out[prefix + name] = value
  return out


def medians(turns: list[dict]) -> dict[str, float]:
  """The median of each number over turns; of a program that some lack, 0."""
  flat = [_flat(turn) for turn in turns]
  names = dict.fromkeys(name for turn in flat for name in turn)
  return {name: statistics.median(turn.get(name, 0.0) for turn in flat)
          for name in names}


def table(old: dict[str, float], new: dict[str, float]) -> str:
  """Both medians and their ratio, in Markdown; programs by name are left out.
  """
  lines = ['| | old | new | ratio | goal |', '|---|---|---|---|---|']
  for name in [n for n in {**old, **new} if 'by_program' not in n]:
    a, b = old.get(name, 0.0), new.get(name, 0.0)
    goal = f'<= {GOALS[name]}' if name in GOALS else ''
    ratio = f'{b / a:.2f}' if a else ''
    lines.append(f'| {name} | {a:.4g} | {b:.4g} | {ratio} | {goal} |')
  return '\n'.join(lines)


def revision(checkout: pathlib.Path) -> str:
  return subprocess.run(
      ['git', '-C', str(checkout), 'describe', '--always', '--dirty'],
      check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--old', required=True, type=pathlib.Path)
  parser.add_argument('--new', required=True, type=pathlib.Path)
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--cores', default='0,1')
  parser.add_argument('--steps', type=int, default=0,
                      help="0: the config's own")
  parser.add_argument('--to', type=pathlib.Path)
  args = parser.parse_args()
  cores = {int(core) for core in args.cores.split(',')}
  checkouts = {'old': args.old.resolve(), 'new': args.new.resolve()}
  turns: dict[str, list[dict]] = {'old': [], 'new': []}
  for repeat in range(args.repeats):
    # Who goes first changes, because a machine may get warmer or busier.
    for name in sorted(turns, reverse=bool(repeat % 2)):
      turns[name].append(measure(checkouts[name], cores, args.steps))
      print(f'{repeat} {name}: ' + ', '.join(
          f'{key} {value:.2f}' for key, value in _flat(
              turns[name][-1]).items() if key.endswith(
                  ('wall_s', 'processor_s', 'first_step_s'))), flush=True)
  found = {name: medians(of) for name, of in turns.items()}
  print(table(found['old'], found['new']))
  if args.to:
    args.to.write_text(json.dumps({
        'command': ' '.join(['python -m benchmarks.cold_start', *(
            a for a in sys.argv[1:] if not a.startswith(
                ('--old=', '--new=', '--to=')))]),
        'machine': launch.machine(), 'cores': sorted(cores),
        'revision': {n: revision(c) for n, c in checkouts.items()},
        'repeats': args.repeats, 'medians': found, 'turns': turns},
        indent=1) + '\n')


if __name__ == '__main__':
  main()
