"""Alternates launches of our distillation and TRL's on the same work.

  python -m benchmarks.distillation --launches=5 \\
      --to=benchmarks/results/distillation.json

First every tool computes loss and gradient norm of a fixed batch (`agree_*`),
and nothing is timed unless they agree. Every launch is a process pinned to its
cores and a line of TO.jsonl; the same command goes on after an interruption.
"""

import argparse
import json
import pathlib
import tempfile

from benchmarks.distillation import make_work, summary, work
from benchmarks.side_by_side import __main__ as side_by_side, environments

CHECKS = f'--checks={",".join(work.TEACHERS)}'
# Fixed numbers, launched once; name -> (environment, module, flags).
AGREE = {
    'agree_ours': ('ours', 'launch_ours', ('--tasks=', CHECKS)),
    'agree_trl_distillation': (
        'trl', 'launch_trl', ('--by=distillation', CHECKS)),
    'agree_trl_gkd': ('trl', 'launch_trl', ('--by=gkd', CHECKS)),
}
STEPS = {
    'ours': ('ours', 'launch_ours', ()),
    'trl_distillation': ('trl', 'launch_trl', ('--by=distillation',)),
    'trl_gkd': ('trl', 'launch_trl', ('--by=gkd',)),
}
# The update alone; none is timed, so that one launch is enough.
MEMORY = {
    'update_ours': ('ours', 'launch_update', ('--by=distillation',)),
    'update_ours_rl': ('ours', 'launch_update', ('--by=rl',)),
    'update_trl_distillation': (
        'trl', 'launch_update_torch', ('--by=distillation',)),
    'update_trl_gkd': ('trl', 'launch_update_torch', ('--by=gkd',)),
    'update_torch': ('trl', 'launch_update_torch', ('--by=dense',)),
}
LAUNCHES = AGREE | STEPS | MEMORY
TIMEOUT_S = 3600  # for a machine that does much else


def rounds(tools, launches: int):
  """(launch, name) in order: checks, then steps by turns, then memory."""
  of = lambda table: [name for name in tools if name in table]
  yield from ((0, name) for name in of(AGREE))
  for i in range(launches):
    yield from ((i, name) for name in of(STEPS)[::1 if i % 2 == 0 else -1])
  yield from ((0, name) for name in of(MEMORY))


def main(argv=None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--threads', type=int, default=1)
  parser.add_argument('--launches', type=int, default=5)
  parser.add_argument('--steps', type=int, default=3)
  parser.add_argument('--tools', default=','.join(LAUNCHES))
  parser.add_argument('--to', type=pathlib.Path, required=True)
  parser.add_argument('--envs', type=pathlib.Path,
                      default=environments.DEFAULT)
  parser.add_argument('--work', type=pathlib.Path, default=pathlib.Path(
      tempfile.gettempdir()) / 'zppo_distillation' / 'work')
  flags = parser.parse_args(argv)
  tools = flags.tools.split(',')
  if unknown := set(tools) - set(LAUNCHES):
    raise SystemExit(f'--tools: unknown {sorted(unknown)}; known: '
                     f'{", ".join(LAUNCHES)}')
  make_work.main(flags.work)
  lines = flags.to.with_suffix('.jsonl')
  lines.parent.mkdir(parents=True, exist_ok=True)
  have = {(r['launch'], r['name']) for r in side_by_side.read(lines)}
  for i, name in rounds(tools, flags.launches):
    if (i, name) in have:
      continue
    if name in STEPS:
      summary.check_agreement(side_by_side.read(lines))
    found = side_by_side.launch(
        name, flags.threads, flags.work, flags.envs,
        0 if name in AGREE else flags.steps, LAUNCHES,
        'benchmarks.distillation', TIMEOUT_S)
    found |= {'launch': i, 'threads': flags.threads, 'name': name}
    with lines.open('a') as f:
      f.write(json.dumps(found) + '\n')
    print(f'launch {i}, {name}: {found["median_s"]}', flush=True)
  out = summary.summarise(side_by_side.read(lines))
  flags.to.write_text(json.dumps(out, indent=1) + '\n')
  print(summary.table(out))


if __name__ == '__main__':
  main()
