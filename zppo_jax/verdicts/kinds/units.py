r"""Units: which words behind a value are its unit, and the size of each unit.

`split` finds the unit of a value in what a person or a model writes: `\text{
cm}^2`, `\mathrm{~m} / \mathrm{s}`, `km/h`, `7 people`, `\$12`. A unit is a
product of powers of base units and a factor; words that no table knows are a
unit of which nothing is known.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from zppo_jax.verdicts.kinds.spelling import WORD_MACRO, undress

MAX_TAIL = 120  # characters behind a value that may hold its unit

_ONE = Fraction(1)
_PREFIXES = {'T': 12, 'G': 9, 'M': 6, 'k': 3, 'h': 2, 'd': -1, 'c': -2, 'm': -3,
             'μ': -6, 'u': -6, 'n': -9, 'p': -12, 'f': -15}
_LONG_PREFIXES = {'tera': 12, 'giga': 9, 'mega': 6, 'kilo': 3, 'deci': -1,
                  'centi': -2, 'milli': -3, 'micro': -6, 'nano': -9,
                  'pico': -12}
# symbol -> (factor, powers of base units), (long names)
_PREFIXED = {
    'm': ('1', 'm', 'metre meter'), 'g': ('1/1000', 'kg', 'gram gramme'),
    's': ('1', 's', 'second'), 'A': ('1', 'A', 'ampere amp'),
    'mol': ('1', 'mol', 'mole'), 'N': ('1', 'kg m s^-2', 'newton'),
    'J': ('1', 'kg m^2 s^-2', 'joule'), 'W': ('1', 'kg m^2 s^-3', 'watt'),
    'Pa': ('1', 'kg m^-1 s^-2', 'pascal'), 'Hz': ('1', 's^-1', 'hertz'),
    'V': ('1', 'kg m^2 s^-3 A^-1', 'volt'),
    'Ω': ('1', 'kg m^2 s^-3 A^-2', 'ohm'), 'C': ('1', 's A', 'coulomb'),
    'F': ('1', 'kg^-1 m^-2 s^4 A^2', 'farad'),
    'T': ('1', 'kg s^-2 A^-1', 'tesla'),
    'Wb': ('1', 'kg m^2 s^-2 A^-1', 'weber'),
    'H': ('1', 'kg m^2 s^-2 A^-2', 'henry'),
    'L': ('1/1000', 'm^3', 'litre liter'), 'l': ('1/1000', 'm^3', ''),
    'eV': ('1.602176634e-19', 'kg m^2 s^-2', 'electronvolt'),
    'cal': ('4.184', 'kg m^2 s^-2', 'calorie'),
    'Wh': ('3600', 'kg m^2 s^-2', 'watthour'),
    'bar': ('100000', 'kg m^-1 s^-2', ''), 'K': ('1', 'K', 'kelvin'),
    'B': ('1', 'byte', 'byte'), 'bit': ('1', 'bit', ''),
    'Bq': ('1', 's^-1', 'becquerel'), 'Sv': ('1', 'm^2 s^-2', 'sievert'),
    'S': ('1', 'kg^-1 m^-2 s^3 A^2', 'siemens'), 'lm': ('1', 'cd', 'lumen'),
    'lx': ('1', 'cd m^-2', 'lux'), 'cd': ('1', 'cd', 'candela'),
    'rad': ('1', 'rad', 'radian'), 'pc': ('3.0856775814913673e16', 'm',
                                          'parsec'),
}
# names -> (factor, powers of base units)
_OTHERS = {
    'in inch inche': ('0.0254', 'm'), 'ft foot feet': ('0.3048', 'm'),
    'yd yard': ('0.9144', 'm'), 'mi mile': ('1609.344', 'm'),
    'nmi': ('1852', 'm'), 'ly lightyear': ('9460730472580800', 'm'),
    'AU au': ('149597870700', 'm'), 'Å ångström angstrom': ('1e-10', 'm'),
    'ha hectare': ('10000', 'm^2'), 'acre': ('4046.8564224', 'm^2'),
    'cc': ('1/1000000', 'm^3'), 'gal gallon': ('0.003785411784', 'm^3'),
    'qt quart': ('0.000946352946', 'm^3'), 'pt pint': ('0.000473176473', 'm^3'),
    'cup': ('0.0002365882365', 'm^3'), 'floz': ('0.0000295735295625', 'm^3'),
    't tonne': ('1000', 'kg'), 'ton': ('907.18474', 'kg'),
    'kt': ('1000000', 'kg'), 'lb pound lbm': ('0.45359237', 'kg'),
    'oz ounce': ('0.028349523125', 'kg'), 'u amu Da': ('1.66053906660e-27',
                                                       'kg'),
    'min minute': ('60', 's'), 'h hr hour': ('3600', 's'), 'sec': ('1', 's'),
    'd day': ('86400', 's'), 'wk week': ('604800', 's'),
    'month': ('1', 'month'), 'yr year y': ('12', 'month'),
    'decade': ('120', 'month'), 'century centurie': ('1200', 'month'),
    'mph': ('0.44704', 'm s^-1'), 'kmh kph kmph': ('5/18', 'm s^-1'),
    'kn knot': ('463/900', 'm s^-1'), 'lbf': ('4.4482216152605', 'kg m s^-2'),
    'dyn dyne': ('1e-5', 'kg m s^-2'), 'erg': ('1e-7', 'kg m^2 s^-2'),
    'hp horsepower': ('745.69987158227022', 'kg m^2 s^-3'),
    'atm atmosphere': ('101325', 'kg m^-1 s^-2'),
    'psi': ('6894.757293168', 'kg m^-1 s^-2'),
    'mmHg': ('133.322387415', 'kg m^-1 s^-2'),
    'Torr torr': ('20265/152', 'kg m^-1 s^-2'),
    'rpm': ('1/60', 'rev s^-1'), 'rev revolution': ('1', 'rev'),
    'turn': ('1', 'rev'), 'G gauss': ('1/10000', 'kg s^-2 A^-1'),
    'M molar': ('1000', 'mol m^-3'), 'Ci curie': ('37000000000', 's^-1'),
    '° deg degree': ('1', 'deg'), 'arcmin': ('1/60', 'deg'),
    'arcsec': ('1/3600', 'deg'), '% percent percentage pct': ('1', 'share'),
    '°C celsius': ('1', 'celsius'), '°F fahrenheit': ('1', 'fahrenheit'),
    '$ dollar usd buck': ('1', 'dollar'), 'cent ¢': ('1/100', 'dollar'),
    'dime': ('1/10', 'dollar'), 'nickel': ('1/20', 'dollar'),
    '€ euro eur': ('1', 'euro'), '£ gbp': ('1', 'sterling'),
    'penny pennie pence': ('1/100', 'sterling'),
    '₹ rupee rs inr': ('1', 'rupee'), '¥ yen jpy': ('1', 'yen'),
    'yuan rmb cny': ('1', 'yuan'), 'dB decibel': ('1', 'decibel'),
    'am': ('1', 'morning'), 'pm': ('1', 'afternoon'), 'ppm': ('1', 'ppm'),
    'pixel px': ('1', 'pixel'),
}
# Words that scale the number before them.
_SCALES = {'hundred': 100, 'thousand': 10**3, 'million': 10**6,
           'billion': 10**9, 'trillion': 10**12, 'dozen': 12, 'half': None,
           'halves': None, 'quarters': None, 'third': None, 'thirds': None,
           'fourths': None, 'fifths': None, 'tenths': None,
           'hundredths': None, 'thousandths': None}
# Words behind a value that change it, doubt it or continue the formula.
_NOT_UNITS = frozenset("""
a an and or nor not but to than then if when where is are was equals equal
plus minus times over by of mod modulo choose squared cubed factorial root pi
infinity inf oo sqrt sin cos tan cot sec csc log ln exp lim max min gcd lcm i e
x y z less more below above under negative positive approximately about base
for all any none no with without remainder even odd otherwise undefined
square cubic sq cu per from at in th st nd rd real imaginary only each maybe
perhaps probably except vs versus
""".split())
_SPELLINGS = (  # of units that macros spell
    (re.compile(r'\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))'), '°'),
    (re.compile(r'\\(?:degree|circ|textdegree)(?![A-Za-z])'), '°'),
    (re.compile(r'\\(?:[mM]u|textmu|micro)(?![A-Za-z])\s*|µ'), 'μ'),
    (re.compile(r'\\(?:Omega|ohm)(?![A-Za-z])'), 'Ω'),
    (re.compile(r'\\(?:AA|r\s*A|mathring\s*A)(?![A-Za-z])'), 'Å'),
    (re.compile(r'\\%'), '%'), (re.compile(r'\\\$'), '$'),
    (re.compile(r'\\(?:euro|texteuro)(?![A-Za-z])'), '€'),
    (re.compile(r'\\(?:pounds|textsterling)(?![A-Za-z])'), '£'),
    (re.compile(r'\\(?:cdot|times|ast)(?![A-Za-z])|[·⋅∙*]'), '·'),
    (re.compile(r'\\per(?![A-Za-z])'), '/'),
    (re.compile(r'\\(?:slash|,)(?![A-Za-z])'), '/'),
)


class Unit(NamedTuple):
  """A unit.

  Attributes:
    factor: to base units.
    powers: sorted (base unit, exponent); empty for words of no table.
    name: the words themselves, for those of no table, else ''.
  """
  factor: Fraction = _ONE
  powers: tuple[tuple[str, int], ...] = ()
  name: str = ''


def _powers(text: str) -> dict[str, int]:
  return {name: int(power or 1) for name, _, power in (
      part.partition('^') for part in text.split())}


def _table() -> dict[str, tuple[Fraction, dict[str, int]]]:
  table = {}
  for symbol, (factor, powers, names) in _PREFIXED.items():
    row = Fraction(factor), _powers(powers)
    for names_of, prefixes in (((symbol,), _PREFIXES),
                               (names.split(), _LONG_PREFIXES)):
      for name in names_of:
        table[name] = row
        for prefix, exponent in prefixes.items():
          table.setdefault(prefix + name,
                           (row[0] * Fraction(10) ** exponent, row[1]))
  for name in ('pm', 'fm', 'hs', 'hA', 'hB', 'dB', 'dA', 'pc', 'cd'):
    if name not in _PREFIXED:
      table.pop(name, None)
  table['fm'] = Fraction(1, 10**15), _powers('m')
  for names, (factor, powers) in _OTHERS.items():
    for name in names.split():
      table[name] = Fraction(factor), _powers(powers)
  return table


TABLE = _table()
_KEPT_S = {'celsius', 'siemens'}


def known(word: str) -> tuple[Fraction, dict[str, int]] | None:
  """(factor, powers of base units) of one word, or None."""
  for name in (word, word.rstrip('.')):
    if name in TABLE:
      return TABLE[name]
    if len(name) > 1:
      low = name.casefold()
      for form in (name.removesuffix('s'), low, low.removesuffix('s')):
        # `As` is no plural of A, and a single letter has only its own case.
        if form in TABLE and (len(form) > 1 or not form.isalpha()):
          return TABLE[form]
  return None


_TOKEN = re.compile(
    r'\s*(?:(\^\s*[-+]?\d{1,2})|(°\s*[CF](?![A-Za-z])|[^\W\d_]+\.?(?:[’\'-]'
    r'[^\W\d_]+)*|[°%$€£₹¥¢])|([/·()]))')
_GROUP_START = re.compile(WORD_MACRO + r'\s*\{')
_ROOM = re.compile(r'[\s·]*')
_FRACTION = re.compile(
    rf'\\[dt]?frac\s*\{{\s*({WORD_MACRO}\s*\{{[^{{}}]*\}}'
    r'(?:\s*\^\s*\{?\d\}?)?)\s*\}\s*'
    rf'\{{\s*({WORD_MACRO}\s*\{{[^{{}}]*\}}(?:\s*\^\s*\{{?\d\}}?)?)\s*\}}')


_BARE_FRACTION = re.compile(  # `9.8 \frac{m}{s^2}`; without the space a product
    r'(?<=[0-9] )\\[dt]?frac\s*\{\s*([A-Za-z]{1,4}(?:\^\{?\d\}?)?)\s*\}\s*'
    r'\{\s*([A-Za-z]{1,4})\s*((?:\^\s*\{?\d\}?)?)\s*\}$')


def _slashed(match: re.Match) -> str:
  """A fraction of two known units, as a text in one line."""
  over = match[1].partition('^')[0]
  if known(over) and known(match[2]):
    return rf'\text{{{match[1]}/{match[2]}}}{match[3]}'
  return match[0]


def _tokens(text: str) -> list[str] | None:
  tokens, at = [], 0
  text = text.rstrip()
  while at < len(text):
    token = _TOKEN.match(text, at)
    if not token or token.end() == at:
      return None
    tokens.append(re.sub(r'\s', '', token[0]))
    at = token.end()
  return tokens


def _rewritten(tokens: list[str]) -> list[str]:
  """`square cm` and `cm squared` as `cm ^2`, `per` as `/`."""
  out: list[str] = []
  power = ''
  for token in tokens:
    low = token.casefold().rstrip('.')
    if low in ('square', 'sq', 'cubic', 'cu'):
      power = '^2' if low in ('square', 'sq') else '^3'
    elif low in ('squared', 'cubed') and out:
      out.append('^2' if low == 'squared' else '^3')
    elif low in ('per', 'an', 'a') and (low == 'per' or out):
      out.append('/')
    else:
      out.append(token)
      if power and token[0] not in '/·()^':
        out.append(power)
        power = ''
  return out if not power else [*out, power]


def _product(tokens: list[str]) -> Unit | None:
  """A product of known units, or None."""
  factor = _ONE
  powers: dict[str, int] = {}
  sign, depth, group_sign = 1, 0, 1
  last = None
  for token in tokens:
    if token == '/':
      sign = -1
      last = None
    elif token == '·':
      last = None
    elif token == '(':
      depth, group_sign = depth + 1, sign
    elif token == ')':
      depth, sign, last = depth - 1, 1, None
      if depth < 0:
        return None
    elif token[0] == '^':
      if last is None:
        return None
      row, direction = last
      extra = int(token[1:]) - 1
      factor *= row[0] ** (direction * extra)
      for name, power in row[1].items():
        powers[name] = powers.get(name, 0) + direction * extra * power
      last = None
    else:
      known_unit = known(token)
      if known_unit is None:
        return None
      factor *= known_unit[0] ** sign
      for name, power in known_unit[1].items():
        powers[name] = powers.get(name, 0) + sign * power
      last = known_unit, sign
      sign = group_sign if depth else 1
  if depth or not any(t[0] not in '/·()^' for t in tokens):
    return None
  return Unit(factor, tuple(sorted((n, p) for n, p in powers.items() if p)))


_TEMPERATURE = re.compile(
    r'(?i:(?:degrees?|deg\.?|°)\s+(celsius|centigrade|fahrenheit))')


def parse(text: str, bare: bool = True) -> tuple[Fraction, Unit] | None:
  """(what scales the number, unit) of words, or None if they are no unit.

  Args:
    text: `km/h`, `kg m^2`, `million dollars`; no macros but those of
      _SPELLINGS.
    bare: whether the words stand outside of a text group, where unknown ones
      have to be of three letters.
  """
  for pattern, spelling in _SPELLINGS:
    text = pattern.sub(spelling, text)
  text = re.sub(r'per\s+cent(?![a-z])', 'percent', text.replace('~', ' '))
  text = _TEMPERATURE.sub(lambda m: f'°{m[1][0].upper()}', text)
  text = re.sub(r'(?i:(?<![a-z])([ap])\.\s?m)(?![A-Za-z])\.?', r'\1m', text)
  tokens = _tokens(text)
  if not tokens or tokens[-1] in '/·(':
    return None
  scale = 1
  while tokens and tokens[0].casefold().rstrip('.') in _SCALES:
    more = _SCALES[tokens.pop(0).casefold().rstrip('.')]
    if more is None:
      return None
    scale *= more
  tokens = _rewritten(tokens)
  if not tokens:
    return Fraction(scale), Unit()
  unit = _product(tokens)
  if unit is None:
    words = [t for t in tokens if t[0] not in '/·()^']
    if (not words or words[0] != tokens[0] or len(words) > 6 or '(' in tokens
        or ')' in tokens
        or any(w.casefold().rstrip('.') in _NOT_UNITS or
               w.casefold().rstrip('.') in _SCALES or not w[0].isalpha()
               for w in words)
        or any(len(w.rstrip('.')) < (3 if bare else 2) for w in words)):
      return None
    unit = Unit(name=' '.join(tokens).casefold())
  return Fraction(scale), unit


class Measured(NamedTuple):
  """A value and its unit.

  Attributes:
    body: the value's text.
    scale: what the words behind it multiply it by.
    unit: or None where there is none.
  """
  body: str
  scale: Fraction = _ONE
  unit: Unit | None = None


_BODY_END = re.compile(r'[0-9A-Za-z}\])|!°\'.]$')
_MONEY = re.compile(
    r'(\s*[-+]?\s*)(?:US|A|C)?(\\\$|[$€£₹¥]|\\text\s*\{\s*(?:\\\$|[$€£₹¥]|'
    r'(?:Rs|USD|EUR)\.?)\s*\}|(?:Rs|USD|EUR)\.?(?=[\s0-9]))\s*(?=[-0-9.\\({])')
# Letters that are a unit, not a variable, behind a number and a space.
_LONE = frozenset('mgshLNJWVACKFT')
_DIFFERENTIAL = re.compile(WORD_MACRO + r'\s*\{\s*d\s*\}\s*[A-Za-z\\]')
_NUMERIC_END = re.compile(r'(?:[0-9.}\])]|\\[A-Za-z]{2,12})\s*$')
_BARE_START = re.compile(
    r'(?<![A-Za-z\\{])(?:°|\\(?:mu|Omega|AA|circ|degree|%)(?![A-Za-z])|'
    r'\^\s*\{?\s*\\(?:circ|degree)|\\?%|¢|€|£|₹|\\\$|[^\W\d_]+)')


_NO_LETTERS = re.compile(  # a macro, the e of `3e8`
    r'\\[A-Za-z]+|(?<=[0-9.])[eE](?=[-+]?[0-9]{1,3}(?![0-9A-Za-z.]))')


def _value_like(body: str) -> bool:
  """Whether bare words behind it can be its unit: it holds no letters but
  those of macros and exponents."""
  return not re.search(r'(?<![\\A-Za-z])[A-Za-z]', _NO_LETTERS.sub('', body))


def _candidates(text: str, marks: bool) -> list[tuple[int, bool]]:
  """(where a unit may begin, whether it is bare), from left to right."""
  start = max(0, len(text) - MAX_TAIL)
  starts = [(m.start(), False) for m in _GROUP_START.finditer(text, start)]
  for m in _BARE_START.finditer(text, start):
    if marks or m[0].lstrip('\\')[0] not in '%':
      starts.append((m.start(), True))
  return sorted(starts)


_EXPONENT = re.compile(r'\^\s*\{\s*([-+]?[0-9]{1,2})\s*\}')


def _flat(tail: str) -> str:
  """A tail without groups: `m s^-1` of `\\text{m}\\mathrm{s^{-1}}`."""
  tail = re.sub(WORD_MACRO + r'\s*', ' ', _EXPONENT.sub(r'^\1', tail))
  return tail.replace('{', ' ').replace('}', ' ')


def split(text: str, marks: bool = False, letters: bool = False) -> Measured:
  r"""The value and the unit of an undressed text (spelling.undress).

  Args:
    marks: whether degrees and percent are units; else they stay with the
      value, but for `°C` and `°F`.
    letters: whether a letter at a number is a unit (`5m`); in a formula it
      may be a variable.

  Returns:
    Measured with `unit` None where nothing behind the value is a unit.
  """
  money = _MONEY.match(text)
  if money:
    sign = re.sub(r'\\text|[\\{}\s]', '', money[2])
    row = known(sign) or (_ONE, {'dollar': 1})
    rest = split(money[1] + text[money.end():], marks, letters)
    if rest.unit is None or rest.unit == Unit():
      return Measured(rest.body, rest.scale,
                      Unit(row[0], tuple(sorted(row[1].items()))))
    return rest
  text = _BARE_FRACTION.sub(_slashed, _FRACTION.sub(r'\1/\2', text))
  text = text.rstrip(' .') if not text.endswith(r'\.') else text
  for at, bare in _candidates(text, marks):
    body = text[:at].rstrip()
    if not body or not _BODY_END.search(body, max(0, len(body) - 2)):
      continue
    tail = text[at:]
    if _DIFFERENTIAL.match(tail):
      continue
    if bare and not letters and not _allowed_bare(
        body, tail, at > len(body)):
      continue
    if bare and letters and not _NUMERIC_END.search(
        body, max(0, len(body) - 14)):
      continue
    parsed = parse(_flat(tail), bare)
    if parsed is None:
      continue
    if not marks and parsed[1].powers in ((('deg', 1),), (('share', 1),)):
      continue
    return Measured(body, *parsed)
  return Measured(text)


def _allowed_bare(body: str, tail: str, spaced: bool) -> bool:
  """Whether words outside of a text group may be the unit of a value."""
  word = re.match(r'[A-Za-z]+', tail)
  if word and len(word[0]) == 1:
    # `5m` may be five times m or five metres; the kind decides.
    compound = re.match(r'[A-Za-z]\s*/\s*[A-Za-z]', tail)
    if not compound and not (spaced and word[0] in _LONE):
      return False
  if not _NUMERIC_END.search(body, max(0, len(body) - 14)):
    return False
  if _value_like(body):
    return True
  return bool(word and spaced and len(word[0]) > 1 and known(word[0]))


def ratio(given: Unit | None, gold: Unit | None) -> Fraction | None:
  """The factor from one unit to the other; None if they differ.

  Where a unit is missing or of no table, nothing is known against it.
  """
  if given is None or gold is None or not given.powers or not gold.powers:
    return _ONE
  if given.powers != gold.powers:
    return None
  return given.factor / gold.factor


def measured(text: str, marks: bool = False, letters: bool = True) -> Measured:
  """`split` of a text that is not undressed yet."""
  return split(undress(text), marks, letters)
