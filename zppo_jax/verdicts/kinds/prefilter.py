"""The filter in front of the parser: refuses too long, deep or steep answers.

It reads characters only, in linear time, and returns a reason or ''. A refused
answer is wrong, because nobody answers a question with a tower of powers. A
refused gold answer is unreadable, unless the two are the same text. The limits
are far above the answers of the known data sets. If a formula passes them and
still explodes, the deadlines of the sandbox end it.
"""

import re

MAX_CHARACTERS = 2_000
MAX_DEPTH = 16  # open braces, brackets and parentheses
MAX_DIGITS = 100  # of one number
MAX_EXPONENT_DIGITS = 4  # 2^{9999} has 3,010 digits
MAX_FACTORIAL_DIGITS = 3  # 999! has 2,565 digits
MAX_FACTORIAL = 999  # the first number of a difference in brackets
MAX_POWER_OF_POWERS = 64  # the product of nested exponents of a number
MAX_POWER_OF_LETTERS = 999  # of a letter, which is not multiplied out
MAX_EXPONENTS = 30
MAX_TERMS = 3  # of a sum in brackets that is raised to two digits or more
MAX_OPERATORS = 200

_POWER = r'(?:\^|\*\*)'
_GROUP = r'[\s{(\[+-]*'  # allowed between a power sign and its number
# Operations that an answer leaves to the reader and to the grader.
_UNDONE = re.compile(
    r'\\(?:sum|prod|i{0,3}nt|oint|lim|limsup|liminf|bigcup|bigcap)'
    r'(?![A-Za-z])')
_STEEP = (
    (f'a number of more than {MAX_DIGITS} digits',
     re.compile(rf'[0-9](?:[0-9]|,(?=[0-9])){{{MAX_DIGITS}}}')),
    (f'an exponent of more than {MAX_EXPONENT_DIGITS} digits',
     re.compile(rf'(?:{_POWER}{_GROUP}|[0-9.][eE][+-]?)[0-9]'
                rf'(?:[0-9]|,(?=[0-9])){{{MAX_EXPONENT_DIGITS}}}')),
    ('a tower of powers',
     re.compile(rf'{_POWER}{_GROUP}[0-9]+[\s}}]*{_POWER}{_GROUP}[0-9]')),
    ('a large binomial', re.compile(r'binom[\s{]*[0-9]{5}')),
    (f'a factorial of more than {MAX_FACTORIAL_DIGITS} digits',
     re.compile(rf'[0-9](?:[0-9]|,(?=[0-9])){{{MAX_FACTORIAL_DIGITS}}}\s*!')),
    # The library reads `5!!` as (5!)!.
    ('a factorial of a factorial', re.compile(r'!\s*!(?!=)')),
    ('a function of a large number',
     re.compile(r'(?:\\Gamma|factorial)\s*[({\[][^)]{0,60}(?:'
                rf'[0-9]{{{MAX_FACTORIAL_DIGITS + 1}}}|{_POWER}|!'
                r'|\\Gamma|factorial|\\cdot|\\times|\*)')),
)
_OPERATOR = re.compile(r'[-+*/=<>&!]|\\[A-Za-z]+')
_EXPONENT = re.compile(_POWER)
_RAISED = re.compile(rf'{_POWER}\s*$')
_HIGH = re.compile(rf'[\s}}\])]*{_POWER}{_GROUP}[0-9]{{2}}')
_NUMBER_END = re.compile(r'[0-9][\s}\])]*$')
_NUMBER_POWER = re.compile(rf'{_POWER}{_GROUP}[0-9]')
_RAISED_TO = re.compile(rf'{_POWER}{_GROUP}[0-9]+')
_GROWING = re.compile(r'binom|!|sqrt|frac|sin|cos|tan|log|ln|matrix')
_INTEGER = re.compile(r'[0-9]+')
_DIFFERENCE = re.compile(r'[\s{}]*([0-9]{1,9})(?:\s*-\s*[0-9]+)*[\s{}]*')
_VARIABLE = re.compile(r'[A-Za-z]')
_MACRO = re.compile(r'\\[A-Za-z]+')
_LARGE = re.compile(rf'[0-9]{{{MAX_FACTORIAL_DIGITS + 1}}}|!|'
                    rf'{_POWER}{_GROUP}[0-9]{{2}}|'
                    rf'[0-9][\s}}]{{0,4}}{_POWER}{_GROUP}[0-9]')
_OPEN, _CLOSE = '{([', '})]'


def too_long(text: str, gold: str = '') -> str:
  """The reason why an answer is too long for any kind, or ''.

  An answer may be twice as long as the gold answer.
  """
  most = max(MAX_CHARACTERS, 2 * len(gold))
  if len(text) > most:
    return f'{len(text)} characters, more than {most}'
  return ''


class _Bracket:
  """An open bracket.

  Attributes:
    start, end: the indices around its content.
    power: whether it is an exponent.
    signs: the number of plus and minus signs in it, or in a sum inside it that
      is raised to a power.
    high: the largest product of exponents in it.
  """

  def __init__(self, start: int, power: bool):
    self.start, self.end = start, start
    self.power, self.signs, self.high = power, 0, 1


def _lettered(content: str) -> bool:
  """Whether a formula has letters besides macros."""
  return bool(_VARIABLE.search(_MACRO.sub(' ', content)))


def _steep_factorial(content: str) -> bool:
  """Whether the factorial of the content of brackets may explode."""
  if difference := _DIFFERENCE.fullmatch(content):  # n!/(n-k)!
    return int(difference[1]) > MAX_FACTORIAL
  return not _lettered(content) or bool(_LARGE.search(content))


def _by_brackets(text: str) -> str:
  """The reason why the brackets of a text are refused, or ''."""
  opened = [_Bracket(0, False)]
  exponents = 0  # open brackets that are exponents
  closed = None  # the bracket that closes just before
  for i, character in enumerate(text):
    if character in _OPEN:
      power = bool(_RAISED.search(text, max(0, i - 8), i))
      opened.append(_Bracket(i + 1, power))
      exponents += power
      closed = None
      if len(opened) > MAX_DEPTH + 1:
        return f'more than {MAX_DEPTH} open brackets'
    elif character in _CLOSE:
      if len(opened) == 1:
        continue
      closed = opened.pop()
      closed.end = i
      exponents -= closed.power
      parent = opened[-1]
      parent.high = max(parent.high, closed.high)
      if closed.signs >= MAX_TERMS and _HIGH.match(text, i + 1):
        return f'a high power of more than {MAX_TERMS} terms'
    elif character in '+-':
      opened[-1].signs += 1
      closed = None
    elif character in '^*':
      raised = _NUMBER_POWER.match(text, i)
      if raised and exponents and _NUMBER_END.search(text, max(0, i - 8), i):
        return 'a tower of powers'
      if raised:
        base = closed if closed and not closed.power else None
        digits = _INTEGER.search(text, raised.end() - 1)
        assert digits is not None  # _NUMBER_POWER ends with a digit
        exponent = int(digits[0][:9])
        high = exponent * (base.high if base else 1)
        if base and base.high > 1 and high > (
            MAX_POWER_OF_LETTERS if _lettered(text[base.start:base.end])
            else MAX_POWER_OF_POWERS):
          return 'powers of powers'
        if base and base.signs >= MAX_TERMS:
          if high >= 10:
            return f'a high power of more than {MAX_TERMS} terms'
          opened[-1].signs = max(opened[-1].signs, base.signs)
        opened[-1].high = max(opened[-1].high, high)
      closed = None
    elif character == '!':
      if closed and text[i + 1:i + 2] != '=' and _steep_factorial(
          text[closed.start:closed.end]):
        return 'a factorial of an expression'
      closed = None
    elif not character.isspace():
      closed = None
  return ''


def too_steep(text: str) -> str:
  """The reason why a formula may not be parsed, or ''."""
  if too_long(text):
    return too_long(text)
  if reason := _by_brackets(text):
    return reason
  for reason, pattern in _STEEP:
    if pattern.search(text):
      return reason
  for what, pattern, most in (('exponents', _EXPONENT, MAX_EXPONENTS),
                              ('operators', _OPERATOR, MAX_OPERATORS)):
    count = len(pattern.findall(text))
    if count > most:
      return f'{count} {what}, more than {most}'
  return ''


def effort(text: str) -> int:
  """An estimate of the work for a formula, which orders the jobs.

  It counts characters, and more for each digit of an exponent and for functions
  that grow as fast. It changes no verdict.
  """
  steep = sum(len(power[0]) for power in _RAISED_TO.finditer(text))
  return len(text) + 20 * steep + 40 * len(_GROWING.findall(text))


def undone(text: str) -> bool:
  """Whether a text holds sums, integrals or limits that are not computed."""
  return bool(_UNDONE.search(text))
