"""The prompt of a conversation, up to where the assistant speaks."""

import dataclasses
from collections.abc import Sequence

from zppo_jax.chat import hub_chat
from zppo_jax.chat.conversation.media import with_media
from zppo_jax.chat.conversation.messages import Message
from zppo_jax.chat.conversation.templates import (
  Conversation,
  check_reasoning,
  form_of,
  rendered_by,
)
from zppo_jax.chat.conversation.tokens import ids_of
from zppo_jax.chat.hub_chat import HubCodec
from zppo_jax.chat.segments import Encoded
from zppo_jax.chat.wording import Chat


def encode(messages: Sequence[Message], chat: Chat,
           thinking: bool | None) -> Encoded:
  """The prompt of a conversation, up to where the assistant speaks.

  Args:
    messages: the messages.
    chat: the chat of the model.
    thinking: on, off, or None for the template's own default.

  Raises:
    ValueError: for pictures in a chat of text alone; if the template does not
      take these messages or their fields; without a template, for anything but
      one user message.
  """
  if not isinstance(chat.codec, HubCodec):
    text = ''.join(p for m in messages for p in m.shown if isinstance(p, str))
    if [m.role for m in messages] != ['user'] or messages[0].fields or not all(
        isinstance(p, str) for p in messages[0].shown):
      raise ValueError('messages: this model has no chat template; it takes '
                       'one user message of text')
    return chat.plain(text)
  talk = Conversation(
      messages=messages, chat=chat,
      switches=hub_chat.switches(chat.codec.tokenizer, thinking))
  check_reasoning(talk)
  form, around = form_of(talk)
  seen = with_media(rendered_by(talk, form, around), talk, form)
  encoded = ids_of(seen.rendered, chat.codec)
  return dataclasses.replace(encoded, media=seen.media(chat, encoded.tokens))
