"""Readers of a server's replies.

Every reader takes any decoded JSON, and either returns what was agreed on or
raises Garbage. It checks types before it uses values; the numbers that it
returns are finite, and the texts hold no lone surrogates.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

_MOST_LOGP = 1e-3  # nats; a server may round the log-prob of 1 up to this


class Garbage(ValueError):
  """A reply that is not in the form that was agreed on."""


@dataclasses.dataclass(frozen=True)
class Choice:
  """A generated text.

  Attributes:
    text: the text; reasoning that came in a field of its own stands before it
      in <think> tags.
    complete: whether the model ended it; otherwise the token limit cut it.
  """
  text: str
  complete: bool


class Declined(NamedTuple):
  """A choice in which the model says that it will not answer."""
  why: str


def decode(raw: bytes) -> Any:
  """The value of a JSON text; Garbage for anything else."""
  try:
    return json.loads(raw)
  except (ValueError, RecursionError) as e:
    # The words of a UnicodeDecodeError repeat the bytes.
    why = str(e) if isinstance(e, json.JSONDecodeError) else type(e).__name__
    raise Garbage(f'no JSON: {why}') from None


def mended(text: str) -> str:
  """The text with U+FFFD for lone surrogates, which no UTF-8 can hold.

  A server that cuts an emoji at its token limit sends one.
  """
  if text.isascii():
    return text
  return text.encode('utf-16-le', 'surrogatepass').decode(
      'utf-16-le', 'replace')


def _of(value, kind, what: str):
  if not isinstance(value, kind) or isinstance(value, bool):
    raise Garbage(f'{what} is {type(value).__name__}')
  return value


def choices(reply) -> list[dict]:
  """The choices of any completion; Garbage if there are none of that form."""
  listed = _of(_of(reply, dict, 'the reply').get('choices'), list, 'choices')
  return [_of(c, dict, 'a choice') for c in listed]


def _ended(choice: dict) -> bool | None:
  """Choice.complete; None where the choice ended for another reason."""
  reason = choice.get('finish_reason')
  if reason is not None:
    _of(reason, str, 'finish_reason')
  return {'stop': True, 'length': False}.get(reason)


def _words(holder: dict, name: str, empty: bool = True) -> str:
  """A text field; '' for null where that may be."""
  value = holder.get(name)
  if value is None and empty:
    return ''
  return mended(_of(value, str, name))


def read_chat(reply) -> list[Choice | Declined]:
  """The texts of a chat completion without tool calls and filtered texts."""
  results: list[Choice | Declined] = []
  for choice in choices(reply):
    message = _of(choice.get('message'), dict, 'message')
    text, refusal = _words(message, 'content'), _words(message, 'refusal')
    thought = (_words(message, 'reasoning_content')
               or _words(message, 'reasoning'))
    if thought:
      text = f'<think>{thought}</think>{text}'
    complete = _ended(choice)
    if refusal:
      results.append(Declined(refusal))
    elif complete is not None:
      results.append(Choice(text=text, complete=complete))
  return results


def read_text(reply) -> list[Choice]:
  """The texts of a completion."""
  texts = [(_words(c, 'text', empty=False), _ended(c)) for c in choices(reply)]
  return [Choice(text=text, complete=complete) for text, complete in texts
          if complete is not None]


def read_models(reply) -> list[str]:
  """Names of the served models."""
  data = _of(_of(reply, dict, 'the reply').get('data'), list, 'data')
  return [_words(_of(m, dict, 'a model'), 'id', empty=False) for m in data]


def _logp(value) -> float:
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise Garbage(f'a log-prob is {type(value).__name__}')
  # A whole number may have more digits than a float can hold.
  if not -1e30 < value <= _MOST_LOGP or not math.isfinite(value):
    raise Garbage('a log-prob is not a finite number of at most 0')
  return min(0.0, float(value))


def read_echo(start: int, count: int | None = None) -> Callable[[Any], list]:
  """A reader of a completion that echoes its prompt.

  It returns the log-probs from token `start` on, without that of the one token
  that was generated.

  Args:
    start: the first token that is read; token 0 has no log-prob.
    count: the number of log-probs that there must be; None takes any number.
  """
  def read(reply) -> list:
    listed = choices(reply)
    if not listed:
      return []
    fields = _of(listed[0].get('logprobs'), dict, 'logprobs')
    values = _of(fields.get('token_logprobs'), list, 'logprobs.token_logprobs')
    logps = tuple(map(_logp, values[start:-1]))
    if count is not None and len(logps) != count:
      raise Garbage(f'logprobs.token_logprobs tells of {len(logps)} tokens '
                    f'where {count} were sent')
    return [logps]
  return read
