"""The images and videos of a row as pictures and clips.

An image is a path (relative paths begin in the folder of the data), bytes,
base64 (plain or a data: URI), a struct {'bytes', 'path'} as in data sets of the
hub, or an array. A video is a folder of frames, a list of images, or a struct
{'frames', 'fps'}, where 'start' and 'end' in seconds cut a segment out of a
folder. A file `fps.txt` in a folder of frames states its frames per second.
This file does not decode video files: it reads frames from a folder that has
the name of the file without its suffix.

Paths must stay in the folder of the data or in one of `roots`, even through
links, because other people write the rows. Headers are read at once, so that
the error about an image that is not of pictures.FORMATS can name its row.

If a folder `store` is given, bytes are written to it. A question then holds
paths, so that a long replay buffer holds no pixels.
"""

import base64
import functools
import hashlib
import os
import pathlib
import re
import secrets
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from zppo_jax import allowed
from zppo_jax.chat import pictures as encoded
from zppo_jax.data import values
from zppo_jax.records import Clip, Picture

SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.gif')
RATE = 'fps.txt'  # in a folder of frames: their number per second
_FILMS = ('.mp4', '.webm', '.mkv', '.avi', '.mov')
# The starts of PNG, JPEG, GIF, WEBP and BMP in base64.
BASE64 = ('iVBORw0KGgo', '/9j/', 'R0lGOD', 'UklGR', 'Qk0', 'Qk1', 'Qk2',
           'Qk3')
_LONGEST = 500  # characters of a path in an error
SHORTEST = 64  # characters of base64; most paths are shorter, no image is
_ADDRESS = re.compile(r'[a-zA-Z][a-zA-Z0-9+.-]+://')
_WHITE = re.compile(r'\s+')
_DIGITS = re.compile(r'([0-9]{1,18})')


def _held(data: bytes, store: pathlib.Path | None, where: str) -> Picture:
  image = Picture(base64=base64.b64encode(data).decode(), where=where)
  encoded.check(image)
  if store is None:
    return image
  name = hashlib.blake2b(data, digest_size=16).hexdigest()
  path = store / name[:2] / name
  if not path.is_file():
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may keep the same picture. A file of `tempfile` would be
    # its owner's alone.
    partial = path.with_name(f'{name}.{secrets.token_hex(8)}.partial')
    with open(partial, 'xb') as f:
      f.write(data)
    os.replace(partial, path)
  return Picture(path=str(path), where=where)


def inside(value: str, folder: pathlib.Path,
           roots: Sequence[str] = ()) -> pathlib.Path:
  """The file or folder that a row names, with links resolved.

  Args:
    value: the path in the row.
    folder: where relative paths begin, and where all paths must stay.
    roots: other folders in which a path may lie.

  Raises:
    ValueError: for an address, for a text that is no path, or for a path that
      leads outside.
  """
  if _ADDRESS.match(value):
    raise ValueError(f'{values.shown(value)} is an address; nothing is fetched '
                     'here, give a path or bytes')
  try:
    path = folder / pathlib.Path(value).expanduser()
    target = path.resolve()
    folders = [pathlib.Path(root).expanduser().resolve()
               for root in (str(folder), *roots)]
  except (OSError, ValueError, RuntimeError) as e:
    raise ValueError(f'{values.shown(value)} is no path: {e}') from None
  if not any(target.is_relative_to(root) for root in folders):
    raise ValueError(
        f'{values.shown(value)} leads to {target}, which is outside of '
        f'{", ".join(map(str, folders))}; data.pool.media_roots may name its '
        'folder')
  return target


def _is(path: pathlib.Path, what: str) -> bool:
  """Path.is_file or Path.is_dir; False where they raise for a long name."""
  try:
    return getattr(path, what)()
  except OSError:
    return False


def _base64(text: str) -> bytes:
  """The bytes of base64; ValueError for other letters."""
  try:
    return base64.b64decode(_WHITE.sub('', text), validate=True)
  except ValueError as e:
    raise ValueError(f'an image in base64 that cannot be read: {e}') from None


def _address_data(value: str) -> bytes:
  """The bytes of a data: URI."""
  head, comma, data = value.partition(',')
  if not comma:
    raise ValueError(f'a data: URI without a comma: {values.shown(value)}')
  if head.lower().endswith(';base64'):
    return _base64(urllib.parse.unquote(data))
  return urllib.parse.unquote_to_bytes(data)


def _of_array(value: np.ndarray) -> bytes:
  """The PNG of an array of 8 bits, or of 16 bits if it is grey."""
  pixels = value[..., 0] if value.ndim == 3 and value.shape[2] == 1 else value
  grey = pixels.ndim == 2
  if not value.size or not (
      pixels.dtype == np.uint8 and (grey or pixels.ndim == 3
                                    and pixels.shape[2] in (3, 4))
      or pixels.dtype == np.uint16 and grey):
    raise ValueError(f'an image that is an array of {value.dtype} '
                     f'{value.shape}; allowed: uint8 of one, three or four '
                     'channels, uint16 of one')
  return base64.b64decode(
      encoded.picture(Image.fromarray(np.ascontiguousarray(pixels))).base64)


def picture(value: Any, folder: pathlib.Path,
            store: pathlib.Path | None = None, *, roots: Sequence[str] = (),
            where: str = '') -> Picture:
  """The picture of an image in a row.

  Args:
    value: in one of the forms in the docstring of this module.
    folder: where relative paths begin.
    store: the folder for bytes; None keeps them in the picture.
    roots: as in `inside`.
    where: the row, for later errors about the picture.

  Raises:
    FileNotFoundError: for a path without a file.
    ValueError: for a value that is no image by its form or content, or for a
      path that leads outside.
  """
  if isinstance(value, Picture):
    return value
  if isinstance(value, dict):
    if not {'bytes', 'path'} & set(value):
      raise ValueError(f'an image with the fields {sorted(map(str, value))}; '
                       'allowed: bytes, path')
    data = value.get('bytes')
    return picture(data if data else value.get('path'), folder, store,
                   roots=roots, where=where)
  if isinstance(value, np.ndarray):
    return _held(_of_array(value), store, where)
  if isinstance(value, bytes | bytearray | memoryview):
    return _held(bytes(value), store, where)
  if not isinstance(value, str) or not value:
    raise ValueError(f'an image that is {values.shown(value)}; allowed: a '
                     'path, bytes, base64, {bytes, path}')
  if value[:5].lower() == 'data:':
    return _held(_address_data(value), store, where)
  if value.startswith(BASE64) and len(value) >= SHORTEST:
    return _held(_base64(value), store, where)
  path = inside(value, folder, roots)
  if not _is(path, 'is_file'):
    raise FileNotFoundError(f'no image at {str(path)[:_LONGEST]}')
  image = Picture(path=str(path), where=where)
  encoded.check(image)
  return image


def _several(value: Any) -> list[Any]:
  if value is None or isinstance(value, str | bytes) and not value:
    return []
  return list(value) if isinstance(value, list | tuple) else [value]


def count(value: Any) -> int:
  """The number of images that `pictures` would read."""
  return len(_several(value))


def pictures(value: Any, folder: pathlib.Path,
             store: pathlib.Path | None = None, *, roots: Sequence[str] = (),
             where: str = '') -> tuple[Picture, ...]:
  """The pictures of None, an image, or a list of images, as `picture`."""
  return tuple(picture(v, folder, store, roots=roots, where=where)
               for v in _several(value))


def clip(value: Any, folder: pathlib.Path, fps: float,
         store: pathlib.Path | None = None, *, roots: Sequence[str] = (),
         where: str = '') -> Clip:
  """The clip of a video in a row.

  Args:
    value: in one of the forms in the docstring of this module.
    folder: where relative paths begin.
    fps: frames per second, if the value does not give it.
    store, roots, where: as in `picture`.

  Raises:
    FileNotFoundError: for a folder that does not exist or holds no frames.
    ValueError: for a video file, for a value that is no video by its form, for
      a bad fps, or for a frame as `picture`.
  """
  read = functools.partial(picture, folder=folder, roots=roots, where=where)
  if isinstance(value, dict):
    if 'frames' not in value or isinstance(value['frames'], dict):
      raise ValueError(f'a video with the fields {sorted(map(str, value))}; '
                       'allowed: frames, fps, start, end')
    rate = value.get('fps')
    rate = fps if rate is None else values.number(rate, 'fps')
    if value.get('start') is not None or value.get('end') is not None:
      return _segment(value, rate, read, folder, roots)
    return clip(value['frames'], folder, rate, store, roots=roots, where=where)
  if isinstance(value, np.ndarray) and value.ndim == 4:
    value = list(value)
  if isinstance(value, list | tuple):
    return Clip(tuple(read(v, store=store) for v in value), fps)
  if not isinstance(value, str) or not value:
    raise ValueError(f'a video that is {values.shown(value)}; allowed: a '
                     'folder of frames, a list of images, {frames, fps}')
  path = _folder_of(value, folder, roots)
  return Clip(tuple(read(str(p)) for p in _frames(path)), _rate(path, fps))


def _folder_of(value: Any, folder: pathlib.Path,
               roots: Sequence[str]) -> pathlib.Path:
  """The folder of frames that a row names, or names by its video file."""
  path = inside(value, folder, roots)
  if path.suffix.lower() in _FILMS and _is(path.with_suffix(''), 'is_dir'):
    path = inside(str(path.with_suffix('')), folder, roots)
  if path.suffix.lower() in _FILMS:
    raise ValueError(f'{path} is a video file; write its frames into '
                     f'{path.with_suffix("")} (e.g. ffmpeg -i FILE -vf fps=2 '
                     'FOLDER/%05d.png)')
  return path


def _frames(path: pathlib.Path) -> list[pathlib.Path]:
  """The frames of a folder in order; FileNotFoundError if it has none."""
  frames = sorted((p for p in path.glob('*') if p.suffix.lower() in SUFFIXES),
                  key=_in_time) if _is(path, 'is_dir') else []
  if not frames:
    raise FileNotFoundError(f'no frames ({", ".join(SUFFIXES)}) in {path}')
  return frames


def _rate(path: pathlib.Path, fps: float) -> float:
  """The frames per second that a folder's file `fps.txt` states, or `fps`."""
  told = path / RATE
  if not _is(told, 'is_file'):
    return fps
  rate = values.number(told.read_text().strip(), str(told))
  allowed.number(str(told), rate, '> 0')
  return rate


def times(path: pathlib.Path, fps: float = 2.0) -> list[float]:
  """The seconds at which the frames of a folder were taken.

  Raises:
    FileNotFoundError: for a folder that does not exist or holds no frames.
    ValueError: for a bad rate in its `fps.txt`.
  """
  rate = _rate(path, fps)
  return [i / rate for i in range(len(_frames(path)))]


def _segment(value: dict, fps: float, read: Callable[[str], Picture],
             folder: pathlib.Path, roots: Sequence[str]) -> Clip:
  """The frames of a folder from second `start` to second `end`.

  A segment between two frames has the frame that is nearest to its middle. If
  the folder has one called `START-END` (`9.5-12`), its frames are the segment.
  """
  if not isinstance(value['frames'], str):
    raise ValueError('start and end need a folder of frames, not '
                     f'{values.shown(value["frames"])}')
  path = _folder_of(value['frames'], folder, roots)
  given = {name: values.number(value[name], name) for name in ('start', 'end')
           if value.get(name) is not None}
  ready = path / '-'.join(f'{second:g}' for second in given.values())
  if len(given) == 2 and _is(ready, 'is_dir'):
    return Clip(tuple(read(str(f)) for f in _frames(ready)), _rate(ready, fps))
  frames, rate = _frames(path), _rate(path, fps)
  last = (len(frames) - 1) / rate
  start, end = given.get('start', 0.0), given.get('end', last)
  if not 0 <= start <= end or start > last + 1 / rate:
    raise ValueError(f'the segment from {start} s to {end} s of {path}, whose '
                     f'{len(frames)} frames end at {last} s')
  cut = [f for i, f in enumerate(frames) if start <= i / rate <= end]
  middle = min(round((start + end) / 2 * rate), len(frames) - 1)
  return Clip(tuple(read(str(f)) for f in cut or [frames[middle]]), rate)


def _in_time(frame: pathlib.Path) -> tuple[list[Any], str]:
  """A key that sorts numbers in names by value: 9.png before 10.png."""
  parts = _DIGITS.split(frame.name)
  return [int(p) if i % 2 else p for i, p in enumerate(parts)], frame.name


def content(of: Picture) -> bytes:
  """The encoded bytes of a picture."""
  if of.path:
    return pathlib.Path(of.path).read_bytes()
  return base64.b64decode(of.base64)
