"""Parts of replies in OpenAI's form."""

import time
import uuid
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zppo_jax.chat.wording import Chat
from zppo_jax.endpoints.scored import SPELT
from zppo_jax.records import StopReason
from zppo_jax.rollout.requests import Completion


class Ranked(NamedTuple):
  """The log-probs of a sequence (nats, temperature 1); position 0 has none.

  Attributes:
    logp_T: of its tokens.
    top_logp_TK, top_id_TK: of the likeliest tokens at each position.
    rank_T: the rank of each token by log-prob, from 1; None if it is unknown.
  """
  logp_T: np.ndarray
  top_logp_TK: np.ndarray
  top_id_TK: np.ndarray
  rank_T: np.ndarray | None = None


def finish(choice: Completion) -> str:
  """The reason why a choice ended, in OpenAI's words."""
  return 'length' if choice.stop == StopReason.LENGTH else 'stop'


def head(kind: str, model: str) -> dict:
  """The fields with which every completion begins."""
  prefix = 'chatcmpl' if kind.startswith('chat') else 'cmpl'
  return {'id': f'{prefix}-{uuid.uuid4().hex}', 'object': kind,
          'created': int(time.time()), 'model': model}


def usage(prompt_tokens: int, choices: Sequence[Completion]) -> dict:
  """The counts of tokens; a prompt counts once, whatever n is."""
  tokens = sum(len(c.tokens) for c in choices)
  return {'prompt_tokens': prompt_tokens, 'completion_tokens': tokens,
          'total_tokens': prompt_tokens + tokens}


def _nats(logp) -> float:
  """A log-prob for JSON, which has no minus infinity; OpenAI writes -9999."""
  return max(-9999.0, float(logp))


def prompt_logprobs(tokens: Sequence[int], ranked: Ranked, top: int,
                    chat: Chat) -> list[dict | None]:
  """The `prompt_logprobs` in vLLM's form.

  The first entry is None. Each other entry holds, by id, the token of the
  prompt and the `top` likeliest tokens at its position.
  """
  def entry(token: int, logp: float, rank: int | None) -> dict:
    return {'logprob': _nats(logp), 'rank': rank,
            'decoded_token': chat.codec.decode([token])}

  out: list[dict | None] = [None]
  for t in range(1, len(tokens)):
    token, likeliest = tokens[t], ranked.top_id_TK[t].tolist()
    rank = (likeliest.index(token) + 1 if token in likeliest else None
            ) if ranked.rank_T is None else int(ranked.rank_T[t])
    place = {str(token): entry(token, ranked.logp_T[t], rank)}
    for k, other in enumerate(likeliest[:top]):
      place.setdefault(str(other), entry(
          other, ranked.top_logp_TK[t, k], k + 1))
    out.append(place)
  return out


def spelt(token: int) -> str:
  """A token as vLLM spells it under return_tokens_as_token_ids."""
  return f'{SPELT}{token}'


def _top(ranked: Ranked, place: int, top: int, spell) -> list[tuple]:
  return [(spell(int(i)), _nats(p)) for i, p in zip(
      ranked.top_id_TK[place, :top], ranked.top_logp_TK[place, :top],
      strict=True)]


def text_logprobs(tokens: Sequence[int], first: int, ranked: Ranked, top: int,
                  chat: Chat, ids: bool = False) -> dict:
  """The `logprobs` of a completion: four lists over the tokens from `first` on.

  With `ids` tokens are spelt as ids, without them as text: then tokens of one
  spelling share an entry of top_logprobs, that of the likelier.
  """
  decode = lambda i: chat.codec.decode([i])
  spell = spelt if ids else decode
  out = {'tokens': [], 'token_logprobs': [], 'top_logprobs': [],
         'text_offset': []}
  offset = 0
  for place, token in enumerate(tokens):
    if place >= first:
      known = place > 0
      best: dict[str, float] = {}
      for name, logp in _top(ranked, place, top, spell) if known else ():
        best.setdefault(name, logp)
      out['tokens'].append(spell(token))
      out['token_logprobs'].append(
          _nats(ranked.logp_T[place]) if known else None)
      out['top_logprobs'].append(best if known and top else None)
      out['text_offset'].append(offset)
    offset += len(decode(token))
  return out


def chat_logprobs(tokens: Sequence[int], first: int, ranked: Ranked, top: int,
                  chat: Chat, ids: bool = False) -> dict:
  """The `logprobs` of a choice of a chat, whose tokens begin at `first`.

  With `ids` tokens are spelt as ids; their bytes are those of the text.
  """
  def entry(token: int, logp: float) -> dict:
    text = chat.codec.decode([token])
    return {'token': spelt(token) if ids else text, 'logprob': logp,
            'bytes': list(text.encode())}
  return {'refusal': None, 'content': [
      {**entry(tokens[t], _nats(ranked.logp_T[t])), 'top_logprobs': [
          entry(*pair) for pair in _top(ranked, t, top, int)]}
      for t in range(first, len(tokens))]}
