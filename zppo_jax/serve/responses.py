"""Replies in OpenAI's form."""

import time
import uuid
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zppo_jax.chat.wording import Chat
from zppo_jax.records import StopReason
from zppo_jax.rollout.requests import Completion


class Ranked(NamedTuple):
  """What a scorer told of a row: log-probs (nats, temperature 1) of its
  tokens and of the likeliest ones in their places, and which likeliest one
  each token is; place 0 has none."""
  logp_T: np.ndarray
  top_logp_TK: np.ndarray
  top_id_TK: np.ndarray
  rank_T: np.ndarray | None = None


def finish(choice: Completion) -> str:
  """Why a choice ended, in OpenAI's word."""
  return 'length' if choice.stop == StopReason.LENGTH else 'stop'


def head(kind: str, model: str) -> dict:
  """The fields with which every completion begins."""
  prefix = 'chatcmpl' if kind.startswith('chat') else 'cmpl'
  return {'id': f'{prefix}-{uuid.uuid4().hex}', 'object': kind,
          'created': int(time.time()), 'model': model}


def usage(prompt_tokens: int, choices: Sequence[Completion]) -> dict:
  """Counts of tokens; a prompt counts once, whatever n is."""
  made = sum(len(c.tokens) for c in choices)
  return {'prompt_tokens': prompt_tokens, 'completion_tokens': made,
          'total_tokens': prompt_tokens + made}


def _nats(logp) -> float:
  """JSON has no minus infinity; OpenAI's form says -9999."""
  return max(-9999.0, float(logp))


def prompt_logprobs(tokens: Sequence[int], ranked: Ranked, top: int,
                    chat: Chat) -> list[dict | None]:
  """`prompt_logprobs` as vLLM tells them: None, then for each token of the
  prompt what stands in its place, by id: itself, and the `top` likeliest."""
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


def _top(ranked: Ranked, place: int, top: int, spell) -> list[tuple]:
  return [(spell(int(i)), _nats(p)) for i, p in zip(
      ranked.top_id_TK[place, :top], ranked.top_logp_TK[place, :top],
      strict=True)]


def text_logprobs(tokens: Sequence[int], first: int, ranked: Ranked, top: int,
                  chat: Chat) -> dict:
  """`logprobs` of a completion: four lists over tokens from `first` on.

  Tokens of one spelling share an entry of top_logprobs: the likelier one's.
  """
  spell = lambda i: chat.codec.decode([i])
  out = {'tokens': [], 'token_logprobs': [], 'top_logprobs': [],
         'text_offset': []}
  offset = 0
  for place, token in enumerate(tokens):
    word = spell(token)
    if place >= first:
      known = place > 0
      best: dict[str, float] = {}
      for name, logp in _top(ranked, place, top, spell) if known else ():
        best.setdefault(name, logp)
      out['tokens'].append(word)
      out['token_logprobs'].append(
          _nats(ranked.logp_T[place]) if known else None)
      out['top_logprobs'].append(best if known and top else None)
      out['text_offset'].append(offset)
    offset += len(word)
  return out


def chat_logprobs(tokens: Sequence[int], first: int, ranked: Ranked, top: int,
                  chat: Chat) -> dict:
  """`logprobs` of a chat's choice, whose tokens begin at `first`."""
  spell = lambda i: chat.codec.decode([i])

  def entry(name: str, logp: float) -> dict:
    return {'token': name, 'logprob': logp, 'bytes': list(name.encode())}
  return {'refusal': None, 'content': [
      {**entry(spell(tokens[t]), _nats(ranked.logp_T[t])), 'top_logprobs': [
          entry(*pair) for pair in _top(ranked, t, top, spell)]}
      for t in range(first, len(tokens))]}
