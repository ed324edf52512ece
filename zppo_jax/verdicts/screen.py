"""What is not looked at: answers too long, too deep or too steep.

A screen reads characters only, in linear time, and gives a reason or ''. An
answer that it refuses is wrong (nobody answers a question with a tower of
powers); a gold answer that it refuses is unreadable, unless the two are the
same text. Limits are far above the answers of the known data sets; what gets
past them and still explodes meets the deadlines of the wall.
"""

import re

MAX_CHARACTERS = 2_000
MAX_DEPTH = 40  # open braces, brackets and parentheses
MAX_DIGITS = 100  # of one number
MAX_EXPONENT_DIGITS = 4  # 2^{9999} has 3,010 digits
MAX_FACTORIAL_DIGITS = 3  # 999! has 2,565 digits
MAX_EXPONENTS = 30
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
     re.compile(rf'{_POWER}{_GROUP}[0-9]+[\s}})\]]*{_POWER}{_GROUP}[0-9]')),
    ('powers of powers',
     re.compile(rf'{_POWER}{_GROUP}[0-9]+[\s}}\]]*\)[\s}})\]]*{_POWER}')),
    (f'a factorial of more than {MAX_FACTORIAL_DIGITS} digits',
     re.compile(rf'[0-9](?:[0-9]|,(?=[0-9])){{{MAX_FACTORIAL_DIGITS}}}\s*!')),
    ('a factorial of an expression',
     re.compile(r'[)\]}!]\s*!(?!=)|factorial|\\Gamma|gamma|zeta')),
)
_OPERATOR = re.compile(r'[-+*/=<>&!]|\\[A-Za-z]+')
_EXPONENT = re.compile(_POWER)
_OPEN, _CLOSE = '{([', '})]'


def too_long(text: str, gold: str = '') -> str:
  """Why an answer is too long for any kind, or ''; one to a long gold answer
  may be twice as long."""
  most = max(MAX_CHARACTERS, 2 * len(gold))
  if len(text) > most:
    return f'{len(text)} characters, more than {most}'
  return ''


def _too_deep(text: str) -> bool:
  depth = 0
  for character in text:
    if character in _OPEN:
      depth += 1
      if depth > MAX_DEPTH:
        return True
    elif character in _CLOSE:
      depth -= 1
  return False


def too_steep(text: str) -> str:
  """Why a formula may not be parsed, or ''."""
  if too_long(text):
    return too_long(text)
  if _too_deep(text):
    return f'more than {MAX_DEPTH} open brackets'
  for reason, pattern in _STEEP:
    if pattern.search(text):
      return reason
  for what, pattern, most in (('exponents', _EXPONENT, MAX_EXPONENTS),
                              ('operators', _OPERATOR, MAX_OPERATORS)):
    count = len(pattern.findall(text))
    if count > most:
      return f'{count} {what}, more than {most}'
  return ''


def undone(text: str) -> bool:
  """Whether sums, integrals or limits are left standing."""
  return bool(_UNDONE.search(text))
