"""Seeded mutations against a door that faces the world.

  python -m benchmarks.fuzz TARGET [--count=N] [--seed=0] [--output=FILE]

  answers      of every kind through the verifier
  replies      of a server through the client
  rows         of data files through the readers
  checkpoints  damage to a run's files, and what a resume makes of it

Prints JSON with the command, the machine and what the target found. An
exception that leaves a door, other than those its docstring names, ends the
command; so do `faults`, which are listed, with exit code 1.
"""

import argparse
import importlib
import json
import pathlib
import sys
import time
from typing import NamedTuple

from zppo_jax.study.launch import machine


class Target(NamedTuple):
  """What is mutated.

  Attributes:
    module: has `main(count, seed) -> dict`; the key 'faults' lists them.
    count: of mutations without --count.
  """
  module: str
  count: int


TARGETS = {
    'answers': Target('benchmarks.fuzz_answers', 2000),
    'replies': Target('benchmarks.fuzz_replies', 2000),
    'rows': Target('benchmarks.fuzz_rows', 500),
    'checkpoints': Target('benchmarks.fuzz_checkpoints', 200),
}


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('target', choices=TARGETS)
  parser.add_argument('--count', type=int, help='default: ' + ', '.join(
      f'{row.count:,} {name}' for name, row in TARGETS.items()))
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--output', type=pathlib.Path)
  args = parser.parse_args()
  target = TARGETS[args.target]
  count = target.count if args.count is None else args.count
  begun = time.perf_counter()
  found = importlib.import_module(target.module).main(count, args.seed)
  text = json.dumps({
      'command': f'python -m benchmarks.fuzz {args.target} --count={count} '
                 f'--seed={args.seed}',
      'count': count, 'seed': args.seed, 'machine': machine(),
      'seconds': round(time.perf_counter() - begun, 1), **found},
      indent=1) + '\n'
  print(text, end='')
  if args.output:
    args.output.write_text(text)
  sys.exit(bool(found.get('faults')))


if __name__ == '__main__':
  main()
