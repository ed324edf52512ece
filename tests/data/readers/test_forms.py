"""JSON arrays, CSV and Arrow as rows; several files; what is refused."""

import json

import numpy as np
import pyarrow as pa
import pytest

from zppo_jax.data import readers, values

# Brackets, quotes and escapes inside of texts; numbers; nesting; a null.
ROWS = [{'q': 'a [ "b" } \\', 'n': 1, 'of': {'x': ['[', {'y': None}]}},
        {'q': 'é,\n"2"', 'n': 2.5, 'of': None},
        {'q': '', 'n': None, 'of': {}}]


def test_json_arrays(tmp_path):
  (tmp_path / 'a.json').write_text(json.dumps(ROWS))
  (tmp_path / 'b.json').write_text(
      '\n [ ' + ' ,\n'.join(json.dumps(r, indent=1) for r in ROWS) + ']\n')
  (tmp_path / 'c.json').write_text('[{"other": 1}]')
  found = readers.open_reader('json', tmp_path)
  assert [found[i] for i in range(7)] == ROWS * 2 + [{'other': 1}]
  assert found.columns == ('q', 'n', 'of', 'other') and len(found) == 7
  assert found.where(4) == f'{tmp_path}/b.json, row 1'
  several = readers.open_reader('json', [tmp_path / 'c.json',
                                         tmp_path / 'a.json'])
  assert several[0] == {'other': 1} and several.folder == tmp_path


@pytest.mark.parametrize('words, match', [
    ('{"a": 1}', 'no JSON array of objects; JSON lines'),
    ('[{"a": 1}]\n[{"a": 2}]', 'no JSON array of objects'),
    ('[{"a": 1}, 2, {"a": 3}]', 'other things than objects'),
    ('[{"a": 1}, 2]', 'other things than objects'),
    ('[[{"a": 1}]]', 'other things than objects'),
    ('["a"]', 'byte 1 begins a text where an object'),
    ('[{"a": 1}', 'no whole JSON array'), ('', 'is empty'),
    ('[{"a": "x', 'byte 7 begins a string without an end'),
    ('[{"a": 1, "a": 2}]', "row 0: .*the name 'a' more than once"),
    ('[{"a": 1}, {"a" 1}]', 'row 1: no JSON'),
    (f'[{{"a": "{"x" * 90}"}}]', '99 bytes .* allows 90')])
def test_what_is_no_json_array_is_refused(tmp_path, words, match):
  (tmp_path / 'a.json').write_text(words)
  with pytest.raises(ValueError, match=match) as e:
    found = readers.open_reader('json', tmp_path, most=90)
    [found[i] for i in range(len(found))]
  assert f'{tmp_path}/a.json' in str(e.value)


def test_csv(tmp_path):
  """Commas, quotes and line breaks in cells; both ends of lines; a BOM."""
  (tmp_path / 'a.csv').write_bytes(
      b'\xef\xbb\xbfq,"a, b"\r\n"x, ""y""\r\nz",1\r\n\r\n\xc3\xa9,\r\n')
  (tmp_path / 'b.csv').write_text('a,q\n2,w\n')
  found = readers.open_reader('csv', tmp_path)
  assert [found[i] for i in (2, 0, 1)] == [
      {'a': '2', 'q': 'w'}, {'q': 'x, "y"\r\nz', 'a, b': '1'},
      {'q': 'é', 'a, b': ''}]
  assert found.columns == ('q', 'a, b', 'a')
  assert found.where(2) == f'{tmp_path}/b.csv, row 0'
  words = readers.open_reader('csv', tmp_path, ('q',))
  assert words[0] == {'a, b': '1'}


@pytest.mark.parametrize('words, match', [
    (b'', 'no line of names'), (b'a,a\n1,2\n', "column is called 'a'"),
    (b'a,b\n1,2\n3\n', 'row 1 has 1 cells; there are 2'),
    (b'a\n"x', 'row 0: no CSV'), (b'a\n\xff\n', 'row 0: no CSV in UTF-8'),
    (b'PK\x03\x04', 'zip, not CSV; unpack'),
    (b'a\n"' + b'x\n' * 50 + b'"\n', 'bytes unpacked; .* allows 90')])
def test_what_is_no_csv_is_refused(tmp_path, words, match):
  (tmp_path / 'a.csv').write_bytes(words)
  with pytest.raises(ValueError, match=match) as e:
    readers.open_reader('csv', tmp_path, most=90)
  assert str(e.value).startswith(f'{tmp_path}/a.csv')


@pytest.mark.parametrize('form', ['new_stream', 'new_file'])
def test_arrow(tmp_path, form):
  table = pa.table({'q': ['a', 'b', 'c'], 'n': [1, 2, 3],
                    'p': pa.array(np.float32([0.1, 0.2, 0.3])),
                    'image': [{'bytes': b'x', 'path': None}] * 3})
  for name in 'ab':
    with pa.OSFile(str(tmp_path / f'{name}.arrow'), 'wb') as sink, getattr(
        pa.ipc, form)(sink, table.schema) as writer:
      writer.write_table(table, max_chunksize=2)
  found = readers.open_reader('arrow', tmp_path)
  assert len(found) == 6 and found.columns == ('q', 'n', 'p', 'image')
  assert [found[i]['n'] for i in (5, 0, 3)] == [3, 1, 1]
  assert found[1]['image'] == {'bytes': b'x', 'path': None}
  assert isinstance(found[2]['p'], values.Single) and found[2]['p'] == 0.3
  assert found.where(5) == f'{tmp_path}/b.arrow, row 2'
  assert readers.open_reader('arrow', tmp_path, ('image', 'p'))[0] == {
      'q': 'a', 'n': 1}
  with pytest.raises(ValueError, match='a.arrow, row 0: .* bytes unpacked'):
    _ = readers.open_reader('arrow', tmp_path, most=8)[0]


def test_what_is_no_arrow_is_refused(tmp_path):
  (tmp_path / 'a.arrow').write_bytes(b'not arrow')
  with pytest.raises(ValueError, match='a.arrow: no Arrow file'):
    readers.open_reader('arrow', tmp_path)
