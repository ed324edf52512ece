"""Processes that run the commands of a study, one command after another.

A process keeps the programs that its first run has compiled
(devices/shared_jit.py), so that the next run of the same shapes begins at once.
The numbers of a run are those of a process of its own.

A worker reads a command from its standard input and writes its end to its
standard output, both as lines of JSON. What the command prints goes to the
command's log. When the input ends while a command works, because the study was
killed, the worker tells itself to save and end, as a notice of SIGTERM does.
"""

import contextlib
import gc
import json
import os
import pathlib
import queue
import resource
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

# A worker pins itself before it imports what begins threads; a function between
# fork and exec would copy this process, which has threads too.
PIN = ('import os, sys\n'
       'if sys.argv[1:]: os.sched_setaffinity(0, {int(sys.argv[1])})\n')
# Commands are above this package, so a worker is given what runs them.
PROGRAM = (sys.executable, '-c', PIN + (
    'from zppo_jax import main; from zppo_jax.study import workers; '
    'workers.serve(main.main)'))
_MAPS = pathlib.Path('/proc/self/maps')
# Each program has several memory maps, and Linux allows a process 65,530. A
# worker with more than these ends, and the next command gets a new one.
MOST_MAPS = 20_000


class Done(NamedTuple):
  """How a command ended.

  Attributes:
    returncode: 0 for a complete one.
    cpu_s: the seconds of its processors.
    error: the type of the error that ended it; '' for none, or an unknown one.
    why: the text of that error.
  """
  returncode: int
  cpu_s: float
  error: str = ''
  why: str = ''


class Workers:
  """A process per core, begun with its first command.

  Attributes:
    program: how a worker is begun; the number of its core is added.
  """

  def __init__(self, program: Sequence[str] = PROGRAM):
    self.program = tuple(program)
    self._of: dict[int | None, subprocess.Popen] = {}

  def __enter__(self) -> 'Workers':
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def _begin(self, core: int | None) -> subprocess.Popen:
    return subprocess.Popen(
        (*self.program, *([] if core is None else [str(core)])),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

  def run(self, words: Sequence[str], log: pathlib.Path,
          core: int | None) -> Done:
    """Runs a command to its end; one at a time on a core.

    Args:
      words: the command and its flags, after `zppo`.
      log: the file to which its output is added.
      core: the core to which its process is pinned; None: to none.

    Returns:
      How it ended. A process that is lost counts with its own return code, and
      with no seconds.
    """
    worker = self._of.pop(core, None) or self._begin(core)
    assert worker.stdin is not None and worker.stdout is not None
    answer = ''
    with contextlib.suppress(BrokenPipeError):
      worker.stdin.write(json.dumps({'words': list(words),
                                     'log': str(log)}) + '\n')
      worker.stdin.flush()
      answer = worker.stdout.readline()
    if not answer:
      _end(worker)
      return Done(worker.returncode or 1, 0.0)
    said = json.loads(answer)
    if said['last']:
      _end(worker)
    else:
      self._of[core] = worker
    return Done(**said['done'])

  def close(self) -> None:
    """Ends all processes that wait for a command."""
    while self._of:
      _end(self._of.popitem()[1])


def _end(worker: subprocess.Popen) -> None:
  """Waits for a worker that gets no command any more."""
  assert worker.stdin is not None and worker.stdout is not None
  with contextlib.suppress(BrokenPipeError):
    worker.stdin.close()
  worker.wait()
  worker.stdout.close()


def _cpu_s() -> float:
  """The processors' seconds of this process and of its ended children."""
  return sum(used.ru_utime + used.ru_stime for used in map(
      resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


@contextlib.contextmanager
def _printing_to(log: str) -> Iterator[None]:
  """Adds what this process prints to a file, also what no Python prints."""
  kept = [os.dup(1), os.dup(2)]
  file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
  try:
    os.dup2(file, 1)
    os.dup2(file, 2)
    yield
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    for to, of in enumerate(kept, 1):
      os.dup2(of, to)
      os.close(of)
    os.close(file)


def _done(command: Callable[[list[str]], None], words: Sequence[str]) -> Done:
  """Runs a command here; what goes wrong is printed."""
  since, returncode, error, why = _cpu_s(), 0, '', ''
  try:
    command(list(words))
  except SystemExit as e:  # of main.main; its cause is the error
    returncode = int(bool(e.code))
    if isinstance(e.code, str):
      error, why = type(e.__cause__ or e).__name__, str(e.__cause__ or e.code)
      print(e.code, file=sys.stderr)
    elif e.code:
      returncode = e.code
  except BaseException as e:
    returncode, error, why = 1, type(e).__name__, str(e)
    traceback.print_exc()
  return Done(returncode, _cpu_s() - since, error, why)


def _read(commands: 'queue.SimpleQueue[str]', works: threading.Event) -> None:
  """Hands lines of the input on; its end ends the command under way."""
  for line in sys.stdin:
    commands.put(line)
  commands.put('')
  if works.is_set():
    os.kill(os.getpid(), signal.SIGTERM)


def serve(run: Callable[[list[str]], None]) -> None:
  """Runs the commands of the standard input until it ends.

  Args:
    run: takes the words of a command, as main.main does.
  """
  answers = os.dup(1)
  commands: queue.SimpleQueue[str] = queue.SimpleQueue()
  works = threading.Event()
  threading.Thread(target=_read, args=(commands, works), daemon=True).start()
  last = False
  while not last and (line := commands.get()):
    command = json.loads(line)
    works.set()
    with _printing_to(command['log']):
      done = _done(run, command['words'])
    works.clear()
    gc.collect()
    many = _MAPS.exists() and _MAPS.read_bytes().count(b'\n') > MOST_MAPS
    last = bool(done.returncode) or many
    with contextlib.suppress(BrokenPipeError):  # the study was killed
      os.write(answers, (json.dumps({
          'done': done._asdict(), 'last': last}) + '\n').encode())
