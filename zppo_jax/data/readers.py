"""READERS: files on disk as rows in any order, none kept in memory.

A reader is a sequence of rows (dicts by column) that knows where each lies.
Rows are read when they are asked for; opening looks at sizes and names only.

  jsonl    *.jsonl, one JSON object a line; an index of offsets is made
  parquet  *.parquet; a row costs its row group, of which a few are kept, so
           files with images are best written in groups of 100 rows or fewer;
           columns can be left out
  tfds     a prepared builder's folder, array_record; no TensorFlow
"""

import collections
import glob
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from zppo_jax.data import tfds_features

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


class JsonLines:
  """Rows of *.jsonl; empty lines are none.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: on reading a line that is no JSON object, naming it.
  """

  def __init__(self, path, leave_out: Sequence[str] = ()):
    del leave_out  # a line is read whole
    self.files = _files(path, '.jsonl')
    self.folder = _folder(self.files, path)
    starts, owners, lines = [], [], []
    for i, file in enumerate(self.files):
      at = 0
      with open(file, 'rb') as f:
        for number, line in enumerate(f, 1):
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

  def where(self, index: int) -> str:
    return f'{self.files[self._owners[index]]}, line {self._lines[index]}'

  def __getitem__(self, index: int) -> dict[str, Any]:
    with open(self.files[self._owners[index]], 'rb') as f:
      f.seek(self._starts[index])
      line = f.readline()
    try:
      row = json.loads(line)
    except ValueError as e:
      raise ValueError(f'{self.where(index)}: no JSON: {e}') from None
    if not isinstance(row, dict):
      raise ValueError(f'{self.where(index)}: {type(row).__name__}, not an '
                       'object')
    return row


class Parquet:
  """Rows of *.parquet; all files must have the same columns.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: for files with different columns.
  """

  def __init__(self, path, leave_out: Sequence[str] = ()):
    from pyarrow import parquet
    self.files = _files(path, '.parquet')
    self.folder = _folder(self.files, path)
    self._open = [parquet.ParquetFile(file, memory_map=True)
                  for file in self.files]
    self.columns = tuple(self._open[0].schema_arrow.names)
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

  def where(self, index: int) -> str:
    at, row = self._at(index)
    file, _, before = self._groups[at]
    return f'{self.files[file]}, row {before + row}'

  def __getitem__(self, index: int) -> dict[str, Any]:
    at, row = self._at(index)
    if at not in self._kept:
      file, group, _ = self._groups[at]
      self._kept[at] = self._open[file].read_row_group(
          group, self._read)
      while len(self._kept) > _GROUPS:
        self._kept.popitem(last=False)
    self._kept.move_to_end(at)
    return self._kept[at].slice(row, 1).to_pylist()[0]


class Tfds:
  """Rows of a split of a prepared TFDS builder; images stay encoded.

  Args:
    path: `FOLDER/NAME/CONFIG/VERSION`, with `:SPLIT` behind it.

  Raises:
    FileNotFoundError: if no builder was prepared there.
    KeyError: for an unknown split, with the known ones.
    ValueError: if the path names no split, or a feature is of a class that is
      not TFDS's own.
  """

  def __init__(self, path, leave_out: Sequence[str] = ()):
    del leave_out  # a record is read whole
    import tensorflow_datasets as tfds
    folder, colon, split = str(path).rpartition(':')
    if not colon:
      raise ValueError(f'path is {path!r}; of a TFDS builder it is '
                       'FOLDER:SPLIT')
    self.folder = pathlib.Path(folder).expanduser()
    if not (self.folder / 'dataset_info.json').is_file():
      raise FileNotFoundError(f'no dataset_info.json in {self.folder}: no '
                              'prepared TFDS builder')
    tfds_features.check(self.folder)
    builder = tfds.builder_from_directory(self.folder)
    if split not in builder.info.splits:
      raise KeyError(f'unknown split {split!r} of {self.folder}; known: '
                     f'{", ".join(builder.info.splits)}')
    encoded = {name: tfds.decode.SkipDecoding()
               for name, feature in builder.info.features.items()
               if isinstance(feature, tfds.features.Image)}
    self.columns = tuple(builder.info.features)
    self.split = split
    self._rows = builder.as_data_source(split, decoders=encoded or None)

  def __len__(self) -> int:
    return len(self._rows)

  def where(self, index: int) -> str:
    return f'{self.folder}:{self.split}, row {index}'

  def __getitem__(self, index: int) -> dict[str, Any]:
    return {name: _plain(value)
            for name, value in self._rows[index].items()}


def _plain(value):
  """numpy scalars and texts as Python's; bytes that are no text stay."""
  if isinstance(value, bytes):
    try:
      return value.decode()
    except UnicodeDecodeError:
      return value
  if isinstance(value, np.ndarray) and value.dtype == object:
    return [_plain(x) for x in value.tolist()]
  if isinstance(value, np.generic):
    return value.item()
  if isinstance(value, dict):
    return {name: _plain(x) for name, x in value.items()}
  return value


READERS: dict[str, Callable[..., Reader]] = {
    'jsonl': JsonLines, 'parquet': Parquet, 'tfds': Tfds}


def open_reader(form: str, path, leave_out: Sequence[str] = ()) -> Reader:
  """A reader of READERS; KeyError names the known ones.

  Args:
    form: its name.
    path: as the reader takes it.
    leave_out: columns that need not be read.
  """
  if form not in READERS:
    raise KeyError(f'unknown format {form!r}; known: {", ".join(READERS)}')
  return READERS[form](path, leave_out)
