"""Which images are opened, and 16-bit grey as 8 bits."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from zppo_jax.chat import images, pictures
from zppo_jax.records import Picture

RAMP = (np.arange(64, dtype=np.uint32) * 1040).reshape(8, 8).astype(np.uint16)


def held(image, form='PNG', **fields) -> Picture:
  out = io.BytesIO()
  image.save(out, form, **fields)
  return Picture(base64=base64.b64encode(out.getvalue()).decode())


@pytest.mark.parametrize('form', pictures.FORMATS)
def test_the_formats_that_are_opened(form):
  shown = held(Image.new('RGB', (9, 8), 'white'), form)
  assert images.size(shown) == images.decode(shown).size == (9, 8)


@pytest.mark.parametrize('form', ['TIFF', 'PPM', 'TGA', 'ICO', 'PCX', 'EPS',
                                  'SGI', 'DDS', 'JPEG2000', 'PDF'])
@pytest.mark.parametrize('name', ['', 'x.png', 'x.jpg'])
def test_other_formats_are_refused_whatever_their_name(tmp_path, form, name):
  """fault C4: PIL opened any, some by an outside program."""
  out = io.BytesIO()
  Image.new('RGB', (16, 16), 'white').save(out, form)
  shown = Picture(base64=base64.b64encode(out.getvalue()).decode())
  if name:
    (tmp_path / name).write_bytes(out.getvalue())
    shown = Picture(path=str(tmp_path / name))
  for read in (images.size, images.decode):
    with pytest.raises(ValueError, match='none of PNG, JPEG, WEBP, GIF, BMP'):
      read(shown)


def test_a_format_is_known_by_content_and_not_by_name(tmp_path):
  """fault C4"""
  Image.new('RGB', (4, 5), 'red').save(tmp_path / 'x.eps', 'PNG')
  assert images.size(Picture(path=str(tmp_path / 'x.eps'))) == (4, 5)


def test_too_many_pixels_are_refused_from_the_header(monkeypatch):
  """fault C4: PIL alone warns."""
  shown = held(Image.new('1', (400, 300)))
  monkeypatch.setattr(pictures, 'MOST_PIXELS', 119_999)
  for read in (images.size, images.decode):
    with pytest.raises(ValueError, match='400 x 300 pixels; at most 119999'):
      read(shown)
  monkeypatch.setattr(pictures, 'MOST_PIXELS', 120_000)
  assert images.size(shown) == (400, 300)


def test_the_row_is_named_when_pixels_are_broken():
  shown = held(Image.fromarray(RAMP.astype(np.uint8)))
  data = base64.b64decode(shown.base64)
  cut = Picture(base64=base64.b64encode(data[:-30]).decode(),
                where='a.jsonl, line 7')
  pictures.check(cut)
  with pytest.raises(ValueError, match='a.jsonl, line 7: a picture in base64'):
    images.decode(cut)
  assert cut == Picture(base64=cut.base64)  # the row is no part of its value


@pytest.mark.parametrize('order', ['<u2', '>u2'])
def test_16_bit_grey_is_scaled(order):
  """fault C7: PIL's conversion makes all above 255 white."""
  shown = held(Image.fromarray(RAMP))
  data = base64.b64decode(shown.base64)
  assert data[24] == 16 and data[25] == 0  # PNG's bit depth, grey
  found = np.asarray(images.decode(shown))
  want = np.round(RAMP / 257).astype(np.uint8)
  np.testing.assert_array_equal(found, np.stack([want] * 3, -1))
  eight = pictures._eight_bits(Image.fromarray(RAMP.astype(order)))
  np.testing.assert_array_equal(np.asarray(eight), want)


def test_16_bit_grey_keeps_what_is_transparent_and_its_side_up():
  """fault C7"""
  clear = np.asarray(images.decode(held(Image.fromarray(RAMP),
                                        transparency=int(RAMP[0, 1]))))
  assert clear[0, 1].tolist() == [255] * 3 and clear[0, 2, 0] == 8
  exif = Image.Exif()
  exif[0x0112] = 6
  turned = held(Image.fromarray(RAMP[:, :4].copy()), exif=exif)
  assert images.size(turned) == images.decode(turned).size == (8, 4)


@pytest.mark.parametrize('mode', ['I', 'F'])
def test_pixels_without_a_known_range_are_refused(mode):
  """fault C7"""
  with pytest.raises(ValueError, match=f"mode '{mode}' have no known range"):
    pictures._eight_bits(Image.new(mode, (2, 2), 70_000))


def test_8_bits_are_as_they_were():
  grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
  for mode in ('L', 'RGB', 'RGBA', 'P', 'LA'):
    found = images.decode(held(grey.convert(mode)))
    np.testing.assert_array_equal(np.asarray(found)[..., 0], np.asarray(grey))
