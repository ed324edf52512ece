"""What a mapping is: a public data set's columns, and what they mean."""

import re
from collections.abc import Callable, Mapping as Dict
from typing import Any, NamedTuple

from zppo_jax.data import values
from zppo_jax.verdicts.kinds import boxed

_PLACE = re.compile(r'<(image|video)[\s_]*(\d*)>\s*')


class Places(NamedTuple):
  """Placeholders of a text.

  Attributes:
    images, videos: how many have no number: <image>, <video>.
    last_image, last_video: the highest number, as in <image 2>; 0 without.
  """
  images: int = 0
  videos: int = 0
  last_image: int = 0
  last_video: int = 0


class Mapped(NamedTuple):
  """A row's words; its images and videos are read apart, when shown.

  Attributes:
    text: the question, without placeholders of images.
    answer: gold.
    kind: how answers are compared (verdicts/kinds/__init__.py).
    id: the row's own name, '' where it has none.
    hint: text that may help.
    responses: worked answers of a teacher.
    subset: the data set inside the data set, for caps and duplicates.
    pass_rate: share of a reference model's answers that were right.
    skip: why the row cannot be asked; '' if it can.
    places: placeholders that were taken out of `text`; None leaves it to
      `checked`.
    images, videos: that the row holds inside its words, as a chat's parts do.
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
  images: tuple = ()
  videos: tuple = ()


class Mapping(NamedTuple):
  """A row of MAPPINGS.

  Attributes:
    source: where the data come from, for people.
    columns: that `read` needs.
    read: row -> Mapped.
    images: column of one or several images, or such columns with commas; ''
      if there is none.
    video: column of a video, '' if there is none.
    unconfirmed: columns that no public description was found for; errors
      about them say so.
  """
  source: str
  columns: tuple[str, ...]
  read: Callable[[Dict[str, Any]], Mapped]
  images: str = ''
  video: str = ''
  unconfirmed: tuple[str, ...] = ()


def without_places(text: str) -> str:
  """Text without <image> placeholders: media are shown before it."""
  return _PLACE.sub('', text).strip()


def places_of(text: str) -> Places:
  """The placeholders of a text, counted."""
  alone, last = {'image': 0, 'video': 0}, {'image': 0, 'video': 0}
  for kind, number in _PLACE.findall(text):
    if number:
      last[kind] = max(last[kind], int(number[-9:]))
    else:
      alone[kind] += 1
  return Places(*alone.values(), *last.values())


def asked(text, answer, kind: str, more: str = '', **fields) -> Mapped:
  """A Mapped whose placeholders are counted and taken out.

  Args:
    text: the question as the row has it, a text or a chat.
    answer, kind: as of Mapped.
    more: lines behind the question, whose placeholders stay.
    **fields: others of Mapped.
  """
  of = values.question(text, 'the question')
  return Mapped(without_places(of.text) + more, answer, kind,
                places=places_of(of.text + more), images=of.images,
                videos=of.videos, **fields)


def checked(made: Mapped, places: str = 'check') -> Mapped:
  """A row's words with all fields as texts and numbers.

  Args:
    made: what a mapping read; fields may be as the file has them.
    places: of data.pool.Spec.

  Raises:
    ValueError: for a field that is neither text nor number, or a chat that
      cannot be asked, naming it.
  """
  if made.skip:
    return made
  of = values.question(made.text, 'text')
  text, found = of.text, made.places
  if found is None and places != 'text':
    found = places_of(text)
    text = without_places(text) if any(found) else text
  rate = made.pass_rate
  return made._replace(
      text=text, places=found or Places(), images=made.images + of.images,
      videos=made.videos + of.videos, answer=values.text(made.answer, 'answer'),
      responses=values.texts(made.responses, 'responses'),
      pass_rate=None if rate is None else values.number(rate, 'pass_rate'),
      **{field: values.text(getattr(made, field), field)
         for field in ('kind', 'id', 'hint', 'subset')})


def check_places(found: Places, images: int, videos: int) -> None:
  """ValueError where placeholders and what is shown differ in number.

  A text without any is right with all: media are shown before it.
  """
  for name, alone, last, there in (
      ('image', found.images, found.last_image, images),
      ('video', found.videos, found.last_video, videos)):
    if alone and (there < alone if last else there != alone):
      raise ValueError(
          f'the question has {alone} <{name}> and the row {there} {name}(s); '
          f'name the column of them ({name}{"s" * (name == "image")}), or set '
          "places: 'strip' takes placeholders out, 'text' leaves them as words")
    if last > there:
      raise ValueError(f'the question has <{name} {last}> and the row {there} '
                       f'{name}(s)')


def unboxed(answer) -> str:
  """An answer out of its \\boxed{}, if it is in one."""
  answer = values.text(answer, 'answer')
  return boxed.last(answer) or answer.strip()


def letters(options, first: str = 'A') -> str:
  """Options as lines `A. ...`."""
  return '\n'.join(f'{chr(ord(first) + i)}. {option}'
                   for i, option in enumerate(options))
