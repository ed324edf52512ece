"""The sandbox: a pool of killable worker processes that grade answers.

Only this file talks to the workers. A worker holds one job at a time, so that
killing it loses no other job. While other jobs wait, a job gets a small part of
its time. If it needs more, it begins again behind the others with five times as
much, up to its limit, so that a few bad answers do not hold up the good ones.
Workers start when they are first needed. They end with this process, whatever
ends it, because their input closes.
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
from zppo_jax import allowed
from zppo_jax.verdicts.kinds import prefilter

# The variables of this process that a worker gets: no keys, no devices.
ENVIRONMENT = ('PATH', 'LANG', 'LC_ALL', 'HOME', 'TMPDIR', 'SYSTEMROOT')
QUIET = {'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1',
         'MALLOC_ARENA_MAX': '1', 'PYTHONHASHSEED': '0'}
_MOST_KILLED_EARLY = 16  # workers in one call; beyond it grading stops
_GROWTH = 5  # the factor of a job's time, each time that it begins again
LOAD_S = 120.0  # to start and to import, on a busy machine
MAX_REPLY = 1 << 16  # bytes


class SandboxError(RuntimeError):
  """Workers cannot start or cannot load a kind, so no answer can be graded."""


@dataclasses.dataclass(frozen=True)
class SandboxLimits:
  """What the grading of one answer may take.

  Attributes:
    cpu_s: seconds of processor time.
    wall_s: seconds in all.
    memory: bytes of a worker's address space (Linux).
    workers: how many workers grade at once.
    patience_s: the part of `cpu_s` that a job gets at first. A job that needs
      more waits behind those that had less.
  """
  cpu_s: float = 2.0
  wall_s: float = 10.0
  memory: int = 2 << 30
  workers: int = max(1, min(8, os.cpu_count() or 1))
  patience_s: float = 0.1

  def __post_init__(self) -> None:
    for name in ('cpu_s', 'wall_s', 'memory', 'workers', 'patience_s'):
      allowed.number(name, getattr(self, name), '> 0')


@dataclasses.dataclass(frozen=True)
class GradingJob:
  """An answer to be graded.

  Attributes:
    kind: a name in kinds.KINDS, or 'module:function'.
    answer: the parsed answer.
    reference: the text with which the kind compares it.
  """
  kind: str
  answer: str
  reference: str


@dataclasses.dataclass(frozen=True)
class GradingResult:
  """The result of a job, or of a question to the judge.

  Attributes:
    status: 'score', 'unreadable' (the gold answer), 'timeout', 'crash', or the
      judge's 'malformed'.
    score: in [0, 1]; 0 if the status is not 'score'.
    reason: words for people; '' if the status is 'score'.
    seconds: the time from the call to the result.
  """
  status: str
  score: float = 0.0
  reason: str = ''
  seconds: float = 0.0


def signal_name(number: int) -> str:
  """The name of a signal, 'SIGKILL'; 'code 1' for -1, which is an exit."""
  return signal.Signals(number).name if number > 0 else f'code {-number}'


class _Worker:
  """A worker process and its job.

  Attributes:
    process: runs zppo_jax.verdicts.worker.
    searched: where it looks for modules.
    stdin, stdout: the pipes to and from it.
    loaded: the kinds that it has loaded.
    index: of its job in the jobs of the call, or None.
    kind: of its job.
    since, deadline: of its job, as time.monotonic counts seconds.
    child: the pid of the fork that grades.
    received: the part of a line that has come.
  """

  def __init__(self, limits: SandboxLimits):
    self.searched = searched()
    self.process = subprocess.Popen(
        [sys.executable, '-m', 'zppo_jax.verdicts.worker',
         str(limits.memory)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, cwd='/', bufsize=0,
        env={n: os.environ[n] for n in ENVIRONMENT if n in os.environ}
        | QUIET | {'PYTHONPATH': self.searched})
    assert self.process.stdin is not None and self.process.stdout is not None
    self.stdin, self.stdout = self.process.stdin, self.process.stdout
    self.loaded: set[str] = set()
    self.index: int | None = None
    self.kind = ''
    self.since = self.deadline = 0.0
    self.child = 0
    self.received = b''

  def give(self, index: int, job: GradingJob, cpu_s: float,
           limits: SandboxLimits) -> None:
    """Hands a job over; raises OSError if the worker has ended."""
    self.index, self.kind = index, job.kind
    self.start_clock(limits)
    if job.kind not in self.loaded:
      self.deadline = self.since + LOAD_S
    line = json.dumps({**dataclasses.asdict(job), 'cpu_s': cpu_s,
                       'wall_s': limits.wall_s}).encode() + b'\n'
    while line:
      line = line[os.write(self.stdin.fileno(), line):]

  def start_clock(self, limits: SandboxLimits) -> None:
    self.since = time.monotonic()
    # The worker's own timer ends a job before this deadline does, which is for
    # a process that was stopped.
    self.deadline = self.since + limits.wall_s + 0.5

  @property
  def loading(self) -> bool:
    return self.kind not in self.loaded

  def read(self) -> list[dict] | None:
    """The whole lines that have come; None if the worker has ended."""
    try:
      data = os.read(self.stdout.fileno(), MAX_REPLY)
    except OSError:
      return None
    if not data or len(self.received) > MAX_REPLY:
      return None
    *lines, self.received = (self.received + data).split(b'\n')
    return [json.loads(line) for line in lines]

  def end(self) -> int:
    """Kills and reaps the process; returns its return code."""
    self.process.kill()
    code = self.process.wait()
    for pipe in (self.stdin, self.stdout):
      with contextlib.suppress(OSError):
        pipe.close()
    return code


class Sandbox:
  """Grades jobs in processes that it may kill.

  Threads may share it, because a call waits for the one before it.

  Attributes:
    limits: of each job.
    started: the number of workers that were ever started.
  """

  def __init__(self, limits: SandboxLimits | None = None):
    self.limits = limits or SandboxLimits()
    self.started = 0
    self._workers: list[_Worker] = []
    self._lock = threading.Lock()
    self._owner = os.getpid()

  def grade(self, jobs: Sequence[GradingJob]) -> list[GradingResult]:
    """A result for each job, in their order.

    Raises:
      SandboxError: if workers cannot start or a kind cannot be loaded.
    """
    if not jobs:
      return []
    with self._lock:
      if self._owner != os.getpid():  # a fork inherited the pipes
        self._workers, self._owner = [], os.getpid()
      for worker in [w for w in self._workers if w.searched != searched()]:
        self.drop(worker)  # the process has found folders since
      try:
        return _Call(self, jobs).run()
      except BaseException:
        self._end_all()  # a worker may hold half a job
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
    """The process ids of the workers."""
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


def searched() -> str:
  """The folders in which a worker looks for modules: those of this process."""
  root = str(pathlib.Path(zppo_jax.__file__).resolve().parent.parent)
  return os.pathsep.join([root, *(p for p in sys.path if p)])


def slices(limits: SandboxLimits) -> list[float]:
  """Seconds of processor time that a job gets in its first and each later try,
  while other jobs wait."""
  seconds = [min(limits.patience_s, limits.cpu_s)]
  while seconds[-1] < limits.cpu_s:
    more = _GROWTH * seconds[-1]
    seconds.append(more if 2 * more <= limits.cpu_s else limits.cpu_s)
  return seconds


class _Call:
  """One call of `Sandbox.grade`: its queues and its results."""

  def __init__(self, sandbox: Sandbox, jobs: Sequence[GradingJob]):
    self.sandbox, self.jobs = sandbox, jobs
    # Waiting jobs by the processor time of their next try, least first.
    self.queues: dict[float, collections.deque[int]] = {
        s: collections.deque() for s in slices(sandbox.limits)}
    self.given = [next(iter(self.queues))] * len(jobs)
    # Jobs that look like the least work come first, so that only its like waits
    # for a formula that explodes.
    self.queues[self.given[0]].extend(sorted(
        range(len(jobs)), key=lambda i: prefilter.effort(jobs[i].answer)))
    self.results: dict[int, GradingResult] = {}
    self.crashed: set[int] = set()  # once; a second crash is the result
    self.killed_early = 0  # workers that were killed while they loaded
    self.begun = time.monotonic()
    self.selector = selectors.DefaultSelector()

  def run(self) -> list[GradingResult]:
    with self.selector:
      for worker in self.sandbox._workers:
        self.watch(worker)
      while self.waiting() or self.busy():
        self.fill()
        self.wait()
    return [self.results[i] for i in range(len(self.jobs))]

  def watch(self, worker: _Worker) -> None:
    self.selector.register(worker.stdout, selectors.EVENT_READ, worker)

  def busy(self) -> list[_Worker]:
    return [w for w in self.sandbox._workers if w.index is not None]

  def waiting(self) -> bool:
    return any(self.queues.values())

  def fill(self) -> None:
    """Gives jobs to idle workers, starting some where there is room."""
    while self.waiting():
      if len(self.busy()) >= self.sandbox.limits.workers:
        return
      idle = [w for w in self.sandbox._workers if w.index is None]
      if idle:
        worker = idle[0]
      else:
        worker = self.sandbox.start()
        self.watch(worker)
      limits = self.sandbox.limits
      index = next(filter(None, self.queues.values())).popleft()
      if not self.waiting():
        self.given[index] = limits.cpu_s  # because no job waits for it
      try:
        worker.give(index, self.jobs[index], self.given[index], limits)
      except OSError:
        self.ended(worker)

  def wait(self) -> None:
    """Waits until a worker writes or ends, or until the next deadline."""
    now = time.monotonic()
    until = [w.deadline for w in self.busy()]
    events = self.selector.select(max(0.0, min(until) - now + 0.001))
    for key, _ in events:
      lines = key.data.read()
      if lines is None:
        self.ended(key.data)
      for line in lines or ():
        self.receive(key.data, line)
    now = time.monotonic()
    for worker in self.busy():
      if now >= worker.deadline:
        self.ended(worker, late=True)

  def receive(self, worker: _Worker, line: dict) -> None:
    """Acts on a line of a worker (worker.py lists them)."""
    if 'cannot' in line:
      raise SandboxError(f'grading cannot begin: {line["cannot"]}')
    if 'loaded' in line:
      worker.loaded.add(line['loaded'])
      worker.start_clock(self.sandbox.limits)
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
    assert worker.index is not None
    self.results[worker.index] = GradingResult(
        status=status, score=score, reason=reason,
        seconds=time.monotonic() - self.begun)
    worker.index = None

  def ended(self, worker: _Worker, late: bool = False) -> None:
    """Settles the job of a worker that has ended, or that must end."""
    self.selector.unregister(worker.stdout)
    index, loading = worker.index, worker.loading
    # The worker may end by itself first, so that the code is not SIGKILL's.
    with contextlib.suppress(subprocess.TimeoutExpired):
      worker.process.wait(0 if late else 1.0)
    code = self.sandbox.drop(worker)
    if index is None:
      return
    if loading and not late and code == -signal.SIGKILL and (
        self.killed_early < _MOST_KILLED_EARLY):
      # Somebody else killed it, as a system without memory does.
      self.killed_early += 1
      worker.index = None
      self.queues[self.given[index]].appendleft(index)
      return
    if loading:
      what = (f'took more than {LOAD_S:g} s' if late else
              f'ended with code {code}')
      raise SandboxError(f'a worker {what} before it could grade anything '
                      f'(kind {self.jobs[index].kind!r})')
    self.died(worker, signal.SIGALRM if late else -code)

  def died(self, worker: _Worker, number: int) -> None:
    """Settles a job whose process has ended, or lets it begin again.

    Args:
      worker: held the job.
      number: the signal that ended the process, or -exit code.
    """
    limits, index = self.sandbox.limits, worker.index
    assert index is not None
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
    elif index in self.crashed:
      self.settle(worker, 'crash',
                  reason=f'its process ended with {signal_name(number)}')
    else:  # the machine may be the cause, so the job gets a second try
      worker.index = None
      self.crashed.add(index)
      self.queues[self.given[index]].append(index)
