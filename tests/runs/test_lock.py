"""One process at a time works on a directory, and a dead one holds nothing."""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.builders import CONFIG, ROOT, small_config
from tests.long import LONG
from zppo_jax import report
from zppo_jax.report import compare
from zppo_jax.runs import lock, workdir
from zppo_jax.runs.lock import Locked
from zppo_jax.train import loop

pytestmark = pytest.mark.usefixtures('quick_compile')

# Holds a directory until it is told to end.
HOLDER = textwrap.dedent('''
  import sys
  from zppo_jax.runs import lock
  with lock.hold(sys.argv[1]):
    print('held', flush=True)
    sys.stdin.readline()
''')


@contextlib.contextmanager
def holding(path):
  """A process that holds the lock of a directory."""
  with subprocess.Popen(
      [sys.executable, '-c', HOLDER, str(path)], cwd=ROOT, text=True,
      stdin=subprocess.PIPE, stdout=subprocess.PIPE,
      env={**os.environ, 'PYTHONPATH': str(ROOT)}) as process:
    assert process.stdout.readline() == 'held\n'
    try:
      yield process
    finally:
      process.kill()


def test_a_second_process_is_refused_by_host_and_number(tmp_path):
  """fault D4: at once, before anything is built or written."""
  with holding(tmp_path) as other:
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(Locked) as e:
      loop.main(small_config(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == before == [lock.NAME]
  assert f'{tmp_path} is in use by process {other.pid} on host ' in str(e.value)
  assert platform.node() in str(e.value)


@LONG
def test_the_command_says_it_in_a_line(tmp_path):
  """fault D4: a return code and no traceback; the holder goes on."""
  with holding(tmp_path) as other:
    done = subprocess.run(
        [sys.executable, '-m', 'zppo_jax.main', 'train', f'--config={CONFIG}',
         f'--workdir={tmp_path}'], cwd=ROOT, text=True, capture_output=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert other.poll() is None
  assert done.returncode == 1 and 'Traceback' not in done.stderr
  assert f'process {other.pid} on host {platform.node()}' in done.stderr


def test_kill_9_leaves_no_lock(tmp_path):
  """fault D4: what the dead process wrote does not hold up the next."""
  with holding(tmp_path) as other:
    other.send_signal(signal.SIGKILL)
    other.wait()
  assert json.loads((tmp_path / lock.NAME).read_text())['pid'] == other.pid
  with lock.hold(tmp_path):
    told = json.loads((tmp_path / lock.NAME).read_text())
    assert told['pid'] == os.getpid()
    with pytest.raises(Locked, match=f'process {os.getpid()} on host'):
      with lock.hold(tmp_path):  # another run of this very process
        pass
  assert not list(tmp_path.iterdir())


def left_by(path, host='elsewhere', pid=4, age=0.0):
  file = path / lock.NAME
  file.write_text(json.dumps({'host': host, 'pid': pid, 'started': 'then'}))
  now = file.stat().st_mtime
  os.utime(file, (now - age, now - age))
  return file


def test_a_holder_on_another_host_counts_as_gone_after_a_silence(tmp_path):
  """fault D4: where its lock does not show here, its signs of life do, and
  the message says how to go on."""
  file = left_by(tmp_path)
  with pytest.raises(Locked, match='process 4 on host elsewhere, which started '
                     f'then: its last sign of life .* remove {file}'):
    with lock.hold(tmp_path):
      pass
  assert file.exists()
  left_by(tmp_path, age=lock.DEAD_S + 1)
  with lock.hold(tmp_path):
    assert json.loads(file.read_text())['host'] == platform.node()


def test_signs_of_life(tmp_path, monkeypatch):
  """fault D4: the file's time moves on while the lock is held."""
  monkeypatch.setattr(lock, 'BEAT_S', 0.01)
  with lock.hold(tmp_path):
    file = tmp_path / lock.NAME
    os.utime(file, (0, 0))
    for _ in range(1000):
      if file.stat().st_mtime > 0:
        break
      lock.threading.Event().wait(0.02)
    assert file.stat().st_mtime > 0


@pytest.mark.parametrize('pid, lives', [(1, True), (2**22 + 1, False)])
def test_a_file_system_without_locks_goes_by_the_process(
    tmp_path, monkeypatch, pid, lives):
  """fault D4: on this host, a living process is believed, a dead one is not."""
  def none(file, how):
    raise OSError(lock.errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(lock.fcntl, 'flock', none)
  left_by(tmp_path, platform.node(), pid, age=1e6)
  if lives:
    with pytest.raises(Locked, match='this file system has no locks'):
      with lock.hold(tmp_path):
        pass
  else:
    with lock.hold(tmp_path):
      pass


@pytest.mark.parametrize('text', ['', '{"host": ', '[]', '{"pid": "x"}',
                                  pytest.param('[' * 10**5, id='deep')])
def test_a_torn_lock_file_is_no_obstacle(tmp_path, text):
  """fault D4: a process that died while it wrote it."""
  (tmp_path / lock.NAME).write_text(text)
  assert workdir.read_config(tmp_path) is None
  with lock.hold(tmp_path):
    pass


@LONG
def test_whoever_reads_needs_no_lock(tmp_path):
  """fault D4: report and compare of a run that another process works on; a
  complete run's training command too. A directory whose config does not fit
  is left without a lock."""
  for name in ('a', 'b'):
    loop.main(small_config(method='grpo', seed=ord(name)), tmp_path / name)
  with holding(tmp_path / 'a'):
    report.main([tmp_path / 'a'])
    compare.main([tmp_path / 'a', tmp_path / 'b'], None, [])
    summary = loop.main(small_config(method='grpo', seed=ord('a')),
                         tmp_path / 'a')
  assert summary['steps'] == 2
  bad = small_config()
  bad.algorithm.num_new = 0
  (tmp_path / 'empty').mkdir()
  for name in ('empty', 'new'):
    with pytest.raises(ValueError, match='num_new is 0'):
      loop.main(bad, tmp_path / name)
  assert not list((tmp_path / 'empty').iterdir())
  assert not (tmp_path / 'new').exists()


def test_a_run_of_several_hosts_waits_for_the_silence_of_a_lost_one(
    tmp_path, monkeypatch):
  """It starts anew on another host at once; a living holder is not waited
  for."""
  monkeypatch.setattr(lock, 'DEAD_S', 2.0)
  left_by(tmp_path, age=0.5)
  with lock.hold(tmp_path, patient=True):
    pass
  file = left_by(tmp_path)
  silences = iter((0.5, 1.5, 0.1))
  monkeypatch.setattr(lock, '_silence', lambda file: next(silences))
  monkeypatch.setattr(lock.time, 'sleep', lambda seconds: None)
  with pytest.raises(Locked, match='its last sign of life is 0 s old'):
    with lock.hold(tmp_path, patient=True):
      pass
  assert file.exists()
