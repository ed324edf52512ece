"""A client of OpenAI-compatible servers: vLLM, SGLang, hosted, `zppo serve`.

Many requests go out at once. Each has a deadline and is retried after growing
pauses, and all of them end within a budget of seconds. A reply names the cause
of what did not come; nothing here raises for what a server does. The key is
read from the environment when it is needed, and no record, error or log holds
it.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import random
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zppo_jax import allowed
from zppo_jax.devices import hosts
from zppo_jax.endpoints import wire
from zppo_jax.endpoints.replies import (
  Choice,
  Declined,
  decode,
  read_chat,
  read_models,
)
from zppo_jax.endpoints.wire import Failed, clean
from zppo_jax.records import Cause

CHAT, TEXT, MODELS = 'chat/completions', 'completions', 'models'
# A text may have so many characters per token of its limit, because no
# vocabulary has many longer words. A longer text did not heed the limit.
_LONGEST_TOKEN = 256
_KEY = 8  # a key of fewer characters may be a word of an answer
_LONGEST_BACKOFF = 30.0  # seconds, of a pause that the server did not ask for


@dataclasses.dataclass(frozen=True)
class Endpoint:
  """Where a model is served and how patient the client is with it.

  Attributes:
    url: the root of the API, e.g. 'http://127.0.0.1:8000/v1'.
    model: the name of the model there.
    key_env: the environment variable that holds the key; '' for none.
    concurrency: the most requests at a time.
    deadline_s: seconds for one request.
    retries: the most further requests, after a failure that may pass or for
      choices that are missing.
    backoff_s: seconds before the first retry, doubled before each further
      one; a Retry-After of the server counts instead.
    max_reply_mb: the most MiB of a reply once it is unpacked; a longer one is
      garbage.
    extra: further fields of the body of every request.
  """
  url: str
  model: str
  key_env: str = ''
  concurrency: int = 32
  deadline_s: float = 120.0
  retries: int = 4
  backoff_s: float = 0.5
  max_reply_mb: float = 16.0
  extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    _check_url(self.url)
    if not isinstance(self.model, str) or not self.model:
      raise ValueError(f'endpoint model is {self.model!r}; the name of a '
                       'served model is needed')
    for name, bounds, whole in (
        ('concurrency', '>= 1', True), ('retries', '>= 0', True),
        ('backoff_s', '>= 0', False), ('deadline_s', '> 0', False),
        ('max_reply_mb', '> 0', False)):
      allowed.number(
          f'endpoint {name}', getattr(self, name), bounds, whole=whole)
    try:
      json.dumps(dict(self.extra))
    except (TypeError, ValueError, RecursionError) as e:
      raise ValueError(f'endpoint extra cannot be sent as JSON: {e}') from None
    self.key()

  @property
  def max_bytes(self) -> int:
    """The most bytes of a reply."""
    return max(1, int(self.max_reply_mb * 2**20))

  def key(self) -> str:
    """The key, '' without key_env.

    Raises:
      ValueError: if the variable that key_env names is not set, or holds what
        no header can hold; the key is not shown.
    """
    if not self.key_env:
      return ''
    if not os.environ.get(self.key_env):
      raise ValueError(f'endpoint key_env is {self.key_env!r}; no such '
                       'environment variable is set')
    wire.check_key(
        os.environ[self.key_env], f'endpoint key_env is {self.key_env!r}; it')
    return os.environ[self.key_env]


def _check_url(url: str) -> None:
  if not isinstance(url, str) or not url.startswith(('http://', 'https://')):
    raise ValueError(f'endpoint url is {url!r}; it must start with '
                     'http:// or https://')
  try:
    parts = urllib.parse.urlsplit(url)
    port = parts.port
  except ValueError as e:
    raise ValueError(f'endpoint url is {url!r}: {e}') from None
  if parts.username is not None or parts.password is not None:
    raise ValueError('endpoint url holds a user or a password, which are not '
                     'shown here; name the variable of a key in key_env')
  if not parts.hostname or port == 0 or any(
      not '!' <= c <= '~' for c in url):
    raise ValueError(f'endpoint url is {url!r}; it must name a host, in '
                     'visible ASCII characters')


@dataclasses.dataclass(frozen=True)
class Call:
  """A request and how its reply is read.

  Attributes:
    route: CHAT, TEXT or MODELS.
    body: the body of the request, without `model` and `n`. A request to MODELS
      has none.
    wanted: the number of results wanted; n of the request where it is not 1.
    read: decoded reply -> results, Declined among them where the model will
      not answer; it raises Garbage if the reply is not in the agreed form.
    lasting: whether a request with this error would meet it again, so that it
      is not retried.
  """
  route: str
  body: Mapping[str, Any]
  wanted: int
  read: Callable[[dict], list]
  lasting: Callable[[Failed], bool] = lambda failed: False


@dataclasses.dataclass(frozen=True)
class Reply:
  """The results of a call.

  Attributes:
    results: at most as many as were wanted.
    cause: why results are missing; None if none is.
    error: the text of the last failure, without the key.
    requests: the number of requests that were sent.
  """
  results: tuple
  cause: Cause | None
  error: str
  requests: int


# Causes that the same request would meet again.
_LASTING = (Cause.REFUSED, Cause.BUDGET)


class EndpointError(RuntimeError):
  """A single request without an answer.

  Attributes:
    cause: why.
  """

  def __init__(self, cause: Cause, text: str):
    super().__init__(text)
    self.cause = cause

  def __reduce__(self):
    return type(self), (self.cause, str(self))


def share_of(of: Endpoint) -> Endpoint:
  """The endpoint for one of several processes that ask it at once: together
  they hold as many requests open as `concurrency` says."""
  if hosts.count() == 1:
    return of
  return dataclasses.replace(
      of, concurrency=max(1, of.concurrency // hosts.count()))


def chat_call(messages: Sequence[Mapping[str, Any]], *, wanted: int = 1,
              **body) -> Call:
  """A chat completion; `body` as in the API, e.g. temperature, max_tokens."""
  return Call(CHAT, {'messages': list(messages), **body}, wanted, read_chat)


async def _send(client, of: Endpoint, call: Call, wanted: int, attempt: int,
                seconds: float) -> list:
  if call.route == MODELS:
    request = client.models.with_raw_response.list()
  else:
    body = {**call.body, **of.extra}
    if wanted != 1:
      body['n'] = wanted
    if attempt and 'seed' in body:  # or it would say the same once more
      body['seed'] = (body['seed'] + attempt) % 2**31
    if call.route == CHAT:
      create, named = client.chat.completions, 'messages'
    else:
      create, named = client.completions, 'prompt'
    words = body.pop(named)
    # The raw reply: the package takes whatever comes for a completion.
    request = create.with_raw_response.create(
        model=of.model, **{named: words}, extra_body=body)
  response = await asyncio.wait_for(request, seconds)
  return call.read(decode(response.content))


def _hidden(results: list, key: str) -> list:
  """Results without the key, for servers that repeat what they were sent."""
  if len(key) < _KEY:
    return results
  return [dataclasses.replace(x, text=x.text.replace(key, '***'))
          if isinstance(x, Choice) else x for x in results]


async def _once(client, of: Endpoint, call: Call, wanted: int, attempt: int,
                left: float) -> tuple[list, Failed]:
  """(results of one request, why more were wanted if more were)."""
  try:
    results = await _send(client, of, call, wanted, attempt,
                          min(of.deadline_s, left))
  except Exception as e:  # whatever a server sends is a failure and no more
    failed = wire.failure(e)
    if failed.cause == Cause.DEADLINE and left < of.deadline_s:
      failed = Failed(Cause.BUDGET, 'the budget was spent')
    return [], failed
  most = call.body.get('max_tokens')
  if isinstance(most, int):
    for text in (x.text for x in results if isinstance(x, Choice)):
      if len(text) > _LONGEST_TOKEN * (most + 8):
        return [], Failed(Cause.GARBAGE, f'reply: a text of {len(text)} '
                          f'characters where max_tokens was {most}')
  refusals = [x.why for x in results if isinstance(x, Declined)]
  results = [x for x in results if not isinstance(x, Declined)]
  if refusals and len(results) < wanted:
    return results, Failed(
        Cause.DECLINED, f'the model declined: {refusals[-1]}')
  return results[:wanted], Failed(
      Cause.MISSING, f'{len(results)} of {wanted} choices came')


async def _ask(client, of: Endpoint, call: Call, gate, until: float,
               key: str) -> Reply:
  """One call with its retries, never beyond `until`."""
  results, requests = [], 0
  failed = Failed(Cause.BUDGET, 'the budget was spent')
  for attempt in range(of.retries + 1):
    async with gate:
      left = until - time.monotonic()
      if left <= 0:
        break
      requests += 1
      more, failed = await _once(client, of, call, call.wanted - len(results),
                                 attempt, left)
      results += _hidden(more, key)
    if len(results) == call.wanted:
      return Reply(results=tuple(results), cause=None, error='',
                   requests=requests)
    if (failed.cause in _LASTING or call.lasting(failed)
        or attempt == of.retries):
      break
    pause = failed.pause
    if pause is None:
      pause = min(_LONGEST_BACKOFF,
                  of.backoff_s * 2**min(attempt, 30)) * random.uniform(0.5, 1)
    if pause >= until - time.monotonic():
      break
    await asyncio.sleep(pause)
  return Reply(results=tuple(results), cause=failed.cause,
               error=clean(str(failed), key), requests=requests)


class Session:
  """Connections to an endpoint that outlive a call; threads may share them.

  All calls of a session keep to `Endpoint.concurrency` together.
  """

  def __init__(self, of: Endpoint):
    self._of, self._openai, self._key = of, _openai(), of.key()
    self._loop = asyncio.new_event_loop()
    self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
    self._thread.start()
    self._client, self._gate = asyncio.run_coroutine_threadsafe(
        self._opened(), self._loop).result()

  async def _opened(self):
    return (_client(self._openai, self._of, self._key),
            asyncio.Semaphore(self._of.concurrency))

  def ask_all(self, calls: Sequence[Call], budget_s: float) -> list[Reply]:
    """As the function `ask_all`."""
    replies = [_LATE] * len(calls)
    until = time.monotonic() + budget_s

    async def one(i):
      replies[i] = await _ask(self._client, self._of, calls[i], self._gate,
                              until, self._key)

    async def everything():
      await asyncio.gather(*(one(i) for i in range(len(calls))))

    asked = asyncio.run_coroutine_threadsafe(everything(), self._loop)
    with contextlib.suppress(concurrent.futures.TimeoutError):
      asked.result(budget_s + 1)
    asked.cancel()
    return list(replies)

  def close(self) -> None:
    """Gives up what is under way and closes the connections."""
    async def closing():
      own = asyncio.current_task()
      for task in asyncio.all_tasks():
        if task is not own:
          task.cancel()
      await self._client.close()

    with contextlib.suppress(Exception):  # connections that are gone
      asyncio.run_coroutine_threadsafe(closing(), self._loop).result(1.0)
    self._loop.call_soon_threadsafe(self._loop.stop)
    self._thread.join(1.0)
    if not self._thread.is_alive():
      self._loop.close()


_LATE = Reply(results=(), cause=Cause.BUDGET, error='the budget was spent',
              requests=0)


def _openai():
  """The package.

  Raises:
    ImportError: if it is not installed; it names the extra.
  """
  try:
    import openai
  except ImportError as e:
    raise ImportError('an endpoint needs the package openai: pip install '
                      '"zppo_jax[endpoint]"') from e
  return openai


def _client(openai, of: Endpoint, key: str):
  return openai.AsyncOpenAI(
      base_url=of.url, api_key=key or 'none',  # the package wants one
      max_retries=0, timeout=of.deadline_s,
      http_client=wire.http_client(openai, of.max_bytes))


def ask_all(of: Endpoint, calls: Sequence[Call],
            budget_s: float) -> list[Reply]:
  """Sends all calls at once and waits at most `budget_s` seconds.

  It raises nothing, whatever the server does.

  Returns:
    A reply to every call, in the order of the calls.
  """
  openai = _openai()
  replies = [_LATE] * len(calls)
  until = time.monotonic() + budget_s
  key, broken = of.key(), []

  async def one(i, client, gate):
    replies[i] = await _ask(client, of, calls[i], gate, until, key)

  async def everything():
    gate = asyncio.Semaphore(of.concurrency)
    client = _client(openai, of, key)
    try:
      await asyncio.gather(*(one(i, client, gate) for i in range(len(calls))))
    finally:
      with contextlib.suppress(Exception):  # connections that are gone
        await asyncio.wait_for(client.close(), 1.0)

  def work():
    try:
      asyncio.run(everything())
    except BaseException as e:
      broken.append(e)

  # The calls have a thread of their own, because the caller may have a loop and
  # a name server that hangs cannot be cancelled.
  worker = threading.Thread(target=work, daemon=True)
  worker.start()
  worker.join(budget_s + 1)
  if broken:
    raise broken[0]
  return list(replies)


def ask(of: Endpoint, messages: Sequence[Mapping[str, Any]], *,
        budget_s: float, **body) -> str:
  """The text that answers `messages`.

  Args:
    of: the endpoint.
    messages: the messages of a chat.
    budget_s: seconds, retries included.
    **body: further fields of the request, e.g. temperature, max_tokens.

  Raises:
    EndpointError: if no text came.
  """
  (reply,) = ask_all(of, [chat_call(messages, **body)], budget_s)
  if reply.cause is not None:
    raise EndpointError(reply.cause, reply.error)
  return reply.results[0].text


def served(of: Endpoint, budget_s: float) -> list[str]:
  """The names of the models that an endpoint serves.

  Raises:
    EndpointError: if the endpoint cannot be reached, refuses the key, or does
      not answer in the agreed form within `budget_s` seconds.
  """
  (reply,) = ask_all(of, [Call(MODELS, {}, 1, lambda r: [read_models(r)])],
                     budget_s)
  if reply.cause is not None:
    raise EndpointError(reply.cause, f'{of.url}: {reply.error}')
  return reply.results[0]


def listed(names: Sequence[str], key: str) -> str:
  """Names of models for an error: one line with at most 20 names and without
  the key, because a server may call its models anything."""
  shown = [clean(name, key) for name in names[:20]]
  more = len(names) - len(shown)
  return ', '.join(shown) + (f' and {more} more' if more else '') or 'none'
