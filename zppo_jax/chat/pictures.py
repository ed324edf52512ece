"""Encoded images to upright RGB, and the bounds on what may be opened.

Few formats are allowed, and their content tells them, because PIL has others
whose readers start outside programs or fetch more files.
"""

import base64
import io

import numpy as np
from PIL import Image, ImageOps

from zppo_jax.records import Picture

FORMATS = ('PNG', 'JPEG', 'WEBP', 'GIF', 'BMP')
MOST_PIXELS = 89_478_485  # per image; PIL warns of larger ones
_ORIENTATION = 0x0112  # of EXIF; values from 5 on swap the sides
_SIXTEEN = ('I;16', 'I;16B', 'I;16L', 'I;16N')
_WIDEST = 2**16 - 1


def picture(image: Image.Image) -> Picture:
  """A picture that holds its pixels, as PNG."""
  out = io.BytesIO()
  image.save(out, 'PNG')
  return Picture(base64=base64.b64encode(out.getvalue()).decode())


def decode(of: Picture) -> Image.Image:
  """An upright RGB image; transparent parts lie on white.

  Grey of 16 bits is scaled to 8.

  Raises:
    ValueError: naming the picture, if it holds no image of FORMATS or one of
      more than MOST_PIXELS.
  """
  return _read(of, lambda image: _upright(_eight_bits(image)))


THUMBNAIL = 160  # pixels of its longer side


def thumbnail(of: Picture) -> str:
  """A small JPEG in base64, for a person to look at.

  Raises:
    ValueError: see `decode`.
  """
  image = decode(of)
  image.thumbnail((THUMBNAIL, THUMBNAIL))
  out = io.BytesIO()
  image.save(out, 'JPEG', quality=70)
  return base64.b64encode(out.getvalue()).decode()


def size(of: Picture) -> tuple[int, int]:
  """(width, height) of the upright image.

  Raises:
    ValueError: as `decode`, as far as the header tells.
  """
  def turned(image):
    swap = image.getexif().get(_ORIENTATION, 1) >= 5
    return image.size[::-1] if swap else image.size
  return _read(of, turned)


def check(of: Picture) -> None:
  """ValueError unless the header is of an image that may be opened.

  Unlike `size` it never reads pixels; `size` has to for the EXIF of a PNG.
  """
  _read(of, lambda image: None)


def _read(of: Picture, act):
  """`act` of the opened image; ValueError names the picture."""
  try:
    source = of.path or io.BytesIO(base64.b64decode(of.base64))
    # PIL warns of large images before the bound below can refuse them.
    with Image.open(source, formats=FORMATS) as image:
      width, height = image.size
      if width * height > MOST_PIXELS:
        raise ValueError(f'{width} x {height} pixels; at most {MOST_PIXELS} '
                         'are allowed')
      return act(image)
  # Broken bytes make PIL's readers raise almost anything.
  except Exception as error:
    why = str(error) or type(error).__name__
    if type(error).__name__ == 'UnidentifiedImageError':
      why = f'none of {", ".join(FORMATS)}'
    raise ValueError(f'{name(of)} is no image that can be read: {why}'
                     ) from None


def name(of: Picture) -> str:
  """The name of a picture in errors."""
  picture_name = of.path or 'a picture in base64'
  return f'{of.where}: {picture_name}' if of.where else picture_name


def _eight_bits(image: Image.Image) -> Image.Image:
  """The image; one of more than 8 bits per channel is scaled to 8.

  PIL's own conversion cuts off values above 255 instead.

  Raises:
    ValueError: for a mode whose range is not known.
  """
  if image.mode not in (*_SIXTEEN, 'I', 'F'):
    return image
  if image.mode not in _SIXTEEN:
    raise ValueError(f'pixels of the mode {image.mode!r} have no known range; '
                     'write it with 8 or 16 bits a channel')
  wide = np.asarray(image).astype(np.uint32)
  grey = Image.fromarray(
      ((wide * 255 + _WIDEST // 2) // _WIDEST).astype(np.uint8))
  clear = image.info.get('transparency')
  if isinstance(clear, int):
    grey = grey.convert('LA')
    grey.putalpha(Image.fromarray(np.uint8(wide != clear) * np.uint8(255)))
  exif = image.getexif()
  if _ORIENTATION in exif:
    grey.getexif()[_ORIENTATION] = exif[_ORIENTATION]
  return grey


def _upright(image: Image.Image) -> Image.Image:
  image = ImageOps.exif_transpose(image)
  if not image.has_transparency_data:
    return image.convert('RGB')
  white = Image.new('RGBA', image.size, 'white')
  return Image.alpha_composite(white, image.convert('RGBA')).convert('RGB')
