"""The embedded world written to and read from array_record files."""

import subprocess
import sys
import textwrap
import time

import pytest
import tensorflow_datasets as tfds

from zppo_jax.tasks import micro, micro_tfds

SMALL = micro_tfds.MicroConfig(pool_size=20, hard_share=0.25, eval_size=8)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp('tfds')
  begun = time.perf_counter()
  micro_tfds.prepare(path)
  micro_tfds.read(path, 'train')
  # 0.7 s alone on a core; the bound only catches a change of kind.
  assert time.perf_counter() - begun < 30
  return path


def test_train_is_the_pool_in_its_order(data_dir):
  assert micro_tfds.read(data_dir, 'train') == micro.pool(800, 0.5)


@pytest.mark.parametrize('split', micro.EVAL_SPLITS)
def test_splits_are_the_evaluation_in_its_order(data_dir, split):
  assert micro_tfds.read(data_dir, split) == micro.evaluation(split, 192)


def test_knobs_have_data_of_their_own(data_dir):
  micro_tfds.prepare(data_dir, SMALL)
  micro_tfds.prepare(data_dir, SMALL)  # nothing is written twice
  assert micro_tfds.read(data_dir, 'train', SMALL) == micro.pool(20, 0.25)
  assert micro_tfds.read(data_dir, 'hard_composed', SMALL) == (
      micro.evaluation('hard_composed', 8))
  assert len(micro_tfds.read(data_dir, 'train')) == 800


def test_every_knob_changes_the_name():
  names = {micro_tfds.MicroConfig(**knob).name for knob in (
      {}, {'pool_size': 801}, {'hard_share': 0.25}, {'num_steps': 2},
      {'eval_size': 8})}
  assert len(names) == 5
  assert micro_tfds.MicroConfig(hard_share=1).name == (
      micro_tfds.MicroConfig(hard_share=1.0).name)


def test_tfds_knows_the_builder_by_name(data_dir):
  source = tfds.data_source('zppo_micro', split='easy', data_dir=data_dir)
  row, first = source[0], micro.evaluation('easy', 1)[0]
  assert {k: v.decode() for k, v in row.items()} == {
      'id': first.id, 'text': first.text, 'answer': first.answer,
      'split': 'easy'}


def test_unknown_split_lists_the_known(data_dir):
  with pytest.raises(KeyError, match=r"'test'; known: train, hard, easy"):
    micro_tfds.read(data_dir, 'test')


def test_unprepared_data_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='pool20_hard0.25_steps3_eval8'):
    micro_tfds.read(tmp_path, 'train', SMALL)


def test_impossible_knobs_leave_nothing_behind(tmp_path):
  config = micro_tfds.MicroConfig(pool_size=10**6)
  with pytest.raises(ValueError, match='500000 hard questions'):
    micro_tfds.prepare(tmp_path, config)
  with pytest.raises(FileNotFoundError):
    micro_tfds.read(tmp_path, 'train', config)


def test_tensorflow_is_not_imported(tmp_path):
  # A stand-in is found where the real one is not installed; it ends whoever
  # imports it, also inside `try: ... except ImportError`.
  trap = tmp_path / 'site' / 'tensorflow'
  trap.mkdir(parents=True)
  (trap / '__init__.py').write_text("raise SystemExit('imported tensorflow')")
  code = f'''
      import importlib.util, sys
      sys.path.insert(0, {str(trap.parent)!r})
      assert importlib.util.find_spec('tensorflow').origin.startswith(
          sys.path[0])
      from zppo_jax.data import readers
      from zppo_jax.tasks import micro_tfds
      config = micro_tfds.MicroConfig(pool_size=20, eval_size=8)
      micro_tfds.prepare({str(tmp_path)!r}, config)
      assert len(micro_tfds.read({str(tmp_path)!r}, 'train', config)) == 20
      folder = {str(tmp_path)!r} + f'/zppo_micro/{{config.name}}/1.0.0'
      rows = readers.open_reader('tfds', folder + ':train')
      assert len(rows) == 20 and rows[3]['text']
      assert 'tensorflow' not in sys.modules
  '''
  done = subprocess.run([sys.executable, '-c', textwrap.dedent(code)],
                        capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr[-2000:]
