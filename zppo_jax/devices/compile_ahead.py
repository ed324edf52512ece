"""Programs that a thread compiles before they are called.

JAX keeps what it compiled by function and arguments. So a thread that compiles
a jitted function for the shapes of a later call leaves that call nothing to do,
and changes no number. The compiler works without Python's lock, so the thread
works while the main thread waits for the device, or compiles something else.

A program that is called while it waits in line is compiled by its caller. One
that is being compiled is waited for.
"""

import collections
import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple


class Job(NamedTuple):
  """A program to compile.

  Attributes:
    key: names the program; its caller names the same in `need`.
    compile: compiles it.
  """
  key: Hashable
  compile: Callable[[], Any]


class Queue:
  """Jobs in line, and the thread that does them, which ends when none is left.

  Attributes:
    errors: what jobs have raised, by key.
  """

  def __init__(self) -> None:
    self._changed = threading.Condition()
    self._waiting: collections.OrderedDict[Hashable, Job] = (
        collections.OrderedDict())
    self._seen: set[Hashable] = set()
    self._running: Hashable | None = None
    self._works = False
    self.errors: dict[Hashable, Exception] = {}

  def add(self, jobs: Iterable[Job], first: bool = False) -> None:
    """Puts jobs in line, in their order; what was in line before or called
    before stays out.

    Args:
      jobs: the jobs.
      first: whether they go before all that wait.
    """
    with self._changed:
      new = [job for job in jobs if job.key not in self._seen]
      self._seen.update(job.key for job in new)
      for job in new:
        self._waiting[job.key] = job
      for job in reversed(new if first else []):
        self._waiting.move_to_end(job.key, last=False)
      if self._waiting and not self._works:
        self._works = True
        threading.Thread(target=self._work, name='compile-ahead',
                         daemon=True).start()

  def _work(self) -> None:
    while True:
      with self._changed:
        self._running = None
        self._works = bool(self._waiting)
        self._changed.notify_all()
        if not self._works:
          return
        self._running, job = self._waiting.popitem(last=False)
      try:
        job.compile()
      except Exception as e:  # the caller of the program meets it, too
        self.errors[job.key] = e

  def need(self, key: Hashable) -> None:
    """Returns once nobody else compiles a program that is called now. If its
    job has failed, the call compiles it anew and so raises the error."""
    with self._changed:
      self._seen.add(key)
      self._waiting.pop(key, None)
      while self._running is not None and self._running == key:
        self._changed.wait()

  def clear(self) -> list[Exception]:
    """Takes all jobs out of line, waits for the one that is under way, and
    returns the errors of jobs since the last call."""
    with self._changed:
      self._waiting.clear()
      while self._works:
        self._changed.wait()
      self._seen.clear()
      errors, self.errors = list(self.errors.values()), {}
    return errors


# Of this process. Several processes would have to compile in one order, so
# train/compiling/ adds nothing there.
PROGRAMS = Queue()
