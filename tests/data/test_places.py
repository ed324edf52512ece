"""Placeholders of images in texts, held against what is shown."""

import json

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from zppo_jax.data import pool
from zppo_jax.data.mappings.mapping import Places, places_of


def opened(tmp_path, text, shown=None, film=None, form='jsonl', **fields):
  """The question of one row, with up to three images of the folder."""
  for name in 'abc':
    Image.new('L', (8, 8)).save(tmp_path / f'{name}.png')
  row = {'problem': text, 'answer': '7', 'images': shown, 'video': film}
  path = tmp_path / f'rows.{form}'
  if form == 'jsonl':
    path.write_text(json.dumps(row) + '\n')
  else:
    parquet.write_table(pa.Table.from_pylist([row]), path)
  of = dict(format=form, path=str(path), kind='text', images='images',
            video='video', columns=dict(text='problem', answer='answer'))
  return pool.open_pool({'rows': {**of, **fields}}, {})[0]


FRAMES = {'frames': ['a.png', 'b.png'], 'fps': 1}


@pytest.mark.parametrize('form', ['jsonl', 'parquet'])
@pytest.mark.parametrize(('text', 'shown', 'video', 'match'), [
    ('<image><image>x', ['a.png'], None, '2 <image> and the row 1 image'),
    ('<image>x', ['a.png', 'b.png'], None, '1 <image> and the row 2 image'),
    ('<image>x', [], FRAMES, '1 <image> and the row 0 image'),
    ('<video>x', ['a.png'], None, '1 <video> and the row 0 video'),
    ('<video><video>x', [], FRAMES, '2 <video> and the row 1 video'),
    ('see <image 2>', ['a.png'], None, '<image 2> and the row 1 image'),
    ('<image_3> <image> x', ['a.png'], None, '<image 3> and the row 1 image')])
def test_other_numbers_are_refused(tmp_path, form, text, shown, video, match):
  """fault C9: nothing compared them."""
  with pytest.raises(ValueError, match=rf'(line 1|row 0): .*{match}'):
    opened(tmp_path, text, shown, video, form)


@pytest.mark.parametrize('form', ['jsonl', 'parquet'])
@pytest.mark.parametrize(('text', 'shown', 'video', 'kept'), [
    ('<image>x', ['a.png'], None, 'x'), ('x', ['a.png', 'b.png'], None, 'x'),
    ('<image>\n<image> x', ['a.png', 'b.png'], None, 'x'),
    ('<video>x', ['a.png'], FRAMES, 'x'), (' x ', [], None, ' x '),
    ('see <image 1> and <image 1>', ['a.png', 'b.png'], None, 'see and')])
def test_equal_numbers_are_asked_without_placeholders(
    tmp_path, form, text, shown, video, kept):
  """fault C9"""
  asked = opened(tmp_path, text, shown, video, form)
  assert asked.text == kept
  assert len(asked.media) == len(shown) + bool(video)


@pytest.mark.parametrize('mapping', ['geometry3k'])
def test_mappings_count_too(tmp_path, mapping):
  """fault C9"""
  with pytest.raises(ValueError, match='line 1: .*2 <image>'):
    opened(tmp_path, '<image><image>x', ['a.png'], mapping=mapping, columns={})
  assert opened(tmp_path, '<image>x', ['a.png'], mapping=mapping, columns={},
                ).text == 'x'


def test_a_text_without_any_image_column_is_told_of_it(tmp_path):
  """fault C9: the images were forgotten in the config."""
  with pytest.raises(ValueError, match=r'line 1: .*\(images\).*places'):
    opened(tmp_path, '<image>x', ['a.png'], images='', video='')


def test_words_in_angles_can_be_left_alone(tmp_path):
  of = dict(images='', video='')
  asked = opened(tmp_path, 'What is <video> in HTML?', places='text', **of)
  assert asked.text == 'What is <video> in HTML?'
  assert opened(tmp_path, '<image>x', places='strip', **of).text == 'x'
  with pytest.raises(KeyError, match="places 'no'; known: check, strip"):
    opened(tmp_path, 'x', places='no')


def test_places_are_counted():
  assert places_of('<image><image 2><video>< image><image_12>') == Places(
      1, 1, 12, 0)
