"""CSV files with a line of names, as RFC 4180 has them: `a,"b, c"`.

Cells may hold line breaks in quotes. The reader goes through a file once and
keeps where each row begins; a row's cells are texts.
"""

import collections
import csv
import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from zppo_jax.data.readers import files as places, numbered

_MARK = b'\xef\xbb\xbf'  # UTF-8's byte order mark, which Excel writes
_MOST_CELL = 2**31 - 1  # characters; `most` bounds a row's bytes before that


class _Lines:
  """The lines of an open file as texts, which counts the bytes it read."""

  def __init__(self, file: BinaryIO, where: str, most: int):
    self.at, self._file = file.tell(), file
    self._where, self._most = where, most
    self.row_start = self.at

  def __iter__(self) -> Iterator[str]:
    while line := self._file.readline(self._most + 1):
      self.at += len(line)
      if self.at - self.row_start > self._most:
        raise places.too_many(self._where, self.at - self.row_start,
                              self._most)
      yield line.decode()


class Csv(numbered.Spans):
  """The rows of *.csv.

  Args:
    path: a file, a folder, a glob, or several files.
    leave_out: columns that need not be read.
    most: the most bytes of a row.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: for a packed file, one that is no UTF-8 or has a name twice, a
      row beyond the bound, or a row with more or fewer cells than names. The
      message names file and row.
  """

  def __init__(self, path: places.Place, leave_out: Sequence[str] = (),
               most: int = places.MOST_BYTES):
    files = places.files(path, '.csv')
    self.folder = places.folder(files, path)
    self._left = frozenset(leave_out)
    csv.field_size_limit(max(csv.field_size_limit(), _MOST_CELL))
    self._names: list[tuple[str, ...]] = []
    spans: list[tuple[int, int, int, int]] = []
    for i, file in enumerate(files):
      names, rows = _index(file, most)
      self._names.append(names)
      spans += [(i, number, *row) for number, row in enumerate(rows)]
    super().__init__(files, spans)
    self.columns = places.union(self._names)

  def __getitem__(self, index: int) -> dict[str, Any]:
    words = self.data(index).decode()
    cells = next(csv.reader(io.StringIO(words, newline='')))
    names = self._names[self.number_of_file(index)]
    return {name: cell for name, cell in zip(names, cells, strict=True)
            if name not in self._left}


def _index(file: pathlib.Path, most: int
           ) -> tuple[tuple[str, ...], list[tuple[int, int]]]:
  """(the names of the columns, the (start, end) of each row) of a file."""
  places_of: list[tuple[int, int]] = []
  with open(file, 'rb') as f:
    if form := places.packed(f.read(4)):
      raise ValueError(f'{file}: {form}, not CSV; unpack it')
    f.seek(0)
    f.seek(len(_MARK) if f.read(3) == _MARK else 0)
    lines = _Lines(f, str(file), most)
    rows = csv.reader(iter(lines), strict=True)
    try:
      names = tuple(next(rows, ()))
      twice = [n for n, k in collections.Counter(names).items() if k > 1]
      if twice or not names:
        raise ValueError(
            f'more than one column is called {twice[0]!r}' if twice
            else 'there is no line of names')
      lines.row_start = lines.at
      for cells in rows:
        if cells and len(cells) != len(names):
          raise ValueError(f'row {len(places_of)} has {len(cells)} cells; '
                           f'there are {len(names)} names')
        if cells:  # an empty line is no row
          places_of.append((lines.row_start, lines.at))
        lines.row_start = lines.at
    except (csv.Error, UnicodeDecodeError) as e:
      raise ValueError(f'{file}, row {len(places_of)}: no CSV in UTF-8: {e}'
                       ) from None
    except ValueError as e:
      raise e if str(e).startswith(str(file)) else ValueError(
          f'{file}: {e}') from None
  return names, places_of
