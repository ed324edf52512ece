"""Every form in which a row may hold an image or a video."""

import base64
import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from zppo_jax.chat import images, pictures
from zppo_jax.data import media
from zppo_jax.records import Clip

IMAGE = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12))


def png() -> bytes:
  out = io.BytesIO()
  IMAGE.save(out, 'PNG')
  return out.getvalue()


def forms(folder):
  IMAGE.save(folder / 'a.png')
  text = base64.b64encode(png()).decode()
  return ['a.png', str(folder / 'a.png'), png(), text,
          f'data:image/png;base64,{text}', {'bytes': png(), 'path': None},
          {'bytes': None, 'path': 'a.png'}, np.asarray(IMAGE)[..., None]]


@pytest.mark.parametrize('form', range(8))
@pytest.mark.parametrize('stored', [False, True])
def test_every_form_is_the_same_image(tmp_path, form, stored):
  store = tmp_path / 'store' if stored else None
  value = forms(tmp_path)[form]
  found = media.picture(value, tmp_path, store)
  np.testing.assert_array_equal(
      np.asarray(images.decode(found).convert('L')), np.asarray(IMAGE))
  assert images.size(found) == (12, 8)
  if stored:
    assert found.path and not found.base64
    # The umask says who may read it, as of any other file.
    (tmp_path / 'other').touch()
    assert pathlib.Path(found.path).stat().st_mode == (
        tmp_path / 'other').stat().st_mode
    assert media.picture(value, tmp_path, store) == found


def test_lists_and_nothing(tmp_path):
  forms(tmp_path)
  assert len(media.pictures(['a.png', png()], tmp_path)) == 2
  assert len(media.pictures('a.png', tmp_path)) == 1
  for nothing in (None, '', []):
    assert media.pictures(nothing, tmp_path) == ()


def test_videos(tmp_path):
  (tmp_path / 'film').mkdir()
  for i in (2, 0, 1):
    IMAGE.save(tmp_path / 'film' / f'{i:03}.png')
  for value in ('film', 'film.mp4'):  # frames lie beside the file
    found = media.clip(value, tmp_path, 1.0)
    assert isinstance(found, Clip) and found.fps == 1.0
    assert [f.path[-7:] for f in found.frames] == ['000.png', '001.png',
                                                   '002.png']
  found = media.clip({'frames': [png(), 'film/000.png'], 'fps': 4}, tmp_path,
                     1.0)
  assert len(found.frames) == 2 and found.fps == 4
  array = np.stack([np.asarray(IMAGE.convert('RGB'))] * 3)
  assert len(media.clip(array, tmp_path, 1.0).frames) == 3


def test_frames_follow_the_numbers_in_their_names(tmp_path):
  """Not the letters, by which 10 comes before 9."""
  (tmp_path / 'film').mkdir()
  names = ('f1-2.png', 'f1-10.png', 'f2-1.png', 'f10-0.png', f'f{"9" * 30}.png')
  for name in reversed(names):
    IMAGE.save(tmp_path / 'film' / name)
  found = media.clip('film', tmp_path, 1.0).frames
  assert tuple(f.path.rpartition('/')[2] for f in found) == names


@pytest.mark.parametrize('form, more', [
    ('GIF', {}), ('PNG', {}), ('WEBP', {'lossless': True})])
def test_an_animation_shows_its_first_frame(tmp_path, form, more):
  red, blue = (Image.new('RGB', (4, 4), name) for name in ('red', 'blue'))
  red.save(tmp_path / 'a', form, save_all=True, append_images=[blue], **more)
  shown = pictures.decode(media.picture('a', tmp_path))
  assert shown.getpixel((0, 0)) == (255, 0, 0)


def test_bad_values_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='no image at .*/gone.png'):
    media.picture('gone.png', tmp_path)
  with pytest.raises(ValueError, match='image that is int'):
    media.picture(3, tmp_path)
  with pytest.raises(ValueError, match=r"fields \['pixels'\]"):
    media.picture({'pixels': 1}, tmp_path)
  with pytest.raises(ValueError, match='other.mp4 is a video file'):
    media.clip('other.mp4', tmp_path, 1.0)
  with pytest.raises(FileNotFoundError, match='no frames'):
    media.clip('other', tmp_path, 1.0)


def test_the_size_is_of_the_upright_image(tmp_path):
  exif = IMAGE.getexif()
  exif[0x0112] = 6
  IMAGE.save(tmp_path / 'turned.png', exif=exif)
  found = media.picture('turned.png', tmp_path)
  assert images.size(found) == images.decode(found).size == (8, 12)


@pytest.mark.parametrize('start, end, frames', [
    (0, None, '012345'), (None, 1.0, '012'), (0.5, 1.6, '123'),
    (1, 1, '2'), (1.1, 1.2, '2'), (2.4, 9, '5'), ('0.5', '1', '12'),
    (2.6, 2.9, '5')])
def test_a_segment_of_a_folder_of_frames(tmp_path, start, end, frames):
  """Six frames at two a second: 0.0 to 2.5 s."""
  (tmp_path / 'a').mkdir()
  for i in range(6):
    IMAGE.save(tmp_path / 'a' / f'{i}.png')
  clip = media.clip({'frames': 'a', 'start': start, 'end': end}, tmp_path, 2.0)
  assert [f.path[-5] for f in clip.frames] == list(frames)
  assert clip.fps == 2.0
  assert media.times(tmp_path / 'a') == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


@pytest.mark.parametrize('value, match', [
    ({'frames': 'a', 'start': 1, 'end': 0.5}, 'from 1.0 s to 0.5 s'),
    ({'frames': 'a', 'start': -1}, 'from -1.0 s'),
    ({'frames': 'a', 'start': 9}, 'whose 2 frames end at 0.5 s'),
    ({'frames': 'a', 'start': 'x'}, "start is str 'x'; it must be a number"),
    ({'frames': [b''], 'start': 1}, 'need a folder of frames')])
def test_a_segment_that_is_none_is_refused(tmp_path, value, match):
  (tmp_path / 'a').mkdir()
  for i in range(2):
    IMAGE.save(tmp_path / 'a' / f'{i}.png')
  with pytest.raises(ValueError, match=match):
    media.clip(value, tmp_path, 2.0)


def test_a_segment_that_was_cut_before(tmp_path):
  (tmp_path / 'a' / '9.5-12').mkdir(parents=True)
  for i in range(2):
    IMAGE.save(tmp_path / 'a' / '9.5-12' / f'{i}.png')
  segment = {'frames': 'a', 'start': 9.5, 'end': 12.0}
  clip = media.clip(segment, tmp_path, 2.0)
  assert [f.path[-12:] for f in clip.frames] == ['9.5-12/0.png',
                                                 '9.5-12/1.png']
  with pytest.raises(FileNotFoundError, match='no frames'):
    media.clip({**segment, 'end': 13}, tmp_path, 2.0)


def test_a_folder_may_state_its_rate(tmp_path):
  (tmp_path / 'a').mkdir()
  for i in range(3):
    IMAGE.save(tmp_path / 'a' / f'{i}.png')
  (tmp_path / 'a' / 'fps.txt').write_text(' 0.1\n')
  assert media.clip('a', tmp_path, 2.0).fps == 0.1
  assert media.times(tmp_path / 'a') == [0.0, 10.0, 20.0]
  segment = media.clip({'frames': 'a', 'start': 1, 'end': 12}, tmp_path, 2.0)
  assert [f.path[-5] for f in segment.frames] == ['1']
  (tmp_path / 'a' / 'fps.txt').write_text('0')
  with pytest.raises(ValueError, match='fps.txt is 0.0; it must be > 0'):
    media.clip('a', tmp_path, 2.0)
