"""READERS: files on disk as rows, which are read in any order.

A reader is a sequence of rows (dicts by column) that knows the place of each.
It reads a row when asked for it; opening a reader reads sizes and names only.

  jsonl    *.jsonl with one JSON object per line; the reader holds an index of
           the offsets of lines
  parquet  *.parquet; reading a row unpacks its row group, and the reader holds
           a few of them, so files with images need groups of 100 rows or fewer;
           columns can be left out
  arrow    *.arrow, the stream or file form of Arrow's IPC (arrow_rows.py)
  json     *.json with one array of objects (json_array.py)
  csv      *.csv with a line of names (csv_rows.py)
  hf       a folder of datasets.save_to_disk, FOLDER or FOLDER:SPLIT (saved.py)
  tfds     the folder of a prepared builder, array_record (tfds_reader.py)

A line of JSON, a row group of a parquet file and a TFDS record may hold at most
`most` bytes unpacked, because a few kilobytes of zstd or of repeated values can
stand for gigabytes.
"""

import collections
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from zppo_jax import allowed
from zppo_jax.data.readers import files as places
from zppo_jax.data.readers.arrow_rows import Arrow
from zppo_jax.data.readers.csv_rows import Csv
from zppo_jax.data.readers.json_array import JsonArray
from zppo_jax.data.readers.narrow import narrow
from zppo_jax.data.readers.saved import Saved
from zppo_jax.data.readers.tfds_reader import Tfds

MOST_BYTES = 2**30  # of a line, a row group or a record, unpacked
_BATCH = 256  # rows that are unpacked between two checks of the size
_GROUPS = 4  # row groups that an open parquet reader holds


class Reader(Protocol):
  """Rows by number.

  Attributes:
    columns: the names of columns; those of the first row for JSON lines.
    folder: where relative paths in rows begin.
  """
  columns: tuple[str, ...]
  folder: pathlib.Path

  def __len__(self) -> int:
    """The number of rows."""

  def __getitem__(self, index: int) -> dict[str, Any]:
    """The row of a number."""

  def file(self, index: int) -> str:
    """The file in which a row lies."""

  def where(self, index: int) -> str:
    """The file and the row, for errors."""


class JsonLines:
  """The rows of *.jsonl; an empty line is no row.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: for a packed file or a line beyond the bound; a line that is no
      JSON object raises it when it is read. The message names file and line.
  """

  def __init__(self, path: places.Place, leave_out: Sequence[str] = (),
               most: int = MOST_BYTES):
    del leave_out  # a line is read whole
    self.files = places.files(path, '.jsonl')
    self.folder = places.folder(self.files, path)
    starts: list[int] = []
    owners: list[int] = []
    lines: list[int] = []
    for i, file in enumerate(self.files):
      at, number = 0, 0
      with open(file, 'rb') as f:
        if form := places.packed(f.peek(4)):
          raise ValueError(f'{file}: {form}, not lines of JSON; unpack it')
        while line := f.readline(most + 1):
          number += 1
          if len(line) > most:
            raise places.too_many(f'{file}, line {number}', len(line), most)
          if line.strip():
            starts.append(at)
            owners.append(i)
            lines.append(number)
          at += len(line)
    self._starts, self._owners, self._lines = (
        np.array(x, np.int64) for x in (starts, owners, lines))
    self.columns = tuple(self[0]) if starts else ()

  def __len__(self) -> int:
    return len(self._starts)

  def file(self, index: int) -> str:
    return str(self.files[self._owners[index]])

  def where(self, index: int) -> str:
    return f'{self.file(index)}, line {self._lines[index]}'

  def __getitem__(self, index: int) -> dict[str, Any]:
    with open(self.files[self._owners[index]], 'rb') as f:
      f.seek(self._starts[index])
      line = f.readline()
    try:
      row = json.loads(line, object_pairs_hook=places.once_each)
    except ValueError as e:
      raise ValueError(f'{self.where(index)}: no JSON: {e}') from None
    except RecursionError:
      raise ValueError(f'{self.where(index)}: JSON that is nested too deeply'
                       ) from None
    if not isinstance(row, dict):
      raise ValueError(f'{self.where(index)}: {type(row).__name__}, not an '
                       'object')
    return row


class Parquet:
  """The rows of *.parquet.

  Files may differ in their columns: `columns` has those of all, and a row has
  those of its own file.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: for a file that cannot be read, or one with two columns of a
      name; a row group beyond the bound raises it when it is read.
  """

  def __init__(self, path: places.Place, leave_out: Sequence[str] = (),
               most: int = MOST_BYTES):
    self.files = places.files(path, '.parquet')
    self.folder = places.folder(self.files, path)
    self._most = most
    self._open = [_opened(file) for file in self.files]
    names = [_columns(*of) for of in zip(self.files, self._open, strict=True)]
    self.columns = places.union(names)
    self._read = [[c for c in of if c not in leave_out] for of in names]
    sizes: list[int] = []
    self._groups: list[tuple[int, int, int]] = []
    for i, opened in enumerate(self._open):
      before = 0
      for group in range(opened.metadata.num_row_groups):
        rows = opened.metadata.row_group(group).num_rows
        self._groups.append((i, group, before))
        before += rows
        sizes.append(rows)
    self._ends = np.cumsum(sizes, dtype=np.int64)
    self._tables: collections.OrderedDict[int, Any] = collections.OrderedDict()

  def __len__(self) -> int:
    return int(self._ends[-1]) if len(self._ends) else 0

  def _at(self, index: int) -> tuple[int, int]:
    """(number of the row group, number of the row in it)."""
    at = int(np.searchsorted(self._ends, index, 'right'))
    return at, index - (int(self._ends[at - 1]) if at else 0)

  def file(self, index: int) -> str:
    return str(self.files[self._groups[self._at(index)[0]][0]])

  def where(self, index: int) -> str:
    at, row = self._at(index)
    file, _, before = self._groups[at]
    return f'{self.files[file]}, row {before + row}'

  def _unpacked(self, at: int) -> Any:
    """A row group as a pyarrow.Table.

    The footer of an honest file tells the size before anything is unpacked. The
    batches bound the size of repeated values of a dictionary as well.
    """
    import pyarrow as pa
    file, group, before = self._groups[at]
    of, read = self._open[file], self._read[file]
    rows = of.metadata.row_group(group)
    where = (f'{self.files[file]}, rows {before} to '
             f'{before + rows.num_rows - 1} (a row group)')
    columns = [rows.column(i) for i in range(rows.num_columns)]
    size = sum(c.total_uncompressed_size for c in columns
               if c.path_in_schema in read
               or c.path_in_schema.split('.')[0] in read)
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
    at, row = self._at(index)
    if at not in self._tables:
      self._tables[at] = self._unpacked(at)
      while len(self._tables) > _GROUPS:
        self._tables.popitem(last=False)
    self._tables.move_to_end(at)
    table = self._tables[at].slice(row, 1)
    try:
      return {name: narrow(column.to_pylist()[0], column.type)
              for name, column in zip(table.column_names, table.columns,
                                      strict=True)}
    # A date may be beyond Python's range, and nesting beyond its stack.
    except (ValueError, OverflowError, RecursionError) as e:
      raise ValueError(f'{self.where(index)}: cannot be read: {e}') from None


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


READERS: dict[str, Callable[..., Reader]] = {
    'jsonl': JsonLines, 'parquet': Parquet, 'arrow': Arrow, 'json': JsonArray,
    'csv': Csv, 'hf': Saved, 'tfds': Tfds}


def open_reader(form: str, path: places.Place,
                leave_out: Sequence[str] = (),
                most: int = MOST_BYTES) -> Reader:
  """A reader of READERS; KeyError names the known ones.

  Args:
    form: its name.
    path: in the form that the reader takes.
    leave_out: columns that need not be read.
    most: the most bytes to which a line, a row group or a record may unpack.
  """
  return allowed.known('format', form, READERS)(path, leave_out, most)
