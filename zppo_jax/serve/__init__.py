"""`zppo serve`: a model as an OpenAI-compatible server (docs/serve.md)."""

import copy
import dataclasses
import functools
import os
import pathlib
import signal
import socket
from collections.abc import Callable, Mapping

import jax
import numpy as np

from zppo_jax import allowed
from zppo_jax.chat import dates, segments
from zppo_jax.chat.rendering import Day
from zppo_jax.chat.wording import Chat
from zppo_jax.devices import compile_cache, sharding
from zppo_jax.endpoints import wire
from zppo_jax.learner import scoring
from zppo_jax.records import Decoding
from zppo_jax.rollout import weight_sync
from zppo_jax.rollout.engine import Engine
from zppo_jax.rollout.programs import Programs, Shapes, table_of
from zppo_jax.rollout.requests import Request
from zppo_jax.serve.worker import Worker
from zppo_jax.weights import pretrained

_CHUNK = 256  # positions whose logits exist at once
_SMALLEST = 64  # tokens of the smallest buckets
_PATCHES = (256, 65536)  # buckets of the images of a prompt
_LANE = 16  # the most by which lengths in one lane may differ, as a factor
_FIRST = 4  # slots of an engine that has few requests
GRACE_S = 60  # for requests that are in progress when the server ends


def spare(slots: int) -> int:
  """The number of slots besides `slots`.

  A lane for shorter choices has so many slots. In the longest lane they are the
  slots that no single request may take.
  """
  return max(1, slots // 4)


def shapes(context: int, slots: int, sees: bool) -> Shapes:
  """The tables for prompts and responses of together `context` tokens."""
  smallest = min(_SMALLEST, context)
  most = slots + spare(slots)
  return Shapes(
      slots=(min(_FIRST, most), most), samples_per_prompt=(1,),
      prompt_lengths=table_of(context, smallest, 2),
      response_lengths=table_of(context, smallest),
      patches=table_of(*_PATCHES[::-1]) if sees else (), prefill_sizes=(1, 4))


def lanes(programs: Programs, slots: int,
          make) -> list[tuple[int, Engine]]:
  """(most tokens of a choice, engine) of each lane, from short to long.

  Args:
    programs: of the longest lane.
    slots: the choices that a request draws at once (max_num_seqs).
    make: (programs, max_slots_per_owner) -> Engine.
  """
  lengths = programs.shapes.response_lengths
  out, most = [], lengths[0]
  while most < lengths[-1]:
    short = copy.copy(programs)  # its compiled programs are shared
    short.shapes = dataclasses.replace(
        programs.shapes, slots=(max(_FIRST, spare(slots)),),
        response_lengths=tuple(n for n in lengths if n <= most))
    out.append((short.shapes.response_lengths[-1],
                make(short, max(1, short.shapes.slots[0] - 1))))
    most *= _LANE
  return [*out, (lengths[-1], make(programs, slots))]


def _warm(engine: Engine, codec) -> None:
  """Compiles the programs that the first requests of a lane need."""
  token = min(codec.sampled_ids)
  for decoding in (Decoding(2, 0.0), Decoding(2), Decoding(2, top_p=0.5)):
    for together in engine.shapes.prefill_sizes:
      for i in range(together):
        engine.submit(Request(
            id=i, tokens=(token,), key_G2=np.zeros((1, 2), np.uint32),
            decoding=decoding, owner=i))
      while engine.busy:
        engine.poll()


def start(found: pretrained.Pretrained, chat, context: int, slots: int,
          top: int) -> Worker:
  """A worker on the first device of this machine.

  Args:
    found: the model.
    chat: its chat.
    context: the most positions of prompt and response together.
    slots: the choices of a request that are drawn at once (max_num_seqs).
    top: the likeliest tokens that a reply may list at each position.
  """
  model, codec = found.model, chat.codec
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
  table = shapes(context, slots, chat.vision is not None)
  params = weight_sync.place_copy(found.params, model, mesh)

  def make(programs: Programs, max_slots_per_owner: int) -> Engine:
    engine = Engine(
        programs, decode=chat.decode_response, end_id=segments.end_ids(codec),
        allowed_V=np.isin(np.arange(codec.vocab_size),
                          list(codec.sampled_ids)),
        decode_chunk=16, fair=True,
        max_slots_per_owner=max_slots_per_owner)
    engine.load(params)
    return engine

  drawing = lanes(Programs(model, mesh, table), slots, make)
  _warm(drawing[0][1], codec)
  vocab = segments.true_vocabulary(codec)
  rank_fn = scoring.compile_describer(
      model=model, mesh=mesh, chunk=_CHUNK, vocab=vocab,
      form=scoring.Form(top=min(top, vocab), ranks=True, prompts=True))
  return Worker(drawing, functools.partial(
      scoring.by_row, rank_fn, params, mesh=mesh, prompts=True,
      max_tokens=max(4096, context), buckets=table.prompt_lengths,
      patch_buckets=table.patches, num_axes=model.num_axes))


def _token(name: str | None, host: str) -> str:
  if name is None:
    if host not in ('127.0.0.1', 'localhost', '::1'):
      raise ValueError(f'--host is {host!r}; without --token-env only this '
                       'machine is served: 127.0.0.1, localhost, ::1')
    return ''
  if not os.environ.get(name):
    raise ValueError(f'--token-env is {name!r}; no such environment variable '
                     'is set')
  wire.check_key(os.environ[name], f'--token-env is {name!r}; it')
  return os.environ[name]


def main(*, model: str, name: str | None, host: str, port: int, dtype: str,
         context: int, slots: int, token_env: str | None,
         max_mb: float, date: str | None = None, end_tokens: str | None = None,
         chat_template: str | None = None,
         words: Mapping[str, str] | None = None, thinking: bool | None = None,
         day: Day | None = None,
         of_task: Callable[[], Chat | None] | None = None) -> None:
  """Serves until SIGTERM or SIGINT.

  Requests that have come by then are finished within GRACE_S, or dropped.

  Args:
    model, name, host, port, dtype, context, slots, token_env, max_mb, date,
      end_tokens, chat_template: the flags of the command.
    words: a user's own words around a question, {} those of the package; None:
      messages are asked as they come.
    thinking: the switch of a chat template, if a request has none.
    day: the date in prompts, if `date` names none; None: today.
    of_task: as that of pretrained.asking_chat.

  Raises:
    ImportError: if the extra `serve` is not installed.
    ValueError: for a public host without a token, a context beyond the
      model's positions, or a model without words.
    OSError: if the port is taken.
  """
  try:
    import uvicorn

    from zppo_jax.serve import app, connections
  except ImportError as e:
    raise ValueError('zppo serve needs more packages: pip install '
                     '"zppo_jax[serve]"') from e
  from zppo_jax.serve.requests import MOST_TOP
  token = _token(token_env, host)
  compile_cache.enable()
  day = dates.named(date, '--date') or day
  found = pretrained.with_words(
      pretrained.load(model, dtype=dtype),
      end_tokens=pretrained.listed(end_tokens),
      chat_template=chat_template or '', who='--')
  chat = (pretrained.bare_chat(found, thinking, day) if words is None else
          pretrained.asking_chat(found, words, thinking, day, of_task))
  for note in (*found.notes, *chat.notes):
    print(note, flush=True)
  rows, most = found.model.config.vocab_size, found.model.config.max_positions
  if chat.codec.vocab_size != rows:
    raise ValueError(f'the model has {rows} rows and no tokenizer; only the '
                     f'embedded world ({chat.codec.vocab_size} rows) has its '
                     'own')
  context = context or min(most, 4096)
  allowed.number('--context', context, f'[2, {most}]', whole=True,
                 note=", the model's positions")
  allowed.number('--slots', slots, '>= 1', whole=True)
  name = name or pathlib.Path(model).name
  running = start(found, chat, context, slots, MOST_TOP)
  made = app.make(app.Server(name, chat, running, context, token,
                             int(max_mb * 2**20)))
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  listening = socket.create_server((host, port), family=family)
  shown = f'[{host}]' if ':' in host else host
  server = uvicorn.Server(uvicorn.Config(
      made, log_level='warning', access_log=False, lifespan='off',
      timeout_graceful_shutdown=GRACE_S, http=connections.Connection))

  def end(*_):
    server.should_exit = True

  # A signal that comes before uvicorn listens ends the server too; uvicorn
  # raises the signals that it has handled once more.
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, end)
  print(f'{name}: http://{shown}:{listening.getsockname()[1]}/v1',
        flush=True)
  server.run(sockets=[listening])
  running.close()
