"""From the bytes of a request to prompts as token ids.

This code runs in the threads of desk.py. A text that is too long for the
context, whatever its tokens are, is refused before any code reads it.
"""

import dataclasses
import functools
from collections.abc import Sequence

from zppo_jax.chat.prompts import turns
from zppo_jax.chat.segments import Encoded
from zppo_jax.serve import requests
from zppo_jax.serve.requests import ChatAsk, Refused, TextAsk

_SHRINKS = 4  # the most by which the normal form of a text is shorter


@functools.lru_cache(maxsize=8)
def longest_token(codec) -> int:
  """The most characters of a text for which one token stands."""
  longest = 1 + max(map(len, codec.ids))  # some add a space before it
  backend = getattr(getattr(codec, 'tokenizer', None), 'backend_tokenizer',
                    None)
  changed = backend is not None and backend.normalizer is not None
  return longest * (_SHRINKS if changed else 1)


def _check_size(texts: Sequence[str], server, param: str) -> None:
  size, each = sum(map(len, texts)), longest_token(server.chat.codec)
  if size > each * server.context:
    raise Refused(
        f'{param} has {size} characters; the {server.context} tokens of the '
        f'context hold at most {each} each', param,
        code='context_length_exceeded')


def _check_length(tokens: Sequence[int], most: int, server,
                  param: str) -> None:
  if not tokens:
    raise Refused(f'{param} is empty; at least one token is needed', param)
  if len(tokens) + most > server.context:
    raise Refused(
        f'{param} has {len(tokens)} tokens and max_tokens is {most}; allowed: '
        f'{server.context} together', param, code='context_length_exceeded')


def _check_tokens(tokens: Sequence[int], server, param: str) -> None:
  rows = server.chat.codec.vocab_size
  for token in tokens:
    if not 0 <= token < rows:
      raise Refused(f'{param} holds token {token}; allowed: 0 to {rows - 1}',
                    param)


def _encoded(prompt: str | tuple[int, ...], server) -> Encoded:
  codec = server.chat.codec
  if isinstance(prompt, str):
    _check_size([prompt], server, 'prompt')
    try:
      return Encoded(tuple(codec.encode_template(prompt)), 0)
    except KeyError as e:
      word = str(e)
      raise Refused(
          f'prompt holds {word if len(word) < 80 else word[:77] + "..."}, '
          'which the model has no token for', 'prompt') from None
  _check_length(prompt, 0, server, 'prompt')
  _check_tokens(prompt, server, 'prompt')
  return Encoded(prompt, 0)


def text(raw: bytes, server) -> tuple[TextAsk, list[Encoded]]:
  """The body of a /v1/completions and its prompts.

  Args:
    raw: the body.
    server: app.Server.

  Raises:
    Refused: as requests.text; for tokens or lengths that the model cannot take.
  """
  body = requests.text(requests.decode(raw), server.name, server.context)
  _check_tokens(body.ask.stop_ids, server, 'stop_token_ids')
  most = body.ask.decoding.max_tokens if body.ask.decoding else 0
  prompts = []
  for prompt in body.prompts:
    prompts.append(_encoded(prompt, server))
    _check_length(prompts[-1].tokens, most, server, 'prompt')
  return body, prompts


def chat(raw: bytes, server) -> tuple[ChatAsk, list[Encoded]]:
  """The body of a /v1/chat/completions and its one prompt, as `text`."""
  body = requests.chat(requests.decode(raw), server.name, server.context)
  _check_tokens(body.ask.stop_ids, server, 'stop_token_ids')
  parts = sum(len(m.parts) for m in body.messages)
  if parts > server.context:  # because each part has a token or more
    raise Refused(f'messages has {parts} parts; the context has '
                  f'{server.context} tokens', 'messages',
                  code='context_length_exceeded')
  _check_size([p for m in body.messages for p in m.parts
               if isinstance(p, str)], server, 'messages')
  try:
    prompt = turns.encode(body.messages, server.chat, body.thinking)
  except Exception as e:  # a template may raise anything about its messages
    raise Refused(f'messages: {str(e)[:500]}', 'messages') from e
  if not body.limited:
    room = max(1, server.context - len(prompt.tokens))
    ask = dataclasses.replace(body.ask, decoding=dataclasses.replace(
        body.ask.decoding, max_tokens=room))
    body = dataclasses.replace(body, ask=ask)
  _check_length(prompt.tokens, body.ask.decoding.max_tokens, server,
                'messages')
  return body, [prompt]
