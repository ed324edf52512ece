"""A pattern of whatever a careful reader takes for one of our tags.

`</candidate>` in somebody's text ends a candidate for whoever reads the prompt,
and so do its disguises: attributes, several or trailing slashes, spaces and
line breaks, capitals, accents, letters and brackets of other scripts that look
alike, characters that show nothing, HTML entities, a closing tag whose own
bracket is missing. Other tags, `a < b` and `List<int>` are left alone, also
`<candidate-name>`, which is another tag.

A match never contains a second opening bracket and no quantifier gives back
what it took, so a search is linear in the text.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable

# Planes that have letters which look alike.
_PLANES = range(0x20000)
# Letters by name that show nothing: Hangul fillers.
_FILLERS = '\u115f\u1160\u3164\uffa0'
# Characters that look alike and have no decomposition in Unicode.
_ALIKE = {
    '<': '\u02c2\u1438\u2039\u227a\u2329\u276c\u276e\u2770\u27e8\u27ea\u29fc'
         '\u2aa1\u3008\U0001d236',
    '>': '\u02c3\u1433\u203a\u227b\u232a\u276d\u276f\u2771\u27e9\u27eb\u29fd'
         '\u2aa2\u3009\U0001d237',
    '/': '\u2044\u2215\u29f8\u2571', '\\': '\u2216\u29f5\u29f9\u2572',
    'a': 'аɑαΑА', 'c': 'сϲСϹ', 'd': 'ԁɗ', 'e': 'еєΕЕ', 'h': 'һΗН',
    'i': 'іıɩιΙІ', 'm': 'мΜМ', 'n': 'ոռΝ', 'o': 'оοΟО', 'p': 'рρΡР',
    'r': 'гᴦ', 's': 'ѕЅ', 't': 'тτΤТ', 'u': 'υսᴜ', 'y': 'уγΥУ'}
_ENTITY = {'<': 'lt|LT', '>': 'gt|GT', '/': 'sol', '\\': 'bsol'}


def _class(characters) -> str:
  """A regular expression's class of characters, without its brackets."""
  points = sorted({ord(c) for c in characters})
  out, first = [], 0
  for i, point in enumerate(points):
    if i + 1 == len(points) or points[i + 1] != point + 1:
      out.append(f'\\U{points[first]:08x}-\\U{point:08x}')
      first = i + 1
  return ''.join(out)


@functools.cache
def _forms() -> dict[str, set[str]]:
  """Letters in lower case and signs -> the characters that are one of them."""
  out = {c: {c, c.upper(), *_ALIKE.get(c, ''), *_ALIKE.get(c, '').upper()}
         for c in '<>/\\abcdefghijklmnopqrstuvwxyz'}
  for c in map(chr, _PLANES):
    if unicodedata.decomposition(c):
      base, *marks = unicodedata.normalize('NFKD', c)
      if base.lower() in out and all(map(unicodedata.combining, marks)):
        out[base.lower()].add(c)
  return out


def _between() -> str:
  """Characters that a reader overlooks inside a name.

  They are characters that show nothing (controls, formats, marks, halves of
  pairs) and symbols outside ASCII.
  """
  seen = _class(c for forms in _forms().values() for c in forms
                if not c.isalnum() and not c.isascii())
  return rf'[^\w\s!-~{seen}]|[{_FILLERS}]'


def _one(c: str) -> str:
  """A character in each of its forms, entities and escapes too."""
  number, digits = ord(c), f'{ord(c):x}'
  either = ''.join(f'[{d}{d.upper()}]' if d.isalpha() else d for d in digits)
  name = f'(?:{_ENTITY[c]})|' if c in _ENTITY else ''
  return (f'(?:[{_class(_forms()[c])}]|&(?:amp;)*+'
          f'(?:{name}#0*+{number}|#[xX]0*+{either});?+'
          f'|\\\\(?:u00|x){either}|%{either})')


def pattern(*names: str) -> re.Pattern:
  """A pattern of opening and closing tags of these names.

  Args:
    names: the names, in ASCII letters.
  """
  unseen = (f'(?:{_between()}|&(?:amp;)*+(?:shy|zwn?j|ZeroWidthSpace|nbsp'
            '|#(?:0*(?:9|10|13|32|160)(?![0-9])|173|820[3-7]|8288|65279|[xX](?:00)?(?:[aA][0dD]|200[b-fB-F]'
            '|2060|[fF][eE][fF][fF])));?+)')
  lt, gt = _one('<'), _one('>')
  gap, slash = rf'(?:[\s|\uff5c]|{unseen})', f'(?:{_one("/")}|{_one(chr(92))})'
  brackets = _class(_forms()['<'] | _forms()['>'])
  # Behind its name, a tag may hold anything but another bracket.
  rest = rf'(?:[^{brackets}&%\\]++|(?!{lt}|{gt})[&%\\])*+'
  own = (f'{unseen}*+'.join(map(_one, name)) for name in names)
  # What a name begins with: one look is faster than every form of each name.
  first = _class(frozenset().union(*(_forms()[name[0]] for name in names)))
  name = (rf'(?=[{first}&%\\])(?:{"|".join(own)}){unseen}*+'
          rf'(?!(?!{gt})\w|[-.:]\w)')
  closing = f'{gap}*+{slash}(?:{gap}|{slash})*+{name}(?:{rest}{gt})?+'
  # `a <response b` is a comparison. Without its end it is a tag only if an
  # attribute follows, and `a < response b >` needs an attribute as well.
  attribute = r'\s++[\w:-]++\s*+=\s*+["\']'
  opening = (f'{unseen}*+{name}(?:{rest}{gt}|(?={attribute}))'
             f'|{gap}*+{name}(?:(?:{gap}|{slash})*+|(?={attribute}){rest}){gt}')
  # Nothing goes on with a bracket, which is one look too.
  return re.compile(f'{lt}(?![{brackets}])(?:{closing}|{opening})')


def joined(known: re.Pattern, names: Iterable[str]) -> re.Pattern:
  """A pattern that also finds tags of further names.

  Args:
    known: as `pattern` makes it.
    names: in small ASCII letters; a tag that `known` finds is not added.
  """
  new = [name for name in dict.fromkeys(names)
         if not known.fullmatch(f'<{name}>')]
  if not new:
    return known
  return re.compile(f'{known.pattern}|{pattern(*new).pattern}')


@functools.cache
def brackets() -> re.Pattern:
  """A pattern of whatever may open a tag."""
  return re.compile(_one('<'))
