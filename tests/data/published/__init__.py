"""Local copies of all 31 benchmarks in miniature, in their published forms.

Schemas, nullables, traps and the files beside the wanted ones are as published;
all contents are invented.

  from tests.data import published
  published.write(folder, 'ai2d', rows=3)
  published.write_all(folder)
"""

import pathlib

from tests.data.published import image_sets, text_sets, video_sets
from tests.data.published.forms import File, write_file

SETS = {**image_sets.SETS, **text_sets.SETS, **video_sets.SETS}


def write(folder: pathlib.Path, name: str, rows: int = 3) -> pathlib.Path:
  """The copy of a benchmark, with at least so many rows; returns its folder."""
  return write_files(folder / name, SETS[name](rows))


def write_files(home: pathlib.Path, files: dict[str, File]) -> pathlib.Path:
  for path, of in files.items():
    write_file(home / path, of)
  return home


def write_all(folder: pathlib.Path, rows: int = 3) -> None:
  for name in SETS:
    write(folder, name, rows)
