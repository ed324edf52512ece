"""What a row says of an image or a video, as pictures and clips.

An image is a path (relative ones to the data's folder), bytes, base64 (plain
or a data: URI), a struct {'bytes', 'path'} as the hub's data sets have it, or
an array. A video is a folder of frames, a list of images, or a struct
{'frames', 'fps'}. Video files are not decoded here: frames are looked for in
a folder of the file's name without its suffix.

Bytes are put into `store`, a folder, where one is given: a question then
holds paths, and a long replay buffer no pixels.
"""

import base64
import hashlib
import os
import pathlib
import tempfile

import numpy as np
from PIL import Image

from zppo_jax import images
from zppo_jax.records import Clip, Picture

_SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.gif')
_FILMS = ('.mp4', '.webm', '.mkv', '.avi', '.mov')
# How base64 of PNG, JPEG, GIF and WEBP begins.
_BASE64 = ('iVBORw0KGgo', '/9j/', 'R0lGOD', 'UklGR')
_SHORTEST = 64  # characters; no image is smaller, most paths are


def _held(data: bytes, store: pathlib.Path | None) -> Picture:
  if store is None:
    return Picture(base64=base64.b64encode(data).decode())
  name = hashlib.blake2b(data, digest_size=16).hexdigest()
  path = store / name[:2] / name
  if not path.is_file():
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, 'wb') as f:
      f.write(data)
    os.replace(partial, path)
  return Picture(path=str(path))


def picture(value, folder: pathlib.Path,
            store: pathlib.Path | None = None) -> Picture:
  """One image.

  Args:
    value: as the module's docstring has it.
    folder: of relative paths.
    store: where bytes are put; None keeps them in the picture.

  Raises:
    FileNotFoundError: for a path without a file.
    ValueError: for what is no image by its form.
  """
  if isinstance(value, Picture):
    return value
  if isinstance(value, dict):
    if not {'bytes', 'path'} & set(value):
      raise ValueError(f'an image with the fields {sorted(value)}; allowed: '
                       'bytes, path')
    data = value.get('bytes')
    return picture(data if data else value.get('path'), folder, store)
  if isinstance(value, np.ndarray):
    made = images.picture(Image.fromarray(value.squeeze()))
    return _held(base64.b64decode(made.base64), store)
  if isinstance(value, bytes | bytearray | memoryview):
    return _held(bytes(value), store)
  if not isinstance(value, str) or not value:
    raise ValueError(f'an image that is {type(value).__name__} '
                     f'{str(value)[:40]!r}; allowed: a path, bytes, base64, '
                     '{bytes, path}')
  if value.startswith('data:'):
    return _held(base64.b64decode(value.partition(',')[2]), store)
  if value.startswith(_BASE64) and len(value) >= _SHORTEST:
    return _held(base64.b64decode(value), store)
  path = folder / pathlib.Path(value).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f'no image at {path}')
  return Picture(path=str(path))


def pictures(value, folder, store=None) -> tuple[Picture, ...]:
  """None, an image, or a list of them."""
  if value is None or isinstance(value, str) and not value:
    return ()
  several = value if isinstance(value, list | tuple) else [value]
  return tuple(picture(v, folder, store) for v in several)


def clip(value, folder: pathlib.Path, fps: float,
         store: pathlib.Path | None = None) -> Clip:
  """One video.

  Args:
    value: as the module's docstring has it.
    folder: of relative paths.
    fps: of its frames, where the value does not say.
    store: as of `picture`.

  Raises:
    FileNotFoundError: for a folder that is not there or holds no frames.
    ValueError: for a video file, or what is no video by its form.
  """
  if isinstance(value, dict):
    if 'frames' not in value:
      raise ValueError(f'a video with the fields {sorted(value)}; allowed: '
                       'frames, fps')
    return clip(value['frames'], folder, value.get('fps') or fps, store)
  if isinstance(value, np.ndarray) and value.ndim == 4:
    value = list(value)
  if isinstance(value, list | tuple):
    return Clip(tuple(picture(v, folder, store) for v in value), fps)
  if not isinstance(value, str) or not value:
    raise ValueError(f'a video that is {type(value).__name__}; allowed: a '
                     'folder of frames, a list of images, {frames, fps}')
  path = folder / pathlib.Path(value).expanduser()
  if path.suffix.lower() in _FILMS and path.with_suffix('').is_dir():
    path = path.with_suffix('')
  if path.suffix.lower() in _FILMS:
    raise ValueError(f'{path} is a video file; write its frames into '
                     f'{path.with_suffix("")} (e.g. ffmpeg -i FILE -vf fps=2 '
                     'FOLDER/%05d.png)')
  frames = sorted(p for p in path.glob('*') if p.suffix.lower() in _SUFFIXES)
  if not frames:
    raise FileNotFoundError(f'no frames ({", ".join(_SUFFIXES)}) in {path}')
  return Clip(tuple(Picture(path=str(p)) for p in frames), fps)


def content(of: Picture) -> bytes:
  """The encoded bytes of a picture."""
  if of.path:
    return pathlib.Path(of.path).read_bytes()
  return base64.b64decode(of.base64)
