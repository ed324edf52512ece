"""Mappings: the columns of a public data set, and how they become questions."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping as Dict
from typing import Any, NamedTuple

from zppo_jax.data import values
from zppo_jax.records import TURN_ROLES, Turn
from zppo_jax.verdicts.kinds import boxed

Row = Dict[str, Any]  # a row of a file: column -> value

_PLACE = re.compile(r'<(image|video)[\s_]*(\d*)>\s*')


class Places(NamedTuple):
  """The placeholders of a text.

  Attributes:
    images, videos: the number of placeholders without a number of their own,
      <image> and <video>.
    last_image, last_video: the highest number, as in <image 2>; 0 if there is
      none.
  """
  images: int = 0
  videos: int = 0
  last_image: int = 0
  last_video: int = 0


class Mapped(NamedTuple):
  """The words of a row, whose images and videos are read separately.

  Attributes:
    text: the question, without placeholders of images.
    answer: the gold answer.
    kind: how answers are compared (verdicts/kinds/__init__.py).
    id: the row's own name; '' if it has none.
    hint: a text that may help.
    responses: worked answers of a teacher.
    subset: the data set inside the data set, for caps and duplicates.
    pass_rate: the share of a reference model's answers that were right.
    difficulty: of the question, on the data set's own scale.
    skip: the reason why the row cannot be asked; '' if it can.
    places: the placeholders that were taken out of `text`; None leaves that to
      `checked`.
    images, videos: the media inside the words, as in the parts of a chat.
    turns: the (role, content) of the messages before `text`.
  """
  text: str
  answer: str
  kind: str
  id: str = ''
  hint: str = ''
  responses: tuple[str, ...] = ()
  subset: str = ''
  pass_rate: float | None = None
  skip: str = ''
  places: Places | None = None
  images: tuple[Any, ...] = ()
  videos: tuple[Any, ...] = ()
  turns: tuple[Turn, ...] = ()
  difficulty: float | None = None


class Mapping(NamedTuple):
  """A row of MAPPINGS.

  Attributes:
    source: the origin of the data, for people.
    columns: the columns that `read` needs.
    read: row -> Mapped.
    images: a column of one or several images, or such columns with commas; ''
      if there is none. Of names with a bar, 'image|images', the first one that
      is there counts; 'images|' is left out where it is not there.
    video: a column of a video; '' if there is none.
    unconfirmed: the columns for which no public description was found;
      errors about them say so.
    distinct: whether a text is asked once, because the set repeats its rows.
    pictured: whether a row without a picture is skipped, because the set asks
      about one in every row.
  """
  source: str
  columns: tuple[str, ...]
  read: Callable[[Row], Mapped]
  images: str = ''
  video: str = ''
  unconfirmed: tuple[str, ...] = ()
  distinct: bool = False
  pictured: bool = False


def image_columns(names: str, there: Collection[str]) -> tuple[str, ...]:
  """The columns that `Mapping.images` names among those that are there.

  A name of which no alternative is there stays as its first one, so that an
  error can name it.
  """
  columns = []
  for name in filter(None, names.split(',')):
    several = name.split('|')
    columns.append(next((one for one in several if one and values.base(
        one, dict.fromkeys(there)) in there), '' if '' in several
        else several[0]))
  return tuple(filter(None, columns))


def without_places(text: str) -> str:
  """The text without placeholders, because media are shown before it."""
  return _PLACE.sub('', text).strip()


def places_of(text: str) -> Places:
  """The placeholders of a text, counted."""
  alone, last = {'image': 0, 'video': 0}, {'image': 0, 'video': 0}
  for kind, number in _PLACE.findall(text):
    if number:
      last[kind] = max(last[kind], int(number[-9:]))
    else:
      alone[kind] += 1
  return Places(images=alone['image'], videos=alone['video'],
                last_image=last['image'], last_video=last['video'])


def asked(text: Any, answer: Any, kind: str, more: str = '',
          cut: Callable[[str], str] = str, **fields: Any) -> Mapped:
  """A Mapped whose placeholders are counted and taken out of the text.

  Args:
    text: the question in the row, which is a text or a chat.
    answer, kind: as in Mapped.
    more: lines behind the question, whose placeholders stay.
    cut: takes directives out of the question.
    **fields: other fields of Mapped.
  """
  of = values.question(text, 'the question')
  return Mapped(cut(without_places(of.text)) + more, answer, kind,
                places=places_of(of.text + more), images=of.images,
                videos=of.videos, **fields)


def _turn(role: Any, content: Any) -> Turn:
  if role not in TURN_ROLES:
    raise ValueError(f'a turn of the conversation has the role {role!r}; '
                     f'allowed: {", ".join(TURN_ROLES)}')
  return Turn(role, values.text(content, f'the turn of {role}', empty=False))


def checked(words: Mapped, places: str = 'check') -> Mapped:
  """The words of a row with all fields as texts and numbers.

  Args:
    words: the result of a mapping, whose fields may have any type of the file.
    places: of data.sources.Spec.

  Raises:
    ValueError: for a field that is neither a text nor a number, or for a chat
      that cannot be asked; it names the field.
  """
  if words.skip:
    return words
  of = values.question(words.text, 'text')
  text, placeholders = of.text, words.places
  if placeholders is None and places != 'text':
    placeholders = places_of(text)
    text = without_places(text) if any(placeholders) else text
  rate = words.pass_rate
  return words._replace(
      text=text, places=placeholders or Places(),
      images=words.images + of.images, videos=words.videos + of.videos,
      answer=values.text(words.answer, 'answer'),
      responses=values.texts(words.responses, 'responses'),
      pass_rate=None if rate is None else values.number(rate, 'pass_rate'),
      difficulty=None if words.difficulty is None else values.number(
          words.difficulty, 'difficulty'),
      turns=tuple(_turn(*turn) for turn in words.turns),
      **{field: values.text(getattr(words, field), field)
         for field in ('kind', 'id', 'hint', 'subset')})


def check_places(placeholders: Places, images: int, videos: int) -> None:
  """ValueError if the numbers of placeholders and of media differ.

  A text without placeholders is right, because media are shown before it.
  """
  for name, alone, last, there in (
      ('image', placeholders.images, placeholders.last_image, images),
      ('video', placeholders.videos, placeholders.last_video, videos)):
    if alone and (there < alone if last else there != alone):
      raise ValueError(
          f'the question has {alone} <{name}> and the row {there} {name}(s); '
          f'name the column of them ({name}{"s" * (name == "image")}), or set '
          "places: 'strip' takes placeholders out, 'text' leaves them as words")
    if last > there:
      raise ValueError(f'the question has <{name} {last}> and the row {there} '
                       f'{name}(s)')


def unboxed(answer: Any) -> str:
  """The content of the last \\boxed{} of an answer, or the answer itself."""
  answer = values.text(answer, 'answer')
  return boxed.last(answer) or answer.strip()


_LETTER = re.compile(r'\(?[A-J]\)?')


def lettered(answer: str) -> bool:
  """Whether an answer is the letter of a choice."""
  return bool(_LETTER.fullmatch(answer.strip()))


def letters(options: Iterable[Any], first: str = 'A') -> str:
  """Options as lines `A. ...`."""
  return '\n'.join(f'{chr(ord(first) + i)}. {option}'
                   for i, option in enumerate(options))
