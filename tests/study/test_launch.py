"""Pairing, selection rule, and resumption of studies."""

import json
import pathlib
import types

import pytest
from ml_collections import ConfigDict

from zppo_jax.study import launch


def record(arm, rate, seed, final):
  summary = {
      'eval': {'hard': {'base': 0.0, 'final': final}}, 'student_rollouts': 8,
      'tokens': {'student_prompt': 3, 'student_generated': 6,
                 'teacher_generated': 0}, 'wall_s': 1.0, 'steps': 3,
      'graduation_by_entry_accuracy': {'0': {'admitted': 2, 'graduated': 1}}}
  return {'arm': arm, 'rate': rate, 'seed': seed, 'summary': summary,
          'curve': []}


def small_study():
  c = ConfigDict()
  c.title, c.base = 'T', 'configs/micro.py'
  c.arms = ConfigDict({'a': (('method', 'zppo'),), 'b': (('method', 'grpo'),)})
  c.common = (('steps', 3),)
  c.rates, c.development_seeds, c.seeds = (1e-4, 2e-4), (0,), (100, 101)
  c.endpoint, c.splits = 'hard', ('hard',)
  c.contrasts = (('a', 'b'),)
  return c


def test_contrast_pairs_by_seed():
  """Unpaired seeds are left out; differences are first minus second."""
  records = [record('a', 1, 5, 0.5), record('b', 1, 5, 0.25),
             record('a', 1, 6, 0.75), record('b', 1, 6, 0.25),
             record('a', 1, 7, 1.0)]
  found = launch.contrast(records, 'a', 'b', 'hard')
  assert found['seeds'] == [5, 6]
  assert found['differences'] == [0.25, 0.5]


def test_rate_rule_takes_the_mean_and_the_lower_of_ties():
  records = [record('a', 1e-4, 0, 0.5), record('a', 1e-4, 1, 0.7),
             record('a', 2e-4, 0, 0.7), record('a', 2e-4, 1, 0.5),
             record('a', 4e-4, 0, 0.1), record('a', 4e-4, 1, 0.9),
             record('b', 1e-4, 0, 0.1), record('b', 2e-4, 0, 0.2)]
  assert launch.choose_rates(records, 'hard') == {'a': 1e-4, 'b': 2e-4}


def test_jobs_are_commands_with_all_overrides(tmp_path):
  job = launch.jobs(small_study(), {'a': (1e-4,), 'b': (2e-4,)}, (7,))[0]
  line = ' '.join(launch.command(job, 'configs/micro.py', tmp_path))
  assert job.name == 'a-lr0.0001-seed7'
  for piece in ('--config=configs/micro.py', '--config.seed=7',
                '--config.optimizer.learning_rate=0.0001',
                '--config.steps=3', '--config.method=zppo'):
    assert piece in line


def fake_train(calls, final=0.5):
  """Stands for the subprocess: writes what a run leaves."""
  def run(line, **_):
    flags = dict(a[2:].split('=', 1) for a in line if a.startswith('--'))
    home = flags['workdir']
    calls.append(home)
    pathlib.Path(home).mkdir(parents=True, exist_ok=True)
    made = record('x', 0, 0, final)['summary']
    (pathlib.Path(home) / 'eval.jsonl').write_text(
        json.dumps({'step': 0, 'hard': 0.0}) + '\n')
    (pathlib.Path(home) / 'metrics.jsonl').write_text(
        json.dumps({'step': 0, 'time/rollouts': 0.5, 'time/update': 1}) + '\n')
    (pathlib.Path(home) / 'summary.json').write_text(json.dumps(made))
    return types.SimpleNamespace(returncode=0)
  return run


def test_study_resumes_without_running_twice(tmp_path, monkeypatch):
  """2 arms x 2 rates x 1 seed, then 2 arms x 2 seeds; then nothing."""
  calls = []
  monkeypatch.setattr(launch.subprocess, 'run', fake_train(calls))
  # git is asked through the same subprocess module
  monkeypatch.setattr(launch.workdir, 'git_revision', lambda: 'unknown')
  launch.main(small_study(), tmp_path, None)
  assert len(calls) == 8
  results = json.loads((tmp_path / 'results.json').read_text())
  assert results['rates'] == {'a': 1e-4, 'b': 1e-4}
  assert len(results['reported']) == 4
  table = (tmp_path / 'table.md').read_text()
  assert 'a - b' in table
  assert '| a | 1.500 | 3 | 2 | 0 |' in table  # seconds, and a third of 8, 6, 0
  launch.main(small_study(), tmp_path, None)
  assert len(calls) == 8


def test_the_endpoint_is_the_studys_own(tmp_path, monkeypatch):
  """A base of another task has no split called hard."""
  def run(line, **more):
    fake_train([])(line, **more)
    (home,) = (a.split('=', 1)[1] for a in line if a.startswith('--workdir='))
    made = record('x', 0, 0, 0.5)['summary']
    made['eval'] = {'mine': made['eval']['hard']}
    (pathlib.Path(home) / 'summary.json').write_text(json.dumps(made))
    (pathlib.Path(home) / 'eval.jsonl').write_text(
        json.dumps({'step': 0, 'mine': 0.0}) + '\n')
    return types.SimpleNamespace(returncode=0)
  monkeypatch.setattr(launch.subprocess, 'run', run)
  monkeypatch.setattr(launch.workdir, 'git_revision', lambda: 'unknown')
  study = small_study()
  study.endpoint, study.splits = 'mine', ('mine',)
  launch.main(study, tmp_path, None)
  assert (tmp_path / 'table.md').is_file()


def test_a_complete_run_of_other_fields_is_no_result(tmp_path, monkeypatch):
  """Its name holds arm, rate and seed alone; the study's file had another
  field since, and the old run was taken in silence."""
  calls = []
  monkeypatch.setattr(launch.subprocess, 'run', fake_train(calls))
  job = launch.jobs(small_study(), {'a': (1e-4,), 'b': (1e-4,)}, (7,))[0]
  launch.run_job(job, 'configs/micro.py', tmp_path, None)
  path = tmp_path / 'runs' / job.name / 'config.json'
  held = {'seed': 7, 'steps': 3, 'method': 'zppo',
          'optimizer': {'learning_rate': 1e-4}}
  path.write_text(json.dumps({'config': held, 'forked_from': None}))
  launch.run_job(job, 'configs/micro.py', tmp_path, None)
  path.write_text(json.dumps({'config': {**held, 'steps': 2},
                              'forked_from': None}))
  with pytest.raises(ValueError, match='with steps = 2; the study now says 3'):
    launch.run_job(job, 'configs/micro.py', tmp_path, None)
  assert len(calls) == 1


def test_incomplete_runs_go_on(tmp_path, monkeypatch):
  """A directory without a summary was killed: the same command resumes it."""
  calls = []
  monkeypatch.setattr(launch.subprocess, 'run', fake_train(calls))
  job = launch.jobs(small_study(), {'a': (1e-4,), 'b': (1e-4,)}, (7,))[0]
  (tmp_path / 'runs' / job.name).mkdir(parents=True)
  (tmp_path / 'runs' / job.name / 'metrics.jsonl').write_text('{}\n')
  launch.run_job(job, 'configs/micro.py', tmp_path, None)
  assert len(calls) == 1
  assert (tmp_path / 'runs' / job.name / 'metrics.jsonl').exists()


def test_failed_run_stops_the_study_and_names_its_log(tmp_path, monkeypatch):
  monkeypatch.setattr(launch.subprocess, 'run',
                      lambda *a, **k: types.SimpleNamespace(returncode=1))
  job = launch.jobs(small_study(), {'a': (1e-4,), 'b': (1e-4,)}, (7,))[0]
  with pytest.raises(RuntimeError, match='a-lr0.0001-seed7'):
    launch.run_job(job, 'configs/micro.py', tmp_path, None)
