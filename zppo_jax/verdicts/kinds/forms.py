r"""Formulas in the spelling that math-verify reads as people mean them.

What it misreads on its own: units, letters that it takes for constants
(`\gamma`), formulas in the spelling of programs, inequalities beside
intervals, indices of a numeral that name its base. Each rule is linear in its
input, which `screen` bounds.
"""

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from zppo_jax.verdicts.kinds import units
from zppo_jax.verdicts.kinds.numerals import numeral
from zppo_jax.verdicts.kinds.spelling import GREEK, WORD_MACRO, open_words

_OPEN, _CLOSE = '([{', ')]}'
_PAIRS = {'(': ')', '[': ']', '{': '}'}


def levels(text: str) -> list[tuple[int, str]]:
  """(depth, character) of each character outside of escapes; an opening and
  its closing bracket count as inside."""
  pairs, depth, escaped = [], 0, False
  for character in text:
    if escaped:  # `\{` is a bracket of a set, `\,` nothing
      escaped = False
      if character == '{':
        depth += 1
      pairs.append((depth, character))
      if character == '}':
        depth -= 1
      continue
    escaped = character == '\\'
    if character in _OPEN:
      depth += 1
    pairs.append((depth, character))
    if character in _CLOSE:
      depth -= 1
  return pairs


def top_level(text: str, separators: str) -> list[str]:
  """A text cut at separators outside of all brackets; the separators are every
  second member of the result."""
  pieces, start = [], 0
  for i, (depth, character) in enumerate(levels(text)):
    if depth == 0 and character in separators and text[i - 1:i] != '\\':
      pieces += [text[start:i], character]
      start = i + 1
  return [*pieces, text[start:]]


class Enclosed(NamedTuple):
  """The brackets around a whole text, and their content."""
  left: str
  inner: str
  right: str


def enclosed(text: str) -> Enclosed | None:
  r"""The one pair of brackets that holds a whole text; `(1,2)`, `[1,2)`,
  `\{1,2\}`, but not `(1,2),(3,4)`."""
  text = text.strip()
  left = next((b for b in ('\\{', '(', '[') if text.startswith(b)), None)
  right = next((b for b in ('\\}', ')', ']') if text.endswith(b)), None)
  if left is None or right is None or len(text) < len(left) + len(right):
    return None
  depths = levels(text)
  end = len(text) - 1
  if any(depth < 1 for depth, _ in depths[len(left) - 1:end]) or (
      depths[end][0] != 1):
    return None
  return Enclosed(left, text[len(left):len(text) - len(right)], right)


def alike(answer: str, gold: str) -> bool:
  """Whether the outer brackets allow two lists to be equal.

  A set in braces is no pair, and a pair is no set.
  """
  a, b = enclosed(answer), enclosed(gold)
  if a is None or b is None or len(top_level(a.inner, ',')) < 2 or (
      len(top_level(b.inner, ',')) < 2):
    return True
  return (a.left == '\\{') == (b.left == '\\{')


# Spellings of programs.

_FUNCTIONS = {
    'sin': r'\sin', 'cos': r'\cos', 'tan': r'\tan', 'cot': r'\cot',
    'sec': r'\sec', 'csc': r'\csc', 'asin': r'\arcsin', 'acos': r'\arccos',
    'atan': r'\arctan', 'arcsin': r'\arcsin', 'arccos': r'\arccos',
    'arctan': r'\arctan', 'sinh': r'\sinh', 'cosh': r'\cosh',
    'tanh': r'\tanh', 'log': r'\ln', 'ln': r'\ln',
}
_NAMES = {'pi': r'\pi', 'oo': r'\infty', 'inf': r'\infty', 'I': 'i', 'E': 'e'}
_NAMES |= {name: f'\\{name}' for name in GREEK.values()}
_WORD = re.compile(r'(?<![\\A-Za-z])[A-Za-z]+')
_PROGRAM = re.compile(
    r'\*|(?<![\\A-Za-z])(?:pi|oo|sqrt|exp|Rational|[aA]bs'
    rf'|(?:{"|".join(_FUNCTIONS)})(?=\s*\())(?![A-Za-z])')
_FOLLOWED = re.compile(r'\s*\(')
_EXPONENT = re.compile(r'-?[0-9]+(?:\.[0-9]+)?')


def _closing(text: str) -> dict[int, int]:
  """The index at which each round bracket closes."""
  closes, opened = {}, []
  for i, character in enumerate(text):
    if character == '(':
      opened.append(i)
    elif character == ')' and opened:
      closes[opened.pop()] = i
  return closes


def from_program(text: str) -> str:
  r"""`5*cos(pi*t/3)-2` as `5\cdot \cos(\pi\cdot t/3)-2`; other texts stay.

  A text is a program's if it has no macro and a star or the name of a function
  or constant. `log` is the natural one, as programs have it.
  """
  if re.sub(r'\\(?:cdot|times) ', '', text).find('\\') >= 0 or (
      not _PROGRAM.search(text)):
    return text
  close = _closing(text)
  edits: dict[int, tuple[int, str]] = {}  # start -> (end, replacement)
  for word in _WORD.finditer(text):
    opened = _FOLLOWED.match(text, word.end())
    at = opened.end() - 1 if opened else -1
    if word[0] in ('sqrt', 'exp', 'Abs', 'abs') and at in close:
      before, after = {'sqrt': (r'\sqrt{', '}'), 'exp': ('e^{', '}'),
                       'abs': ('|', '|')}[word[0].lower()]
      edits[word.start()] = (at + 1, before)
      edits[close[at]] = (close[at] + 1, after)
    elif word[0] == 'Rational' and at in close:
      parts = text[at + 1:close[at]].split(',')
      if len(parts) == 2:
        edits[word.start()] = (close[at] + 1, rf'\frac{{{parts[0]}}}'
                               rf'{{{parts[1]}}}')
    elif word[0] in _FUNCTIONS and opened:
      edits[word.start()] = (word.end(), _FUNCTIONS[word[0]])
    elif word[0] in _NAMES:
      edits[word.start()] = (word.end(), _NAMES[word[0]] + ' ')
  for power in re.finditer(r'(?:\*\*|\^)\s*(\()?', text):
    at = power.end() - 1 if power[1] else -1
    if at in close:
      edits[power.start()] = (at + 1, '^{')
      edits.setdefault(close[at], (close[at] + 1, '}'))
    else:
      number = _EXPONENT.match(text, power.end())
      if number:
        edits[power.start()] = (number.end(), f'^{{{number[0]}}}')
      else:
        edits[power.start()] = (power.end(), '^')
  out, at = [], 0
  for start in sorted(edits):
    if start < at:
      continue
    end, new = edits[start]
    out += [text[at:start], new]
    at = end
  return ''.join([*out, text[at:]]).replace('*', r'\cdot ')


# Letters.

_RENAMED = (
    (re.compile(r'^\s*(?:\\(?:approx|simeq|sim)(?![A-Za-z])|≈|=)'), ''),
    (re.compile(r'\(\s*(?:approx(?:\.|imately)?|exact(?:ly)?)\s*\)|\\text\s*\{'
                r'\s*\(\s*(?:approx(?:\.|imately)?|exact(?:ly)?)\s*\)\s*\}'),
     ''),
    # `\frac{a}b`
    (re.compile(r'(\\[dtc]?frac\s*\{[^{}]*\})\s*([0-9A-Za-z])'), r'\1{\2}'),
    (re.compile(r'\\log_\s*(?:\{\s*e\s*\}|e(?![A-Za-z]))'), r'\\ln '),
    (re.compile(r'\\lg(?![A-Za-z])'), r'\\log_{10} '),
    (re.compile(r'\\(?:hat|vec|boldsymbol|mathbf|bm)\s*\{\s*(?:\\([ij])math|'
                r'([ijk]))\s*\}'), r'\1\2'),
    (re.compile(r'\\(?:hat|vec)\s+([ijk])(?![A-Za-z])'), r'\1'),
    (re.compile(r'\\langle(?![A-Za-z])([^<>\\]*+(?:\\(?![lr]angle)[^<>\\]*+)*+)'
                r'\\rangle(?![A-Za-z])'), r'(\1)'),
    (re.compile(r'^\s*+<([^<>=\\,]++,[^<>=\\]++)>\s*+$'), r'(\1)'),
    (re.compile(r'^\s*+(?:\\text\s*+\{\s*+)?+(?i:all real(?:s| numbers)'
                r'(?: [a-z])?)\s*+\}?\s*+$'), r'\\mathbb{R}'),
    (re.compile(r'(?<=[0-9])\s*(?i:\b([ap])\.\s?m\b\.?)'), r'\\text{ \1m}'),
    (re.compile(r'\\begin\s*\{smallmatrix\}'), r'\\begin{matrix}'),
    (re.compile(r'\\end\s*\{smallmatrix\}'), r'\\end{matrix}'),
    # The fifth is 5.
    (re.compile(rf'(?<=[0-9])\s?\^?\s?\{{?\s?{WORD_MACRO}\s*'
                r'\{\s*(?:st|nd|rd|th)\s*\}\s?\}?'), ''),
    (re.compile(r'(?<=[0-9])(?:st|nd|rd|th)(?![A-Za-z])'), ''),
    (re.compile(r'\\(?:varnothing|O|empty)(?![A-Za-z])'), r'\\emptyset '),
    (re.compile(r'\\\{\s*\\\}'), r'\\emptyset '),
    (re.compile(r'\\(?:leqslant|leqq|leq)(?![A-Za-z])'), r'\\le '),
    (re.compile(r'\\(?:geqslant|geqq|geq)(?![A-Za-z])'), r'\\ge '),
    (re.compile(r'\\zeta\s*(?=\()'), r'\\zeta'),
    (re.compile(r'\\(?:Reals|R)(?![A-Za-z])'), r'\\mathbb{R}'),
    (re.compile(r'\\mathrm\s*\{\s*([ei])\s*\}|\\(?:text|operatorname)\s*'
                r'\{\s*([ei])\s*\}'), r'\1\2'),
    (re.compile(r'\\operatorname\s*\{\s*(sin|cos|tan|cot|sec|csc|ln|log|lg|'
                r'arcsin|arccos|arctan|sinh|cosh|tanh|exp|gcd|max|min)\s*\}'),
     r'\\\1 '),
)
_DEGREES = re.compile(  # in a function; the library knows radians alone
    r'(\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])(?:\s*\^\s*\{?[0-9]\}?)?\s*[({]?'
    r'\s*)([0-9]+(?:\.[0-9]+)?)\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))')
_CASES = re.compile(r'\\begin\s*\{cases\}(.*)\\end\s*\{cases\}', re.DOTALL)
_ROWS = re.compile(  # `[[1,0],[0,1]]`, `Matrix([[1,0],[0,1]])`
    r'(?:(?:\w+\.)?(?:Matrix|array)\s*\(\s*)?\[\s*(\[[^\[\]]*\]'
    r'(?:\s*,\s*\[[^\[\]]*\])*)\s*\]\s*\)?')
_GREEK_NAMED = re.compile(
    rf'\\(gamma|{"|".join(n for n in GREEK.values() if n[0].isupper())})'
    r'(?![A-Za-z])(?!(?<=Gamma)\s*\()')
_PRIME = re.compile(
    r"(?<![\\A-Za-z])([A-Za-z])\s*('+|\^\s*(?:\{\s*)?(?:\\prime\s*)+\}?)")
_BOX = re.compile(r'\\(?:boxed|fbox)\s*\{(.*)\}[\s.]*', re.DOTALL)


def unboxed(text: str) -> str:
  """The content of a box around a whole text, or the text itself."""
  box = _BOX.fullmatch(text.strip())
  return box[1].strip() if box and '\\boxed' not in box[1] else text


def _table(text: str) -> str:
  """Rows of a program's matrix as LaTeX's, equations out of their brace."""
  if matrix := _ROWS.fullmatch(text.strip()):
    rows = [row.split(',') for row in re.findall(r'\[([^\[\]]*)\]', matrix[1])]
    if len({len(row) for row in rows}) == 1:
      inner = r'\\'.join('&'.join(row) for row in rows)
      return rf'\begin{{pmatrix}}{inner}\end{{pmatrix}}'
  matrix = _CASES.fullmatch(text.strip())
  if matrix and '&' not in matrix[1] and r'\begin' not in matrix[1]:
    rows = [row.strip(' ,;') for row in matrix[1].split(r'\\')]
    return ','.join(row for row in rows if row)
  return text


def renamed(text: str) -> str:
  """Letters and signs in the spelling that math-verify reads as meant."""
  text = _DEGREES.sub(r'\1{\\frac{\2\\pi}{180}}', _table(text))
  for pattern, new in _RENAMED:
    text = pattern.sub(new, text)
  return text


_VARIANTS = ('epsilon', 'phi', 'theta', 'rho', 'sigma', 'kappa', 'pi')
_LETTERS = re.compile(
    rf'({WORD_MACRO}\s*\{{[^{{}}]*\}}|\\[A-Za-z]+)|([A-Za-z])')


def _primed(match: re.Match) -> str:
  primes = match[2].count("'") + match[2].count('prime')
  return rf'\text{{{match[1]}{"prime" * primes}}}'


def _greek_name(name: str) -> str:
  return 'greek' + ('capital' if name[0].isupper() else '') + name.lower()


def told_apart(*texts: str) -> list[str]:
  r"""Formulas with the letters by other names that the library takes for one
  another or for constants.

  It reads Euler's constant for `\gamma`, and knows neither primes nor case:
  `\frac{M}{m}` would be 1. Latin capitals are other letters than small ones
  where one of the formulas has both.
  """
  for name in _VARIANTS:
    plain, other = (re.compile(rf'\\{form}(?![A-Za-z])')
                    for form in (name, f'var{name}'))
    if not any(plain.search(t) and other.search(t) for t in texts):
      texts = tuple(other.sub(rf'\\{name} ', t) for t in texts)
  both = set()
  for text in texts:
    letters = {m[2] for m in _LETTERS.finditer(text) if m[2]}
    both |= {x for x in letters if x.isupper() and x.lower() in letters}
  out = []
  for text in texts:
    text = _PRIME.sub(_primed, text)
    text = _LETTERS.sub(lambda m: m[0] if m[2] not in both
                        else rf'\text{{cap{m[2]}}}', text)
    out.append(_GREEK_NAMED.sub(
        lambda m: rf'\text{{{_greek_name(m[1])}}}', text))
  return out


# Bases.

_BASE_NAMES = {name: base for base, name in enumerate(
    'two three four five six seven eight nine ten eleven twelve thirteen '
    'fourteen fifteen sixteen'.split(), 2)}
_BASED = re.compile(
    r'\(?\s*([0-9A-Za-z]{1,200}(?:\s+[0-9]{1,60}){0,3})\s*\)?\s*'
    r'(?:_\s*\{?\s*\(?\s*|base\s*)([0-9]{1,2}|[a-z]+)\s*\)?\s*\}?[\s.]*')


def based(text: str) -> tuple[str, int] | None:
  """(digits, base) of a numeral that names its base (`1101_{5}`), or None."""
  text = open_words(text)
  match = _BASED.fullmatch(text)
  if not match:
    return None
  base = (int(match[2]) if match[2].isdigit()
          else _BASE_NAMES.get(match[2].casefold(), 0))
  digits = re.sub(r'\s', '', match[1]).upper()
  if not 2 <= base <= 36 or not digits:
    return None
  if base <= 10 and not digits.isdigit() or digits.isalpha() and (
      len(digits) > 1 and base <= 10):
    return None
  if any(int(d, 36) >= base for d in digits):
    # 7 is no digit of base 5, so `7_5` is compared as it is written.
    return digits.lstrip('0') or '0', base
  return digits.lstrip('0') or '0', base


# Inequalities.

_RELATION = re.compile(
    r'\\(le|ge|lt|gt|leq|geq|ne|neq)(?![A-Za-z])|(<=|>=|!=|<|>)')
_SIGN_OF = {'le': '<=', 'leq': '<=', 'ge': '>=', 'geq': '>=', 'lt': '<',
            'gt': '>', 'ne': '!=', 'neq': '!='}
_FLIPPED = {'<': '>', '>': '<', '<=': '>=', '>=': '<=', '!=': '!='}
_VARIABLE = re.compile(
    r'(?:[A-Za-z]|\\(?!(?:pi|in|le|ge|ne|infty)(?![A-Za-z]))[A-Za-z]+'
    r'|f\([a-z]\))(?:_\{?\w\}?)?')
_MEMBER = re.compile(
    r'\s*([A-Za-z]|\\[a-z]+)\s*\\in(?![A-Za-z])\s*(?=[(\[{\\\]])')
_BUILDER = re.compile(
    r'\\\{\s*([A-Za-z])\s*(?:\\in\s*\\mathbb\s*\{?\s*R\s*\}?\s*)?'
    r'(?:\\mid(?![A-Za-z])|\||:|\\colon|\\vert)\s*(.*)\\\}', re.DOTALL)
_OR = re.compile(r'\\cup(?![A-Za-z])|'
                 r'\\(?:text|mathrm)\s*\{\s*or\s*\}|\\lor(?![A-Za-z])'
                 r'|\\vee(?![A-Za-z])|(?<![A-Za-z\\])or(?![A-Za-z])')
_AND = re.compile(r'\\text\s*\{\s*and\s*\}|\\land(?![A-Za-z])'
                  r'|\\wedge(?![A-Za-z])|(?<![A-Za-z\\])and(?![A-Za-z])')


def _range(text: str
           ) -> tuple[str, list[tuple[str, bool, str, bool]]] | None:
  """The variable of an inequality and its intervals; None for another text.

  An interval is (left, is open, right, is open); `!=` gives two of them.
  """
  parts, signs, start = [], [], 0
  for relation in _RELATION.finditer(text):
    parts.append(text[start:relation.start()].strip())
    signs.append(_SIGN_OF.get(relation[1] or '', relation[2]))
    start = relation.end()
  parts.append(text[start:].strip())
  if not all(parts) or '=' in ''.join(parts):
    return None
  if len(signs) == 1:
    (a, b), (sign,) = parts, signs
    if _VARIABLE.fullmatch(b) and not _VARIABLE.fullmatch(a):
      a, b, sign = b, a, _FLIPPED[sign]
    if not _VARIABLE.fullmatch(a) or _VARIABLE.fullmatch(b):
      return None
    low, high = ('-\\infty', True), ('\\infty', True)
    if sign == '!=':
      return a, [(*low, b, True), (b, True, *high)]
    if sign[0] == '<':
      return a, [(*low, b, sign == '<')]
    return a, [(b, sign == '>', *high)]
  if len(signs) == 2:
    a, variable, b = parts
    if not _VARIABLE.fullmatch(variable) or signs[0][0] != signs[1][0] or (
        '!=' in signs):
      return None
    if signs[0][0] == '>':
      a, b, signs = b, a, signs[::-1]
    return variable, [(a, signs[0] in '<>', b, signs[1] in '<>')]
  return None


def as_interval(text: str) -> tuple[str, str] | None:
  r"""(variable, intervals) of an inequality: `-1<x\le 4` is `(-1,4]`, `x<1
  \text{ or } x>2` is `(-\infty,1)\cup(2,\infty)`; None for another text."""
  builder = _BUILDER.fullmatch(text.strip())
  text = builder[2] if builder else text
  pieces, variables = [], set()
  for part in _OR.split(text):
    both = []
    for inequality in _AND.split(part):
      inequality_range = _range(inequality)
      if inequality_range is None:
        return None
      both.append(inequality_range)
    variables |= {inequality_range[0] for inequality_range in both}
    ranges = [r for inequality_range in both for r in inequality_range[1]]
    if len(both) == 2:
      lows = [r for r in ranges if r[0] != '-\\infty']
      highs = [r for r in ranges if r[2] != '\\infty']
      if len(ranges) != 2 or len(lows) != 1 or len(highs) != 1 or (
          lows[0] is highs[0]):
        return None
      ranges = [(*lows[0][:2], *highs[0][2:])]
    elif len(both) > 2:
      return None
    pieces += ranges
  if len(variables) != 1:
    return None
  return variables.pop(), r'\cup '.join(
      f'{"(" if left_open else "["}{left},{right}{")" if right_open else "]"}'
      for left, left_open, right, right_open in pieces)


_REALS = re.compile(r'\\mathbb\s*\{?\s*R(?![A-Za-z])')


_UNION = re.compile(r'(\\cup(?![A-Za-z]))')
_BRACKETED = re.compile(r'\s*([\[\](])([^\[\]();,]*+)[;,]([^\[\]();,]*+)'
                        r'([\[\])])\s*')


def round_brackets(text: str) -> str:
  r"""`]2;5]\cup [7,8[` as `(2,5]\cup [7,8)`; another text stays.

  Much of Europe turns the bracket of an open end outwards (ISO 80000-2).
  """
  pieces = _UNION.split(text)
  parts = pieces[::2]
  intervals = [m for piece in parts if (m := _BRACKETED.fullmatch(piece))]
  if len(intervals) < len(parts) or not any(
      m[1] == ']' or m[4] == '[' for m in intervals):
    return text
  pieces[::2] = [
      f'{"[" if m[1] == "[" else "("}{m[2]},{m[3]}'
      f'{"]" if m[4] == "]" else ")"}' for m in intervals]
  return ''.join(pieces)


def is_interval(text: str) -> bool:
  """Whether a text looks like intervals rather than an inequality."""
  text = text.strip()
  brackets = text[:1] in '([' and text[-1:] in ')]' and ',' in text
  return bool(text) and bool(brackets or _REALS.match(text)) and (
      not _RELATION.search(text))


def same_kind_of_set(answer: str, gold: str) -> tuple[str, str]:
  """Both texts, an inequality as an interval where the other is one, and
  where both are inequalities in one variable."""
  a, b = as_interval(answer), as_interval(gold)
  if a and b:
    return (a[1], b[1]) if a[0] == b[0] else (answer, gold)
  if a and is_interval(gold):
    return a[1], gold
  if b and is_interval(answer):
    return answer, b[1]
  return answer, gold


# Several values by name.

_ASSIGNED = re.compile(
    r'\s*((?:[A-Za-z]|\\[A-Za-z]+)(?:_\{?\w+\}?)?)\s*=([^=<>]*)')


def _assigned(text: str) -> dict[str, str] | None:
  """name -> value for `x=1,y=2`; None for another text."""
  if '=' not in text:
    return None
  parts = [p for piece in top_level(text, ',;')[::2] for p in _AND.split(piece)]
  parts = [part for part in parts if part.strip()]
  matches = [m for m in map(_ASSIGNED.fullmatch, parts) if m]
  if len(parts) < 2 or len(matches) < len(parts):
    return None
  named = {m[1]: m[2].strip() for m in matches}
  return named if len(named) == len(parts) and all(named.values()) else None


def _tuple(values: Iterable[str]) -> str:
  return f'({",".join(values)})'


def in_order(answer: str, gold: str) -> tuple[str, str]:
  """Both texts, values that have names as a tuple: `x=1,y=2` is `y=2,x=1` and
  `(1,2)`, not `(2,1)`. Without names x, y and z are meant in this order, other
  letters as they are written."""
  a, b = _assigned(answer), _assigned(gold)
  if a and b:
    if a.keys() != b.keys():
      return answer, gold
    return _tuple(a[name] for name in b), _tuple(b.values())
  named = a or b
  other = gold if a else answer
  if not named or '=' in other or len(top_level(
      (enclosed(other) or Enclosed('', other, '')).inner, ',;')) < 3:
    return answer, gold
  names = sorted(named) if named.keys() <= {'x', 'y', 'z'} else named
  values = _tuple(named[name] for name in names)
  other = other if enclosed(other) else f'({other})'
  return (values, other) if a else (other, values)


# Units.

class Formula(NamedTuple):
  """A formula in the spelling in which it is compared.

  Attributes:
    text: without units and words' groups.
    units: of its members, None where one has none.
  """
  text: str
  units: tuple[units.Unit | None, ...]


def _scaled(body: str, scale: Fraction) -> str:
  if scale == 1:
    return body
  value = numeral(body)
  if value is not None and (value.value * scale).denominator == 1:
    return str(int(value.value * scale))
  return rf'({body})\cdot {scale}'


def read(text: str) -> Formula:
  """A formula out of an undressed text (spelling.undress)."""
  text = renamed(from_program(text))
  member = _MEMBER.match(text)
  if member and not text[member.end():].startswith('\\frac'):
    text = text[member.end():]
  text = round_brackets(text)
  single = units.split(text)
  if numeral(open_words(single.body)) is not None:
    return Formula(open_words(_scaled(single.body, single.scale)),
                   (single.unit,))
  outer = enclosed(text)
  parts = top_level(outer.inner if outer else text, ',;')
  bodies, units_read = [], []
  for i, part in enumerate(parts):
    if i % 2:
      bodies.append(part)
      continue
    value = units.split(part.strip())
    bodies.append(_scaled(value.body, value.scale) if value.unit or
                  value.scale != 1 else part)
    units_read.append(value.unit)
  inner = ''.join(bodies)
  if outer and not any(units_read):
    whole = units.split(text)  # `(3+x) \text{ cm}`
    if whole.unit:
      return Formula(open_words(whole.body), (whole.unit,))
  return Formula(open_words(f'{outer.left}{inner}{outer.right}'
                            if outer else inner), tuple(units_read))


def ratio(given: Formula, gold: Formula) -> Fraction | None:
  """The factor from the answer's unit to the gold answer's.

  It is None if the units show that the two differ.
  """
  if len(given.units) != len(gold.units):
    return Fraction(1)
  ratios = {units.ratio(a, b)
            for a, b in zip(given.units, gold.units, strict=True)}
  if None in ratios or len(ratios) > 1:
    return None
  return ratios.pop()
