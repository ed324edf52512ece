r"""The zero-spoiler filter: a hint may help, and may not tell the answer.

`spoiler` says why a hint is rejected. It compares by the spellings that the
verdicts know (`verdicts.kinds`): NFKC, raised digits, LaTeX, thousands, powers
of ten, fractions. English words of numbers and digits of other scripts are
read too. A paraphrase of an answer is not recognised, and none is claimed.

The filter is strict where it has to choose: a hint with the number 3 is
rejected for the answer 3, whatever the 3 counts.
"""

import enum
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

from zppo_jax.verdicts.kinds import boxed, numerals, plain, spelling
from zppo_jax.verdicts.kinds.numerals import Numeral

MAX_CHARACTERS = 2048
# Answers of fewer characters are looked for as words and numbers alone, because
# `3` is a part of every second number.
MIN_PART = 3
_LONGEST = 64  # characters of a number in words or digits


class Spoiler(enum.IntEnum):
  """Why a hint is rejected, or why there is none."""
  MISSING = 0  # none came, or none is stored with the question
  OVER_CAP = 1  # the token cap cut it
  EMPTY = 2  # it has no words
  LONG = 3  # it has more than MAX_CHARACTERS characters
  BOX = 4  # it has a box
  ANSWER = 5  # it holds the answer's words
  NUMBER = 6  # it holds the answer's number, in whatever spelling
  LETTER = 7  # it names the answer's option
  UNFINISHED = 8  # it breaks off inside its thoughts


_BOX = re.compile(r'\\+\s*f?boxed|\bf?boxed\s*\{', re.IGNORECASE)
_NAMED = re.compile(  # `x = 5`
    r'^\s*\$?\s*\\?[A-Za-z]{1,10}(?:_\{?\w{1,10}\}?)?\s*(?:=|≈|\\approx)\s*')
_DIGITS = r'(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?|\.[0-9]+)'
_TEN = (r'(?:\s*(?:\\times|\\cdot|\*|x|×|·)\s*10\s*(?:\^|\*\*)\s*'
        r'[{(]?\s*[+-]?\s*[0-9]{1,3}\s*[})]?)')
# From the longest form to the shortest; `_readings` looks at every start.
_FORMS = tuple(re.compile(form) for form in (
    r'(?:[0-9]+\s*)?\\[dtc]?frac\s*(?:\{\s*-?\s*[0-9.,]+\s*\}|[0-9])\s*'
    r'(?:\{\s*[0-9.,]+\s*\}|[0-9])',
    r'10\s*(?:\^|\*\*)\s*[{(]?\s*[+-]?\s*[0-9]{1,3}\s*[})]?',
    rf'{_DIGITS}{_TEN}',
    rf'{_DIGITS}[eE][+-]?[0-9]{{1,3}}(?![0-9])',
    rf'[0-9]+ {_DIGITS}\s*/\s*{_DIGITS}',
    rf'{_DIGITS}\s*/\s*{_DIGITS}',
    r'[0-9]{1,3}(?: [0-9]{3})+(?![0-9])(?:\.[0-9]+)?',
    r'[0-9]{0,30}\.[0-9]{0,30}(?:\\(?:overline|bar|dot)\s*\{?\s*[0-9]{1,30}'
    r'\s*\}?|\([0-9]{1,30}\))',
    rf'{_DIGITS}', r'[0-9]+(?:\.[0-9]+)?'))
_START = re.compile(r'(?<![0-9])(?<![0-9][.,])(?=[0-9]|\.[0-9]|\\[dtc]?frac)')
_SPACED_LIST = re.compile(r'[0-9]{1,9}(?: [0-9]{1,9})+')  # `1 5 9`
_SIGN = re.compile(r'(?:[-+]|\b(?:minus|negative))\s*$', re.IGNORECASE)

_ONES = ('zero one two three four five six seven eight nine ten eleven twelve '
         'thirteen fourteen fifteen sixteen seventeen eighteen nineteen'
         ).split()
_TENS = 'twenty thirty forty fifty sixty seventy eighty ninety'.split()
_WORDS = {word: i for i, word in enumerate(_ONES)} | {
    word: 10 * i for i, word in enumerate(_TENS, 2)}
_SCALES = {'hundred': 100, 'thousand': 1000, 'million': 10**6,
           'billion': 10**9}
_SPELT = re.compile(
    r'\b(?:' + '|'.join((*_WORDS, *_SCALES)) + r')\b'
    r'(?:(?:[\s-]+(?:and[\s-]+)?)(?:' + '|'.join((*_WORDS, *_SCALES))
    + r')\b){0,12}', re.IGNORECASE)


def _visible(text: str) -> str:
  """The text in one spelling: NFKC, ASCII digits, no invisible characters."""
  text = ''.join(
      character for character in text
      if unicodedata.category(character) not in ('Cf', 'Mn')
      or character in '\u0305')
  text = ''.join(
      str(unicodedata.decimal(character)) if (
          not character.isascii()
          and unicodedata.decimal(character, None) is not None
          and unicodedata.normalize('NFKC', character) == character)
      else character for character in text)
  return spelling.tidy(spelling.characters(text))


def _readings(text: str) -> Iterator[list[Numeral]]:
  """For each place where a text spells a number, all numbers that it may be,
  with and without the sign before it."""
  places = [(start.end(), [numerals.numeral(found[0]) for form in _FORMS
                           if (found := form.match(
                               text, start.end(), start.end() + _LONGEST))])
            for start in _START.finditer(text)]
  places += [(found.start(), list(_spelt(found[0])))
             for found in _SPELT.finditer(text)]
  for at, read in places:
    numbers = [number for number in read if number is not None]
    if _SIGN.search(text, max(0, at - 12), at):
      numbers += [number.times(Fraction(-1)) for number in numbers]
    yield numbers


def _spelt(words: str) -> Iterator[Numeral]:
  """The number of English words, and of each word alone."""
  parts = [w for w in re.split(r'[\s-]+', words.lower()) if w != 'and']
  total = current = 0
  for word in parts:
    if word in _WORDS:
      current += _WORDS[word]
      yield _whole(_WORDS[word])
    elif _SCALES[word] == 100:
      current = max(current, 1) * 100
    else:
      total += max(current, 1) * _SCALES[word]
      current = 0
  yield _whole(total + current)


def _whole(value: int) -> Numeral:
  read = numerals.numeral(str(value))
  assert read is not None  # a whole number is read
  return read


def _values(answer: str) -> list[Numeral]:
  """The numbers that an answer is: itself, or its members if all are."""
  text = _NAMED.sub('', answer)
  for one in (answer, text, plain.without_marks(text)):
    number = numerals.numeral(one)
    if number is not None:
      return [number]
  if _SPACED_LIST.fullmatch(text.strip()):
    return [_whole(int(word)) for word in text.split()]
  members = plain.members(text, bare=True)
  read = [numerals.numeral(str(m)) for m in members]
  return [r for r in read if r is not None] if members and all(
      r is not None for r in read) else []


def _spells(text: str, values: list[Numeral]) -> bool:
  """Whether a text spells all values, each as often as it is there."""
  places = list(_readings(text))
  return all(
      sum(any(numerals.close(number, value) for number in place)
          for place in places) >= count
      for value, count in Counter(values).items())


def _squeezed(text: str) -> str:
  """The text to compare: one case, no spaces, braces or marks around it."""
  return re.sub(r'[\s{}$]+', '', plain.plain_text(text))


def _has_word(text: str, words: str) -> bool:
  return bool(words) and re.search(
      rf'(?<![^\W_]){re.escape(words)}(?![^\W_])', text) is not None


def _names_letter(text: str, letter: str) -> bool:
  """Whether a text names an option: `B`, `(b)`, `b)`, `option b`. The article
  `a` is no option."""
  alone = rf'(?<![^\W_]){letter}(?![^\W_])'
  if re.search(rf'(?<![^\W_]){letter.upper()}(?![^\W_])', text):
    return True
  if letter != 'a':
    return re.search(alone, text) is not None
  return re.search(
      rf'[(\[]\s*a\s*[)\]]|{alone}\s*[)\].:]|'
      rf'\b(?:option|answer|choice|letter)s?(?:\s+is)?:?\s*{alone}',
      text, re.IGNORECASE) is not None


def _holds_words(text: str, answer: str) -> bool:
  """Whether a text holds the words of an answer, or of the value behind `=`."""
  shown, squeezed = plain.plain_text(text), _squeezed(text)
  for form in {answer, _NAMED.sub('', answer)}:
    words, part = plain.plain_text(form), _squeezed(form)
    if _has_word(shown, words) or (
        len(part) >= MIN_PART and part in squeezed):
      return True
  return False


def spoiler(hint: str, answer: str,
            max_characters: int = MAX_CHARACTERS) -> Spoiler | None:
  r"""Why a hint may not be shown, or None if it may.

  Args:
    hint: the hint.
    answer: the gold answer of its question.
    max_characters: the most characters of a hint.

  Returns:
    EMPTY, LONG, BOX; NUMBER if the hint spells the number that the answer is,
    or all numbers of a list; LETTER if it names the option that the answer is;
    ANSWER if it holds the answer as words, or as a part if that has at least
    MIN_PART characters without its spaces.
  """
  if not hint.strip():
    return Spoiler.EMPTY
  if len(hint) > max_characters:
    return Spoiler.LONG
  if _BOX.search(spelling.characters(hint)) or boxed.last(hint):
    return Spoiler.BOX
  text, gold = _visible(hint), _visible(answer)
  if not text:
    return Spoiler.EMPTY
  values = _values(gold) or _values(answer)
  if values and _spells(text, values):
    return Spoiler.NUMBER
  letter = plain.choice(gold)
  if letter and _names_letter(text, letter):
    return Spoiler.LETTER
  # `B. 12` is told by its text too.
  behind = re.sub(r'^[(\[]?[A-Za-z][)\]]?[.:)]?\s+', '', gold)
  if not letter or len(plain.plain_text(gold)) > 1:
    forms = {gold} | ({behind} if letter and behind != gold else set())
    if any(_holds_words(text, form) for form in forms):
      return Spoiler.ANSWER
  return None


def spoiler_free(hint: str, answer: str) -> bool:
  """Whether a hint tells nothing of the answer (see `spoiler`)."""
  return spoiler(hint, answer) is None
