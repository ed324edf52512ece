"""Kinds of equality that need no library: numbers, choices, text, sets, units.

Each is a function (answer, gold) -> score in [0, 1] that raises `Unreadable`
where the gold answer is none of its kind. All are linear in their input, which
`screen.too_long` bounds.
"""

import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction


class Unreadable(ValueError):
  """A gold answer that is not of its question's kind."""


# Numbers are equal within whichever of the two is larger.
RELATIVE = Fraction(1, 10**6)
ABSOLUTE = Fraction(1, 10**9)
RELAXED = Fraction(5, 100)  # ChartQA's "relaxed accuracy"

_NUMBER = r'(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]*)?|\.[0-9]+)'
_PLAIN = re.compile(rf'([+-]?)\s*({_NUMBER})(?:[eE]([+-]?[0-9]{{1,3}}))?')
_TIMES_TEN = re.compile(
    rf'([+-]?)\s*({_NUMBER})\s*(?:\\times|\\cdot|\*|x|×|·)\s*10\s*\^\s*'
    r'\{?\s*([+-]?[0-9]{1,3})\s*\}?')
_SLASH = re.compile(rf'([+-]?)\s*({_NUMBER})\s*/\s*({_NUMBER})')
_FRAC = re.compile(
    rf'([+-]?)\s*([0-9]*)\s*\\[dtc]?frac\s*\{{\s*(-?{_NUMBER})\s*\}}\s*'
    rf'\{{\s*({_NUMBER})\s*\}}')
_WORDS = re.compile(
    r'\\(?:text|mathrm|textbf|mathbf|mathit|textrm|operatorname|mbox)\s*'
    r'\{([^{}]*)\}')
_THOUSANDS = re.compile(r'(?<=[0-9])(?:\\[,;:! ]|\{,\}|~)(?=[0-9]{3}(?![0-9]))')
_DRESS = re.compile(  # changes nothing about a value
    r'\\[,;:! ]|\\(?:left|right|displaystyle|quad|qquad)(?![A-Za-z])')
_WRAPPED = re.compile(r'[\s$]*\{?([^{}]*)\}?[\s$.]*')
_MARKS = re.compile(  # the paper's retry: degrees and percent
    r'\^\s*\{?\s*\\circ\s*\}?|\\circ(?![A-Za-z])|\\degree(?![A-Za-z])|°|º|'
    r'\\?%|(?i:\bdegrees?\b|\bpercent\b)')


def tidy(text: str) -> str:
  """One spelling of what looks the same: width, dress, dollar signs, spaces."""
  text = unicodedata.normalize('NFKC', text).replace('−', '-')
  text = _WORDS.sub(r' \1 ', _THOUSANDS.sub('', text))
  text = _DRESS.sub(' ', text).replace('\\$', ' ').replace('$', ' ')
  return re.sub(r'\s+', ' ', text).strip()


def without_marks(text: str) -> str:
  """Degree and percent marks stripped."""
  return _MARKS.sub(' ', text).strip()


def retried(mark: Callable[[str, str], float]) -> Callable[[str, str], float]:
  """A kind that, if not right at once, strips degree and percent marks from
  both sides and tries once more (papers.md: 1.6)."""

  def again(answer: str, gold: str) -> float:
    bare_answer, bare_gold = without_marks(answer), without_marks(gold)
    changed = (bare_answer, bare_gold) != (answer, gold)
    try:
      first = mark(answer, gold)
    except Unreadable:
      if not changed:
        raise
      return mark(bare_answer, bare_gold)
    if first >= 1 or not changed:
      return first
    try:
      return max(first, mark(bare_answer, bare_gold))
    except Unreadable:  # nothing but marks
      return first

  return again


def _value(digits: str) -> Fraction:
  return Fraction(digits.replace(',', '').rstrip('.') or '0')


def number(text: str) -> Fraction | None:
  """The number that a text is, or None.

  Reads signs, thousands commas, decimals, exponents of at most three digits,
  a/b, \\frac (mixed too) and a \\times 10^n; ASCII digits after NFKC.
  """
  text = _WRAPPED.sub(r'\1', tidy(text)).strip() if '\\' not in text else (
      tidy(text).strip('. '))
  if m := _PLAIN.fullmatch(text):
    sign, digits, power = m.groups()
    value = _value(digits) * Fraction(10) ** int(power or 0)
  elif m := _TIMES_TEN.fullmatch(text):
    sign, digits, power = m.groups()
    value = _value(digits) * Fraction(10) ** int(power)
  elif m := _SLASH.fullmatch(text):
    sign, over, under = m.groups()
    if not _value(under):
      return None
    value = _value(over) / _value(under)
  elif m := _FRAC.fullmatch(text):
    sign, whole, over, under = m.groups()
    if not _value(under):
      return None
    value = _value(over.lstrip('-')) / _value(under)
    value = int(whole or 0) + (-value if over.startswith('-') else value)
  else:
    return None
  return -value if sign == '-' else value


def close(a: Fraction, b: Fraction, relative: Fraction = RELATIVE) -> bool:
  """|a - b| <= max(relative * |b|, ABSOLUTE); b is the gold number."""
  return abs(a - b) <= max(relative * abs(b), ABSOLUTE)


def numbers(answer: str, gold: str, relative: Fraction = RELATIVE) -> float:
  """Numbers within a relative tolerance; see `retried` for marks."""

  def mark(answer, gold):
    right = number(gold)
    if right is None:
      raise Unreadable(f'{gold[:80]!r} is not a number')
    given = number(answer)
    return float(given is not None and close(given, right, relative))

  return retried(mark)(answer, gold)


def relaxed_numbers(answer: str, gold: str) -> float:
  """Numbers within 5 %, or the same text where the gold is no number."""
  if number(without_marks(gold)) is None:
    return texts(answer, gold)
  return numbers(answer, gold, RELAXED)


def plain_text(text: str) -> str:
  """A text as it is compared: tidy, without braces, case, outer marks."""
  text = tidy(text).replace('{', '').replace('}', '').casefold()
  return re.sub(r'\s+', ' ', text).strip(' .\'"`*_')


def texts(answer: str, gold: str) -> float:
  """The same text after `plain_text`."""
  right = plain_text(gold)
  if not right:
    raise Unreadable(f'{gold[:80]!r} is an empty text')
  return float(plain_text(answer) == right)


_CHOICE = re.compile(
    r'(?:the )?(?:(?:correct )?(?:answer|option|choice)(?: is)?:? )?'
    r'\(?([a-z])\)?(?:[.:)](?: .*)?|)', re.DOTALL)


def choice(text: str) -> str:
  """The letter that a text chooses, or ''. `A dog` chooses none."""
  found = _CHOICE.fullmatch(plain_text(text))
  # "(b) 12" has no further mark behind its letter.
  found = found or re.fullmatch(r'\(([a-z])\) .*', plain_text(text),
                                re.DOTALL)
  return found[1] if found else ''


def choices(answer: str, gold: str) -> float:
  """The same letter: `B`, `(b)`, `B. 12`, `\\text{B}`, `Option B`."""
  right = choice(gold)
  if not right:
    raise Unreadable(f'{gold[:80]!r} is not the letter of a choice')
  return float(choice(answer) == right)


_OUTER = re.compile(r'(?:\\\{|[\[({])(.*)(?:\\\}|[\])}])', re.DOTALL)
_BETWEEN = re.compile(r',(?![0-9]{3}(?![0-9]))|;|\band\b')


def members(text: str) -> frozenset:
  """The set of values and texts that a list spells; brackets are optional.

  Commas, semicolons and `and` separate; `1,000` is one number.
  """
  text = tidy(text)
  outer = _OUTER.fullmatch(text)
  parts = _BETWEEN.split(outer[1] if outer else text)
  found = set()
  for part in parts:
    value = number(part)
    name = plain_text(part)
    if value is not None:
      found.add(value)
    elif name:
      found.add(name)
  return frozenset(found)


def sets(answer: str, gold: str) -> float:
  """The same members, in any order and number; numbers by exact value."""
  right = members(gold)
  if not right:
    raise Unreadable(f'{gold[:80]!r} has no members')
  return float(members(answer) == right)


# unit -> (dimension, factor to its base)
UNITS = {
    name: (dimension, Fraction(factor))
    for dimension, table in {
        'length': {'m': '1', 'km': '1000', 'dm': '1/10', 'cm': '1/100',
                   'mm': '1/1000', 'in': '0.0254', 'ft': '0.3048',
                   'yd': '0.9144', 'mi': '1609.344', 'metre': '1',
                   'meter': '1', 'kilometre': '1000', 'kilometer': '1000',
                   'centimetre': '1/100', 'centimeter': '1/100',
                   'inch': '0.0254', 'inche': '0.0254', 'foot': '0.3048',
                   'feet': '0.3048', 'yard': '0.9144', 'mile': '1609.344'},
        'area': {'m^2': '1', 'cm^2': '1/10000', 'mm^2': '1/1000000',
                 'km^2': '1000000', 'ha': '10000', 'in^2': '0.00064516',
                 'ft^2': '0.09290304'},
        'volume': {'m^3': '1', 'cm^3': '1/1000000', 'dm^3': '1/1000',
                   'l': '1/1000', 'ml': '1/1000000', 'litre': '1/1000',
                   'liter': '1/1000'},
        'mass': {'kg': '1', 'g': '1/1000', 'mg': '1/1000000', 't': '1000',
                 'lb': '0.45359237', 'kilogram': '1', 'gram': '1/1000',
                 'pound': '0.45359237'},
        'time': {'s': '1', 'ms': '1/1000', 'min': '60', 'h': '3600',
                 'second': '1', 'minute': '60', 'hour': '3600',
                 'day': '86400', 'week': '604800', 'hr': '3600',
                 'sec': '1'},
        'speed': {'m/s': '1', 'km/h': '5/18', 'mph': '0.44704'},
        'acceleration': {'m/s^2': '1'},
        'energy': {'J': '1', 'kJ': '1000', 'kWh': '3600000', 'joule': '1'},
        'power': {'W': '1', 'kW': '1000', 'watt': '1'},
        'force': {'N': '1', 'kN': '1000', 'newton': '1'},
        'angle': {'°': '1', 'deg': '1', 'degree': '1'},
        'share': {'%': '1', 'percent': '1'},
        'current': {'A': '1', 'mA': '1/1000'},
        'voltage': {'V': '1', 'kV': '1000', 'mV': '1/1000'},
        'resistance': {'Ω': '1', 'kΩ': '1000', 'ohm': '1'},
        'pressure': {'Pa': '1', 'kPa': '1000'},
        'frequency': {'Hz': '1', 'kHz': '1000'},
    }.items() for name, factor in table.items()}
_MEASURE = re.compile(rf'([+-]?\s*{_NUMBER}(?:[eE][+-]?[0-9]{{1,3}})?'
                      rf'(?:\s*/\s*{_NUMBER})?)\s*(.*)', re.DOTALL)


def measure(text: str) -> tuple[Fraction, str] | None:
  """(value, unit as written, '' without one) of a quantity, or None."""
  text = tidy(text).replace('{', '').replace('}', '')
  text = re.sub(r'\^ ?\\circ|\\circ|\\degree', '°', text).replace('\\%', '%')
  text = text.replace('\\Omega', 'Ω').replace('\\', ' ').strip(' .')
  found = _MEASURE.fullmatch(text)
  if not found:
    return None
  value = number(found[1])
  unit = re.sub(r'\s*([/^])\s*', r'\1', found[2].strip())
  return None if value is None else (value, unit)


def _base(value: Fraction, unit: str) -> tuple[Fraction, str]:
  """In the base unit of its dimension; an unknown unit is its own."""
  for name in (unit, unit.lower(), unit.lower().removesuffix('s')):
    if name in UNITS:
      dimension, factor = UNITS[name]
      return value * factor, dimension
  return value, unit.lower()


def quantities(answer: str, gold: str) -> float:
  """The same quantity: `5 km` is `5000 m`. A bare number is taken to be in
  the gold's unit, since questions name it."""
  right = measure(gold)
  if right is None:
    raise Unreadable(f'{gold[:80]!r} is not a number with a unit')
  given = measure(answer)
  if given is None:
    return 0.0
  if not given[1]:
    return float(close(given[0], right[0]))
  (a, here), (b, there) = _base(*given), _base(*right)
  return float(here == there and close(a, b))
