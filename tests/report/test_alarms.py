"""Each alarm of a page, by a run that sets it off and one that does not."""

import json

import pytest

from tests import workdirs
from zppo_jax import report
from zppo_jax.report import alarms, reading
from zppo_jax.study import tables
from zppo_jax.train.watching import signs


def run_of(path, rows, **config):
  workdirs.make(path)
  workdirs.write_lines(path / 'metrics.jsonl', [
      {'step': i, **row} for i, row in enumerate(rows)])
  stored = json.loads((path / 'config.json').read_text())
  stored['config'].update(config)
  (path / 'config.json').write_text(json.dumps(stored))
  return reading.read(path)


FLOAT32 = {'student': {'dtype': 'float32', 'rollout_weights': 'same'}}
GAP = 'sampler_trainer/logp_gap_'


@pytest.mark.parametrize('rule, bad, good, words, config', [
    (signs.nothing_trained, [{'update/trained_tokens': x} for x in (0, 0, .3)],
     [{'update/trained_tokens': x} for x in (0, .1, .3)],
     '2 of 3 steps trained nothing', {}),
    (signs.truncated, [{'stop/length': .2}] + [{'stop/length': .6}] * 20,
     [{'stop/length': .9}] + [{'stop/length': .1}] * 20,
     '60% of the rollouts of the last 20 steps', {}),
    (signs.useless_teacher,
     [{'hard/asked': 4, 'teacher/answered': 0}] * 3,
     [{'hard/asked': 4, 'teacher/answered': x} for x in (0, 0, .25)],
     'right on none of the 12 questions', {}),
    (signs.copying, [{'probe/plain': .9, 'probe/bcq': .6}] * 6,
     [{'probe/plain': .9, 'probe/bcq': .1}]
     + [{'probe/plain': .9, 'probe/bcq': .8}] * 5,
     'solves alone with 0.90, the student solves 0.60', {}),
    (signs.gap, [{GAP + 'max': .02}], [{GAP + 'max': 1e-6}],
     'up to 0.02 nats (a token), more than 0.01', FLOAT32),
    (signs.gap, [{GAP + 'max': 3, GAP + 'mean': .2}],
     [{GAP + 'max': 3, GAP + 'mean': .02}],
     'up to 0.2 nats (the mean), more than 0.1',
     {'student': {'dtype': 'bfloat16'}})])
def test_an_alarm_by_hand(rule, bad, good, words, config, tmp_path):
  bad_run = run_of(tmp_path / 'bad', bad, **config)
  assert any(words in text for text in alarms.of_run(bad_run))
  flat = tables.flatten(bad_run.config)
  assert words in rule(bad, flat)
  assert rule(good, flat) == rule([{'other': 1}], flat) == ''


def test_alarms_stand_at_the_top_of_the_page(tmp_path):
  path = tmp_path / 'run'
  run_of(path, [{'stop/length': 1.0}] * 3)
  text = report.main([path]).read_text()
  note = 'the last 3 steps were cut'
  assert note in text
  assert text.index(note) < text.index('Before and after</h2>')
  assert alarms.of_run(reading.read(workdirs.make(tmp_path / 'fine'))) == []
