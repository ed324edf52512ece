"""The threads that work for the event loop of the server.

The event loop only passes bytes on. A few threads do all work that grows with a
request (JSON, templates, tokens, replies). Some are for small requests and the
others for large ones, so that a small request never waits for a large one.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from zppo_jax.serve.requests import Refused

LARGE = 2**16  # bytes; a body or a reply of so many is a large one
_SMALL_THREADS = 4
_HELD = 8  # the most bytes of all bodies, as a multiple of the longest body


class Desk:
  """Threads for the work of requests, and a bound on the bytes that they hold.

  Args:
    max_bytes: the most bytes of a body.
  """

  def __init__(self, max_bytes: int):
    self._most, self._held = _HELD * max_bytes, 0
    self._small = ThreadPoolExecutor(_SMALL_THREADS, 'small requests')
    self._large = ThreadPoolExecutor(
        max(1, (os.cpu_count() or 1) // 2), 'large requests')

  async def do(self, size: int, work: Callable, *args):
    """The result of `work(*args)`, or its error.

    Args:
      size: the number of bytes on which it works.
      work, args: the function and its arguments.
    """
    pool = self._small if size < LARGE else self._large
    return await asyncio.get_running_loop().run_in_executor(pool, work, *args)

  @contextlib.contextmanager
  def hold(self):
    """Yields a function to which a request reports the bytes that it holds.

    The function raises Refused, 503, for a large request if all requests
    together would hold too many bytes.
    """
    mine = 0

    def more(size: int) -> None:
      nonlocal mine
      if mine + size > LARGE and self._held + size > self._most:
        raise Refused('the server holds as many requests as it can; try again '
                      'later', None, 503, 'overloaded')
      mine += size
      self._held += size
    try:
      yield more
    finally:
      self._held -= mine
