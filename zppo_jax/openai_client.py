"""A client of OpenAI-compatible servers: vLLM, SGLang, hosted, `zppo serve`.

Many requests at once, each with a deadline, retried with growing pauses, all
of them within a budget of seconds. What does not come is told with its cause;
nothing here raises for what a server does. The key is read from the
environment when it is needed and is in no record, error or log.
"""

import asyncio
import dataclasses
import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zppo_jax.records import Cause

CHAT, TEXT = 'chat/completions', 'completions'
_LONGEST_PAUSE = 30.0  # seconds, whatever Retry-After says


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
    extra: further fields of every request's body.
  """
  url: str
  model: str
  key_env: str = ''
  concurrency: int = 32
  deadline_s: float = 120.0
  retries: int = 4
  backoff_s: float = 0.5
  extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if not self.url.startswith(('http://', 'https://')):
      raise ValueError(f'endpoint url is {self.url!r}; it must start with '
                       'http:// or https://')
    if not self.model:
      raise ValueError("endpoint model is ''; the name of a served model is "
                       'needed')
    for name, lowest in (('concurrency', 1), ('retries', 0),
                         ('backoff_s', 0)):
      if not getattr(self, name) >= lowest:
        raise ValueError(f'endpoint {name} is {getattr(self, name)}; it must '
                         f'be >= {lowest}')
    if not self.deadline_s > 0:
      raise ValueError(f'endpoint deadline_s is {self.deadline_s}; it must be '
                       '> 0')
    self.key()

  def key(self) -> str:
    """ValueError if the variable that key_env names is not set."""
    if not self.key_env:
      return 'none'  # the package wants one
    if not os.environ.get(self.key_env):
      raise ValueError(f'endpoint key_env is {self.key_env!r}; no such '
                       'environment variable is set')
    return os.environ[self.key_env]


class Garbage(ValueError):
  """A reply that is not in the form that was agreed on."""


@dataclasses.dataclass(frozen=True)
class Choice:
  """A generated text.

  Attributes:
    text: what was said, reasoning in <think> tags before it if it came apart.
    complete: whether it ended by itself; else the token limit cut it.
  """
  text: str
  complete: bool


@dataclasses.dataclass(frozen=True)
class Call:
  """One thing to ask.

  Attributes:
    route: CHAT or TEXT.
    body: of the request, without `model` and `n`.
    wanted: results wanted, sent as n where it is not 1.
    read: decoded reply -> results; Garbage if it is not as agreed.
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


class EndpointError(RuntimeError):
  """A single question that was not answered.

  Attributes:
    cause: why.
  """

  def __init__(self, cause: Cause, text: str):
    super().__init__(text)
    self.cause = cause


def _of(value, kind, what: str):
  if not isinstance(value, kind) or isinstance(value, bool):
    raise Garbage(f'{what} is {type(value).__name__}')
  return value


def choices(reply: dict) -> list[dict]:
  """The choices of any completion; Garbage if there are none of that form."""
  found = _of(_of(reply, dict, 'the reply').get('choices'), list, 'choices')
  return [_of(c, dict, 'a choice') for c in found]


def _ended(choice: dict) -> bool | None:
  """True or False as Choice.complete; None for any other end."""
  return {'stop': True, 'length': False}.get(choice.get('finish_reason'))


def read_chat(reply: dict) -> list[Choice]:
  """Texts of a chat completion; refusals and tool calls are left out."""
  out = []
  for choice in choices(reply):
    message = _of(choice.get('message'), dict, 'message')
    text = message.get('content')
    text = '' if text is None else _of(text, str, 'content')
    thought = message.get('reasoning_content') or message.get('reasoning')
    if thought:
      text = f'<think>{_of(thought, str, "reasoning")}</think>{text}'
    if _ended(choice) is not None:
      out.append(Choice(text, _ended(choice)))
  return out


def read_text(reply: dict) -> list[Choice]:
  """Texts of a completion."""
  return [Choice(_of(c.get('text'), str, 'text'), _ended(c))
          for c in choices(reply) if _ended(c) is not None]


def read_models(reply: dict) -> list[str]:
  """Names of the served models."""
  data = _of(_of(reply, dict, 'the reply').get('data'), list, 'data')
  return [_of(_of(m, dict, 'a model').get('id'), str, 'id') for m in data]


def chat_call(messages: Sequence[Mapping[str, Any]], *, wanted: int = 1,
              **body) -> Call:
  """A chat completion; `body` as in the API, e.g. temperature, max_tokens."""
  return Call(CHAT, {'messages': list(messages), **body}, wanted, read_chat)


def clean(text: str, key: str) -> str:
  """One short line without the key."""
  return ' '.join(text.replace(key, '***').split())[:200]


class _Failed(Exception):
  def __init__(self, cause: Cause, text: str, pause: float | None = None):
    super().__init__(text)
    self.cause, self.pause = cause, pause


def _failure(e: Exception) -> _Failed:
  """An exception of the package as a cause."""
  import openai
  if isinstance(e, (openai.APITimeoutError, TimeoutError)):
    return _Failed(Cause.DEADLINE, 'no reply within the deadline')
  if isinstance(e, openai.APIStatusError):
    code = e.status_code
    text = f'status {code}: {e.message}'
    if code == 429:
      return _Failed(Cause.BUSY, text, _retry_after(e.response.headers))
    if code >= 500 or code in (408, 409):
      return _Failed(Cause.SERVER, text, _retry_after(e.response.headers))
    return _Failed(Cause.REFUSED, text)
  if isinstance(e, openai.APIConnectionError):
    return _Failed(Cause.CONNECTION, f'{e} {e.__cause__ or ""}')
  if isinstance(e, ValueError):  # Garbage, no JSON, no UTF-8
    return _Failed(Cause.GARBAGE, f'reply: {e}')
  raise e


def _retry_after(headers) -> float | None:
  """Seconds that the server asks for; dates are not read."""
  try:
    return max(0.0, float(headers.get('retry-after', '')))
  except ValueError:
    return None


_LASTING = (Cause.REFUSED,)


async def _send(client, of: Endpoint, call: Call, wanted: int, attempt: int,
                seconds: float) -> list:
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
  response = await asyncio.wait_for(create.with_raw_response.create(
      model=of.model, **{named: words}, extra_body=body), seconds)
  return call.read(json.loads(response.content))


async def _ask(client, of: Endpoint, call: Call, gate, until: float) -> Reply:
  """One call with its retries, never beyond `until`."""
  results, requests, failed = [], 0, None
  for attempt in range(of.retries + 1):
    async with gate:
      left = until - time.monotonic()
      if left <= 0:
        failed = failed or _Failed(Cause.BUDGET, 'the budget was spent')
        break
      requests += 1
      try:
        found = await _send(client, of, call, call.wanted - len(results),
                            attempt, min(of.deadline_s, left))
        failed = _Failed(Cause.MISSING, f'{len(found)} of '
                         f'{call.wanted - len(results)} choices came')
        results += found[:call.wanted - len(results)]
      except Exception as e:
        failed = _failure(e)
        if failed.cause == Cause.DEADLINE and left < of.deadline_s:
          failed = _Failed(Cause.BUDGET, 'the budget was spent')
    if len(results) == call.wanted:
      return Reply(tuple(results), None, '', requests)
    if failed.cause in (*_LASTING, Cause.BUDGET) or attempt == of.retries:
      break
    pause = failed.pause
    if pause is None:
      pause = of.backoff_s * 2**attempt * random.uniform(0.5, 1)
    if min(pause, _LONGEST_PAUSE) >= until - time.monotonic():
      break
    await asyncio.sleep(min(pause, _LONGEST_PAUSE))
  return Reply(tuple(results), failed.cause, clean(str(failed), of.key()),
               requests)


def ask_all(of: Endpoint, calls: Sequence[Call],
            budget_s: float) -> list[Reply]:
  """Asks everything at once and waits at most `budget_s` seconds.

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
  broken: list[BaseException] = []

  async def one(i, client, gate):
    replies[i] = await _ask(client, of, calls[i], gate, until)

  async def everything():
    gate = asyncio.Semaphore(of.concurrency)
    async with openai.AsyncOpenAI(
        base_url=of.url, api_key=of.key(), max_retries=0,
        timeout=of.deadline_s) as client:
      await asyncio.gather(*(one(i, client, gate) for i in range(len(calls))))

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
      answer as agreed.
  """
  import openai
  key, failed = of.key(), None
  until = time.monotonic() + budget_s
  for attempt in range(of.retries + 1):
    try:
      with openai.OpenAI(base_url=of.url, api_key=key, max_retries=0,
                         timeout=min(of.deadline_s, budget_s)) as client:
        response = client.models.with_raw_response.list()
        return read_models(json.loads(response.content))
    except Exception as e:
      failed = _failure(e)
    pause = of.backoff_s * 2**attempt
    if failed.cause in _LASTING or time.monotonic() + pause > until:
      break
    time.sleep(pause)
  raise EndpointError(failed.cause, f'{of.url}: {clean(str(failed), key)}')
