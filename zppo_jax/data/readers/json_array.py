"""JSON files that hold one array of objects: `[{...}, {...}]`.

The reader scans a file once for where each object begins and ends, and keeps
these places. It parses an object when its row is asked for.
"""

import mmap
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from zppo_jax.data.readers import files as places, numbered

# Whole strings, so that brackets in them do not count; no backtracking.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]"]', re.DOTALL)
_BETWEEN = b' \t\r\n,'


def _objects(data: mmap.mmap, file: pathlib.Path) -> Iterator[tuple[int, int]]:
  """Yields (start, end) of each element of the array in a file.

  Raises:
    ValueError: for a file that holds no array of objects, or one that ends in
      the middle.
  """
  depth, start, end, ended = 0, 0, 0, False
  for token in _TOKEN.finditer(data):
    mark = token.group()
    if depth == 0 and (mark != b'[' or ended):
      raise ValueError(f'{file}: no JSON array of objects; JSON lines end in '
                       '.jsonl')
    if mark in (b'{', b'['):
      start = token.start() if depth < 2 else start
      if depth == 1 and (mark == b'[' or data[end:start].strip(_BETWEEN)):
        raise ValueError(f'{file}: its array holds other things than objects')
      end = token.end() if depth == 0 else end
      depth += 1
    elif mark in (b'}', b']'):
      depth -= 1
      if depth == 1:
        end = token.end()
        yield start, end
      elif depth == 0 and data[end:token.start()].strip(_BETWEEN):
        raise ValueError(f'{file}: its array holds other things than objects')
      ended = depth == 0
    elif mark == b'"' or depth == 1:  # an open string; a text as an element
      raise ValueError(
          f'{file}: byte {token.start()} begins '
          + ('a string without an end' if mark == b'"'
             else 'a text where an object belongs'))
  if not ended:
    raise ValueError(f'{file}: no whole JSON array')


class JsonArray(numbered.Spans):
  """The rows of *.json; each file is an array of objects.

  Args:
    path: a file, a folder, a glob, or several files.
    leave_out: has no effect, because an object is read whole.
    most: the most bytes of an object.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: for a packed file, one that holds no array of objects, or an
      object beyond the bound; an object that is no JSON raises it when it is
      read. The message names file and row.
  """

  def __init__(self, path: places.Place, leave_out: Sequence[str] = (),
               most: int = places.MOST_BYTES):
    del leave_out
    files = places.files(path, '.json')
    self.folder = places.folder(files, path)
    spans: list[tuple[int, int, int, int]] = []
    for i, file in enumerate(files):
      if not file.stat().st_size:
        raise ValueError(f'{file}: is empty')
      with open(file, 'rb') as f, mmap.mmap(
          f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if form := places.packed(data[:4]):
          raise ValueError(f'{file}: {form}, not JSON; unpack it')
        for number, (start, end) in enumerate(_objects(data, file)):
          if end - start > most:
            raise places.too_many(f'{file}, row {number}', end - start, most)
          spans.append((i, number, start, end))
    super().__init__(files, spans)
    self.columns = places.union([tuple(self[i]) for i in self.first_rows()])

  def __getitem__(self, index: int) -> dict[str, Any]:
    row: dict[str, Any] = places.parsed(self.data(index), self.where(index))
    return row
