"""One process at a time works on a directory.

The system holds the lock (flock) and releases it however the process ends, even
after kill -9. `lock.json` in the directory names the holder. Its modification
time is a sign of life, because on some file systems a lock of another host does
not show. A process that only reads a directory needs no lock.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import platform
import threading
import time

from zppo_jax.devices import hosts

NAME = 'lock.json'
BEAT_S = 20.0  # seconds between two signs of life
DEAD_S = 120.0  # after this silence a holder on another host counts as gone
# The errors of a file system that has no locks.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS})


class Locked(RuntimeError):
  """Another process works on the directory."""


def _holder(file: pathlib.Path) -> dict:
  """The holder that a lock file names; unreadable fields are 'unknown'."""
  try:
    holder = json.loads(file.read_text())
  except (OSError, ValueError, RecursionError):
    holder = None
  holder = holder if isinstance(holder, dict) else {}
  return {name: holder.get(name, 'unknown') for name in (
      'host', 'pid', 'started')}


def _lives(pid) -> bool:
  """Whether a process of this host has that id."""
  try:
    os.kill(int(pid), 0)
  except (ValueError, ProcessLookupError, OverflowError):
    return False
  except PermissionError:
    pass
  return True


def _refused(path, file, why: str) -> Locked:
  who = _holder(file)
  return Locked(
      f'{path} is in use by process {who["pid"]} on host {who["host"]}, which '
      f'started {who["started"]}: {why}. One process at a time works on a run; '
      'take another --workdir, or wait for its end')


def _silence(file: pathlib.Path) -> float:
  """Seconds since the last sign of life, by the file system's own clock."""
  probe = file.with_name(f'.{NAME}.{os.getpid()}')
  probe.touch()
  try:
    return probe.stat().st_mtime - file.stat().st_mtime
  finally:
    probe.unlink()


def _check_named(path, file: pathlib.Path, locks: bool,
                 patient: bool) -> None:
  """Locked if the holder that the file names may still work there, although the
  system gave the lock to this process."""
  who = _holder(file)
  if who['host'] == 'unknown':
    return
  if who['host'] == platform.node():
    if not locks and who['pid'] != os.getpid() and _lives(who['pid']):
      raise _refused(path, file, 'it is alive, and this file system has no '
                     f'locks. If it is no run of zppo, remove {file}')
    return
  silence = _silence(file)
  while patient and silence < DEAD_S:
    time.sleep(1.0)
    before, silence = silence, _silence(file)
    patient = silence > before  # otherwise the holder gave a sign of life
  if silence < DEAD_S:
    raise _refused(
        path, file, f'its last sign of life is {max(silence, 0):.0f} s old. If '
        f'it is gone, try again {DEAD_S:g} s after that, or remove {file}')


def _take(path: pathlib.Path, file: pathlib.Path):
  """(open lock file, whether it is locked by the system).

  Raises:
    Locked: if another process holds it.
  """
  while True:
    lock_file = open(file, 'a+')  # stays open, because that holds the lock
    locks = True
    try:
      fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      lock_file.close()
      raise _refused(path, file, 'it holds the lock') from None
    except OSError as e:
      if e.errno not in _NO_LOCKS:
        lock_file.close()
        raise
      locks = False
    with contextlib.suppress(FileNotFoundError):
      if os.fstat(lock_file.fileno()).st_ino == os.stat(file).st_ino:
        return lock_file, locks
    lock_file.close()  # the former holder removed the file in between


@contextlib.contextmanager
def hold(path, patient: bool = False):
  """A context in which no other process works on a directory; yields nothing.

  Args:
    path: an existing directory.
    patient: wait until a holder on another host has been silent for DEAD_S
      seconds. A run of several hosts whose first one was lost starts anew on
      another host at once, and must not fail for that.

  Raises:
    Locked: if another process works there; it names the host and the process.
  """
  path = pathlib.Path(path)
  file = path / NAME
  lock_file, locks = _take(path, file)
  stop = threading.Event()

  def beat():
    while not stop.wait(BEAT_S):
      with contextlib.suppress(OSError):
        os.utime(lock_file.fileno())

  try:
    _check_named(path, file, locks, patient)
    lock_file.truncate(0)
    lock_file.write(json.dumps({
        'host': platform.node(), 'pid': os.getpid(),
        'started': time.strftime('%Y-%m-%dT%H:%M:%S%z')}) + '\n')
    lock_file.flush()
    alive = threading.Thread(target=beat, daemon=True)
    alive.start()
    lost = hosts.on_loss(file.unlink)
    try:
      yield
    finally:
      lost()
      stop.set()
      alive.join()
      with contextlib.suppress(FileNotFoundError):
        file.unlink()  # while the lock is held, so that it is our own file
  finally:
    lock_file.close()
