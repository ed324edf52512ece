"""Caps and candidates of Algorithm 1, steps 3 to 5, by hand."""

import dataclasses
import itertools

import numpy as np
import pytest

from tests.builders import assert_uniform, group, question, rollout, wrong
from tests.long import long
from zppo_jax.algorithms.reformulate import (
  REFORMULATIONS,
  accuracy_bounds,
  bcq,
  by_name,
  ncq,
  placebo_bcq,
  post_cap,
  pre_cap,
  prefix,
  random_bcq,
  random_ncq,
  rank,
  salt_of,
  surely_capped,
  surely_shown,
  with_others,
)
from zppo_jax.records import (
  HardVisit,
  Instance,
  PromptKind,
  StopReason,
  Verdict,
)

TAU = 0.5
BOTH = ('bcq', 'ncq')


def rng(seed=0):
  return np.random.default_rng(seed)


def ids(groups):
  return [g.prompt.question.id for g in groups]


def visit(name='q', wrong_count=5, teacher_count=1):
  """A hard visit; teacher traces end on the letters a, b, c, ..."""
  teacher = tuple(rollout(f'4 h 9 A 9 {c}')
                  for c in 'abcdefgh'[:teacher_count])
  return HardVisit(question(name), 0.0,
                   tuple(wrong(i) for i in range(wrong_count)), teacher)


def kinds(instances):
  return [f'{i.question.id}:{i.kind.name}' for i in instances]


def all_of(draw):
  """One generator for all questions."""
  return lambda question_id: draw


def capped(teacher_counts, limit, names=BOTH):
  """Post-cap over questions a, b, ... with so many teacher answers each."""
  visits = [visit('abcdef'[i], teacher_count=n)
            for i, n in enumerate(teacher_counts)]
  return kinds(post_cap(with_others(visits), names, limit, all_of(rng())))


def test_pre_cap_takes_the_hardest_below_tau():
  plain = [group('a', 3), group('b', 4), group('c', 0), group('d', 8),
           group('e', 2), group('f', 1)]
  assert ids(pre_cap(plain, TAU, 99, rng())) == ['c', 'f', 'e', 'a']
  assert ids(pre_cap(plain, TAU, 3, rng())) == ['c', 'f', 'e']
  assert pre_cap(plain, TAU, 0, rng()) == []
  assert pre_cap([], TAU, 3, rng()) == []


def test_pre_cap_breaks_ties_by_a_seeded_shuffle():
  plain = [group('x', 2), *(group(q, 0) for q in 'abcd'), group('y', 1)]
  assert ids(pre_cap(plain, TAU, 9, rng(1))) == ids(
      pre_cap(plain, TAU, 9, rng(1)))
  draw = rng(0)
  orders = [''.join(ids(pre_cap(plain, TAU, 9, draw))) for _ in range(1200)]
  assert_uniform(
      orders, [''.join(p) + 'yx' for p in itertools.permutations('abcd')])


def test_ties_by_name_do_not_depend_on_the_list():
  """Uniform over orders, and the order of some is that of all without the
  others; by the list, another question more changes it."""
  plain = [group(q, 0) for q in 'abcdef']
  whole = ids(pre_cap(plain, TAU, 9, rng(1), by_name))
  some = ids(pre_cap([plain[i] for i in (5, 0, 3)], TAU, 9, rng(1), by_name))
  assert some == [i for i in whole if i in 'fad']
  draw = rng(0)
  orders = [''.join(ids(pre_cap(plain[:4], TAU, 9, draw, by_name)))
            for _ in range(1200)]
  assert_uniform(orders, map(''.join, itertools.permutations('abcd')))


def test_bounds_of_an_accuracy_hold_whatever_is_still_to_come():
  """Every way in which four rollouts may end, and every part that ended."""
  one = {Verdict.CORRECT: rollout(), Verdict.WRONG: wrong(0),
         Verdict.CRASH: rollout(verdict=Verdict.CRASH)}
  for verdicts in itertools.product(one, repeat=4):
    rollouts = [one[v] for v in verdicts]
    accuracy = dataclasses.replace(group('a', 0), rollouts=rollouts).accuracy
    for count in range(5):
      low, high = accuracy_bounds(rollouts[:count], 4)
      if accuracy == accuracy:  # not nan
        assert low <= accuracy <= high
        assert count < 4 or low == accuracy == high
      else:
        assert not high < TAU


def test_who_is_surely_within_the_cap():
  """Of all ways in which the groups may end, `pre_cap` takes these in each;
  and once all have ended, exactly these."""
  draw = np.random.default_rng(0)
  names, size = 'abcd', 2
  salt = salt_of(rng(5))
  ranks = [rank(name, salt) for name in names]
  ends = {name: [group(name, right, size) for right in range(size + 1)]
          for name in names}
  every = list(itertools.product(range(size + 1), repeat=len(names)))
  taken = {limit: {rights: set(ids(pre_cap(
      [ends[n][r] for n, r in zip(names, rights, strict=True)], TAU, limit,
      rng(5), by_name))) for rights in every} for limit in (1, 2, 3)}
  some = 0
  for _ in range(60):
    limit = int(draw.integers(1, 4))
    goal = every[draw.integers(len(every))]
    counts = draw.integers(0, size + 1, len(names))
    ended = {i: ends[n][r].rollouts[:c] for i, (n, r, c) in enumerate(
        zip(names, goal, counts, strict=True)) if c}
    # Rollouts end in their order: the right ones first (builders.group).
    possible = [rights for rights in every if all(
        ends[names[i]][rights[i]].rollouts[:len(its)] == its
        for i, its in ended.items())]
    sure = {names[i] for i in surely_capped(
        {i: accuracy_bounds(its, size) for i, its in ended.items()}, ranks,
        TAU, limit)}
    assert all(sure <= taken[limit][rights] for rights in possible)
    some += bool(sure) and len(possible) > 1
    if all(counts == size):
      assert sure == taken[limit][goal]
  assert some > 5


@pytest.mark.parametrize('names', [
    BOTH, long(('ncq',)), long(('ncq', 'bcq')), long(('bcq',))])
@pytest.mark.parametrize('name', ['ncq', 'bcq'])
def test_instances_that_no_answer_takes_out_of_the_post_cap(names, name):
  """Over all answers that the teacher may give; a BCQ where there is one."""
  for limit in range(8):
    kept = [{i for i, n in enumerate('abcdef')
             if f'{n}:{name.upper()}' in capped(answers, limit, names)
             or (name == 'bcq' in names and not answers[i])}
            for answers in itertools.product((0, 1), repeat=6)]
    sure = surely_shown(names, name, limit)
    assert set.intersection(*kept) == set(range(min(6, sure)))


def test_bcq_shows_one_teacher_correct_and_one_student_wrong():
  seen = visit('q', wrong_count=4, teacher_count=3)
  draw = rng(0)
  pairs = [bcq(seen, draw) for _ in range(1200)]
  for instance in pairs:
    assert instance.kind == PromptKind.BCQ
    assert instance.question is seen.question
  # Uniform over 3 teacher traces x 4 wrong ones x 2 orders, jointly.
  cells = [pair for good in seen.teacher_correct for bad in seen.wrong
           for pair in ((good, bad), (bad, good))]
  assert_uniform([i.candidates for i in pairs], cells)


def test_bcq_needs_a_teacher_that_is_right():
  assert bcq(visit(teacher_count=0), rng()) is None


def test_ncq_shows_all_wrong_rollouts_in_sampling_order():
  wrongs = (wrong(3), wrong(1), wrong(3),
            rollout('4 h h', Verdict.NO_ANSWER))
  for teacher in ((), (rollout(),)):
    seen = HardVisit(question(), 0.25, wrongs, teacher)
    assert ncq(seen, rng()) == Instance(seen.question, PromptKind.NCQ, wrongs)


def test_placebo_shows_two_different_wrong_rollouts_uniformly():
  seen = visit(wrong_count=4, teacher_count=2)
  draw = rng(0)
  pairs = [placebo_bcq(seen, draw) for _ in range(1200)]
  assert {i.kind for i in pairs} == {PromptKind.BCQ}
  assert_uniform([i.candidates for i in pairs],
                 itertools.permutations(seen.wrong, 2))


@pytest.mark.parametrize('teacher_count', [0, 1, 4])
def test_placebo_exists_exactly_when_the_bcq_would(teacher_count):
  for wrong_count in (2, 5, 8):
    seen = visit('q', wrong_count, teacher_count)
    assert (placebo_bcq(seen, rng()) is None) == (bcq(seen, rng()) is None)
  assert placebo_bcq(visit('q', 1, teacher_count), rng()) is None


@pytest.mark.parametrize(('length', 'stop', 'forced'), [
    (10, StopReason.END, 4),
    (5, StopReason.END, 2),  # 0.4 * 5, which the end token does not enter
    (9, StopReason.END, 3),  # floor(3.6)
    (3, StopReason.END, 1),
    (5, StopReason.STOP_STRING, 2),  # it has no end token
])
def test_a_prefix_is_the_floored_share_of_a_right_response(
    length, stop, forced):
  """App. D.2: the first floor(0.4 L) tokens."""
  trace = rollout(' '.join('abcdefghij'[:length]))
  ids = trace.tokens[:length]
  if stop != StopReason.END:
    trace = dataclasses.replace(trace, tokens=ids, stop=stop)
  seen = HardVisit(question(), 0.0, (wrong(0),), (trace,))
  assert prefix(seen, rng()) == Instance(
      question=seen.question, kind=PromptKind.PREFIX, forced=ids[:forced])


def test_a_prefix_is_drawn_uniformly_among_the_right_responses():
  seen = HardVisit(question(), 0.0, (wrong(0),), tuple(
      rollout(f'{c} h 9 A 9') for c in 'abc'))
  draw = rng()
  assert_uniform([prefix(seen, draw).forced for _ in range(600)],
                 [r.tokens[:2] for r in seen.teacher_correct])


def test_without_a_right_response_of_some_length_there_is_no_prefix():
  assert prefix(visit(teacher_count=0), rng()) is None
  short = HardVisit(question(), 0.0, (wrong(0),), (rollout('A 9'),))
  assert prefix(short, rng()) is None  # floor(0.4 * 2) is 0


def test_post_cap_walks_the_questions_and_puts_the_bcq_first():
  assert capped([1, 1], 99) == ['a:BCQ', 'a:NCQ', 'b:BCQ', 'b:NCQ']
  assert capped([1, 0, 1], 99) == ['a:BCQ', 'a:NCQ', 'b:NCQ', 'c:BCQ',
                                   'c:NCQ']


def test_post_cap_prefers_the_bcq_in_the_last_slot():
  assert capped([1, 1, 1], 5) == ['a:BCQ', 'a:NCQ', 'b:BCQ', 'b:NCQ',
                                  'c:BCQ']
  assert capped([1, 1], 1) == ['a:BCQ']


def test_post_cap_gives_the_last_slot_to_the_ncq_where_the_teacher_failed():
  assert capped([1, 1, 0], 5) == ['a:BCQ', 'a:NCQ', 'b:BCQ', 'b:NCQ',
                                  'c:NCQ']
  assert capped([0, 0, 0], 2) == ['a:NCQ', 'b:NCQ']


def test_post_cap_stops_at_the_first_that_does_not_fit():
  # b's BCQ overflows; nothing after it is tried, not even c's NCQ.
  assert capped([1, 1, 0], 2) == ['a:BCQ', 'a:NCQ']
  assert capped([0, 1, 0], 2) == ['a:NCQ', 'b:BCQ']
  assert capped([1, 1], 0) == []


def test_post_cap_is_one_pool_for_both_kinds():
  for limit in range(8):
    made = capped([1, 0, 1, 1], limit)
    assert len(made) == min(limit, 7)


def test_post_cap_keeps_the_hardest_first_order_it_was_given():
  visits = [visit(name) for name in 'dbca']
  assert kinds(post_cap(visits, ('ncq',), 3, all_of(rng()))) == [
      'd:NCQ', 'b:NCQ', 'c:NCQ']


@pytest.mark.parametrize(('control', 'kind'), [
    (('placebo_bcq', 'ncq'), ''), (('random_bcq', 'random_ncq'), ''),
    (('bare_bcq', 'bare_ncq'), ''), (('again_bcq', 'again_ncq'), 'AGAIN_')])
def test_controls_take_the_slots_of_what_they_control(control, kind):
  """Question for question, for both reformulations and for each alone."""
  for counts, limit in itertools.product(([1, 0, 4, 1], [1, 1], [0, 0, 0]),
                                         range(8)):
    for part in (slice(0, 2), slice(0, 1), slice(1, 2)):
      expected = capped(counts, limit, BOTH[part])
      assert capped(counts, limit, control[part]) == [
          made.replace(':', f':{kind}') for made in expected]


def test_random_candidates_are_those_of_another_visit_by_hand():
  """Of a's two neighbours only c has a right response: a whole BCQ of c in
  both orders, with the question of a. The NCQ shows all wrong ones of b or
  c."""
  good, bad = rollout('5 h 9 A 9'), (wrong(3), wrong(4))
  a = HardVisit(question('a'), 0.0, (wrong(1),), (rollout(),))
  b = HardVisit(question('b'), 0.0, (wrong(2),), ())
  c = HardVisit(question('c'), 0.0, bad, (good,))
  [seen, other, _] = with_others([a, b, c])
  assert seen.others == (b, c) and other.others == (a, c)
  draw = rng()
  assert_uniform(
      [random_bcq(seen, draw) for _ in range(800)],
      [Instance(a.question, PromptKind.BCQ, pair) for w in bad
       for pair in ((good, w), (w, good))])
  assert_uniform(
      [random_ncq(seen, draw) for _ in range(800)],
      [Instance(a.question, PromptKind.NCQ, of.wrong) for of in (b, c)])
  # Without a BCQ of its own, and without another question that has one.
  assert random_bcq(other, draw) is None
  [alone, _] = with_others([a, b])
  assert random_bcq(alone, draw) is None
  assert random_ncq(with_others([a])[0], draw) is None


def test_only_a_bcq_ever_shows_a_teacher_trace():
  seen = [visit(name, 4, 3) for name in 'abc']
  spoken = set(seen[0].teacher_correct)
  for name in REFORMULATIONS:
    draw = rng(0)
    shown = {c for _ in range(30)
             for i in post_cap(with_others(seen), (name,), 99, all_of(draw))
             for c in i.candidates}
    assert bool(shown & spoken) == (name in ('bcq', 'random_bcq'))
