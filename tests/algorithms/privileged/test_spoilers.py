"""The zero-spoiler filter, case by case."""

import pytest

from zppo_jax.algorithms.privileged.spoilers import (
  MAX_CHARACTERS,
  Spoiler,
  spoiler,
  spoiler_free,
)
from zppo_jax.tasks import micro


@pytest.mark.parametrize('hint, answer, why', [
    # numbers, in the spellings that verdicts know
    ('think of 1000', '1,000', 'NUMBER'), ('about 1e3', '1000', 'NUMBER'),
    ('1 000 of them', '1000', 'NUMBER'), ('10^3', '1000', 'NUMBER'),
    (r'$10^{3}$', '1000', 'NUMBER'), ('10²', '100', 'NUMBER'),
    (r'1.0 \times 10^3', '1000', 'NUMBER'), ('10²', '102', None),
    ('half is ½', '0.5', 'NUMBER'), (r'\frac{1}{2}', '.5', 'NUMBER'),
    ('1/2', '0.5', 'NUMBER'), ('2 / 3', r'\frac{2}{3}', 'NUMBER'),
    ('x minus 3', '-3', 'NUMBER'), ('5-3', '-3', 'NUMBER'),
    ('1.50', '1.5', 'NUMBER'), ('12x', '12', 'NUMBER'),
    ('17 and 120', '12', None), ('the value is 12.', '12', 'NUMBER'),
    ('12%', r'12\%', 'NUMBER'), ('5 km', '5 km', 'NUMBER'),
    ('x = 5', '5', 'NUMBER'), ('5', 'x=5', 'NUMBER'), ('4', 'x=5', None),
    # words of numbers
    ('seven sides', '7', 'NUMBER'), ('twenty-one', '21', 'NUMBER'),
    ('one thousand', '1000', 'NUMBER'), ('minus three', '-3', 'NUMBER'),
    ('three hundred and five', '305', 'NUMBER'), ('often', '10', None),
    # other scripts, wide forms, invisible characters
    ('７ sides', '7', 'NUMBER'), ('٧ sides', '7', 'NUMBER'),
    ('1\u200b2', '12', 'NUMBER'), ('ｅａｓｔ', 'east', 'ANSWER'),
    # boxes
    (r'\boxed{3}', '9', 'BOX'), (r'\fbox 3', '9', 'BOX'),
    (r'\ boxed{3}', '9', 'BOX'), ('boxed {3}', '9', 'BOX'),
    # options
    ('option B', 'B', 'LETTER'), ('(b) is', 'B', 'LETTER'),
    ('a line', 'A', None), ('A line', 'A', 'LETTER'), ('(a)', 'A', 'LETTER'),
    ('the answer is a', 'A', 'LETTER'), ('side B', '(B)', 'LETTER'),
    ('a red ball', 'B. red ball', 'ANSWER'), ('bubbles', 'B', None),
    # words and parts
    ('the dog runs', 'dog', 'ANSWER'), ('the hotdog', 'dog', 'ANSWER'),
    ('dogs', 'cat', None), ('Paris is', 'paris', 'ANSWER'),
    (r'\text{east} side', 'east', 'ANSWER'), ('e a s t', 'east', 'ANSWER'),
    ('x^2 + 1 here', 'x^2+1', 'ANSWER'), ('yes', 'Yes', 'ANSWER'),
    # lists: all of them, each as often
    ('first 1 then 2', '{1, 2}', 'NUMBER'), ('first 1', '{1, 2}', None),
    ('4 h 1', '1 5 9', None), ('4 h 1 1 i 5 5 j 9', '1 5 9', 'NUMBER'),
    ('4 h 1', '1 1 1', None), ('1 1 1', '1 1 1', 'NUMBER'),
    # size
    ('', '7', 'EMPTY'), (' \n', '7', 'EMPTY'), ('\u200b', '7', 'EMPTY'),
    ('h' * MAX_CHARACTERS, '7', None),
    ('h' * (MAX_CHARACTERS + 1), '7', 'LONG'),
])
def test_what_is_rejected(hint, answer, why):
  got = spoiler(hint, answer)
  assert got == (None if why is None else Spoiler[why])
  assert spoiler_free(hint, answer) == (why is None)


def test_the_time_is_linear_in_a_hint():
  """All starts of a number in the longest hint, well under a second."""
  for piece in ('1,', '1 ', 'one ', '{', r'\frac', '- ', '10^', 'a'):
    assert spoiler((piece * MAX_CHARACTERS)[:MAX_CHARACTERS], '77') is None


def test_the_worlds_own_hint_passes_unless_it_is_the_answer():
  """One step of three is no spoiler; of one step it is all."""
  for question in micro.pool(200, 0.5, hints=True):
    assert len(question.hint.split()) == 3
    assert question.hint in micro.solution(question)
    assert spoiler_free(question.hint, question.answer)
    assert not spoiler_free(micro.solution(question), question.answer)
  assert not any(spoiler_free(q.hint, q.answer)
                 for q in micro.pool(50, 0.5, 1, hints=True))
