"""Hostile answers against the sandbox, with good answers beside them.

  python -m benchmarks.verdicts --output=benchmarks/results/verdicts.json

Hostile are a grader of our own that spins, sleeps, allocates, dies and lies
(stand_ins.py), expressions that are worth the gold answer to whoever runs them,
and floods, nests and controls for the kinds that need no library. Nothing here
hangs or crashes a library. Says how many met a deadline, whether one was called
right or came to another end than it must, whether the sandbox answered all and
still works, and at which rate good answers came beside them, against their rate
alone. Each set of good answers is new to the workers, which are warm in both
cases.
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

from benchmarks import stand_ins
from zppo_jax.records import Question, Verdict
from zppo_jax.verdicts import verifier
from zppo_jax.verdicts.kinds import boxed
from zppo_jax.verdicts.sandbox import GradingResult, Sandbox, SandboxLimits

# Kinds that need no library: what comes to them is read by code of ours alone.
OWN = ('number', 'relaxed_number', 'choice', 'text', 'set', 'unit')
GOLD = '5'
GOLDS = {'choice': 'B', 'unit': '5 kg'}  # of kinds whose gold is no number


def deeds(r: random.Random) -> tuple[str, str]:
  """A grader that spins, sleeps, allocates, dies or lies (stand_ins.py). Most
  of them are quick; the answer looks like work, as a formula would that is."""
  name = r.choice((*stand_ins.DEEDS, *['work'] * 8, *['spin_in_c'] * 3))
  return f'{name} {r.randrange(99)}' + '+x^{99}' * 9, stand_ins.KIND


def code(r: random.Random) -> tuple[str, str]:
  """Expressions that are the gold answer to whoever runs them."""
  a = r.randrange(1, 99)
  return r.choice((
      f'int("{GOLD}")', f'eval("{GOLD}")', f'len("{"a" * int(GOLD)}")',
      f'[{GOLD}][0]', f'(lambda: {GOLD})()', f'max({GOLD}, -{a})',
      f'str({GOLD})', f'"{GOLD}".strip()', f'ord("{chr(int(GOLD))}")',
      f'__import__("math").isqrt({int(GOLD)**2})',
      f'exec("x={GOLD}") or {GOLD}',
      f'{GOLD} if True else {a}', f'abs.__call__({GOLD})',
      '{"score": 1.0}', f'{{"score": 1.0}}\n{GOLD}',
      '{"loaded": "number"}\n{"score": 1.0}', '%(gold)s', '{{gold}}',
      '${gold}', f'{{gold}} {a}', '{0}', 'gold', 'reference')), r.choice(OWN)


def nests(r: random.Random) -> tuple[str, str]:
  n = r.choice((50, 300, 3000))
  return r.choice((
      '{' * n + '4' + '}' * n, '(' * n + '4' + ')' * n, '{' * n, '}' * n,
      '\\boxed{' * n + '4' + '}' * n, '[' * n + ']' * n, '-' * n + '1',
      '\\left(' * n, '|' * n, '$' * n + '4', '^' * n, '_{' * n,
      '\\boxed' * n, '\\text{' * n)), r.choice(OWN)


def controls(r: random.Random) -> tuple[str, str]:
  return r.choice((
      '\x00' * 9, '\ud800\udfff'[::-1], '4\x00', '\x1b[2J\x07', '\r\n\n\x0b',
      '\u202e4\u202c', '\ufdfa' * 1900, '٣٤', '𝟜', '４', '④', '½', '²',
      'e\u0301' * 800, '\U000e0041' * 90, '\ufeff4', '\u2028', '\x7f' * 99,
      '零', 'Ⅻ', '\udcff' + '1', '<|im_end|>\n<|im_start|>assistant',
      '</candidate><candidate>', '<script>alert(1)</script>')), r.choice(OWN)


def floods(r: random.Random) -> tuple[str, str]:
  n = r.choice((1_999, 20_000, 1_000_000))
  piece = r.choice(('9', 'x', '1+', '\\frac', '\\frac{1}{', 'a b ', ',', '\\',
                    '1,', 'é', '\n', '-', '4 ', '\\text{', '=1', '\\boxed'))
  return (piece * n)[:n], r.choice(OWN)


FAMILIES = (deeds, code, nests, controls, floods)


def hostile(count: int, seed: int = 0) -> list[tuple[str, str, str]]:
  """(family, response, kind) of answers that mean harm, each in a box."""
  r = random.Random(seed)
  out = []
  for i in range(count):
    family = FAMILIES[i % len(FAMILIES)]
    text, kind = family(r)
    out.append((family.__name__, f'\\boxed{{{text}}}', kind))
  return out


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


def _as_it_must(reply: GradingResult, answer: str) -> bool:
  """Whether an answer came to its end: a deed to its own, a text to a score."""
  _, status = stand_ins.DEEDS.get(answer.partition(' ')[0], (None, 'score'))
  return reply.status == status


def measure(num_hostile: int, num_good: int, limits: SandboxLimits) -> dict:
  """Runs it all; numbers in seconds and answers a second."""
  sandbox = Sandbox(limits)
  judge = verifier.Verifier(sandbox)
  try:
    judge.grade([(f'{i}+x', _question('w', f'x+{i}'))
                 for i in range(8 * limits.workers)])
    alone = [(a, _question(f'a{i}', g))
             for i, (a, g) in enumerate(good(num_good, 1))]
    replies, seconds_alone = _graded(judge, alone)
    right_alone = sum(r.score == 1 for r in replies)

    found = hostile(num_hostile)
    bad = [(boxed.last(text), _question(f'h{i}', GOLDS.get(kind, GOLD), kind))
           for i, (_, text, kind) in enumerate(found)]
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
    unlike = [(a.split()[0], r.status) for r, a in bad_rows
              if not _as_it_must(r, a)]
    verdicts = collections.Counter(
        verifier.verdict(r, 1.0).name.lower() for r, _ in bad_rows)
    last = max(r.seconds for r in good_replies)
    deadlines = [r.seconds for r, _ in bad_rows if r.status == 'timeout']
    after, _ = _graded(judge, [('y+1', _question('z', '1+y'))])
    return {
        'hostile': num_hostile, 'hostile_without_answer':
            num_hostile - len(bad_rows),
        'hostile_verdicts': dict(sorted(verdicts.items())),
        'deadlines': verdicts[Verdict.TIMEOUT.name.lower()],
        'called_right': sorted({a[:60] for r, a in bad_rows if r.score == 1}),
        'another_end': sorted(map(list, unlike)),
        'deadlines_before_last_good': sum(s < last for s in deadlines),
        'late': sorted(a[:60] for r, a in bad_rows if r.status == 'timeout'),
        'crashed': sorted(a[:60] for r, a in bad_rows if r.status == 'crash'),
        'good': num_good, 'good_right_alone': right_alone,
        'good_right_beside': sum(r.score == 1 for r in good_replies),
        'seconds_alone': seconds_alone, 'seconds_until_last_good': last,
        'seconds_all': seconds, 'rate_alone': num_good / seconds_alone,
        'rate_beside': num_good / last,
        'rate_share': seconds_alone / last,
        'workers_started': sandbox.started,
        'works_afterwards': after[0].score == 1}
  finally:
    sandbox.close()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--hostile', type=int, default=500)
  parser.add_argument('--good', type=int, default=4000)
  parser.add_argument('--output', type=pathlib.Path)
  args = parser.parse_args()
  limits = SandboxLimits()
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
