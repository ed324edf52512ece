"""Messages of a client as prompts with a user's own words around them."""

from collections.abc import Sequence

from zppo_jax.chat import conversation
from zppo_jax.chat.conversation import Message
from zppo_jax.chat.segments import Encoded
from zppo_jax.chat.wording import Chat
from zppo_jax.records import Clip, Picture


def around(chat: Chat) -> tuple[str, str]:
  """The words before and behind a question, without the chat template."""
  before, after = chat.wording.frame
  return (chat.wording.opening.removeprefix(before),
          chat.wording.closing.removesuffix(after))


def _asked(messages: Sequence[Message]
           ) -> tuple[str, tuple[Picture | Clip, ...]] | None:
  """(question, media) of one message of a user, whose media come first; None
  for any other conversation."""
  if len(messages) != 1 or messages[0].role != 'user' or messages[0].fields:
    return None
  parts = messages[0].shown
  media = tuple(p for p in parts if not isinstance(p, str))
  if any(not isinstance(p, str) for p in parts[len(media):]):
    return None
  return ''.join(p for p in parts if isinstance(p, str)), media


def encode(messages: Sequence[Message], chat: Chat,
           thinking: bool | None) -> Encoded:
  """The ids of a conversation as a run would ask it.

  One message of a user is the run's own prompt, token by token. In any other
  conversation each message of a user has the words around a question, and a
  conversation without a system message gets the run's.

  Args:
    messages: the messages.
    chat: a chat with words around a question; without words of its own a
      conversation is encoded as it is.
    thinking: on, off, or None for the chat's own.

  Raises:
    ValueError: as conversation.encode.
  """
  words, system = around(chat), chat.prompts.get('system', '')
  if getattr(chat.codec, 'tokenizer', None) is None or not (
      any(words) or system):
    return conversation.encode(messages, chat, thinking)
  one = _asked(messages)
  if one is not None and thinking in (None, chat.thinking):
    return chat.plain(*one)
  if system and messages[0].role != 'system':
    messages = [Message('system', (system,)), *messages]
  worded = [m if m.role != 'user' else m._replace(parts=tuple(
      p for p in (words[0], *m.parts, words[1]) if p)) for m in messages]
  return conversation.encode(
      worded, chat, chat.thinking if thinking is None else thinking)
