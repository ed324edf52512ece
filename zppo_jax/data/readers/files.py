"""Files of a path, and what all readers check of them."""

import collections
import glob
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, TypeAlias

from zppo_jax import allowed

PACKED = {b'\x1f\x8b': 'gzip', b'\x28\xb5\x2f\xfd': 'zstd',
          b'BZh': 'bzip2', b'PK\x03\x04': 'zip', b'PAR1': 'parquet'}
MOST_BYTES = 2**30  # of a line, a row group or a record, unpacked
MOST_NESTED = 500  # lists and objects of a row's JSON in each other
# A file, a folder or a glob; or several files.
Place: TypeAlias = str | os.PathLike | Sequence[pathlib.Path]


def files(place: Place, suffix: str) -> list[pathlib.Path]:
  """One file, or the files of a folder or a glob, in the order of names.

  Several files stay in their own order.

  Raises:
    FileNotFoundError: if there is none.
  """
  if isinstance(place, Sequence) and not isinstance(place, str):
    matches = [pathlib.Path(p) for p in place]
    if not matches:
      raise FileNotFoundError(f'no {suffix} file is named')
    return matches
  path = pathlib.Path(place).expanduser()
  if path.is_file():
    return [path]
  if path.is_dir():
    matches = sorted(path.rglob(f'*{suffix}'))
  else:
    matches = sorted(pathlib.Path(p) for p in glob.glob(
        str(path), recursive=True) if pathlib.Path(p).is_file())
  if not matches:
    raise FileNotFoundError(f'no {suffix} file at {path}'
                            f'{allowed.looked_from(path)}')
  return matches


def folder(of: Sequence[pathlib.Path], place: Place) -> pathlib.Path:
  """The folder where relative paths in the rows of files begin."""
  if isinstance(place, str | os.PathLike):
    path = pathlib.Path(place).expanduser()
    if path.is_dir():
      return path
  return of[0].parent


def too_many(where: str, count: int, most: int) -> ValueError:
  return ValueError(f'{where}: {count} bytes unpacked; data.pool.max_bytes '
                    f'allows {most}')


def packed(start: bytes) -> str:
  """The form of a file that starts like a packed one; '' for another."""
  return next((name for mark, name in PACKED.items()
               if start.startswith(mark)), '')


def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """A JSON object; ValueError for a name that stands in it twice, because
  readers do not agree on which of the two counts (RFC 8259, section 4)."""
  row = dict(pairs)
  if len(row) < len(pairs):
    counts = collections.Counter(name for name, _ in pairs)
    name = next(name for name, count in counts.items() if count > 1)
    raise ValueError(f'an object has the name {name[:80]!r} more than once')
  return row


def parsed(words: bytes, where: str) -> Any:
  """The value of a row's JSON; ValueError names the row that is no JSON, or
  whose lists and objects lie more than MOST_NESTED deep."""
  try:
    value = json.loads(words, object_pairs_hook=once_each)
    nested = words.count(b'[') + words.count(b'{') > MOST_NESTED and (
        _depth(value) > MOST_NESTED)
  except ValueError as e:
    raise ValueError(f'{where}: no JSON: {e}') from None
  except RecursionError:  # how deep json reads depends on the Python
    nested = True
  if nested:
    raise ValueError(f'{where}: JSON that is nested too deeply: lists and '
                     f'objects may lie {MOST_NESTED} deep')
  return value


def _depth(value: Any) -> int:
  """How deep lists and objects of a JSON value lie in each other."""
  depth, level = 0, [value]
  while level := [of for of in level if isinstance(of, dict | list)]:
    depth += 1
    level = [of for outer in level for of in (
        outer.values() if isinstance(outer, dict) else outer)]
  return depth


def union(columns: Sequence[Sequence[str]]) -> tuple[str, ...]:
  """The columns of several files, in the order in which they appear."""
  return tuple(dict.fromkeys(c for of in columns for c in of))
