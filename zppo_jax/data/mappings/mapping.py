"""What a mapping is: a public data set's columns, and what they mean."""

import re
from collections.abc import Callable, Mapping as Dict
from typing import Any, NamedTuple

from zppo_jax.verdicts import boxed

_PLACE = re.compile(r'<(?:image|video)(?:\s*\d*)>\s*')


class Mapped(NamedTuple):
  """A row's words; its images and videos are read apart, when shown.

  Attributes:
    text: the question, without placeholders of images.
    answer: gold.
    kind: how answers are compared (verdicts/kinds.py).
    id: the row's own name, '' where it has none.
    hint: text that may help.
    responses: worked answers of a teacher.
    subset: the data set inside the data set, for caps and duplicates.
    pass_rate: share of a reference model's answers that were right.
    skip: why the row cannot be asked; '' if it can.
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


def unboxed(answer: str) -> str:
  """An answer out of its \\boxed{}, if it is in one."""
  return boxed.last(answer) or answer.strip()


def letters(options, first: str = 'A') -> str:
  """Options as lines `A. ...`."""
  return '\n'.join(f'{chr(ord(first) + i)}. {option}'
                   for i, option in enumerate(options))
