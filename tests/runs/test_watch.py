"""Work in vain: said on the terminal, in log and summary, and stopped."""

import json

import numpy as np
import pytest

from tests.builders import json_rows, small_config
from tests.long import LONG
from zppo_jax import assets
from zppo_jax.runs import watch
from zppo_jax.runs.totals import History
from zppo_jax.runs.watch import Limits, Watch
from zppo_jax.train import build, guards, loop
from zppo_jax.weights import safetensors_file

pytestmark = pytest.mark.usefixtures('quick_compile')


def row(step, trained=0.0, asked=0, answered=0.0, norm=1.0, **more):
  return {'step': step, 'update/trained_tokens': trained,
          'update/grad_norm': norm, 'hard/asked': asked,
          'teacher/answered': answered, 'student_rollouts': 8, **more}


def test_idle_steps_are_told_at_powers_of_two_and_end_a_run():
  """fault D3: in a row; a step that trains starts the count anew."""
  found = Watch(Limits(5, 0.0, 10))
  said = [bool(found.see(row(i))) for i in range(4)]
  assert said == [False, True, False, True] and found.ended() is None
  found.see(row(4))
  assert found.ended() == ('5 steps in a row trained nothing, guard.max_idle '
                           'is 5')
  found.see(row(5, trained=0.1))
  assert found.idle_steps == 0 and found.ended() is None
  found.see(row(6, trained=0.1, norm=0.0))  # no gradient is idle too
  assert found.idle_steps == 1
  unlimited = Watch(Limits(0, 0.0, 10))
  for i in range(50):
    unlimited.see(row(i))
  assert unlimited.ended() is None


def test_why_a_step_was_idle():
  """fault D3: truncation is named, else the verdicts are."""
  found = Watch(Limits(5, 0.0, 10))
  found.see(row(0))
  assert 'algorithm.max_tokens' in found.see(row(1, **{'stop/length': 1.0}))[0]
  found.see(row(2))
  text, = found.see(row(3, **{'stop/length': 0.5, 'verdict/wrong': 1.0}))
  assert 'step 3 trained nothing, the 4. in a row' in text
  assert 'all right or all wrong (wrong 1)' in text


def test_a_teacher_that_is_never_right_is_told_once_a_window():
  """fault F7: over the steps that asked it; a floor ends the run."""
  found = Watch(Limits(5, 0.0, 2))
  said = [found.see(row(i, 1.0, asked)) for i, asked in enumerate(
      (3, 0, 4, 5, 6))]
  assert [len(s) for s in said] == [0, 0, 1, 0, 1]
  assert 'right on none of 7 questions in the last 2 steps' in said[2][0]
  assert found.ended() is None
  floor = Watch(Limits(5, 0.5, 2))
  floor.see(row(0, 1.0, 4, 0.25))
  assert floor.ended() is None  # no window yet
  floor.see(row(1, 1.0, 4, 0.5))
  assert floor.ended() == (
      'the teacher was right on 3 of 8 questions in the last 2 steps that '
      'asked it, less than teacher.min_answered = 0.5')
  floor.see(row(2, 1.0, 4, 0.5))
  assert floor.ended() is None


def test_totals_are_in_the_summary_where_there_are_any():
  """fault D3, fault F7: over all attempts; a checkpoint of before has none."""
  history = History()
  history.add(row(0, 1.0), None)
  old = history.dump()
  for name in ('idle_steps', 'visits'):
    del old[name]
  again = History.load(old)
  assert 'idle_steps' not in again.summary({}, {}, 1)
  again.add(row(1, asked=3, answered=1 / 3), None)
  again = History.load(json.loads(json.dumps(again.dump())))
  again.add(row(2, asked=2), None)
  made = again.summary({}, {}, 3)
  assert made['idle_steps'] == 2
  assert made['teacher_visits'] == {'asked': 5, 'answered': 1}
  assert watch.warnings(made) == [
      'warning: 2 of 3 steps trained nothing; log.txt says why']
  made['teacher_visits']['answered'] = 0
  assert watch.warnings(made)[1] == (
      'warning: the teacher was never right, on 5 questions')
  made['alarms'] = {'nothing_trained': 'said above', 'copying': 'They copy.',
                    'gap': 'They differ.'}
  assert watch.warnings(made)[2:] == [
      'warning: They copy.', 'warning: They differ.']


@pytest.mark.parametrize('section, name, value', [
    ('guard', 'max_idle', -1), ('teacher', 'min_answered', 1.5),
    ('teacher', 'min_answered', float('nan'))])
def test_impossible_limits_are_refused_by_name(section, name, value):
  """fault D3, fault F7"""
  config = small_config()
  config[section][name] = value
  with pytest.raises(ValueError, match=f'{section}.{name} is {value}'):
    build.build(config)


def all_truncated(**changes):
  """A run of which every rollout, the teacher's too, is cut at one token."""
  config = small_config(**changes)
  config.algorithm.update(max_tokens=1, teacher_max_tokens=1)
  config.probe.every = 0
  return config


@LONG
def test_a_run_of_truncated_rollouts_says_so_and_keeps_its_weights(
    tmp_path, capsys):
  """fault D3, fault F7: on the terminal, in log and summary; decay leaves
  the weights alone; the same run goes on when it is resumed."""
  summary = loop.main(all_truncated(steps=4), tmp_path)
  assert summary['idle_steps'] == 4
  assert summary['teacher_visits']['asked'] > 0
  assert summary['teacher_visits']['answered'] == 0
  assert set(summary['alarms']) == {
      'nothing_trained', 'truncated', 'useless_teacher'}
  shown = capsys.readouterr().out
  log = (tmp_path / 'attempts/0001/log.txt').read_text()
  for text in (shown, log):
    assert text.count('trained nothing, the 2. in a row: every rollout was '
                      'cut at algorithm.max_tokens') == 1
    assert '4 of 4 steps trained nothing' in text
    assert 'the teacher was never right' in text
    assert text.count('warning: 100% of the rollouts of the last 4 steps') == 1
  assert loop.main(all_truncated(steps=4), tmp_path) == summary
  run = build.build(all_truncated())
  before = safetensors_file.load(assets.find('micro/student'),
                        run.abstract_state.params)
  after = safetensors_file.load(tmp_path / 'final.safetensors',
                       run.abstract_state.params)
  for a, b in zip(before.values(), after.values(), strict=True):
    np.testing.assert_array_equal(*(
        np.concatenate([np.ravel(x) for x in _leaves(t)]) for t in (a, b)))


def _leaves(tree):
  return ([tree] if isinstance(tree, np.ndarray) else
          [x for value in tree.values() for x in _leaves(value)])


@pytest.mark.parametrize('fields, said', [
    (dict(guard=dict(max_idle=2)), 'stopped after step 1, which is saved: 2 '
     'steps in a row trained nothing'),
    (dict(teacher=dict(min_answered=0.1, window=2)), 'stopped after step 1, '
     'which is saved: the teacher was right on 0 of')])
def test_a_guard_stops_it_and_more_patience_goes_on(tmp_path, fields, said):
  """fault D3, fault F7: the step is saved; the guard may be loosened."""
  config = all_truncated(steps=4)
  for section, values in fields.items():
    config[section].update(values)
  with pytest.raises(guards.Idle, match=said):
    loop.main(config, tmp_path)
  assert not (tmp_path / 'summary.json').exists()
  assert loop.main(all_truncated(steps=4), tmp_path)['idle_steps'] == 4
  rows = json_rows(tmp_path / 'metrics.jsonl')
  assert [r['step'] for r in rows] == [0, 1, 2, 3]


def test_a_step_without_lessons_names_the_teacher_and_not_the_rollouts():
  """Those of the student were cut as well, which does not matter there."""
  at = {'update/trained_tokens': 0, 'stop/length': 1, 'distil/lessons': 0}
  assert 'the teacher had no right answer' in watch._cause(
      {**at, 'teacher/accuracy': 0.0})
  assert 'distil.keep' in watch._cause({**at, 'teacher/accuracy': 0.5})
  assert 'algorithm.max_tokens' in watch._cause({**at, 'distil/lessons': 2})
