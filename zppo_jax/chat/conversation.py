"""The messages of a chat request as token ids, none of them forged.

A hub model's template is rendered around stand-ins for what somebody wrote,
and cut there: what a user writes never becomes a control token. The embedded
world takes one user message, its question.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zppo_jax.chat import segments
from zppo_jax.chat.hub_chat import HubCodec, render
from zppo_jax.chat.segments import Encoded, content, template
from zppo_jax.chat.wording import Chat
from zppo_jax.records import Picture, Seen

ROLES = ('system', 'user', 'assistant')
_NOTHING = re.compile(r'(?!)')  # candidates may stand in a user's words


class Message(NamedTuple):
  """Who said what; pictures among the words, in their order."""
  role: str
  parts: tuple[str | Picture, ...]


def _stand_in(message: int, part: int) -> str:
  return f'qzk7m{message}p{part}kzq'


def _pieces(messages: Sequence[Message], codec: HubCodec,
            thinking: bool | None):
  """Template pieces, and between them (message, part) of stand-ins."""
  said = [{'role': m.role, 'content': ''.join(
      _stand_in(i, p) for p in range(len(m.parts)))}
      for i, m in enumerate(messages)]
  text = render(codec.tokenizer, said, thinking, add_generation_prompt=True)
  cut = re.split(r'qzk7m(\d+)p(\d+)kzq', text)
  places = [(int(i), int(p)) for i, p in zip(cut[1::3], cut[2::3],
                                             strict=True)]
  wanted = [(i, p) for i, m in enumerate(messages)
            for p in range(len(m.parts))]
  if places != wanted:
    raise ValueError('the chat template of this model does not show every '
                     'message once, in the order in which they came')
  return cut[0::3], places


def encode(messages: Sequence[Message], chat: Chat,
           thinking: bool | None) -> Encoded:
  """The prompt of a conversation, up to where the assistant speaks.

  Raises:
    ValueError: for pictures in a chat of text alone; if the template does
      not take these messages; for anything but one user message without a
      template.
  """
  if not isinstance(chat.codec, HubCodec):
    text = ''.join(p for m in messages for p in m.parts if isinstance(p, str))
    if [m.role for m in messages] != ['user'] or not all(
        isinstance(p, str) for p in messages[0].parts):
      raise ValueError('messages: this model has no chat template; it takes '
                       'one user message of text')
    return chat.plain(text)
  pieces, places = _pieces(messages, chat.codec, thinking)
  seen: list[Seen] = []
  parts = [template(pieces[0])]
  for (i, p), after in zip(places, pieces[1:], strict=True):
    part = messages[i].parts[p]
    if isinstance(part, str):
      parts.append(content(part))
    elif chat.vision is None:
      raise ValueError('messages: this model takes no images')
    else:
      seen.append(chat.vision.see((part,)))
      parts.append(template(seen[-1].text))
    parts.append(template(after))
  encoded = segments.encode(parts, chat.codec, _NOTHING)
  if not seen:
    return encoded
  whole = Seen('', np.concatenate([s.patches_IC for s in seen]),
               tuple(f for s in seen for f in s.frames))
  return dataclasses.replace(
      encoded, media=chat.vision.media(whole, encoded.tokens))
