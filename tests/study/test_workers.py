"""Processes that run one command after another."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from zppo_jax.study import workers

ROOT = pathlib.Path(__file__).parents[2]
# A worker whose commands are these, so that nothing of a run is needed.
FAKE = workers.PIN + '''
import os, pathlib, signal, sys, time
from zppo_jax.study import workers

def save(*_):
  pathlib.Path('saved').write_text('x')
  sys.exit(143)

def command(words):
  if words[0] == 'say':
    print(words[1], flush=True)
    os.system('echo from another program')
  elif words[0] == 'burn':
    until = time.process_time() + 0.3
    while time.process_time() < until:
      pass
  elif words[0] == 'pid':
    print(os.getpid())
  elif words[0] == 'cores':
    print(*sorted(os.sched_getaffinity(0)))
  elif words[0] == 'many':
    workers.MOST_MAPS = 0
  elif words[0] == 'wrong':
    raise SystemExit('zppo: what is wrong')
  elif words[0] == 'fault':
    raise ZeroDivisionError('a fault')
  elif words[0] == 'caused':
    raise SystemExit('one line') from ValueError('the cause')
  elif words[0] == 'die':
    os.kill(os.getpid(), signal.SIGKILL)
  elif words[0] == 'wait':
    signal.signal(signal.SIGTERM, save)
    pathlib.Path('begun').write_text('x')
    time.sleep(60)

workers.serve(command)
'''


@pytest.fixture
def fakes(monkeypatch):
  monkeypatch.setenv('PYTHONPATH', str(ROOT))
  with workers.Workers([sys.executable, '-c', FAKE]) as made:
    yield made


def test_one_process_serves_all_commands_of_a_core(fakes, tmp_path):
  log = tmp_path / 'log'
  for _ in range(2):
    assert fakes.run(['pid'], log, None).returncode == 0
  first, second = log.read_text().split()
  assert first == second
  other = sorted(os.sched_getaffinity(0))[0]
  fakes.run(['pid'], log, other)
  assert log.read_text().split()[2] != first
  fakes.run(['cores'], tmp_path / 'cores', other)
  assert (tmp_path / 'cores').read_text() == f'{other}\n'


def test_what_is_printed_is_in_the_log_of_its_command(fakes, tmp_path):
  for name in ('a', 'b'):
    fakes.run(['say', name], tmp_path / name, None)
  assert (tmp_path / 'a').read_text() == 'a\nfrom another program\n'
  assert (tmp_path / 'b').read_text() == 'b\nfrom another program\n'


def test_seconds_are_those_of_the_command(fakes, tmp_path):
  fakes.run(['burn'], tmp_path / 'log', None)
  assert fakes.run(['pid'], tmp_path / 'log', None).cpu_s < 0.2
  assert 0.3 <= fakes.run(['burn'], tmp_path / 'log', None).cpu_s < 2


@pytest.mark.parametrize(('word', 'returncode', 'said'), [
    ('wrong', 1, 'zppo: what is wrong\n'), ('fault', 1, 'a fault\n'),
    ('die', -signal.SIGKILL, '')])
def test_a_failed_command_takes_its_process_with_it(fakes, tmp_path, word,
                                                    returncode, said):
  log = tmp_path / 'log'
  fakes.run(['pid'], log, None)
  before = log.read_text()
  assert fakes.run([word], log, None).returncode == returncode
  assert log.read_text().endswith(said)
  assert fakes.run(['pid'], tmp_path / 'new', None).returncode == 0
  assert (tmp_path / 'new').read_text() != before


@pytest.mark.skipif(not pathlib.Path('/proc/self/maps').exists(),
                    reason='memory maps are counted on Linux')
def test_a_process_of_many_programs_ends(fakes, tmp_path):
  fakes.run(['pid'], tmp_path / 'a', None)
  assert fakes.run(['many'], tmp_path / 'many', None).returncode == 0
  fakes.run(['pid'], tmp_path / 'b', None)
  assert (tmp_path / 'a').read_text() != (tmp_path / 'b').read_text()


def test_the_run_of_a_killed_study_saves_and_ends(tmp_path):
  """Even if the study had no time to tell it."""
  code = ('import pathlib, sys\n'
          'from zppo_jax.study import workers\n'
          f'workers.Workers([sys.executable, "-c", {FAKE!r}]).run('
          '["wait"], pathlib.Path("log"), None)')
  study = subprocess.Popen([sys.executable, '-c', code], cwd=tmp_path,
                           env={**os.environ, 'PYTHONPATH': str(ROOT)})
  def appears(name):
    until = time.monotonic() + 60
    while not (tmp_path / name).exists():
      assert time.monotonic() < until, name
      time.sleep(0.02)
  try:
    appears('begun')
  finally:
    study.kill()
    study.wait()
  appears('saved')


@pytest.mark.long
def test_a_run_has_the_numbers_of_a_process_of_its_own(tmp_path, monkeypatch):
  """The second run of a worker, of another method."""
  monkeypatch.setenv('PYTHONPATH', str(ROOT))
  config = tmp_path / 'small.py'
  config.write_text('from tests.builders import small_config as get_config\n')
  def words(name, method, seed):
    return ['train', f'--config={config}', f'--workdir={tmp_path / name}',
            f'--config.method={method}', f'--config.seed={seed}']
  with workers.Workers() as shared, workers.Workers() as own:
    runs = [('first', 'grpo_replay', 3, shared), ('second', 'zppo', 4, shared),
            ('alone', 'zppo', 4, own)]
    for name, method, seed, process in runs:
      done = process.run(words(name, method, seed), tmp_path / f'{name}.log',
                         None)
      assert done.returncode == 0, (tmp_path / f'{name}.log').read_text()
  for file in ('eval.jsonl', 'samples.jsonl'):
    assert ((tmp_path / 'second' / file).read_bytes()
            == (tmp_path / 'alone' / file).read_bytes()), file
  second, alone = ([json.loads(line) for line in (
      tmp_path / name / 'metrics.jsonl').read_text().splitlines()]
      for name in ('second', 'alone'))
  same = [name for name in second[0]
          if not name.startswith(('time/', 'compilations/', 'memory/'))]
  assert len(same) > 20
  assert [[row.get(name) for name in same] for row in second] == [
      [row.get(name) for name in same] for row in alone]


def test_the_error_that_ended_a_command_is_named(fakes, tmp_path):
  assert fakes.run(['fault'], tmp_path / 'log', None)[2:] == (
      'ZeroDivisionError', 'a fault')
  assert fakes.run(['wrong'], tmp_path / 'log', None)[2:] == (
      'SystemExit', 'zppo: what is wrong')
  assert fakes.run(['caused'], tmp_path / 'log', None)[2:] == (
      'ValueError', 'the cause')
