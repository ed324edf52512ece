"""HTTP under the client: bounded replies from one host, and causes of failures.

A reply is read up to a number of bytes, before and after it is unpacked. A
redirect is followed only within the host that the url names, because requests
hold the key and the prompts.
"""

import base64
import email.utils
import math
import time
import urllib.parse
import zlib

from zppo_jax.endpoints.replies import Garbage, mended
from zppo_jax.records import Cause

MOST_REDIRECTS = 3
_PACKED = {'gzip': 31, 'x-gzip': 31, 'deflate': 15}  # zlib's window bits
# Bytes that are unpacked at once. What follows a member is copied, so that the
# time of many small members would grow with the square of a larger piece.
_PIECE = 4096
_SHOWN = 200  # the most characters of an error that are shown
_READ = 4000  # the most characters of an error that are searched for the key
_GRAM = 8  # so many characters of a key, or more, are never shown


class Failed(Exception):
  """A request that did not bring what was wanted.

  Attributes:
    cause: why.
    pause: the seconds for which the server asks the client to wait; None if it
      does not.
  """

  def __init__(self, cause: Cause, text: str, pause: float | None = None):
    super().__init__(text)
    self.cause, self.pause = cause, pause


class _Elsewhere(Exception):
  """A redirect that is not followed."""


def unpacked(raw: bytes, coding: str, most: int) -> bytes:
  """The body behind a Content-Encoding, at most `most` bytes.

  Raises:
    Garbage: for a longer body; for another encoding than gzip or deflate; for
      a body that is torn or not in its encoding.
  """
  coding = coding.strip().lower()
  if coding in ('', 'identity'):
    return raw
  if coding not in _PACKED:
    raise Garbage(f'content-encoding is {coding[:40]!r}; allowed: gzip, '
                  'deflate')
  bits = _PACKED[coding]
  if bits == 15 and (len(raw) < 2 or (raw[0] * 256 + raw[1]) % 31
                     or raw[0] & 15 != 8):
    bits = -15  # some servers leave zlib's header out
  out, view, at = bytearray(), memoryview(raw), 0
  unpack = zlib.decompressobj(bits)
  while at < len(view):
    piece = view[at:at + _PIECE]
    try:
      out += unpack.decompress(piece, most + 1 - len(out))
    except zlib.error:
      raise Garbage(f'the reply is no {coding}') from None
    if len(out) > most:
      raise Garbage(_too_long(most))
    at += len(piece) - len(unpack.unused_data)
    if not unpack.eof:
      continue
    # A gzip file is one member or more (RFC 1952, section 2.2); some servers
    # fill the last block with zeros.
    while at < len(view) and not view[at]:
      at += 1
    if bits != _PACKED['gzip'] or at == len(view):
      return bytes(out)
    unpack = zlib.decompressobj(bits)
  raise Garbage(f'the reply is torn {coding}')


def _too_long(most: int) -> str:
  return f'the reply is longer than max_reply_mb = {most / 2**20:g} MiB'


def http_client(openai, most: int):
  """The package's own HTTP client, bounded to `most` bytes per reply."""
  class Bounded(openai.DefaultAsyncHttpxClient):

    async def _once(self, request, fields):
      """(reply with its body, the request of its redirect or None)."""
      response = await super().send(request, stream=True, **fields)
      try:
        raw = bytearray()
        async for piece in response.aiter_raw():
          raw += piece
          if len(raw) > most:
            raise Garbage(_too_long(most))
      finally:
        await response.aclose()
      body = unpacked(bytes(raw), response.headers.get(
          'content-encoding', ''), most)
      headers = [(k, v) for k, v in response.headers.multi_items()
                 if k.lower() not in ('content-encoding', 'content-length',
                                      'transfer-encoding')]
      return type(response)(
          response.status_code, headers=headers, content=body,
          request=response.request), response.next_request

    async def send(self, request, *, stream=False, **fields):
      del stream  # it is read here
      fields['follow_redirects'] = False
      place = lambda url: (url.scheme, url.host, url.port)
      for _ in range(MOST_REDIRECTS + 1):
        response, onward = await self._once(request, fields)
        if onward is None:
          return response
        if place(onward.url) != place(request.url):
          raise _Elsewhere(
              f'status {response.status_code}: it is redirected to '
              f'{onward.url.scheme}://{onward.url.netloc.decode("ascii")}, '
              'another host, and not followed')
        request = onward
      raise _Elsewhere(f'more than {MOST_REDIRECTS} redirects')

  return Bounded(headers={'accept-encoding': 'gzip, deflate'})


def failure(e: BaseException) -> Failed:
  """Any exception of a request as a `Failed` with its cause."""
  import openai
  chain = [e]
  while chain[-1].__cause__ is not None and len(chain) < 8:
    chain.append(chain[-1].__cause__)
  for link in chain:  # the package wraps what its HTTP client raises
    if isinstance(link, Failed):
      return link
    if isinstance(link, Garbage):
      return Failed(Cause.GARBAGE, f'reply: {link}')
    if isinstance(link, _Elsewhere):
      return Failed(Cause.REFUSED, str(link))
  if isinstance(e, openai.APITimeoutError | TimeoutError):
    return Failed(Cause.DEADLINE, 'no reply within the deadline')
  if isinstance(e, openai.APIStatusError):
    code = e.status_code
    text = f'status {code}: {e.message}'
    if code == 429 or code >= 500 or code in (408, 409):
      return Failed(Cause.BUSY if code == 429 else Cause.SERVER, text,
                    retry_after(e.response.headers))
    return Failed(Cause.REFUSED, text)
  if isinstance(e, openai.APIConnectionError | OSError):
    return Failed(Cause.CONNECTION, ' '.join(
        f'{type(link).__name__}: {link}' for link in chain[:3]))
  return Failed(Cause.GARBAGE, f'reply: {type(e).__name__}: {e}')


def retry_after(headers) -> float | None:
  """The seconds of a reply's Retry-After; None without a legible one.

  A date is counted from the reply's own Date, because the two clocks may
  differ.
  """
  value = headers.get('retry-after', '').strip()
  try:
    seconds = float(value)
  except ValueError:
    until, now = _date(value), _date(headers.get('date', ''))
    if until is None:
      return None
    seconds = until - (time.time() if now is None else now)
  return None if math.isnan(seconds) else max(0.0, seconds)


def _date(text: str) -> float | None:
  try:
    return email.utils.parsedate_to_datetime(text).timestamp()
  except (ValueError, TypeError, OverflowError, IndexError):
    return None


def check_key(key: str, where: str) -> None:
  """ValueError for a key that no header can hold; it does not show the key."""
  bad = [i for i, c in enumerate(key) if not '!' <= c <= '~']
  if bad:
    at = ('its end' if bad[0] == len(key) - 1 else
          f'character {bad[0] + 1} of {len(key)}')
    raise ValueError(
        f'{where} holds a key with a space, a line break, a control or a '
        f'non-ASCII character, at {at}; allowed: visible ASCII characters')


def _forms(key: str) -> tuple[str, ...]:
  return (key, urllib.parse.quote(key, safe=''),
          base64.b64encode(key.encode()).decode().rstrip('='))


def clean(text: str, key: str) -> str:
  """A text as one short line without the key.

  It shows no part of the key of _GRAM characters or more, in any spelling that
  a URL or a header may give it.

  Args:
    text: the words of a server or a package.
    key: the key; '' for none.
  """
  text = mended(text[:_READ])
  for form in _forms(key) if key else ():
    size = min(len(form), _GRAM)
    parts = {form[i:i + size] for i in range(len(form) - size + 1)}
    hidden = bytearray(len(text))
    for i in range(len(text) - size + 1):
      if text[i:i + size] in parts:
        hidden[i:i + size] = b'\1' * size
    text = ''.join(
        c if not hide else '***' if not i or not hidden[i - 1] else ''
        for i, (c, hide) in enumerate(zip(text, hidden, strict=True)))
  return ' '.join(''.join(
      c if c.isprintable() else ' ' for c in text).split())[:_SHOWN]
