"""What a server said, read so that nothing in it can surprise us.

Every reader takes any decoded JSON, and either finds what was agreed on or
raises Garbage: types are checked before they are used, numbers are finite,
and text holds no lone surrogates.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

_MOST_LOGP = 1e-3  # of a probability of 1, in the server's rounding


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


class Declined(NamedTuple):
  """A choice in which the model says that it will not answer."""
  why: str


def decode(raw: bytes) -> Any:
  """JSON as Python's; Garbage for anything else."""
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
  found = _of(_of(reply, dict, 'the reply').get('choices'), list, 'choices')
  return [_of(c, dict, 'a choice') for c in found]


def _ended(choice: dict) -> bool | None:
  """True or False as Choice.complete; None for any other end."""
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
  """Texts of a chat completion; tool calls and filtered ones are left out."""
  out: list[Choice | Declined] = []
  for choice in choices(reply):
    message = _of(choice.get('message'), dict, 'message')
    text, refusal = _words(message, 'content'), _words(message, 'refusal')
    thought = (_words(message, 'reasoning_content')
               or _words(message, 'reasoning'))
    if thought:
      text = f'<think>{thought}</think>{text}'
    complete = _ended(choice)
    if refusal:
      out.append(Declined(refusal))
    elif complete is not None:
      out.append(Choice(text, complete))
  return out


def read_text(reply) -> list[Choice]:
  """Texts of a completion."""
  said = [(_words(c, 'text', empty=False), _ended(c)) for c in choices(reply)]
  return [Choice(text, complete) for text, complete in said
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
  """Reader of a completion that echoes its prompt: the log-probs from token
  `start` on, without that of the one token that was generated.

  Args:
    start: the first token that is read; token 0 has no log-prob.
    count: log-probs that there must be; None takes what comes.
  """
  def read(reply) -> list:
    found = choices(reply)
    if not found:
      return []
    told = _of(found[0].get('logprobs'), dict, 'logprobs')
    told = _of(told.get('token_logprobs'), list, 'logprobs.token_logprobs')
    numbers = tuple(map(_logp, told[start:-1]))
    if count is not None and len(numbers) != count:
      raise Garbage(f'logprobs.token_logprobs tells of {len(numbers)} tokens '
                    f'where {count} were sent')
    return [numbers]
  return read
