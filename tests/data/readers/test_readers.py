"""Rows of jsonl, parquet and TFDS files by number."""

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from zppo_jax.data import readers, values
from zppo_jax.data.readers import tfds_features
from zppo_jax.tasks import micro, micro_tfds


def lines(path, rows):
  path.write_text(''.join(f'{json.dumps(r)}\n' for r in rows))


def test_json_lines_of_a_folder_in_any_order(tmp_path):
  lines(tmp_path / 'b.jsonl', [{'q': 'three'}])
  (tmp_path / 'a.jsonl').write_text('{"q": "one"}\n\n{"q": "zwö"}\n')
  found = readers.open_reader('jsonl', tmp_path)
  assert [found[i]['q'] for i in (2, 0, 1)] == ['three', 'one', 'zwö']
  assert len(found) == 3 and found.columns == ('q',)
  assert found.where(1).endswith('a.jsonl, line 3')
  assert found.folder == tmp_path


def test_a_line_that_is_no_object_is_named(tmp_path):
  (tmp_path / 'a.jsonl').write_text('{"q": 1}\n{"q": \n[2]\n')
  found = readers.open_reader('jsonl', tmp_path / 'a.jsonl')
  with pytest.raises(ValueError, match=r'a.jsonl, line 2: no JSON'):
    found[1]
  with pytest.raises(ValueError, match='line 3: list, not an object'):
    found[2]


def test_parquet_rows_over_files_and_row_groups(tmp_path):
  for name, start in (('a', 0), ('b', 7)):
    parquet.write_table(pa.table({
        'n': list(range(start, start + 7)),
        'image': [{'bytes': b'x', 'path': None}] * 7}),
        tmp_path / f'{name}.parquet', row_group_size=3)
  found = readers.open_reader('parquet', tmp_path)
  assert len(found) == 14
  order = [13, 0, 6, 7, 2, 3, 9]
  assert [found[i]['n'] for i in order] == order
  assert found[4]['image'] == {'bytes': b'x', 'path': None}
  assert found.where(12).endswith('b.parquet, row 5')
  assert len(found._tables) <= 4  # row groups in memory
  words = readers.open_reader('parquet', tmp_path, ('image',))
  assert words[8] == {'n': 8} and words.columns == ('n', 'image')


IMAGE = pa.struct([('bytes', pa.binary()), ('path', pa.string())])
A, B = {'bytes': b'a' * 90, 'path': None}, {'bytes': None, 'path': 'b.png'}
NONE = {'bytes': None, 'path': None}


@pytest.mark.parametrize('form', ['parquet', 'arrow', 'jsonl', 'json'])
@pytest.mark.parametrize('kind, rows, counts', [
    (IMAGE, [A, None, B, A], [1, 0, 1, 1]),
    # A struct of nothing beside a null one: one of the fields has more nulls.
    (IMAGE, [A, None, NONE, B], [1, 0, 0, 1]),
    (IMAGE, [NONE, NONE], [0, 0]), (IMAGE, [None, None], [0, 0]),
    (pa.list_(IMAGE), [[A, B], [], None, [A], [None, B]], [2, 0, 0, 1, 1]),
    (pa.list_(IMAGE), [[A, NONE], [B]], [1, 1]),
    (pa.string(), ['x.png', '', None], [1, 0, 0]),
    (pa.binary(), [b'x', b'', None], [1, 0, 0]),  # texts in JSON
    (pa.list_(pa.string()), [['x.png', 'y.png'], [], None], [2, 0, 0])])
def test_what_rows_hold_is_counted_alike_in_all_forms(
    tmp_path, form, kind, rows, counts):
  text = json.dumps(rows, default=bytes.decode)
  if form == 'parquet':
    parquet.write_table(pa.table({'image': pa.array(rows, kind)}),
                        tmp_path / 'a.parquet')
  elif form == 'arrow':
    table = pa.table({'image': pa.array(rows, kind)})
    with pa.OSFile(str(tmp_path / 'a.arrow'), 'wb') as sink, pa.ipc.new_stream(
        sink, table.schema) as writer:
      writer.write_table(table)
  elif form == 'json':
    (tmp_path / 'a.json').write_text(json.dumps(
        [{'image': row} for row in json.loads(text)]))
  else:
    lines(tmp_path / 'a.jsonl', [{'image': row} for row in json.loads(text)])
  found = readers.open_reader(form, tmp_path, ('image',))
  whole = readers.open_reader(form, tmp_path)
  assert [values.held(row['image']) for row in whole] == counts
  if isinstance(found, readers.Counting):
    assert [found.held(i, ('image',)) for i in range(len(rows))] == counts
    assert found.held(0, ('image', 'none')) == counts[0]
  assert isinstance(found, readers.Counting) == (form in ('parquet', 'arrow'))


@pytest.mark.parametrize('rows, columns, options', [
    ([A, None, A], ['image.path'], {}),
    ([A, B, None], ['image.path', 'image'], {}),
    ([A, NONE, None], ['image.path', 'image'], {}),
    ([B, B, None], ['image.bytes'], {}),  # all null, so it is the smallest
    # Without counts of nulls in the file only the column itself tells.
    ([A, None, A], ['image.path', 'image'], {'write_statistics': False})])
def test_pictures_of_parquet_are_read_only_if_nothing_else_tells(
    tmp_path, monkeypatch, rows, columns, options):
  parquet.write_table(pa.table({'image': pa.array(rows, IMAGE)}),
                      tmp_path / 'a.parquet', **options)
  found, read = readers.open_reader('parquet', tmp_path), []
  unpacked = found._unpacked
  monkeypatch.setattr(found, '_unpacked', lambda at, names: (
      read.extend(names), unpacked(at, names))[1])
  assert [found.held(i, ['image']) for i in range(3)] == [
      values.held(row) for row in rows]
  assert read == columns


def test_parquet_files_may_differ_in_columns(tmp_path):
  """As the configs of a benchmark do; a row has its own file's columns."""
  parquet.write_table(pa.table({'n': [1], 'k': [2]}), tmp_path / 'a.parquet')
  parquet.write_table(pa.table({'m': [3], 'n': [4]}), tmp_path / 'b.parquet')
  found = readers.open_reader('parquet', tmp_path)
  assert found.columns == ('n', 'k', 'm')
  assert [found[i] for i in range(2)] == [{'n': 1, 'k': 2}, {'m': 3, 'n': 4}]
  words = readers.open_reader('parquet', tmp_path, ('n',))
  assert [words[i] for i in range(2)] == [{'k': 2}, {'m': 3}]


def test_parquet_with_two_columns_of_one_name(tmp_path):
  """A row held the last of them, in silence."""
  parquet.write_table(pa.Table.from_arrays(
      [pa.array(['x']), pa.array([1]), pa.array([2])], names=['q', 'a', 'a']),
      tmp_path / 'a.parquet')
  with pytest.raises(ValueError, match="more than one column 'a'"):
    readers.open_reader('parquet', tmp_path)


def test_numbers_of_16_bits_are_their_shortest_decimal(tmp_path):
  parquet.write_table(pa.table({
      'a': pa.array(np.float16([0.1, 0.3]), pa.float16())}),
      tmp_path / 'a.parquet')
  found = readers.open_reader('parquet', tmp_path)
  assert [str(found[i]['a']) for i in (0, 1)] == ['0.1', '0.3']
  assert values.at_most(found[1]['a'], 0.3)


def test_tfds_rows(tmp_path):
  config = micro_tfds.MicroConfig(pool_size=20, eval_size=8)
  micro_tfds.prepare(tmp_path, config)
  folder = tmp_path / 'zppo_micro' / config.name / '1.0.0'
  found = readers.open_reader('tfds', f'{folder}:train')
  want = micro.pool(20, 0.5)
  assert len(found) == 20
  assert found[3] == {'id': want[3].id, 'text': want[3].text,
                      'answer': want[3].answer, 'split': want[3].split}
  with pytest.raises(KeyError, match="split of .*'test'; known: train, hard"):
    readers.open_reader('tfds', f'{folder}:test')
  with pytest.raises(ValueError, match='FOLDER:SPLIT'):
    readers.open_reader('tfds', 'folder')


@pytest.mark.parametrize('form, place', [
    ('jsonl', 'gone'), ('parquet', 'gone/*.parquet'), ('arrow', 'gone'),
    ('json', 'gone.json'), ('csv', 'gone'), ('hf', 'gone:train'),
    ('tfds', 'gone:train')])
def test_a_relative_path_is_told_from_where(tmp_path, monkeypatch, form, place):
  """From the folder of the command, and not from that of the config."""
  monkeypatch.chdir(tmp_path)
  with pytest.raises(FileNotFoundError) as e:
    readers.open_reader(form, place)
  assert f'(looked for from {tmp_path})' in str(e.value)
  with pytest.raises(FileNotFoundError) as e:
    readers.open_reader(form, f'{tmp_path}/{place}')
  assert 'looked for' not in str(e.value)


def test_what_is_not_there_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'no .parquet file at'):
    readers.open_reader('parquet', tmp_path)
  with pytest.raises(FileNotFoundError, match='no prepared TFDS builder'):
    readers.open_reader('tfds', f'{tmp_path}:train')
  with pytest.raises(KeyError, match="'tsv'; known: jsonl, parquet, arrow"):
    readers.open_reader('tsv', tmp_path)


def _named(name):
  """Places of a class's name in features.json, new and legacy."""
  inner = {'pythonClassName': name}
  yield inner
  yield {'python_class_name': name}
  yield {'type': name, 'content': {}}
  yield {'pythonClassName': f'{tfds_features.OWN}features_dict.FeaturesDict',
         'featuresDict': {'features': {'text': inner}}}
  yield {'pythonClassName': f'{tfds_features.OWN}features_dict.FeaturesDict',
         'jsonFeature': {'json': json.dumps({'a': {'type': name}})}}


@pytest.mark.parametrize('place', range(5))
def test_a_prepared_folder_names_no_code(tmp_path, monkeypatch, place):
  """fault B7: tensorflow-datasets imports what features.json names."""
  (tmp_path / 'zppo_trap_tfds.py').write_text(
      f'open({str(tmp_path / "it_ran")!r}, "w").close()\n')
  monkeypatch.syspath_prepend(tmp_path)
  folder = tmp_path / 'made'
  folder.mkdir()
  (folder / 'dataset_info.json').write_text(json.dumps(
      {'name': 'made', 'version': '1.0.0', 'fileFormat': 'array_record'}))
  (folder / 'features.json').write_text(json.dumps(
      list(_named('zppo_trap_tfds.Feature'))[place]))
  with pytest.raises(ValueError, match=r"features\.json: .*'zppo_trap_tfds"):
    readers.open_reader('tfds', f'{folder}:train')
  assert not (tmp_path / 'it_ran').exists()
