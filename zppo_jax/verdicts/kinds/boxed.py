r"""The last `\boxed{}` of a response, in one pass over the text.

An escaped brace (`\{`) is a character, not a brace. The last box that closes
counts. If a box holds nothing but a box, the inner one counts. Without braces
(`\boxed 5`), the box holds the next word, because models mean that, though TeX
would take one token.
"""

import re

# A box behind two backslashes was escaped twice, and it counts.
_TOKEN = re.compile(
    r'\\{1,2}(?:boxed|fbox)(?![A-Za-z])\s*\{?|\\.|[{}]', re.DOTALL)
_ESCAPED = re.compile(r'\\.', re.DOTALL)
_BRACE = re.compile(r'[{}]')
_WORD = re.compile(r'(?:[^\s${}\\]++|\\[A-Za-z]++|\\.|\{[^{}]*+\})++')
_SPACE = re.compile(r'\s*')
# A minus behind a digit, letter or bracket is a difference, not a sign.
_NUMBER = re.compile(
    r'(?:(?<![\w)\]}])[-\u2212])?(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?'
    r'|\.[0-9]+)')


def _filled(text: str, box: tuple[int, int], inner: tuple[int, ...] | None,
            end: int) -> bool:
  """Whether a box that ends at `end` holds `inner` and nothing else."""
  space = _SPACE.match(text, box[1])
  return (inner is not None and space is not None and space.end() == inner[0]
          and not text[_read(text, inner)[1]:end].strip())


def _read(text: str, macro: tuple[int, ...]) -> tuple[int, ...]:
  """A box, with the word of a box that has no braces.

  The word is read only if it is needed, because the words of boxes in a row
  overlap: each would be read to the end of the text.
  """
  if len(macro) == 4:
    return macro
  start, inside = macro
  word = _WORD.match(text, inside)
  return (start, word.end() if word else inside, inside,
          word.end() if word else inside)


def last(text: str) -> str:
  """The content of the last closed box, stripped; '' if there is none.

  The time is linear in the length of the text, because a model may write any
  text.
  """
  if 'box' not in text:  # neither macro is there, and nothing is scanned
    return ''
  # (start of the macro, end of the box, start and end of the content); for a
  # box without braces (start of the macro, start of its word).
  latest: tuple[int, ...] | None = None
  opened: list[tuple[int, int] | None] = []  # of each open brace
  for token in _TOKEN.finditer(text):
    piece = token[0]
    if piece == '{':
      opened.append(None)
    elif piece == '}':
      box = opened.pop() if opened else None
      if box is None:
        continue
      content = (_read(text, latest)[2:]
                 if latest and _filled(text, box, latest, token.start())
                 else (box[1], token.start()))
      latest = (box[0], token.end(), *content)
    elif piece.lstrip('\\').startswith(('boxed', 'fbox')):
      if piece.endswith('{'):
        opened.append((token.start(), token.end()))
      elif _WORD.match(text, token.end(), token.end() + 2):
        latest = (token.start(), token.end())
  if latest is None:
    return ''
  _, _, start, end = _read(text, latest)
  return text[start:end].strip()


def last_or_number(text: str) -> str:
  """The content of the last closed box, or the last number without a box.

  It is for small models, which seldom write a box. It is '' if there is no
  number either.
  """
  content = last(text)
  if content:
    return content
  numbers = _NUMBER.findall(text)
  return numbers[-1].replace('\u2212', '-') if numbers else ''


def balanced(text: str) -> bool:
  """Whether the braces of a text match, so that it stays inside a box."""
  depth = 0
  unescaped = _ESCAPED.sub('', text)
  for brace in _BRACE.findall(unescaped):
    depth += 1 if brace == '{' else -1
    if depth < 0:
      return False
  # A lone backslash at the end would escape the brace that closes the box.
  return depth == 0 and not unescaped.endswith('\\')
