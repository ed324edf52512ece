"""The messages of a chat request as token ids, none of them forged.

A hub model's template is rendered with what the messages hold, because it may
strip, trim, split or measure it; the ids are those of the whole text. Which
words of that text are the template's own is found in one of two ways:

- around stand-ins: where a template only places what it is given, its text
  around stand-ins with the messages put in is the rendered one;
- by moved words (`rendering.own`): where it does more.

A control token counts only where all of it is the template's own; whatever a
message holds that looks like one is letters.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from zppo_jax.chat import hub_chat, rendering
from zppo_jax.chat.hub_chat import HubCodec
from zppo_jax.chat.segments import Encoded
from zppo_jax.chat.wording import Chat
from zppo_jax.records import Clip, Picture, ProcessedMedia

ROLES = ('system', 'user', 'assistant')
# Names under which messages bring the reasoning of an assistant's turn; a
# template reads one of them, so it gets both that are in use there.
REASONING = ('reasoning_content', 'reasoning', 'thinking')
_READ = ('reasoning_content', 'thinking')
# How a template writes a picture and a clip.
_MEDIA = re.compile(
    r'<\|vision_start\|><\|(image|video)_pad\|><\|vision_end\|>')


class Field(NamedTuple):
  """What a message holds besides its content.

  Attributes:
    name: 'reasoning' of an assistant's turn; else as the template calls it,
      e.g. 'name'.
    text: of it.
  """
  name: str
  text: str


class Message(NamedTuple):
  """Who said what.

  Attributes:
    role: one that the template knows, e.g. those of ROLES.
    parts: texts, and pictures or clips among them, in their order; and
      fields, wherever they stand.
  """
  role: str
  parts: tuple[str | Picture | Clip | Field, ...]

  @property
  def shown(self) -> tuple[str | Picture | Clip, ...]:
    """The content."""
    return tuple(p for p in self.parts if not isinstance(p, Field))

  @property
  def told(self) -> tuple[Field, ...]:
    return tuple(p for p in self.parts if isinstance(p, Field))


class _Said(NamedTuple):
  """A template's text.

  Attributes:
    text: with a mark for every picture and clip.
    own: bool for each character: whether the template wrote it.
  """
  text: str
  own: np.ndarray


class _Form(NamedTuple):
  """How messages are put to a template.

  Attributes:
    nonce: begins stand-ins and marks; no message holds it.
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
    out = []
    for i, m in enumerate(messages):
      shown = [(p, word(i, p, part) if isinstance(part, str)
                else self.mark(i, p)) for p, part in enumerate(m.shown)]
      content: Any = ''.join(text for _, text in shown)
      if self.lists and not all(isinstance(p, str) for p in m.shown):
        content = [_listed(m.shown[p], text) for p, text in shown]
      made = {'role': m.role, 'content': content}
      for name, text in m.told:
        for read in _READ if name == 'reasoning' else (name,):
          made[read] = word(i, name, text)
      out.append(made)
    return out


def _listed(part, text: str) -> dict:
  if isinstance(part, str):
    return {'type': 'text', 'text': text}
  return {'type': 'image' if isinstance(part, Picture) else 'video'}


def _expected(messages: Sequence[Message], lists: bool) -> list:
  """What a template must show: (message, part), or the kind of a medium."""
  kind = {Picture: 'image', Clip: 'video'}
  return [(i, p) if isinstance(part, str) or not lists else kind[type(part)]
          for i, m in enumerate(messages) for p, part in enumerate(m.shown)]


def _shown(text: str, form: _Form) -> list:
  """The same of a text that was rendered with stand-ins."""
  found = [(m.start(), (int(m[1]), int(m[2])))
           for m in form.marks.finditer(text) if m[2].isdigit()]
  if form.lists:
    found += [(m.start(), m[1]) for m in _MEDIA.finditer(text)]
  return [what for _, what in sorted(found, key=lambda x: x[0])]


class _Asked(NamedTuple):
  """A conversation and whom it is put to.

  Attributes:
    messages: of it.
    chat: of a hub model.
    switches: what its template is told besides.
  """
  messages: Sequence[Message]
  chat: Chat
  switches: dict

  def render(self, said: Sequence[dict]) -> str:
    return rendering.text(self.chat.codec.tokenizer, said, self.chat.day,
                          add_generation_prompt=True, **self.switches)

  def own(self, said: Sequence[dict], marking, text: str):
    return rendering.own(
        self.chat.codec.tokenizer, said, self.chat.day, marking, text,
        add_generation_prompt=True, **self.switches)


def _nonce(messages: Sequence[Message]) -> str:
  held = rendering.words([[m.shown, m.told] for m in messages])
  number = 7
  while f'qzk{number}m' in held:
    number += 1
  return f'qzk{number}m'


def _form(asked: _Asked) -> tuple[_Form, str]:
  """The form that a template takes, and its text around stand-ins.

  Raises:
    ValueError: if it takes none, or does not show every message once; with
      media also unless they stand where they were put.
  """
  messages, nonce = asked.messages, _nonce(asked.messages)
  media = any(not isinstance(p, str) for m in messages for p in m.shown)
  why: Exception | None = None
  for lists in ((True, False) if media else (False,)):
    form = _Form(nonce, lists)
    stand_ins = form.put(
        messages, lambda i, p, text, form=form: form.mark(i, p))
    try:
      text = asked.render(stand_ins)
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


def _placed(form: _Form, messages: Sequence[Message],
            around: str) -> _Said:
  """A template's text around stand-ins, with the messages put in."""
  text, own, last = [], [], 0
  for found in form.marks.finditer(around):
    i, p = int(found[1]), found[2]
    told = dict(messages[i].told)
    part = (messages[i].shown[int(p)] if p.isdigit() else told[p])
    words = part if isinstance(part, str) else found[0]
    text += [around[last:found.start()], words]
    own += [np.ones(found.start() - last, bool), np.zeros(len(words), bool)]
    last = found.end()
  return _Said(''.join([*text, around[last:]]),
               np.concatenate([*own, np.ones(len(around) - last, bool)]))


def _holds_none(asked: _Asked) -> bool:
  """Whether no message holds the text of a control token."""
  held = rendering.words([[m.shown, m.told] for m in asked.messages])
  codec = asked.chat.codec
  return not any(codec.decode([i]) in held for i in codec.reserved_ids)


def _said(asked: _Asked, form: _Form, around: str) -> _Said:
  """What the template makes of the messages, and which of it is its own.

  Where moved words do not tell, a conversation without the text of any
  control token is still taken, if the control tokens around it are those
  around stand-ins.

  Raises:
    ValueError: if that cannot be told.
  """
  messages, codec = asked.messages, asked.chat.codec
  as_they_are = form.put(messages, lambda i, p, text: text)
  text = asked.render(as_they_are)
  placed = _placed(form, messages, around)
  if placed.text == text:
    return placed
  stand_ins = form.put(messages, lambda i, p, text: form.mark(i, p))
  for marking in rendering.markings(as_they_are):
    # Stand-ins hold no control token: all there are must be found as its own.
    own = asked.own(stand_ins, marking, around)
    if own is None or not all(_is_own(around, own, *span)
                              for _, *span in _reserved(codec, around)):
      continue
    own = asked.own(as_they_are, marking, text)
    if own is not None:
      return _Said(text, own)
  spans = _reserved(codec, text)
  if _holds_none(asked) and [i for i, *_ in spans] == [
      i for i, *_ in _reserved(codec, around)]:
    own = np.zeros(len(text), bool)
    for _, start, end in spans:
      own[start:end] = True
    return _Said(text, own)
  raise ValueError('the chat template of this model changes its own words with '
                   'those of the messages, so that they cannot be told apart')


def _tokens(codec: HubCodec, text: str) -> list[tuple[int, int, int]]:
  """(id, start, end) of the tokens of a text; control tokens are parsed."""
  found = codec.tokenizer(text, add_special_tokens=False,
                          return_offsets_mapping=True)
  return [(i, *span) for i, span in zip(
      found['input_ids'], found['offset_mapping'], strict=True)]


def _reserved(codec: HubCodec, text: str) -> list[tuple[int, int, int]]:
  """Those of the control tokens."""
  return [t for t in _tokens(codec, text) if t[0] in codec.reserved_ids]


def _is_own(text: str, own: np.ndarray, start: int, end: int) -> bool:
  """Whether the template wrote a token; space at its ends, which a token may
  take along, does not count."""
  word = text[start:end]
  if word.strip():
    start += len(word) - len(word.lstrip())
    end -= len(word) - len(word.rstrip())
  return bool(own[start:end].all())


def _runs(own: np.ndarray) -> list[tuple[int, int]]:
  """(start, end) of what the template wrote in one piece."""
  edges = np.flatnonzero(np.diff(np.concatenate([[False], own, [False]]).astype(
      np.int8)))
  return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _encode(said: _Said, codec: HubCodec) -> Encoded:
  """Ids of a text: the tokenizer's own, unless a message looks like control
  tokens; then it is encoded without them between those of the template."""
  text, own = said
  whole = _tokens(codec, text)
  if all(_is_own(text, own, *span) for i, *span in whole
         if i in codec.reserved_ids):
    return Encoded(tuple(i for i, *_ in whole), 0)
  ids: list[int] = []
  removed = at = 0

  def letters(words: str) -> int:
    found, lost = codec.encode_content(words)
    kept = [i for i in found if i not in codec.reserved_ids]
    ids.extend(kept)
    return lost + len(found) - len(kept)

  for first, last in _runs(own):
    for token, start, end in _reserved(codec, text[first:last]):
      removed += letters(text[at:first + start])
      ids.append(token)
      at = first + end
  removed += letters(text[at:])
  return Encoded(tuple(ids), removed)


def _with_media(said: _Said, asked: _Asked, form: _Form):
  """(text with placeholders for patches, what is seen), in order."""
  shown = [p for m in asked.messages for p in m.shown
           if not isinstance(p, str)]
  if not shown:
    return said, []
  if asked.chat.vision is None:
    raise ValueError('messages: this model takes no images')
  pattern = _MEDIA if form.lists else form.marks
  found = [m.span() for m in pattern.finditer(said.text)
           if not form.lists or said.own[slice(*m.span())].all()]
  if len(found) != len(shown):
    raise ValueError(f'the chat template of this model shows {len(found)} '
                     f'images or videos; the messages hold {len(shown)}')
  seen = [asked.chat.vision.see((p,)) for p in shown]
  text, own, last = [], [], 0
  for (start, end), one in zip(found, seen, strict=True):
    text += [said.text[last:start], one.text]
    own += [said.own[last:start], np.ones(len(one.text), bool)]
    last = end
  return _Said(''.join([*text, said.text[last:]]),
               np.concatenate([*own, said.own[last:]])), seen


def _check_reasoning(asked: _Asked) -> None:
  told = {name for m in asked.messages for name, _ in m.told}
  template = asked.chat.codec.tokenizer.get_chat_template()
  if 'reasoning' in told and not any(name in template for name in _READ):
    raise ValueError(
        'reasoning_content is given; the chat template of this model does not '
        'read it: leave it out, or write it into content')


def encode(messages: Sequence[Message], chat: Chat,
           thinking: bool | None) -> Encoded:
  """The prompt of a conversation, up to where the assistant speaks.

  Raises:
    ValueError: for pictures in a chat of text alone; if the template does
      not take these messages, or a field of theirs; for anything but one user
      message without a template.
  """
  if not isinstance(chat.codec, HubCodec):
    text = ''.join(p for m in messages for p in m.shown if isinstance(p, str))
    if [m.role for m in messages] != ['user'] or messages[0].told or not all(
        isinstance(p, str) for p in messages[0].shown):
      raise ValueError('messages: this model has no chat template; it takes '
                       'one user message of text')
    return chat.plain(text)
  asked = _Asked(messages, chat, hub_chat.switches(
      chat.codec.tokenizer, thinking))
  _check_reasoning(asked)
  form, around = _form(asked)
  said, seen = _with_media(_said(asked, form, around), asked, form)
  encoded = _encode(said, chat.codec)
  if not seen:
    return encoded
  whole = ProcessedMedia('', np.concatenate([s.patches_IC for s in seen]),
               tuple(f for s in seen for f in s.frames))
  return dataclasses.replace(
      encoded, media=chat.vision.media(whole, encoded.tokens))
