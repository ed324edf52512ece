"""What a run leaves on disk, and what a resume cuts."""

import dataclasses
import hashlib
import json
import re
import subprocess

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests import builders
from tests.builders import question
from zppo_jax.algorithms.replay import Entry, Settlement
from zppo_jax.learner import layouts, packing
from zppo_jax.runs import workdir
from zppo_jax.runs.same_config import PACKAGES
from zppo_jax.runs.totals import History
from zppo_jax.runs.workdir import Workdir
from zppo_jax.weights import safetensors_file

CONFIG = ConfigDict(dict(seed=3, steps=4, shapes=dict(buckets=(8, 24))))
PARAMS = {'embed': np.arange(6, dtype=np.float32).reshape(2, 3)}


def config(**changes):
  out = ConfigDict(CONFIG.to_dict())
  out.update(changes)
  return out


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_first_attempt_writes_the_config(tmp_path):
  made = Workdir.open(tmp_path / 'deep' / 'run', CONFIG)
  written = json.loads((made.path / 'config.json').read_text())
  assert written['config'] == {
      'seed': 3, 'steps': 4, 'shapes': {'buckets': [8, 24]}}
  assert set(written['versions']) == set(PACKAGES)
  assert written['versions']['numpy'] == np.__version__
  assert written['forked_from'] is None
  assert {p.name for p in made.path.iterdir()} == {'config.json', 'attempts'}
  assert made.attempt == made.path / 'attempts' / '0001'


def test_an_attempt_says_its_command_and_devices(tmp_path, monkeypatch):
  """A program in a folder and the module run as one are both `zppo`."""
  for program, name in (('/opt/bin/zppo', 'zppo'), ('/a/zppo_jax/main.py',
                        'zppo'), ('/home/x/my_run.py', 'my_run.py')):
    monkeypatch.setattr('sys.argv', [program, 'train', '--config=a b.py'])
    assert workdir.command() == f"{name} train '--config=a b.py'"
  made = Workdir.open(tmp_path / 'run', CONFIG)
  attempt = json.loads((made.attempt / 'attempt.json').read_text())
  assert attempt['command'].startswith('my_run.py train')
  assert attempt['devices']['platform'] == 'cpu'
  assert attempt['devices']['count'] >= 1


def test_the_same_config_opens_another_attempt(tmp_path):
  (tmp_path / 'run').mkdir()  # an empty directory may be used
  Workdir.open(tmp_path / 'run', CONFIG).note('one')
  before = (tmp_path / 'run' / 'config.json').read_bytes()
  second = Workdir.open(tmp_path / 'run', CONFIG)
  second.note('two')
  assert second.attempt.name == '0002'
  assert (tmp_path / 'run' / 'config.json').read_bytes() == before
  logs = [(tmp_path / f'run/attempts/000{i}/log.txt').read_text()
          for i in (1, 2)]
  assert [text.split()[-1] for text in logs] == ['one', 'two']


def test_another_config_is_refused_field_by_field(tmp_path):
  Workdir.open(tmp_path, CONFIG).log_step({'step': 0})
  with pytest.raises(ValueError) as e:
    Workdir.open(tmp_path, config(seed=4, shapes=dict(buckets=(8,))))
  assert 'seed is 3 there and 4 here' in str(e.value)
  assert 'shapes.buckets is [8, 24] there and [8] here' in str(e.value)
  assert [p.name for p in (tmp_path / 'attempts').iterdir()] == ['0001']


@pytest.mark.parametrize('begun', ['metrics.jsonl', 'checkpoints/25',
                                   'summary.json', ''])
def test_a_start_without_a_step_gives_its_directory_up(tmp_path, capsys, begun):
  """To another config, to fewer steps, to other words and to a fork; not where
  there is a step, a checkpoint or a summary."""
  for case, (changes, options) in enumerate((
      (dict(seed=4), {}), (dict(steps=2), {}),
      ({}, dict(texts={'bcq': 'Which?'})),
      ({}, dict(forked_from={'path': 'runs/other', 'step': 2})))):
    path = tmp_path / str(case)
    first = Workdir.open(path, CONFIG)
    (path / 'eval.jsonl').write_text('{"step": 0}\n')
    (path / 'rollouts').mkdir()
    if begun:
      (path / begun).parent.mkdir(exist_ok=True)
      (path / begun).write_text('{"steps": 4}\n')
      with pytest.raises((ValueError, FileExistsError)):
        Workdir.open(path, config(**changes), **options)
      assert workdir.is_begun(path)
      continue
    out = Workdir.open(path, config(**changes), **options)
    assert {p.name for p in path.iterdir()} == {'config.json', 'attempts'}
    assert {p.name for p in out.attempt.iterdir()} == {
        'attempt.json', 'config.json', 'eval.jsonl', 'rollouts', 'log.txt'}
    stored = json.loads((path / 'config.json').read_text())
    assert stored['config'] == json.loads(
        (out.attempt / 'attempt.json').read_text())['config']
    assert (stored['config']['seed'], stored['config']['steps']) == (
        changes.get('seed', 3), changes.get('steps', 4))
    assert first.attempt.is_dir() and out.attempt.name == '0002'
    said = capsys.readouterr().out
    assert 'this run takes the directory over' in said
    assert ('seed is 3 there and 4 here' in said) == (case == 0)
  if begun:
    return
  # A fork that ended so early goes on only as that fork.
  fork = {'path': 'runs/other', 'step': 2}
  assert Workdir.open(tmp_path / '3', CONFIG, fork).first == 2
  assert capsys.readouterr().out == ''
  assert Workdir.open(tmp_path / '3', CONFIG).first == 0
  # What `zppo eval` leaves is no start of a run.
  (tmp_path / 'eval').mkdir()
  (tmp_path / 'eval' / 'config.json').write_text(json.dumps(
      workdir.describe(CONFIG)))
  with pytest.raises(ValueError, match='another config'):
    Workdir.open(tmp_path / 'eval', config(seed=4))


def test_proposed_shapes_stay_named(tmp_path):
  stored = lambda: json.loads((tmp_path / 'config.json').read_text())
  Workdir.open(tmp_path, CONFIG, proposed=('slots',)).log_step({'step': 0})
  assert stored()['proposed'] == ['slots']
  Workdir.open(tmp_path, config(steps=9))  # rewrites the file
  assert (stored()['proposed'], stored()['config']['steps']) == (['slots'], 9)


def test_a_summary_has_the_splits_in_the_order_of_the_config(tmp_path):
  out = Workdir.open(tmp_path, CONFIG)
  numbers = {'hard': 0.5, 'easy': 0.75}
  out.log_eval(0, numbers, History())
  whole = {'steps': 4, 'eval': {name: {'final': value}
                                for name, value in numbers.items()}}
  out.record('summary.json', whole)
  assert list(workdir.read_summary(tmp_path)['eval']) == ['hard', 'easy']
  assert workdir.read_summary(tmp_path) == whole
  (tmp_path / 'eval.jsonl').unlink()
  assert workdir.read_summary(tmp_path) == whole


def test_more_steps_are_said_in_one_line(tmp_path, capsys):
  Workdir.open(tmp_path, config(steps=20))
  Workdir.open(tmp_path, config(steps=20))
  assert capsys.readouterr().out == ''
  Workdir.open(tmp_path, config(steps=200))
  assert capsys.readouterr().out == 'steps: 20 -> 200\n'


def test_steps_may_grow_and_nothing_else(tmp_path):
  Workdir.open(tmp_path, CONFIG).log_step({'step': 0})
  with pytest.raises(ValueError, match='steps is 3; .* may only grow'):
    Workdir.open(tmp_path, config(steps=3))
  Workdir.open(tmp_path, config(steps=9))
  assert workdir.read_config(tmp_path)['config']['steps'] == 9
  with pytest.raises(ValueError, match='may only grow'):
    Workdir.open(tmp_path, CONFIG)


def test_a_directory_with_other_files_is_never_used(tmp_path):
  (tmp_path / '.notes').write_text('mine')
  with pytest.raises(FileExistsError, match='holds no run'):
    Workdir.open(tmp_path, CONFIG)
  assert [p.name for p in tmp_path.iterdir()] == ['.notes']
  with pytest.raises(FileExistsError, match='is a file'):
    Workdir.open(tmp_path / '.notes', CONFIG)
  assert (tmp_path / '.notes').read_text() == 'mine'


@pytest.mark.parametrize('name', ['attempts/0001', 'attempts'])
def test_a_first_attempt_that_died_before_the_config_is_no_obstacle(
    tmp_path, name):
  (tmp_path / name).mkdir(parents=True)
  (tmp_path / 'config.partial').write_text('{"conf')
  assert workdir.read_config(tmp_path) is None
  made = Workdir.open(tmp_path, CONFIG)
  assert made.attempt.name == ('0002' if '0001' in name else '0001')
  assert workdir.read_config(tmp_path)['config']['seed'] == 3


def test_a_damaged_config_is_named(tmp_path):
  (tmp_path / 'config.json').write_text('{"config": ')
  with pytest.raises(ValueError, match='config.json is not readable'):
    Workdir.open(tmp_path, CONFIG)


def written(path):
  """A run of three steps, evaluated before and after them."""
  out, history = Workdir.open(path, CONFIG), History()
  out.log_eval(0, {'hard': 0.0}, history)
  for step in range(3):
    entry = Entry(question(f'q{step}'), 0, 0.125, step)
    out.log_fates(step, Settlement((), (entry,), ()))
    out.log_samples([{'step': step, 'n': 0}, {'step': step, 'n': 1}])
    out.log_step({'step': step})
  out.log_eval(3, {'hard': 0.5}, history)
  return out


NAMES = ('metrics.jsonl', 'eval.jsonl', 'samples.jsonl', 'buffer.jsonl')


@pytest.mark.parametrize('step, left, evaluations', [
    (None, [], []), (0, [], [0]), (2, [0, 1], [0]), (3, [0, 1, 2], [0, 3])])
def test_a_resume_keeps_what_its_checkpoint_accounts_for(
    tmp_path, step, left, evaluations):
  """To the byte; the rest lies under the attempt."""
  written(tmp_path)
  before = {n: (tmp_path / n).read_bytes() for n in NAMES}
  second = Workdir.open(tmp_path, CONFIG)
  count = second.cut(step)
  assert [r['step'] for r in lines(tmp_path / 'metrics.jsonl')] == left
  assert [r['step'] for r in lines(tmp_path / 'buffer.jsonl')] == left
  assert [r['step'] for r in lines(tmp_path / 'samples.jsonl')] == [
      s for s in left for _ in range(2)]
  assert [r['step'] for r in lines(tmp_path / 'eval.jsonl')] == evaluations
  cut = 0
  for name in NAMES:
    rest = second.attempt / f'cut_{name}'
    tail = rest.read_bytes() if rest.exists() else b''
    assert (tmp_path / name).read_bytes() + tail == before[name]
    cut += tail.count(b'\n')
  assert cut == count


def test_a_line_torn_by_a_kill_is_cut(tmp_path):
  written(tmp_path)
  for name in NAMES:
    with open(tmp_path / name, 'a') as f:
      f.write('{"step": 0, "los')
  second = Workdir.open(tmp_path, CONFIG)
  second.cut(3)
  assert [r['step'] for r in lines(tmp_path / 'metrics.jsonl')] == [0, 1, 2]
  assert (second.attempt / 'cut_metrics.jsonl').read_text() == (
      '{"step": 0, "los')


def test_buffer_fates_are_a_line_an_entry(tmp_path):
  out = Workdir.open(tmp_path, CONFIG)
  entry = Entry(question('q'), 2, 0.25, 3)
  out.log_fates(7, Settlement((entry,), (entry,), (entry,)))
  assert lines(tmp_path / 'buffer.jsonl') == [
      {'step': 7, 'fate': fate, 'id': 'q', 'entry_accuracy': 0.25,
       'admitted_at': 2, 'visits': 3} for fate in ('graduated', 'evicted')]


def test_metrics_are_a_line_a_step_readable_at_once(tmp_path):
  out = Workdir.open(tmp_path, CONFIG)
  rows = [{'step': s, 'loss': 0.1 * s} for s in range(3)]
  for count, logged in enumerate(rows, 1):
    out.log_step(logged)
    assert lines(tmp_path / 'metrics.jsonl') == rows[:count]
  assert (tmp_path / 'metrics.jsonl').read_text().endswith('\n')


def test_evaluations_say_what_had_been_spent(tmp_path):
  out, history = Workdir.open(tmp_path, CONFIG), History()
  out.log_eval(0, {'hard': 0.0, 'easy': 1.0}, history)
  history.add({'student_rollouts': 16, 'tokens/student_prompt': 5,
               'tokens/teacher_generated': 7}, None)
  out.log_eval(2, {'hard': 0.5, 'easy': 1.0}, history)
  assert lines(tmp_path / 'eval.jsonl') == [
      {'step': 0, 'student_rollouts': 0, 'tokens': 0, 'hard': 0.0,
       'easy': 1.0},
      {'step': 2, 'student_rollouts': 16, 'tokens': 12, 'hard': 0.5,
       'easy': 1.0}]


@pytest.mark.parametrize('shared', [False, True])
def test_the_batch_of_a_run_that_stopped_is_kept_without_pickle(tmp_path,
                                                                shared):
  """All of its arrays by their names, those of prompts apart too."""
  rows = [builders.training((1, 2), (3,), (-0.5,), 2.0)]
  batch = (layouts.fill([rows], layouts.BatchShape(1, 2, 4, 4, 0), 1) if shared
           else packing.pad_rows(rows, 2, 4))
  folder = Workdir.open(tmp_path, CONFIG).keep_batch(5, 'NaN', [(1, batch)])
  assert json.loads((folder / 'reason.json').read_text()) == {
      'step': 5, 'reason': 'NaN'}
  [file] = folder.glob('*.npz')
  found = np.load(file, allow_pickle=False)
  holders = [batch, batch.prompts] if shared else [batch]
  arrays = {f.name: getattr(h, f.name) for h in holders
            for f in dataclasses.fields(h)
            if isinstance(getattr(h, f.name), np.ndarray)} | batch.targets
  assert set(found) == set(arrays) and ('tokens_PT' in arrays) == shared
  for name, array in arrays.items():
    np.testing.assert_array_equal(found[name], array)


def test_finish_writes_weights_and_summary(tmp_path):
  out = Workdir.open(tmp_path, CONFIG)
  assert workdir.read_summary(tmp_path) is None
  summary = out.finish({'steps': 2}, PARAMS, {'model': {'width': 3}})
  saved = tmp_path / 'final.safetensors'
  raw = saved.read_bytes()
  assert workdir.read_summary(tmp_path) == summary == {
      'steps': 2, 'files': {'final.safetensors': [
          len(raw), hashlib.sha256(raw).hexdigest()]}}
  assert safetensors_file.description(saved) == {'model': {'width': 3}}
  np.testing.assert_array_equal(safetensors_file.load(saved, PARAMS)['embed'],
                                PARAMS['embed'])


def test_a_longer_run_keeps_the_earlier_ones_end(tmp_path):
  out = Workdir.open(tmp_path, CONFIG)
  out.finish({'steps': 4}, PARAMS, {'model': {}})
  second = Workdir.open(tmp_path, config(steps=8))
  assert workdir.read_summary(tmp_path) is None
  assert json.loads(
      (second.attempt / 'summary.json').read_text())['steps'] == 4
  assert (second.attempt / 'final.safetensors').is_file()


@pytest.mark.parametrize('edit', [
    {'forked_from': 'runs/a'}, {'forked_from': {'path': 'a'}},
    {'forked_from': {'step': '3'}}, {'config': []}, {'config': 'a'}])
def test_an_edited_config_json_is_named(tmp_path, edit):
  """It was an AttributeError."""
  Workdir.open(tmp_path, CONFIG)
  path = tmp_path / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **edit}))
  with pytest.raises(ValueError, match=f'{path} is not readable'):
    Workdir.open(tmp_path, CONFIG)


def test_the_summary_comes_last(tmp_path, monkeypatch):
  def full_disk(*_):
    raise OSError('disk full')
  monkeypatch.setattr(safetensors_file, 'save', full_disk)
  out = Workdir.open(tmp_path, CONFIG)
  with pytest.raises(OSError, match='disk full'):
    out.finish({'steps': 2}, PARAMS, {'model': {}})
  assert not (tmp_path / 'summary.json').exists()


def test_revision_is_a_commit_or_unknown():
  """40 hex digits, '+' if changed; never an empty string."""
  assert re.fullmatch(r'[0-9a-f]{40}\+?|unknown', workdir.git_revision())


def test_a_change_anywhere_in_the_package_marks_the_revision(
    tmp_path, monkeypatch):
  """Not in the folder of workdir.py alone."""
  package = tmp_path / 'zppo_jax'
  (package / 'train').mkdir(parents=True)
  (package / '__init__.py').write_text('')
  (package / 'train' / 'step.py').write_text('a = 1\n')
  git = lambda *words: subprocess.run(
      ['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c', 'user.email=b',
       *words], check=True, capture_output=True)
  for words in (('init',), ('add', '.'), ('commit', '-m', 'c')):
    git(*words)
  monkeypatch.setattr(workdir.zppo_jax, '__file__',
                      str(package / '__init__.py'))
  assert not workdir.git_revision().endswith('+')
  (package / 'train' / 'step.py').write_text('a = 2\n')
  assert workdir.git_revision().endswith('+')
