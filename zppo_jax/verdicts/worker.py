"""A worker of the sandbox: grades answers in a child that may be killed.

  python -m zppo_jax.verdicts.worker BYTES_OF_MEMORY

The worker itself only imports the packages of the kinds, forks a child that has
them in memory, and hands it one job at a time. If a job kills the child, the
next fork takes milliseconds. Timers end the child at its deadlines, whatever
Python does in it, because the kernel handles their signals. A child that blocks
the signals is killed by the worker, which reads its clocks. The worker and its
child end when the worker's input closes, which happens when its parent ends.

It reads JSON lines: {"kind", "answer", "reference", "cpu_s", "wall_s"}. It
writes {"loaded": kind} once for each kind, {"child": pid} for each fork, and
for each job one of {"score": x}, {"unreadable": why}, {"crash": why}, {"died":
number of the signal, or -exit code}; or {"cannot": why} if a kind cannot be
loaded.
"""

import ctypes
import gc
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator

from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.kinds.plain import Unreadable

_PR_SET_PDEATHSIG = 1  # of prctl(2)
_LOOK_S = 0.05  # between two looks at a child's clocks
_LATE_S = 0.1  # how long after a deadline a child's own timer may come


def _timers(cpu_s: float, wall_s: float) -> None:
  signal.setitimer(signal.ITIMER_PROF, cpu_s)
  signal.setitimer(signal.ITIMER_REAL, wall_s)


def grade(job: dict) -> dict:
  """Grades one job under its timers."""
  mark = kinds.get(job['kind']).mark
  _timers(job['cpu_s'], job['wall_s'])
  try:
    score = mark(job['answer'], job['reference'])
    return {'score': min(max(float(score), 0.0), 1.0)}
  except Unreadable as e:
    return {'unreadable': str(e)[:300]}
  except Exception as e:
    return {'crash': f'{type(e).__name__}: {e}'[:300]}
  finally:
    _timers(0, 0)


def _lines(fd: int) -> Iterator[bytes]:
  """Yields the lines of a pipe until it closes."""
  part = b''
  while data := os.read(fd, 1 << 16):
    *lines, part = (part + data).split(b'\n')
    yield from lines


def _write(fd: int, value: dict) -> None:
  line = json.dumps(value).encode() + b'\n'
  while line:
    line = line[os.write(fd, line):]


def _limit(memory: int) -> None:
  """Forbids files and core dumps, and bounds the memory (on Linux)."""
  limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)]
  if sys.platform == 'linux':
    limits.append((resource.RLIMIT_AS, memory))
  for name, value in limits:
    resource.setrlimit(name, (value, value))


def _die_with(parent: int) -> None:
  """Has the kernel kill this process when its parent ends, however that ends.

  A job may block every signal and spin. Then only SIGKILL reaches it, and a
  parent that was killed sends no signal. Other systems than Linux lack this.
  """
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != parent:  # the parent ended before the call
    os._exit(1)


def processor_time(pid: int) -> float:
  """Seconds of processor time of a process; 0 on other systems than Linux."""
  if sys.platform != 'linux':
    return 0.0
  # The clock of another process, by the rule of clock_getcpuclockid(3), which
  # Python does not offer.
  return time.clock_gettime((~pid << 3) | 2)


class _Child:
  """A fork that grades.

  Attributes:
    pid: of the fork.
    into, out: the pipes to and from it.
  """

  def __init__(self, memory: int, close: tuple[int, ...]):
    child_in, self.into = os.pipe()
    self.out, child_out = os.pipe()
    parent = os.getpid()
    self.pid = os.fork()
    if not self.pid:
      _die_with(parent)
      for fd in (self.into, self.out, *close):
        os.close(fd)
      self._serve(memory, child_in, child_out)
    os.close(child_in)
    os.close(child_out)

  def _serve(self, memory: int, into: int, out: int) -> None:
    """Grades jobs until the input closes; never returns."""
    code = 1
    try:
      _limit(memory)
      for line in _lines(into):
        _write(out, grade(json.loads(line)))
      code = 0
    finally:
      os._exit(code)

  def end(self) -> int:
    """Kills and reaps the child; returns its signal, or -exit code."""
    os.kill(self.pid, signal.SIGKILL)  # without effect if it has ended
    _, status = os.waitpid(self.pid, 0)
    os.close(self.into)
    os.close(self.out)
    if os.WIFSIGNALED(status):
      return os.WTERMSIG(status)
    return -os.WEXITSTATUS(status)


class _Worker:
  """The worker: its pipes, its child and the kinds that are loaded."""

  def __init__(self, memory: int, stdin: int, stdout: int):
    self.memory, self.stdin, self.stdout = memory, stdin, stdout
    self.child: _Child | None = None
    self.loaded: set[str] = set()

  def drop(self) -> int:
    child, self.child = self.child, None
    return child.end() if child else 0

  def load(self, kind: str) -> None:
    kinds.get(kind).load()
    self.loaded.add(kind)
    self.drop()  # because the child was forked before the kind was loaded
    gc.collect()
    gc.freeze()  # so that a child's collections copy no pages
    _write(self.stdout, {'loaded': kind})

  def hand(self, line: bytes) -> bool:
    """Has the child grade a job; False if the parent ended meanwhile."""
    if self.child is None:
      self.child = _Child(self.memory, (self.stdin, self.stdout))
      _write(self.stdout, {'child': self.child.pid})
    try:
      os.write(self.child.into, line + b'\n')
    except BrokenPipeError:
      pass  # the child has ended; `died` below says how
    ended = self.watch(self.child.pid, json.loads(line))
    if ended is None:
      return False
    if ended:
      self.drop()
      _write(self.stdout, {'died': ended})
      return True
    reply = next(_lines(self.child.out), None)
    if reply is None:
      _write(self.stdout, {'died': self.drop()})
      return True
    value = json.loads(reply)
    if 'MemoryError' in value.get('crash', ''):
      self.drop()
    _write(self.stdout, value)
    return True


  def watch(self, pid: int, job: dict) -> int | None:
    """Waits for the child's answer or end.

    Returns:
      0, or the signal of a deadline that the child let pass, or None if the
      parent ended.
    """
    assert self.child is not None
    wall = time.monotonic() + job['wall_s'] + _LATE_S
    processor = processor_time(pid) + job['cpu_s'] + _LATE_S
    while True:
      # The parent writes nothing during a job, so readable input is its end.
      ready, _, _ = select.select([self.child.out, self.stdin], [], [], _LOOK_S)
      if ready:
        return 0 if self.child.out in ready else None
      if processor_time(pid) > processor:
        return signal.SIGPROF
      if time.monotonic() > wall:
        return signal.SIGALRM


def main() -> None:
  memory = int(sys.argv[1])
  for number in (signal.SIGPROF, signal.SIGALRM):
    signal.signal(number, signal.SIG_DFL)
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer
  stdin, stdout = os.dup(0), os.dup(1)
  nothing = os.open(os.devnull, os.O_RDWR)
  for fd in (0, 1, 2):  # because a library may print
    os.dup2(nothing, fd)
  worker = _Worker(memory, stdin, stdout)
  try:
    for line in _lines(stdin):
      job = json.loads(line)
      if job['kind'] not in worker.loaded:
        try:
          worker.load(job['kind'])
        except Exception as e:
          _write(stdout, {'cannot': f'{type(e).__name__}: {e}'})
          return
      if not worker.hand(line):
        return
  except BrokenPipeError:
    pass  # the parent has ended
  finally:
    worker.drop()


if __name__ == '__main__':
  main()
