"""Readers of a server's replies.

Every reader takes any decoded JSON, and either returns what was agreed on or
raises Garbage. It checks types before it uses values; the numbers that it
returns are finite, and the texts hold no lone surrogates.
"""

import dataclasses
import json
import math
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


def of_type(value, kind, what: str):
  """The value; Garbage if it is of another type (true is no number)."""
  if not isinstance(value, kind) or isinstance(value, bool):
    raise Garbage(f'{what} is {type(value).__name__}')
  return value


def choices(reply) -> list[dict]:
  """The choices of any completion; Garbage if there are none of that form."""
  listed = of_type(of_type(reply, dict, 'the reply').get('choices'), list,
                   'choices')
  return [of_type(c, dict, 'a choice') for c in listed]


def _ended(choice: dict) -> bool | None:
  """Choice.complete; None where the choice ended for another reason."""
  reason = choice.get('finish_reason')
  if reason is not None:
    of_type(reason, str, 'finish_reason')
  return {'stop': True, 'length': False}.get(reason)


def _words(holder: dict, name: str, empty: bool = True) -> str:
  """A text field; '' for null where that may be."""
  value = holder.get(name)
  if value is None and empty:
    return ''
  return mended(of_type(value, str, name))


def read_chat(reply) -> list[Choice | Declined]:
  """The texts of a chat completion without tool calls and filtered texts."""
  results: list[Choice | Declined] = []
  for choice in choices(reply):
    message = of_type(choice.get('message'), dict, 'message')
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
  data = of_type(of_type(reply, dict, 'the reply').get('data'), list, 'data')
  return [_words(of_type(m, dict, 'a model'), 'id', empty=False) for m in data]


def log_prob(value) -> float:
  """A log-prob in nats, at most 0; Garbage for anything else."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise Garbage(f'a log-prob is {type(value).__name__}')
  # A whole number may have more digits than a float can hold.
  if not -1e30 < value <= _MOST_LOGP or not math.isfinite(value):
    raise Garbage('a log-prob is not a finite number of at most 0')
  return min(0.0, float(value))
