"""Executes notebooks from top to bottom; fails where a cell raises.

  python notebooks/run.py [NAME.ipynb ...] [--write | --to=FOLDER]

Without names: every notebook of this folder. Each runs in its own folder,
under the Python that runs this script. --to puts copies with their outputs into
a folder, from which the site of the documentation takes them (mkdocs.yml).
"""

import argparse
import pathlib
import time

import nbformat
from nbclient import NotebookClient

HERE = pathlib.Path(__file__).resolve().parent
CELL_SECONDS = 600


def execute(path: pathlib.Path, to: pathlib.Path | None) -> None:
  """Runs a notebook, and writes it with its outputs to a file, if any is given;
  CellExecutionError shows the cell that raised."""
  notebook = nbformat.read(path, as_version=4)
  NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name='python3',
                 resources={'metadata': {'path': str(path.parent)}}).execute()
  if to is not None:
    nbformat.write(notebook, to)


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('names', nargs='*', metavar='NAME.ipynb')
  kept = parser.add_mutually_exclusive_group()
  kept.add_argument('--write', action='store_true',
                    help='keep the outputs in the file')
  kept.add_argument('--to', type=pathlib.Path, metavar='FOLDER',
                    help='keep the outputs in a copy in this folder')
  args = parser.parse_args()
  paths = [pathlib.Path(n) for n in args.names] or sorted(HERE.glob('*.ipynb'))
  if not paths:
    raise SystemExit(f'no notebooks in {HERE}')
  if args.to is not None:
    args.to.mkdir(parents=True, exist_ok=True)
  for path in paths:
    begun = time.perf_counter()
    execute(path, path if args.write else
            None if args.to is None else args.to / path.name)
    print(f'{path.name}: {time.perf_counter() - begun:.0f} s', flush=True)


if __name__ == '__main__':
  main()
