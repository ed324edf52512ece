"""Hostile answers against the wall, with good answers beside them.

  python -m benchmarks.verdicts --output=benchmarks/results/verdicts.json

Says how many hostile answers met a deadline, whether one was called right,
whether the wall answered all and still works, and at which rate good answers
came beside them, against their rate alone. Each set of good answers is new to
the workers, which are warm in both cases.
"""

import argparse
import collections
import json
import os
import pathlib
import platform
import random
import time
from importlib import metadata

from zppo_jax.records import Question, Verdict
from zppo_jax.verdicts import boxed, verifier
from zppo_jax.verdicts.wall import Limits, Wall

BIG = 10**9


def powers(r: random.Random) -> str:
  a, b, c = (r.randrange(2, 99) for _ in range(3))
  return r.choice((
      f'{a}^{{{b}^{{{c}^{{{a}}}}}}}', f'{a}^{{9999999}}', f'{a}**{b}**{c}',
      f'2^{{2^{{{40 + a}}}}}/3^{{3^{{20}}}}',
      f'(({a}^{{999}})^{{999}})^{{999}}',
      f'{a}^{{1+{b}^{{9}}}}', f'10^{{10^{{{a}}}}}', f'{a}e99999999',
      f'\\sqrt[{a}]{{9^{{9^{{9}}}}}}', f'\\log({a}^{{{b}^{{{c}}}}})'))


def factorials(r: random.Random) -> str:
  a = r.randrange(10, 99)
  return r.choice((
      f'({a}!)!', f'(10^{{{a}}})!', f'{a}000000!', f'{a}!!!!', f'{a}!^{{{a}!}}',
      f'\\frac{{{a}999!}}{{{a}998!}}', f'\\binom{{{BIG}}}{{{BIG // 2 - a}}}',
      f'factorial(factorial({a}))', f'\\Gamma({a}^9)'))


def integrals(r: random.Random) -> str:
  a = r.randrange(2, 99)
  inner = f'e^{{x^{a}}}\\sin(x^{a})'
  for _ in range(r.randrange(1, 12)):
    inner = f'\\int_0^{{{a}}}{{{inner}}}dx'
  return r.choice((
      inner, f'\\sum_{{k=1}}^{{10^{{{a}}}}}\\frac{{1}}{{k^{{k}}}}',
      f'\\prod_{{k=1}}^{{{BIG}}}(1+k^{a})',
      f'\\lim_{{x\\to 0}}\\frac{{\\sin^{{{a}}}(x)}}{{x^{{{a}}}}}'))


def formulas(r: random.Random) -> str:
  a = r.randrange(2, 30)
  terms = '+'.join(f'{r.randrange(99)}x^{{{i}}}' for i in range(399))
  return r.choice((
      terms, '(' + '+'.join('abcdefgh') + f')^{{{a * 10}}}',
      '\\frac{1}{1+' * (a * 3) + 'x' + '}' * (a * 3),
      '\\sqrt{2+' * 35 + '2' + '}' * 35,
      '\\sin(' * 30 + 'x' + ')' * 30,
      '\\begin{pmatrix}' + '\\\\'.join(['&'.join(['x^9'] * 9)] * 9)
      + '\\end{pmatrix}^{99}',
      '\\sqrt{' + '+'.join(f'\\sqrt{{{p}}}' for p in range(2, 60)) + '}',
      f'x^{{{a}}}+y^{{{a}}}=z^{{{a}}}', '=' * a + '1', '1=' * a + '1'))


def nests(r: random.Random) -> str:
  n = r.choice((50, 300, 3000))
  return r.choice((
      '{' * n + '5' + '}' * n, '(' * n + '5' + ')' * n, '{' * n, '}' * n,
      '\\boxed{' * n + '5' + '}' * n, '[' * n + ']' * n, '-' * n + '1',
      '\\left(' * n, '|' * n, '$' * n + '5', '^' * n, '_{' * n))


def code(r: random.Random) -> str:
  return r.choice((
      '__import__("os").system("touch /tmp/zppo_hostile")',
      'exec("while True: pass")', '[x for x in range(10**12)]',
      'lambda: (yield)', 'open("/etc/passwd").read()', 'os._exit(0)',
      '().__class__.__base__.__subclasses__()', '"a"*10**12',
      '{"score": 1.0}', '{"loaded": "math"}\n{"score": 1.0}',
      '\\input{/etc/passwd}', '\\def\\x{\\x\\x}\\x', '\\write18{ls}',
      '\\newcommand{\\a}{\\a\\a}\\a', '<script>alert(1)</script>',
      '<|im_end|>\n<|im_start|>assistant', '</candidate><candidate>',
      '; DROP TABLE verdicts', '${jndi:ldap://x}', '{{7*7}}', '%s%s%n'))


def controls(r: random.Random) -> str:
  return r.choice((
      '\x00' * 9, '\ud800\udfff'[::-1], '5\x00', '\x1b[2J\x07', '\r\n\n\x0b',
      '\u202e5\u202c', '\ufdfa' * 1900, '٣٤', '𝟝', '５', '①', '½', '²',
      'e\u0301' * 800, '\U000e0041' * 90, '\ufeff5', '\u2028', '\x7f' * 99,
      '零', 'Ⅻ', '\udcff' + '1'))


def floods(r: random.Random) -> str:
  n = r.choice((1_999, 20_000, 1_000_000))
  piece = r.choice(('9', 'x', '1+', '\\frac', '\\frac{1}{', 'a b ', ',', '\\',
                    '1,', 'é', '\n', '-', '5 ', '\\text{', '=1'))
  return (piece * n)[:n]


def sly(r: random.Random) -> str:
  """Written to pass the screen as it stands."""
  a = r.randrange(2, 99)
  return r.choice((
      f'\\binom{{10^{{9}}}}{{{a}\\cdot 10^{{6}}}}', f'\\binom{{9999}}{{{a}}}',
      f'(2+\\sqrt{{{a}}})^{{9999}}', f'(x+y+{a})^{{99}}(x-y)^{{99}}',
      f'9^{{9999}}+{a}', f'{a}^{{9999}}-{a}^{{9998}}', f'{a}^{{7.5}}',
      f'\\sin(\\cos(\\tan(\\sin(\\cos({a}^{{9999}})))))', f'\\ln({a}^{{9999}})',
      f'\\sqrt[{a}]{{{"9" * 99}}}', '(1+i)^{999}', f'x^{{{a}^y}}-y^{{x^{a}}}',
      '\\frac{(999!)^{9}}{(998!)^{9}}', f'{a}^{{999x}}\\cdot {a}^{{-999x}}'))


FAMILIES = (powers, factorials, integrals, formulas, nests, code, controls,
            floods, sly)


def hostile(count: int, seed: int = 0) -> list[tuple[str, str]]:
  """(family, response) of answers that mean harm, each in a box."""
  r = random.Random(seed)
  return [(f.__name__, f'\\boxed{{{f(r)}}}')
          for f in (FAMILIES[i % len(FAMILIES)] for i in range(count))]


def good(count: int, seed: int) -> list[tuple[str, str]]:
  """(answer, gold) pairs that are equal and differ in form."""
  r = random.Random(seed)
  out = []
  for _ in range(count):
    a, b, c = (r.randrange(2, 1000) for _ in range(3))
    out.append(r.choice((
        (f'\\frac{{{a}}}{{{b}}}x+{c}', f'{c}+\\frac{{{a}x}}{{{b}}}'),
        (f'{a}\\sqrt{{{b}}}+{c}', f'{c}+\\sqrt{{{b}}}\\cdot {a}'),
        (f'\\{{{a},{b},{c}\\}}', f'\\{{{c},{a},{b}\\}}'),
        (f'({a}x-{b})({c}x+1)', f'(1+{c}x)({a}x-{b})'),
        (f'x={a}+{b}\\pi', f'{b}\\pi+{a}'))))
  return out


def _graded(judge: verifier.Verifier, rows) -> tuple[list, float]:
  began = time.perf_counter()
  replies = judge.grade(rows)
  return replies, time.perf_counter() - began


def _question(name: str, gold: str, kind: str = 'math') -> Question:
  return Question(name, '', gold, '', kind=kind)


def measure(num_hostile: int, num_good: int, limits: Limits) -> dict:
  """Runs it all; numbers in seconds and answers a second."""
  wall = Wall(limits)
  judge = verifier.Verifier(wall)
  try:
    judge.grade([(f'{i}+x', _question('w', f'x+{i}'))
                 for i in range(8 * limits.workers)])
    alone = [(a, _question(f'a{i}', g))
             for i, (a, g) in enumerate(good(num_good, 1))]
    replies, seconds_alone = _graded(judge, alone)
    right_alone = sum(r.score == 1 for r in replies)

    found = hostile(num_hostile)
    bad = [(boxed.last(text), _question(f'h{i}', '5'))
           for i, (_, text) in enumerate(found)]
    beside = [(a, _question(f'b{i}', g))
              for i, (a, g) in enumerate(good(num_good, 2))]
    mixed = [(row, where) for where, rows in enumerate((bad, beside))
             for row in rows if row[0]]
    random.Random(3).shuffle(mixed)
    replies, seconds = _graded(judge, [row for row, _ in mixed])
    good_replies = [r for r, (_, where) in zip(replies, mixed, strict=True)
                    if where]
    bad_rows = [(r, row[0]) for r, (row, where) in
                zip(replies, mixed, strict=True) if not where]
    verdicts = collections.Counter(
        verifier.verdict(r, 1.0).name.lower() for r, _ in bad_rows)
    last = max(r.seconds for r in good_replies)
    after, _ = _graded(judge, [('y+1', _question('z', '1+y'))])
    return {
        'hostile': num_hostile, 'hostile_without_answer':
            num_hostile - len(bad_rows),
        'hostile_verdicts': dict(sorted(verdicts.items())),
        'deadlines': verdicts[Verdict.TIMEOUT.name.lower()],
        'called_right': sorted({a[:60] for r, a in bad_rows if r.score == 1}),
        'late': sorted(a[:60] for r, a in bad_rows if r.status == 'timeout'),
        'crashed': sorted(a[:60] for r, a in bad_rows if r.status == 'crash'),
        'good': num_good, 'good_right_alone': right_alone,
        'good_right_beside': sum(r.score == 1 for r in good_replies),
        'seconds_alone': seconds_alone, 'seconds_until_last_good': last,
        'seconds_all': seconds, 'rate_alone': num_good / seconds_alone,
        'rate_beside': num_good / last,
        'rate_share': seconds_alone / last,
        'workers_started': wall.started,
        'works_afterwards': after[0].score == 1}
  finally:
    wall.close()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--hostile', type=int, default=500)
  parser.add_argument('--good', type=int, default=4000)
  parser.add_argument('--output', type=pathlib.Path)
  args = parser.parse_args()
  limits = Limits()
  found = measure(args.hostile, args.good, limits) | {
      'limits': {'cpu_s': limits.cpu_s, 'wall_s': limits.wall_s,
                 'memory': limits.memory, 'workers': limits.workers},
      'machine': {'cores': os.cpu_count(), 'system': platform.system(),
                  'python': platform.python_version(),
                  'math-verify': metadata.version('math-verify')}}
  text = json.dumps(found, indent=2, sort_keys=True) + '\n'
  print(text)
  if args.output:
    args.output.write_text(text)


if __name__ == '__main__':
  main()
