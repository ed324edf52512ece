"""Files in the forms of public data sets, with invented rows.

A set is a dict: path inside its folder -> `File`.
"""

import csv
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from PIL import Image
from pyarrow import parquet as pq

IMAGE = pa.struct([('bytes', pa.binary()), ('path', pa.string())])
TEXTS = pa.list_(pa.string())


class File(NamedTuple):
  """A file: its rows, or its words, or the shade of a picture.

  Attributes:
    rows: of parquet, Arrow, CSV, JSON lines or a JSON array, by the suffix.
    types: Arrow types of columns; the others are inferred.
    words: of any other text file.
    shade: of a PNG.
  """
  rows: Sequence[Mapping[str, Any]] = ()
  types: Mapping[str, pa.DataType] = {}
  words: str = ''
  shade: int | None = None


def png(shade: int, size: tuple[int, int] = (64, 48)) -> bytes:
  """A picture of one grey with a corner, so that no two are alike."""
  image = Image.new('RGB', size, (shade % 256, 128, 255 - shade % 256))
  image.paste((0, 0, 0), (0, 0, 1 + shade % 20, 2 + shade % 7))
  out = io.BytesIO()
  image.save(out, 'PNG')
  return out.getvalue()


def image(shade: int) -> dict[str, Any]:
  """A picture as the hub embeds it."""
  return {'bytes': png(shade), 'path': f'{shade}.png'}


def table(rows: Sequence[Mapping[str, Any]],
          types: Mapping[str, pa.DataType]) -> pa.Table:
  names = dict.fromkeys(name for row in rows for name in row)
  return pa.table({name: pa.array([row.get(name) for row in rows],
                                  types.get(name)) for name in names})


def write_file(path: pathlib.Path, of: File) -> None:
  """A file in the form that its suffix names."""
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == '.png':
    path.write_bytes(png(of.shade or 0))
  elif of.words:
    path.write_text(of.words)
  elif path.suffix == '.parquet':
    pq.write_table(table(of.rows, of.types), path, row_group_size=100)
  elif path.suffix == '.arrow':
    rows = table(of.rows, of.types)
    with pa.OSFile(str(path), 'wb') as sink, pa.ipc.new_stream(
        sink, rows.schema) as writer:
      writer.write_table(rows)
  elif path.suffix == '.csv':
    out = io.StringIO(newline='')
    writer = csv.DictWriter(out, list(of.rows[0]))
    writer.writeheader()
    writer.writerows(of.rows)
    path.write_bytes(out.getvalue().encode())
  elif path.suffix == '.jsonl':
    path.write_text(''.join(json.dumps(row) + '\n' for row in of.rows))
  else:
    assert path.suffix == '.json'
    path.write_text(json.dumps(list(of.rows), indent=1))


def frames(folder: str, count: int, shade: int) -> dict[str, File]:
  """The frames of a video."""
  return {f'frames/{folder}/{i}.png': File(shade=shade + 9 * i)
          for i in range(count)}


def shared(rows: int, configs: int) -> int:
  """The rows of each config, so that all together have at least `rows`."""
  return max(1, -(-rows // configs))
