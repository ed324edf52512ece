"""Options, and the letter of the right one, from the forms of public files."""

import ast
import re
from collections.abc import Callable, Mapping as Dict, Sequence
from typing import Any, TypeAlias

from zppo_jax.data import values
from zppo_jax.data.mappings.mapping import Mapped, Places, asked, letters
from zppo_jax.data.suites.benchmark import NO_GOLD, NO_QUESTION, skipped

Gold: TypeAlias = Callable[[Any, Sequence[str]], str]

_LONGEST = 20_000  # characters of a row's options
LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
_LETTERED = re.compile(r'\s*\(?([A-Z])[.):]\s*')
_BARE = re.compile(r'\(?([A-Z])\)?[.:]?')
_PICTURE = re.compile(r'<image[\s_]*(\d{0,9})>')
# A placeholder that stands alone at an edge of the text or of a line.
_EDGE = re.compile(r'^\s*<image[\s_]*\d*>\s*|\s*<image[\s_]*\d*>\s*$')
NULLS = ('null', 'none', 'nan')  # texts by which some files say "no value"


def literal(text: str) -> Any:
  """The value of a text that is a Python literal and not too long.

  Raises:
    ValueError: for anything else.
  """
  if len(text) > _LONGEST:
    raise ValueError(f'options of {len(text)} characters; at most {_LONGEST}')
  try:
    return ast.literal_eval(text)
  except (SyntaxError, RecursionError, MemoryError) as e:
    raise ValueError(f'options {text[:80]!r} are no list: {e}') from None


def listed(options: Any) -> list[str]:
  """Options as a list.

  Some sets write the list as a text, or as a struct by letter, whose last
  fields are empty where there are fewer options.
  """
  if options is None:
    return []
  if isinstance(options, str):
    options = literal(options) if options.strip() else []
  if isinstance(options, Dict):
    options = [options[k] for k in sorted(options)]
    while options and (options[-1] is None or options[-1] == ''):
      options.pop()
  if not isinstance(options, list | tuple):
    raise ValueError(f'options are {values.shown(options)}, not a list')
  return [values.text(o, f'option {i}') for i, o in enumerate(options)]


def unlettered(options: Sequence[str]) -> list[str]:
  """Options without letters of their own, if all have theirs ('A. one')."""
  marks = [_LETTERED.match(o) for o in options]
  if all(m and m[1] == LETTERS[i] for i, m in enumerate(marks)):
    return [o[m.end():] for o, m in zip(options, marks, strict=True) if m]
  return list(options)


def blank(value: Any) -> bool:
  """Whether a column holds nothing."""
  return value is None or isinstance(value, str) and not value.strip()


def why_not(question: Any, answer: Any) -> str:
  """The reason why a row cannot be asked; '' if it can."""
  return NO_QUESTION if blank(question) else NO_GOLD if blank(answer) else ''


def by_index(answer: Any, options: Sequence[str]) -> str:
  """The letter of an option that is named by its place, from 0.

  A place is a number or its digits; a reader may have made 2 a 2.0.
  """
  said = values.text(answer, 'answer').strip()
  try:
    at = int(said)
  except ValueError:
    at = int(float(said)) if said.endswith('.0') else -1
  if not 0 <= at < len(options):
    raise ValueError(f'answer is {said[:80]!r}; there are {len(options)} '
                     'options, counted from 0')
  return LETTERS[at]


def by_letter(answer: Any, options: Sequence[str]) -> str:
  """The letter itself; brackets and a full stop are taken off.

  Args:
    answer: the letter.
    options: what it may name; none allows any letter.
  """
  said = values.text(answer, 'answer').strip()
  bare = _BARE.fullmatch(said)
  if not bare or options and LETTERS.index(bare[1]) >= len(options):
    raise ValueError(f'answer is {said[:80]!r}, which is not the letter of '
                     f'one of {len(options)} options')
  return bare[1]


def by_text(answer: Any, options: Sequence[str]) -> str:
  """The letter of the option with the same text."""
  said = values.text(answer, 'answer').strip()
  texts = [o.strip() for o in options]
  if said not in texts:
    raise ValueError(f'answer is {said[:80]!r}, which is none of the '
                     f'{len(options)} options')
  return LETTERS[texts.index(said)]


BY: dict[str, Gold] = {'index': by_index, 'letter': by_letter, 'text': by_text}


def choice(question: Any, options: Any, answer: Any, gold: Gold,
           **fields: Any) -> Mapped:
  """A question with its options as lines `A. ...`, whose answer is a letter."""
  options = unlettered(listed(options))
  if reason := why_not(question, answer):
    return skipped(reason)
  return asked(question, gold(answer, options), 'choice',
               f'\n{letters(options)}', **fields)


def opened(question: Any, answer: Any, kind: str, **fields: Any) -> Mapped:
  """A question without options."""
  if reason := why_not(question, answer):
    return skipped(reason)
  return asked(question, answer, kind, **fields)


def pictured(question: str, options: Sequence[str]
             ) -> tuple[str, list[str], int]:
  """Placeholders of numbered pictures as words.

  Pictures are shown before the text. `<image 2>` becomes 'image 2', so that the
  text still says which one it means; a single placeholder at the start or the
  end of the question is left out.

  Returns:
    (question, options, the highest number).
  """
  numbers = {int(n or 1) for text in (question, *options)
             for n in _PICTURE.findall(text)}
  if numbers == {1} and not any(map(_PICTURE.search, options)):
    question = _EDGE.sub('', question)
  question, *options = (
      _PICTURE.sub(lambda m: f'image {m[1]}' if m[1] else 'the image', text)
      for text in (question, *options))
  return question, list(options), max(numbers, default=0)


def picture_choice(question: str, options: Sequence[str], letter: str,
                   kind: str = 'choice') -> Mapped:
  """A choice whose numbered pictures keep their places as words."""
  question, options, last = pictured(question, options)
  return Mapped(f'{question}\n{letters(options)}', letter, kind,
                places=Places(last_image=last))
