r"""The last `\boxed{}` of a response, in one pass over the text.

An escaped brace (`\{`) is a character, not a brace. A box that never closes is
no box: the last one that does counts. A box that holds nothing but a box is
opened. Without braces (`\boxed 5`) the next word is taken, which is what
models mean by it, though TeX would take one token.
"""

import re

# A box behind two backslashes was escaped once too often.
_TOKEN = re.compile(
    r'\\{1,2}(?:boxed|fbox)(?![A-Za-z])\s*\{?|\\.|[{}]', re.DOTALL)
_WORD = re.compile(r'(?:[^\s${}\\]++|\\[A-Za-z]++|\\.|\{[^{}]*+\})++')
_SPACE = re.compile(r'\s*')
# A minus behind a digit, letter or bracket is a difference, not a sign.
_NUMBER = re.compile(
    r'(?:(?<![\w)\]}])[-\u2212])?(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?'
    r'|\.[0-9]+)')


def _filled(text: str, box: tuple[int, int], found: tuple[int, ...] | None,
            end: int) -> bool:
  """Whether a box that ends at `end` holds `found` and nothing else."""
  space = _SPACE.match(text, box[1])
  return (found is not None and space is not None and space.end() == found[0]
          and not text[_read(text, found)[1]:end].strip())


def _read(text: str, found: tuple[int, ...]) -> tuple[int, ...]:
  """A found box with the word that one without braces holds.

  The word is read only where it is needed, because words of boxes in a row
  overlap: each would be read to the end of the text.
  """
  if len(found) == 4:
    return found
  start, inside = found
  word = _WORD.match(text, inside)
  return (start, word.end() if word else inside, inside,
          word.end() if word else inside)


def last(text: str) -> str:
  """Content of the last closed box, stripped; '' if there is none.

  Linear in the length of the text: it is called on whatever a model said.
  """
  # (start of its macro, end of the box, content's start, end), or, without
  # braces, (start of its macro, where its word begins).
  found: tuple[int, ...] | None = None
  opened: list[tuple[int, int] | None] = []  # of each open brace
  for token in _TOKEN.finditer(text):
    piece = token[0]
    if piece == '{':
      opened.append(None)
    elif piece == '}':
      box = opened.pop() if opened else None
      if box is None:
        continue
      content = (_read(text, found)[2:]
                 if found and _filled(text, box, found, token.start())
                 else (box[1], token.start()))
      found = (box[0], token.end(), *content)
    elif piece.lstrip('\\').startswith(('boxed', 'fbox')):
      if piece.endswith('{'):
        opened.append((token.start(), token.end()))
      elif _WORD.match(text, token.end(), token.end() + 2):
        found = (token.start(), token.end())
  if found is None:
    return ''
  _, _, start, end = _read(text, found)
  return text[start:end].strip()


def last_or_number(text: str) -> str:
  """Content of the last closed box, or the last number of a text without one.

  For small models that seldom write a box; '' if there is no number either.
  """
  found = last(text)
  if found:
    return found
  numbers = _NUMBER.findall(text)
  return numbers[-1].replace('\u2212', '-') if numbers else ''


def balanced(text: str) -> bool:
  """Whether a text's braces match, so that it stays inside a box."""
  depth = 0
  for token in _TOKEN.finditer(text):
    depth += token[0].endswith('{') and token[0] != '\\{'
    depth -= token[0] == '}'
    if depth < 0:
      return False
  # A lone backslash at the end would escape the brace that closes the box.
  return depth == 0 and (len(text) - len(text.rstrip('\\'))) % 2 == 0
