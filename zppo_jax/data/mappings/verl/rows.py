"""The question and the gold answer of a row in verl's form.

  data_source   picks the scorer       prompt        a list of {role, content}
  reward_model  {style, ground_truth}  extra_info    {index, and often question}
"""

import json
from collections.abc import Mapping as Dict
from typing import Any

import numpy as np

from zppo_jax.data import values
from zppo_jax.data.mappings import directives
from zppo_jax.data.mappings.mapping import Mapped, Row, asked

SEVERAL = 'a conversation of several turns'
NO_QUESTION = 'no question'
NO_GOLD = 'no gold'
_MEDIA = ('image', 'image_url', 'video', 'video_url')


def field(row: Row, column: str, name: str) -> Any:
  """A field of a struct; None if the column or the field is not there."""
  value = row.get(column)
  return value.get(name) if isinstance(value, Dict) else None


def _spelled(content: Any) -> str:
  """The content of a message, whose media stand in a column of their own.

  Raises:
    ValueError: for content that is neither a text nor a list of parts.
  """
  if isinstance(content, np.ndarray):
    content = content.tolist()
  if not isinstance(content, list | tuple):
    return values.text(content, 'the content of prompt')
  return ''.join(
      values.text(part.get('text'), 'the content of prompt')
      if isinstance(part, Dict) and part.get('type') == 'text'
      else f'<{part["type"].removesuffix("_url")}>'
      if isinstance(part, Dict) and part.get('type') in _MEDIA
      else values.text(part, 'the content of prompt') for part in content)


def users(prompt: Any) -> list[str]:
  """The user's messages that say something, in order.

  Args:
    prompt: a list of messages, or a struct of lists; None has none.
  """
  if prompt is None:
    return []
  texts = [_spelled(message.get('content'))
           for message in values.turns_of(prompt, 'prompt')
           if message.get('role') == 'user']
  return [text for text in texts if text.strip()]


def question(row: Row, first: bool = False) -> str:
  """`extra_info.question`, or else the user's only message; '' without one.

  Args:
    row: of the form.
    first: whether the first message counts where there are several.
  """
  own = field(row, 'extra_info', 'question')
  if isinstance(own, str) and own.strip():
    return own
  several = users(row.get('prompt'))
  return several[0] if len(several) == 1 or first and several else ''


def skipped(row: Row) -> str:
  """The reason why a row has no question or no gold answer; '' if it has."""
  if not question(row):
    return SEVERAL if len(users(row.get('prompt'))) > 1 else NO_QUESTION
  return '' if gold(row) else NO_GOLD


def gold(row: Row) -> str:
  """`reward_model.ground_truth`; a list of right answers becomes JSON.

  Raises:
    ValueError: for another struct.
  """
  value = field(row, 'reward_model', 'ground_truth')
  if isinstance(value, Dict) and set(value) == {'target'}:  # Search-R1
    value = value['target']
  if isinstance(value, np.ndarray):
    value = value.tolist()
  if isinstance(value, list | tuple):
    return json.dumps([values.text(one, 'ground_truth') for one in value],
                      ensure_ascii=False) if len(value) else ''
  return values.text(value, 'reward_model.ground_truth').strip()


def read(row: Row, kind: str, skip: str = '', **fields: Any) -> Mapped:
  """A row whose directives are cut.

  Args:
    row: of the form.
    kind: how answers are compared.
    skip: a reason why the row cannot be asked.
    **fields: other fields of Mapped.
  """
  skip = skip or skipped(row)
  if skip:
    return Mapped('', '', kind, skip=skip, **fields)
  return asked(question(row), gold(row), kind, cut=directives.without,
               **fields)
