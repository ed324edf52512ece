"""Paths of images stay in the data's folder unless the config says more."""

import json
import os

import pytest
from PIL import Image

from zppo_jax import tasks
from zppo_jax.data import media, pool
from zppo_jax.tasks import files


@pytest.fixture
def home(tmp_path):
  """A data folder with links out of it, and a picture and a film outside."""
  data, out = tmp_path / 'data', tmp_path / 'data_other'
  for folder in (data / 'in', out / 'film'):
    folder.mkdir(parents=True)
    Image.new('L', (8, 8)).save(folder / '0.png')
  Image.new('L', (8, 8)).save(out / 'a.png')
  (data / 'link.png').symlink_to(out / 'a.png')
  (data / 'linked').symlink_to(out)
  (data / 'film').mkdir()
  (data / 'film' / '0.png').symlink_to(out / 'a.png')
  (data / 'inner.png').symlink_to(data / 'in' / '0.png')
  return data


def spec(home, shown, film=None, **fields):
  """A source of one row."""
  (home / 'rows.jsonl').write_text(json.dumps(
      {'q': 'q', 'a': '7', 'images': shown, 'video': film}) + '\n')
  return {'rows': dict(
      format='jsonl', path=str(home / 'rows.jsonl'), kind='text',
      columns=dict(text='q', answer='a'), images='images', video='video',
      **fields)}


OUTSIDE = ['../data_other/a.png', '{out}/a.png', 'link.png', 'linked/a.png',
           'in/../../data_other/a.png', {'bytes': None, 'path': 'link.png'},
           ['in/0.png', 'link.png'], '~/../..{out}/a.png']


@pytest.mark.parametrize('value', OUTSIDE)
def test_images_outside_are_refused(home, value):
  """fault C3: `..`, absolute paths and links left the folder."""
  value = json.loads(json.dumps(value).replace(
      '{out}', str(home.parent / 'data_other')))
  found = pool.open_pool(spec(home, value), {})
  with pytest.raises(ValueError, match=(
      r'rows.jsonl, line 1: .*which is outside of .*data.pool.media_roots')):
    found[0]


@pytest.mark.parametrize('film', [
    '../data_other/film', '{out}/film', 'linked/film', 'film', 'film.mp4',
    ['in/0.png', '../data_other/a.png'],
    {'frames': 'linked/film', 'fps': 1}, {'frames': ['link.png']}])
def test_frames_outside_are_refused(home, film):
  """fault C3, for the frames of clips."""
  film = json.loads(json.dumps(film).replace(
      '{out}', str(home.parent / 'data_other')))
  found = pool.open_pool(spec(home, None, film), {})
  with pytest.raises(ValueError, match='line 1: .*which is outside of'):
    found[0]


def test_a_root_of_the_config_is_allowed(home, capsys):
  """fault C3: by the pool, by a source, and in evaluation splits."""
  del capsys
  root = str(home.parent / 'data_other')
  for value in ('../data_other/a.png', f'{root}/a.png', 'link.png'):
    for given in (root, [root]):
      found = files.pool(spec(home, value), media_roots=given)
      assert found[0].media[0].path == f'{root}/a.png'
    of = spec(home, value, media_roots=(root,))
    assert pool.open_pool(of, {})[0].media
  of = spec(home, None, 'film')
  assert files.pool(of, media_roots=[root])[0].media[0].frames

  class Eval:
    """A section `eval` with one split."""
    sources, size, benchmarks = spec(home, 'link.png'), 9, ''

  task = tasks.get('files')
  with pytest.raises(ValueError, match='outside of'):
    tasks.splits(task, Eval, ('rows',))
  asked = tasks.splits(task, Eval, ('rows',), {'media_roots': [root]})
  assert asked['rows'][0].media
  with pytest.raises(ValueError, match='data.pool.media_roots holds 3'):
    files.pool(of, media_roots=[3])


def test_what_lies_inside_stays_allowed(home):
  """Links and `..` that do not leave, and a folder that is a link itself."""
  for value in ('in/0.png', 'in/../in/0.png', str(home / 'in/0.png'),
                'inner.png'):
    assert pool.open_pool(spec(home, value), {})[0].media
  (home.parent / 'other').symlink_to(home)
  of = spec(home, 'in/0.png')
  of['rows']['path'] = str(home.parent / 'other' / 'rows.jsonl')
  assert pool.open_pool(of, {})[0].media
  of = spec(home, 'a.png', folder=str(home.parent / 'data_other'))
  assert pool.open_pool(of, {})[0].media


def test_a_neighbour_whose_name_begins_alike_is_outside(home):
  with pytest.raises(ValueError, match='outside of'):
    media.inside(f'{home}_other/a.png', home)


@pytest.mark.parametrize(('value', 'match'), [
    ('https://host/a.png', 'is an address; nothing is fetched'),
    ('file:///etc/hosts', 'is an address'), ('a\x00.png', 'no path'),
    ('~nobody-of-that-name/a.png', 'no path'),
    ('data:image/png;base64', 'without a comma'),
    ('data:image/png;base64,a!b', 'base64 that cannot be read'),
    ('data:,hello', 'none of PNG'), (3, 'an image that is int 3'),
    (True, 'an image that is bool'), ([[1, 2]], 'an image that is list'),
    ('x' * 300 + '.png', 'no image at|no path')])
def test_what_is_no_image_names_its_row(home, value, match):
  found = pool.open_pool(spec(home, value), {})
  with pytest.raises((ValueError, FileNotFoundError),
                     match=f'rows.jsonl, line 1: .*({match})'):
    found[0]


def test_a_pipe_is_no_image(home):
  os.mkfifo(home / 'pipe.png')
  with pytest.raises(FileNotFoundError, match='line 1: no image at'):
    pool.open_pool(spec(home, 'pipe.png'), {})[0]
