"""A client of OpenAI-compatible servers: vLLM, SGLang, hosted, `zppo serve`.

Many requests at once, each with a deadline, retried with growing pauses, all
of them within a budget of seconds. What does not come is told with its cause;
nothing here raises for what a server does. The key is read from the
environment when it is needed and is in no record, error or log.
"""

import asyncio
import contextlib
import dataclasses
import json
import math
import os
import random
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zppo_jax.endpoints import replies as openai_replies, wire
from zppo_jax.endpoints.replies import Choice, Declined, read_chat, read_models
from zppo_jax.endpoints.wire import Failed, clean
from zppo_jax.records import Cause

CHAT, TEXT, MODELS = 'chat/completions', 'completions', 'models'
# Characters of a text for each token that was allowed: no vocabulary has many
# longer words. A longer text did not heed the limit.
_LONGEST_TOKEN = 256
_KEY = 8  # characters from which on a key is no word of an answer
_LONGEST_BACKOFF = 30.0  # seconds, of a pause that the server did not ask for


@dataclasses.dataclass(frozen=True)
class Endpoint:
  """Where a model is served and how patient one is with it.

  Attributes:
    url: of the API's root, e.g. 'http://127.0.0.1:8000/v1'.
    model: its name there.
    key_env: environment variable that holds the key; '' for none.
    concurrency: requests at a time.
    deadline_s: seconds for one request.
    retries: after a failure that may pass, or for choices that are missing.
    backoff_s: seconds before the first retry, doubled before each further
      one; a Retry-After of the server counts instead.
    max_reply_mb: MiB of a reply, once it is unpacked; a longer one is
      garbage.
    extra: further fields of every request's body.
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
    for name, kind, lowest, more in (
        ('concurrency', int, 1, '>='), ('retries', int, 0, '>='),
        ('backoff_s', float, 0, '>='), ('deadline_s', float, 0, '>'),
        ('max_reply_mb', float, 0, '>')):
      value = getattr(self, name)
      number = isinstance(value, int | kind) and not isinstance(value, bool)
      if not number or not math.isfinite(value) or value < lowest or (
          more == '>' and value == lowest):
        raise ValueError(
            f'endpoint {name} is {value!r}; it must be a '
            f'{"whole " if kind is int else ""}number {more} {lowest}')
    try:
      json.dumps(dict(self.extra))
    except (TypeError, ValueError, RecursionError) as e:
      raise ValueError(f'endpoint extra cannot be sent as JSON: {e}') from None
    self.key()

  @property
  def max_bytes(self) -> int:
    """Of a reply."""
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
    found = urllib.parse.urlsplit(url)
    port = found.port
  except ValueError as e:
    raise ValueError(f'endpoint url is {url!r}: {e}') from None
  if found.username is not None or found.password is not None:
    raise ValueError('endpoint url holds a user or a password, which are not '
                     'shown here; name the variable of a key in key_env')
  if not found.hostname or port == 0 or any(
      not '!' <= c <= '~' for c in url):
    raise ValueError(f'endpoint url is {url!r}; it must name a host, in '
                     'visible ASCII characters')


@dataclasses.dataclass(frozen=True)
class Call:
  """One thing to ask.

  Attributes:
    route: CHAT, TEXT or MODELS.
    body: of the request, without `model` and `n`; of MODELS nothing is sent.
    wanted: results wanted, sent as n where it is not 1.
    read: decoded reply -> results, Declined among them where the model will
      not answer; Garbage if it is not as agreed.
  """
  route: str
  body: Mapping[str, Any]
  wanted: int
  read: Callable[[dict], list]


@dataclasses.dataclass(frozen=True)
class Reply:
  """What came.

  Attributes:
    results: at most as many as wanted.
    cause: why some are missing; None if none is.
    error: what the last failure said, without the key.
    requests: sent.
  """
  results: tuple
  cause: Cause | None
  error: str
  requests: int


# What the same request would meet again.
_LASTING = (Cause.REFUSED, Cause.BUDGET)


class EndpointError(RuntimeError):
  """A single question that was not answered.

  Attributes:
    cause: why.
  """

  def __init__(self, cause: Cause, text: str):
    super().__init__(text)
    self.cause = cause


def chat_call(messages: Sequence[Mapping[str, Any]], *, wanted: int = 1,
              **body) -> Call:
  """A chat completion; `body` as in the API, e.g. temperature, max_tokens."""
  return Call(CHAT, {'messages': list(messages), **body}, wanted, read_chat)


async def _send(client, of: Endpoint, call: Call, wanted: int, attempt: int,
                seconds: float) -> list:
  if call.route == MODELS:
    asked = client.models.with_raw_response.list()
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
    asked = create.with_raw_response.create(
        model=of.model, **{named: words}, extra_body=body)
  response = await asyncio.wait_for(asked, seconds)
  return call.read(openai_replies.decode(response.content))


def _hidden(found: list, key: str) -> list:
  """Results without the key, for servers that repeat what they were sent."""
  if len(key) < _KEY:  # it may be a word
    return found
  return [dataclasses.replace(x, text=x.text.replace(key, '***'))
          if isinstance(x, Choice) else x for x in found]


async def _once(client, of: Endpoint, call: Call, wanted: int, attempt: int,
                left: float) -> tuple[list, Failed]:
  """What one request gave, and why it was not all, if it was not."""
  try:
    found = await _send(client, of, call, wanted, attempt,
                        min(of.deadline_s, left))
  except Exception as e:  # whatever a server sends is a failure and no more
    failed = wire.failure(e)
    if failed.cause == Cause.DEADLINE and left < of.deadline_s:
      failed = Failed(Cause.BUDGET, 'the budget was spent')
    return [], failed
  most = call.body.get('max_tokens')
  if isinstance(most, int):
    for text in (x.text for x in found if isinstance(x, Choice)):
      if len(text) > _LONGEST_TOKEN * (most + 8):
        return [], Failed(Cause.GARBAGE, f'reply: a text of {len(text)} '
                          f'characters where max_tokens was {most}')
  declined = [x.why for x in found if isinstance(x, Declined)]
  found = [x for x in found if not isinstance(x, Declined)]
  if declined and len(found) < wanted:
    return found, Failed(Cause.DECLINED, f'the model declined: {declined[-1]}')
  return found[:wanted], Failed(
      Cause.MISSING, f'{len(found)} of {wanted} choices came')


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
      found, failed = await _once(client, of, call, call.wanted - len(results),
                                  attempt, left)
      results += _hidden(found, key)
    if len(results) == call.wanted:
      return Reply(tuple(results), None, '', requests)
    if failed.cause in _LASTING or attempt == of.retries:
      break
    pause = failed.pause
    if pause is None:
      pause = min(_LONGEST_BACKOFF,
                  of.backoff_s * 2**min(attempt, 30)) * random.uniform(0.5, 1)
    if pause >= until - time.monotonic():
      break
    await asyncio.sleep(pause)
  return Reply(tuple(results), failed.cause, clean(str(failed), key),
               requests)


def ask_all(of: Endpoint, calls: Sequence[Call],
            budget_s: float) -> list[Reply]:
  """Asks everything at once and waits at most `budget_s` seconds.

  Whatever the server does, nothing is raised for it.

  Returns:
    A reply for every call, in their order.
  """
  try:
    import openai
  except ImportError as e:
    raise ImportError('an endpoint needs the package openai: pip install '
                      '"zppo_jax[endpoint]"') from e
  late = Reply((), Cause.BUDGET, 'the budget was spent', 0)
  replies = [late] * len(calls)
  until = time.monotonic() + budget_s
  key, broken = of.key(), []

  async def one(i, client, gate):
    replies[i] = await _ask(client, of, calls[i], gate, until, key)

  async def everything():
    gate = asyncio.Semaphore(of.concurrency)
    client = openai.AsyncOpenAI(
        base_url=of.url, api_key=key or 'none',  # the package wants one
        max_retries=0, timeout=of.deadline_s,
        http_client=wire.http_client(openai, of.max_bytes))
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

  # A thread of its own: the caller may have a loop, and a name server that
  # hangs cannot be cancelled.
  worker = threading.Thread(target=work, daemon=True)
  worker.start()
  worker.join(budget_s + 1)
  if broken:
    raise broken[0]
  return list(replies)


def ask(of: Endpoint, messages: Sequence[Mapping[str, Any]], *,
        budget_s: float, **body) -> str:
  """The one text that answers `messages`.

  Args:
    of: whom.
    messages: of the chat.
    budget_s: seconds, retries included.
    **body: e.g. temperature, max_tokens.

  Raises:
    EndpointError: if no text came.
  """
  (reply,) = ask_all(of, [chat_call(messages, **body)], budget_s)
  if reply.cause is not None:
    raise EndpointError(reply.cause, reply.error)
  return reply.results[0].text


def served(of: Endpoint, budget_s: float) -> list[str]:
  """Names of the models there.

  Raises:
    EndpointError: if it cannot be reached, refuses the key, or does not
      answer as agreed, within `budget_s` seconds.
  """
  (reply,) = ask_all(of, [Call(MODELS, {}, 1, lambda r: [read_models(r)])],
                     budget_s)
  if reply.cause is not None:
    raise EndpointError(reply.cause, f'{of.url}: {reply.error}')
  return reply.results[0]


def listed(names: Sequence[str], key: str) -> str:
  """Names of models for a message: one line, not all of very many, and
  without the key, whatever a server calls its models."""
  shown = [clean(name, key) for name in names[:20]]
  more = len(names) - len(shown)
  return ', '.join(shown) + (f' and {more} more' if more else '') or 'none'
