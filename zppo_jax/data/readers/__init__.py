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

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from zppo_jax import allowed
from zppo_jax.data.readers import files as places
from zppo_jax.data.readers.arrow_rows import Arrow
from zppo_jax.data.readers.csv_rows import Csv
from zppo_jax.data.readers.files import MOST_BYTES
from zppo_jax.data.readers.json_array import JsonArray
from zppo_jax.data.readers.json_lines import JsonLines
from zppo_jax.data.readers.parquet_rows import Parquet
from zppo_jax.data.readers.saved import Saved
from zppo_jax.data.readers.tfds_reader import Tfds

__all__ = ['MOST_BYTES', 'READERS', 'Counting', 'Reader', 'open_reader']


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


@runtime_checkable
class Counting(Reader, Protocol):
  """A reader that tells what a row holds without reading it."""

  def held(self, index: int, columns: Sequence[str]) -> int:
    """How many values some columns hold in a row, as values.held counts."""


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
