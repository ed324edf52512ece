"""What columns hold, as texts and numbers; all else is refused by name.

A column may be a path: `reward_model.ground_truth` is that field of the
struct `reward_model`, `choices.0` the first of a list. A column whose own
name has the dots comes first. A question may also be a chat, as in verl's
files: a list of messages {role, content}.
"""

import decimal
import math
import numbers
from collections.abc import Mapping as Dict, Sequence
from typing import Any, NamedTuple

import numpy as np

_SHOWN = 60  # characters of a value in an error
_SYSTEM, _USER = ('system', 'developer'), 'user'


class Single(float):
  """A number that its file holds in 32 bits or 16, as its shortest decimal.

  0.3 is stored as 0.300000012; comparing it with 0.3 of a config is done in
  32 bits (`at_most`), so that the same numbers pass as from JSON lines.
  """


def single(value: float, kind=np.float32) -> 'Single':
  """A float32's or float16's value as a Single."""
  return Single(str(kind(value)))


def at_most(value: float, most: float) -> bool:
  """value <= most, in the precision that the value was stored in."""
  if isinstance(value, Single):
    return bool(np.float32(value) <= np.float32(most))
  return value <= most


def shown(value) -> str:
  """A value in an error: its type and how it begins."""
  said = repr(value)
  end = '' if len(said) <= _SHOWN else '...'
  return f'{type(value).__name__} {said[:_SHOWN]}{end}'


def base(column: str, row: Dict[str, Any]) -> str:
  """The column that a path starts in."""
  return column if column in row else column.split('.')[0]


def at(row: Dict[str, Any], column: str):
  """The value of a column or of a path into one; through None it is None.

  Raises:
    ValueError: for a step that leads nowhere, with what is there.
  """
  if column in row:
    return row[column]
  first, *steps = column.split('.')
  if first not in row:
    raise ValueError(f'no column {first!r}; columns there: {", ".join(row)}')
  value = row[first]
  for i, step in enumerate(steps):
    here = '.'.join((first, *steps[:i]))
    if value is None:
      return None
    if isinstance(value, Dict):
      if step not in value:
        raise ValueError(f'{column!r}: {here!r} has no field {step!r}; fields '
                         f'there: {", ".join(map(str, value))}')
      value = value[step]
    elif isinstance(value, list | tuple):
      if not step.isdecimal() or int(step) >= len(value):
        raise ValueError(f'{column!r}: {here!r} is a list of {len(value)}; '
                         f'{step!r} is no number below that')
      value = value[int(step)]
    else:
      raise ValueError(f'{column!r}: {here!r} is {shown(value)}, which has no '
                       f'field {step!r}')
  return value


def text(value, what: str, empty: bool = True) -> str:
  """A text, or a number as its text.

  Args:
    value: of a row.
    what: the field, for errors.
    empty: whether None is '' instead of refused.

  Raises:
    ValueError: for what is neither text nor a finite number, bytes that are
      no UTF-8, or a text with half a surrogate pair.
  """
  if value is None and empty:
    return ''
  if isinstance(value, bytes | bytearray | memoryview):
    try:
      value = bytes(value).decode()
    except UnicodeDecodeError as e:
      raise ValueError(f'{what} is bytes that are no UTF-8: {e}') from None
  if isinstance(value, str):
    try:
      value.encode()
    except UnicodeEncodeError as e:
      raise ValueError(
          f'{what} holds half a surrogate pair, '
          f'{value[e.start]!a} at character {e.start}, which is no text'
          ) from None
    return value
  return _number_text(value, what)


def _number_text(value, what: str) -> str:
  if isinstance(value, np.generic):
    value = value.item()
  number = isinstance(value, numbers.Real | decimal.Decimal)
  if not number or isinstance(value, bool):
    hint = ('; name a part of it by a path, as in reward_model.ground_truth '
            'or answers.0' if isinstance(value, list | tuple | Dict) else '')
    raise ValueError(f'{what} is {shown(value)}; allowed: a text or a number'
                     f'{hint}')
  if not math.isfinite(value):
    raise ValueError(f'{what} is {value}; it must be finite')
  return float.__repr__(value) if isinstance(value, float) else str(value)


def number(value, what: str) -> float:
  """A finite number, also where it is written as a text.

  Raises:
    ValueError: for anything else.
  """
  if isinstance(value, Single):
    return value
  said = text(value, what, empty=False)
  try:
    found = float(said)
  except ValueError:
    raise ValueError(f'{what} is {shown(value)}; it must be a number'
                     ) from None
  if not math.isfinite(found):
    raise ValueError(f'{what} is {value}; it must be finite')
  return found


def texts(value, what: str) -> tuple[str, ...]:
  """None, a text, or a list of texts, of which None and '' are left out.

  Raises:
    ValueError: as `text`.
  """
  if value is None:
    return ()
  several = (value.tolist() if isinstance(value, np.ndarray) else value
             if isinstance(value, list | tuple) else [value])
  found = [text(v, f'{what}[{i}]' if several is value else what)
           for i, v in enumerate(several)]
  return tuple(f for f in found if f)


class CallStats(NamedTuple):
  """A question out of a column.

  Attributes:
    text: its words, with <image> and <video> where a chat shows something.
    images, videos: what a chat's parts hold, in order; () elsewhere.
  """
  text: str
  images: tuple = ()
  videos: tuple = ()


def question(value, what: str) -> CallStats:
  """A text, or a chat of one user's message, a system's before it.

  Raises:
    ValueError: for another form, or a chat of several turns.
  """
  if isinstance(value, np.ndarray):
    value = value.tolist()
  if isinstance(value, Dict) and 'content' in value:
    value = [value]
  if not isinstance(value, list | tuple) or not all(
      isinstance(v, Dict) for v in value) or not value:
    return CallStats(text(value, what))
  return _chat(value, what)


def _chat(messages: Sequence[Dict[str, Any]], what: str) -> CallStats:
  for i, message in enumerate(messages):
    for field in ('role', 'content'):
      if field not in message:
        raise ValueError(f'{what}[{i}] has the fields '
                         f'{", ".join(map(str, message))}; a chat\'s message '
                         'has role and content')
    extra = [k for k, v in message.items()
             if k not in ('role', 'content', 'name') and v]
    if extra:
      raise ValueError(f'{what}[{i}] has {", ".join(map(repr, extra))}, which '
                       'cannot be asked; allowed: role, content')
  roles = [text(m['role'], f'{what}[{i}].role')
           for i, m in enumerate(messages)]
  plain = [r for r in roles if r not in _SYSTEM]
  if plain != [_USER] or roles[-1] != _USER:
    raise ValueError(
        f'{what} is a chat of {", ".join(roles)}; what can be asked is one '
        'message of user, with messages of system before it. A path such as '
        'messages.0.content takes a single message')
  made = [_content(m['content'], f'{what}[{i}].content')
          for i, m in enumerate(messages)]
  return CallStats('\n\n'.join(a.text for a in made if a.text),
               sum((a.images for a in made), ()),
               sum((a.videos for a in made), ()))


def _content(value, what: str) -> CallStats:
  """A message's content: a text, or a list of parts."""
  if isinstance(value, np.ndarray):
    value = value.tolist()
  if not isinstance(value, list | tuple):
    return CallStats(text(value, what))
  words, images, videos = [], [], []
  for i, part in enumerate(value):
    at_part = f'{what}[{i}]'
    if isinstance(part, str):
      words.append(text(part, at_part))
      continue
    kind = part.get('type') if isinstance(part, Dict) else None
    if kind == 'text':
      words.append(text(part.get('text'), f'{at_part}.text'))
    elif kind in ('image', 'image_url', 'video', 'video_url'):
      media, place = ((images, '<image>') if kind.startswith('image')
                      else (videos, '<video>'))
      words.append(place)
      held = _held(part, kind.removesuffix('_url'))
      if held is not None:
        media.append(held)
    else:
      raise ValueError(f'{at_part} is {shown(part)}; allowed: a text, or a '
                       'part whose type is text, image, image_url, video or '
                       'video_url')
  return CallStats(''.join(words), tuple(images), tuple(videos))


def _held(part: Dict[str, Any], kind: str):
  """What a part shows; None for a mere place of a column's image."""
  for field in (kind, f'{kind}_url', 'url', 'path', 'bytes', 'base64'):
    value = part.get(field)
    if isinstance(value, Dict) and 'url' in value:
      value = value['url']
    if value is not None and value != '':
      return value
  return None
