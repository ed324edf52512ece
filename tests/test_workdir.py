"""What a run leaves on disk."""

import json
import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.builders import question
from zppo_jax import weights, workdir
from zppo_jax.replay import Entry, Settlement
from zppo_jax.workdir import PACKAGES, History, Workdir

CONFIG = ConfigDict(dict(seed=3, shapes=dict(buckets=(8, 24))))
PARAMS = {'embed': np.arange(6, dtype=np.float32).reshape(2, 3)}


def entries(**accuracies):
  return tuple(Entry(question(q), 0, a) for q, a in accuracies.items())


def row(**tokens):
  return {'student_rollouts': 16, 'loss': 0.5,
          **{f'tokens/{k}': v for k, v in tokens.items()}}


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_create_makes_the_directory_and_writes_the_config(tmp_path):
  made = Workdir.create(tmp_path / 'deep' / 'run', CONFIG)
  written = json.loads((made.path / 'config.json').read_text())
  assert written['config'] == {'seed': 3, 'shapes': {'buckets': [8, 24]}}
  assert set(written['versions']) == set(PACKAGES)
  assert written['versions']['numpy'] == np.__version__
  assert [p.name for p in made.path.iterdir()] == ['config.json']


def test_an_empty_directory_may_be_used(tmp_path):
  assert Workdir.create(tmp_path, CONFIG).path == tmp_path


def test_a_used_directory_is_never_overwritten(tmp_path):
  Workdir.create(tmp_path / 'run', CONFIG)
  before = (tmp_path / 'run' / 'config.json').read_bytes()
  with pytest.raises(FileExistsError, match='not empty'):
    Workdir.create(tmp_path / 'run', ConfigDict(dict(seed=4)))
  assert (tmp_path / 'run' / 'config.json').read_bytes() == before


def test_a_directory_with_any_file_is_never_used(tmp_path):
  (tmp_path / '.notes').write_text('mine')
  with pytest.raises(FileExistsError):
    Workdir.create(tmp_path, CONFIG)
  assert [p.name for p in tmp_path.iterdir()] == ['.notes']


def test_a_file_is_no_directory(tmp_path):
  (tmp_path / 'run').write_text('mine')
  with pytest.raises(OSError):
    Workdir.create(tmp_path / 'run', CONFIG)
  assert (tmp_path / 'run').read_text() == 'mine'


def test_metrics_are_a_line_a_step_readable_at_once(tmp_path):
  out = Workdir.create(tmp_path, CONFIG)
  rows = [{'step': s, 'loss': 0.1 * s} for s in range(3)]
  for count, logged in enumerate(rows, 1):
    out.log_step(logged)
    assert lines(tmp_path / 'metrics.jsonl') == rows[:count]
  assert (tmp_path / 'metrics.jsonl').read_text().endswith('\n')


def test_evaluations_say_what_had_been_spent(tmp_path):
  out, history = Workdir.create(tmp_path, CONFIG), History()
  out.log_eval(0, {'hard': 0.0, 'easy': 1.0}, history)
  history.add(row(student_prompt=5, teacher_generated=7), None)
  history.add(row(student_prompt=1), None)
  out.log_eval(2, {'hard': 0.5, 'easy': 1.0}, history)
  assert lines(tmp_path / 'eval.jsonl') == [
      {'step': 0, 'student_rollouts': 0, 'tokens': 0, 'hard': 0.0,
       'easy': 1.0},
      {'step': 2, 'student_rollouts': 32, 'tokens': 13, 'hard': 0.5,
       'easy': 1.0}]


def test_the_summary_counts_graduation_by_accuracy_at_entry():
  history = History()
  history.add(row(), Settlement(
      admitted=entries(a=0.0, b=0.0, c=0.125), graduated=(), evicted=()))
  history.add(row(), Settlement(
      admitted=entries(d=0.0, e=0.375), graduated=entries(a=0.0, c=0.125),
      evicted=entries(b=0.0)))
  made = history.summary({}, {}, 2, 1.5)
  assert made['admitted'] == 5 and made['graduated'] == 2
  assert made['graduation_by_entry_accuracy'] == {
      '0': {'admitted': 3, 'graduated': 1},
      '0.125': {'admitted': 1, 'graduated': 1},
      '0.375': {'admitted': 1, 'graduated': 0}}
  assert list(made['graduation_by_entry_accuracy']) == ['0', '0.125', '0.375']


def test_the_summary_adds_up_rollouts_tokens_and_accuracy():
  history = History()
  history.add(row(student_prompt=5, teacher_prompt=2), None)
  history.add(row(student_prompt=3), None)
  made = history.summary({'hard': 0.0, 'easy': 1.0},
                         {'hard': 0.25, 'easy': 0.5}, 2, 1.5)
  assert made == {
      'steps': 2, 'wall_s': 1.5, 'student_rollouts': 32,
      'tokens': {'student_prompt': 8, 'teacher_prompt': 2},
      'eval': {'hard': {'base': 0.0, 'final': 0.25},
               'easy': {'base': 1.0, 'final': 0.5}},
      'graduated': 0, 'admitted': 0, 'graduation_by_entry_accuracy': {}}


def test_finish_writes_weights_and_summary(tmp_path):
  out = Workdir.create(tmp_path, CONFIG)
  out.finish({'steps': 2}, PARAMS, {'model': {'width': 3}})
  assert json.loads((tmp_path / 'summary.json').read_text()) == {'steps': 2}
  saved = tmp_path / 'final.safetensors'
  assert weights.description(saved) == {'model': {'width': 3}}
  np.testing.assert_array_equal(weights.load(saved, PARAMS)['embed'],
                                PARAMS['embed'])
  assert sorted(p.name for p in tmp_path.iterdir()) == [
      'config.json', 'final.safetensors', 'summary.json']


def test_the_summary_comes_last(tmp_path, monkeypatch):
  def full_disk(*_):
    raise OSError('disk full')
  monkeypatch.setattr(weights, 'save', full_disk)
  out = Workdir.create(tmp_path, CONFIG)
  with pytest.raises(OSError, match='disk full'):
    out.finish({'steps': 2}, PARAMS, {'model': {'width': 3}})
  assert not (tmp_path / 'summary.json').exists()


def test_revision_is_a_commit_or_unknown():
  """40 hex digits, '+' if changed; never an empty string."""
  assert re.fullmatch(r'[0-9a-f]{40}\+?|unknown', workdir.git_revision())
