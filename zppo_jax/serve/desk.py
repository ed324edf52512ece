"""The server's own work, away from its event loop.

The loop only passes bytes on. Whatever grows with a request (JSON, templates,
tokens, replies) is done by a few threads: some for small requests and others
for large ones, so that a large one never stands before a small one.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from zppo_jax.serve.requests import Refused

LARGE = 2**16  # bytes of a body, or of a reply, that make it a large one
_SMALL_THREADS = 4
_HELD = 8  # times the longest body: bytes of all bodies together


class Desk:
  """Threads for the work of requests, and a bound on what they hold.

  Args:
    max_bytes: of one body.
  """

  def __init__(self, max_bytes: int):
    self._most, self._held = _HELD * max_bytes, 0
    self._small = ThreadPoolExecutor(_SMALL_THREADS, 'small requests')
    self._large = ThreadPoolExecutor(
        max(1, (os.cpu_count() or 1) // 2), 'large requests')

  async def do(self, size: int, work: Callable, *args):
    """What `work` returns or raises; size: bytes that it is about."""
    pool = self._small if size < LARGE else self._large
    return await asyncio.get_running_loop().run_in_executor(pool, work, *args)

  @contextlib.contextmanager
  def hold(self):
    """A function to which a request says how many bytes more it holds.

    It raises Refused, 503, for a large request where all of them together
    would hold too many.
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
