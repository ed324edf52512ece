"""Several processes that are one run: who they are, and what they agree on.

All processes of a run execute the same program (SPMD) on one global mesh, and
the first of them, process 0, writes. What the processes tell each other beside
the arrays of the mesh goes over TCP connections to the first process. These
connections also are the watch: the kernel closes those of a process that died,
so that the others learn of it at once and end, instead of waiting in a
collective for a process that never comes.

Every function here may be called by a single process, for which it does nothing
and costs nothing. With several processes, every process must make the same
calls in the same order. Threads have no common order, so a thread beside the
main one makes its calls in a lane of its own (`in_lane`).
"""

import collections
import contextlib
import ctypes
import dataclasses
import os
import pickle
import secrets
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import connection
from typing import Any, TypeVar

import numpy as np

from zppo_jax.devices.launched import Settings, expected, whole

Value = TypeVar('Value')
Item = TypeVar('Item')

# The exit code of a process that ended because another one did. It lies above
# 128 + every signal, and xpk restarts a JobSet on it.
LOST = 220
START_S = 300  # seconds until all processes of a run have started
WAIT_S = 3600.0  # seconds for which a process waits for a slower one
# A host that lost its power closes no connection. The kernel asks after this
# silence, and this often; together this is the time until such a host is lost.
_SILENCE_S, _PROBE_S, _PROBES = 20, 5, 8
_ADDRESS = 1024  # bytes of the first message, by which processes connect
PORT = 'ZPPO_HOSTS_PORT'  # names the port where the first process listens


class HostsError(RuntimeError):
  """The processes of a run did not come together."""


class _Group:
  """The processes of a run, seen from one of them.

  Attributes:
    index, count: which process of how many.
    links: the connections: of the first to every other, by index; of the others
      to the first.
    cleaning: functions that are called before the process ends because
      another one did.
  """

  def __init__(self, index: int, count: int,
               links: dict[int, connection.Connection]):
    self.index, self.count, self.links = index, count, links
    self.cleaning: list[Callable[[], None]] = []
    self.failing = False  # this process raised an error of its own
    self._closing = False
    self._turn: collections.Counter = collections.Counter()
    # (lane, turn) -> process -> (what, value)
    self._arrived: dict[tuple, dict[int, tuple]] = collections.defaultdict(dict)
    self._news = threading.Condition()
    self._sending = threading.Lock()
    self._ending = threading.Lock()
    for other, link in links.items():
      threading.Thread(target=self._listen, args=(other, link), daemon=True,
                       name=f'process {other}').start()

  def _send(self, others: Iterable[int], message: tuple) -> None:
    raw = pickle.dumps(message)
    for other in others:
      with self._sending, contextlib.suppress(OSError):  # `_listen` tells of it
        self.links[other].send_bytes(raw)

  def _listen(self, other: int, link: connection.Connection) -> None:
    """Takes in what a process sends, and ends this one when that one ends."""
    try:
      while True:
        kind, *message = pickle.loads(link.recv_bytes())
        if kind == 'left':
          return
        if kind == 'ended':
          self._lost(*message)
          return
        key, what, value = message
        with self._news:
          self._arrived[key][other] = what, value
          self._news.notify_all()
    except (EOFError, OSError):
      self._lost(other, 'it died or its host is gone: its connection ended '
                 'without a word', died=True)
    except Exception as e:  # whatever unpickling raises
      self._lost(other, f'what it sent cannot be read: {e!r}', died=True)

  def _lost(self, other: int, why: str, died: bool) -> None:
    """Ends this process because another one ended.

    If this process is about to end with an error of its own, the others' errors
    do not count, because all may have the same. A death counts, because the
    error may be that of a collective without the dead process.
    """
    if not self._closing and (died or not self.failing):
      self._end(LOST, f'zppo: process {other} of {self.count} ended: {why}. '
                f'Process {self.index} ends too; the same command resumes the '
                'run', (other, why, died))

  def fail(self, line: str) -> None:
    """Ends this process with an error of its own, which `line` tells."""
    self._end(1, line, (self.index, line, False))

  def _end(self, code: int, line: str, news: tuple[int, str, bool]) -> None:
    """Ends this process now, after it told the others the news."""
    if not self._ending.acquire(blocking=False):
      time.sleep(60)  # another thread is ending the process
    self._closing = True
    self._send([i for i in self.links if i != news[0]], ('ended', *news))
    for clean in reversed(self.cleaning):
      with contextlib.suppress(OSError):
        clean()
    sys.stderr.write(f'{line}\n')
    for stream in (sys.stdout, sys.stderr):
      with contextlib.suppress(OSError, ValueError):
        stream.flush()
    os._exit(code)

  def _take(self, key: tuple, wanted: Sequence[int], what: str) -> dict:
    """What `wanted` processes sent for a turn.

    Raises:
      HostsError: if one does not come, or comes with another call.
    """
    until = time.monotonic() + WAIT_S
    with self._news:
      while missing := [i for i in wanted if i not in self._arrived[key]]:
        left = until - time.monotonic()
        if left <= 0:
          raise HostsError(
              f'process {missing[0]} of {self.count} did not come to {what!r} '
              f'within {WAIT_S:g} s, although it lives; process {self.index} '
              'waited for it there')
        self._news.wait(left)
      arrived = self._arrived.pop(key)
    for other, (theirs, _) in arrived.items():
      if theirs != what:
        raise HostsError(
            f'process {other} of {self.count} is at {theirs!r}, process '
            f'{self.index} at {what!r}; all processes must do the same')
    return {i: value for i, (_, value) in arrived.items()}

  def _key(self, lane: str) -> tuple:
    self._turn[lane] += 1
    return lane, self._turn[lane]

  def broadcast(self, value: Any, what: str) -> Any:
    key, what = self._key(_lane()), f'broadcast {what}'
    if self.index:
      return self._take(key, [0], what)[0]
    self._send(self.links, ('value', key, what, value))
    return value

  def gather(self, value: Any, what: str) -> list:
    lane = _lane()
    key, back = self._key(lane), self._key(lane)
    what = f'gather {what}'
    if self.index:
      self._send([0], ('value', key, what, value))
      return self._take(back, [0], what)[0]
    values = {0: value, **self._take(key, list(self.links), what)}
    ordered = [values[i] for i in range(self.count)]
    self._send(self.links, ('value', back, what, ordered))
    return ordered

  def leave(self) -> None:
    """Ends the listening of all, who must have come to the same place."""
    self._closing = True
    self._send(self.links, ('left',))


_GROUP: _Group | None = None
_THREAD = threading.local()


def _lane() -> str:
  if threading.current_thread() is threading.main_thread():
    return getattr(_THREAD, 'lane', '')
  lane = getattr(_THREAD, 'lane', None)
  if lane is None:
    raise HostsError(f'thread {threading.current_thread().name!r} is in no '
                     'lane; a thread beside the main one needs hosts.in_lane')
  return lane


@contextlib.contextmanager
def in_lane(name: str) -> Iterator[None]:
  """A context in which this thread's calls have an order of their own.

  Args:
    name: the same on every process, and of one thread at a time.
  """
  before = getattr(_THREAD, 'lane', None)
  _THREAD.lane = name
  try:
    yield
  finally:
    if before is None:
      del _THREAD.lane
    else:
      _THREAD.lane = before


def _slow_aborts() -> None:
  """Makes an abort of this process wait 6 s for `_listen` to end it first.

  When the first process dies, JAX's client aborts the others (code 134 and a
  page of text) at the moment at which `_listen` learns of it. The abort's
  signal now calls sleep(SIGABRT), which is sleep(6), in the thread that aborts;
  no other thread waits.
  """
  libc = ctypes.CDLL(None)
  sleep = ctypes.cast(libc.sleep, ctypes.c_void_p)
  libc.signal.argtypes = ctypes.c_int, ctypes.c_void_p
  libc.signal.restype = ctypes.c_void_p
  libc.signal(signal.SIGABRT, sleep)


def start(of: Settings) -> int | None:
  """Joins the processes of a run, if there are several.

  It must be called before JAX starts its devices. `connect` must follow.

  Returns:
    The number of processes; None where JAX found it out (`connect` knows it).

  Raises:
    HostsError: if the others do not come within START_S seconds.
    ValueError: for numbers that are not those of processes.
  """
  there = expected()
  count = there if of.processes is None else of.processes
  if there == 1 and of.processes != 1:
    of.check_whole()
  if count == 1:
    return 1
  import jax
  # JAX would take SIGTERM away from the loop, which saves and ends.
  jax.config.update('jax_enable_preemption_service', False)
  given = of.coordinator is not None and of.process is not None
  try:
    jax.distributed.initialize(
        of.coordinator, of.processes, of.process,
        cluster_detection_method='deactivate' if given else None,
        initialization_timeout=START_S)
  except (RuntimeError, ValueError) as e:
    raise HostsError(
        f'the processes of this run did not come together within {START_S} s: '
        f'{str(e).splitlines()[0]}. Each needs the same '
        '--coordinator=HOST:PORT, which it can reach, and the same '
        '--processes') from e
  return count


def _addresses() -> list[str]:
  """Where other hosts may reach this one, the likeliest first."""
  found = []
  with contextlib.suppress(OSError), socket.socket(
      socket.AF_INET, socket.SOCK_DGRAM) as probe:
    probe.connect(('192.0.2.1', 9))  # sends nothing; picks a route
    found.append(probe.getsockname()[0])
  with contextlib.suppress(OSError):
    found += [of[4][0] for of in socket.getaddrinfo(
        socket.gethostname(), None, socket.AF_INET)]
  found.append(socket.gethostname())
  own = [a for a in dict.fromkeys(found) if not a.startswith('127.')]
  return [*own, '127.0.0.1']


def _watched(link: connection.Connection) -> connection.Connection:
  """The connection, whose end the kernel finds out even if a host vanished."""
  with socket.socket(fileno=os.dup(link.fileno())) as of:
    of.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    of.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    total = _SILENCE_S + _PROBE_S * _PROBES
    for option, value in (('TCP_KEEPIDLE', _SILENCE_S),
                          ('TCP_KEEPINTVL', _PROBE_S),
                          ('TCP_KEEPCNT', _PROBES),
                          ('TCP_USER_TIMEOUT', 1000 * total)):
      if hasattr(socket, option):
        of.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
  return link


def _from_first_device(text: str) -> str:
  """A short text of the first process, by a collective of the devices."""
  from jax.experimental import multihost_utils
  message = np.zeros(_ADDRESS, np.uint8)
  raw = text.encode()
  message[:len(raw)] = np.frombuffer(raw, np.uint8)
  sent = np.asarray(multihost_utils.broadcast_one_to_all(message))
  return sent.astype(np.uint8).tobytes().rstrip(b'\0').decode()


def _accepted(listener: connection.Listener, count: int) -> dict:
  """The connections of all other processes, by their index."""
  links = {}
  while len(links) < count - 1:
    with contextlib.suppress(connection.AuthenticationError, EOFError,
                             ConnectionError):
      link = listener.accept()
      links[link.recv()] = _watched(link)
  return links


def _reached(addresses: Sequence[str], port: int, key: bytes,
             index: int) -> connection.Connection:
  errors: dict[str, str] = {}
  until = time.monotonic() + START_S
  while time.monotonic() < until:
    for address in addresses:
      try:
        link = connection.Client((address, port), authkey=key)
      except (OSError, EOFError, connection.AuthenticationError) as e:
        errors[address] = f'{type(e).__name__}: {e}'
        continue
      link.send(index)
      return _watched(link)
    time.sleep(1)
  tried = '; '.join(f'{a}: {why}' for a, why in errors.items())
  raise HostsError(
      f'process {index} cannot reach the first process at port {port} within '
      f'{START_S} s ({tried}). Open that port between the hosts; {PORT} fixes '
      'its number')


def connect() -> None:
  """Connects the processes that `start` joined; it starts JAX's devices.

  Raises:
    HostsError: if the first process cannot be reached.
  """
  global _GROUP
  import jax
  if not jax.distributed.is_initialized() or jax.process_count() == 1:
    return
  index, count = jax.process_index(), jax.process_count()
  _slow_aborts()
  if index:
    where, port, key = _from_first_device('').split('|')
    link = _reached(where.split(','), int(port), bytes.fromhex(key), index)
    _GROUP = _Group(index, count, {0: link})
  else:
    key = secrets.token_hex(32)
    with connection.Listener(('0.0.0.0', whole(PORT) or 0), backlog=count,
                             authkey=bytes.fromhex(key)) as listener:
      port = listener.address[1]
      _from_first_device(f'{",".join(_addresses())}|{port}|{key}')
      _GROUP = _Group(index, count, _accepted(listener, count))
    return
  # One process speaks to the person who watches.
  sys.stdout = open(os.devnull, 'w')  # noqa: SIM115


def count() -> int:
  """The number of processes of this run."""
  return 1 if _GROUP is None else _GROUP.count


def index() -> int:
  """The number of this process, from 0."""
  return 0 if _GROUP is None else _GROUP.index


def first() -> bool:
  """Whether this process is the one that writes."""
  return _GROUP is None or _GROUP.index == 0


def wait(name: str) -> None:
  """Returns when every process has called it.

  Args:
    name: says where this is, for errors.

  Raises:
    HostsError: if a process does not come within WAIT_S seconds, or comes to
      another call.
  """
  if _GROUP is not None:
    _GROUP.gather(None, f'wait {name}')


def gather(value: Value, name: str = '') -> list[Value]:
  """The value of every process, in the order of the processes.

  Args:
    value: an object that pickle takes.
    name: see `wait`.

  Raises:
    HostsError: see `wait`.
  """
  return [value] if _GROUP is None else _GROUP.gather(value, name)


def agreed(value: Value, of: Callable[[list[Value]], Any] = max,
           name: str = 'agreed') -> Any:
  """One value for all processes, made from the value of each.

  Only what it returns may decide what a process does next: a process that acts
  on its own value leaves the others waiting.

  Args:
    value: of this process.
    of: makes one of the list of all; max, min, any, all.
    name: see `wait`.
  """
  return of(gather(value, name))


def broadcast(value: Value, name: str = '') -> Value:
  """The first process's value, on every process. See `gather`."""
  return value if _GROUP is None else _GROUP.broadcast(value, name)


@dataclasses.dataclass(frozen=True)
class _Failed:
  """An error that is raised on every process."""
  error: BaseException

  @classmethod
  def of(cls, error: Exception) -> '_Failed':
    try:
      same = pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an exception's own pickling raises
      same = None
    if type(same) is type(error) and str(same) == str(error):
      return cls(error)
    text = ''.join(traceback.format_exception_only(error)).strip()
    return cls(HostsError(text))


def _outcome(work: Callable[[], Value]) -> Value | _Failed:
  try:
    return work()
  except Exception as e:
    return _Failed.of(e)


def from_first(work: Callable[[], Value], name: str = '') -> Value:
  """What a function returns, or raises, on the first process alone.

  Args:
    work: is called on the first process.
    name: see `wait`.
  """
  if _GROUP is None:
    return work()
  if _GROUP.index:
    value = _GROUP.broadcast(None, name)
  else:
    try:
      value = work()
    except Exception as e:
      _GROUP.broadcast(_Failed.of(e), name)
      raise
    _GROUP.broadcast(value, name)
  if isinstance(value, _Failed):
    raise value.error
  return value


def shared(work: Callable[[list[Item]], Sequence[Value]],
           items: Sequence[Item], name: str = '') -> list[Value]:
  """A result for each item, in order; each process works on a part of them.

  Args:
    work: items -> a result for each; an error of it is raised on every process.
    items: the same on every process. They are dealt out in turns, so that long
      ones which lie together are not all one process's.
    name: see `wait`.
  """
  if _GROUP is None:
    return list(work(list(items)))
  own = list(items[_GROUP.index::_GROUP.count])
  parts = gather(_outcome(lambda: list(work(own)) if own else []), name)
  for part in parts:
    if isinstance(part, _Failed):
      raise part.error
  out: list = [None] * len(items)
  for i, part in enumerate(parts):
    out[i::_GROUP.count] = part
  return out


def on_loss(clean: Callable[[], None]) -> Callable[[], None]:
  """Has a function called if this process ends because another one did.

  Returns:
    A function that takes this back.
  """
  if _GROUP is None:
    return lambda: None
  cleaning = _GROUP.cleaning
  cleaning.append(clean)
  return lambda: cleaning.remove(clean)


def stop() -> None:
  """Ends what `start` and `connect` began, once all processes came here."""
  global _GROUP
  if _GROUP is None:
    return
  import jax
  _GROUP.gather(None, 'wait stop')
  _GROUP.leave()
  _GROUP = None
  jax.distributed.shutdown()


@contextlib.contextmanager
def together(say: Callable[[BaseException], str],
             agreed_ends: type[BaseException]) -> Iterator[None]:
  """A context whose end is the end of this process for the others.

  If it ends with an error, the other processes end, too: they would wait for
  this one in the next collective. An error that all processes raise has the
  same exit code on all.

  Args:
    say: an error -> the line that tells of it.
    agreed_ends: what all processes raise together for an end without an error.
  """
  try:
    yield
  except agreed_ends:
    stop()
    raise
  except BaseException as e:
    if _GROUP is not None:
      _GROUP.failing = True
      # A collective may fail before the news comes that a process died.
      time.sleep(_SETTLE_S)
      _GROUP.fail(say(e))
    raise
  else:
    stop()


_SETTLE_S = 3.0  # within this time the end of a process is known to all
