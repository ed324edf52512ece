"""Work of the host beside the main thread, which waits for the device."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar('Value')


class Beside(Generic[Value]):
  """What a function returns, in a thread that does not outlive the process.

  Args:
    work: the function. It begins at once.
  """

  def __init__(self, work: Callable[[], Value]):
    self._work = work
    self._value: Value | None = None
    self._error: BaseException | None = None
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  def _run(self) -> None:
    try:
      self._value = self._work()
    except BaseException as e:  # it belongs to who asks for the value
      self._error = e

  def __call__(self) -> Value:
    """Waits for the value; raises what the function raised."""
    self._thread.join()
    if self._error is not None:
      raise self._error
    return self._value
