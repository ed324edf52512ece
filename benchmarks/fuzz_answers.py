"""Mutated answers through the real verifier: none raises past its door.

A target of benchmarks/fuzz.py. Answers are mutations of right and wrong ones
over all kinds, and of expressions that are worth the gold answer to whoever
runs them; all are harmless to the libraries that read them. The judge is a
function that says what a mutation of its form says.
"""

import collections
import random

from benchmarks import stand_ins
from zppo_jax.records import Question
from zppo_jax.verdicts import boxed, verifier
from zppo_jax.verdicts.wall import Limits, Wall

# kind -> (gold, right answers)
KINDS = {
    'math': ('\\frac{x}{2}+1', ('1+\\frac{x}{2}', 'x/2+1', '\\frac12x+1')),
    'number': ('5', ('5', '5.0', '10/2', '5e0', '\\frac{10}{2}', '{,}5')),
    'relaxed_number': ('100', ('100', '103', '1\\times 10^2', '97%')),
    'choice': ('B', ('B', '(b)', 'B. 12', 'Option B', '\\text{B}')),
    'text': ('east side', ('East side', '\\text{east side}', 'east  side.')),
    'set': ('1,2,3', ('3,2,1', '\\{1,2,3\\}', '1; 2 and 3')),
    'unit': ('5 km', ('5 km', '5000 m', '5', '5\\text{ km}')),
    'reasoning_gym': ('7', ('7', '7.0', ' 7 ', '-7')),
    'judge': ('because', ('because', 'it is so', 'I do not know')),
    stand_ins.KIND: ('5', ('5', 'work', 'forge', 'none', 'negative', 'words',
                           'raise', 'unreadable', 'exit', 'recurse')),
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


def rows(count: int, seed: int) -> list[tuple[str, Question]]:
  """(parsed answer, question); responses are boxed, boxed badly or bare."""
  r, out = random.Random(f'answers {seed}'), []
  kinds = tuple(KINDS)
  for n in range(count):
    kind = kinds[n % len(kinds)]
    gold, right = KINDS[kind]
    said = mutated(r.choice((*right, gold)), r)
    frame = r.choice(('\\boxed{%s}', 'so \\boxed{%s}.', '\\boxed %s',
                      '<think>\\boxed{1}</think> %s'))
    if r.random() < 0.2:
      frame = mutated(frame, r)
    text = frame.replace('%s', said)
    read = r.choice((boxed.last, boxed.last_or_number))
    of_gold = mutated(gold, r) if r.random() < 0.2 else gold
    source = GYM if kind == 'reasoning_gym' else ''
    out.append((read(text), Question(
        f'{kind}#{r.randrange(50)}', 'Which?', of_gold, '', kind=kind,
        source=source)))
  return out


def main(count: int, seed: int) -> dict:
  """Grades them all; an exception that leaves the verifier ends it.

  Args:
    count: answers.
    seed: of the mutations and of what the judge says.

  Returns:
    numbers of answers, of those that were none, and by verdict and kind.
  """
  r = random.Random(f'judge {seed}')

  def ask(asked):
    return [r.choice((*JUDGED, mutated(JUDGED[0], r), OSError('gone')))
            for _ in asked]

  wall = Wall(Limits())
  asked = rows(count, seed)
  said = [(answer, question) for answer, question in asked if answer]
  try:
    replies = verifier.Verifier(wall, ask).grade(said)
  finally:
    wall.close()
  names = [verifier.verdict(reply, 1.0).name.lower() for reply in replies]
  by_kind = collections.Counter(
      f'{question.kind.rpartition(":")[0] or question.kind}/{name}'
      for name, (_, question) in zip(names, said, strict=True))
  return {'answers': count, 'no_answer': count - len(said),
          'verdicts': dict(sorted(collections.Counter(names).items())),
          'by_kind': dict(sorted(by_kind.items()))}
