"""Work on the host beside the device's: a thread that takes items in order."""

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar('Item')


class Background(Generic[Item]):
  """Runs a function on items, in a thread that does not outlive the process.

  Args:
    work: gets the items that have come since its last call, in their order.
  """

  def __init__(self, work: Callable[[list[Item]], None]):
    self._work = work
    self._items: queue.SimpleQueue = queue.SimpleQueue()
    self._error: BaseException | None = None
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  def put(self, item: Item) -> None:
    """Hands over an item, and waits for nothing."""
    self._items.put(item)

  def _run(self) -> None:
    last = False
    while not last:
      batch = [self._items.get()]
      while not self._items.empty():
        batch.append(self._items.get())
      last = batch[-1] is _LAST
      items = batch[:-1] if last else batch
      try:
        if items and self._error is None:
          self._work(items)
      except BaseException as e:
        self._error = e

  def finish(self) -> None:
    """Waits until all items are worked on; raises what the work raised."""
    self._items.put(_LAST)
    self._thread.join()
    if self._error is not None:
      raise self._error

  def abandon(self) -> None:
    """Ends the thread after what it is at, and does not wait for that."""
    self._error = self._error or RuntimeError('abandoned')
    self._items.put(_LAST)


_LAST = object()
