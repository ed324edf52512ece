"""Connections whose clients do nothing: they are dropped after a while.

uvicorn waits without end for a connection's first request, for the rest of a
request, and for a client that reads its reply. Each such connection would hold
a file descriptor, and would hold up the end of the server.
"""

import asyncio

from uvicorn.protocols.http.auto import AutoHTTPProtocol

PATIENCE_S = 60.0  # with a client that neither sends nor reads what is due
ENDING_S = 5.0  # the same while the server ends
_MARGIN_S = 1.0  # before uvicorn cancels what is left, with tracebacks


class Connection(AutoHTTPProtocol):
  """A connection that is dropped when its client stops."""

  def connection_made(self, transport: asyncio.Transport) -> None:
    super().connection_made(transport)
    self._bytes_received, self._last_due = 0, None
    self._timers: list[asyncio.TimerHandle] = []
    self._look_again(PATIENCE_S)

  def data_received(self, data: bytes) -> None:
    self._bytes_received += len(data)
    super().data_received(data)

  def connection_lost(self, exc: Exception | None) -> None:
    self._stop_timers()
    super().connection_lost(exc)

  def shutdown(self) -> None:
    """Begins to end: a client that is waited for has less time."""
    super().shutdown()  # it closes the idle ones, once their reply is read
    self._stop_timers()
    self._last_due = self._due()
    self._look_again(ENDING_S)
    grace = self.config.timeout_graceful_shutdown
    if grace is not None:
      self._timers.append(self.loop.call_later(
          max(0.0, grace - _MARGIN_S), self._drop, True))

  def _stop_timers(self) -> None:
    for timer in self._timers:
      timer.cancel()
    self._timers.clear()

  def _look_again(self, seconds: float) -> None:
    self._timers[:1] = [self.loop.call_later(seconds, self._drop, False,
                                             seconds)]

  def _due(self) -> tuple[str, int] | None:
    """What the client has to do, and how far it is; None while the server
    works for it."""
    unread = self.transport.get_write_buffer_size()
    if unread:
      return 'read', unread
    cycle = self.cycle
    if cycle is None or cycle.response_complete or cycle.more_body:
      return 'send', self._bytes_received
    return None

  def _drop(self, at_once: bool, seconds: float = 0.0) -> None:
    """Drops the client if it is waited for and has done nothing since the last
    look, or in any case where it is waited for `at_once`."""
    due = self._due()
    if due is not None and (at_once or due == self._last_due):
      self.transport.abort()
    elif not at_once:
      self._last_due = due
      self._look_again(seconds)
