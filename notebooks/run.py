"""Executes notebooks from top to bottom; fails where a cell raises.

  python notebooks/run.py [NAME.ipynb ...] [--write]

Without names: every notebook of this folder. Each runs in its own folder,
under the Python that runs this script.
"""

import argparse
import pathlib
import time

import nbformat
from nbclient import NotebookClient

HERE = pathlib.Path(__file__).resolve().parent
CELL_SECONDS = 600


def execute(path: pathlib.Path, write: bool) -> None:
  """Runs a notebook; CellExecutionError shows the cell that raised."""
  notebook = nbformat.read(path, as_version=4)
  NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name='python3',
                 resources={'metadata': {'path': str(path.parent)}}).execute()
  if write:
    nbformat.write(notebook, path)


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('names', nargs='*', metavar='NAME.ipynb')
  parser.add_argument('--write', action='store_true',
                      help='keep the outputs in the file')
  args = parser.parse_args()
  paths = [pathlib.Path(n) for n in args.names] or sorted(HERE.glob('*.ipynb'))
  if not paths:
    raise SystemExit(f'no notebooks in {HERE}')
  for path in paths:
    begun = time.perf_counter()
    execute(path, args.write)
    print(f'{path.name}: {time.perf_counter() - begun:.0f} s', flush=True)


if __name__ == '__main__':
  main()
