"""Rows of files as conversations to learn from (`zppo sft`).

  sources.mine = dict(format='jsonl', path='FILE', columns=dict(...))

The columns of a source say what its rows hold; each may be a path (values.at):

  messages                  a chat: a list of {role, content}, or {from, value}
  prompt, answer [, system] texts or chats: what is asked and what is answered
  text, responses           a question as `zppo train` asks it, and its answers,
                            each of which is a conversation of its own

A source may name a mapping of data/mappings instead, whose questions carry
responses.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping as Dict, Sequence
from typing import Any, NamedTuple

from zppo_jax import allowed
from zppo_jax.chat.conversation import REASONING, Field, Message
from zppo_jax.data import media, readers, values
from zppo_jax.data.sources import (
  Bounds,
  Source,
  Spec,
  ascii_name,
  read_spec,
  roots,
)
from zppo_jax.records import Clip, Picture

ROLES = ('system', 'user', 'assistant', 'tool')
# The roles of ShareGPT's files, and those of others.
_ALSO = {'human': 'user', 'gpt': 'assistant', 'developer': 'system'}
_PLACE = re.compile('(<image>)')


class Lesson(NamedTuple):
  """A conversation to learn from.

  Attributes:
    id: the source's name and the row's.
    messages: the messages, the last one an assistant's.
    asked: whether the user's message is a question, which is put as `zppo
      train` puts it; otherwise the chat template alone stands around it.
  """
  id: str
  messages: tuple[Message, ...]
  asked: bool


@dataclasses.dataclass(frozen=True)
class LessonSpec:
  """A source in a config.

  Attributes:
    name: its key.
    format: in readers.READERS.
    path: in the form that the reader takes.
    columns: field -> column; one of the forms in the docstring of this module,
      with `id` if rows have names.
    mapping: in mappings.MAPPINGS, instead of columns.
    images: a column of images; '' if rows have none, or hold them in their
      chats. They stand where a text says <image> and where a part of a chat has
      none of its own; without such places they come before the prompt.
    fps: frames per second of videos whose rows do not give it.
    folder: where relative paths in rows begin; '' takes the reader's folder.
    media_roots: folders besides `folder` in which images may lie.
  """
  name: str
  format: str
  path: str
  columns: Dict[str, str] = dataclasses.field(default_factory=dict)
  mapping: str = ''
  images: str = ''
  fps: float = 2.0
  folder: str = ''
  media_roots: Sequence[str] = ()

  def __post_init__(self) -> None:
    where = f'sources.{self.name}'
    if bool(self.mapping) == bool(self.columns):
      raise ValueError(f'{where}: one of columns and mapping is needed')
    allowed.number(f'{where}.fps', self.fps, '> 0')
    roots(self.media_roots, where)
    if self.columns:
      form_of(self.columns, where)


def spec(name: str, fields: Dict[str, Any]) -> LessonSpec:
  """A LessonSpec from the fields of a config; errors as sources.read_spec's."""
  return read_spec(LessonSpec, 'sources', name, fields)


class _Shown:
  """The media of a row's column, taken one after the other.

  Args:
    pictures: the pictures of the column.
    read: (value of a part, 'image' or 'video') -> a picture or a clip.
  """

  def __init__(self, pictures: Sequence[Picture],
               read: Callable[[Any, str], Picture | Clip]):
    self._left, self._read = list(pictures), read

  def part(self, value: Any, kind: str, what: str) -> Picture | Clip:
    """The medium of a part of a chat, or the next one of the column."""
    if value is not None:
      return self._read(value, kind)
    if kind != 'image' or not self._left:
      raise ValueError(f'{what} shows {kind} without one; the column of images '
                       'has no further one')
    return self._left.pop(0)

  def words(self, text: str, what: str) -> list[str | Picture | Clip]:
    """A text with the column's pictures in the places of <image>."""
    if not self._left:
      return [text] if text else []
    return [self.part(None, 'image', what) if piece == '<image>' else piece
            for piece in _PLACE.split(text) if piece]

  def rest(self) -> list[Picture]:
    """Those that had no place."""
    left, self._left = self._left, []
    return left


def _parts(value: Any, what: str,
           shown: _Shown) -> tuple[str | Picture | Clip, ...]:
  """The content of a message, in order."""
  if hasattr(value, 'tolist'):
    value = value.tolist()
  if not isinstance(value, list | tuple):
    return tuple(shown.words(values.text(value, what), what))
  out: list[str | Picture | Clip] = []
  for i, part in enumerate(value):
    at = f'{what}[{i}]'
    kind = part.get('type') if isinstance(part, Dict) else None
    if isinstance(part, str) or kind == 'text':
      out += shown.words(values.text(
          part if isinstance(part, str) else part.get('text'), at), at)
    elif kind in ('image', 'image_url', 'video', 'video_url'):
      kind = kind.removesuffix('_url')
      out.append(shown.part(values.medium_of(part, kind), kind, at))
    else:
      raise ValueError(f'{at} is {values.shown(part)}; allowed: a text, or a '
                       'part whose type is text, image, image_url, video or '
                       'video_url')
  return tuple(out)


def _message(value: Any, what: str, shown: _Shown) -> Message:
  if not isinstance(value, Dict):
    raise ValueError(f'{what} is {values.shown(value)}; allowed: an object '
                     'with role and content')
  role_field, content = next(
      (pair for pair in (('role', 'content'), ('from', 'value'))
       if pair[0] in value), ('role', 'content'))
  for field in (role_field, content):
    if field not in value:
      raise ValueError(f'{what} has the fields {", ".join(map(str, value))}; a '
                       'message has role and content')
  extra = [k for k, v in value.items() if v and k not in (
      role_field, content, 'name', *REASONING)]
  if extra:
    raise ValueError(f'{what} has {", ".join(map(repr, extra))}, which cannot '
                     f'be learnt; allowed: role, content, name, '
                     f'{", ".join(REASONING)}')
  role = values.text(value[role_field], f'{what}.{role_field}')
  role = _ALSO.get(role, role)
  if role not in ROLES:
    raise ValueError(f'{what}.{role_field} is {role[:40]!r}; allowed: '
                     f'{", ".join((*ROLES, *_ALSO))}')
  fields = [Field('reasoning' if name in REASONING else name,
                  values.text(value[name], f'{what}.{name}'))
            for name in ('name', *REASONING) if value.get(name)]
  if len({field.name for field in fields}) < len(fields):
    raise ValueError(f'{what} has its reasoning under several names')
  return Message(role, (*_parts(value[content], f'{what}.{content}', shown),
                        *fields))


def _rows_of(columns: Dict[str, Any], what: str) -> list[dict[str, Any]]:
  """The messages of a chat that is kept by column: {role: [...], ...}."""
  lists = {name: list(column) for name, column in columns.items()
           if hasattr(column, '__len__')
           and not isinstance(column, str | bytes)}
  if len(lists) < len(columns) or len(set(map(len, lists.values()))) > 1:
    raise ValueError(f'{what} is {values.shown(columns)}; allowed: a list of '
                     'messages {role, content}, or an object of lists of one '
                     'length')
  return [dict(zip(lists, row, strict=True))
          for row in zip(*lists.values(), strict=True)]


def _chat(value: Any, what: str, shown: _Shown,
          role: str | None = None) -> tuple[Message, ...]:
  """The messages of a chat; a text is one of `role`."""
  if hasattr(value, 'tolist'):
    value = value.tolist()
  if isinstance(value, Dict) and value:
    value = _rows_of(value, what)
  if role is not None and not (
      isinstance(value, list | tuple) and value
      and all(isinstance(v, Dict) for v in value)):
    return (Message(role, _parts(value, what, shown)),)
  if not isinstance(value, list | tuple) or not value:
    raise ValueError(f'{what} is {values.shown(value)}; allowed: a list of '
                     'messages {role, content}')
  return tuple(_message(v, f'{what}[{i}]', shown)
               for i, v in enumerate(value))


def _with_rest(messages: tuple[Message, ...],
               shown: _Shown) -> tuple[Message, ...]:
  """Messages, the media that had no place before the first one of the user."""
  rest = shown.rest()
  if not rest:
    return messages
  for i, message in enumerate(messages):
    if message.role == 'user':
      return (*messages[:i], Message('user', (*rest, *message.parts)),
              *messages[i + 1:])
  raise ValueError(f'{len(rest)} images have no message of a user')


def _of_messages(row: Dict[str, Any], shown: _Shown) -> list[tuple]:
  return [_with_rest(_chat(row['messages'], 'messages', shown), shown)]


def _of_pair(row: Dict[str, Any], shown: _Shown) -> list[tuple]:
  system = values.text(row.get('system'), 'system')
  messages = (
      *((Message('system', (system,)),) if system else ()),
      *_chat(row['prompt'], 'prompt', shown, 'user'))
  of_answer = _Shown(
      (), lambda value, kind: shown.part(value, kind, 'answer'))
  said = _chat(row['answer'], 'answer', of_answer, 'assistant')
  if any(m.role != 'assistant' for m in said):
    raise ValueError('answer is a chat of '
                     f'{", ".join(m.role for m in said)}; allowed: assistant')
  return [(*_with_rest(messages, shown), *said)]


def _of_question(row: Dict[str, Any], shown: _Shown) -> list[tuple]:
  text = values.text(row['text'], 'text', empty=False)
  asked = _with_rest((Message('user', tuple(shown.words(text, 'text'))),),
                     shown)
  return [(*asked, Message('assistant', (said,)))
          for said in values.texts(row['responses'], 'responses')]


class _Form(NamedTuple):
  """What columns a source may name, and how its rows are read.

  Attributes:
    needed, optional: fields of `columns`.
    read: row by field -> the messages of each conversation.
    asked: as in Lesson.
  """
  needed: tuple[str, ...]
  optional: tuple[str, ...]
  read: Callable[[Dict[str, Any], _Shown], list[tuple]]
  asked: bool = False


FORMS = (
    _Form(('messages',), ('id',), _of_messages),
    _Form(('prompt', 'answer'), ('system', 'id'), _of_pair),
    _Form(('text', 'responses'), ('id',), _of_question, asked=True),
)


def form_of(columns: Dict[str, str], where: str) -> _Form:
  """The form of a source's columns; KeyError names the forms."""
  for form in FORMS:
    if set(form.needed) <= set(columns) <= {*form.needed, *form.optional}:
      return form
  forms = '; '.join(
      f'{", ".join(form.needed)} [{", ".join(form.optional)}]'
      for form in FORMS)
  raise KeyError(f'{where}.columns has {", ".join(columns)}; allowed are '
                 f'{forms}')


def check(messages: Sequence[Message]) -> tuple[Message, ...]:
  """The messages up to the last answer.

  Raises:
    ValueError: if there is no answer, an empty one, or one to nothing.
  """
  turns = [i for i, m in enumerate(messages) if m.role == 'assistant']
  if not turns:
    raise ValueError('no message has the role assistant; there is nothing to '
                     'learn')
  if not turns[0]:
    raise ValueError('the first message has the role assistant; there is '
                     'nothing that it answers')
  for i in turns:
    if not all(isinstance(p, str) for p in messages[i].shown):
      raise ValueError(f'message {i} (role assistant) holds an image or a '
                       'video, which cannot be learnt')
    if not ''.join(map(str, messages[i].shown)).strip():
      raise ValueError(f'message {i} (role assistant) is empty')
  return tuple(messages[:turns[-1] + 1])


class LessonSource:
  """An open source: the conversations of its rows, by number.

  Raises:
    KeyError: for an unknown format, mapping or column; it names the file.
    FileNotFoundError, ValueError: as the reader.
  """

  def __init__(self, of: LessonSpec, store: pathlib.Path | None = None,
               bounds: Bounds | None = None):
    self.of, self._store = of, store
    bounds = bounds or Bounds()
    self._questions = None
    if of.mapping:
      self._questions = Source(Spec(
          of.name, of.format, of.path, mapping=of.mapping, images=of.images,
          fps=of.fps, folder=of.folder, media_roots=of.media_roots), store,
          bounds=bounds)
      return
    self._form = form_of(of.columns, f'sources.{of.name}')
    self._rows = readers.open_reader(of.format, of.path, (), bounds.max_bytes)
    if not len(self._rows):
      raise ValueError(f'sources.{of.name}: {of.path} holds no rows')
    self._folder = (pathlib.Path(of.folder).expanduser() if of.folder
                    else self._rows.folder)
    self._roots = (*bounds.media_roots,
                   *roots(of.media_roots, f'sources.{of.name}'))

  def __len__(self) -> int:
    return len(self._questions or self._rows)

  def where(self, index: int) -> str:
    """The file and the row, for errors."""
    return (self._questions or self._rows).where(index)

  def file(self, index: int) -> str:
    return (self._questions or self._rows).file(index)

  def lessons(self, index: int) -> list[Lesson]:
    """The conversations of a row; none if a question has no responses, or if
    its mapping skips it.

    Raises:
      KeyError, ValueError, FileNotFoundError: naming file and row.
    """
    try:
      return list(self._of_question(self._questions, index)
                  if self._questions
                  else self._of_row(index))
    except FileNotFoundError as e:
      raise FileNotFoundError(
          f'{self.where(index)}: {ascii_name(e)}') from e
    # A row of another schema, or a broken image, raises almost anything.
    except Exception as e:
      said = ascii_name(e).removeprefix(f'{self.where(index)}: ')
      kind = '' if isinstance(e, ValueError) else f'{type(e).__name__}: '
      raise ValueError(f'{self.where(index)}: {kind}{said}') from e

  def _of_question(self, questions: Source, index: int) -> Iterator[Lesson]:
    words = questions.mapped(index)
    if words.skip or not words.text.strip():
      return
    question = dataclasses.replace(
        questions.words(index, words), media=questions.show(index, words))
    for k, said in enumerate(question.responses):
      yield Lesson(f'{question.id}/{k}', check((
          Message('user', (*question.media, question.text)),
          Message('assistant', (said,)))), True)

  def _of_row(self, index: int) -> Iterator[Lesson]:
    row = self._rows[index]
    fields = {field: values.at(row, column)
              for field, column in self.of.columns.items()}
    where = self.where(index)

    def read(value: Any, kind: str) -> Picture | Clip:
      if kind == 'image':
        return media.picture(value, self._folder, self._store,
                             roots=self._roots, where=where)
      return media.clip(value, self._folder, self.of.fps, self._store,
                        roots=self._roots, where=where)

    pictures = media.pictures(
        values.at(row, self.of.images), self._folder, self._store,
        roots=self._roots, where=where) if self.of.images else ()
    name = values.text(fields.pop('id', None), 'id') or str(index)
    several = self._form.read(fields, _Shown(pictures, read))
    for k, messages in enumerate(several):
      end = f'/{k}' if self._form.asked else ''
      yield Lesson(f'{self.of.name}/{name}{end}', check(messages),
                   self._form.asked)
