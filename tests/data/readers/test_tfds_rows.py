"""What a TFDS builder's features become, against the same JSON lines."""

import io
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from zppo_jax.chat.conversation import Message
from zppo_jax.data import conversations, pool, readers

tfds = pytest.importorskip('tensorflow_datasets')
ROWS = 20


def png(shade: int) -> io.BytesIO:
  out = io.BytesIO()
  Image.new('L', (4, 5), shade).save(out, 'PNG')
  out.seek(0)
  return out


def row(i: int) -> dict:
  """Row i, without its images."""
  return {'q': f'q{i}', 'work': [f'w{j}' for j in range(i % 3)],
          'chat': [{'role': 'user', 'content': f'c{i}'}],
          'reward': {'gold': '7', 'share': 0.3}, 'rate': (i % 10) / 10,
          'rates': [0.1, 0.2], 'number': 2**60 + i, 'right': True}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A prepared builder of 20 rows in `train` and 20 in `test`."""
  home = tmp_path_factory.mktemp('tfds')
  f = tfds.features

  class Kinds(tfds.core.GeneratorBasedBuilder):
    """Texts, numbers and images, alone and in sequences."""
    VERSION = tfds.core.Version('1.0.0')
    pkg_dir_path = pathlib.Path(home)

    def _info(self):
      return tfds.core.DatasetInfo(
          builder=self, disable_shuffling=True, features=f.FeaturesDict({
              'q': f.Text(), 'work': f.Sequence(f.Text()),
              'chat': f.Sequence({'role': f.Text(), 'content': f.Text()}),
              'reward': {'gold': f.Text(), 'share': np.float64},
              'rate': np.float64, 'rates': f.Sequence(np.float64),
              'number': np.int64, 'right': np.bool_, 'image': f.Image(),
              'images': f.Sequence(f.Image())}))

    def _split_generators(self, dl_manager):
      del dl_manager
      return {name: self._generate_examples() for name in ('train', 'test')}

    def _generate_examples(self):
      for i in range(ROWS):
        yield i, {**row(i), 'image': png(i),
                  'images': [png(i + j) for j in range(i % 3)]}

  Kinds(data_dir=str(home), file_format='array_record').download_and_prepare()
  return home / 'kinds' / '1.0.0'


def test_rows_are_what_json_lines_hold(folder):
  """fault C6: sequences came as bytes and a dict of lists, 0.3 as
  0.30000001192092896."""
  found = readers.open_reader('tfds', f'{folder}:train')
  assert len(found) == ROWS
  for i in (0, 3, 5):
    made = found[i]
    assert {name: made[name] for name in row(i)} == row(i)
    assert json.loads(json.dumps(made['rate'])) == (i % 10) / 10
    assert made['image'] == png(i).getvalue()
    assert made['images'] == [png(i + j).getvalue() for j in range(i % 3)]


def spec(form, path, **fields):
  return {'mine': dict(
      format=form, path=str(path), kind='text', columns=dict(
          text='chat', answer='reward.gold', responses='work',
          pass_rate='rate', id='q'), **fields)}


@pytest.mark.parametrize('most', [0.0, 0.1, 0.3, 0.6, 0.7, 1.0])
def test_a_pool_is_that_of_the_same_json_lines(folder, tmp_path, most):
  """fault C6: the filter pass_rate=0.3 dropped rows of 0.3."""
  (tmp_path / 'a.jsonl').write_text(
      ''.join(json.dumps(row(i)) + '\n' for i in range(ROWS)))
  want = pool.open_pool(spec('jsonl', tmp_path / 'a.jsonl'),
                        {'pass_rate': most})
  found = pool.open_pool(spec('tfds', f'{folder}:train'),
                         {'pass_rate': most})
  assert list(found) == list(want) and len(found) == min(
      2 + round(20 * most), ROWS)
  assert found[1].responses == ('w0',) or most == 0.0


def test_numbers_and_images_reach_the_question(folder):
  """fault C6"""
  of = spec('tfds', f'{folder}:train', images='images,image')
  of['mine']['columns'] = dict(text='q', answer='reward.share')
  found = pool.open_pool(of, {})
  assert found[2].answer == '0.3' and len(found[2].media) == 3
  of['mine']['columns'] = dict(text='q', answer='right')
  with pytest.raises(ValueError, match='train, row 0: .*answer is bool True'):
    pool.open_pool(of, {})


@pytest.mark.parametrize(('split', 'first', 'count'), [
    ('train[:50%]', 'q0', 10), ('train[50%:]', 'q10', 10),
    ('train[10:20]', 'q10', 10), ('train[5:]', 'q5', 15),
    ('train[-3:]', 'q17', 3), ('train+test', 'q0', 40),
    ('train[18:]+test[:1]', 'q18', 3)])
def test_splits_are_sliced_and_added(folder, split, first, count):
  """fault C6: they were cut at their last colon."""
  found = readers.open_reader('tfds', f'{folder}:{split}')
  assert len(found) == count and found[0]['q'] == first
  assert found.where(1) == f'{folder}:{split}, row 1'


@pytest.mark.parametrize(('split', 'error', 'match'), [
    ('dev', KeyError, "unknown split of .*'dev'; known: train, test"),
    ('train+dev[:5]', KeyError, "unknown split of .*'dev'; known"),
    ('train[:x', ValueError, r"the split 'train\[:x' cannot be read"),
    ('train[50:90]', ValueError, r"the split 'train\[50:90\]' cannot be read"),
    ('train[:200%]', ValueError, 'cannot be read'),
    ('train[:0]', ValueError, 'cannot be read'),
    ('', ValueError, 'FOLDER:SPLIT')])
def test_splits_that_are_none_are_named(folder, split, error, match):
  """fault C6: the message blamed the folder."""
  with pytest.raises(error, match=match):
    readers.open_reader('tfds', f'{folder}:{split}')


def test_a_folder_with_a_colon_in_a_parents_name(folder, tmp_path):
  other = tmp_path / 'a:b' / 'kinds'
  other.parent.mkdir()
  other.symlink_to(folder.parent)
  assert len(readers.open_reader('tfds', f'{other}/1.0.0:train[:2]')) == 2


def test_a_record_is_bounded(folder):
  """fault C5"""
  found = readers.open_reader('tfds', f'{folder}:train', most=20)
  with pytest.raises(ValueError, match='train, row 0: [0-9]+ bytes unpacked; '
                     'data.pool.max_bytes allows 20'):
    found[0]


def test_a_broken_description_names_the_folder(tmp_path):
  """fault C5"""
  (tmp_path / 'dataset_info.json').write_text('{"name": ')
  with pytest.raises(ValueError, match=f'{tmp_path}: no TFDS builder that can'):
    readers.open_reader('tfds', f'{tmp_path}:train')
  with pytest.raises(ValueError, match='dataset_info.json lists no splits: J'):
    readers.open_reader('tfds', str(tmp_path))


def test_a_builder_without_a_split_names_its_splits(folder):
  with pytest.raises(ValueError, match=(
      'it is FOLDER:SPLIT; it holds the splits train')):
    readers.open_reader('tfds', str(folder))


def test_conversations_of_a_builder(folder):
  """Those of `zppo sft`: texts and chats, by dotted names."""
  of = conversations.LessonSource(conversations.spec('s', dict(
      format='tfds', path=f'{folder}:train',
      columns=dict(prompt='chat', answer='reward.gold', system='q'))))
  assert len(of) == ROWS
  assert [x.messages for x in of.lessons(3)] == [(
      Message('system', ('q3',)), Message('user', ('c3',)),
      Message('assistant', ('7',)))]
