"""Folders of datasets.save_to_disk, in the form that datasets 5.2.0 writes."""

import json

import pyarrow as pa
import pytest

from zppo_jax.data import pool, readers


def write(folder, shards):
  """A Dataset of several shards, with a cache of `datasets` beside them."""
  folder.mkdir(parents=True)
  names = []
  for i, rows in enumerate(shards):
    names.append(f'data-{i:05d}-of-{len(shards):05d}.arrow')
    table = pa.table({'question': rows, 'answer': [r[1:] for r in rows]})
    for name in (names[-1], f'cache-{i}abc.arrow'):
      with pa.OSFile(str(folder / name), 'wb') as f, pa.ipc.new_stream(
          f, table.schema) as out:
        out.write_table(table)
  (folder / 'state.json').write_text(json.dumps({
      '_data_files': [{'filename': name} for name in names],
      '_fingerprint': 'e59a2a5d31f37b7f', '_format_type': None,
      '_split': None}))
  (folder / 'dataset_info.json').write_text('{}')
  return folder


@pytest.fixture
def splits(tmp_path):
  """A DatasetDict of two splits."""
  write(tmp_path / 'saved' / 'train', [['q2', 'q0'], ['q1']])
  write(tmp_path / 'saved' / 'test', [['q9']])
  (tmp_path / 'saved' / 'dataset_dict.json').write_text(
      '{"splits": ["train", "test"]}')
  return tmp_path / 'saved'


def questions(place):
  rows = readers.open_reader('hf', str(place))
  return [rows[i]['question'] for i in range(len(rows))]


def test_rows_come_in_the_saved_order_without_caches(splits):
  assert questions(f'{splits}:train') == ['q2', 'q0', 'q1']
  assert questions(splits / 'train') == ['q2', 'q0', 'q1']
  assert questions(f'{splits}:test') == ['q9']
  rows = readers.open_reader('hf', f'{splits}:train')
  assert rows.where(2).endswith('data-00001-of-00002.arrow, row 0')
  assert rows.folder == splits / 'train'


def test_a_pool_asks_them(splits):
  found = pool.open_pool({'mine': dict(
      format='hf', path=f'{splits}:train', kind='number',
      columns=dict(text='question', answer='answer'))}, {})
  assert [(q.text, q.answer) for q in found] == [
      ('q2', '2'), ('q0', '0'), ('q1', '1')]


@pytest.mark.parametrize('place, error', [
    ('', r'holds the splits train, test; name one: .*saved:train'),
    (':dev', 'unknown split of .*saved: .dev.; known: train, test'),
    ('/train:train', 'holds no splits'), ('/gone', 'no data set at'),
    ('/train/gone:x', 'no data set at')])
def test_places_that_hold_no_rows_are_refused(splits, place, error):
  with pytest.raises((ValueError, KeyError, FileNotFoundError), match=error):
    questions(f'{splits}{place}')


@pytest.mark.parametrize('state, error', [
    ('{', 'state.json is not readable: JSONDecodeError'),
    ('[]', 'state.json is not readable: TypeError'),
    ('{"_data_files": []}', 'names no files'),
    ('{"_data_files": [{"filename": "../a.arrow"}]}',
     "names the file '../a.arrow'; it must be a file of that folder"),
    ('{"_data_files": [{"filename": "gone.arrow"}]}', 'gone.arrow is gone'),
    ('{"_data_files": ["x"]}', 'names the file None'),
    ('{"_data_files": [], "_indices_data_files": [{}]}',
     r'flatten_indices\(\)')])
def test_states_that_cannot_be_followed_are_refused(splits, state, error):
  (splits / 'train' / 'state.json').write_text(state)
  with pytest.raises((ValueError, FileNotFoundError), match=error):
    questions(f'{splits}:train')
