r"""Pairs of a gold answer and another, and whether they are the same.

PAIRS[kind] yields at least 300 pairs. What is expected follows from how a pair
is made: two spellings of one value, or of two values. `back` is what is
expected with the two exchanged. A pair with `known` is one where the kind
answers otherwise than a mathematician would; `known` says why, and the test
counts them.
"""

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple


class Pair(NamedTuple):
  """A gold answer, another, and whether they are the same."""
  gold: str
  answer: str
  right: bool
  known: str = ''  # why the kind says otherwise
  back: bool | None = None  # with roles exchanged; None: as `right`


def both(gold: str, right: tuple, wrong: tuple) -> Iterator[Pair]:
  for answer in right:
    yield Pair(gold, answer, True)
  for answer in wrong:
    yield Pair(gold, answer, False)


# Spellings.

UNIT_SPELLINGS = {  # of one unit behind a value
    'kg': (r'\text{ kg}', r'\mathrm{~kg}', r'\,\mathrm{kg}', r' \mbox{ kg}',
           r'\;\textrm{kg}', r'~\operatorname{kg}', ' kg',
           r'\text{ kilograms}'),
    'cm^2': (r'\text{ cm}^2', r'\mathrm{~cm}^{2}', r'\,\mathrm{cm^2}',
             r'\mbox{ cm}^2', r'\text{ square centimeters}', ' cm^2'),
    'km/h': (r'\text{ km/h}', r'\mathrm{~km}/\mathrm{h}',
             r'\ \text{km}/\text{h}', r'\,\mathrm{km\cdot h^{-1}}', ' km/h',
             r'\text{ km per hour}'),
    'm/s': (r'\text{ m/s}', r'\mathrm{~m} / \mathrm{s}',
            r'\,\mathrm{m}\cdot\mathrm{s}^{-1}', r'\ \mathrm{m\,s^{-1}}',
            r'\frac{\text{m}}{\text{s}}', ' m/s'),
    'dollars': (r'\text{ dollars}', ' dollars', r'\text{ USD}'),
    'people': (r'\text{ people}', ' people', r'\mathrm{~people}'),
    'N': (r'\text{ N}', r'\mathrm{~N}', r'\,\mathrm{N}', ' N',
          r'\text{ kg}\cdot\text{m}/\text{s}^2'),
    'Ω': (r'\,\Omega', r'\ \Omega', r'\text{ ohms}', r'\text{ }\Omega'),
    '°C': (r'^\circ\text{C}', r'^{\circ}\mathrm{C}', r'^\circ C', ' °C'),
}
OTHER_UNIT = {  # of the same dimension or of none that agrees
    'kg': r'\text{ g}', 'cm^2': r'\text{ m}^2', 'km/h': r'\text{ m/s}',
    'm/s': r'\text{ km/h}', 'dollars': r'\text{ cents}',
    'people': '', 'N': r'\text{ J}', 'Ω': r'\text{ V}', '°C': r'^\circ\text{F}',
}
GREEK = ('alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta', 'eta', 'theta',
         'kappa', 'lambda', 'mu', 'nu', 'xi', 'rho', 'sigma', 'tau', 'phi',
         'chi', 'psi', 'omega')
CAPITALS = ('Gamma', 'Delta', 'Theta', 'Lambda', 'Xi', 'Pi', 'Sigma', 'Phi',
            'Psi', 'Omega')


def matrix(rows, name: str, row_end: str, column: str) -> str:
  inner = row_end.join(column.join(map(str, row)) for row in rows)
  return rf'\begin{{{name}}}{inner}\end{{{name}}}'


# Kinds.

def _whole_numbers() -> Iterator[Pair]:
  for n in (7, 41, 120, 1024, 2000002, 3628800):
    yield from both(str(n), (
        f'{n}.0', f'${n}$', rf'\boxed{{{n}}}', rf'\textbf{{{n}}}', f'**{n}**',
        f'{n:,}', f'x={n}', rf'\frac{{{2 * n}}}{{2}}', f' {n}.',
        rf'\gamma={n}', rf'{n}\,'),
        (str(n + 1), str(n - 1), f'-{n}', '0', f'{n}0', f'{n}.5', f'{n}.0001',
         rf'{n} \text{{ or }} {n + 1}', f'x={n + 1}'))


def _small_numbers() -> Iterator[Pair]:
  for digits, power in itertools.product(('8.2', '1.6022', '6.626'),
                                         (-12, -19, -34)):
    gold = rf'{digits}\times10^{{{power}}}'
    yield from both(gold, (
        rf'{digits} \times 10^{{{power}}}', rf'{digits}\cdot 10^{{{power}}}',
        f'{digits}e{power}', rf'{digits} \times 10^{{{power}}}\mathrm{{~J}}',
        rf'x={digits}\times10^{{{power}}}'),
        ('0', f'-{gold}', rf'{digits}\times10^{{{power - 1}}}',
         rf'{digits}1\times10^{{{power}}}', rf'{digits}\times10^{{{-power}}}'))


def _units() -> Iterator[Pair]:
  for value in ('45', r'2\sqrt{3}', r'\frac{3}{4}'):
    for unit, spellings in UNIT_SPELLINGS.items():
      for spelling in spellings:
        bare = spelling[0] == ' ' and value != '45'
        if not bare:
          yield Pair(value + spelling, value, True)
          yield Pair(value + spellings[0], value + spelling, True)
      if OTHER_UNIT[unit]:
        yield Pair(value + spellings[0], value + OTHER_UNIT[unit], False)
      yield Pair(value + spellings[0], '46' + spellings[0], False)
  for a, b in (('5\\text{ m}', '500\\text{ cm}'),
               ('2\\text{ h}', '120\\text{ min}'),
               ('36\\text{ km/h}', '10\\text{ m/s}'),
               ('\\$5', '500\\text{ cents}'), ('\\$12', '12'),
               # The e of a program's power is no letter.
               (r'3.0\times10^{8}\ \mathrm{m\,s^{-1}}', '3.0e8 m/s'),
               (r'2.5\ \mathrm{\mu F}', '2.5e-6 F'), ('3E8 m/s', '3e5 km/s'),
               ('1.5e3 kg', '1500'),
               ('3\\text{ million}', '3000000')):
    yield Pair(a, b, True)


def _greek() -> Iterator[Pair]:
  for i, name in enumerate(GREEK):
    other = GREEK[i - 1]
    gold = rf'\frac{{bc\sin\{name}}}{{3}}'
    yield Pair(gold, rf'\frac{{1}}{{3}} c b \sin \{name}', True)
    yield Pair(gold, rf'\frac{{bc\sin\{other}}}{{3}}', False)
    yield Pair('60', rf'\{name}=60^\circ', True)
    yield Pair(rf'\{name}^2', rf'\{name}\cdot\{name}', True)
    yield Pair(rf'2\{name}', '0', False)
  for name in CAPITALS:
    small = name.lower()
    yield Pair(rf'x\{name}', rf'\{name} x', True)
    yield Pair(rf'\{name}', rf'\{small}', False)


def _matrices() -> Iterator[Pair]:
  for a, b, c, d in ((1, 2, 3, 4), (0, -1, 1, 0), (5, 7, 11, 13)):
    gold = matrix(((a, b), (c, d)), 'pmatrix', r' \\ ', ' & ')
    for name, row_end, column in itertools.product(
        ('pmatrix', 'bmatrix'), (r'\\', r' \\ ', '\\\\\n'), ('&', ' & ')):
      yield Pair(gold, matrix(((a, b), (c, d)), name, row_end, column), True)
      yield Pair(gold, matrix(((c, d), (a, b)), name, row_end, column), False)
    column = matrix(((a,), (b,)), 'pmatrix', r' \\ ', ' & ')
    yield Pair(column, matrix(((a,), (b,)), 'pmatrix', r'\\', '&'), True)
    yield Pair(column, matrix(((b,), (a,)), 'pmatrix', r'\\', '&'), False)
    yield Pair(column, matrix(((a, b),), 'pmatrix', r'\\', '&'), False)


def _intervals() -> Iterator[Pair]:
  for a, b in ((-1, 4), (0, 3)):
    for left, right in itertools.product('([', ')]'):
      low = '<' if left == '(' else r'\le '
      high = '<' if right == ')' else r'\leq '
      gold = f'{left}{a},{b}{right}'
      flipped = ''.join((str(b), '>' if right == ')' else r'\ge ', 'x',
                         '>' if left == '(' else r'\geq ', str(a)))
      yield from both(gold, (f'{a}{low}x{high}{b}',
                             rf'x\in {left}{a},{b}{right}', flipped),
                      (f'{a}{low}x{high}{b + 1}', f'{b}', '0'))
      closed = r'\le ' if left == '(' else '<'
      yield Pair(gold, f'{a}{closed}x{high}{b}', False)
  for n in (3, -2):
    yield from both(rf'(-\infty,{n})', (f'x<{n}', f'{n}>x'),
                    (rf'x\le {n}', f'x>{n}'))
    yield from both(rf'[{n},\infty)', (rf'x\ge {n}', rf'x \geqslant {n}'),
                    (f'x>{n}', rf'x\le {n}'))
  yield from both(r'(-\infty,-1)\cup(4,\infty)',
                  (r'x<-1\text{ or }x>4', 'x>4 or x<-1'),
                  (r'x<-1\text{ or }x\ge4', '-1<x<4'))
  yield Pair('-1<x<4', '-1<y<4', False)
  # Brackets that are turned outwards, as much of Europe writes them.
  yield from both('[2,5)', ('[2, 5[', '[2;5[', r'x\in[2,5[',
                            r'\left[2,5\right['),
                  (']2,5[', ']2,5]', '[2,5]', '[2,6['))
  yield from both(r'(-\infty,2)\cup[3,\infty)',
                  (r']-\infty;2[\cup[3;+\infty[',
                   r'x\in]-\infty,2[\cup [3,\infty['),
                  (r']-\infty;2]\cup[3;+\infty[', r']-\infty,2['))


def _formulas() -> Iterator[Pair]:
  for a, b in ((1, 2), (3, 4), (2, 7)):
    yield from both(f'x^2+{a + b}x+{a * b}', (
        f'(x+{a})(x+{b})', f'x**2+{a + b}*x+{a * b}',
        f'{a * b}+x({a + b}+x)'),
        (f'(x-{a})(x+{b})', f'x^2+{a + b}x', '0'))
    yield from both(f'{a}*cos(pi*t/{b})-{b}', (
        rf'{a}\cos\left(\frac{{\pi t}}{{{b}}}\right)-{b}',),
        (rf'{a}\cos\left(\frac{{\pi t}}{{{b}}}\right)+{b}',
         rf'{a}\sin\left(\frac{{\pi t}}{{{b}}}\right)-{b}'))
    yield from both(rf'(k+{a})!', (rf'({a}+k)!',), (rf'(k+{b})!', 'k!'))
    yield from both(rf'\frac{{{a}}}{{{b}}}\pi', (
        rf'\frac{{{a}\pi}}{{{b}}}', rf'{a}*pi/{b}', f'{a}π/{b}'),
        (rf'\frac{{{a + 1}\pi}}{{{b}}}', rf'\frac{{{a}}}{{{b}}}'))
  yield from both('-1', ('i^2', r'e^{i\pi}', 'i^{10}=(i^2)^5=-1'),
                  ('i', 'i^4', r'e^{2i\pi}'))
  yield from both('5', ('(2+i)(2-i)',), ('(2+i)^2',))
  yield from both(r'\pi R^2-\pi r^2', (r'\pi(R-r)(R+r)',), ('0', r'\pi R^2'))
  yield from both(r'\frac{M}{m}', (), ('1', r'\frac{m}{M}'))
  yield from both(r'\emptyset', (r'\varnothing', r'\{\}', '∅'), ('0',))
  yield from both(r'\{1,2\}', (r'\{2,1\}', '1,2', r'1\text{ and }2'),
                  ('(1,2)', '[1,2]', r'\{1,3\}'))
  yield from both('1101_3', ('1101_{3}', r'1101_{\text{three}}', '(1101)_3'),
                  ('1101_{5}', '1102_3', '1101_2'))
  yield from both('B', ('B. 5 cm', '(B)', r'\text{B}', r'\textbf{(B)}\ 5'),
                  ('C', 'C. 5 cm', '5 cm'))
  yield from both(r'\text{(A) and (C)}', ('A, C', 'AC', 'C and A'),
                  ('A', 'C', '(A)', 'A, B'))
  yield Pair(r'i^{15}=(i^4)^3 i^3=-i', '-i', True)
  yield Pair(r'A=\frac12\cdot 6\cdot 4=12', '12', True)
  yield Pair("f'(x)", 'f(x)', False)


def math() -> Iterator[Pair]:
  for part in (_whole_numbers, _small_numbers, _units, _greek, _matrices,
               _intervals, _formulas):
    yield from part()
  case = 'math-verify knows no case of letters; ours tells them apart only ' \
      'where one formula has both'
  yield Pair('2R', '2r', False, case)
  yield Pair('5m', '5', False)  # five times m
  ratio = 'math-verify reads a ratio as a fraction'
  yield Pair('1:2', r'\frac{1}{2}', False, ratio)
  yield Pair('(1,2)', '1,2', False, 'brackets of a pair may be left out')
  yield Pair(r'2\Omega', r'\Omega\cdot 2', True,
             'a number before a capital omega is taken for ohms')
  # A function's name is dropped as an unknown's is.
  yield Pair('2x', 'f(x)=2x', True)
  yield Pair(r'\log x', r'\ln x', False)
  yield Pair('n!!', 'n!!', True)


def _number_spellings(value: Fraction, decimals: int) -> tuple[str, ...]:
  text = f'{float(value):.{decimals}f}'
  fraction = f'{value.numerator}/{value.denominator}'
  return (text, f'${text}$', f'{text}00' if decimals else f'{text}.00',
          fraction,
          rf'\frac{{{value.numerator}}}{{{value.denominator}}}', f'+{text}',
          f'{{{text}}}', f'**{text}**', f'{text}e0')


def number() -> Iterator[Pair]:
  for value, decimals in ((Fraction(5), 0), (Fraction(1, 2), 1),
                          (Fraction(13, 4), 2), (Fraction(2000002), 0),
                          (Fraction(1, 8), 3), (Fraction(120), 0)):
    gold = f'{float(value):.{decimals}f}'
    last = Fraction(1, 10 ** decimals)
    yield from both(gold, _number_spellings(value, decimals), (
        f'{float(value + last):.{decimals}f}', f'-{gold}', '0',
        f'{gold}1' if decimals else f'{gold}.1', 'five', f'{gold} or 9',
        f'{gold} squared', f'{gold} million'))
    for unit in (r'\text{ kg}', r'\mathrm{~kg}', ' kg', r'\text{ people}',
                 ' dollars', r'\text{ cm}^2', r'\%', '%', r'^\circ', '°',
                 ' percent', ' degrees', ' apples'):
      yield Pair(gold, gold + unit, True)
    yield Pair(f'{gold} kg', f'{gold} g', False)
    yield Pair(rf'\${gold}', gold, True)
  for digits, power in itertools.product(('8.2', '1.6022', '6.626', '9.109'),
                                         (-31, -12, 3, 8)):
    gold = rf'{digits} \times 10^{{{power}}}'
    yield from both(gold, (
        f'{digits}e{power}', rf'{digits}\cdot10^{{{power}}}',
        rf'{digits}\times 10^{{{power}}}\mathrm{{~J}}'),
        ('0', f'-{digits}e{power}', f'{digits}e{power - 1}',
         f'{digits}9e{power}'))


def relaxed_number() -> Iterator[Pair]:
  for n in (100, 250, 2000, 40, 7, 8.5, 0.25, 1e-10, 3e7):
    def near(part, n=n):
      return f'{n * part:.15g}'
    gold = near(1)
    yield from both(gold, (gold, f'${gold}$', f'{gold}%', rf'{gold}\%',
                           f'{gold}°', f'{gold} kg', rf'{gold}\text{{ kg}}',
                           f'+{gold}', f'**{gold}**'), ())
    for part in (0.96, 0.97, 0.98, 0.99, 1.01, 1.02, 1.03, 1.04):
      yield Pair(gold, near(part), True)
    for part in (0, 0.5, 0.9, 0.94, 1.06, 1.1, 2, 10, -1):
      yield Pair(gold, near(part), False)
    # 5 % of the gold number: not the same with the roles exchanged.
    yield Pair(gold, near(1.052), False, back=True)
    yield Pair(f'{gold} kg', f'{gold} g', False)
    yield Pair(gold, 'many', False)
    yield Pair(gold, f'{gold} or 3', False)
  for text, other in (('Paris', 'Rome'), ('Yes', 'No'), ('Iron', 'Gold'),
                      ('2019 May', '2018 June'),
                      ('Blue', 'Green'), ('North America', 'South America')):
    yield from both(text, (text.upper(), f' {text}. ', rf'\text{{{text}}}',
                           f'"{text}"', f'**{text}**'), (other, f'{text}s'))
  for zero, other in (('0', '0.0000000001'), ('0', '1e-12')):
    yield Pair(zero, other, False)


def choice() -> Iterator[Pair]:
  letters = 'ABCDEFGHIJ'
  for i, letter in enumerate(letters):
    other = letters[i - 1]
    small = letter.lower()
    yield from both(letter, (
        small, f'({letter})', f'({small})', f'{letter}.', f'{letter})',
        f'{letter}. 12', f'{letter}: 12', f'({letter}) 5 cm', f'{letter}.5 cm',
        rf'\text{{{letter}}}', rf'\text{{({letter})}}',
        rf'\textbf{{({letter})}}\ 5',
        rf'\mathrm{{{letter}}}', f'${letter}$', f'**{letter}**',
        f'Option {letter}', f'The answer is {letter}', f'answer: {letter}',
        f'the correct option is ({letter})', f'{letter}. {other}'),
        (other, f'({other})', f'{other}. {letter}', f'{letter} or {other}',
         f'{letter}{other}', f'{letter}, {other}', 'none', '12',
         f'({letter}) and ({other})', f'{letter}) or {other})',
         rf'\text{{({letter}) or ({other})}}', f'({letter}), ({other})',
         f'answer: ({letter}) & ({other})', f'{letter}. and {other}.',
         f'not {letter}', f'{letter} dog', rf'\text{{{other}}}', '',
         f'Option {other}'))


def text() -> Iterator[Pair]:
  words = ('New York', 'blue', 'photosynthesis', 'the red car', 'Yes',
           'increasing', 'Tuesday', 'no solution', 'isosceles triangle',
           'Marie Curie', 'H2O', 'x = y', '3 apples', 'Zürich', 'left')
  for i, word in enumerate(words):
    other = words[i - 1]
    yield from both(word, (
        word.upper(), word.lower(), f' {word} ', f'{word}.', f'"{word}"',
        f"'{word}'", f'**{word}**', f'`{word}`', rf'\text{{{word}}}',
        rf'\mathrm{{{word}}}', f'${word}$', word.replace(' ', '  '),
        f'{{{word}}}'),
        (other, f'{word} {other}', f'not {word}', word[:-1], word + 'x', '5',
         f'{word} or {other}', word[::-1] + 'q', f'{other} {word}'))


def set_() -> Iterator[Pair]:
  for a, b, c in ((1, 2, 3), (4, 5, 6), (10, 20, 35), (-1, 0, 7),
                  (1000, 2000, 5), (17, 23, 29)):
    yield from both(f'{a}, {b}', (
        f'{b}, {a}', rf'\{{{a},{b}\}}', f'{{{b}, {a}}}', f'({a}, {b})',
        f'[{a},{b}]', f'{a} and {b}', f'{b}; {a}', f'${a}, {b}$',
        rf'\left\{{{a},{b}\right\}}', f'{a}, {b}, {a}', f'{a}.0, {b}',
        rf'\text{{{a} and {b}}}', f'{a} cm, {b} cm',
        rf'{a}\text{{ cm}}, {b}\text{{ cm}}'),
        (f'{a}', f'{b}', f'{a}, {b}, {c}', f'{a}, {c}', f'{a}{b}', 'none',
         f'-{b}1, {a}', f'{a}.5, {b}', f'{a}, {b} or {c}'))
    yield Pair(f'{a} cm, {b} cm', f'{a} m, {b} m', False)
    yield Pair(f'{a} m, {b} m', f'{a * 100} cm, {b * 100} cm', True)
    yield Pair(rf'\frac{{{c}}}{{2}}, {a}', f'{a}, {c / 2}', True)
  words = ('red', 'blue', 'green', 'yellow', 'black', 'white', 'Paris', 'Rome',
           'Athens', 'Oslo')
  for a, b in itertools.combinations(words, 2):
    yield Pair(f'{a}, {b}', f'{b} and {a}', True)
    yield Pair(f'{a}, {b}', f'{b}', False)
    if a != 'red':
      yield Pair(f'{a}, {b}', f'{a}, red, {b}', False)
      yield Pair(f'{a}, {b}', f'{a}, RED', b == 'red')


QUANTITIES = (  # a unit, another of its dimension, how many of it make one
    ('km', 'm', 1000), ('m', 'cm', 100), ('cm', 'mm', 10), ('kg', 'g', 1000),
    ('h', 'min', 60), ('min', 's', 60), ('m^2', 'cm^2', 10000),
    ('m^3', 'dm^3', 1000), ('L', 'mL', 1000), ('kJ', 'J', 1000),
    ('kW', 'W', 1000), ('kN', 'N', 1000), ('kPa', 'Pa', 1000),
    ('V', 'mV', 1000), ('A', 'mA', 1000), ('MHz', 'kHz', 1000), ('W', 'J/s', 1),
    ('N', 'kg m/s^2', 1), ('kΩ', 'Ω', 1000), ('day', 'h', 24))


def unit() -> Iterator[Pair]:
  for i, (name, smaller, factor) in enumerate(QUANTITIES):
    stranger = QUANTITIES[(i + 7) % len(QUANTITIES)][0]
    for n in (5, 12):
      yield from both(f'{n} {name}', (
          f'{n * factor} {smaller}', rf'{n}\text{{ {name}}}',
          rf'{n}\,\mathrm{{{name}}}', rf'{n} \mathrm{{~{name}}}',
          f'{n}.0 {name}', str(n), f'**{n} {name}**', f'${n}$ {name}'),
          (f'{n + 1} {name}', f'-{n} {name}', f'0 {name}', f'{n} {stranger}',
           f'{n * factor + 1} {smaller}', f'{n} {name} or {n + 1} {name}'))
      if factor > 1:
        yield Pair(f'{n} {name}', f'{n} {smaller}', False)
  for gold, right, wrong in (
      ('90°', '90 degrees', '91°'), ('50%', '50 percent', '50 kg'),
      ('8.2e-12 m', '8.2e-10 cm', '0 m'), ('2000002 m', '2000.002 km',
                                           '2000.003 km'),
      ('100 km/h', '27.7778 m/s', '27.8 m/s'), ('20 °C', '20^\\circ\\text{C}',
                                              '20 °F'),
      ('5 apples', '5 apple', '5 oranges'), ('\\$5', '500 cents', '5 cents')):
    yield Pair(gold, right, True)
    yield Pair(gold, wrong, False)


PAIRS = {'math': math, 'number': number, 'relaxed_number': relaxed_number,
         'choice': choice, 'text': text, 'set': set_, 'unit': unit}
