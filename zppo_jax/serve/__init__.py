"""`zppo serve`: a model as an OpenAI-compatible server (docs/serve.md)."""

import functools
import os
import pathlib
import socket

import jax

from zppo_jax import pretrained, rollouts, scoring, sharding
from zppo_jax.chat import micro_chat
from zppo_jax.records import Decoding, Grader
from zppo_jax.sample import BARE
from zppo_jax.serve.worker import SamplerBackend, Shapes, Worker

_UNGRADED = Grader(lambda text: '', lambda answer, question: False)
_CHUNK = 256  # positions whose logits exist at a time
_SMALLEST = 32  # bucket of prompts and rows, in tokens
_BATCHES = (1, 8, 32)


def doubling(low: int, high: int) -> tuple[int, ...]:
  """low, 2 low, 4 low, ... below high, and high."""
  out = []
  while low < high:
    out.append(low)
    low *= 2
  return (*out, high)


def shapes(context: int, sees: bool) -> Shapes:
  """Buckets for prompts and responses of together `context` tokens."""
  return Shapes(
      prompt_buckets=doubling(_SMALLEST, context),
      row_buckets=doubling(_SMALLEST, context),
      token_buckets=doubling(1, context),
      patch_buckets=doubling(256, 65536) if sees else (),
      batch_buckets=_BATCHES, micro_tokens=max(4096, context))


def worker(found: pretrained.Pretrained, chat, context: int,
           top: int) -> Worker:
  """A worker on this machine's devices.

  Args:
    found: the model.
    chat: its chat.
    context: most positions of prompt and response together.
    top: tokens told in a place.
  """
  model = found.model
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
  table = shapes(context, chat.vision is not None)
  params = jax.device_put(
      rollouts.rollout_copy(found.params, model.config.dtype),
      sharding.param_shardings(found.params, mesh, sharding.ROLLOUT_RULES))

  def make_sampler(decoding: Decoding):
    room = model.config.max_positions - decoding.max_tokens
    return rollouts.make_sampler(
        model=model, mesh=mesh, chat=chat, grader=_UNGRADED,
        decoding=decoding, num_rollouts=1,
        prompt_buckets=[b for b in table.prompt_buckets if b <= room],
        patch_buckets=table.patch_buckets,
        group_buckets=table.batch_buckets)

  backend = SamplerBackend(
      make_sampler, scoring.compile_ranker(
          model=model, mesh=mesh, chunk=_CHUNK,
          top=min(top, model.config.vocab_size)), params, table)
  return Worker(backend.company, backend.generate, functools.partial(
      backend.score, mesh=mesh, num_axes=model.num_axes))


def _token(name: str | None, host: str) -> str:
  if name is None:
    if host not in ('127.0.0.1', 'localhost', '::1'):
      raise ValueError(f'--host is {host!r}; without --token-env only this '
                       'machine is served: 127.0.0.1, localhost, ::1')
    return ''
  if not os.environ.get(name):
    raise ValueError(f'--token-env is {name!r}; no such environment variable '
                     'is set')
  return os.environ[name]


def main(*, model: str, name: str | None, host: str, port: int, dtype: str,
         context: int, token_env: str | None, max_mb: float) -> None:
  """Serves until SIGTERM or SIGINT; requests that are here are finished.

  Raises:
    ImportError: without the extra `serve`.
    ValueError: for a public host without a token, a context beyond the
      model's positions, or a model without words.
    OSError: if the port is taken.
  """
  try:
    import uvicorn

    from zppo_jax.serve import app
  except ImportError as e:
    raise ValueError('zppo serve needs more packages: pip install '
                     '"zppo_jax[serve]"') from e
  from zppo_jax.serve.asked import MOST_TOP
  token = _token(token_env, host)
  found = pretrained.load(model, dtype=dtype)
  for note in found.notes:
    print(note, flush=True)
  chat = pretrained.chat(found, BARE) or micro_chat.CHAT
  rows, most = found.model.config.vocab_size, found.model.config.max_positions
  if chat.codec.vocab_size != rows:
    raise ValueError(f'the model has {rows} rows and no tokenizer; only the '
                     f'embedded world ({chat.codec.vocab_size} rows) has its '
                     'own')
  context = context or min(most, 4096)
  if not 1 < context <= most:
    raise ValueError(f'--context is {context}; allowed: 2 to {most}, the '
                     "model's positions")
  name = name or pathlib.Path(model).name
  running = worker(found, chat, context, MOST_TOP)
  made = app.make(app.Server(name, chat, running, context, token,
                             int(max_mb * 2**20)))
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  listening = socket.create_server((host, port), family=family)
  shown = f'[{host}]' if ':' in host else host
  print(f'{name}: http://{shown}:{listening.getsockname()[1]}/v1',
        flush=True)
  uvicorn.Server(uvicorn.Config(
      made, log_level='warning', access_log=False, lifespan='off',
      timeout_graceful_shutdown=60)).run(sockets=[listening])
  running.close()
