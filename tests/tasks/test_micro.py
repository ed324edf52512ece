"""The embedded world against hand arithmetic."""

import itertools

import numpy as np
import pytest

from zppo_jax.tasks import micro

# Held-out pairs (first applied, then): a-d, c-b, d-b and h-h, j-h, j-l,
# k-i, k-l. Of the 4^3 easy chains 4 x 3 x 2 - 1 (adb twice) hold one, of the
# 5^3 hard ones 5 x 5 x 2 - 2 (hhh and jhh twice).
EASY_CHAINS, HARD_CHAINS = 64 - 23, 125 - 48
PER_CHAIN = 2 * 10  # families C and V, ten digits


def texts(questions):
  return [q.text for q in questions]


@pytest.mark.parametrize(('op', 'x', 'value'), [
    ('a', 3, 6),  # 4*9 + 1*3 + 7 = 46
    ('d', 2, 1),  # 4*4 + 5*2 + 5 = 31
    ('e', 9, 9),  # 4*81 + 3*9 + 8 = 359
    ('g', 0, 2),  # the constant
    ('h', 4, 1),  # 0*16 + 4*4 + 5 = 21
    ('i', 1, 5),  # 3*1 + 4*1 + 8 = 15
    ('j', 5, 9),  # 2*25 + 5*5 + 4 = 79
    ('k', 7, 2),  # 2*49 + 9*7 + 1 = 162
    ('l', 8, 5),  # 2*8 + 9 = 25
])
def test_operators_are_quadratics_mod_10(op, x, value):
  assert micro.apply_operator(op, x) == value


def test_every_table_is_a_quadratic_with_its_constant():
  world, x = micro.world(), np.arange(10)
  assert world.table.shape == (12, 10) and world.constant.shape == (12,)
  for row, c in zip(world.table, world.constant, strict=True):
    assert row[0] == c != 0
    assert any(np.array_equal((a * x * x + b * x + c) % 10, row)
               for a in range(10) for b in range(1, 10))
  assert len({tuple(row) for row in world.table}) == 12


def test_held_out_pairs_stay_within_a_level():
  pairs = micro.world().held_out
  assert {''.join(p) for p in pairs} == {
      'ad', 'cb', 'db', 'hh', 'jh', 'jl', 'ki', 'kl'}
  assert [micro.is_composed(ops) for ops in (
      'ad', 'da', 'hh', 'h', 'ihh', 'kl', 'lk', 'klh', 'jij')] == [
          True, False, True, False, True, True, False, True, False]


def test_a_chain_by_hand():
  made = micro.make_question('C', 'hij', '4', 'hard')
  assert (made.id, made.text, made.answer, made.split) == (
      'micro/C/hij/4', 'C h i j 4', '1 5 9', 'hard')
  assert micro.work('C', 'hij', '4', micro.apply_operator) == (
      '4 h 1 1 i 5 5 j 9 A 1 5 9', '1 5 9')


def test_a_reversed_chain_by_hand():
  made = micro.make_question('V', 'hij', '4', 'hard')
  assert (made.id, made.text, made.answer) == (
      'micro/V/hij/4', 'V j i h 4', '1 5 9')
  assert micro.work('V', 'hij', '4', micro.apply_operator) == (
      '4 h 1 1 i 5 5 j 9 A 1 5 9', '1 5 9')


def test_a_list_by_hand():
  made = micro.make_question('L', 'hij', '409', 'hard_list')
  # h(4) = 1; i(0) = 8; j(9) = 162 + 45 + 4 = 211.
  assert (made.id, made.text, made.answer) == (
      'micro/L/hij/409', 'L h 4 i 0 j 9', '1 8 1')
  assert micro.work('L', 'hij', '409', micro.apply_operator) == (
      '4 h 1 0 i 8 9 j 1 A 1 8 1', '1 8 1')


def test_work_follows_the_steps_it_is_given():
  plus_one = lambda op, x: (x + 1) % 10
  assert micro.work('C', 'hij', '8', plus_one) == (
      '8 h 9 9 i 0 0 j 1 A 9 0 1', '9 0 1')


@pytest.mark.parametrize(('text', 'answer'), [
    ('4 h 1 1 i 5 5 j 9 A 1 5 9', '1 5 9'),
    ('A 7', '7'),
    ('A 1 2 A 3 4', '3 4'),  # the last one counts
    ('A 1 5 9 h 4', '1 5 9'),
    ('A 1 2 A', ''),  # nothing behind the last one
    ('A 1 2 A h 3', ''),
    ('', ''), ('A', ''), ('A ', ''), ('1 5 9', ''), ('A h 1', ''),
    ('<end> BCQ : , A', ''), ('a 1 5', ''), ('A <end> 1', ''),
    ('A 15 9', ''), ('A\n1', ''),
])
def test_parse_answer(text, answer):
  assert micro.parse_answer(text) == answer


def test_grade_wants_all_values_in_order():
  asked = micro.make_question('C', 'hij', '4', 'hard')
  assert micro.grade('1 5 9', asked)
  for wrong in ('1 5 8', '1 9 5', '1 5', '1 5 9 9', '9', '', '159'):
    assert not micro.grade(wrong, asked)


def test_the_true_work_of_every_question_is_right():
  questions = micro.pool(200, 0.5) + [
      q for s in micro.EVAL_SPLITS for q in micro.evaluation(s, 50)]
  for q in questions:
    _, family, ops, digits = q.id.split('/')
    response, _ = micro.work(family, ops, digits, micro.apply_operator)
    assert micro.grade(micro.parse_answer(response), q)
    assert q.text == micro.question_text(family, ops, digits)


@pytest.mark.parametrize(('size', 'share', 'hard'), [
    (800, 0.5, 400), (100, 0.25, 25), (10, 0.0, 0), (10, 1.0, 10),
    (10, 0.26, 3),
])
def test_pool_sizes(size, share, hard):
  made = micro.pool(size, share)
  assert len({q.id for q in made}) == len(made) == size
  assert sum(q.split == 'hard' for q in made) == hard
  assert {q.split for q in made} <= {'hard', 'easy'}
  for q in made:
    _, family, ops, digits = q.id.split('/')
    assert family in 'CV' and len(ops) == 3 and len(digits) == 1
    assert set(ops) <= set(micro.HARD if q.split == 'hard' else micro.EASY)


def test_the_pool_is_the_same_every_time_and_mixed():
  made = micro.pool(800, 0.5)
  assert made == micro.pool(800, 0.5)
  first_half = sum(q.split == 'hard' for q in made[:400])
  assert 150 < first_half < 250  # 200 +- 5 sigma


def test_pool_and_evaluation_are_disjoint_at_every_size():
  largest = (micro.pool(HARD_CHAINS * PER_CHAIN - 256, 1.0)
             + micro.pool(EASY_CHAINS * PER_CHAIN - 256, 0.0))
  trained = set(texts(largest))
  assert len(trained) == (HARD_CHAINS + EASY_CHAINS) * PER_CHAIN - 512
  for split in ('hard', 'easy'):
    made = micro.evaluation(split, 256)
    assert len(set(texts(made))) == 256
    assert not trained & set(texts(made))
  for split in ('hard_list', 'easy_list', 'hard_composed'):
    assert not trained & set(texts(micro.evaluation(split, 200)))


def test_held_out_compositions_are_never_in_a_pool_or_a_plain_split():
  questions = micro.pool(1000, 0.6) + [
      q for s in ('hard', 'easy') for q in micro.evaluation(s, 256)]
  held_out = {''.join(p) for p in micro.world().held_out}
  for q in questions:
    family, *ops, _ = q.text.split()
    ops = ops[::-1] if family == 'V' else ops
    assert not {''.join(p) for p in itertools.pairwise(ops)} & held_out


def test_every_composed_question_has_a_held_out_pair():
  made = micro.evaluation('hard_composed', 48 * PER_CHAIN)
  assert len(set(texts(made))) == 48 * PER_CHAIN  # all there are
  assert all(micro.is_composed(q.id.split('/')[2]) for q in made)
  assert {q.split for q in made} == {'hard_composed'}
  with pytest.raises(ValueError):
    micro.evaluation('hard_composed', 48 * PER_CHAIN + 1)


@pytest.mark.parametrize(('split', 'level'), [
    ('hard_list', micro.HARD), ('easy_list', micro.EASY)])
def test_list_splits_hold_lists_of_their_level(split, level):
  made = micro.evaluation(split, 300)
  assert len(set(texts(made))) == 300
  for q in made:
    _, family, ops, digits = q.id.split('/')
    assert family == 'L' and set(ops) <= set(level) and len(digits) == 3
    assert q.split == split


def test_evaluation_is_a_prefix_of_a_fixed_order():
  for split in micro.EVAL_SPLITS:
    assert micro.evaluation(split, 40) == micro.evaluation(split, 90)[:40]


def test_num_steps_changes_the_length_of_all():
  for q in micro.pool(8, 0.5, 2) + micro.evaluation('hard_list', 9, 2):
    assert len(q.answer.split()) == 2
  trained = set(texts(micro.pool(400, 0.5, 4)))
  assert not trained & set(texts(micro.evaluation('hard', 256, 4)))


def test_unknown_splits_list_the_known():
  with pytest.raises(KeyError) as error:
    micro.evaluation('harder', 4)
  assert "'harder'" in str(error.value)
  for split in micro.EVAL_SPLITS:
    assert split in str(error.value)


def test_asking_for_too_much_says_how_much_there_is():
  with pytest.raises(ValueError, match="'hard' has 256 .* 257 were asked"):
    micro.evaluation('hard', 257)
  most = HARD_CHAINS * PER_CHAIN - 256
  with pytest.raises(ValueError, match=f'{most + 1} hard .* has {most} '):
    micro.pool(most + 1, 1.0)
  most = EASY_CHAINS * PER_CHAIN - 256
  with pytest.raises(ValueError, match=f'{most + 1} easy .* has {most} '):
    micro.pool(most + 1, 0.0)


@pytest.mark.parametrize('share', [-0.1, 1.1, float('nan')])
def test_hard_share_is_a_share(share):
  with pytest.raises(ValueError, match=f'hard_share is {share}'):
    micro.pool(10, share)
