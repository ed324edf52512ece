"""The columns of rows: what type of values each holds, and an example."""

import base64
import collections
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from zppo_jax.data import media

_SHOWN = 60  # characters of an example
_FIELDS = 6  # fields of a struct that are named
_STARTS = {b'\x89PNG': 'PNG', b'\xff\xd8\xff': 'JPEG', b'GIF8': 'GIF',
           b'BM': 'BMP'}
NULL = 'null'


@dataclasses.dataclass(frozen=True)
class Column:
  """A column of the rows that were looked at.

  Attributes:
    name: its name.
    types: type -> the number of rows with a value of that type.
    example: the first value that is not null, shortened.
    image: whether a value is an image, or a list of images.
  """
  name: str
  types: dict[str, int]
  example: str
  image: bool


def _format(data: bytes) -> str:
  """The format of image bytes; '' for others."""
  if data[:4] == b'RIFF' and data[8:12] == b'WEBP':
    return 'WEBP'
  return next((name for start, name in _STARTS.items()
               if data.startswith(start)), '')


def image_form(value: Any) -> str:
  """The form of an image in a row, such as 'PNG {bytes, path}'; else ''."""
  if isinstance(value, dict) and set(value) == {'bytes', 'path'}:
    held = value['bytes']
    if isinstance(held, bytes):
      return f'image {_format(held) or "?"} {{bytes, path}}'
    return 'image path {bytes, path}' if value['path'] else ''
  if isinstance(value, bytes):
    return f'image {_format(value)} bytes' if _format(value) else ''
  if not isinstance(value, str) or not value:
    return ''
  if value[:11].lower() == 'data:image/':
    return 'image data: URI'
  if value.startswith(media.BASE64) and len(value) >= media.SHORTEST:
    try:
      start = base64.b64decode(value[:64])
    except ValueError:
      return ''
    return 'image base64' if _format(start) else ''
  short = len(value) < 500 and '\n' not in value
  if short and pathlib.PurePath(value).suffix.lower() in media.SUFFIXES:
    return 'image path'
  return ''


def type_of(value: Any, depth: int = 0) -> str:
  """The type of a value in words: text, whole number, list of text, {a, b}."""
  if value is None:
    return NULL
  image = image_form(value)
  if image:
    return image
  if isinstance(value, bool):
    return 'true/false'
  if isinstance(value, int | np.integer):
    return 'whole number'
  if isinstance(value, float | np.floating):
    return 'number'
  if isinstance(value, str):
    return 'text'
  if isinstance(value, bytes):
    return 'bytes'
  if isinstance(value, np.ndarray):
    return f'array {value.dtype} of {value.ndim} axes'
  if isinstance(value, dict):
    if depth > 1:
      return 'struct'
    names = [f'{k}: {type_of(v, depth + 1)}' for k, v in value.items()]
    more = ', ...' if len(names) > _FIELDS else ''
    return f'{{{", ".join(names[:_FIELDS])}{more}}}'
  if isinstance(value, list | tuple):
    inner = list(dict.fromkeys(type_of(v, depth + 1) for v in value[:20]))
    return f'list of {" or ".join(inner[:3])}' if inner else 'empty list'
  return type(value).__name__


def shown(value: Any) -> str:
  """A value in at most a line; bytes as their number."""
  if isinstance(value, bytes):
    return f'{len(value)} bytes'
  if isinstance(value, dict):
    return f'{{{", ".join(f"{k}: {shown(v)}" for k, v in value.items())}}}'[
        :_SHOWN]
  if isinstance(value, list | tuple):
    return f'[{", ".join(map(shown, value[:8]))}]'[:_SHOWN]
  if isinstance(value, np.ndarray):
    return f'array {value.shape}'
  words = ' '.join(str(value).split())
  return words if len(words) <= _SHOWN else f'{words[:_SHOWN - 3]}...'


def columns_of(rows: Iterable[Mapping[str, Any]]) -> tuple[Column, ...]:
  """The columns of some rows, in the order in which they appear."""
  types: dict[str, collections.Counter] = {}
  examples: dict[str, str] = {}
  images: set[str] = set()
  for row in rows:
    for name, value in row.items():
      kind = type_of(value)
      types.setdefault(name, collections.Counter())[kind] += 1
      if kind.removeprefix('list of ').startswith('image '):
        images.add(name)
      if value is not None and name not in examples:
        examples[name] = shown(value)
  return tuple(Column(name, dict(of.most_common()), examples.get(name, ''),
                      name in images) for name, of in types.items())


def images_in(columns: Sequence[Column]) -> list[str]:
  """The names of the columns that hold images."""
  return [c.name for c in columns if c.image]
