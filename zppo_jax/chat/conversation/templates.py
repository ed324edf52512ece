"""The text that a chat template makes of messages, and which words are its own.

A template is rendered with the messages themselves, because it may strip, trim,
split or measure them. One of two ways finds which words of that text are the
template's own:

- Around stand-ins: if a template only places what it is given, its text around
  stand-ins, with the messages put in, is the rendered text.
- By moved words (`rendering.own`): for a template that does more.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from zppo_jax.chat import rendering
from zppo_jax.chat.conversation.messages import READ, Message
from zppo_jax.chat.conversation.tokens import Rendered, is_own, reserved
from zppo_jax.chat.wording import Chat
from zppo_jax.records import Clip, Picture

# The placeholders that a template writes for a picture and a clip.
MEDIA = re.compile(
    r'<\|vision_start\|><\|(image|video)_pad\|><\|vision_end\|>')


class Form(NamedTuple):
  """The form in which a template gets messages.

  Attributes:
    nonce: the beginning of stand-ins and marks, which no message holds.
    lists: whether a message with media is a list of parts, of which the
      template writes the media itself; otherwise marks stand among the text.
  """
  nonce: str
  lists: bool

  def mark(self, message: int, part: int | str) -> str:
    return f'{self.nonce}{message}p{part}kzq'

  @property
  def marks(self) -> re.Pattern:
    return re.compile(rf'{self.nonce}(\d+)p(\w+?)kzq')

  def put(self, messages: Sequence[Message],
          word: Callable[[int, int | str, str], str]) -> list[dict]:
    """Messages as a template reads them; `word` gives each text."""
    dicts = []
    for i, m in enumerate(messages):
      shown = [(p, word(i, p, part) if isinstance(part, str)
                else self.mark(i, p)) for p, part in enumerate(m.shown)]
      content: Any = ''.join(text for _, text in shown)
      if self.lists and not all(isinstance(p, str) for p in m.shown):
        content = [_listed(m.shown[p], text) for p, text in shown]
      message = {'role': m.role, 'content': content}
      for name, text in m.fields:
        for read in READ if name == 'reasoning' else (name,):
          message[read] = word(i, name, text)
      dicts.append(message)
    return dicts


def _listed(part, text: str) -> dict:
  if isinstance(part, str):
    return {'type': 'text', 'text': text}
  return {'type': 'image' if isinstance(part, Picture) else 'video'}


def _expected(messages: Sequence[Message], lists: bool) -> list:
  """The parts that a template must show, in order.

  A part is (message, part) or, for a medium in a list, its kind.
  """
  kind = {Picture: 'image', Clip: 'video'}
  return [(i, p) if isinstance(part, str) or not lists else kind[type(part)]
          for i, m in enumerate(messages) for p, part in enumerate(m.shown)]


def _shown(text: str, form: Form) -> list:
  """The parts, as in `_expected`, of a text with stand-ins."""
  places = [(m.start(), (int(m[1]), int(m[2])))
            for m in form.marks.finditer(text) if m[2].isdigit()]
  if form.lists:
    places += [(m.start(), m[1]) for m in MEDIA.finditer(text)]
  return [part for _, part in sorted(places, key=lambda x: x[0])]


class Conversation(NamedTuple):
  """Messages and the chat whose template renders them.

  Attributes:
    messages: the messages.
    chat: the chat of a hub model.
    switches: further names for its template.
    begins: whether the text ends where the assistant speaks next.
  """
  messages: Sequence[Message]
  chat: Chat
  switches: dict
  begins: bool = True

  def render(self, dicts: Sequence[dict]) -> str:
    """The template's text of messages that `Form.put` made."""
    return rendering.text(self.chat.codec.tokenizer, dicts, self.chat.day,
                          add_generation_prompt=self.begins, **self.switches)

  def own(self, dicts: Sequence[dict], marking, text: str):
    """Which characters of that text are the template's (rendering.own)."""
    return rendering.own(
        self.chat.codec.tokenizer, dicts, self.chat.day, marking, text,
        add_generation_prompt=self.begins, **self.switches)


def _nonce(messages: Sequence[Message]) -> str:
  held = rendering.words([[m.shown, m.fields] for m in messages])
  number = 7
  while f'qzk{number}m' in held:
    number += 1
  return f'qzk{number}m'


def form_of(talk: Conversation) -> tuple[Form, str]:
  """The form that a template takes, and its text around stand-ins.

  Raises:
    ValueError: if the template takes no form, or does not show every message
      once; with media, also if they do not stand where they were put.
  """
  messages, nonce = talk.messages, _nonce(talk.messages)
  media = any(not isinstance(p, str) for m in messages for p in m.shown)
  why: Exception | None = None
  for lists in ((True, False) if media else (False,)):
    form = Form(nonce, lists)
    stand_ins = form.put(
        messages, lambda i, p, text, form=form: form.mark(i, p))
    try:
      text = talk.render(stand_ins)
    except Exception as e:  # a template may raise anything about a list
      if not lists:
        raise
      why = e
      continue
    shown, wanted = _shown(text, form), _expected(messages, lists)
    if shown == wanted or not media and sorted(shown) == wanted:
      return form, text
  lost = next((i for i, p in _expected(messages, False)
               if (i, p) not in shown), None)
  raise ValueError(
      'the chat template of this model does not show every message once'
      + (', in the order in which they came' if lost is None else
         f': message {lost} (role {messages[lost].role}) is left out')) from why


def _placed(form: Form, messages: Sequence[Message],
            around: str) -> Rendered:
  """A template's text around stand-ins, with the messages put in."""
  text, own, last = [], [], 0
  for mark in form.marks.finditer(around):
    i, p = int(mark[1]), mark[2]
    fields = dict(messages[i].fields)
    part = (messages[i].shown[int(p)] if p.isdigit() else fields[p])
    words = part if isinstance(part, str) else mark[0]
    text += [around[last:mark.start()], words]
    own += [np.ones(mark.start() - last, bool), np.zeros(len(words), bool)]
    last = mark.end()
  return Rendered(
      text=''.join([*text, around[last:]]),
      own=np.concatenate([*own, np.ones(len(around) - last, bool)]))


def _holds_none(talk: Conversation) -> bool:
  """Whether no message holds the text of a control token."""
  held = rendering.words([[m.shown, m.fields] for m in talk.messages])
  codec = talk.chat.codec
  return not any(codec.decode([i]) in held for i in codec.reserved_ids)


def rendered_by(talk: Conversation, form: Form, around: str) -> Rendered:
  """The template's text of the messages, and which characters are its own.

  If moved words cannot tell, a conversation without the text of any control
  token is still taken, as long as its control tokens are those around
  stand-ins.

  Raises:
    ValueError: if no way can tell.
  """
  messages, codec = talk.messages, talk.chat.codec
  as_they_are = form.put(messages, lambda i, p, text: text)
  text = talk.render(as_they_are)
  placed = _placed(form, messages, around)
  if placed.text == text:
    return placed
  stand_ins = form.put(messages, lambda i, p, text: form.mark(i, p))
  for marking in rendering.markings(as_they_are):
    # Stand-ins hold no control token, so every one of the text must be found as
    # the template's own.
    own = talk.own(stand_ins, marking, around)
    if own is None or not all(is_own(around, own, *span)
                              for _, *span in reserved(codec, around)):
      continue
    own = talk.own(as_they_are, marking, text)
    if own is not None:
      return Rendered(text=text, own=own)
  spans = reserved(codec, text)
  if _holds_none(talk) and [i for i, *_ in spans] == [
      i for i, *_ in reserved(codec, around)]:
    own = np.zeros(len(text), bool)
    for _, start, end in spans:
      own[start:end] = True
    return Rendered(text=text, own=own)
  raise ValueError('the chat template of this model changes its own words with '
                   'those of the messages, so that they cannot be told apart')


def check_reasoning(talk: Conversation) -> None:
  names = {name for m in talk.messages for name, _ in m.fields}
  template = talk.chat.codec.tokenizer.get_chat_template()
  if 'reasoning' in names and not any(name in template for name in READ):
    raise ValueError(
        'reasoning_content is given; the chat template of this model does not '
        'read it: leave it out, or write it into content')
