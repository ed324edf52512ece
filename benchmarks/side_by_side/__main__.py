"""Alternates launches of ours and other tools on the same work.

  python -m benchmarks.side_by_side --threads=1,2 --launches=5 \\
      --to=benchmarks/results/side_by_side.json

Every launch is a process pinned to its cores and a line of TO.jsonl; the same
command goes on after an interruption. Tools take turns, so that what the
machine does beside them falls on all alike.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from benchmarks.side_by_side import environments, summary, work

ROOT = pathlib.Path(__file__).parents[2]
OURS = 'ours'  # the environment that runs this
# name -> (environment, module, flags); those as shipped are told nothing
# about memory.
LAUNCHES = {
    'ours': (OURS, 'launch_ours', ()),
    'trl': ('trl', 'launch_trl', ()),
    'tunix': ('tunix', 'launch_tunix', ()),
    'trl_as_shipped': ('trl', 'launch_trl', ()),
    'tunix_as_shipped': ('tunix', 'launch_tunix', ()),
    'generate': ('trl', 'launch_generate', ()),
    'smollm2_ours': (OURS, 'launch_smollm2', ('--by=ours',)),
    'smollm2_transformers': (
        'trl', 'launch_smollm2', ('--by=transformers',)),
    'long_tail': (OURS, 'launch_long_tail', ()),
    'easydel': ('easydel', 'launch_easydel', ()),
}
# Its work is not the same; it runs if --tools has it.
OTHER_WORK = ('easydel',)
TIMEOUT_S = 900
# Freed memory stays, for tools not as shipped; ours sees to it
# (zppo_jax.devices.malloc).
MALLOC = ('glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=2147483647:'
          'glibc.malloc.arena_max=1')


def environment(threads: int, malloc: str | None = MALLOC) -> dict:
  """Of a launch: the threads of every library that counts its own."""
  count = str(threads)
  told = {'GLIBC_TUNABLES': malloc} if malloc else {}
  mine = {name: value for name, value in os.environ.items() if name not in (
      'GLIBC_TUNABLES', 'JAX_CPU_ENABLE_ASYNC_DISPATCH')}
  return {**mine, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu',
          'OMP_NUM_THREADS': count, 'MKL_NUM_THREADS': count,
          'OPENBLAS_NUM_THREADS': count, 'TOKENIZERS_PARALLELISM': 'false',
          'HF_HUB_OFFLINE': '1', **told}


def launch(name: str, threads: int, folder, envs, steps: int,
           launches=LAUNCHES, package: str = 'benchmarks.side_by_side',
           timeout_s: float = TIMEOUT_S) -> dict:
  """Runs one tool once.

  Args:
    name: a key of `launches`.
    threads: of the tool, and the cores it is pinned to.
    folder: the work's folder.
    envs: the folder of environments.
    steps: measured, after one that warms up.
    launches: a table like LAUNCHES.
    package: where its modules are.
    timeout_s: the most seconds that a launch may take.

  Raises:
    RuntimeError: with the end of its output, if it leaves no result.
  """
  home, module, flags = launches[name]
  python = sys.executable if home == OURS else environments.python(envs, home)
  untold = home == OURS or name.endswith(work.AS_SHIPPED)
  cores = sorted(os.sched_getaffinity(0))
  if len(cores) < threads:
    raise ValueError(f'--threads holds {threads}; {len(cores)} cores are here')
  done = subprocess.run(
      ['taskset', '-c', ','.join(map(str, cores[-threads:])), str(python),
       '-m', f'{package}.{module}', f'--work={folder}',
       f'--threads={threads}', f'--steps={steps}', *flags],
      cwd=ROOT, env=environment(threads, None if untold else MALLOC),
      capture_output=True, text=True, timeout=timeout_s)
  found = [line for line in done.stdout.splitlines()
           if line.startswith(work.MARK)]
  if done.returncode or len(found) != 1:
    raise RuntimeError(f'{name} ended with {done.returncode}:\n'
                       f'{done.stdout[-1000:]}{done.stderr[-3000:]}')
  return json.loads(found[0].removeprefix(work.MARK))


def read(path: pathlib.Path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()] if (
      path.exists()) else []


def main(argv=None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--threads', default='1,2')
  parser.add_argument('--launches', type=int, default=5)
  parser.add_argument('--steps', type=int, default=work.STEPS)
  parser.add_argument('--tools', default=','.join(
      name for name in LAUNCHES if name not in OTHER_WORK))
  parser.add_argument('--to', type=pathlib.Path, required=True)
  parser.add_argument('--envs', type=pathlib.Path,
                      default=environments.DEFAULT)
  parser.add_argument('--work', type=pathlib.Path, default=pathlib.Path(
      tempfile.gettempdir()) / 'zppo_side_by_side' / 'work')
  flags = parser.parse_args(argv)
  tools = flags.tools.split(',')
  unknown = set(tools) - set(LAUNCHES)
  if unknown:
    raise SystemExit(f'--tools: unknown {sorted(unknown)}; known: '
                     f'{", ".join(LAUNCHES)}')
  from benchmarks.side_by_side import launch_smollm2, make_work
  make_work.main(flags.work)
  if any(t.startswith('smollm2') for t in tools):
    launch_smollm2.prepare(flags.work)
  lines = flags.to.with_suffix('.jsonl')
  lines.parent.mkdir(parents=True, exist_ok=True)
  have = {(r['launch'], r['threads'], r['name']) for r in read(lines)}
  for i in range(flags.launches):
    for threads in map(int, flags.threads.split(',')):
      order = tools if i % 2 == 0 else tools[::-1]
      for name in order:
        if (i, threads, name) in have:
          continue
        found = launch(name, threads, flags.work, flags.envs, flags.steps)
        found |= {'launch': i, 'threads': threads, 'name': name}
        with lines.open('a') as f:
          f.write(json.dumps(found) + '\n')
        shown = {k: round(v, 3) for k, v in found['median_s'].items()}
        print(f'launch {i}, {threads} thread(s), {name}: {shown}', flush=True)
  summary.check_logps(flags.work, tools)
  out = summary.summarise(read(lines))
  flags.to.write_text(json.dumps(out, indent=1) + '\n')
  print(summary.table(out))


if __name__ == '__main__':
  main()
