"""A workdir as a record: errors by name, torn lines said, samples spread."""

import json

import pytest

from tests import workdirs
from zppo_jax.report import reading


def test_a_complete_run_is_read_whole(tmp_path):
  run = reading.read(workdirs.make(tmp_path / 'a', steps=20), max_samples=100)
  assert (run.name, run.method, run.seed, run.complete) == (
      'a', 'zppo', 0, True)
  assert len(run.metrics) == 20 and run.splits == ('hard', 'easy')
  assert len(run.samples) == run.samples_total == 16
  assert len(run.departures) == 60 and run.notes == ()


def test_torn_last_line_of_an_unfinished_run_is_left_out_and_said(tmp_path):
  run = reading.read(workdirs.make(tmp_path / 'a', unfinished=True))
  assert not run.complete and len(run.metrics) == 10
  assert run.notes[0] == 'Unfinished: 10 of 20 steps are recorded.'
  assert 'metrics.jsonl (11) is torn' in run.notes[1]


def test_torn_line_of_a_complete_run_is_an_error(tmp_path):
  path = workdirs.make(tmp_path / 'a')
  with open(path / 'metrics.jsonl', 'a') as f:
    f.write('{"step": 20, "acc')
  with pytest.raises(ValueError, match='metrics.jsonl, line 21 is not JSON'):
    reading.read(path)


def test_damage_in_the_middle_is_an_error_also_in_an_unfinished_run(tmp_path):
  path = workdirs.make(tmp_path / 'a', unfinished=True)
  rows = (path / 'eval.jsonl').read_text().splitlines()
  (path / 'eval.jsonl').write_text('\n'.join([rows[0], '{"st', *rows[1:]]))
  with pytest.raises(ValueError, match='eval.jsonl, line 2 is not JSON'):
    reading.read(path)


def test_a_run_that_has_just_begun(tmp_path):
  """config.json alone."""
  path = workdirs.make(tmp_path / 'a')
  for file in path.iterdir():
    if file.name != 'config.json':
      file.unlink()
  run = reading.read(path, max_samples=5)
  assert run.metrics == run.evals == run.samples == ()
  assert 'metrics.jsonl has no step.' in run.notes


def test_folders_that_are_no_workdir_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='nowhere is not a directory'):
    reading.read(tmp_path / 'nowhere')
  (tmp_path / 'notes.txt').write_text('')
  with pytest.raises(FileNotFoundError, match=r'no config.json.*notes.txt'):
    reading.read(tmp_path)
  (tmp_path / 'config.json').write_text('{"config": {')
  with pytest.raises(ValueError, match='config.json is not readable JSON'):
    reading.read(tmp_path)
  (tmp_path / 'config.json').write_text(json.dumps(
      {'config': {'role': 'student'}, 'versions': {}, 'git_revision': ''}))
  with pytest.raises(ValueError, match="no 'method'"):
    reading.read(tmp_path)


def test_an_evaluation_is_no_training_run(tmp_path):
  path = workdirs.make(tmp_path / 'a')
  (path / 'summary.json').write_text('{"splits": {}}')
  with pytest.raises(ValueError, match='zppo eval'):
    reading.read(path)


def test_runs_of_one_name_get_their_parent_in_front(tmp_path):
  paths = [workdirs.make(tmp_path / p / 'run') for p in ('x', 'y')]
  assert [r.name for r in reading.read_all(paths)] == ['x/run', 'y/run']
  with pytest.raises(ValueError, match='given twice'):
    reading.read_all([paths[0], paths[0]])


def test_picks_are_even_over_steps():
  """Steps 0 to 9 with 1, 2, ..., 10 rows: 20 rows are two of each, but for
  step 0 that has one and one step that takes its place."""
  steps = [s for s in range(10) for _ in range(s + 1)]
  picked = [steps[i] for i in reading.pick_evenly(steps, 20)]
  counts = [picked.count(s) for s in range(10)]
  assert sum(counts) == 20 and counts[0] == 1
  assert sorted(counts[1:]) == [2] * 8 + [3]


def test_fewer_picks_than_steps_span_the_run():
  picked = reading.pick_evenly(list(range(100)), 5)
  assert picked == [0, 24, 49, 74, 99]
  assert reading.pick_evenly([0, 1], 0) == []
  assert reading.pick_evenly([0, 0, 1], 3) == [0, 1, 2]


def test_long_texts_keep_both_ends_and_say_what_is_gone():
  found = reading.shorten({'a': ['b' * 50 + 'c' * 50]}, limit=10)['a'][0]
  assert found.startswith('bbbbb\n') and found.endswith('\nccccc')
  assert '90 characters left out' in found


def test_the_size_of_a_page_is_bounded(tmp_path):
  """A budget of a tenth of the samples' size keeps about a tenth."""
  path = workdirs.make(tmp_path / 'a', samples_every=1, samples_of_step=5)
  size = (path / 'samples.jsonl').stat().st_size
  run = reading.read(path, max_samples=100, samples_budget=size // 10)
  assert run.samples_total == 100
  assert 8 <= len(run.samples) <= 12
