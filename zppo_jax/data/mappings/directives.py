r"""Directives of data sets about the form of an answer, which are cut.

The chat's closer asks for thoughts and a box; a row that asks for a line
`Answer: ...` or for a letter alone contradicts it. A directive is cut where a
question begins or ends with it, and nowhere else.
"""

import re

_IN_FRONT = tuple(re.compile(pattern, re.DOTALL) for pattern in (
    # DAPO-Math-17k
    r'Solve the following math problem step by step\.[^\n]{0,300}'
    r'answer to the problem\.',
))
_BEHIND = tuple(re.compile(rf'(?:{pattern})\s*\Z') for pattern in (
    r'Remember to put your answer on its own line after "?Answer:"?\.?',
    # verl's own scripts: GSM8K, MATH, Geometry3K
    r"Let's think step by step and output the final answer [^\n?]{1,80}",
    r'You FIRST think about the reasoning process [^\n?]{1,400}',
    # Eurus-2
    r'Present the answer in LaTe[xX] format: ?\\boxed\{Your answer\}\.?',
    r'(?:Please )?[Rr]eason step by step,? and put your final answer '
    r'(?:within|in|inside) [^\n?]{1,40}',
    # choices
    r"(?:Please )?[Aa]nswer (?:the question )?(?:directly )?(?:with|by|using) "
    r"(?:only )?(?:the )?(?:correct )?(?:option's letter|option letter|"
    r'letter of the (?:correct )?(?:option|choice|answer)|'
    r'letter)[^\n?]{0,80}',
))


def without(text: str) -> str:
  """The text without directives at its ends."""
  text = text.strip()
  for pattern in _IN_FRONT:
    if match := pattern.match(text):
      text = text[match.end():].lstrip()
  while match := next(filter(None, (p.search(text) for p in _BEHIND)), None):
    if not (before := text[:match.start()].rstrip()):
      return text  # nothing but a directive is a question of its own
    text = before
  return text
