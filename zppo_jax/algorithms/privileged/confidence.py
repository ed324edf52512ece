"""Stated confidences, and what they should have been. (CaOPD, 2604.16830.)

A response that ends in 'Confidence: 0.9' claims how often it is right. CaOPD
replaces this one segment, in what the teacher reads, by how often the student
really is right on the question; all else stays as it was written.
"""

import re

from zppo_jax import allowed

# 'Confidence: 0.9', 'confidence is 90%', '**Confidence** = 90 %'.
STATED = re.compile(
    r'(?P<before>\bconfidence\b[*_]{0,2}\s{0,4}(?:(?:[:=]|is|of)[*_]{0,2}'
    r'\s{0,4})?)'
    r'(?P<number>\d{1,3}(?:\.\d{1,6})?)(?P<percent>\s?%)?', re.IGNORECASE)


def stated(text: str) -> float | None:
  """The confidence that a text states last, within [0, 1]; None without one,
  or if it is beyond 100 %."""
  found = list(STATED.finditer(text))
  return _value(found[-1]) if found else None


def _value(of: re.Match) -> float | None:
  number = float(of['number'])
  value = number / 100 if of['percent'] or number > 1 else number
  return value if value <= 1 else None


def restated(text: str, rate: float) -> str:
  """The text with each stated confidence replaced by a rate, in the form of the
  text: '90%' becomes '38%', '0.9' becomes '0.38', and '90' becomes '38'.

  Args:
    text: a response.
    rate: the share of rollouts that are right, within [0, 1].
  """
  allowed.number('the success rate', rate, '[0, 1]')
  def replaced(of: re.Match) -> str:
    hundredth = of['percent'] or float(of['number']) > 1
    number = f'{100 * rate:.0f}' if hundredth else f'{rate:.2f}'
    return f'{of["before"]}{number}{of["percent"] or ""}'
  return STATED.sub(replaced, text)
