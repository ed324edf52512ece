"""What is not looked at: answers too long, too deep or too steep.

A screen reads characters only, in linear time, and gives a reason or ''. An
answer that it refuses is wrong (nobody answers a question with a tower of
powers); a gold answer that it refuses is unreadable, unless the two are the
same text. Limits are far above the answers of the known data sets; what gets
past them and still explodes meets the deadlines of the sandbox.
"""

import re

MAX_CHARACTERS = 2_000
MAX_DEPTH = 16  # open braces, brackets and parentheses
MAX_DIGITS = 100  # of one number
MAX_EXPONENT_DIGITS = 4  # 2^{9999} has 3,010 digits
MAX_FACTORIAL_DIGITS = 3  # 999! has 2,565 digits
MAX_FACTORIAL = 999  # of a difference of numbers in brackets
MAX_POWER_OF_POWERS = 64  # the product of nested exponents of a number
MAX_POWER_OF_LETTERS = 999  # and of a letter, which is not multiplied out
MAX_EXPONENTS = 30
MAX_TERMS = 3  # of a sum in brackets that is raised to two digits or more
MAX_OPERATORS = 200

_POWER = r'(?:\^|\*\*)'
_GROUP = r'[\s{(\[+-]*'  # may stand between a power sign and its number
# Work that is left to the reader, and to the grader's machine.
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
  """Why an answer is too long for any kind, or ''; one to a long gold answer
  may be twice as long."""
  most = max(MAX_CHARACTERS, 2 * len(gold))
  if len(text) > most:
    return f'{len(text)} characters, more than {most}'
  return ''


class _Bracket:
  """An open bracket.

  Attributes:
    start, end: indices around what it holds.
    power: whether it is an exponent.
    signs: plus and minus signs in it, or in a sum inside that is raised.
    high: the largest product of exponents in it.
  """

  def __init__(self, start: int, power: bool):
    self.start, self.end = start, start
    self.power, self.signs, self.high = power, 0, 1


def _lettered(content: str) -> bool:
  """Whether a formula has letters besides macros."""
  return bool(_VARIABLE.search(_MACRO.sub(' ', content)))


def _steep_factorial(content: str) -> bool:
  """Whether the factorial of what stands in brackets may explode."""
  if difference := _DIFFERENCE.fullmatch(content):  # n!/(n-k)!
    return int(difference[1]) > MAX_FACTORIAL
  return not _lettered(content) or bool(_LARGE.search(content))


def _by_brackets(text: str) -> str:
  """What a look at the brackets refuses, or ''."""
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
  """Why a formula may not be parsed, or ''."""
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
  """How much work a formula looks like, to order jobs by: characters, and more
  for each digit of an exponent and for what grows as fast. No verdict hangs on
  it."""
  steep = sum(len(found[0]) for found in _RAISED_TO.finditer(text))
  return len(text) + 20 * steep + 40 * len(_GROWING.findall(text))


def undone(text: str) -> bool:
  """Whether sums, integrals or limits are left standing."""
  return bool(_UNDONE.search(text))
