"""Which questions a step draws."""

import dataclasses

import pytest

from tests.builders import assert_uniform, question
from zppo_jax.data.loader import QuestionLoader


def source(size=10, num_new=3, seed=0, repeat=True):
  pool = tuple(question(f'q{i}') for i in range(size))
  return QuestionLoader(pool, num_new, seed, repeat)


def ids(questions):
  return [q.id for q in questions]


def test_the_questions_of_a_step_are_distinct():
  drawn = source()
  for step in range(60):
    assert len(set(ids(drawn.draw(step)))) == 3


def test_a_pass_draws_each_question_at_most_once():
  drawn = source()  # 10 questions, 3 a step: 3 steps a pass, one left over
  assert drawn.steps_per_pass == 3
  for epoch in range(20):
    seen = [q for step in range(3) for q in ids(drawn.draw(3 * epoch + step))]
    assert len(seen) == len(set(seen)) == 9


def test_a_pass_that_divides_draws_the_whole_pool():
  drawn = source(size=12, num_new=4)
  seen = [q for step in range(3) for q in ids(drawn.draw(step))]
  assert sorted(seen) == sorted(ids(drawn.pool))


def test_passes_are_shuffled_anew_and_leave_out_each_question_alike():
  drawn = source()
  passes = [[q for s in range(3) for q in ids(drawn.draw(3 * e + s))]
            for e in range(600)]
  assert passes[0] != passes[1]
  left_out = [(set(ids(drawn.pool)) - set(seen)).pop() for seen in passes]
  assert_uniform(left_out, ids(drawn.pool))


def test_a_draw_depends_on_seed_and_step_alone():
  forward = [ids(source().draw(step)) for step in range(12)]
  resumed = source()  # no state: any order, any number of times
  assert [ids(resumed.draw(step)) for step in reversed(range(12))] == (
      forward[::-1])
  assert [ids(source(seed=1).draw(step)) for step in range(12)] != forward


def test_the_pool_comes_back_as_it_went_in():
  drawn = source()
  assert set(drawn.draw(0)) <= set(drawn.pool)


def test_a_single_pass_may_not_be_overrun():
  once = source(repeat=False)
  once.check_steps(3)
  with pytest.raises(ValueError, match=r'4 steps of 3 .*at most 3 steps'):
    once.check_steps(4)
  dataclasses.replace(once, repeat=True).check_steps(4)


def test_bad_pools_are_refused():
  with pytest.raises(ValueError, match='empty'):
    QuestionLoader((), 3, 0, True)
  with pytest.raises(ValueError, match='twice'):
    QuestionLoader((question('a'), question('b'), question('a')), 2, 0, True)
  with pytest.raises(ValueError, match='has 2 questions; a step draws 3'):
    source(size=2)
  source(size=3)
