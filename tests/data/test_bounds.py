"""Broken and swollen files: the error names file and row."""

import base64
import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from zppo_jax.chat import pictures
from zppo_jax.data import media, pool as pools, readers, sources
from zppo_jax.tasks import files


def png(image=None) -> bytes:
  out = io.BytesIO()
  (image or Image.new('L', (8, 8))).save(out, 'PNG')
  return out.getvalue()


def table(path, rows, **fields):
  parquet.write_table(pa.Table.from_pylist(rows), path, **fields)
  return path


SOURCE = dict(kind='text', columns=dict(text='q', answer='a'))


def test_a_broken_parquet_file_is_named(tmp_path):
  """fault C5: pyarrow's words alone, beside a file that is whole."""
  rows = [{'q': f'{i}?', 'a': '7'} for i in range(50)]
  table(tmp_path / 'a.parquet', rows)
  whole = table(tmp_path / 'b.parquet', rows).read_bytes()
  for data in (whole[:-20], whole[:40], b'', b'PAR1', b'{"q": "x"}\n' * 9):
    (tmp_path / 'b.parquet').write_bytes(data)
    with pytest.raises(ValueError, match='b.parquet: no parquet file that can'):
      readers.open_reader('parquet', tmp_path)


def test_text_that_is_no_utf8_in_parquet_names_its_rows(tmp_path):
  """fault C5"""
  made = pa.Array.from_buffers(pa.string(), 1, [
      None, pa.py_buffer(np.array([0, 2], np.int32)),
      pa.py_buffer(b'\xff\xfe')])
  parquet.write_table(pa.table({'q': made, 'a': ['7']}), tmp_path / 'a.parquet')
  found = readers.open_reader('parquet', tmp_path)
  with pytest.raises(ValueError, match=r'a.parquet, rows 0 to 0 .*cannot be r'):
    found[0]


@pytest.mark.parametrize('packing', ['zstd', 'gzip', 'snappy', 'none'])
def test_a_row_group_is_bounded_by_what_it_unpacks_to(tmp_path, packing):
  """fault C5: a few kilobytes of zstd became 1.75 GB. Here 20 MB against a
  bound of 8."""
  path = table(tmp_path / 'a.parquet',
               [{'q': f'{i}' + 'x' * 10_000_000, 'a': '7'} for i in range(2)],
               compression=packing, use_dictionary=False)
  of = {'mine': dict(SOURCE, format='parquet', path=str(path))}
  with pytest.raises(ValueError, match=(
      r'a.parquet, rows 0 to 1 \(a row group\): [0-9]+ bytes unpacked; '
      'data.pool.max_bytes allows 8000000')):
    files.pool(of, max_bytes=8_000_000)
  assert len(files.pool(of, max_bytes=30_000_000)) == 2


def test_repeated_values_are_bounded_as_they_grow(tmp_path):
  """fault C5: a dictionary of one value, which its footer calls small."""
  path = table(tmp_path / 'a.parquet',
               [{'q': 'x' * 20_000, 'a': '7'}] * 2000, use_dictionary=True)
  found = readers.open_reader('parquet', path, most=15_000_000)
  told = found._open[0].metadata.row_group(0).total_byte_size
  assert told < 1_000_000
  with pytest.raises(ValueError, match='bytes unpacked; data.pool.max_bytes'):
    found[0]


def test_columns_that_are_left_out_count_for_nothing(tmp_path):
  path = table(tmp_path / 'a.parquet', [
      {'q': 'q', 'image': {'bytes': bytes(3_000_000), 'path': None}}])
  words = readers.open_reader('parquet', path, ('image',), 1_000_000)
  assert words[0] == {'q': 'q'}
  whole = readers.open_reader('parquet', path, (), 1_000_000)
  with pytest.raises(ValueError, match='a.parquet, rows 0 to 0'):
    whole[0]


def test_a_line_is_bounded(tmp_path):
  """fault C5"""
  path = tmp_path / 'a.jsonl'
  path.write_text('{"q": 1}\n' + json.dumps({'q': 'x' * 500}) + '\n')
  with pytest.raises(ValueError, match=r'a.jsonl, line 2: 401 bytes unpacked; '
                     'data.pool.max_bytes allows 400'):
    readers.open_reader('jsonl', path, most=400)
  assert len(readers.open_reader('jsonl', path, most=600)) == 2


def test_packed_lines_are_told_to_be_packed(tmp_path):
  """fault C5"""
  path = tmp_path / 'a.jsonl'
  for data, name in ((gzip.compress(b'{"q": 1}\n'), 'gzip'),
                     (b'\x28\xb5\x2f\xfd\x00', 'zstd'),
                     (b'PAR1....', 'parquet')):
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f'a.jsonl: {name}, not lines of JSON'):
      readers.open_reader('jsonl', path)


def test_nested_lines_are_named(tmp_path):
  """fault C5: a RecursionError left the reader."""
  path = tmp_path / 'a.jsonl'
  path.write_text('{"q": 1}\n{"q": ' + '[' * 5000 + ']' * 5000 + '}\n')
  found = readers.open_reader('jsonl', path)
  with pytest.raises(ValueError, match='a.jsonl, line 2: JSON that is nested'):
    found[1]


def test_how_deep_a_line_may_be_nested(tmp_path):
  """The same on every Python: json itself reads deeper on some."""
  path = tmp_path / 'a.jsonl'
  inner = 498
  path.write_text('\n'.join((
      '{"q": {"a": ' + '[' * inner + ']' * inner + '}}',
      '{"q": {"a": ' + '[' * (inner + 1) + ']' * (inner + 1) + '}}',
      '{"q": [' + '[], ' * 600 + '"' + '[' * 600 + '"]}')) + '\n')
  found = readers.open_reader('jsonl', path)
  assert found[0]['q'].keys() == {'a'}
  with pytest.raises(ValueError, match='line 2: JSON .* may lie 500 deep'):
    found[1]
  assert len(found[2]['q']) == 601


@pytest.mark.parametrize('line', [
    '{"q": "one", "q": "another"}', '{"q": {"a": 1, "b": 2, "a": 1}}',
    '{"q": [{"a": 1, "a": null}]}'])
def test_a_name_that_stands_twice_names_the_line(tmp_path, line):
  """The last one would count in silence; parquet refuses two columns too."""
  path = tmp_path / 'a.jsonl'
  path.write_text(f'{{"q": [{{"a": 1}}, {{"a": 1}}]}}\n{line}\n')
  reader = readers.open_reader('jsonl', path)
  assert reader[0] == {'q': [{'a': 1}, {'a': 1}]}
  with pytest.raises(ValueError, match="a.jsonl, line 2: no JSON: an object "
                                       "has the name '[qa]' more than once"):
    reader[1]


@pytest.mark.parametrize('value', [0, -1, 1.5, True, 'many'])
def test_bounds_are_whole_numbers(value):
  with pytest.raises(ValueError, match='data.pool.max_bytes is .*; it must be'):
    sources.Bounds(max_bytes=value)


def opened(tmp_path, row, form):
  """The pool of a good row and one of the given fields."""
  good = {'q': 'q', 'a': '7', 'images': None, 'video': None}
  path = tmp_path / f'rows.{form}'
  rows = [good, {**good, **row}]
  if form == 'jsonl':
    path.write_text(''.join(json.dumps(r) + '\n' for r in rows))
  else:
    table(path, rows)
  return pools.open_pool({'rows': dict(
      SOURCE, format=form, path=str(path), images='images', video='video')}, {})


@pytest.mark.parametrize('form', ['jsonl', 'parquet'])
@pytest.mark.parametrize('fps', [0, -1, 'fast', [2], {'a': 2}, True])
def test_a_bad_fps_names_its_row(tmp_path, form, fps):
  """fault C5: TypeError or a default in silence (0)."""
  Image.new('L', (8, 8)).save(tmp_path / 'a.png')
  found = opened(tmp_path, {'video': {'frames': ['a.png'], 'fps': fps}}, form)
  with pytest.raises(ValueError, match=r'rows\.\w+, (line 2|row 1): .*fps'):
    found[1]


@pytest.mark.parametrize('fps', [float('nan'), float('inf')])
def test_an_fps_that_is_not_finite_names_its_row(tmp_path, fps):
  """fault C5"""
  Image.new('L', (8, 8)).save(tmp_path / 'a.png')
  found = opened(tmp_path, {'video': {'frames': ['a.png'], 'fps': fps}},
                 'jsonl')
  with pytest.raises(ValueError, match='rows.jsonl, line 2: fps is'):
    found[1]


@pytest.mark.parametrize('stored', [False, True])
@pytest.mark.parametrize('held', ['struct', 'base64', 'uri', 'frames', 'path'])
def test_images_of_other_formats_name_their_row(tmp_path, held, stored):
  """fault C4: embedded, in a data: URI, in frames and in files alike."""
  out = io.BytesIO()
  Image.new('RGB', (40, 40), 'white').save(out, 'TIFF')
  (tmp_path / 'a.png').write_bytes(out.getvalue())
  text = base64.b64encode(out.getvalue()).decode()
  row = {'struct': {'images': [{'bytes': text, 'path': None}]},
         'base64': {'images': [base64.b64encode(
             b'\x89PNG\r\n\x1a\n\0\0' + out.getvalue()).decode()]},
         'uri': {'images': [f'data:image/png;base64,{text}']},
         'frames': {'video': ['a.png']}, 'path': {'images': 'a.png'}}[held]
  form = 'jsonl'
  if held == 'struct':
    row['images'][0]['bytes'], form = out.getvalue(), 'parquet'
  found = opened(tmp_path, row, form)
  source = found._sources['rows']
  source.store = tmp_path / 'store' if stored else None
  with pytest.raises(ValueError, match=(
      r'rows\.\w+, (line 2|row 1): .*none of PNG, JPEG, WEBP, GIF, BMP')):
    found[1]
  assert not (tmp_path / 'store').exists()


def test_a_picture_of_too_many_pixels_names_its_row(tmp_path, monkeypatch):
  """fault C4"""
  monkeypatch.setattr(pictures, 'MOST_PIXELS', 63)
  found = opened(tmp_path, {'images': [{'bytes': png(), 'path': None}]},
                 'parquet')
  with pytest.raises(ValueError, match='row 1: .*8 x 8 pixels; at most 63'):
    found[1]


def test_broken_pixels_name_their_row_when_they_are_decoded(tmp_path):
  """fault C5: the header is whole, so that the row is told later."""
  data = png(Image.fromarray(np.random.default_rng(0).integers(
      0, 255, (64, 64), np.uint8)))
  found = opened(tmp_path, {'images': [{'bytes': data[:-900], 'path': None}]},
                 'parquet')
  (shown,) = found[1].media
  with pytest.raises(ValueError, match='rows.parquet, row 1: a picture'):
    pictures.decode(shown)


@pytest.mark.parametrize('array', [
    np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int32),
    np.zeros((0, 4), np.uint8), np.zeros((4, 4, 5), np.uint8),
    np.zeros((4, 4, 3), np.uint16)])
def test_arrays_of_another_range_are_refused(tmp_path, array):
  """fault C7, for arrays."""
  with pytest.raises(ValueError, match=f'an array of {array.dtype}'):
    media.picture(array, tmp_path)


def test_a_16_bit_array_is_scaled(tmp_path):
  """fault C7"""
  shown = media.picture(np.full((4, 4, 1), 0x8080, np.uint16), tmp_path)
  assert pictures.decode(shown).getpixel((0, 0)) == (128, 128, 128)


def test_equal_names_are_told_with_file_and_row(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"q": "q", "a": "7", "n": "x"}\n' * 2)
  with pytest.raises(ValueError, match=r"'mine/x': .*a.jsonl, line 1; .*e 2"):
    pools.open_pool({'mine': dict(
        format='jsonl', path=str(path), kind='text',
        columns=dict(text='q', answer='a', id='n'))}, {})
