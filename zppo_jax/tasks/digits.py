r"""Handwritten digits as pictures and clips: real images that lie on disk.

The questions are about scikit-learn's 1,797 scans of 8 x 8 pixels, which are
enlarged to SIDE x SIDE:

  read    1 picture   'which digit'             7
  larger  2 pictures  'which is larger'         first, second or same
  sum     2 pictures  'sum of the digits'       11
  total   3 pictures  'sum of the digits'       16
  middle  3 pictures  'digit in the middle'     of three values in order: 5

`read` and `larger` are easy, the others hard. A response works step by step
and ends in its answer, behind the word A or in \boxed{}:

  'see 7 see 4 is 11 A 11'

The splits `easy_clip` and `hard_clip` show the same digits as the frames of a
clip, one after the other; RL draws only pictures. Every fourth scan of a digit
is for evaluation, so that no scan in a pool is in a split.
"""

import dataclasses
import functools
import random
import re

import numpy as np
from PIL import Image

from zppo_jax import allowed
from zppo_jax.chat import images
from zppo_jax.records import Clip, Picture, Question

SIDE = 32  # pixels of a picture's sides
FPS = 2.0
FRAMES = 2  # frames per digit of a clip: a temporal patch of the Qwen towers
_HELD_OUT = 4  # one in so many scans is held out
_ANSWER = re.compile(r'.*\bA\b((?: \w+)?)', re.DOTALL)
_BOXED = re.compile(r'\\boxed\{([^{}]*)\}')


@dataclasses.dataclass(frozen=True)
class Reading:
  """A kind of question.

  Attributes:
    count: the number of pictures.
    text: the text of the question.
    level: 'easy' or 'hard'.
  """
  count: int
  text: str
  level: str


KINDS = {
    'read': Reading(1, 'which digit', 'easy'),
    'larger': Reading(2, 'which is larger', 'easy'),
    'sum': Reading(2, 'sum of the digits', 'hard'),
    'total': Reading(3, 'sum of the digits', 'hard'),
    'middle': Reading(3, 'digit in the middle', 'hard'),
}
LEVELS = ('easy', 'hard')
EVAL_SPLITS = ('hard', 'easy', 'hard_clip', 'easy_clip')
# The words of all questions and responses, for vocabularies of whole words.
WORDS = (*map(str, range(28)), 'which', 'digit', 'is', 'larger', 'sum', 'of',
         'the', 'digits', 'in', 'middle', 'first', 'second', 'same', 'see',
         'A')


@functools.cache
def scans() -> tuple[np.ndarray, np.ndarray]:
  """(pixels, digits): (1797, 8, 8) in 0 to 16, and what each shows.

  Raises:
    ValueError: without scikit-learn, naming the extra that brings it.
  """
  try:
    from sklearn import datasets
  except ImportError as e:
    raise ValueError('data.task is digits, but scikit-learn is not installed: '
                     'pip install "zppo_jax[digits]"') from e
  digits = datasets.load_digits()
  return digits.images, digits.target


@functools.cache
def scans_of(held_out: bool) -> tuple[tuple[int, ...], ...]:
  """Indices of scans by the digit that they show.

  Args:
    held_out: whether they are the scans for evaluation.
  """
  _, digits = scans()
  return tuple(
      tuple(int(i) for k, i in enumerate(np.flatnonzero(digits == digit))
            if (k % _HELD_OUT == 0) == held_out)
      for digit in range(10))


@functools.cache
def picture(scan: int) -> Picture:
  """A scan as a PNG of SIDE x SIDE, light on dark."""
  pixels = np.uint8(np.round(scans()[0][scan] * (255 / 16)))
  return images.picture(Image.fromarray(pixels).resize(
      (SIDE, SIDE), Image.Resampling.BICUBIC))


def solve(kind: str, digits: tuple[int, ...]) -> str:
  """The answer to a question of a kind of KINDS.

  Args:
    kind: a key of KINDS.
    digits: the digits in the order in which they are shown.
  """
  if kind == 'larger':
    first, second = digits
    return ('same' if first == second else
            'first' if first > second else 'second')
  if kind == 'middle':
    return str(sorted(digits)[1])
  return str(sum(digits))


def work(kind: str, digits: tuple[int, ...]) -> str:
  """A right response: each digit, the running sums and the answer."""
  seen = [f'see {digit}' for digit in digits]
  if kind in ('sum', 'total'):
    for i in range(1, len(digits)):
      seen[i] += f' is {sum(digits[:i + 1])}'
  return ' '.join([*seen, 'A', solve(kind, digits)])


def digits_of(question: Question) -> tuple[int, ...]:
  """The digits that a question's pictures or frames show."""
  shown = question.id.split('/')[-1]
  return tuple(int(scans()[1][int(scan)]) for scan in shown.split('-'))


def kind_of(question: Question) -> str:
  """The key of a question's kind in KINDS."""
  return question.id.split('/')[1]


def make_question(kind: str, chosen: tuple[int, ...], split: str, *,
                  clip: bool = False) -> Question:
  """A question about scans.

  Args:
    kind: a key of KINDS.
    chosen: the indices of the scans, in the order in which they are shown.
    split: the split of the question.
    clip: whether the scans are frames of a clip.
  """
  of = KINDS[kind]
  digits = tuple(int(scans()[1][scan]) for scan in chosen)
  shown = tuple(picture(scan) for scan in chosen)
  if clip:
    frames = tuple(p for p in shown for _ in range(FRAMES))
    shown = (Clip(frames, FPS),)
  form = 'clip' if clip else 'pictures'
  name = '-'.join(map(str, chosen))
  return Question(
      id=f'digits/{kind}/{form}/{name}', text=of.text,
      answer=solve(kind, digits), split=split, media=shown, source='digits')


def _drawn(rng: random.Random, size: int, level: str, split: str, *,
           held_out: bool, clip: bool = False) -> list[Question]:
  """Distinct questions: the kinds of a level take turns, digits are uniform."""
  by_digit = scans_of(held_out)
  kinds = [name for name, kind in KINDS.items() if kind.level == level]
  if level == 'easy':
    most = len(kinds) * sum(map(len, by_digit))
    if size > most:
      raise ValueError(f'{size} {level} questions were asked for; there are '
                       f'{most} of {split!r}')
  questions: dict[str, Question] = {}
  while len(questions) < size:
    kind = kinds[len(questions) % len(kinds)]
    chosen = tuple(rng.choice(by_digit[rng.randrange(10)])
                   for _ in range(KINDS[kind].count))
    question = make_question(kind, chosen, split, clip=clip)
    questions.setdefault(question.id, question)
  return list(questions.values())


def pool(size: int, hard_share: float, seed: int = 0) -> list[Question]:
  """Training questions about pictures, easy and hard ones in one shuffle.

  Args:
    size: the number of questions.
    hard_share: the fraction of hard ones, in [0, 1].
    seed: the seed of the draw.

  Raises:
    ValueError: for a share outside [0, 1]; for more questions than there are.
  """
  allowed.number('data.pool.hard_share', hard_share, '[0, 1]')
  rng = random.Random(f'digits pool {seed}')
  hard = round(size * hard_share)
  questions = [q for level, count in (('hard', hard), ('easy', size - hard))
               for q in _drawn(rng, count, level, level, held_out=False)]
  rng.shuffle(questions)
  return questions


def evaluation(split: str, size: int) -> list[Question]:
  """Held-out questions: the first `size` of the split's fixed order.

  Raises:
    KeyError: for an unknown split, with the known ones.
    ValueError: for more questions than there are.
  """
  allowed.one_of('split of digits', split, EVAL_SPLITS)
  level, _, form = split.partition('_')
  return _drawn(random.Random(f'digits {split}'), size, level, split,
                held_out=True, clip=form == 'clip')


def parse_answer(text: str) -> str:
  r"""The content of the last \boxed{}, else the word behind the last A."""
  boxed = _BOXED.findall(text)
  if boxed:
    return boxed[-1].strip()
  match = _ANSWER.match(text)
  return match[1].strip() if match else ''


def grade(answer: str, question: Question) -> bool:
  return answer == question.answer
