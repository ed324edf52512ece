"""Parquet files (.parquet): reading a row unpacks its row group.

The reader holds a few row groups, so files with images need groups of 100 rows
or fewer. Whether a row has an image is told without reading it: an image is a
struct, whose field of the fewest bytes tells which structs are null, and the
file's footer counts the nulls of the others.
"""

import collections
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from zppo_jax.data.readers import files as places, narrow, numbered

_BATCH = 256  # rows that are unpacked between two checks of the size
_GROUPS = 4  # row groups that an open reader holds


class Parquet(numbered.Blocks):
  """The rows of *.parquet.

  Files may differ in their columns: `columns` has those of all, and a row has
  those of its own file.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: for a file that cannot be read, or one with two columns of a
      name; a row group beyond the bound raises it when it is read.
  """

  def __init__(self, path: places.Place, leave_out: Sequence[str] = (),
               most: int = places.MOST_BYTES):
    files = places.files(path, '.parquet')
    self.folder = places.folder(files, path)
    self._most = most
    self._open = [_opened(file) for file in files]
    names = [_columns(*of) for of in zip(files, self._open, strict=True)]
    self.columns = places.union(names)
    self._read = [[c for c in of if c not in leave_out] for of in names]
    self._groups = [(i, group) for i, of in enumerate(self._open)
                    for group in range(of.metadata.num_row_groups)]
    super().__init__(files, [
        (i, self._open[i].metadata.row_group(group).num_rows)
        for i, group in self._groups])
    self._tables: collections.OrderedDict[int, Any] = collections.OrderedDict()
    self._held: dict[tuple[int, str], np.ndarray] = {}

  def _unpacked(self, at: int, read: Sequence[str]) -> Any:
    """Columns of a row group as a pyarrow.Table.

    The footer of an honest file tells the size before anything is unpacked. The
    batches bound the size of repeated values of a dictionary as well.

    Args:
      at: the number of the row group.
      read: names of columns, or paths of fields in them.
    """
    import pyarrow as pa
    file, group = self._groups[at]
    of, before = self._open[file], self._of[at][1]
    rows = of.metadata.row_group(group)
    where = (f'{self.files[file]}, rows {before} to '
             f'{before + rows.num_rows - 1} (a row group)')
    size = sum(chunk.total_uncompressed_size for name in read
               for chunk in _chunks(rows, name))
    if size > self._most:
      raise places.too_many(where, size, self._most)
    held, batches = 0, []
    try:
      for batch in of.iter_batches(_BATCH, [group], read):
        held += batch.nbytes
        if held > self._most:
          raise places.too_many(where, held, self._most)
        batches.append(batch)
      # This finds text that is no UTF-8 and broken offsets, which would crash.
      table = pa.Table.from_batches(batches, batches[0].schema)
      table.validate(full=True)
      # Finding a row among many small chunks would be slow.
      table = table.combine_chunks()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as e:
      raise ValueError(f'{where}: cannot be read: {e}') from None
    return table

  def __getitem__(self, index: int) -> dict[str, Any]:
    at, row = self.at(index)
    if at not in self._tables:
      self._tables[at] = self._unpacked(at, self._read[self._groups[at][0]])
      while len(self._tables) > _GROUPS:
        self._tables.popitem(last=False)
    self._tables.move_to_end(at)
    table = self._tables[at].slice(row, 1)
    return narrow.row(table.column_names, table.columns,
                      lambda: self.where(index))

  def held(self, index: int, columns: Sequence[str]) -> int:
    """How many values some columns hold in a row, as values.held counts."""
    at, row = self.at(index)
    for column in columns:
      if (at, column) not in self._held:
        self._held[at, column] = self._counts(at, column)
    return sum(int(self._held[at, column][row]) for column in columns)

  def _counts(self, at: int, column: str) -> np.ndarray:
    """How many values a column holds in each row of a row group.

    A struct that is not null holds one, unless all of its fields are null. If
    one of its fields is null as often as the struct, none is of that kind;
    otherwise the column is read.
    """
    file, group = self._groups[at]
    rows = self._open[file].metadata.row_group(group)
    fields = sorted(_chunks(rows, column),
                    key=lambda chunk: chunk.total_uncompressed_size)
    if not fields:
      return np.zeros(rows.num_rows, np.int32)
    if len(fields) > 1:
      values = self._unpacked(at, [fields[0].path_in_schema])[column]
      counts, nulls = narrow.counted(values, whole=False)
      if nulls in map(_nulls, fields):
        return counts
    return narrow.counted(self._unpacked(at, [column])[column])[0]


def _chunks(rows: Any, name: str) -> list[Any]:
  """The column chunks of a column in a row group, one for each field of it."""
  chunks = [rows.column(i) for i in range(rows.num_columns)]
  return [c for c in chunks if c.path_in_schema == name
          or c.path_in_schema.startswith(f'{name}.')]


def _nulls(chunk: Any) -> int | None:
  """How many values of a column chunk are null, if its file says so."""
  return chunk.statistics.null_count if chunk.is_stats_set else None


def _columns(file: pathlib.Path, of: Any) -> list[str]:
  """The columns of an open file; ValueError if two have one name."""
  names = list(of.schema_arrow.names)
  twice = [c for c, n in collections.Counter(names).items() if n > 1]
  if twice:  # a row could hold only one of them
    raise ValueError(f'{file} has more than one column '
                     f'{", ".join(map(repr, twice))}')
  return names


def _opened(file: pathlib.Path) -> Any:
  """An open pyarrow.parquet.ParquetFile; ValueError names any other file."""
  import pyarrow as pa
  from pyarrow import parquet
  try:
    return parquet.ParquetFile(file, memory_map=True)
  except (pa.ArrowException, OSError) as e:
    raise ValueError(f'{file}: no parquet file that can be read: {e}'
                     ) from None
