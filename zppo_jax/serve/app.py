"""The HTTP side of the server: routes, errors, and bounds on requests."""

import asyncio
import dataclasses
import hmac
import re
import secrets
from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zppo_jax.chat.segments import Encoded
from zppo_jax.chat.wording import Chat
from zppo_jax.records import StopReason, TokenSequence
from zppo_jax.rollout.requests import Completion
from zppo_jax.serve import prepared, replied
from zppo_jax.serve.desk import Desk
from zppo_jax.serve.requests import Ask, Refused
from zppo_jax.serve.responses import Ranked
from zppo_jax.serve.worker import Generate, Score, Worker

_HOST = re.compile(r'(\[[^\]]*\]|[^:]*)(?::\d*)?')
BODY_S = 120  # the most seconds for receiving a body
LOCAL = ('127.0.0.1', 'localhost', '[::1]')
_TYPES = {401: 'authentication_error', 404: 'not_found_error',
          413: 'request_too_large', 500: 'server_error', 503: 'server_error'}


@dataclasses.dataclass(frozen=True)
class Server:
  """What the server serves, and to whom.

  Attributes:
    name: of the model.
    chat: encodes its texts and messages.
    worker: generates and scores.
    context: the most positions of prompt and response together.
    token: a bearer token; '' serves each client that names a host of LOCAL.
    max_bytes: the most bytes of a body.
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
    # Headers are bytes, which starlette decodes as Latin-1.
    given = request.headers.get('authorization', '').encode('latin-1')
    scheme, _, token = given.partition(b' ')
    if scheme.lower() != b'bearer' or not hmac.compare_digest(
        token.strip(), server.token.encode()):
      raise Refused('no or a wrong key in the Authorization header', None, 401,
                    'invalid_api_key')
    return
  # A web page with a name that leads to this machine would send that name.
  given = request.headers.get('host', '').strip()
  host = _HOST.fullmatch(given)
  name = host[1].lower() if host else given
  if name not in LOCAL:
    raise Refused(f'Host is {name[:80]!r}; without a token this server is for '
                  f'{", ".join(LOCAL)}', None, 403, 'forbidden_host')


async def _read(request: Request, server: Server, hold: Callable) -> bytes:
  """The body of a request."""
  kind = request.headers.get('content-type', '').partition(';')[0].strip()
  if kind.lower() != 'application/json':
    raise Refused(f'Content-Type is {kind[:80]!r}; allowed: application/json',
                  None, 415, 'unsupported_media_type')
  raw = bytearray()
  try:
    async with asyncio.timeout(BODY_S):
      async for piece in request.stream():
        raw += piece
        if len(raw) > server.max_bytes:
          raise Refused(f'the body is longer than {server.max_bytes} bytes',
                        None, 413, 'request_too_large')
        hold(len(piece))
  except TimeoutError:
    raise Refused(f'the body did not come within {BODY_S} s', None, 408,
                  'request_timeout') from None
  return bytes(raw)


async def _result(request: Request, server: Server, jobs: Sequence) -> list:
  """The results of jobs.

  The jobs are dropped if their client leaves or if the server ends.
  """
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
  except ValueError as e:  # a job that fits no shape
    raise Refused(str(e), code='context_length_exceeded') from None


async def _choices(request: Request, server: Server, ask: Ask,
                   prompts: Sequence[Encoded]) -> list[list[Completion]]:
  if ask.decoding is None:
    nothing = Completion('', 0, (), (), '', StopReason.LENGTH)
    return [[nothing] * ask.n for _ in prompts]
  seed = secrets.randbits(63) if ask.seed is None else ask.seed
  owner = object()  # all prompts of the request share it
  return await _result(request, server, [
      Generate(p.tokens, p.media, ask.decoding, ask.n, seed, ask.stop,
               ask.stop_ids, owner) for p in prompts])


def _of(found) -> Ranked:
  """The log-probs of a sequence from its top_logps.Description."""
  return Ranked(logp_T=found.logp_BT, top_logp_TK=found.top_logp_BTK,
                top_id_TK=found.top_id_BTK, rank_T=found.rank_BT)


async def _ranked(request: Request, server: Server, ask: Ask, prompts,
                  choices) -> list[list[Ranked | None]]:
  """The log-probs of every choice of every prompt; None if not asked for."""
  if ask.top is None and ask.prompt_top is None:
    return [[None] * len(several) for several in choices]
  owner = object()
  if ask.top is None:  # then the prompt is scored once for all its choices
    found = await _result(request, server, [
        Score(TokenSequence(prompt=p.tokens, response=(), media=p.media), owner)
        for p in prompts])
    return [[_of(one)] * len(several)
            for one, several in zip(found, choices, strict=True)]
  rows = [TokenSequence(prompt=p.tokens, response=c.tokens, media=p.media)
          for p, several in zip(prompts, choices, strict=True)
          for c in several]
  found = iter(await _result(request, server, [
      Score(row, owner) for row in rows]))
  return [[_of(next(found)) for _ in several] for several in choices]


def _completion(prepare: Callable, reply: Callable):
  """A route for completions.

  Args:
    prepare: (bytes of a body, Server) -> (its TextAsk or ChatAsk, prompts).
    reply: as replied.text.
  """
  async def route(request: Request, server: Server, desk: Desk) -> Response:
    with desk.hold() as hold:
      raw = await _read(request, server, hold)
      body, prompts = await desk.do(len(raw), prepare, raw, server)
      del raw
    choices = await _choices(request, server, body.ask, prompts)
    ranked = await _ranked(request, server, body.ask, prompts, choices)
    content = await desk.do(
        replied.size(body.ask, prompts, choices), reply, body, prompts,
        choices, ranked, server.name, server.chat)
    return Response(content, media_type=(
        'text/event-stream' if body.ask.stream else 'application/json'))
  return route


def _model(server: Server) -> dict:
  return {'id': server.name, 'object': 'model', 'created': 0,
          'owned_by': 'zppo_jax', 'max_model_len': server.context}


async def _models(request: Request, server: Server, desk: Desk) -> Response:
  del request, desk
  return JSONResponse({'object': 'list', 'data': [_model(server)]})


async def _one_model(request: Request, server: Server, desk: Desk) -> Response:
  del desk
  name = request.path_params['id']
  if name != server.name:
    raise Refused(f'model is {name[:80]!r}; allowed: {server.name!r}', 'model',
                  404, 'model_not_found')
  return JSONResponse(_model(server))


def make(server: Server) -> Starlette:
  """The ASGI application of a server."""
  desk = Desk(server.max_bytes)

  def guarded(answer: Callable):
    async def route(request: Request) -> Response:
      try:
        _check_caller(request, server)
        return await answer(request, server, desk)
      except Refused as e:
        return error(e)
      except ClientDisconnect:
        return Response(status_code=499)
      except asyncio.CancelledError:  # uvicorn's, after the grace
        return error(Refused('the server ends, and the request needs more time '
                             'than is left', None, 503, 'server_ends'))
    return route

  async def health(request: Request) -> Response:
    del request
    alive = server.worker.alive
    return JSONResponse({'status': 'ok' if alive else 'engine ended'},
                        200 if alive else 503)

  async def unknown(request: Request, e: HTTPException) -> Response:
    return error(Refused(
        f'{request.method} {request.url.path}: {e.detail}; allowed: '
        + ', '.join(r.path for r in routes), None, e.status_code, 'no_route'))

  async def broken(request: Request, e: Exception) -> Response:
    del request
    return error(Refused(f'the server failed: {type(e).__name__}', None, 500,
                         'server_error'))

  routes = [
      Route('/health', health),
      Route('/v1/models', guarded(_models)),
      Route('/v1/models/{id:path}', guarded(_one_model)),
      Route('/v1/completions', guarded(_completion(
          prepared.text, replied.text)), methods=['POST']),
      Route('/v1/chat/completions', guarded(_completion(
          prepared.chat, replied.chat)), methods=['POST'])]
  return Starlette(routes=routes, exception_handlers={
      HTTPException: unknown, Exception: broken})
