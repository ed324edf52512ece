"""fault F9: what was trained, by facts of config.json and attempts, and the
difference of the config and its base."""

import json

from tests import workdirs
from zppo_jax import configs
from zppo_jax.report import curves, origins, reading
from zppo_jax.runs import same_config


def run_of(path, attempts=(), **overrides):
  """A run whose config is configs/micro.py with overrides."""
  config = configs.load('micro')
  config.update_from_flattened_dict(overrides)
  workdirs.make(path)
  stored = json.loads((path / 'config.json').read_text())
  stored['config'] = same_config.config_values(config)
  (path / 'config.json').write_text(json.dumps(stored))
  for i, attempt in enumerate(attempts):
    folder = path / 'attempts' / f'{i:04d}'
    folder.mkdir(parents=True)
    (folder / 'attempt.json').write_text(json.dumps(attempt))
  return reading.read(path)


def test_facts_of_a_run(tmp_path):
  attempts = [
      {'started': '2026-01-01', 'config': {}, 'command': 'zppo train --config=a'
       ' --workdir=<b>', 'cores': 2, 'host': 'here',
       'devices': {'platform': 'tpu', 'kind': 'TPU v5p', 'count': 8}},
      {'started': '2026-01-02', 'config': {}, 'command': 'zppo train again'}]
  text = origins.facts([run_of(tmp_path / 'run', attempts[:1])])
  for words in ('micro/student', 'micro/teacher', '<dd>micro</dd>',
                '--workdir=&lt;b&gt;', '8 x TPU v5p (tpu), 2 cores, host here',
                'jax 0.10.2', '0.0002', '2026-01-01'):
    assert words in text, words
  assert 'Forked from' not in text  # nothing is shown without a value
  both = origins.facts([run_of(tmp_path / 'two', attempts),
                        run_of(tmp_path / 'x', **{
                            'student.weights': 'other'})])
  assert '2 starts in all' in both and 'zppo train again' in both
  assert 'other, float32 <span class="soft">x</span>' in both


def test_the_config_is_compared_with_its_base(tmp_path):
  run = run_of(tmp_path / 'run', **{'algorithm.tau': 0.75})
  rows = {k: (was, now) for k, was, now in origins.differences(run)}
  assert rows['algorithm.tau'] == (0.5, 0.75)
  assert rows['student.weights'][1] == 'micro/student'
  assert 'method' not in rows and 'seed' not in rows  # those of the base
  text = origins.config_table(curves.group_runs([run]))
  assert f'{len(rows)} fields differ from' in text
  assert '<code>algorithm.tau</code></td><td>0.5</td><td>0.75' in text


def test_an_attempt_that_died_early_is_named(tmp_path):
  folder = workdirs.make(tmp_path / 'run') / 'attempts' / '0000'
  folder.mkdir(parents=True)
  (folder / 'attempt.json').write_text('{"star')
  run = reading.read(tmp_path / 'run')
  assert run.attempts == ()
  assert 'attempts/0000/attempt.json is not readable.' in run.notes


def test_the_best_step_and_an_early_stop_are_facts(tmp_path):
  path = workdirs.make(tmp_path / 'run')
  summary = json.loads((path / 'summary.json').read_text())
  summary |= {'best': {'metric': 'hard', 'step': 4, 'value': 0.123456},
              'stopped': {'why': 'no better <since>', 'section': {}}}
  (path / 'summary.json').write_text(json.dumps(summary))
  text = origins.facts([reading.read(path)])
  assert 'metric hard, step 4, value 0.1235' in text
  assert 'no better &lt;since&gt;' in text


def test_a_run_without_attempts_has_facts(tmp_path):
  run = reading.read(workdirs.make(tmp_path / 'run'))
  assert 'Command' not in origins.facts([run])
