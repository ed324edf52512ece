r"""1,000 gold answers as data sets have them, made from a seed.

Each comes with answers that are not it: 0, its negation, its neighbour (the
next whole number, another last digit, another letter or member), by
construction.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

COUNTS = {'grade school': 350, 'competition': 350, 'physics': 300}
NOUNS = ('apples', 'people', 'students', 'hours', 'dollars', 'pages', 'miles')
UNITS = (r'\mathrm{~m}', r'\mathrm{~kg}', r'\text{ J}', r'\,\mathrm{N}',
         r'\mathrm{~m} / \mathrm{s}', r'\text{ m/s}^2', r'\mathrm{~W}',
         r'\ \mathrm{V}', r'\mathrm{~cm}^{-1}', r'\,\mathrm{kg\,m^{-3}}',
         r'\mathrm{~J} \cdot \mathrm{s}', r'\text{ eV}', r'\,\Omega',
         r'^\circ\mathrm{C}', r'\mathrm{~K}', r'\mathrm{~rad} / \mathrm{s}')


class Gold(NamedTuple):
  """A gold answer, what it is not, and kinds to which it is readable."""
  text: str
  others: tuple[str, ...]
  kinds: tuple[str, ...] = ('math',)


def _next(digits: str) -> str:
  """A decimal with another last digit."""
  return digits[:-1] + str((int(digits[-1]) + 1) % 10)


def _whole(r: random.Random) -> int:
  return r.choice((r.randrange(1, 100), r.randrange(100, 10**4),
                   r.randrange(10**6, 10**8)))


def grade_school(r: random.Random) -> Gold:
  """A count, a price, a share, a decimal."""
  n = _whole(r)
  cents = f'{r.randrange(1, 500)}.{r.randrange(1, 100):02}'
  noun = r.choice(NOUNS)
  others = ('0', f'-{n}', f'{n + 1}', f'{n - 1}' if n > 1 else '2')
  return r.choice((
      Gold(str(n), others, ('math', 'number', 'unit')),
      Gold(f'{n:,}', (*others, f'{n + 1:,}'), ('math', 'number', 'unit')),
      Gold(rf'{n}\text{{ {noun}}}', (*others, rf'{n + 1}\text{{ {noun}}}'),
           ('math', 'number', 'unit')),
      Gold(f'{n} {noun}', (*others, f'{n + 1} {noun}'), ('math', 'number')),
      Gold(rf'\${cents}', ('0', f'-{cents}', rf'\${_next(cents)}',
                           _next(cents)), ('math', 'number', 'unit')),
      Gold(cents, ('0', f'-{cents}', _next(cents)), ('math', 'number')),
      Gold(rf'{n}\%', ('0', f'-{n}', rf'{n + 1}\%', str(n + 1)),
           ('math', 'number', 'unit')),
      Gold(f'-{n}', ('0', str(n), f'-{n + 1}'), ('math', 'number', 'unit'))))


def _fraction(r: random.Random) -> Gold:
  under = r.choice((3, 7, 11, 13, 97))
  over = r.randrange(1, under)
  return Gold(rf'\frac{{{over}}}{{{under}}}',
              ('0', rf'-\frac{{{over}}}{{{under}}}',
               rf'\frac{{{over + 1}}}{{{under}}}', f'{over}/{under + 1}'),
              ('math', 'number', 'unit'))


def _root(r: random.Random) -> Gold:
  a, b = r.randrange(2, 30), r.choice((2, 3, 5, 7, 11))
  unit = r.choice(('', r'\text{ cm}', r'\mathrm{~cm}^2'))
  return Gold(rf'{a}\sqrt{{{b}}}{unit}',
              ('0', rf'-{a}\sqrt{{{b}}}', rf'{a + 1}\sqrt{{{b}}}',
               rf'{a}\sqrt{{{b + 1}}}{unit}'))


def _polynomial(r: random.Random) -> Gold:
  a, b, c = (r.randrange(1, 30) for _ in range(3))
  x = r.choice(('x', 't', 'n', r'\theta', r'\gamma'))
  return Gold(f'{a}{x}^2+{b}{x}+{c}',
              ('0', f'-{a}{x}^2-{b}{x}-{c}', f'{a}{x}^2+{b}{x}+{c + 1}',
               f'{a + 1}{x}^2+{b}{x}+{c}'))


def _interval(r: random.Random) -> Gold:
  a = r.randrange(-20, 20)
  b = a + r.randrange(2, 30)
  left, right = r.choice('(['), r.choice(')]')
  swapped = ')' if right == ']' else ']'
  return Gold(f'{left}{a}, {b}{right}',
              ('0', f'{left}{a}, {b + 1}{right}', f'{left}{a}, {b}{swapped}',
               f'{left}{a - 1}, {b}{right}', rf'\{{{a}, {b}\}}'))


def _inequality(r: random.Random) -> Gold:
  a = r.randrange(-20, 20)
  sign, other = r.choice((('<', '>'), (r'\le ', '<'), (r'\geq ', '>')))
  return Gold(f'x{sign}{a}', ('0', f'x{other}{a}', f'x{sign}{a + 1}', str(a)))


def _tuple(r: random.Random) -> Gold:
  a, b, c = (r.randrange(1, 50) for _ in range(3))
  return Gold(f'({a}, {b}, {c})',
              ('0', f'(-{a}, -{b}, -{c})', f'({a}, {b}, {c + 1})',
               f'({a + 1}, {b}, {c})'))


def _set(r: random.Random) -> Gold:
  a, b, c = r.sample(range(1, 90, 2), 3)
  return Gold(rf'\{{{a}, {b}, {c}\}}',
              ('0', rf'\{{-{a}, -{b}, -{c}\}}', rf'\{{{a}, {b}, {c + 1}\}}'),
              ('math', 'set'))


def _matrix(r: random.Random) -> Gold:
  a, b, c, d = r.sample(range(1, 50), 4)
  name = r.choice(('pmatrix', 'bmatrix'))

  def of(a, b, c, d):
    return (rf'\begin{{{name}}} {a} & {b} \\ {c} & {d} \end{{{name}}}')

  return Gold(of(a, b, c, d), ('0', of(-a, -b, -c, -d), of(a, b, c, d + 1),
                               of(c, d, a, b), of(a, c, b, d)))


def _equation(r: random.Random) -> Gold:
  n = _whole(r)
  return Gold(f'x={n}', ('0', f'x=-{n}', f'x={n + 1}', str(n + 1), 'x=0'))


def _angle(r: random.Random) -> Gold:
  n = r.randrange(1, 360)
  return Gold(rf'{n}^\circ', ('0', rf'-{n}^\circ', rf'{n + 1}^\circ'),
              ('math', 'number', 'unit'))


def _base(r: random.Random) -> Gold:
  base = r.choice((3, 4, 5, 7))
  digits = '1' + ''.join(r.choice('012') for _ in range(4))
  last = '2' if digits[-1] != '2' else '1'
  return Gold(f'{digits}_{base}', ('0', f'{digits}_{{{base + 1}}}',
                                   f'{digits[:-1]}{last}_{base}'))


def _letter(r: random.Random) -> Gold:
  letter = r.choice('ABCDE')
  after = chr(ord(letter) + 1)
  text = r.choice((letter, f'({letter})', rf'\text{{({letter})}}',
                   f'{letter}. 5 cm'))
  return Gold(text, ('0', after, f'{after}. 5 cm'), ('math', 'choice'))


def _program(r: random.Random) -> Gold:
  a, b, c = (r.randrange(2, 30) for _ in range(3))
  name = r.choice(('cos', 'sin'))
  return Gold(f'{a}*{name}(pi*t/{b})-{c}',
              ('0', f'-{a}*{name}(pi*t/{b})+{c}',
               f'{a}*{name}(pi*t/{b})-{c + 1}',
               rf'{a}\{name}(\frac{{\pi t}}{{{b + 1}}})-{c}'))


def _complex(r: random.Random) -> Gold:
  a, b = r.randrange(1, 30), r.randrange(2, 30)
  return Gold(f'{a}+{b}i', ('0', f'-{a}-{b}i', f'{a}+{b + 1}i', f'{a}-{b}i'))


COMPETITION = (grade_school, _fraction, _root, _polynomial, _interval,
               _inequality, _tuple, _set, _matrix, _equation, _angle, _base,
               _letter, _program, _complex)


def competition(r: random.Random) -> Gold:
  """One of the forms of competitions' answers."""
  return r.choice(COMPETITION)(r)


def _measured(r: random.Random) -> Gold:
  digits = f'{r.randrange(1, 10)}.{r.randrange(10 ** r.randrange(1, 5)):03}'
  power = r.choice((-34, -19, -12, -9, -6, -3, 2, 5, 8, 23))
  unit = r.choice(('', *UNITS))
  sign = r.choice(('', '-'))
  other = '' if sign else '-'

  def of(digits, sign=sign, power=power):
    return rf'{sign}{digits} \times 10^{{{power}}}'

  return Gold(of(digits) + unit,
              ('0', of(digits, other), of(_next(digits)) + unit,
               of(digits, power=power + 1), of(_next(digits)), '0' + unit),
              ('math', 'number', 'unit'))


def _decimal(r: random.Random) -> Gold:
  digits = f'{r.randrange(1, 900)}.{r.randrange(1, 10 ** r.randrange(2, 6))}'
  unit = r.choice(UNITS)
  return Gold(digits + unit, ('0', f'-{digits}', _next(digits) + unit,
                              _next(digits), f'-{digits}{unit}'),
              ('math', 'number', 'unit'))


def _symbols(r: random.Random) -> Gold:
  a = r.randrange(2, 20)
  return r.choice((
      Gold(rf'\frac{{{a}GMm}}{{r^2}}', ('0', rf'-\frac{{{a}GMm}}{{r^2}}',
                                      rf'\frac{{{a + 1}GMm}}{{r^2}}',
                                      rf'\frac{{{a}Gm^2}}{{r^2}}')),
      Gold(rf'\frac{{bc\sin\gamma}}{{{a}}}',
           ('0', rf'-\frac{{bc\sin\gamma}}{{{a}}}',
            rf'\frac{{bc\sin\gamma}}{{{a + 1}}}',
            rf'\frac{{bc\sin\beta}}{{{a}}}')),
      Gold(rf'\sqrt{{\frac{{{a}gh}}{{3}}}}',
           ('0', rf'-\sqrt{{\frac{{{a}gh}}{{3}}}}',
            rf'\sqrt{{\frac{{{a + 3}gh}}{{3}}}}')),
      Gold(rf'v_0 t+{a}t^2', ('0', rf'-v_0 t-{a}t^2', rf'v_0 t+{a + 1}t^2',
                              rf'v_1 t+{a}t^2')),
      Gold(rf'{a}\pi(R^2-r^2)', ('0', rf'{a}\pi(r^2-R^2)',
                                 rf'{a + 1}\pi(R^2-r^2)')),
      Gold(rf'{a}\pi\times10^{{-7}}',
           ('0', rf'-{a}\pi\times10^{{-7}}', rf'{a + 1}\pi\times10^{{-7}}')),
      Gold(rf'E=\frac{{mv^2}}{{{a}}}',
           ('0', rf'E=-\frac{{mv^2}}{{{a}}}', rf'\frac{{mv^2}}{{{a + 1}}}'))))


def physics(r: random.Random) -> Gold:
  """A measured value or a formula."""
  return r.choice((_measured, _measured, _decimal, _symbols))(r)


def golds(seed: int = 14) -> list[Gold]:
  """All of them, in the order of COUNTS."""
  r = random.Random(seed)
  makers: dict[str, Callable] = {
      'grade school': grade_school, 'competition': competition,
      'physics': physics}
  return [makers[name](r) for name, count in COUNTS.items()
          for _ in range(count)]
