"""Arrow files (.arrow): the stream or file form of Arrow's IPC.

The `datasets` package writes the stream form into `save_to_disk` folders and
its cache. Files are mapped into memory, so that only what is read is loaded.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from zppo_jax.data.readers import files as places
from zppo_jax.data.readers.narrow import narrow


def _batches(file: pathlib.Path) -> list[Any]:
  """The record batches of a file; ValueError for any other file."""
  import pyarrow as pa
  try:
    source = pa.memory_map(str(file))
    try:
      opened = pa.ipc.open_stream(source)
      return list(opened)
    except pa.ArrowInvalid:
      source.seek(0)
      of = pa.ipc.open_file(source)
      return [of.get_batch(i) for i in range(of.num_record_batches)]
  except (pa.ArrowException, OSError) as e:
    raise ValueError(f'{file}: no Arrow file that can be read: {e}') from None


class Arrow:
  """The rows of *.arrow.

  Args:
    path: a file, a folder, a glob, or several files.
    leave_out: columns that need not be read.
    most: the most bytes of a record batch.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: for a file that cannot be read; a batch beyond the bound, or one
      whose values are broken, raises it when a row of it is read.
  """

  def __init__(self, path: places.Place, leave_out: Sequence[str] = (),
               most: int = 2**30):
    self.files = places.files(path, '.arrow')
    self.folder = places.folder(self.files, path)
    self._most, self._left = most, frozenset(leave_out)
    self._batches: list[Any] = []
    self._of: list[tuple[int, int]] = []  # file, its first row
    sizes: list[int] = []
    for i, file in enumerate(self.files):
      before = 0
      for batch in _batches(file):
        self._batches.append(batch)
        self._of.append((i, before))
        before += batch.num_rows
        sizes.append(batch.num_rows)
    self._ends = np.cumsum(sizes, dtype=np.int64)
    self._whole: set[int] = set()  # batches whose values were checked
    self.columns = places.union([b.schema.names for b in self._batches])

  def __len__(self) -> int:
    return int(self._ends[-1]) if len(self._ends) else 0

  def _at(self, index: int) -> tuple[int, int]:
    """(number of the batch, number of the row in it)."""
    at = int(np.searchsorted(self._ends, index, 'right'))
    return at, index - (int(self._ends[at - 1]) if at else 0)

  def file(self, index: int) -> str:
    return str(self.files[self._of[self._at(index)[0]][0]])

  def where(self, index: int) -> str:
    at, row = self._at(index)
    file, before = self._of[at]
    return f'{self.files[file]}, row {before + row}'

  def _check(self, at: int, where: str) -> Any:
    """A batch without the columns left out, whose values are checked once."""
    import pyarrow as pa
    batch = self._batches[at].select(
        [n for n in self._batches[at].schema.names if n not in self._left])
    if at not in self._whole:
      if batch.nbytes > self._most:
        raise places.too_many(where, batch.nbytes, self._most)
      try:  # finds text that is no UTF-8 and broken offsets, which would crash
        batch.validate(full=True)
      except pa.ArrowException as e:
        raise ValueError(f'{where}: cannot be read: {e}') from None
      self._whole.add(at)
    return batch

  def __getitem__(self, index: int) -> dict[str, Any]:
    at, row = self._at(index)
    batch = self._check(at, self.where(index)).slice(row, 1)
    try:
      return {name: narrow(column.to_pylist()[0], column.type)
              for name, column in zip(batch.schema.names, batch.columns,
                                      strict=True)}
    # A date may be beyond Python's range, and nesting beyond its stack.
    except (ValueError, OverflowError, RecursionError) as e:
      raise ValueError(f'{self.where(index)}: cannot be read: {e}') from None
