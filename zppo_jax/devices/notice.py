"""A notice that this process must end, and how long the device works ahead.

TPU VMs, GKE, SLURM and people send SIGTERM some 30 seconds before they kill a
process. A step may take many minutes, so it looks for the notice wherever it
waits for the device: between decode chunks and between micro-batches.
"""

import collections
from typing import Any

import jax

from zppo_jax.devices import hosts

# Results that the device may still owe when the host hands out more work. The
# host then waits for about one micro-batch, during which no signal is heard.
AHEAD = 2


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
    while len(self._owed) > AHEAD:
      jax.block_until_ready(self._owed.popleft())
    self.check()
