"""How often the zero-spoiler filter is wrong, on the data of the tasks here.

  python -m benchmarks.spoilers --to=benchmarks/results/spoilers.json

Hints are written by construction, so that what each one tells is known without
the filter: a first step, the derivation without its last step, a solution that
ends in a wrong answer, the question again, and, of spoilers, the answer in a
sentence, in a box, in another spelling, in a full solution and as a
paraphrase. Worlds: the embedded one, handwritten digits, reasoning-gym's data
sets with numbers and with words as answers, and options with letters. A rate
is counted per kind of hint and per rule of the filter
(zppo_jax/algorithms/privileged/spoilers.py). CPU seconds: a few.
"""

import argparse
import collections
import json
import pathlib
import random
import re
import string
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from zppo_jax.algorithms.privileged.spoilers import Spoiler, spoiler
from zppo_jax.study.launch import machine
from zppo_jax.tasks import digits, micro, reasoning_gym
from zppo_jax.tasks.worked import STEPS

SIZE = 200  # questions of a world, or of a data set
NUMBERS = ('chain_sum', 'gcd', 'leg_counting', 'decimal_arithmetic',
           'fraction_simplification', 'base_conversion')
WORDS = ('word_sorting', 'spell_backward', 'family_relationships',
         'calendar_arithmetic', 'syllogism')
_INTEGER = re.compile(r'-?[0-9]+')
_NUMBER = re.compile(r'-?[0-9]+(?:\.[0-9]+)?')
_FRACTION = re.compile(r'\\d?frac\{([0-9]+)\}\{([0-9]+)\}')
_PLACES = dict(zip('ABCD', ('first', 'second', 'third', 'last'), strict=True))
METHOD = 'Go step by step, check each step, and do not stop too early.'


class Kind(NamedTuple):
  """A kind of hint.

  Attributes:
    tells: whether such a hint tells the answer.
    what: the words for it in the table.
  """
  tells: bool
  what: str


KINDS = {
    'method': Kind(False, 'a method, without the question'),
    'question': Kind(False, 'the question again'),
    'first_step': Kind(False, 'the first step'),
    'most_steps': Kind(False, 'the derivation without its last step'),
    'wrong_answer': Kind(False, 'a wrong answer in a sentence'),
    'wrong_solution': Kind(False, 'a solution with a wrong end'),
    'wrong_box': Kind(False, 'a wrong answer in a box'),
    'answer': Kind(True, 'the answer in a sentence'),
    'box': Kind(True, 'the answer in a box'),
    'solution': Kind(True, 'a full solution'),
    'spelling': Kind(True, 'the answer in another spelling'),
    'paraphrase': Kind(True, 'the answer in other words'),
}


class Told(NamedTuple):
  """A hint for a question: its kind, its text and the gold answer."""
  kind: str
  hint: str
  gold: str


class Asked(NamedTuple):
  """What hints are made of: a question, its gold answer, another answer that is
  wrong, and the steps of a derivation with its end, where one is known."""
  text: str
  gold: str
  wrong: str
  steps: tuple[str, ...] = ()
  end: Callable[[str], str] = str


def _wide(text: str) -> str:
  """The text with the wide digits of East Asian fonts."""
  return ''.join(chr(0xFF10 + int(c)) if c in string.digits else c
                 for c in text)


def _spellings(gold: str) -> Iterator[str]:
  """The answer in other spellings: a number in wide digits and with thousands,
  a zero behind it or its parts as a/b; words in the other case, and letter by
  letter."""
  fraction = _FRACTION.search(gold)
  if fraction:
    yield '/'.join(fraction.groups())
    yield rf'\frac{{{_wide(fraction[1])}}}{{{fraction[2]}}}'
  elif _NUMBER.fullmatch(gold):
    whole, _, rest = gold.partition('.')
    yield (f'{int(whole):,}.{rest}0' if int(whole)
           else gold + ('0' if rest else '.0'))
    yield _wide(gold)
  else:
    yield gold.swapcase()
    if len(gold) > 1:
      yield ' '.join(gold.replace(' ', ''))


def _paraphrases(gold: str) -> Iterator[str]:
  """The answer told without its words or digits in their order."""
  if _INTEGER.fullmatch(gold):
    yield f'Add one to {int(gold) - 1}.'
  elif gold in _PLACES:
    yield f'It is the {_PLACES[gold]} option.'
  else:
    yield f'Read this from its end: {gold[::-1]}'


def hints(of: Asked) -> Iterator[Told]:
  """All hints of a question."""
  told = lambda kind, hint: Told(kind, hint, of.gold)
  yield told('method', METHOD)
  yield told('question', of.text)
  yield told('wrong_answer', f'Somebody said {of.wrong}, which is wrong.')
  yield told('wrong_box', rf'Not \boxed{{{of.wrong}}}.')
  yield told('answer', f'The result is {of.gold}.')
  yield told('box', rf'So it is \boxed{{{of.gold}}}.')
  for text in _spellings(of.gold):
    yield told('spelling', f'The result is {text}.')
  for text in _paraphrases(of.gold):
    yield told('paraphrase', text)
  if len(of.steps) > 1:  # a single step is the whole derivation
    yield told('first_step', of.steps[0])
  if of.steps:
    yield told('solution', '\n'.join([*of.steps, of.end(of.gold)]))
    yield told('wrong_solution',
               '\n'.join([*of.steps[:-1], of.end(of.wrong)]))
  if len(of.steps) > 2:
    yield told('most_steps', '\n'.join(of.steps[:-1]))


def _others(golds: Sequence[str], rng: random.Random) -> list[str]:
  """A wrong answer per question: that of another one."""
  return [rng.choice([x for x in sorted(set(golds)) if x != gold])
          for gold in golds]


def _micro(size: int, seed: int, rng: random.Random) -> list[Asked]:
  """The embedded world; a question's steps are of three words each."""
  del seed  # its pool has one order
  questions = micro.pool(size, 0.5)
  wrong = _others([q.answer for q in questions], rng)
  out = []
  for question, other in zip(questions, wrong, strict=True):
    words = micro.solution(question).partition(' A ')[0].split()
    out.append(Asked(
        question.text, question.answer, other,
        tuple(' '.join(words[i:i + 3]) for i in range(0, len(words), 3)),
        'A {}'.format))
  return out


def _digits(size: int, seed: int, rng: random.Random) -> list[Asked]:
  """Handwritten digits; a step reads one."""
  questions = digits.pool(size, 0.5, seed)
  wrong = _others([q.answer for q in questions], rng)
  out = []
  for question, other in zip(questions, wrong, strict=True):
    read = digits.work(digits.kind_of(question), digits.digits_of(question))
    steps = read.rpartition(' A ')[0].split('see ')[1:]
    out.append(Asked(question.text, question.answer, other,
                     tuple(f'see {step.strip()}' for step in steps),
                     'A {}'.format))
  return out


def _gym(names: Sequence[str]) -> Callable:
  def of(size: int, seed: int, rng: random.Random) -> list[Asked]:
    out = []
    for name in names:
      questions = reasoning_gym.pool(name, size, seed, worked=name in STEPS)
      wrong = _others([q.answer for q in questions], rng)
      for question, other in zip(questions, wrong, strict=True):
        text = next(iter(question.responses), '')
        steps = text.removeprefix('<think>').partition('</think>')[0].strip()
        out.append(Asked(question.text, question.answer, other,
                         tuple(steps.splitlines()), 'So it is {}.'.format))
    return out
  return of


def _options(size: int, seed: int, rng: random.Random) -> list[Asked]:
  """Options with letters: a sum, whose answer is the letter of one of four."""
  del seed  # rng has it
  out = []
  for _ in range(size):
    a, b = rng.randrange(10, 99), rng.randrange(10, 99)
    values = rng.sample(range(20, 198), 4)
    right, other = rng.sample(range(4), 2)
    values[right] = a + b
    listed = ' '.join(f'{"ABCD"[i]}. {v}' for i, v in enumerate(values))
    out.append(Asked(
        f'{a} + {b} is: {listed}', 'ABCD'[right], 'ABCD'[other],
        (f'first {a % 10} + {b % 10}', f'then {a // 10} + {b // 10}'),
        'so option {}'.format))
  return out


WORLDS: dict[str, Callable[[int, int, random.Random], list[Asked]]] = {
    'micro': _micro, 'digits': _digits, 'gym, numbers': _gym(NUMBERS),
    'gym, words': _gym(WORDS), 'options': _options}


def measure(size: int, seed: int) -> dict:
  """What the filter says: world -> kind -> rule, 'passed' or a Spoiler's name,
  -> hints."""
  worlds = {}
  for world, of in WORLDS.items():
    counts: dict[str, collections.Counter] = {}
    for asked in of(size, seed, random.Random(f'spoilers {world} {seed}')):
      for told in hints(asked):
        why = spoiler(told.hint, told.gold)
        counts.setdefault(told.kind, collections.Counter())[
            'passed' if why is None else why.name] += 1
    worlds[world] = {kind: dict(sorted(counts[kind].items()))
                     for kind in KINDS if kind in counts}
  return {'seed': seed, 'size': size, 'worlds': worlds}


def rates(found: dict) -> dict[str, dict[bool, int]]:
  """rule -> whether the hints tell the answer -> how many it took."""
  out: dict[str, dict[bool, int]] = {}
  for kinds in found['worlds'].values():
    for kind, rules in kinds.items():
      for rule, count in rules.items():
        by = out.setdefault(rule, {False: 0, True: 0})
        by[KINDS[kind].tells] += count
  return out


def table(found: dict) -> str:
  """Refused hints by kind and world, and by rule, as Markdown tables."""
  worlds = found['worlds']
  def cell(kind: str, world: str) -> str:
    rules = worlds[world].get(kind)
    if rules is None:
      return '-'
    whole = sum(rules.values())
    return f'{whole - rules.get("passed", 0)} of {whole}'
  lines = [f'`{found["command"]}`, seed {found["seed"]}. Hints that the filter '
           'refuses:', '',
           '| hint | tells | ' + ' | '.join(worlds) + ' |',
           '|' + '---|' * (len(worlds) + 2)]
  lines += [f'| {of.what} | {"yes" if of.tells else "no"} | '
            + ' | '.join(cell(kind, world) for world in worlds) + ' |'
            for kind, of in KINDS.items()]
  by = rates(found)
  wholes = {tells: sum(of[tells] for of in by.values())
            for tells in (False, True)}
  lines += ['', '| rule | of hints that tell nothing | of spoilers |',
            '|---|---|---|']
  for rule in (*(s.name for s in Spoiler), 'passed'):
    if rule in by:
      shares = [f'{by[rule][tells]} ({by[rule][tells] / wholes[tells]:.1%})'
                for tells in (False, True)]
      lines.append(f'| {rule} | {" | ".join(shares)} |')
  return '\n'.join(lines)


def main() -> None:
  """Measures and writes the file."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  parser.add_argument('--size', type=int, default=SIZE)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  found = measure(args.size, args.seed)
  command = f'python -m benchmarks.spoilers --size={args.size}'
  args.to.write_text(json.dumps(
      {**found, 'command': command, 'machine': machine()}, indent=1) + '\n')
  print(table({**found, 'command': command}))


if __name__ == '__main__':
  main()
