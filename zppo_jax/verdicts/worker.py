"""A worker: grades one answer after the other, in a child that may be killed.

  python -m zppo_jax.verdicts.worker BYTES_OF_MEMORY

The worker itself only imports what the kinds need, forks a child that has it
all in memory, and hands it one job at a time; when a job kills the child, the
next fork takes milliseconds. Timers whose signal is left to the kernel end the
child at its deadlines, whatever Python is doing in it. The worker ends, and its
child with it, when its input closes: with its parent.

In, JSON lines: {"kind", "answer", "reference", "cpu_s", "wall_s"}. Out:
{"loaded": kind} once for each kind, {"child": pid} for each fork, and for each
job one of {"score": x}, {"unreadable": why}, {"crash": why}, {"died": number of
the signal, or -exit code}; or {"cannot": why} when a kind cannot be loaded.
"""

import ctypes
import gc
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Iterator

from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.plain import Unreadable

_PR_SET_PDEATHSIG = 1  # of prctl(2)


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
  """Lines from a pipe until it closes."""
  kept = b''
  while read := os.read(fd, 1 << 16):
    *whole, kept = (kept + read).split(b'\n')
    yield from whole


def _write(fd: int, value: dict) -> None:
  line = json.dumps(value).encode() + b'\n'
  while line:
    line = line[os.write(fd, line):]


def _limit(memory: int) -> None:
  """No files, no core dumps, bounded memory (where the system can)."""
  limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)]
  if sys.platform == 'linux':
    limits.append((resource.RLIMIT_AS, memory))
  for name, value in limits:
    resource.setrlimit(name, (value, value))


def _die_with(parent: int) -> None:
  """Has the kernel kill this process when its parent ends, however that ends.

  A job may block every signal and spin; SIGKILL alone reaches it, and a parent
  that was killed itself sends none. Linux only: elsewhere nothing is done.
  """
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != parent:  # it ended before that was said
    os._exit(1)


class _Child:
  """A fork that grades; `into` and `out` are pipes to and from it."""

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
    """The child's life; never returns."""
    code = 1
    try:
      _limit(memory)
      for line in _lines(into):
        _write(out, grade(json.loads(line)))
      code = 0
    finally:
      os._exit(code)

  def end(self) -> int:
    """Kills and reaps it: the signal that it died of, or -exit code."""
    os.kill(self.pid, signal.SIGKILL)  # no effect on one that is dead
    _, status = os.waitpid(self.pid, 0)
    os.close(self.into)
    os.close(self.out)
    if os.WIFSIGNALED(status):
      return os.WTERMSIG(status)
    return -os.WEXITSTATUS(status)


class _Worker:
  """Holds a child and what is loaded in it."""

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
    self.drop()  # it knows nothing of it
    gc.collect()
    gc.freeze()  # so that a child's collections copy no pages
    _write(self.stdout, {'loaded': kind})

  def hand(self, line: bytes) -> bool:
    """Has a job graded; False if the parent is gone meanwhile."""
    if self.child is None:
      self.child = _Child(self.memory, (self.stdin, self.stdout))
      _write(self.stdout, {'child': self.child.pid})
    try:
      os.write(self.child.into, line + b'\n')
    except BrokenPipeError:
      pass  # told below
    # Nothing comes in during a job: what can be read is the end of input.
    ready, _, _ = select.select([self.child.out, self.stdin], [], [])
    if self.child.out not in ready:
      return False
    reply = next(_lines(self.child.out), None)
    if reply is None:
      _write(self.stdout, {'died': self.drop()})
      return True
    value = json.loads(reply)
    if 'MemoryError' in value.get('crash', ''):
      self.drop()
    _write(self.stdout, value)
    return True


def main() -> None:
  memory = int(sys.argv[1])
  for number in (signal.SIGPROF, signal.SIGALRM):
    signal.signal(number, signal.SIG_DFL)
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer
  stdin, stdout = os.dup(0), os.dup(1)
  nothing = os.open(os.devnull, os.O_RDWR)
  for fd in (0, 1, 2):  # what a library prints is not a verdict
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
    pass  # nobody listens any more
  finally:
    worker.drop()


if __name__ == '__main__':
  main()
