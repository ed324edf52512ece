"""Handwritten digits: what is asked, what is right, what is held out."""

import sys

import numpy as np
import pytest

from zppo_jax import tasks
from zppo_jax.chat import images
from zppo_jax.records import Clip, Picture
from zppo_jax.tasks import digits

pytest.importorskip('sklearn')


@pytest.fixture(scope='module')
def pool():
  return digits.pool(200, 0.6)


def scans_in(questions):
  return {int(scan) for q in questions
          for scan in q.id.split('/')[-1].split('-')}


@pytest.mark.parametrize(('kind', 'shown', 'answer', 'work'), [
    ('read', (7,), '7', 'see 7 A 7'),
    ('larger', (3, 8), 'second', 'see 3 see 8 A second'),
    ('larger', (8, 3), 'first', 'see 8 see 3 A first'),
    ('larger', (4, 4), 'same', 'see 4 see 4 A same'),
    ('sum', (7, 4), '11', 'see 7 see 4 is 11 A 11'),
    ('total', (7, 4, 5), '16', 'see 7 see 4 is 11 see 5 is 16 A 16'),
    ('middle', (7, 4, 5), '5', 'see 7 see 4 see 5 A 5'),
])
def test_answers_by_hand(kind, shown, answer, work):
  assert digits.solve(kind, shown) == answer
  assert digits.work(kind, shown) == work
  assert digits.parse_answer(work) == answer


@pytest.mark.parametrize(('text', 'answer'), [
    ('A 7', '7'), ('see 3 A 3 A 4', '4'), ('A', ''), ('see 3', ''), ('', ''),
    ('A first or so', 'first'), ('A\n7', ''),
    ('\\boxed{11}', '11'), ('A 3 so \\boxed{ 4 } or \\boxed{second}', 'second'),
    ('\\boxed{}', ''), ('\\boxed{4', ''),
])
def test_parse_answer(text, answer):
  assert digits.parse_answer(text) == answer


def test_the_pool_is_a_function_of_its_arguments(pool):
  assert pool == digits.pool(200, 0.6)
  assert pool != digits.pool(200, 0.6, seed=1)
  assert len({q.id for q in pool}) == 200
  assert sum(q.split == 'hard' for q in pool) == 120
  assert {digits.kind_of(q) for q in pool} == set(digits.KINDS)
  assert {q.split for q in pool[:40]} == set(digits.LEVELS)  # mixed


def test_true_work_is_right_and_within_the_words(pool):
  every = [*pool, *(q for s in digits.EVAL_SPLITS
                    for q in digits.evaluation(s, 30))]
  grader = tasks.get('digits').grader
  for q in every:
    response = digits.work(digits.kind_of(q), digits.digits_of(q))
    assert grader.grade(grader.parse(response), q)
    assert not grader.grade('28', q)
    assert set(f'{q.text} {response}'.split()) <= set(digits.WORDS)


def test_no_scan_of_a_split_is_in_a_pool():
  trained = scans_in(digits.pool(3000, 0.7))
  held_out = {i for found in digits.scans_of(True) for i in found}
  assert len(held_out) == 454 and not trained & held_out
  for split in digits.EVAL_SPLITS:
    assert scans_in(digits.evaluation(split, 200)) <= held_out


def test_pictures_show_their_scan(pool):
  asked = next(q for q in pool if digits.kind_of(q) == 'total')
  assert len(asked.media) == 3
  for shown, scan in zip(asked.media, asked.id.split('/')[-1].split('-'),
                         strict=True):
    assert isinstance(shown, Picture)
    image = images.decode(shown)
    assert image.size == (digits.SIDE, digits.SIDE)
    small = np.asarray(image.convert('L').resize((8, 8), 4)) / 255 * 16
    assert np.corrcoef(small.ravel(),
                       digits.scans()[0][int(scan)].ravel())[0, 1] > 0.9


def test_a_clip_shows_each_digit_for_a_temporal_patch():
  asked = digits.evaluation('hard_clip', 2)[1]
  assert digits.kind_of(asked) == 'total'
  (clip,) = asked.media
  assert isinstance(clip, Clip) and clip.fps == digits.FPS
  chosen = [digits.picture(int(s)) for s in asked.id.split('/')[-1].split('-')]
  assert list(clip.frames) == [p for p in chosen for _ in range(2)]
  assert asked.split == 'hard_clip'


def test_evaluation_is_a_prefix_of_a_fixed_order():
  for split in digits.EVAL_SPLITS:
    assert digits.evaluation(split, 9) == digits.evaluation(split, 25)[:9]


def test_wrong_requests_are_named():
  with pytest.raises(KeyError, match="of digits 'harder'; known: hard, easy"):
    digits.evaluation('harder', 1)
  with pytest.raises(ValueError, match='hard_share is 1.5'):
    digits.pool(4, 1.5)
  with pytest.raises(ValueError, match='909 easy .* there are 908'):
    digits.evaluation('easy', 909)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
  digits.scans.cache_clear()
  monkeypatch.setitem(sys.modules, 'sklearn', None)
  with pytest.raises(ValueError, match=r'zppo_jax\[digits\]'):
    digits.scans()
