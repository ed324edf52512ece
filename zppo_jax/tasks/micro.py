"""The embedded world: chains of unary digit operators, easy and hard.

A question applies K operators (letters) to digits; operator f maps x to
(a x^2 + b x + c) mod 10. Three families share the operators:

  C  chain            'C h i j 4'      x=4 -> h -> i -> j
  V  reversed chain   'V j i h 4'      the same, written last operator first
  L  list             'L h 4 i 0 j 9'  each operator on a digit of its own

A response works step by step and then lists all K values:

  '4 h 1 1 i 5 5 j 9 A 1 5 9'

The reward is 1 iff the listed values are all right. Four operators are easy,
three medium, five hard; what makes them so is only what the student saw in
pre-training (tasks/micro_corpus.py, docs/micro_world.md).

RL draws from a finite pool of C and V questions, easy and hard. Evaluation
has questions outside the pool: `hard`, `easy` (C and V), `hard_list`,
`easy_list` (family L: held out from RL, pre-training saw it) and
`hard_composed` (C and V with a pair of successive operators that no chain in
pre-training or in the pool contains).
"""

import dataclasses
import functools
import itertools
import re

import numpy as np

from zppo_jax import allowed
from zppo_jax.records import Question

EASY, MEDIUM, HARD = 'abcd', 'efg', 'hijkl'
OPERATORS = EASY + MEDIUM + HARD
CHAINS, LIST = 'CV', 'L'
WORLD_SEED = 7
POOL_SPLITS = ('easy', 'hard')
EVAL_SPLITS = ('hard', 'easy', 'hard_list', 'easy_list', 'hard_composed')

# The last 'A' and the single digits behind it, possibly none.
_ANSWER = re.compile(r'.*\bA\b((?: [0-9]\b)*)', re.DOTALL)


@dataclasses.dataclass(frozen=True)
class World:
  """The truth: operators as tables, and the compositions that are held out.

  Attributes:
    table: (12, 10) int, table[op, x] = op(x).
    constant: (12,) int, the c of each operator, never 0.
    held_out: ordered pairs of operators that occur in no training chain.
  """
  table: np.ndarray
  constant: np.ndarray
  held_out: frozenset[tuple[str, str]]


@functools.cache
def world() -> World:
  """The one world of this package, drawn from WORLD_SEED."""
  rng = np.random.default_rng(WORLD_SEED)
  x = np.arange(10)
  rows, constants = [], []
  while len(rows) < len(OPERATORS):
    a, b, c = rng.integers(0, 10), rng.integers(1, 10), rng.integers(1, 10)
    row = (a * x * x + b * x + c) % 10
    if len(set(row)) >= 4 and not any((row == r).all() for r in rows):
      rows.append(row)
      constants.append(c)
  held_out = set()
  for level, count in ((EASY, 3), (HARD, 5)):
    pairs = list(itertools.product(level, level))
    for i in rng.choice(len(pairs), count, replace=False):
      held_out.add(pairs[i])
  return World(np.stack(rows), np.array(constants), frozenset(held_out))


def apply_operator(op: str, x: int) -> int:
  return int(world().table[OPERATORS.index(op), x])


def is_composed(ops: str) -> bool:
  """Whether a chain applies a held-out pair of operators in succession."""
  return any(pair in world().held_out for pair in itertools.pairwise(ops))


def question_text(family: str, ops: str, digits: str) -> str:
  """The question; `ops` in order of application, one digit for a chain."""
  if family == 'C':
    return ' '.join(['C', *ops, digits])
  if family == 'V':
    return ' '.join(['V', *reversed(ops), digits])
  pairs = zip(ops, digits, strict=True)
  return ' '.join(['L', *itertools.chain.from_iterable(pairs)])


def work(family: str, ops: str, digits: str, step) -> tuple[str, str]:
  """(response, answer) when `step(op, x)` gives each value."""
  shown, values = [], []
  for i, op in enumerate(ops):
    x = int(digits[i]) if family == LIST or i == 0 else values[-1]
    values.append(int(step(op, x)))
    shown.append(f'{x} {op} {values[-1]}')
  answer = ' '.join(map(str, values))
  return f'{" ".join(shown)} A {answer}', answer


def make_question(family: str, ops: str, digits: str, split: str) -> Question:
  _, answer = work(family, ops, digits, apply_operator)
  return Question(id=f'micro/{family}/{ops}/{digits}',
                  text=question_text(family, ops, digits), answer=answer,
                  split=split)


def parse_answer(text: str) -> str:
  """The values behind the last 'A', or '' where there are none."""
  match = _ANSWER.match(text)
  return match.group(1).strip() if match else ''


def grade(answer: str, question: Question) -> bool:
  """Whether a parsed answer is right: all values equal."""
  return answer == question.answer


def _chain_questions(level: str, num_steps: int, composed: bool,
                     split: str) -> list[Question]:
  chains = itertools.product(level, repeat=num_steps)
  ops_list = [''.join(o) for o in chains]
  return [make_question(family, ops, digit, split)
          for family in CHAINS for ops in ops_list
          if is_composed(ops) == composed for digit in '0123456789']


def _list_questions(level: str, num_steps: int, split: str) -> list[Question]:
  """Ten list questions for every choice of operators, with drawn digits."""
  rng = np.random.default_rng([WORLD_SEED, 4, len(level)])
  questions = {}
  for ops in itertools.product(level, repeat=num_steps):
    for _ in range(10):
      digits = ''.join(map(str, rng.integers(0, 10, num_steps)))
      question = make_question(LIST, ''.join(ops), digits, split)
      questions[question.id] = question
  return list(questions.values())


def _shuffled(questions: list[Question], *names: int) -> list[Question]:
  rng = np.random.default_rng([WORLD_SEED, *names])
  return [questions[i] for i in rng.permutation(len(questions))]


@functools.cache
def _chains(level: str, split: str, num_steps: int) -> tuple[Question, ...]:
  questions = _chain_questions(level, num_steps, False, split)
  return tuple(_shuffled(questions, num_steps, len(level)))


def _reserved(chains: tuple[Question, ...]) -> int:
  """How many of the last questions of a level are for evaluation."""
  return min(256, len(chains) // 2)


def first_step(question: Question) -> str:
  """The world's own hint: the first step with its value, '4 h 1'.

  It is one of the K values of the answer, so that it neither is the answer nor
  the solution. With K = 1 it would be both.
  """
  return ' '.join(solution(question).split()[:3])


def solution(question: Question) -> str:
  """A right response in full, as the truth writes it."""
  _, family, ops, digits = question.id.split('/')
  return work(family, ops, digits, apply_operator)[0]


def pool(size: int, hard_share: float, num_steps: int = 3,
         hints: bool = False, worked: bool = False) -> list[Question]:
  """The finite pool that RL draws from.

  Args:
    size: questions in the pool.
    hard_share: fraction of hard ones, in [0, 1].
    num_steps: operators per question (K).
    hints: whether each question carries `first_step` as its hint.
    worked: whether each question carries its `solution` as a response.

  Raises:
    ValueError: if the world has fewer questions of a level than asked for
      (256 of each level, or half of a small world, are for evaluation).
  """
  allowed.number('pool size', size, '>= 1')
  allowed.number('hard_share', hard_share, '[0, 1]')
  num_hard = round(size * hard_share)
  questions: list[Question] = []
  for split, level, n in (('hard', HARD, num_hard),
                          ('easy', EASY, size - num_hard)):
    chains = _chains(level, split, num_steps)
    free = len(chains) - _reserved(chains)
    if n > free:
      raise ValueError(
          f'pool asks for {n} {split} questions; the world has {free} of '
          f'{num_steps} steps outside evaluation')
    questions.extend(chains[:n])
  return [dataclasses.replace(
      q, hint=first_step(q) if hints else '',
      responses=(solution(q),) if worked else ())
      for q in _shuffled(questions, 1)]


def evaluation(split: str, size: int, num_steps: int = 3) -> list[Question]:
  """Questions of an evaluation split, disjoint from every pool.

  Raises:
    KeyError: for an unknown split, naming the known ones.
    ValueError: if the split has fewer than `size` questions.
  """
  allowed.one_of('split', split, EVAL_SPLITS)
  if split in ('hard', 'easy'):
    level = HARD if split == 'hard' else EASY
    chains = _chains(level, split, num_steps)
    questions = list(reversed(chains))[:_reserved(chains)]
  elif split in ('hard_list', 'easy_list'):
    level = HARD if split == 'hard_list' else EASY
    questions = _shuffled(_list_questions(level, num_steps, split), 2)
  else:
    questions = _shuffled(
        _chain_questions(HARD, num_steps, True, split), 3)
  if size > len(questions):
    raise ValueError(f'split {split!r} has {len(questions)} questions of '
                     f'{num_steps} steps; {size} were asked for')
  return questions[:size]
