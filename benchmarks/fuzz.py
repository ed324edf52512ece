"""Seeded mutations against a door that faces the world.

  python -m benchmarks.fuzz TARGET --count=2000 --seed=0 [--output=FILE]

A target is a function (count, seed) -> counts. Nothing may leave a door but
what its docstring names: an exception that does ends the command. Prints JSON
with the command, the seed and the counts.
"""

import argparse
import importlib
import json
import pathlib
import time

# name -> module with `main(count, seed) -> dict`
TARGETS = {'answers': 'benchmarks.fuzz_answers'}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('target', choices=TARGETS)
  parser.add_argument('--count', type=int, default=2000)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--output', type=pathlib.Path)
  args = parser.parse_args()
  begun = time.perf_counter()
  found = importlib.import_module(TARGETS[args.target]).main(
      args.count, args.seed)
  text = json.dumps({
      'command': f'python -m benchmarks.fuzz {args.target} '
                 f'--count={args.count} --seed={args.seed}',
      'seed': args.seed, 'seconds': round(time.perf_counter() - begun, 1),
      **found}, indent=2) + '\n'
  print(text)
  if args.output:
    args.output.write_text(text)


if __name__ == '__main__':
  main()
