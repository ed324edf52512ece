"""READERS: files on disk as rows in any order, none kept in memory.

A reader is a sequence of rows (dicts by column) that knows where each lies.
Rows are read when they are asked for; opening looks at sizes and names only.

  jsonl    *.jsonl, one JSON object a line; an index of offsets is made
  parquet  *.parquet; a row costs its row group, of which a few are kept, so
           files with images are best written in groups of 100 rows or fewer;
           columns can be left out
  tfds     a prepared builder's folder, array_record (tfds_reader.py)

What is read is bounded: a line of JSON, a parquet file's row group and a TFDS
record may hold at most `most` bytes unpacked, because a few kilobytes of zstd
or of repeated values can stand for gigabytes.
"""

import collections
import glob
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from zppo_jax import allowed
from zppo_jax.data import values
from zppo_jax.data.readers.tfds_reader import Tfds

MOST_BYTES = 2**30  # unpacked: of a line, a row group, a record
_PACKED = {b'\x1f\x8b': 'gzip', b'\x28\xb5\x2f\xfd': 'zstd',
           b'BZh': 'bzip2', b'PK\x03\x04': 'zip', b'PAR1': 'parquet'}
_BATCH = 256  # rows of a row group that are unpacked between two looks
_GROUPS = 4  # row groups kept by an open parquet reader


class Reader(Protocol):
  """Rows by number.

  Attributes:
    columns: names; of JSON lines, those of the first row.
    folder: what relative paths in rows are relative to.
  """
  columns: tuple[str, ...]
  folder: pathlib.Path

  def __len__(self) -> int:
    """Rows."""

  def __getitem__(self, index: int) -> dict[str, Any]:
    """A row."""

  def file(self, index: int) -> str:
    """The file that a row lies in."""

  def where(self, index: int) -> str:
    """File and row, for errors."""


def _files(path, suffix: str) -> list[pathlib.Path]:
  """A file, a folder's files, or a glob's, in the order of their names."""
  path = pathlib.Path(path).expanduser()
  if path.is_file():
    return [path]
  if path.is_dir():
    found = sorted(path.rglob(f'*{suffix}'))
  else:
    found = sorted(pathlib.Path(p) for p in glob.glob(
        str(path), recursive=True) if pathlib.Path(p).is_file())
  if not found:
    raise FileNotFoundError(f'no {suffix} file at {path}')
  return found


def _folder(files: Sequence[pathlib.Path], path) -> pathlib.Path:
  path = pathlib.Path(path).expanduser()
  return path if path.is_dir() else files[0].parent


def _too_many(where: str, count: int, most: int) -> ValueError:
  return ValueError(f'{where}: {count} bytes unpacked; data.pool.max_bytes '
                    f'allows {most}')


class JsonLines:
  """Rows of *.jsonl; empty lines are none.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: for a file that is packed, a line beyond the bound, and on
      reading a line that is no JSON object, naming it.
  """

  def __init__(self, path, leave_out: Sequence[str] = (),
               most: int = MOST_BYTES):
    del leave_out  # a line is read whole
    self.files = _files(path, '.jsonl')
    self.folder = _folder(self.files, path)
    starts, owners, lines = [], [], []
    for i, file in enumerate(self.files):
      at, number = 0, 0
      with open(file, 'rb') as f:
        form = next((name for mark, name in _PACKED.items()
                     if f.peek(4).startswith(mark)), '')
        if form:
          raise ValueError(f'{file}: {form}, not lines of JSON; unpack it')
        while line := f.readline(most + 1):
          number += 1
          if len(line) > most:
            raise _too_many(f'{file}, line {number}', len(line), most)
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
      row = json.loads(line)
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
  """Rows of *.parquet; all files must have the same columns.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: for a file that cannot be read, naming it, files with different
      columns, and on reading a row group beyond the bound.
  """

  def __init__(self, path, leave_out: Sequence[str] = (),
               most: int = MOST_BYTES):
    self.files = _files(path, '.parquet')
    self.folder = _folder(self.files, path)
    self._most = most
    self._open = [_opened(file) for file in self.files]
    self.columns = tuple(self._open[0].schema_arrow.names)
    twice = [c for c, n in collections.Counter(self.columns).items() if n > 1]
    if twice:  # a row could hold only one of them
      raise ValueError(f'{self.files[0]} has more than one column '
                       f'{", ".join(map(repr, twice))}')
    self._read = [c for c in self.columns if c not in leave_out]
    ends, self._groups = [], []
    for i, (file, found) in enumerate(zip(self.files, self._open,
                                          strict=True)):
      if tuple(found.schema_arrow.names) != self.columns:
        raise ValueError(f'{file} has columns {found.schema_arrow.names}; '
                         f'{self.files[0]} has {list(self.columns)}')
      before = 0
      for group in range(found.metadata.num_row_groups):
        rows = found.metadata.row_group(group).num_rows
        self._groups.append((i, group, before))
        before += rows
        ends.append(rows)
    self._ends = np.cumsum(ends, dtype=np.int64)
    self._kept = collections.OrderedDict()

  def __len__(self) -> int:
    return int(self._ends[-1]) if len(self._ends) else 0

  def _at(self, index: int) -> tuple[int, int]:
    """(row group of all, row in it)."""
    at = int(np.searchsorted(self._ends, index, 'right'))
    return at, index - (int(self._ends[at - 1]) if at else 0)

  def file(self, index: int) -> str:
    return str(self.files[self._groups[self._at(index)[0]][0]])

  def where(self, index: int) -> str:
    at, row = self._at(index)
    file, _, before = self._groups[at]
    return f'{self.files[file]}, row {before + row}'

  def _unpacked(self, at: int):
    """A row group as a table.

    The footer tells the size of honest files before anything is unpacked; the
    batches also bound what repeated values of a dictionary grow to.
    """
    import pyarrow as pa
    file, group, before = self._groups[at]
    of = self._open[file]
    rows = of.metadata.row_group(group)
    where = (f'{self.files[file]}, rows {before} to '
             f'{before + rows.num_rows - 1} (a row group)')
    columns = [rows.column(i) for i in range(rows.num_columns)]
    told = sum(c.total_uncompressed_size for c in columns
               if c.path_in_schema in self._read
               or c.path_in_schema.split('.')[0] in self._read)
    if told > self._most:
      raise _too_many(where, told, self._most)
    held, batches = 0, []
    try:
      for batch in of.iter_batches(_BATCH, [group], self._read):
        held += batch.nbytes
        if held > self._most:
          raise _too_many(where, held, self._most)
        batches.append(batch)
      # Text that is no UTF-8 and broken offsets show here, not as a crash.
      table = pa.Table.from_batches(batches, batches[0].schema)
      table.validate(full=True)
      # A row of many small chunks is found slowly.
      table = table.combine_chunks()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as e:
      raise ValueError(f'{where}: cannot be read: {e}') from None
    return table

  def __getitem__(self, index: int) -> dict[str, Any]:
    at, row = self._at(index)
    if at not in self._kept:
      self._kept[at] = self._unpacked(at)
      while len(self._kept) > _GROUPS:
        self._kept.popitem(last=False)
    self._kept.move_to_end(at)
    table = self._kept[at].slice(row, 1)
    try:
      return {name: _narrow(column.to_pylist()[0], column.type)
              for name, column in zip(table.column_names, table.columns,
                                      strict=True)}
    # Dates beyond Python's, nesting beyond its stack.
    except (ValueError, OverflowError, RecursionError) as e:
      raise ValueError(f'{self.where(index)}: cannot be read: {e}') from None


def _opened(file: pathlib.Path):
  """An open file; ValueError names one that is no parquet."""
  import pyarrow as pa
  from pyarrow import parquet
  try:
    return parquet.ParquetFile(file, memory_map=True)
  except (pa.ArrowException, OSError) as e:
    raise ValueError(f'{file}: no parquet file that can be read: {e}'
                     ) from None


def _narrow(value, kind):
  """A value whose numbers of 32 bits or fewer are values.Single.

  Args:
    value: as Arrow gives it to Python.
    kind: its Arrow type.
  """
  from pyarrow import types
  if value is None:
    return None
  if types.is_float32(kind):
    return values.single(value)
  if types.is_float16(kind):
    return values.single(value, np.float16)
  if types.is_struct(kind):
    return {field.name: _narrow(value[field.name], field.type)
            for field in kind}
  if (types.is_list(kind) or types.is_large_list(kind)
      or types.is_fixed_size_list(kind)):
    return [_narrow(v, kind.value_type) for v in value]
  return value


READERS: dict[str, Callable[..., Reader]] = {
    'jsonl': JsonLines, 'parquet': Parquet, 'tfds': Tfds}


def open_reader(form: str, path, leave_out: Sequence[str] = (),
                most: int = MOST_BYTES) -> Reader:
  """A reader of READERS; KeyError names the known ones.

  Args:
    form: its name.
    path: as the reader takes it.
    leave_out: columns that need not be read.
    most: bytes that a line, a row group or a record may unpack to.
  """
  return allowed.known('format', form, READERS)(path, leave_out, most)
