"""Rows by number: in which file a row lies, and its place there for errors.

  Spans    rows that are spans of bytes: lines, objects of an array, CSV
  Blocks   rows in blocks: row groups of parquet, record batches of Arrow
"""

import pathlib
from collections.abc import Sequence

import numpy as np


class Spans:
  """Rows that are spans of bytes of their files.

  Args:
    files: of all rows.
    spans: (file, number in the file, start, end) of each row.
    unit: what the number counts, for errors.
  """

  def __init__(self, files: Sequence[pathlib.Path],
               spans: Sequence[tuple[int, int, int, int]], unit: str = 'row'):
    self.files, self._unit = files, unit
    self._spans = np.array(spans, np.int64).reshape(-1, 4)

  def __len__(self) -> int:
    return len(self._spans)

  def number_of_file(self, index: int) -> int:
    return int(self._spans[index, 0])

  def file(self, index: int) -> str:
    return str(self.files[self.number_of_file(index)])

  def where(self, index: int) -> str:
    return f'{self.file(index)}, {self._unit} {self._spans[index, 1]}'

  def first_rows(self) -> list[int]:
    """The first row of each file that has rows."""
    return np.unique(self._spans[:, 0], return_index=True)[1].tolist()

  def data(self, index: int) -> bytes:
    """The bytes of a row."""
    start, end = self._spans[index, 2:].tolist()
    with open(self.files[self.number_of_file(index)], 'rb') as f:
      f.seek(start)
      return f.read(end - start)


class Blocks:
  """Rows that lie in blocks, one block behind the other.

  Args:
    files: of all rows.
    blocks: (file, rows) of each block.
  """

  def __init__(self, files: Sequence[pathlib.Path],
               blocks: Sequence[tuple[int, int]]):
    self.files = files
    self._of: list[tuple[int, int]] = []  # file, number of its first row there
    before: dict[int, int] = {}
    for file, rows in blocks:
      first = before.get(file, 0)
      self._of.append((file, first))
      before[file] = first + rows
    self._ends = np.cumsum([rows for _, rows in blocks], dtype=np.int64)

  def __len__(self) -> int:
    return int(self._ends[-1]) if len(self._ends) else 0

  def at(self, index: int) -> tuple[int, int]:
    """(number of the block, number of the row in it)."""
    block = int(np.searchsorted(self._ends, index, 'right'))
    return block, index - (int(self._ends[block - 1]) if block else 0)

  def file(self, index: int) -> str:
    return str(self.files[self._of[self.at(index)[0]][0]])

  def where(self, index: int) -> str:
    block, row = self.at(index)
    file, first = self._of[block]
    return f'{self.files[file]}, row {first + row}'
