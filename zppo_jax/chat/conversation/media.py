"""A template's text with the placeholders of its pictures and clips."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zppo_jax.chat.conversation.templates import MEDIA, Conversation, Form
from zppo_jax.chat.conversation.tokens import Rendered
from zppo_jax.chat.wording import Chat
from zppo_jax.records import ProcessedMedia


class _Seen(NamedTuple):
  """A text whose media have their placeholders.

  Attributes:
    rendered: the text with a placeholder per patch.
    processed: the media in their order.
    spans: (start, end) of each medium's mark before, and the characters that
      took its place.
  """
  rendered: Rendered
  processed: Sequence[ProcessedMedia]
  spans: Sequence[tuple[int, int, int]]

  def moved(self, at: int) -> int:
    """The place of a character that stood at `at`, outside the marks."""
    return at + sum(size - (end - start) for start, end, size in self.spans
                    if end <= at)

  def media(self, chat: Chat, tokens: Sequence[int]):
    """What the placeholders among the tokens stand for; None without any."""
    if not self.processed:
      return None
    return chat.vision.media(ProcessedMedia(
        text='', patches_IC=np.concatenate(
            [m.patches_IC for m in self.processed]),
        frames=tuple(frame for m in self.processed for frame in m.frames)),
                             tokens)


def with_media(rendered: Rendered, talk: Conversation,
                form: Form) -> _Seen:
  """The text with the placeholders of its media."""
  shown = [p for m in talk.messages for p in m.shown
           if not isinstance(p, str)]
  if not shown:
    return _Seen(rendered, [], [])
  if talk.chat.vision is None:
    raise ValueError('messages: this model takes no images')
  pattern = MEDIA if form.lists else form.marks
  spans = [m.span() for m in pattern.finditer(rendered.text)
           if not form.lists or rendered.own[slice(*m.span())].all()]
  if len(spans) != len(shown):
    raise ValueError(f'the chat template of this model shows {len(spans)} '
                     f'images or videos; the messages hold {len(shown)}')
  processed = [talk.chat.vision.see((part,)) for part in shown]
  text, own, last = [], [], 0
  for (start, end), media in zip(spans, processed, strict=True):
    text += [rendered.text[last:start], media.text]
    own += [rendered.own[last:start], np.ones(len(media.text), bool)]
    last = end
  return _Seen(
      Rendered(text=''.join([*text, rendered.text[last:]]),
                own=np.concatenate([*own, rendered.own[last:]])),
      processed, [(*span, len(media.text)) for span, media in zip(
          spans, processed, strict=True)])
