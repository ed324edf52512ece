"""Readers of the scores that a server gives the tokens of a prompt.

Entries are read by token id and never by decoded text, because several ids may
have one spelling. A reply has to tell of the very tokens that were sent, one
entry for each; any other reply is Garbage, so that its scores are missing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from zppo_jax.endpoints.replies import Garbage, choices, log_prob, of_type

SPELT = 'token_id:'  # how servers spell an id with return_tokens_as_token_ids
# Servers write this for minus infinity, which JSON has not.
NO_MASS = -9999.0
_MOST_MASS = 1.01  # rounded log-probs of different tokens may have so much mass
_MOST_DIGITS = 12  # of an id


class Scored(NamedTuple):
  """The scores of a response of R tokens, nats.

  Attributes:
    logps: R numbers.
    top_ids: R tuples of K ids, the likeliest first, of equal ones the lower.
    top_logps: their log-probs.
  """
  logps: tuple[float, ...]
  top_ids: tuple[tuple[int, ...], ...]
  top_logps: tuple[tuple[float, ...], ...]


class Sent(NamedTuple):
  """What a request sent.

  Attributes:
    tokens: the ids of prompt and response.
    start: the place of the first response token.
    top: K, the number of likeliest tokens at each place.
    vocab: the number of ids that mean something.
  """
  tokens: Sequence[int]
  start: int
  top: int
  vocab: int


def _finite(value) -> float:
  logp = log_prob(value)
  if logp <= NO_MASS:
    raise Garbage(f'a log-prob is {logp}, which stands for minus infinity')
  return logp


def _id(text, vocab: int) -> int:
  """The id of a JSON name."""
  digits = of_type(text, str, 'a token id')
  if not (digits.isascii() and digits.isdigit() and len(digits) < _MOST_DIGITS
          and str(int(digits)) == digits and int(digits) < vocab):
    raise Garbage(f'a token id is {digits[:40]!r}; the vocabulary has {vocab} '
                  'ids')
  return int(digits)


def _spelt(text, vocab: int) -> int:
  """The id of a token that is spelt as one."""
  if not of_type(text, str, 'a token').startswith(SPELT):
    raise Garbage(f'a token is {text[:40]!r}, which is not a token id')
  return _id(text[len(SPELT):], vocab)


def _top(logps: Mapping[int, float], token: int, top: int):
  """(ids, log-probs) of the K likeliest among K or K + 1 entries.

  The token that was sent may be an entry more.
  """
  if len(logps) not in (top, top + 1) or (
      len(logps) > top and token not in logps):
    raise Garbage(f'{len(logps)} tokens are listed where {top} were asked for')
  if math.fsum(map(math.exp, logps.values())) > _MOST_MASS:
    raise Garbage('the listed tokens have more mass than 1')
  chosen = sorted(logps, key=lambda i: (-logps[i], i))[:top]
  return tuple(chosen), tuple(logps[i] for i in chosen)


def _scored(places: Sequence[tuple[int, float, Mapping[int, float]]],
            top: int) -> list[Scored]:
  """The result of places: (token, its log-prob, log-probs by id)."""
  tops = [_top(logps, token, top) for token, _, logps in places] if top else []
  return [Scored(logps=tuple(logp for _, logp, _ in places),
                 top_ids=tuple(ids for ids, _ in tops),
                 top_logps=tuple(logps for _, logps in tops))]


def _check_first(values: Sequence, what: str) -> None:
  """The first token has no context, so that a log-prob of it means that the
  entries lie elsewhere."""
  if not values or values[0] is not None:
    raise Garbage(f'{what} tells of the first token, which has no context')


def echoed(sent: Sent, ids: bool = True) -> Callable[[Any], list[Scored]]:
  """A reader of a completion that echoes its prompt, with one token more.

  Args:
    sent: what was sent.
    ids: whether the server spells tokens as ids. Without ids, lengths alone can
      be checked, and there is no top K.
  """
  size = len(sent.tokens)

  def read(reply) -> list[Scored]:
    listed = choices(reply)
    if not listed:
      return []
    fields = of_type(listed[0].get('logprobs'), dict, 'logprobs')
    entries = lambda name: of_type(fields.get(name), list, f'logprobs.{name}')
    values = entries('token_logprobs')
    _check_first(values, 'logprobs.token_logprobs')
    if len(values) not in ((size, size + 1) if ids else (size + 1,)):
      raise Garbage(f'logprobs.token_logprobs tells of {len(values)} tokens '
                    f'where {size} were sent and one was asked for')
    logps = list(map(_finite, values[sent.start:size]))
    if not ids:
      if sent.top:
        raise Garbage('logprobs.top_logprobs has no token ids')
      return [Scored(logps=tuple(logps), top_ids=(), top_logps=())]
    spelt = entries('tokens')
    told = [_spelt(x, sent.vocab) for x in spelt[:size]]
    if len(spelt) != len(values) or told != list(sent.tokens):
      raise Garbage('logprobs.tokens tells of other tokens than were sent')
    likeliest: list = [{}] * size
    if sent.top:
      likeliest = entries('top_logprobs')
      if len(likeliest) != len(values):
        raise Garbage(f'logprobs.top_logprobs has {len(likeliest)} entries '
                      f'where there are {len(values)} tokens')
    return _scored([
        (token, logp, {
            _spelt(name, sent.vocab): _finite(value) for name, value in of_type(
                place, dict, 'an entry of logprobs.top_logprobs').items()})
        for token, logp, place in zip(
            told[sent.start:], logps, likeliest[sent.start:size],
            strict=True)], sent.top)
  return read


def prompt_logprobs(sent: Sent) -> Callable[[Any], list[Scored]]:
  """A reader of vLLM's `prompt_logprobs`: null, then an object by id per token.

  Each object has the token that was sent, and the K likeliest ones.
  """
  size = len(sent.tokens)

  def place(token: int, value) -> tuple[int, float, dict[int, float]]:
    held = of_type(value, dict, 'an entry of prompt_logprobs')
    logps = {
        _id(name, sent.vocab): _finite(of_type(
            of, dict, 'a token of prompt_logprobs').get('logprob'))
        for name, of in held.items()}
    if token not in logps:
      raise Garbage('prompt_logprobs tells of other tokens than were sent')
    return token, logps[token], logps

  def read(reply) -> list[Scored]:
    listed = choices(reply)
    if not listed:
      return []
    values = of_type(listed[0].get('prompt_logprobs'), list, 'prompt_logprobs')
    _check_first(values, 'prompt_logprobs')
    if len(values) != size:
      raise Garbage(f'prompt_logprobs tells of {len(values)} tokens where '
                    f'{size} were sent')
    told = listed[0].get('prompt_token_ids')
    if told is not None and told != list(sent.tokens):
      raise Garbage('prompt_token_ids are not the tokens that were sent')
    return _scored([place(*pair) for pair in zip(
        sent.tokens[sent.start:], values[sent.start:], strict=True)], sent.top)
  return read
