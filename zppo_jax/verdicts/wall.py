"""The pool of killable workers; the only place that talks to them.

A worker holds one job at a time, so that killing it loses no other. While
others wait a job gets a small part of its time; one that needs more is begun
again after them with five times as much, up to all of it: a few bad answers do
not hold up the good ones beside them.
Workers start when they are first needed and end with this process, whatever
ends it: their input closes.
"""

import atexit
import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import zppo_jax
from zppo_jax.verdicts import screen

# What a worker may know of this process's environment: no keys, no devices.
ENVIRONMENT = ('PATH', 'LANG', 'LC_ALL', 'HOME', 'TMPDIR', 'SYSTEMROOT')
QUIET = {'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1',
         'MALLOC_ARENA_MAX': '1', 'PYTHONHASHSEED': '0'}
_GROWTH = 5  # of a job's time, each time that it is put off
LOAD_S = 120.0  # to start and to import, on a busy machine
MAX_REPLY = 1 << 16  # bytes


class WallError(RuntimeError):
  """Workers cannot be started or cannot load a kind: no verdict of any answer
  could be had."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """What one answer may take.

  Attributes:
    cpu_s: seconds of processor time.
    wall_s: seconds in all.
    memory: bytes of a worker's address space (Linux).
    workers: how many grade at once.
    patience_s: of `cpu_s`, what a job gets at first; one that needs more is
      put off behind those with less.
  """
  cpu_s: float = 2.0
  wall_s: float = 10.0
  memory: int = 2 << 30
  workers: int = max(1, min(8, os.cpu_count() or 1))
  patience_s: float = 0.1

  def __post_init__(self):
    for name in ('cpu_s', 'wall_s', 'memory', 'workers', 'patience_s'):
      if not getattr(self, name) > 0:
        raise ValueError(f'{name} is {getattr(self, name)}; it must be > 0')


@dataclasses.dataclass(frozen=True)
class Job:
  """An answer to be graded as a row of kinds.KINDS does it."""
  kind: str
  answer: str
  reference: str


@dataclasses.dataclass(frozen=True)
class Reply:
  """What came of a job.

  Attributes:
    status: 'score', 'unreadable' (the gold), 'timeout' or 'crash'.
    score: in [0, 1]; 0 without one.
    reason: words for people, '' with a score.
    seconds: after the call when it came.
  """
  status: str
  score: float = 0.0
  reason: str = ''
  seconds: float = 0.0


def signal_name(number: int) -> str:
  """'SIGKILL', or 'code 1' for an exit."""
  return signal.Signals(number).name if number > 0 else f'code {-number}'


class _Worker:
  """A process and the job it holds (index into the call's jobs, or None).

  `child` is the pid of the fork that grades.
  """

  def __init__(self, limits: Limits):
    root = str(pathlib.Path(zppo_jax.__file__).resolve().parent.parent)
    path = os.pathsep.join([root, *(p for p in sys.path if p)])
    self.process = subprocess.Popen(
        [sys.executable, '-m', 'zppo_jax.verdicts.worker',
         str(limits.memory)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, cwd='/', bufsize=0,
        env={n: os.environ[n] for n in ENVIRONMENT if n in os.environ}
        | QUIET | {'PYTHONPATH': path})
    self.loaded: set[str] = set()
    self.index: int | None = None
    self.kind = ''
    self.since = self.deadline = 0.0
    self.child = 0
    self.received = b''

  def give(self, index: int, job: Job, cpu_s: float, limits: Limits) -> None:
    """Hands a job over; OSError if the worker is gone."""
    self.index, self.kind = index, job.kind
    self.start_clock(limits)
    if job.kind not in self.loaded:
      self.deadline = self.since + LOAD_S
    line = json.dumps({**dataclasses.asdict(job), 'cpu_s': cpu_s,
                       'wall_s': limits.wall_s}).encode() + b'\n'
    while line:
      line = line[os.write(self.process.stdin.fileno(), line):]

  def start_clock(self, limits: Limits) -> None:
    self.since = time.monotonic()
    # The worker's own timer comes first; this one is for a stopped process.
    self.deadline = self.since + limits.wall_s + 0.5

  @property
  def loading(self) -> bool:
    return self.kind not in self.loaded

  def read(self) -> list[dict] | None:
    """Whole lines that have come; None when it has ended."""
    try:
      read = os.read(self.process.stdout.fileno(), MAX_REPLY)
    except OSError:
      return None
    if not read or len(self.received) > MAX_REPLY:
      return None
    *lines, self.received = (self.received + read).split(b'\n')
    return [json.loads(line) for line in lines]

  def end(self) -> int:
    """Kills and reaps it; its return code."""
    self.process.kill()
    code = self.process.wait()
    for pipe in (self.process.stdin, self.process.stdout):
      with contextlib.suppress(OSError):
        pipe.close()
    return code


class Wall:
  """Grades jobs in processes that may be killed. Safe to share by threads:
  calls wait for each other."""

  def __init__(self, limits: Limits | None = None):
    self.limits = limits or Limits()
    self.started = 0  # workers, over its life
    self._workers: list[_Worker] = []
    self._lock = threading.Lock()
    self._owner = os.getpid()

  def grade(self, jobs: Sequence[Job]) -> list[Reply]:
    """A reply for each job, in their order.

    Raises:
      WallError: if workers cannot start or a kind cannot be loaded.
    """
    if not jobs:
      return []
    with self._lock:
      if self._owner != os.getpid():  # a fork took our pipes along
        self._workers, self._owner = [], os.getpid()
      try:
        return _Call(self, jobs).run()
      except BaseException:
        self._end_all()  # they may hold half a job
        raise

  def close(self) -> None:
    """Ends all workers; the next call starts new ones."""
    with self._lock:
      if self._owner == os.getpid():
        self._end_all()

  def _end_all(self) -> None:
    while self._workers:
      self._workers.pop().end()

  def pids(self) -> list[int]:
    """Of the living workers."""
    return [w.process.pid for w in self._workers]

  def start(self) -> _Worker:
    if not self._workers and not self.started:
      atexit.register(self.close)
    worker = _Worker(self.limits)
    self.started += 1
    self._workers.append(worker)
    return worker

  def drop(self, worker: _Worker) -> int:
    self._workers.remove(worker)
    return worker.end()


def slices(limits: Limits) -> list[float]:
  """Seconds of the processor that a job gets while others wait: at first, and
  after each time that it was put off."""
  out = [min(limits.patience_s, limits.cpu_s)]
  while out[-1] < limits.cpu_s:
    more = _GROWTH * out[-1]
    out.append(more if 2 * more <= limits.cpu_s else limits.cpu_s)
  return out


class _Call:
  """One call of `Wall.grade`: its queue, and who holds what."""

  def __init__(self, wall: Wall, jobs: Sequence[Job]):
    self.wall, self.jobs = wall, jobs
    # Who waits, by the seconds of the processor to be had next; least first.
    self.queues = {s: collections.deque() for s in slices(wall.limits)}
    self.given = [next(iter(self.queues))] * len(jobs)
    # What looks like the least work comes first: nothing waits for a formula
    # that explodes but its like.
    self.queues[self.given[0]].extend(sorted(
        range(len(jobs)), key=lambda i: screen.effort(jobs[i].answer)))
    self.replies: list[Reply | None] = [None] * len(jobs)
    self.again: set[int] = set()  # crashed once
    self.begun = time.monotonic()
    self.selector = selectors.DefaultSelector()

  def run(self) -> list[Reply]:
    with self.selector:
      for worker in self.wall._workers:
        self.watch(worker)
      while self.waiting() or self.busy():
        self.fill()
        self.wait()
    return self.replies

  def watch(self, worker: _Worker) -> None:
    self.selector.register(worker.process.stdout, selectors.EVENT_READ, worker)

  def busy(self) -> list[_Worker]:
    return [w for w in self.wall._workers if w.index is not None]

  def waiting(self) -> bool:
    return any(self.queues.values())

  def fill(self) -> None:
    """Gives jobs to idle workers, starting some where there is room."""
    while self.waiting():
      if len(self.busy()) >= self.wall.limits.workers:
        return
      idle = [w for w in self.wall._workers if w.index is None]
      if idle:
        worker = idle[0]
      else:
        worker = self.wall.start()
        self.watch(worker)
      limits = self.wall.limits
      index = next(filter(None, self.queues.values())).popleft()
      if not self.waiting():
        self.given[index] = limits.cpu_s  # it holds up nobody
      try:
        worker.give(index, self.jobs[index], self.given[index], limits)
      except OSError:
        self.ended(worker)

  def wait(self) -> None:
    """Until something happens, or a deadline."""
    now = time.monotonic()
    until = [w.deadline for w in self.busy()]
    events = self.selector.select(max(0.0, min(until) - now + 0.001))
    for key, _ in events:
      lines = key.data.read()
      if lines is None:
        self.ended(key.data)
      for line in lines or ():
        self.heard(key.data, line)
    now = time.monotonic()
    for worker in self.busy():
      if now >= worker.deadline:
        self.ended(worker, late=True)

  def heard(self, worker: _Worker, line: dict) -> None:
    if 'cannot' in line:
      raise WallError(f'grading cannot begin: {line["cannot"]}')
    if 'loaded' in line:
      worker.loaded.add(line['loaded'])
      worker.start_clock(self.wall.limits)
      return
    if 'child' in line:
      worker.child = line['child']
      return
    (status, value), = line.items()
    if status == 'died':
      self.died(worker, value)
    elif status == 'score':
      self.settle(worker, 'score', score=value)
    else:
      self.settle(worker, status, reason=value)

  def settle(self, worker: _Worker, status: str, score: float = 0.0,
             reason: str = '') -> None:
    self.replies[worker.index] = Reply(status, score, reason,
                                       time.monotonic() - self.begun)
    worker.index = None

  def ended(self, worker: _Worker, late: bool = False) -> None:
    """A worker died or has to: what that says about its job."""
    self.selector.unregister(worker.process.stdout)
    index, loading = worker.index, worker.loading
    # Its own death first, so that the code is not that of our kill.
    with contextlib.suppress(subprocess.TimeoutExpired):
      worker.process.wait(0 if late else 1.0)
    code = self.wall.drop(worker)
    if index is None:
      return
    if loading:
      what = (f'took more than {LOAD_S:g} s' if late else
              f'ended with code {code}')
      raise WallError(f'a worker {what} before it could grade anything '
                      f'(kind {self.jobs[index].kind!r})')
    self.died(worker, signal.SIGALRM if late else -code)

  def died(self, worker: _Worker, number: int) -> None:
    """Settles a job whose process is gone.

    Args:
      worker: that held it.
      number: the signal that it died of, or -exit code.
    """
    limits, index = self.wall.limits, worker.index
    worker.child = 0
    if number == signal.SIGPROF and self.given[index] < limits.cpu_s:
      worker.index = None
      self.given[index] = min(s for s in self.queues if s > self.given[index])
      self.queues[self.given[index]].append(index)
    elif number == signal.SIGPROF:
      self.settle(worker, 'timeout',
                  reason=f'more than {limits.cpu_s:g} s of processor time')
    elif number == signal.SIGALRM:
      self.settle(worker, 'timeout', reason=f'more than {limits.wall_s:g} s')
    elif index in self.again:
      self.settle(worker, 'crash',
                  reason=f'its process ended with {signal_name(number)}')
    else:  # it may have been the machine: once more
      worker.index = None
      self.again.add(index)
      self.queues[self.given[index]].append(index)
