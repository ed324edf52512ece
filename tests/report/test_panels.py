"""What the panels show: every name of distillation, and stages of runs."""

import fnmatch
import json
import re

import pytest

from tests import workdirs
from tests.builders import ROOT
from zppo_jax.report import curves, figures, page, panels, reading, stages


def test_every_name_of_distillation_has_a_panel():
  """Names of docs/metrics.md; capitals stand for any word."""
  lines = (ROOT / 'docs' / 'metrics.md').read_text().splitlines()
  names = [re.sub('[A-Z]+', 'x', name) for line in lines
           if line.startswith('| `')
           for name in re.findall(r'`([^` ]+)`', line.split('|')[1])
           if name.startswith(('distil/', 'context/', 'drawn/', 'drift/'))]
  assert len(names) > 40
  drawn = [pattern for panel in (*panels.TEACHER, *panels.BESIDE)
           for pattern in panel.names]
  assert [name for name in names if not any(
      fnmatch.fnmatchcase(name, pattern) for pattern in drawn)] == []


def stage(path, hard, easy, forked_from=None, **drift):
  """A run that ends at these accuracies."""
  workdirs.make(path, method='grpo')
  config = json.loads((path / 'config.json').read_text())
  config['forked_from'] = forked_from and {'path': str(forked_from), 'step': 20}
  (path / 'config.json').write_text(json.dumps(config))
  workdirs.write_lines(path / 'eval.jsonl', [
      {'step': step, 'student_rollouts': 0, 'tokens': 0, 'hard': share * hard,
       'easy': easy, **drift} for step, share in ((0, 0.5), (20, 1))])
  return path


@pytest.fixture
def three(tmp_path):
  """Three tasks one after the other; the last is forked from a checkpoint."""
  first = stage(tmp_path / 'first', .9, .2)
  second = stage(tmp_path / 'second', .5, .8, first)
  third = stage(tmp_path / 'third', .6, .9, second / 'checkpoints' / '20')
  return [reading.read(p) for p in (third, first, second)]


def test_stages_are_found_and_what_is_forgotten_by_hand(three, tmp_path):
  assert [[run.name for run in of] for of in reading.sequences(three)] == [
      ['first', 'second', 'third']]
  matrix, lost = stages.forgetting(three)
  assert matrix.title == 'Accuracy after each stage: first > second > third'
  of = lambda figure: [s['y'] for s in figure.views[0].series]
  assert of(matrix) == [[.9, .2], [.5, .8], [.6, .9]]
  assert of(lost) == [[pytest.approx(.3), 0]]
  assert 'Forgotten by the last stage' in page.render(three)
  alone = reading.read(stage(tmp_path / 'alone', .9, .2))
  gone = reading.read(stage(tmp_path / 'gone', .9, .2, tmp_path / 'nowhere'))
  assert stages.forgetting([alone, gone]) == []


def test_drift_and_rewards_are_drawn_and_no_splits(tmp_path):
  run = reading.read(stage(tmp_path / 'run', .9, .2, **{
      'drift/kl': .1, 'drift/changed_share': .5, 'reward/hard/near': .3,
      'reward/hard/total': .7}))
  assert run.splits == ('hard', 'easy')
  titles = [f.title for f in figures.beside(curves.group_runs([run]))]
  assert titles == ['Graded rewards of evaluations',
                    'Distance from student.weights', 'Changed parameters']
  assert figures.beside(curves.group_runs(
      [reading.read(stage(tmp_path / 'other', .9, .2))])) == []


def test_gain_per_accuracy_of_the_teacher_by_hand(tmp_path):
  """hard goes from .45 to .9 with a teacher of .5 and .7: .45 / .6; easy stays.
  A run without a teacher has no bar."""
  path = stage(tmp_path / 'run', .9, .2)
  workdirs.write_lines(path / 'metrics.jsonl', [
      {'step': i, 'context/accuracy': x} for i, x in enumerate((.5, .7))])
  runs = [reading.read(path), reading.read(stage(tmp_path / 'none', .9, .2))]
  figure, = stages.teaching(runs)
  assert figure.views[0].series == (
      {'label': 'run', 'style': 0, 'y': [pytest.approx(.75), 0]},)
  assert stages.teaching(runs[1:]) == []
