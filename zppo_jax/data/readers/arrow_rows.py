"""Arrow files (.arrow): the stream or file form of Arrow's IPC.

The `datasets` package writes the stream form into `save_to_disk` folders and
its cache. Files are mapped into memory, so that only what is read is loaded.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from zppo_jax.data.readers import files as places, narrow, numbered


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


class Arrow(numbered.Blocks):
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
               most: int = places.MOST_BYTES):
    files = places.files(path, '.arrow')
    self.folder = places.folder(files, path)
    self._most, self._left = most, frozenset(leave_out)
    batches = [(i, batch) for i, file in enumerate(files)
               for batch in _batches(file)]
    self._batches = [batch for _, batch in batches]
    super().__init__(files, [(i, batch.num_rows) for i, batch in batches])
    # The columns of batches whose values were checked.
    self._checked: set[tuple[int, tuple[str, ...]]] = set()
    self.columns = places.union([b.schema.names for b in self._batches])

  def _batch(self, at: int, names: Sequence[str],
             where: Callable[[], str]) -> Any:
    """Columns of a batch, whose values are checked once."""
    import pyarrow as pa
    batch = self._batches[at].select(names)
    if (at, tuple(names)) not in self._checked:
      try:  # finds text that is no UTF-8 and broken offsets, which would crash
        if batch.nbytes > self._most:
          raise places.too_many(where(), batch.nbytes, self._most)
        batch.validate(full=True)
      except pa.ArrowException as e:
        raise ValueError(f'{where()}: cannot be read: {e}') from None
      self._checked.add((at, tuple(names)))
    return batch

  def __getitem__(self, index: int) -> dict[str, Any]:
    at, row = self.at(index)
    where = lambda: self.where(index)
    names = [n for n in self._batches[at].schema.names if n not in self._left]
    batch = self._batch(at, names, where).slice(row, 1)
    return narrow.row(names, batch.columns, where)

  def held(self, index: int, columns: Sequence[str]) -> int:
    """How many values some columns hold in a row, as values.held counts."""
    at, row = self.at(index)
    names = [n for n in columns if n in self._batches[at].schema.names]
    batch = self._batch(at, names, lambda: self.where(index)).slice(row, 1)
    return sum(int(narrow.counted(column)[0][0]) for column in batch.columns)
