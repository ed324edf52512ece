"""The messages of a chat request as token ids, none of them forged.

A hub model's template is rendered with the messages themselves, because it may
strip, trim, split or measure them; the ids are those of the whole text. One of
two ways finds which words of that text are the template's own:

- Around stand-ins: if a template only places what it is given, its text around
  stand-ins, with the messages put in, is the rendered text.
- By moved words (`rendering.own`): for a template that does more.

A control token counts only where all of it is the template's own. Whatever
looks like one in a message stays letters.
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
from zppo_jax.records import Clip, Picture, ProcessedMedia, PromptMedia

ROLES = ('system', 'user', 'assistant')
# Names under which messages bring the reasoning of an assistant's turn. A
# template reads one of the two names in _READ, so it gets both.
REASONING = ('reasoning_content', 'reasoning', 'thinking')
_READ = ('reasoning_content', 'thinking')
# The placeholders that a template writes for a picture and a clip.
_MEDIA = re.compile(
    r'<\|vision_start\|><\|(image|video)_pad\|><\|vision_end\|>')


class Field(NamedTuple):
  """A text that a message holds besides its content.

  Attributes:
    name: 'reasoning' for an assistant's turn; otherwise the template's name for
      it, e.g. 'name'.
    text: the text.
  """
  name: str
  text: str


class Message(NamedTuple):
  """A message and who wrote it.

  Attributes:
    role: a role that the template knows, e.g. one of ROLES.
    parts: texts, pictures and clips in their order, and fields at any place
      among them.
  """
  role: str
  parts: tuple[str | Picture | Clip | Field, ...]

  @property
  def shown(self) -> tuple[str | Picture | Clip, ...]:
    """The parts that are content."""
    return tuple(p for p in self.parts if not isinstance(p, Field))

  @property
  def fields(self) -> tuple[Field, ...]:
    """The parts that are fields."""
    return tuple(p for p in self.parts if isinstance(p, Field))


class _Rendered(NamedTuple):
  """A template's text.

  Attributes:
    text: the text, with a mark for every picture and clip.
    own: for each character, whether the template wrote it (bool).
  """
  text: str
  own: np.ndarray


class _Form(NamedTuple):
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
        for read in _READ if name == 'reasoning' else (name,):
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


def _shown(text: str, form: _Form) -> list:
  """The parts, as in `_expected`, of a text with stand-ins."""
  places = [(m.start(), (int(m[1]), int(m[2])))
            for m in form.marks.finditer(text) if m[2].isdigit()]
  if form.lists:
    places += [(m.start(), m[1]) for m in _MEDIA.finditer(text)]
  return [part for _, part in sorted(places, key=lambda x: x[0])]


class _Conversation(NamedTuple):
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
    """The template's text of messages that `_Form.put` made."""
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


def _form(talk: _Conversation) -> tuple[_Form, str]:
  """The form that a template takes, and its text around stand-ins.

  Raises:
    ValueError: if the template takes no form, or does not show every message
      once; with media, also if they do not stand where they were put.
  """
  messages, nonce = talk.messages, _nonce(talk.messages)
  media = any(not isinstance(p, str) for m in messages for p in m.shown)
  why: Exception | None = None
  for lists in ((True, False) if media else (False,)):
    form = _Form(nonce, lists)
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


def _placed(form: _Form, messages: Sequence[Message],
            around: str) -> _Rendered:
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
  return _Rendered(
      text=''.join([*text, around[last:]]),
      own=np.concatenate([*own, np.ones(len(around) - last, bool)]))


def _holds_none(talk: _Conversation) -> bool:
  """Whether no message holds the text of a control token."""
  held = rendering.words([[m.shown, m.fields] for m in talk.messages])
  codec = talk.chat.codec
  return not any(codec.decode([i]) in held for i in codec.reserved_ids)


def _rendered(talk: _Conversation, form: _Form, around: str) -> _Rendered:
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
    if own is None or not all(_is_own(around, own, *span)
                              for _, *span in _reserved(codec, around)):
      continue
    own = talk.own(as_they_are, marking, text)
    if own is not None:
      return _Rendered(text=text, own=own)
  spans = _reserved(codec, text)
  if _holds_none(talk) and [i for i, *_ in spans] == [
      i for i, *_ in _reserved(codec, around)]:
    own = np.zeros(len(text), bool)
    for _, start, end in spans:
      own[start:end] = True
    return _Rendered(text=text, own=own)
  raise ValueError('the chat template of this model changes its own words with '
                   'those of the messages, so that they cannot be told apart')


def _tokens(codec: HubCodec, text: str) -> list[tuple[int, int, int]]:
  """(id, start, end) of the tokens of a text; control tokens are parsed."""
  encoding = codec.tokenizer(text, add_special_tokens=False,
                             return_offsets_mapping=True)
  return [(i, *span) for i, span in zip(
      encoding['input_ids'], encoding['offset_mapping'], strict=True)]


def _reserved(codec: HubCodec, text: str) -> list[tuple[int, int, int]]:
  """(id, start, end) of the control tokens of a text."""
  return [t for t in _tokens(codec, text) if t[0] in codec.reserved_ids]


def _is_own(text: str, own: np.ndarray, start: int, end: int) -> bool:
  """Whether the template wrote a token.

  Space at the ends of the token does not count, because a token may take it
  along.
  """
  word = text[start:end]
  if word.strip():
    start += len(word) - len(word.lstrip())
    end -= len(word) - len(word.rstrip())
  return bool(own[start:end].all())


def _runs(own: np.ndarray) -> list[tuple[int, int]]:
  """(start, end) of each piece that the template wrote."""
  edges = np.flatnonzero(np.diff(np.concatenate([[False], own, [False]]).astype(
      np.int8)))
  return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _encode(rendered: _Rendered, codec: HubCodec) -> Encoded:
  """The ids of a text.

  They are the tokenizer's ids of the whole text, unless a message looks like
  control tokens. Then the messages are encoded without control tokens, between
  those of the template.
  """
  text, own = rendered
  whole = _tokens(codec, text)
  if all(_is_own(text, own, *span) for i, *span in whole
         if i in codec.reserved_ids):
    return Encoded(tokens=tuple(i for i, *_ in whole), removed=0)
  ids: list[int] = []
  removed = at = 0

  def letters(words: str) -> int:
    encoded, lost = codec.encode_content(words)
    unreserved = [i for i in encoded if i not in codec.reserved_ids]
    ids.extend(unreserved)
    return lost + len(encoded) - len(unreserved)

  for first, last in _runs(own):
    for token, start, end in _reserved(codec, text[first:last]):
      removed += letters(text[at:first + start])
      ids.append(token)
      at = first + end
  removed += letters(text[at:])
  return Encoded(tokens=tuple(ids), removed=removed)


class _Seen(NamedTuple):
  """A text whose media have their placeholders.

  Attributes:
    rendered: the text with a placeholder per patch.
    processed: the media in their order.
    spans: (start, end) of each medium's mark before, and the characters that
      took its place.
  """
  rendered: _Rendered
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


def _with_media(rendered: _Rendered, talk: _Conversation,
                form: _Form) -> _Seen:
  """The text with the placeholders of its media."""
  shown = [p for m in talk.messages for p in m.shown
           if not isinstance(p, str)]
  if not shown:
    return _Seen(rendered, [], [])
  if talk.chat.vision is None:
    raise ValueError('messages: this model takes no images')
  pattern = _MEDIA if form.lists else form.marks
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
      _Rendered(text=''.join([*text, rendered.text[last:]]),
                own=np.concatenate([*own, rendered.own[last:]])),
      processed, [(*span, len(media.text)) for span, media in zip(
          spans, processed, strict=True)])


def _check_reasoning(talk: _Conversation) -> None:
  names = {name for m in talk.messages for name, _ in m.fields}
  template = talk.chat.codec.tokenizer.get_chat_template()
  if 'reasoning' in names and not any(name in template for name in _READ):
    raise ValueError(
        'reasoning_content is given; the chat template of this model does not '
        'read it: leave it out, or write it into content')


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
  talk = _Conversation(
      messages=messages, chat=chat,
      switches=hub_chat.switches(chat.codec.tokenizer, thinking))
  _check_reasoning(talk)
  form, around = _form(talk)
  seen = _with_media(_rendered(talk, form, around), talk, form)
  encoded = _encode(seen.rendered, chat.codec)
  return dataclasses.replace(encoded, media=seen.media(chat, encoded.tokens))


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


def _encode_spoken(words: _Rendered, codec: HubCodec) -> tuple[int, ...]:
  """The ids of an assistant's words; special tokens in them stay letters."""
  own, pattern = words.own.copy(), _spoken(codec)
  for token in pattern.finditer(words.text) if pattern else ():
    own[slice(*token.span())] = True
  return _encode(_Rendered(words.text, own), codec).tokens


def answer(text: str, chat: Chat) -> tuple[int, ...]:
  """The ids of an answer behind a prompt, with the end token.

  Raises:
    ValueError: for an empty answer, or words that the vocabulary lacks.
  """
  if not text.strip():
    raise ValueError('the answer is empty')
  codec = chat.codec
  if isinstance(codec, HubCodec):
    ids = _encode_spoken(_Rendered(text, np.zeros(len(text), bool)), codec)
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


def _begun(talk: _Conversation, form: _Form, rendered: _Rendered,
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


def _check_ends(talk: _Conversation, form: _Form, around: str) -> None:
  """ValueError unless the template ends every turn of an assistant by an end
  token."""
  codec = talk.chat.codec
  ends = [start for i, start, _ in _reserved(codec, around)
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


def _turns(talk: _Conversation, form: _Form,
           rendered: _Rendered) -> list[tuple[int, int]]:
  """(start, end) of each assistant's turn, its end token included."""
  text, own = rendered
  ends = [(start, end) for i, start, end in _reserved(talk.chat.codec, text)
          if i in talk.chat.codec.end_ids and _is_own(text, own, start, end)]
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
  talk = _Conversation(
      messages=messages, chat=chat, begins=False,
      switches=hub_chat.switches(chat.codec.tokenizer, thinking))
  _check_reasoning(talk)
  form, around = _form(talk)
  _check_ends(talk, form, around)
  rendered = _rendered(talk, form, around)
  spans = _turns(talk, form, rendered)
  seen = _with_media(rendered, talk, form)
  tokens: list[int] = []
  taught: list[bool] = []
  last = 0
  for span in spans:
    start, end = map(seen.moved, span)
    asked, said = (_Rendered(seen.rendered.text[a:b], seen.rendered.own[a:b])
                   for a, b in ((last, start), (start, end)))
    for words, spoken in ((_encode(asked, chat.codec).tokens, False),
                          (_encode_spoken(said, chat.codec), True)):
      tokens += words
      taught += [spoken] * len(words)
    last = end
  return Taught(tuple(tokens), tuple(taught), seen.media(chat, tokens))
