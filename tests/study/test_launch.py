"""Pairing, selection rule, and resumption of studies."""

import json
import pathlib
import subprocess
import sys
import threading
import time

import pytest
from ml_collections import ConfigDict

from zppo_jax.runs import lock
from zppo_jax.study import jobs, launch, records, running
from zppo_jax.study.workers import Done, Workers

ROOT = pathlib.Path(__file__).parents[2]


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
  job = jobs.jobs(small_study(), {'a': (1e-4,), 'b': (2e-4,)}, (7,))[0]
  line = ' '.join(jobs.command(job, 'configs/micro.py', tmp_path))
  assert job.name == 'a-lr0.0001-seed7'
  for piece in ('--config=configs/micro.py', '--config.seed=7',
                '--config.optimizer.learning_rate=0.0001',
                '--config.steps=3', '--config.method=zppo'):
    assert piece in line


def place_of(home, **fields):
  return jobs.Place(**{'home': home, 'base': 'configs/micro.py',
                          'cores': (None,), **fields})


def fake_train(calls, final=0.5):
  """Stands for a worker: writes what a run leaves."""
  def run(self, line, log, core):
    del self, log, core
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
    return Done(0, 0.5)
  return run


def test_study_resumes_without_running_twice(tmp_path, monkeypatch):
  """2 arms x 2 rates x 1 seed, then 2 arms x 2 seeds; then nothing."""
  calls = []
  monkeypatch.setattr(Workers, 'run', fake_train(calls))
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
  def run(self, line, log, core):
    fake_train([])(self, line, log, core)
    (home,) = (a.split('=', 1)[1] for a in line if a.startswith('--workdir='))
    made = record('x', 0, 0, 0.5)['summary']
    made['eval'] = {'mine': made['eval']['hard']}
    (pathlib.Path(home) / 'summary.json').write_text(json.dumps(made))
    (pathlib.Path(home) / 'eval.jsonl').write_text(
        json.dumps({'step': 0, 'mine': 0.0}) + '\n')
    return Done(0, 0.5)
  monkeypatch.setattr(Workers, 'run', run)
  monkeypatch.setattr(launch.workdir, 'git_revision', lambda: 'unknown')
  study = small_study()
  study.endpoint, study.splits = 'mine', ('mine',)
  launch.main(study, tmp_path, None)
  assert (tmp_path / 'table.md').is_file()


def test_a_complete_run_of_other_fields_is_no_result(tmp_path, monkeypatch):
  """Its name holds arm, rate and seed alone; the study's file had another
  field since, and the old run was taken in silence."""
  calls = []
  monkeypatch.setattr(Workers, 'run', fake_train(calls))
  job = jobs.jobs(small_study(), {'a': (1e-4,), 'b': (1e-4,)}, (7,))[0]
  running.run_job(job, place_of(tmp_path), None)
  path = tmp_path / 'runs' / job.name / 'config.json'
  held = {'seed': 7, 'steps': 3, 'method': 'zppo',
          'optimizer': {'learning_rate': 1e-4}}
  path.write_text(json.dumps({'config': held, 'forked_from': None}))
  running.run_job(job, place_of(tmp_path), None)
  path.write_text(json.dumps({'config': {**held, 'steps': 2},
                              'forked_from': None}))
  with pytest.raises(ValueError, match='with steps = 2; the study now says 3'):
    running.run_job(job, place_of(tmp_path), None)
  assert len(calls) == 1


def test_incomplete_runs_go_on(tmp_path, monkeypatch):
  """A directory without a summary was killed: the same command resumes it."""
  calls = []
  monkeypatch.setattr(Workers, 'run', fake_train(calls))
  job = jobs.jobs(small_study(), {'a': (1e-4,), 'b': (1e-4,)}, (7,))[0]
  (tmp_path / 'runs' / job.name).mkdir(parents=True)
  (tmp_path / 'runs' / job.name / 'metrics.jsonl').write_text('{}\n')
  running.run_job(job, place_of(tmp_path), None)
  assert len(calls) == 1
  assert (tmp_path / 'runs' / job.name / 'metrics.jsonl').exists()


def test_failed_run_stops_the_study_and_names_its_log(tmp_path, monkeypatch):
  monkeypatch.setattr(Workers, 'run', lambda *_: Done(1, 0.5))
  job = jobs.jobs(small_study(), {'a': (1e-4,), 'b': (1e-4,)}, (7,))[0]
  with pytest.raises(RuntimeError, match='a-lr0.0001-seed7'):
    running.run_job(job, place_of(tmp_path), None)


def test_a_killed_command_leaves_nothing_that_stops_the_next(
    tmp_path, monkeypatch):
  """Answers without a summary are of a killed command: they are made again,
  with the run's own splits. What is complete is not."""
  calls = []

  def run(self, line, log, core):
    del self, log, core
    calls.append(line[0])
    to = pathlib.Path(next(a for a in line if a.startswith(
        '--workdir=' if line[0] == 'train' else '--to=')).split('=', 1)[1])
    if to.is_dir() and line[0] == 'eval':
      return Done(1, 0.5)
    to.mkdir(parents=True)
    (to / 'summary.json').write_text('{}')
    return Done(0, 0.5)
  monkeypatch.setattr(Workers, 'run', run)
  place = place_of(tmp_path, answers=('hard', 'easy'))
  job = jobs.jobs(small_study(), {'a': (1e-4,)}, (7,))[0]
  (place.of(job) / 'answers').mkdir(parents=True)
  (place.of(job) / 'summary.json').write_text('{}')
  running.run_job(job, place, None)
  running.run_job(job, place, None)
  assert calls == ['eval']
  line = ' '.join(jobs.answers_command(job, 'b.py', tmp_path, place.answers))
  assert f'--checkpoint={tmp_path} --to={tmp_path}/answers' in line
  assert '--splits=hard,easy' in line and '--config.steps=3' in line
  other = jobs.jobs(small_study(), {'a': (1e-4,)}, (8,))[0]
  running.run_job(other, place, None)
  assert calls == ['eval', 'train', 'eval']
  assert set(jobs.noted(place.of(other))) == {'train', 'eval'}
  assert jobs.seconds_of(place.of(other)).cpu_s == 1.0


def test_a_run_that_still_saves_is_waited_for(tmp_path):
  """The lock is taken by another process; then by nobody."""
  path = tmp_path / 'run'
  path.mkdir()
  holder = subprocess.Popen([sys.executable, '-c', (
      'import fcntl, time; f = open("lock.json", "a+"); '
      'fcntl.flock(f, fcntl.LOCK_EX); open("taken", "w"); time.sleep(60)')],
      cwd=path)
  try:
    while not (path / 'taken').exists():
      time.sleep(0.02)
    with pytest.raises(lock.Locked):
      running._wait_until_free(path, 0.1)
  finally:
    holder.kill()
    holder.wait()
  running._wait_until_free(path, 0.1)
  running._wait_until_free(tmp_path / 'none', 0.1)


def test_what_is_left_by_hand():
  """Known arms take their mean, 10 s; others that of all, 20 s."""
  job = lambda arm: jobs.StudyRun(arm, 1e-4, 0, ())
  todo = [job('a'), job('b'), job('c')]
  known = {'a': [5.0, 15.0], 'b': [40.0]}
  assert running.left_s(todo, known, 2) == (10 + 40 + 20) / 2
  assert running.left_s(todo[:1], known, 2) == 10  # one run has one core
  assert running.left_s([], known, 2) == 0
  assert running.left_s(todo, {}, 2) is None
  assert running.clock(7500) == '2 h 05 min'
  assert running.clock(None) == 'an unknown time'


def test_after_a_failure_nothing_else_begins():
  """y fails while x still runs; then z has a free core, and must not begin."""
  begun, failed = [], threading.Event()

  def one(work, core):
    begun.append(work)
    if work == 'x':
      failed.wait(10)
      time.sleep(0.2)  # z would begin now
    else:
      failed.set()
      raise RuntimeError(f'{work} failed')
  with pytest.raises(RuntimeError, match='y failed'):
    running.side_by_side(['x', 'y', 'z'], [None, None], one)
  assert sorted(begun) == ['x', 'y']


def test_the_models_of_a_study_are_made_once(tmp_path, monkeypatch):
  calls = []

  def run(self, line, log, core):
    del self, log, core
    to = next(a for a in line if a.startswith('--to=')).split('=', 1)[1]
    calls.append(line[1:])
    pathlib.Path(to).write_text('')
    return Done(0, 0.5)
  monkeypatch.setattr(Workers, 'run', run)
  models = ConfigDict({'deep_70': ('student', (('belief.deep_share', 0.7),))})
  for _ in range(2):
    running.make_models(models, place_of(tmp_path))
  assert calls == [['--config=configs/micro_pretrain.py:student',
                    f'--to={tmp_path}/models/deep_70.safetensors',
                    '--config.belief.deep_share=0.7']]
  study = small_study()
  study.common = (('student.weights', '{models}/deep_70.safetensors'),)
  [job] = jobs.jobs(study, {'a': (1e-4,)}, (7,), tmp_path)
  assert dict(job.overrides)['student.weights'] == (
      f'{tmp_path}/models/deep_70.safetensors')


def test_arms_of_an_equal_budget_get_their_steps_from_development(
    tmp_path, monkeypatch):
  """The fake runs spend 8 rollouts in 3 steps, whatever the arm: 3 steps; and
  the arm has the rate of the one that it lengthens."""
  calls = []
  monkeypatch.setattr(Workers, 'run', fake_train(calls))
  monkeypatch.setattr(launch.workdir, 'git_revision', lambda: 'unknown')
  study = small_study()
  study.matched = ConfigDict({'b_long': ('b', 'a', 'student_rollouts')})
  study.contrasts = (('a', 'b_long'),)
  launch.main(study, tmp_path, None)
  results = json.loads((tmp_path / 'results.json').read_text())
  assert results['matched_steps'] == {'b_long': 3}
  assert results['rates']['b_long'] == results['rates']['b']
  assert results['study']['arms']['b_long'] == [['method', 'grpo'],
                                                ['steps', 3]]
  assert [p for p in calls if 'b_long' in p] == [
      f'{tmp_path}/runs/b_long-lr0.0001-seed{seed}' for seed in (100, 101)]
  assert 'b_long 3' in (tmp_path / 'table.md').read_text()


@pytest.mark.parametrize(('changes', 'words'), [
    ({'contrasts': (('a', 'c'),)}, ("'c'", 'contrasts', 'a, b')),
    ({'confirmatory': (('c', 'a', 'hard'),)}, ("'c'", 'confirmatory')),
    ({'matched': ConfigDict({'m': ('a', 'c', 'tokens')})},
     ("'c'", 'matched.m')),
    ({'matched': ConfigDict({'m': ('a', 'b', 'hours')})},
     ("'hours'", 'student_rollouts')),
    ({'rates': (), 'fixed_rates': ConfigDict({'a': 1e-4, 'b': 1e-4}),
      'matched': ConfigDict({'m': ('a', 'b', 'tokens')})},
     ('rates is ()', 'development')),
    ({'watched': ('distil/copied',)}, ('watched is', 'spread_steps is 0')),
    ({'rates': ()}, ('rates is ()', 'fixed_rates', 'rates_of'))])
def test_a_study_that_does_not_fit_together_is_refused(tmp_path, changes,
                                                       words):
  study = small_study()
  with study.unlocked():
    for name, value in changes.items():
      study[name] = value
  with pytest.raises((KeyError, ValueError)) as error:
    launch.main(study, tmp_path / 'new', None)
  assert all(word in str(error.value) for word in words)
  assert not (tmp_path / 'new').exists()


def test_rates_that_another_study_chose(tmp_path, monkeypatch):
  monkeypatch.setattr(Workers, 'run', fake_train([]))
  monkeypatch.setattr(launch.workdir, 'git_revision', lambda: 'unknown')
  study, file = small_study(), tmp_path / 'results.json'
  study.rates, study.rates_of = (), str(file)
  file.write_text(json.dumps({'rates': {'a': 4e-4, 'c': 1e-4}}))
  with pytest.raises(KeyError, match="'b'.*known: a, c"):
    launch.main(study, tmp_path / 'new', None)
  file.write_text(json.dumps({'rates': {'a': 4e-4, 'b': 1e-4}}))
  launch.main(study, tmp_path / 'new', None)
  results = json.loads((tmp_path / 'new' / 'results.json').read_text())
  assert results['rates'] == {'a': 4e-4, 'b': 1e-4}


def test_a_study_goes_on_from_its_records(tmp_path, monkeypatch):
  """On another machine, where the folders of its runs are not."""
  calls = []
  monkeypatch.setattr(Workers, 'run', fake_train(calls))
  monkeypatch.setattr(launch.workdir, 'git_revision', lambda: 'unknown')
  launch.main(small_study(), tmp_path / 'here', None)
  kept = (tmp_path / 'here' / records.NAME).read_text()
  assert len(kept.splitlines()) == 8 == len(calls)
  there = tmp_path / 'there'
  there.mkdir()
  # The last line is of a command that was killed.
  (there / records.NAME).write_text(kept[:-20])
  launch.main(small_study(), there, None)
  assert len(calls) == 9
  here, there_too = (json.loads((tmp_path / of / 'results.json').read_text())
                     for of in ('here', 'there'))
  # The last one was made anew.
  assert here['reported'][:-1] == there_too['reported'][:-1]
  assert str(there) in there_too['reported'][-1]['commands'][0]
  study = small_study()
  study.common = (('steps', 4),)
  with pytest.raises(ValueError, match="fields = .*'steps': 3.*'steps': 4"):
    launch.main(study, there, None)


def test_a_record_names_the_model_it_was_made_with(tmp_path, monkeypatch):
  monkeypatch.setattr(Workers, 'run', fake_train([]))
  study = small_study()
  study.common = (('student.weights', '{models}/m.safetensors'),)
  place = place_of(tmp_path)
  (tmp_path / 'models').mkdir()
  (tmp_path / 'models/m.safetensors').write_bytes(b'one')
  todo = jobs.jobs(study, {'a': (1e-4,)}, (7,), tmp_path)
  running.run_all(todo, place, 'hard')
  assert str(tmp_path) not in json.dumps(json.loads(
      (tmp_path / records.NAME).read_text())['made_of'])
  running.run_all(todo, place, 'hard')
  (tmp_path / 'models/m.safetensors').write_bytes(b'two')
  with pytest.raises(ValueError, match='models = '):
    running.run_all(todo, place, 'hard')


def test_a_run_that_a_guard_stops_is_a_result(tmp_path, monkeypatch):
  """With its last evaluation, as docs/study.md says; the others go on. What
  fails for another reason is no result."""
  calls = []
  good = fake_train(calls)

  def run(self, line, log, core):
    good(self, line, log, core)
    (home,) = (pathlib.Path(a.split('=', 1)[1]) for a in line
               if a.startswith('--workdir='))
    (home / 'config.json').write_text(json.dumps({
        'config': {'eval': {'splits': ['hard']}}, 'forked_from': None}))
    if home.name != 'b-lr0.0001-seed100':
      return Done(0, 0.5)
    (home / 'summary.json').unlink()
    (home / 'eval.jsonl').write_text(''.join(
        json.dumps({'step': step, 'hard': hard, 'tokens': 9}) + '\n'
        for step, hard in ((0, 0.0), (2, 0.125))))
    (home / 'metrics.jsonl').write_text(''.join(
        json.dumps({'step': step, 'time/update': 1, 'student_rollouts': 8,
                    'tokens/student_prompt': 5,
                    'tokens/student_generated': 1,
                    'tokens/teacher_generated': 0}) + '\n'
        for step in range(2)))
    return Done(1, 0.5, reason, 'update/loss is nan')
  monkeypatch.setattr(Workers, 'run', run)
  monkeypatch.setattr(launch.workdir, 'git_revision', lambda: 'unknown')
  reason = 'Ungraded'
  with pytest.raises(RuntimeError, match='b-lr0.0001-seed100 failed'):
    launch.main(small_study(), tmp_path, None)
  reason = 'Diverged'
  launch.main(small_study(), tmp_path, None)
  results = json.loads((tmp_path / 'results.json').read_text())
  [stopped] = [r for r in results['reported'] if 'stopped' in r]
  assert (stopped['arm'], stopped['seed']) == ('b', 100)
  assert stopped['summary']['eval'] == {'hard': {'base': 0.0, 'final': 0.125}}
  assert stopped['summary']['student_rollouts'] == 16
  assert stopped['summary']['tokens'] == {
      'student_prompt': 10, 'student_generated': 2, 'teacher_generated': 0}
  assert results['contrasts'][0]['differences'] == [0.375, 0.0]
  assert ('Stopped by a guard, with its last evaluation above: b, seed 100: '
          'update/loss is nan.') in (tmp_path / 'table.md').read_text()
  count = len(calls)
  launch.main(small_study(), tmp_path, None)
  assert len(calls) == count
