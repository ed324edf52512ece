"""The directory of a run while a process works in it: its lock, and what is
closed at the end."""

import contextlib
import pathlib
import time
from collections.abc import Callable

from zppo_jax.devices import hosts
from zppo_jax.runs import lock

# Seconds after which a directory that one host made must show on all.
_SEEN_S = 60.0


class Closing:
  """Closes everything that was opened, and raises the first error.

  An error in closing that follows another error only goes to the log, because
  it is mostly a consequence of the first.
  """

  def __init__(self, note: Callable[[str], None]):
    self._note, self._open = note, []

  def add(self, close: Callable[[], None]) -> None:
    self._open.append(close)

  def __enter__(self):
    return self

  def __exit__(self, kind, error, traceback):
    first = error
    while self._open:
      try:
        self._open.pop()()
      except Exception as e:
        if first is None:
          first = e
        else:
          with contextlib.suppress(OSError):
            self._note(f'then, in closing: {type(e).__name__}: {e}')
    if first is not error:
      raise first


@contextlib.contextmanager
def alone(path: pathlib.Path):
  """The lock of a directory, which the first process of a run takes.

  Raises:
    Locked: on every process, if another run works there.
    ValueError: if not all processes see the directory.
  """
  with contextlib.ExitStack() as held:
    hosts.from_first(lambda: held.enter_context(
        lock.hold(path, patient=hosts.count() > 1)), 'the lock')
    _check_seen(path)
    yield


def _check_seen(path: pathlib.Path) -> None:
  """ValueError unless every process sees the directory, with its lock."""
  until = time.monotonic() + _SEEN_S
  while not (seen := (path / lock.NAME).exists()) and time.monotonic() < until:
    time.sleep(0.5)
  blind = [i for i, sees in enumerate(hosts.gather(seen, 'the directory'))
           if not sees]
  if blind:
    raise ValueError(
        f'--workdir is {str(path)!r}, which process '
        f'{", ".join(map(str, blind))} of {hosts.count()} does not see; a run '
        'of several hosts needs a directory on a file system that all share')
