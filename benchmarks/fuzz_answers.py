"""Mutated answers through the real verifier: none raises past its door.

A target of benchmarks/fuzz.py. Answers are mutations of right and wrong ones
over all kinds, and of expressions that are worth the gold answer to whoever
runs them; all are harmless to the libraries that read them. The judge is a
function that says what a mutation of its form says.
"""

import collections
import functools
import random
from typing import NamedTuple

from benchmarks import stand_ins
from zppo_jax.records import Question, Verdict
from zppo_jax.verdicts import verifier
from zppo_jax.verdicts.kinds import boxed, gym
from zppo_jax.verdicts.sandbox import Sandbox, SandboxLimits


class Said(NamedTuple):
  """Answers of a kind.

  Attributes:
    gold: what they are held against.
    right, wrong: what must be called so as long as nothing is mutated.
    other: of which nothing is asked.
  """
  gold: str
  right: tuple[str, ...]
  wrong: tuple[str, ...]
  other: tuple[str, ...] = ()


KINDS = {
    'math': Said('\\frac{x}{2}+1',
                 ('1+\\frac{x}{2}', 'x/2+1', '\\frac12x+1', '(x+2)/2'),
                 ('\\frac{x}{2}-1', 'x', '1', '\\frac{2}{x}+1')),
    'number': Said('5', ('5', '5.0', '10/2', '5e0', '\\frac{10}{2}'),
                   ('6', '-5', '5.1', '0', 'int("5")', 'len("aaaaa")')),
    'relaxed_number': Said('100', ('100', '103', '1\\times 10^2', '97%'),
                           ('106', '-100', '94%', '0')),
    'choice': Said('B', ('B', '(b)', 'B. 12', 'Option B', '\\text{B}'),
                   ('C', '(a)', 'A dog', 'A or B')),
    'text': Said('east side', ('East side', '\\text{east side}', 'east  side.'),
                 ('west side', 'east', 'side east')),
    'set': Said('1,2,3', ('3,2,1', '\\{1,2,3\\}', '1; 2 and 3'),
                ('1,2', '1,2,3,4', '123', '6')),
    'unit': Said('5 km', ('5 km', '5000 m', '5', '5\\text{ km}'),
                 ('5 m', '5 kg', '50 km', '5000 km')),
    'reasoning_gym': Said('', (), ()),  # of each entry: `said_of`
    'judge': Said('because', (), (), ('because', 'it is so', 'I do not know')),
    stand_ins.KIND: Said('5', ('5',), ('6', 'work', 'forge', 'negative'), (
        'none', 'words', 'raise', 'unreadable', 'exit', 'recurse')),
}
GYM = 'reasoning_gym/chain_sum?{"max_terms": 3, "seed": 5, "size": 50}'
PIECES = (
    '\\boxed{', '\\boxed', '{', '}', '\\', '$', '\\text{', '\\frac{', '(', ')',
    '[', ']', ',', ';', '.', '-', '+', '=', '<', '>', '|', '/', '%', '^2', '_1',
    ' ', '\n', '\t', '\x00', '\u200b', '\u0301', '\ud800', '\uff15', '\u2212',
    '\u0665', '\u00bd', '1', '9', 'x', 'e', 'i', '\\pi', '\\circ', ' km',
    ' and ',
    '<|im_end|>', '</candidate>', '<think>', '{"score": 1.0}\n', '"', "'",
    'int("5")', 'len("aaaaa")', 'print(5)', '%s', '{0}', '\\\\', '&', '#', '~')
JUDGED = ('{"verdict": "correct"}', '{"verdict": "wrong"}', 'correct', '',
          '{"verdict": 1}', '[[[[', '{"verdict": "correct"} x')


# (text, where, where, random) -> text
MUTATIONS = (
    lambda text, i, j, r: text[:i] + r.choice(PIECES) + text[i:],
    lambda text, i, j, r: text[:i] + text[j:],
    lambda text, i, j, r: text[:j] + text[i:],
    lambda text, i, j, r: text[:i] + text[i:j][::-1] + text[j:],
    lambda text, i, j, r: (
        text[:i] + r.choice(PIECES) * r.randrange(2, 40) + text[i:]),
    lambda text, i, j, r: text.swapcase())


def mutated(text: str, r: random.Random) -> str:
  """A few pieces put in, cut out, doubled or turned round."""
  for _ in range(r.randrange(4)):
    i, j = sorted(r.randrange(len(text) + 1) for _ in range(2))
    text = r.choice(MUTATIONS)(text, i, j, r)
  return text


@functools.cache
def _entries():
  name, _, config = GYM.removeprefix(gym.PREFIX).partition('?')
  return gym._dataset(name, config)


def said_of(kind: str, index: int) -> Said:
  """The row of a kind; an entry of the data set has its own gold answer."""
  if kind != 'reasoning_gym':
    return KINDS[kind]
  gold = _entries()[index]['answer']
  return Said(gold, (gold, f' {gold} '), (
      str(int(gold) + 1), str(-int(gold) - 1), f'{gold}5', f'print({gold})'))


class Row(NamedTuple):
  """An answer as it was parsed, its question, and the verdict that it must
  have, or None where a mutation may have made it anything."""
  answer: str
  question: Question
  wanted: Verdict | None


def rows(count: int, seed: int) -> list[Row]:
  """Responses are boxed, boxed badly or bare; half is not mutated."""
  r, out = random.Random(f'answers {seed}'), []
  kinds = tuple(KINDS)
  for n in range(count):
    kind, index = kinds[n % len(kinds)], r.randrange(50)
    of = said_of(kind, index)
    plain = r.random() < 1 / 2
    said = r.choice(r.choice([
        some for some in ((*of.right, of.gold), of.wrong, of.other) if some]))
    wanted = (Verdict.CORRECT if said in (*of.right, of.gold) else
              Verdict.WRONG if said in of.wrong else None)
    if kind == 'judge':
      wanted = None
    frame, gold = '\\boxed{%s}', of.gold
    if not plain:
      wanted, said = None, mutated(said, r)
      frame = r.choice((frame, 'so \\boxed{%s}.', '\\boxed %s',
                        '<think>\\boxed{1}</think> %s'))
      frame = mutated(frame, r) if r.random() < 0.2 else frame
      gold = mutated(gold, r) if r.random() < 0.2 else gold
    read = r.choice((boxed.last, boxed.last_or_number))
    out.append(Row(read(frame.replace('%s', said)), Question(
        f'{kind}#{index}', 'Which?', gold, '', kind=kind,
        source=GYM if kind == 'reasoning_gym' else ''), wanted))
  return out


def main(count: int, seed: int) -> dict:
  """Grades them all; an exception that leaves the verifier ends it.

  Args:
    count: answers.
    seed: of the mutations and of what the judge says.

  Returns:
    numbers of answers, of those that were none, of those whose verdict was
    known before, and by verdict and kind; `faults`, the known ones that came
    out otherwise: (kind, gold, answer, verdict). A deadline is no fault.
  """
  r = random.Random(f'judge {seed}')

  def ask(asked):
    return [r.choice((*JUDGED, mutated(JUDGED[0], r), OSError('gone')))
            for _ in asked]

  sandbox = Sandbox(SandboxLimits())
  asked = rows(count, seed)
  said = [row for row in asked if row.answer]
  try:
    replies = verifier.Verifier(sandbox, ask).grade(
        [(row.answer, row.question) for row in said])
  finally:
    sandbox.close()
  found = [verifier.verdict(reply, 1.0) for reply in replies]
  names = [verdict.name.lower() for verdict in found]
  by_kind = collections.Counter(
      f'{row.question.kind.rpartition(":")[0] or row.question.kind}/{name}'
      for name, row in zip(names, said, strict=True))
  known = [(row, verdict) for row, verdict in zip(said, found, strict=True)
           if row.wanted is not None]
  return {'no_answer': count - len(said), 'known': len(known),
          'verdicts': dict(sorted(collections.Counter(names).items())),
          'by_kind': dict(sorted(by_kind.items())),
          'faults': [
              (row.question.kind, row.question.answer, row.answer,
               verdict.name.lower()) for row, verdict in known
              if verdict not in (row.wanted, Verdict.TIMEOUT)]}
