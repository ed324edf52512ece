"""The HTTP side: routes, errors, who may ask, how much, and how long."""

import asyncio
import dataclasses
import hmac
import json
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from zppo_jax.chat import conversation
from zppo_jax.chat.segments import Encoded
from zppo_jax.chat.wording import Chat
from zppo_jax.engine import Completion
from zppo_jax.packing import Row
from zppo_jax.records import StopReason
from zppo_jax.serve import asked, told
from zppo_jax.serve.asked import Ask, Refused
from zppo_jax.serve.told import Ranked
from zppo_jax.serve.worker import Generate, Score, Worker

LOCAL = ('127.0.0.1', 'localhost', '[::1]')
_TYPES = {401: 'authentication_error', 404: 'not_found_error',
          413: 'request_too_large', 500: 'server_error', 503: 'server_error'}


@dataclasses.dataclass(frozen=True)
class Server:
  """What is served, and to whom.

  Attributes:
    name: of the model.
    chat: its words; its template for messages.
    worker: generates and scores.
    context: most positions of prompt and response together.
    token: bearer token; '' serves whoever reaches this machine by LOCAL.
    max_bytes: of a request's body.
  """
  name: str
  chat: Chat
  worker: Worker
  context: int
  token: str
  max_bytes: int


def error(refused: Refused) -> JSONResponse:
  """An error in OpenAI's form."""
  kind = _TYPES.get(refused.status, 'invalid_request_error')
  return JSONResponse({'error': {
      'message': str(refused), 'type': kind, 'param': refused.param,
      'code': refused.code}}, refused.status)


def _check_caller(request: Request, server: Server) -> None:
  if server.token:
    given = request.headers.get('authorization', '')
    if not hmac.compare_digest(given.encode(),
                               f'Bearer {server.token}'.encode()):
      raise Refused('no or a wrong key in the Authorization header', None, 401,
                    'invalid_api_key')
    return
  # A web page whose name was pointed here would send its own.
  host = request.headers.get('host', '').rpartition(':')
  name = host[0] or host[2]
  if name not in LOCAL:
    raise Refused(f'Host is {name!r}; without a token this server is for '
                  f'{", ".join(LOCAL)}', None, 403, 'forbidden_host')


async def _read(request: Request, server: Server) -> Any:
  """The decoded body."""
  kind = request.headers.get('content-type', '').partition(';')[0].strip()
  if kind != 'application/json':
    raise Refused(f'Content-Type is {kind!r}; allowed: application/json',
                  None, 415, 'unsupported_media_type')
  raw = bytearray()
  async for piece in request.stream():
    raw += piece
    if len(raw) > server.max_bytes:
      raise Refused(f'the body is longer than {server.max_bytes} bytes', None,
                    413, 'request_too_large')
  try:
    return json.loads(bytes(raw))
  except (ValueError, RecursionError):
    raise Refused('the body is no JSON', code='invalid_json') from None


async def _result(request: Request, server: Server, jobs: Sequence) -> list:
  """Results of jobs; they are dropped when their client leaves or the server
  has no more time for them."""
  futures = [server.worker.submit(job) for job in jobs]
  pending = {asyncio.wrap_future(f) for f in futures}
  try:
    while pending:
      _, pending = await asyncio.wait(pending, timeout=1.0)
      if not server.worker.alive:
        raise Refused('the engine has ended', None, 503, 'engine_ended')
      if pending and await request.is_disconnected():
        raise ClientDisconnect()
  except BaseException:
    for future in futures:
      future.cancel()
    raise
  try:
    return [f.result() for f in futures]
  except ValueError as e:  # what fits no shape
    raise Refused(str(e), code='context_length_exceeded') from None


def _check_length(tokens: Sequence[int], most: int, server: Server,
                  param: str) -> None:
  if not tokens:
    raise Refused(f'{param} is empty; at least one token is needed', param)
  if len(tokens) + most > server.context:
    raise Refused(
        f'{param} has {len(tokens)} tokens and max_tokens is {most}; allowed: '
        f'{server.context} together', param, code='context_length_exceeded')


async def _choices(request: Request, server: Server, ask: Ask,
                   prompts: Sequence[Encoded]) -> list[list[Completion]]:
  if ask.decoding is None:
    nothing = Completion('', 0, (), (), '', StopReason.LENGTH)
    return [[nothing] * ask.n for _ in prompts]
  seed = secrets.randbits(63) if ask.seed is None else ask.seed
  return await _result(request, server, [
      Generate(p.tokens, p.media, ask.decoding, ask.n, seed, ask.stop)
      for p in prompts])


async def _ranked(request: Request, server: Server, prompts, choices):
  """Ranked of every choice under its prompt."""
  rows = [Row(p.tokens, c.tokens, (0.0,) * len(c.tokens), 0.0, p.media)
          for p, several in zip(prompts, choices, strict=True)
          for c in several]
  found = iter(await _result(request, server, [Score(row) for row in rows]))
  return [[Ranked(*next(found)) for _ in several] for several in choices]


def _as_events(reply: dict, chat: bool, counts: bool) -> Response:
  """The same choices as server-sent events, an event a choice.

  With `counts` one more without choices holds the usage, null in the others.
  """
  base = {k: v for k, v in reply.items() if k not in ('choices', 'usage')}
  if chat:
    base['object'] = 'chat.completion.chunk'
  each = {**base, 'usage': None} if counts else base

  def lines():
    for choice in reply['choices']:
      if chat:
        choice = {**{k: v for k, v in choice.items() if k != 'message'},
                  'delta': choice['message']}
      yield f'data: {json.dumps({**each, "choices": [choice]})}\n\n'
    if counts:
      last = {**base, 'choices': [], 'usage': reply['usage']}
      yield f'data: {json.dumps(last)}\n\n'
    yield 'data: [DONE]\n\n'
  return StreamingResponse(lines(), media_type='text/event-stream')


def _encoded(prompt: str | tuple[int, ...], server: Server) -> Encoded:
  codec = server.chat.codec
  if isinstance(prompt, str):
    try:
      return Encoded(tuple(codec.encode_template(prompt)), 0)
    except KeyError as e:
      raise Refused(f'prompt holds {e}, which the model has no token for',
                    'prompt') from None
  for token in prompt:
    if not 0 <= token < codec.vocab_size:
      raise Refused(f'prompt holds token {token}; allowed: 0 to '
                    f'{codec.vocab_size - 1}', 'prompt')
  return Encoded(prompt, 0)


async def _completions(request: Request, server: Server) -> Response:
  body = asked.text(await _read(request, server), server.name, server.context)
  ask = body.ask
  prompts = [_encoded(p, server) for p in body.prompts]
  for prompt in prompts:
    _check_length(prompt.tokens, ask.decoding.max_tokens if ask.decoding else
                  0, server, 'prompt')
  choices = await _choices(request, server, ask, prompts)
  ranked = ([[None] * ask.n] * len(prompts) if ask.top is None else
            await _ranked(request, server, prompts, choices))
  out = []
  for prompt, several, ranks in zip(prompts, choices, ranked, strict=True):
    begin = server.chat.codec.decode(prompt.tokens) if body.echo else ''
    first = 0 if body.echo else len(prompt.tokens)
    for choice, rank in zip(several, ranks, strict=True):
      out.append({
          'index': len(out), 'text': begin + choice.text,
          'finish_reason': told.finish(choice),
          'logprobs': None if rank is None else told.text_logprobs(
              (*prompt.tokens, *choice.tokens), first, rank, ask.top,
              server.chat)})
  reply = {**told.head('text_completion', server.name), 'choices': out,
           'usage': told.usage(sum(len(p.tokens) for p in prompts),
                               [c for several in choices for c in several])}
  if ask.stream:
    return _as_events(reply, False, ask.counts)
  return JSONResponse(reply)


async def _chat(request: Request, server: Server) -> Response:
  body = asked.chat(await _read(request, server), server.name, server.context)
  ask = body.ask
  try:
    prompt = await asyncio.to_thread(
        conversation.encode, body.messages, server.chat, body.thinking)
  except Exception as e:  # a template may raise anything about its messages
    raise Refused(f'messages: {e}', 'messages') from e
  if not body.limited:
    room = max(1, server.context - len(prompt.tokens))
    ask = dataclasses.replace(ask, decoding=dataclasses.replace(
        ask.decoding, max_tokens=room))
  _check_length(prompt.tokens, ask.decoding.max_tokens, server, 'messages')
  choices = await _choices(request, server, ask, [prompt])
  ranked = ([[None] * ask.n] if ask.top is None else
            await _ranked(request, server, [prompt], choices))
  out = [{
      'index': i, 'finish_reason': told.finish(choice),
      'message': {'role': 'assistant', 'content': choice.text},
      'logprobs': None if rank is None else told.chat_logprobs(
          (*prompt.tokens, *choice.tokens), len(prompt.tokens), rank, ask.top,
          server.chat)}
      for i, (choice, rank) in enumerate(zip(choices[0], ranked[0],
                                             strict=True))]
  reply = {**told.head('chat.completion', server.name), 'choices': out,
           'usage': told.usage(len(prompt.tokens), choices[0])}
  if ask.stream:
    return _as_events(reply, True, ask.counts)
  return JSONResponse(reply)


async def _models(request: Request, server: Server) -> Response:
  del request
  return JSONResponse({'object': 'list', 'data': [
      {'id': server.name, 'object': 'model', 'created': 0,
       'owned_by': 'zppo_jax', 'max_model_len': server.context}]})


def make(server: Server) -> Starlette:
  """The application."""
  def guarded(answer: Callable):
    async def route(request: Request) -> Response:
      try:
        _check_caller(request, server)
        return await answer(request, server)
      except Refused as e:
        return error(e)
      except ClientDisconnect:
        return Response(status_code=499)
    return route

  async def health(request: Request) -> Response:
    del request
    alive = server.worker.alive
    return JSONResponse({'status': 'ok' if alive else 'engine ended'},
                        200 if alive else 503)

  async def unknown(request: Request, e: HTTPException) -> Response:
    return error(Refused(
        f'{request.method} {request.url.path}: {e.detail}; known: '
        + ', '.join(r.path for r in routes), None, e.status_code, 'no_route'))

  async def broken(request: Request, e: Exception) -> Response:
    del request
    return error(Refused(f'the server failed: {type(e).__name__}', None, 500,
                         'server_error'))

  routes = [
      Route('/health', health),
      Route('/v1/models', guarded(_models)),
      Route('/v1/completions', guarded(_completions), methods=['POST']),
      Route('/v1/chat/completions', guarded(_chat), methods=['POST'])]
  return Starlette(routes=routes, exception_handlers={
      HTTPException: unknown, Exception: broken})
