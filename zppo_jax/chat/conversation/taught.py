"""A conversation in which the words of the assistant are marked, because they
alone are trained on."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zppo_jax.chat import hub_chat
from zppo_jax.chat.conversation.asked import encode
from zppo_jax.chat.conversation.media import with_media
from zppo_jax.chat.conversation.messages import Message
from zppo_jax.chat.conversation.templates import (
  Conversation,
  Form,
  check_reasoning,
  form_of,
  rendered_by,
)
from zppo_jax.chat.conversation.tokens import Rendered, ids_of, is_own, reserved
from zppo_jax.chat.hub_chat import HubCodec
from zppo_jax.chat.segments import Encoded
from zppo_jax.chat.wording import Chat
from zppo_jax.records import PromptMedia


class Taught(NamedTuple):
  """A conversation as far as the last word of an assistant.

  Attributes:
    tokens: ids.
    taught: for each token, whether an assistant says it: the words of its turns
      and the end token behind them, which carry a loss.
    media: what the placeholders stand for; None for text alone.
  """
  tokens: tuple[int, ...]
  taught: tuple[bool, ...]
  media: PromptMedia | None = None


def _spoken(codec: HubCodec) -> re.Pattern | None:
  """The control tokens that an assistant may write as words, e.g. <think>: the
  tokenizer adds them, does not call them special, and they may be drawn."""
  added = codec.tokenizer.added_tokens_decoder
  texts = [token.content for i, token in added.items()
           if not token.special and i in codec.sampled_ids
           and i not in codec.end_ids and token.content.strip()]
  return re.compile('|'.join(map(re.escape, sorted(
      texts, key=len, reverse=True)))) if texts else None


def _encode_spoken(words: Rendered, codec: HubCodec) -> tuple[int, ...]:
  """The ids of an assistant's words; special tokens in them stay letters."""
  own, pattern = words.own.copy(), _spoken(codec)
  for token in pattern.finditer(words.text) if pattern else ():
    own[slice(*token.span())] = True
  return ids_of(Rendered(words.text, own), codec).tokens


def answer(text: str, chat: Chat) -> tuple[int, ...]:
  """The ids of an answer behind a prompt, with the end token.

  Raises:
    ValueError: for an empty answer, or words that the vocabulary lacks.
  """
  if not text.strip():
    raise ValueError('the answer is empty')
  codec = chat.codec
  if isinstance(codec, HubCodec):
    ids = _encode_spoken(Rendered(text, np.zeros(len(text), bool)), codec)
    return (*ids, codec.end_id)
  ids, lost = codec.encode_content(text)
  if lost:
    raise ValueError(f'the vocabulary has no words for {lost} piece(s) of the '
                     f'answer {text[:60]!r}')
  return (*ids, codec.end_id)


def behind(prompt: Encoded, text: str, chat: Chat) -> Taught:
  """A prompt and the answer behind it; ValueError as `answer`."""
  ids = answer(text, chat)
  return Taught(
      tokens=(*prompt.tokens, *ids), media=prompt.media,
      taught=(False,) * len(prompt.tokens) + (True,) * len(ids))


def _begun(talk: Conversation, form: Form, rendered: Rendered,
           turn: int) -> int:
  """The place at which an assistant begins to speak.

  It is the end of the text that asks for the turn. Where a template shows other
  words there once the turn was spoken, it is where the two texts part.

  Raises:
    ValueError: if they part before the turn.
  """
  earlier = talk.messages[:turn]
  asked = talk._replace(messages=earlier, begins=True).render(
      form.put(earlier, lambda i, p, text: text))
  text, own = rendered
  same = next((i for i, (a, b) in enumerate(zip(asked, text, strict=False))
               if a != b), min(len(asked), len(text)))
  codec, rest = talk.chat.codec, asked[same:]
  if any(codec.decode([i]) in rest for i in codec.end_ids):
    raise ValueError(
        f'the chat template of this model shows the messages before message '
        f'{turn} in another way once it was spoken, so that its beginning '
        'cannot be told')
  if rest:  # a message may begin like the words that are missing
    while same and not own[same - 1] and not own[min(same, len(own) - 1)]:
      same -= 1
  return same


def _check_ends(talk: Conversation, form: Form, around: str) -> None:
  """ValueError unless the template ends every turn of an assistant by an end
  token."""
  codec = talk.chat.codec
  ends = [start for i, start, _ in reserved(codec, around)
          if i in codec.end_ids]
  marks = [(m.start(), int(m[1])) for m in form.marks.finditer(around)]
  for turn, message in enumerate(talk.messages):
    if message.role != 'assistant':
      continue
    last = max((at for at, i in marks if i == turn), default=0)
    following = min((at for at, i in marks if i != turn and at > last),
                    default=len(around))
    if not any(last < at < following for at in ends):
      raise ValueError(f'the chat template of this model writes no end token '
                       f'behind message {turn} (role assistant)')


def _turns(talk: Conversation, form: Form,
           rendered: Rendered) -> list[tuple[int, int]]:
  """(start, end) of each assistant's turn, its end token included."""
  text, own = rendered
  ends = [(start, end) for i, start, end in reserved(talk.chat.codec, text)
          if i in talk.chat.codec.end_ids and is_own(text, own, start, end)]
  spans: list[tuple[int, int]] = []
  for turn, message in enumerate(talk.messages):
    if message.role != 'assistant':
      continue
    start = _begun(talk, form, rendered, turn)
    end = next((end for at, end in ends if at >= start), None)
    if end is None or spans and start < spans[-1][1]:
      raise ValueError(f'message {turn} (role assistant) cannot be found in '
                       'the text of the chat template')
    spans.append((start, end))
  return spans


def teach(messages: Sequence[Message], chat: Chat,
          thinking: bool | None) -> Taught:
  """A conversation with all turns of the assistant marked.

  A turn is encoded apart from what precedes it, as in sampling, where the model
  gets the text before it and draws the turn.

  Args:
    messages, chat, thinking: as of `encode`, up to an assistant's message.
      Without a template there are one message of the user and its answer.

  Raises:
    ValueError: as `encode`; also if the template does not tell where a turn
      begins or ends.
  """
  if not isinstance(chat.codec, HubCodec):
    if len(messages) != 2 or messages[1].fields:
      raise ValueError('messages: this model has no chat template; it takes '
                       'one message of the user and one of the assistant')
    return behind(encode(messages[:1], chat, thinking),
                  ''.join(messages[1].shown), chat)
  talk = Conversation(
      messages=messages, chat=chat, begins=False,
      switches=hub_chat.switches(chat.codec.tokenizer, thinking))
  check_reasoning(talk)
  form, around = form_of(talk)
  _check_ends(talk, form, around)
  rendered = rendered_by(talk, form, around)
  spans = _turns(talk, form, rendered)
  seen = with_media(rendered, talk, form)
  tokens: list[int] = []
  taught: list[bool] = []
  last = 0
  for span in spans:
    start, end = map(seen.moved, span)
    asked, said = (Rendered(seen.rendered.text[a:b], seen.rendered.own[a:b])
                   for a, b in ((last, start), (start, end)))
    for words, spoken in ((ids_of(asked, chat.codec).tokens, False),
                          (_encode_spoken(said, chat.codec), True)):
      tokens += words
      taught += [spoken] * len(words)
    last = end
  return Taught(tuple(tokens), tuple(taught), seen.media(chat, tokens))
