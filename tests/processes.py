"""Several processes of a run as threads of one: what they say to each other is
real, and only the processes are not."""

import contextlib
import itertools
import threading
from multiprocessing import connection

from zppo_jax.devices import hosts


@contextlib.contextmanager
def groups(count):
  """The groups of `count` processes, all in this one."""
  threads = set(threading.enumerate())
  pairs = {i: connection.Pipe() for i in range(1, count)}
  of = [hosts._Group(0, count, {i: a for i, (a, _) in pairs.items()}),
        *(hosts._Group(i, count, {0: b}) for i, (_, b) in pairs.items())]
  try:
    yield of
  finally:
    for group in of:
      group.leave()
    for thread in set(threading.enumerate()) - threads:
      thread.join()  # a listener reads from what must stay open
    for link in itertools.chain(*pairs.values()):
      link.close()


def together(of, work):
  """The result, or the error, of work(group) in a thread for each group."""
  results = [None] * len(of)

  def one(i):
    try:
      with hosts.in_lane('test'):
        results[i] = work(of[i])
    except Exception as e:
      results[i] = e

  threads = [threading.Thread(target=one, args=(i,)) for i in range(len(of))]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  return results


class _OfThread:
  """The group of the thread that asks."""

  def __init__(self):
    self.local = threading.local()

  def __getattr__(self, name):
    return getattr(self.local.group, name)


def as_processes(count, work):
  """The result, or the error, of work(index) in each of `count` processes, for
  which the functions of hosts act."""
  of_thread, before, wait_s = _OfThread(), hosts._GROUP, hosts.WAIT_S

  def one(group):
    of_thread.local.group = group
    return work(group.index)

  with groups(count) as of:
    hosts._GROUP, hosts.WAIT_S = of_thread, 30.0
    try:
      return together(of, one)
    finally:
      hosts._GROUP, hosts.WAIT_S = before, wait_s
