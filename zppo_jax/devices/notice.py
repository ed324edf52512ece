"""A notice that this process must end, and how long the device works ahead.

TPU VMs, GKE, SLURM and people send SIGTERM some 30 seconds before they kill a
process. A step may take many minutes, so it looks for the notice wherever it
waits for the device: between decode chunks and between micro-batches.

What a command does before its loop, or without one, ends at once on Ctrl-C
(`interrupts`). `main` imports this module first, so JAX is imported where it is
used.
"""

import collections
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

# Results that the device may still owe when the host hands out more work. The
# host then waits for about one micro-batch, during which no signal is heard.
AHEAD = 2


AGAIN_S = 0.1  # seconds until a KeyboardInterrupt that was lost comes again
# The number of the signal that `interrupts` got, and how often it did.
_early = {'number': 0, 'times': 0}


def _interrupt(number: int, frame) -> None:
  """The handler of `interrupts`."""
  del frame
  _early.update(number=number, times=_early['times'] + 1)
  raise KeyboardInterrupt


def _again(times: int) -> None:
  """Sends the signal again until it is heard. Once may be too little, because
  what comes just before a system call that waits is heard after it."""
  main = threading.main_thread().ident
  while (_early['number'] and _early['times'] == times and main
         and signal.getsignal(signal.SIGINT) is _interrupt):
    signal.pthread_kill(main, _early['number'])
    time.sleep(AGAIN_S)


@contextlib.contextmanager
def interrupts() -> Iterator[None]:
  """A context in which no Ctrl-C is lost.

  Python drops an exception in a callback of its garbage collector and in a
  `__del__`, also the KeyboardInterrupt of a signal that comes there; JAX has
  such a callback. Here the signal comes again after AGAIN_S, and it is noted
  for `heed`, because an extension may drop it in silence.

  Another handler than Python's own is left alone, and so is another thread
  than the main one.
  """
  if (threading.current_thread() is not threading.main_thread()
      or signal.getsignal(signal.SIGINT) is not signal.default_int_handler):
    yield
    return
  say = sys.unraisablehook

  def dropped(of: Any) -> None:
    if not (_early['number'] and issubclass(of.exc_type, KeyboardInterrupt)):
      say(of)
      return
    timer = threading.Timer(AGAIN_S, _again, (_early['times'],))
    timer.daemon = True
    timer.start()

  _early['number'] = 0
  signal.signal(signal.SIGINT, _interrupt)
  sys.unraisablehook = dropped
  try:
    yield
  finally:
    _early['number'] = 0
    sys.unraisablehook = say
    if signal.getsignal(signal.SIGINT) is _interrupt:
      signal.signal(signal.SIGINT, signal.default_int_handler)


def heed() -> None:
  """Raises KeyboardInterrupt if `interrupts` got a signal that was dropped."""
  if _early['number']:
    _early['number'] = 0
    raise KeyboardInterrupt


class Noticed(Exception):
  """A signal asks the process to end now; the step under way is given up.

  Attributes:
    number: the number of the signal.
  """

  def __init__(self, number: int):
    super().__init__(f'signal {number}')
    self.number = number


class Notice:
  """Whether this run must end.

  Attributes:
    number: the number of the signal that this process got; 0 for none.
    heeded: whether `check` ends the step under way. Without it a run ends after
      its step.
  """

  def __init__(self, heeded: bool = True):
    self.number, self.heeded = 0, heeded
    self._owed: collections.deque = collections.deque()

  def agreed(self) -> int:
    """The number on which all processes agree; 0 for none. They must all call
    it at the same place, because a process that acted on its own number would
    leave the others waiting."""
    from zppo_jax.devices import hosts
    return hosts.agreed(self.number, name='notice')

  def check(self) -> None:
    """Raises Noticed if a process of the run got a signal."""
    if self.heeded and (number := self.agreed()):
      raise Noticed(number)

  def pace(self, result: Any) -> None:
    """Checks, after a piece of work was given to the device.

    Args:
      result: arrays of that piece, not donated later. The host waits for the
        result of the piece AHEAD pieces before it, because a queue of minutes
        could not be given up.

    Raises:
      Noticed: see `check`.
    """
    self._owed.append(result)
    import jax
    while len(self._owed) > AHEAD:
      jax.block_until_ready(self._owed.popleft())
    self.check()
