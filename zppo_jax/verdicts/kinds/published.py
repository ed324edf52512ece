"""Kinds of equality as published benchmarks and training sets score them.

  any_text     equal to any one of a list        Vero's list_string_match
  number_list  the same numbers in the same order      Vero's number_list
  option       the letter of an option, or its text             MathVision
  nearest      the option whose text is nearest                  MathVista
  within       words of the gold answer             DynaMath's text answers
  values       the same values in order                  VLMs are Blind
  mmmu         a number, or a text with the gold in it           Video-MMMU
  anls         average normalised Levenshtein similarity            InfoVQA

A gold answer that is a list is JSON or the text of a Python list, and a text
that is neither is the list of itself. Each function raises `Unreadable` for a
gold answer that is not of its kind.
"""

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

from zppo_jax.verdicts.kinds import edits, plain
from zppo_jax.verdicts.kinds.numerals import Unreadable, close, numeral

ANLS = 0.5  # a similarity below this is 0
_DECIMALS = 2  # to which MMMU rounds


def literal(text: str) -> Any:
  """The value of JSON or of a Python literal; None for a text that is none."""
  try:
    return json.loads(text)
  except (ValueError, RecursionError):
    pass
  try:
    return ast.literal_eval(text.strip())
  except (ValueError, SyntaxError, RecursionError, MemoryError):
    return None


def _is_text(value: Any) -> bool:
  return isinstance(value, str | int | float) and not isinstance(value, bool)


def listed(gold: str) -> list[str]:
  """The texts of a gold answer that is a list, without those that are empty.

  Raises:
    Unreadable: for a list of anything but texts and numbers, and for no texts.
  """
  value = literal(gold) if gold.lstrip()[:1] in ('[', '(', '{') else None
  several = (sorted(value, key=str) if isinstance(value, set)
             else value if isinstance(value, list | tuple) else [gold])
  if not all(map(_is_text, several)):
    raise Unreadable(f'{gold[:80]!r} is not a list of texts')
  out = [str(one) for one in several if str(one).strip()]
  if not out:
    raise Unreadable(f'{gold[:80]!r} holds no text')
  return out


def _same(answer: str, gold: str) -> bool:
  """Whether two texts are equal or two numbers are."""
  if plain.plain_text(answer) == plain.plain_text(gold):
    return True
  given, right = numeral(answer), numeral(gold)
  return given is not None and right is not None and close(given, right)


def any_text(answer: str, gold: str) -> float:
  """1 for the text or the number of any member of the gold list."""
  return float(any([_same(answer, one) for one in listed(gold)]))


def _numbers_of(text: str) -> list | None:
  """The numbers of a list in order; None if a member is none."""
  value = literal(text) if text.lstrip()[:1] in ('[', '(') else None
  parts = ([str(one) for one in value] if isinstance(value, list | tuple)
           else plain.parts(text))
  numbers = [numeral(one) for one in parts if one.strip()]
  return numbers if numbers and None not in numbers else None


def number_list(answer: str, gold: str) -> float:
  """1 for the same numbers in the same order."""
  right = _numbers_of(gold)
  if right is None:
    raise Unreadable(f'{gold[:80]!r} is not a list of numbers')
  given = _numbers_of(answer)
  return float(given is not None and len(given) == len(right) and all(
      close(*pair) for pair in zip(given, right, strict=True)))


def _fields(gold: str, *names: str) -> dict[str, Any]:
  """A gold answer that is a JSON object with `options` and further fields."""
  value = literal(gold)
  if not isinstance(value, dict) or set(value) != {'options', *names}:
    raise Unreadable(f'{gold[:80]!r} is not a JSON object of options, '
                     f'{", ".join(names)}')
  options = value['options']
  if not isinstance(options, list) or not options or not all(
      map(_is_text, options)):
    raise Unreadable(f'{gold[:80]!r}: options must be a list of texts')
  return {**value, 'options': [str(one) for one in options]}


def _chosen(answer: str, options: Sequence[str]) -> int | None:
  """The number of the option whose letter an answer is; None for none."""
  letter = plain.choice(answer)
  number = ord(letter) - ord('a') if letter else len(options)
  return number if number < len(options) else None


def option(answer: str, gold: str) -> float:
  """1 for the right letter, or for the text of the right option.

  A letter of an option is that option, whatever the options' texts are.
  """
  of = _fields(gold, 'letter')
  right = _chosen(str(of['letter']), of['options'])
  if right is None:
    raise Unreadable(f'{gold[:80]!r}: no option has the letter '
                     f'{str(of["letter"])[:20]!r}')
  chosen = _chosen(answer, of['options'])
  if chosen is not None:
    return float(chosen == right)
  return float(_same(answer, of['options'][right]))


def nearest(answer: str, gold: str) -> float:
  """1 if the answer is the right option, or is nearest to its text.

  The first of options at the same edit distance counts as the nearest; none is
  nearest to an empty answer.
  """
  of = _fields(gold, 'answer')
  texts = [plain.plain_text(one) for one in of['options']]
  wanted = plain.plain_text(str(of['answer']))
  if wanted not in texts:
    raise Unreadable(f'{gold[:80]!r}: the answer is no option')
  chosen = _chosen(answer, texts)
  if chosen is None:
    given = plain.plain_text(answer)
    if not given:
      return 0.0
    away = [edits.distance(given, text) for text in texts]
    chosen = away.index(min(away))
  return float(texts[chosen] == wanted)


_WORD = re.compile(r'[^\W_]+')


def _holds(words: list[str], some: list[str]) -> bool:
  """Whether some words stand next to each other among others."""
  return bool(some) and any(words[i:i + len(some)] == some
                            for i in range(len(words) - len(some) + 1))


def _words(text: str) -> list[str]:
  return _WORD.findall(plain.plain_text(text))


def within(answer: str, gold: str) -> float:
  """1 for the gold text, or for whole words of it that stand together."""
  if plain.texts(answer, gold):
    return 1.0
  return float(_holds(_words(gold), _words(answer)))


_NAMED = re.compile(r'(rows?|col(?:umn)?s?)\W{0,8}([0-9]+)')
_COUNTED = re.compile(r'([0-9]+)\W{0,8}(rows?|col(?:umn)?s?)')
_MARKS = re.compile(r'[{}()\[\]$*"\'\\]')
_TIMES = re.compile(r'(?<=[0-9])\s*(?:x|×|by|times)\s*(?=[0-9])')


def _whole(digits: str) -> str:
  """A whole number in one spelling, whatever its length: 3 of `03` and 3.0."""
  return digits.lstrip('+').partition('.')[0].lstrip('0') or '0'


def _values(text: str) -> list[str]:
  """The numbers and words of a text in order, rows before columns."""
  text = _TIMES.sub(' ', _MARKS.sub(' ', plain.tidy(text).casefold()))
  for pairs in ([(name, n) for name, n in _NAMED.findall(text)],
                [(name, n) for n, name in _COUNTED.findall(text)]):
    by_name = {name[0]: n for name, n in pairs}
    if len(pairs) == 2 and len(by_name) == 2:
      return [_whole(by_name['r']), _whole(by_name['c'])]
  tokens = re.findall(r'[-+]?[0-9]+(?:\.[0-9]+)?|[^\W\d_]+', text)
  return [_whole(one) if re.fullmatch(r'\+?[0-9]+(?:\.0+)?', one) else one
          for one in tokens if one != 'and']


def values(answer: str, gold: str) -> float:
  """1 for the same values in order: `(5, 6)` and `rows={5} columns={6}`.

  Behind a number that is all of the gold answer may stand words of what is
  counted: `3 paths`.
  """
  right = _values(gold)
  if not right:
    raise Unreadable(f'{gold[:80]!r} holds no value')
  given = _values(answer)
  if len(right) == 1 and right[0][-1].isdigit():
    given = given[:1] + [one for one in given[1:] if not one.isalpha()]
  return float(given == right)


def mmmu(answer: str, gold: str) -> float:
  """1 for any form of the gold: its number, or a text that holds its words."""
  words, given = _words(answer), numeral(answer)
  right = False
  for form in listed(gold):
    number = numeral(form)
    if number is None:
      right |= _holds(words, _words(form)) or plain.texts(answer, form) == 1
    elif given is not None:
      right |= (given.value == number.value or round(given.value, _DECIMALS)
                == round(number.value, _DECIMALS))
  return float(right)


def anls(answer: str, gold: str) -> float:
  """The similarity to the nearest of the gold texts; 0 below one half.

  Both sides are compared in small letters with single spaces (Biten et al.
  2019).
  """
  given = ' '.join(answer.lower().split())
  score = max(edits.similarity(given, ' '.join(one.lower().split()))
              for one in listed(gold))
  return score if score >= ANLS else 0.0


def spoken(kind: str, gold: str) -> str:
  """A gold answer as a reader would write it, for a judge.

  Args:
    kind: the kind without the judge.
    gold: of that kind.
  """
  if kind == 'option':
    of = _fields(gold, 'letter')
    right = _chosen(str(of['letter']), of['options'])
    return (f'{str(of["letter"])}. {of["options"][right]}'
            if right is not None else str(of['letter']))
  if kind == 'nearest':
    return str(_fields(gold, 'answer')['answer'])
  if kind in ('any_text', 'mmmu', 'anls'):
    return ' or '.join(listed(gold))
  return gold
