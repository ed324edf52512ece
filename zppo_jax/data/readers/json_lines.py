"""JSON lines (.jsonl): one object on each line."""

from collections.abc import Sequence
from typing import Any

from zppo_jax.data.readers import files as places, numbered


class JsonLines(numbered.Spans):
  """The rows of *.jsonl; an empty line is no row.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: for a packed file or a line beyond the bound; a line that is no
      JSON object raises it when it is read. The message names file and line.
  """

  def __init__(self, path: places.Place, leave_out: Sequence[str] = (),
               most: int = places.MOST_BYTES):
    del leave_out  # a line is read whole
    files = places.files(path, '.jsonl')
    self.folder = places.folder(files, path)
    spans: list[tuple[int, int, int, int]] = []
    for i, file in enumerate(files):
      at, number = 0, 0
      with open(file, 'rb') as f:
        if form := places.packed(f.peek(4)):
          raise ValueError(f'{file}: {form}, not lines of JSON; unpack it')
        while line := f.readline(most + 1):
          number += 1
          if len(line) > most:
            raise places.too_many(f'{file}, line {number}', len(line), most)
          if line.strip():
            spans.append((i, number, at, at + len(line)))
          at += len(line)
    super().__init__(files, spans, 'line')
    self.columns = tuple(self[0]) if spans else ()

  def __getitem__(self, index: int) -> dict[str, Any]:
    row = places.parsed(self.data(index), self.where(index))
    if not isinstance(row, dict):
      raise ValueError(f'{self.where(index)}: {type(row).__name__}, not an '
                       'object')
    return row
