"""Texts with placeholders: `{{question}}` stands for a question.

Braces stand for themselves everywhere else, because prompts are full of LaTeX:
`\\boxed{}`, and `\\boxed{{{answer}}}` is a box around a placeholder.
"""

import difflib
import re
from collections.abc import Sequence

from zppo_jax import allowed
from zppo_jax.chat.segments import Slot

_SLOT = re.compile(r'\{\{\s*(\w+)\s*\}\}')
_TAG = re.compile(r'<(/?)([a-z]+)>')


def shown(names: Sequence[str]) -> str:
  """Placeholders as they are written, e.g. '{{question}}, {{closing}}'."""
  return ', '.join(f'{{{{{name}}}}}' for name in names) or 'none'


def split(text: str, field: str, needs: Sequence[str],
          may: Sequence[str] = ()) -> tuple[str | Slot, ...]:
  """The pieces of a text; no two words stand side by side.

  Args:
    text: what the user wrote.
    field: its field, for errors, e.g. 'prompts.plain'.
    needs: the placeholders that must be there, once each.
    may: those that may be there, once each.

  Raises:
    ValueError: for a value that is no text, and an unknown, missing or repeated
      placeholder, naming the field, the placeholder and what is allowed.
  """
  if not isinstance(text, str):
    raise ValueError(f'{field} is {text!r}; allowed: a text')
  allowed.text(field, text)
  takes = (*needs, *may)
  words = _SLOT.split(text)  # words and names of placeholders, by turns
  pieces = tuple(Slot(word) if i % 2 else word
                 for i, word in enumerate(words) if word)
  names = words[1::2]
  for name in names:
    if name not in takes:
      close = difflib.get_close_matches(name, takes, 1)
      hint = f' Did you mean {shown(close)}?' if close else ''
      raise ValueError(
          f'{field} has the unknown placeholder {shown([name])}; allowed: '
          f'{shown(takes)}.{hint} Braces that stand for themselves are single')
    if names.count(name) > 1:
      raise ValueError(f'{field} has {shown([name])} {names.count(name)} times;'
                       ' allowed: once')
  missing = [name for name in needs if name not in names]
  if missing:
    raise ValueError(f'{field} lacks {shown(missing)}; it is {text!r}')
  return pieces


def around(pieces: Sequence[str | Slot], name: str) -> tuple[str, str]:
  """The words before and behind the only placeholder of a text."""
  at = pieces.index(Slot(name))
  text = lambda words: ''.join(w for w in words if isinstance(w, str))
  return text(pieces[:at]), text(pieces[at + 1:])


def tag(before: str, after: str) -> str:
  """The name of the tags that stand around a placeholder, '' without them."""
  opened = _TAG.findall(before)
  closed = _TAG.findall(after)
  if opened and closed and not opened[-1][0] and closed[0][0] and (
      opened[-1][1] == closed[0][1]):
    return opened[-1][1]
  return ''
