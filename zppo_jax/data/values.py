"""Values of columns as texts and numbers; other values are refused by name.

A column may be a path: `reward_model.ground_truth` is that field of the struct
`reward_model`, and `choices.0` is the first value of a list. If the name of a
column has dots itself, that column comes first. A question may also be a chat,
as in verl's files: a list of messages {role, content}.
"""

import decimal
import math
import numbers
from collections.abc import Callable, Mapping as Dict, Sequence
from typing import Any, NamedTuple

import numpy as np

_SHOWN = 60  # characters of a value in an error
_SYSTEM, _USER = ('system', 'developer'), 'user'


class Single(float):
  """A number that its file holds in 32 or 16 bits, as its shortest decimal.

  A file holds 0.300000012 for 0.3. `at_most` compares it with the 0.3 of a
  config in 32 bits, so that the same numbers pass as from JSON lines.
  """


def single(value: float,
           kind: Callable[[float], Any] = np.float32) -> 'Single':
  """The value of a float32 or a float16 as a Single."""
  return Single(str(kind(value)))


def at_most(value: float, most: float) -> bool:
  """value <= most, in the precision in which the file holds the value."""
  if isinstance(value, Single):
    return bool(np.float32(value) <= np.float32(most))
  return value <= most


def shown(value: Any) -> str:
  """The type of a value and the start of its repr, for an error."""
  words = repr(value)
  end = '' if len(words) <= _SHOWN else '...'
  return f'{type(value).__name__} {words[:_SHOWN]}{end}'


def base(column: str, row: Dict[str, Any]) -> str:
  """The column in which a path starts."""
  return column if column in row else column.split('.')[0]


def at(row: Dict[str, Any], column: str) -> Any:
  """The value of a column or of a path into one; None behind a None.

  Raises:
    ValueError: for a step that leads nowhere; it lists the steps that exist.
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


def text(value: Any, what: str, empty: bool = True) -> str:
  """A text, or a number as its text.

  Args:
    value: of a row.
    what: the name of the field, for errors.
    empty: whether None becomes '' instead of an error.

  Raises:
    ValueError: for a value that is neither a text nor a finite number, for
      bytes that are no UTF-8, or for a text with half a surrogate pair.
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


def _number_text(value: Any, what: str) -> str:
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


def held(value: Any) -> int:
  """How many values a column holds in a row: those of a list, or one.

  Nothing is None, an empty text, empty bytes, or a struct of nothing else, as
  {'bytes': None, 'path': None} is.
  """
  if value is None or isinstance(value, str | bytes) and not value:
    return 0
  if isinstance(value, Dict):
    return int(any(map(held, value.values())))
  return sum(map(held, value)) if isinstance(value, list | tuple) else 1


def number(value: Any, what: str) -> float:
  """A finite number, which may be written as a text.

  Raises:
    ValueError: for anything else.
  """
  if isinstance(value, Single):
    return value
  words = text(value, what, empty=False)
  try:
    result = float(words)
  except ValueError:
    raise ValueError(f'{what} is {shown(value)}; it must be a number'
                     ) from None
  if not math.isfinite(result):
    raise ValueError(f'{what} is {value}; it must be finite')
  return result


def texts(value: Any, what: str) -> tuple[str, ...]:
  """The texts of None, a text, or a list, without those that are empty.

  Raises:
    ValueError: as `text`.
  """
  if value is None:
    return ()
  several = (value.tolist() if isinstance(value, np.ndarray) else value
             if isinstance(value, list | tuple) else [value])
  read = [text(v, f'{what}[{i}]' if several is value else what)
          for i, v in enumerate(several)]
  return tuple(words for words in read if words)


class QuestionContent(NamedTuple):
  """The question that a column holds.

  Attributes:
    text: the words, with <image> and <video> in the places of a chat's media.
    images, videos: the media of a chat in order; () if the column is a text.
  """
  text: str
  images: tuple[Any, ...] = ()
  videos: tuple[Any, ...] = ()


def question(value: Any, what: str) -> QuestionContent:
  """The question of a text, or of a chat with one message of the user.

  Raises:
    ValueError: for another form, or a chat of several turns.
  """
  if isinstance(value, np.ndarray):
    value = value.tolist()
  if isinstance(value, Dict) and 'content' in value:
    value = [value]
  if not isinstance(value, list | tuple) or not all(
      isinstance(v, Dict) for v in value) or not value:
    return QuestionContent(text(value, what))
  return _chat(value, what)


def conversation(value: Any, what: str) -> tuple[tuple[tuple[str, str], ...],
                                                 str]:
  """The earlier turns of a conversation, and the user's last message.

  Args:
    value: a list of messages {role, content}, or, as parquet holds it, a struct
      of two lists.
    what: the name of the column, for errors.

  Returns:
    The (role, content) of each message but the last, and the last one's text.

  Raises:
    ValueError: for another form, for media, or if the last message is not the
      user's.
  """
  messages = turns_of(value, what)
  for i, message in enumerate(messages):
    if not {'role', 'content'} <= message.keys():
      raise ValueError(f'{what}[{i}] has the fields '
                       f'{", ".join(map(str, message))}; a message has role '
                       'and content')
  turns = tuple((text(m['role'], f'{what}[{i}].role'),
                 text(m['content'], f'{what}[{i}].content', empty=False))
                for i, m in enumerate(messages))
  if not turns or turns[-1][0] != _USER:
    raise ValueError(
        f'{what} is a chat of {", ".join(role for role, _ in turns) or "none"}'
        '; its last message must be the user\'s')
  return turns[:-1], turns[-1][1]


def turns_of(value: Any, what: str) -> list[Dict[str, Any]]:
  """The messages of a list of structs or of a struct of lists.

  Raises:
    ValueError: for another form, or for lists of different lengths.
  """
  if isinstance(value, np.ndarray):
    value = value.tolist()
  if isinstance(value, Dict) and value and all(
      isinstance(v, list | tuple | np.ndarray) for v in value.values()):
    lengths = {name: len(v) for name, v in value.items()}
    if len(set(lengths.values())) > 1:
      raise ValueError(f'{what} has lists of different lengths: ' + ', '.join(
          f'{name} {n}' for name, n in lengths.items()))
    return [dict(zip(value, row, strict=True))
            for row in zip(*value.values(), strict=True)]
  if isinstance(value, Dict):
    return [value]
  if not isinstance(value, list | tuple) or not all(
      isinstance(v, Dict) for v in value):
    raise ValueError(f'{what} is {shown(value)}; allowed: a list of messages '
                     '{role, content}, or a struct of such lists')
  return list(value)


def _chat(messages: Sequence[Dict[str, Any]], what: str) -> QuestionContent:
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
  contents = [_content(m['content'], f'{what}[{i}].content')
              for i, m in enumerate(messages)]
  return QuestionContent(
      text='\n\n'.join(content.text for content in contents if content.text),
      images=tuple(image for content in contents for image in content.images),
      videos=tuple(video for content in contents for video in content.videos))


def _content(value: Any, what: str) -> QuestionContent:
  """The content of a message, which is a text or a list of parts."""
  if isinstance(value, np.ndarray):
    value = value.tolist()
  if not isinstance(value, list | tuple):
    return QuestionContent(text(value, what))
  words: list[str] = []
  images: list[Any] = []
  videos: list[Any] = []
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
      held = medium_of(part, kind.removesuffix('_url'))
      if held is not None:
        media.append(held)
    else:
      raise ValueError(f'{at_part} is {shown(part)}; allowed: a text, or a '
                       'part whose type is text, image, image_url, video or '
                       'video_url')
  return QuestionContent(''.join(words), tuple(images), tuple(videos))


def medium_of(part: Dict[str, Any], kind: str) -> Any:
  """The image or video of a part; None if a column holds it."""
  for field in (kind, f'{kind}_url', 'url', 'path', 'bytes', 'base64'):
    value = part.get(field)
    if isinstance(value, Dict) and 'url' in value:
      value = value['url']
    if value is not None and value != '':
      return value
  return None
