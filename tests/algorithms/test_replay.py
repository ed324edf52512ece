"""The buffer by hand: who comes in, who leaves, in which order."""

import itertools

import numpy as np
import pytest

from tests.builders import assert_uniform, group, question, rollout
from zppo_jax.algorithms.replay import ReplayBuffer, Settlement
from zppo_jax.records import Group, PromptKind, Verdict

TAU = 0.5


def settle(buffer, step, **right):
  """Settles a step: question id = correct rollouts of 8."""
  return buffer.settle([group(q, n) for q, n in right.items()], TAU, step)


def filled(capacity, *names):
  """A buffer that admitted each name at a step of its own."""
  buffer = ReplayBuffer(capacity)
  for step, name in enumerate(names):
    buffer, _ = settle(buffer, step, **{name: 0})
  return buffer


def ids(entries):
  return [e.question.id for e in entries]


def test_admits_below_tau_and_nothing_at_or_above_it():
  buffer, settled = settle(ReplayBuffer(9), 5, a=3, b=4, c=5, d=0, e=8)
  assert list(buffer.entries) == ['a', 'd']
  assert ids(settled.admitted) == ['a', 'd']
  assert not settled.graduated and not settled.evicted
  entry = buffer.entries['a']
  assert (entry.admitted_at, entry.entry_accuracy, entry.visits) == (
      5, 3 / 8, 0)


def test_graduates_at_exactly_tau_and_stays_just_below():
  buffer = filled(9, 'a', 'b', 'c')
  buffer, settled = settle(buffer, 3, a=4, b=3, c=8)
  assert ids(settled.graduated) == ['a', 'c']
  assert list(buffer.entries) == ['b']
  assert not settled.admitted and not settled.evicted


def test_questions_of_a_saturated_bcq_rest_by_hand():
  """a's BCQ is all wrong and b's all right at step 4; c's has both. A plain
  group, an NCQ and a question outside the buffer say nothing. They rest for
  steps 5 and 6, or until a BCQ has both again."""
  bcq = lambda name, right: group(name, right, kind=PromptKind.BCQ)
  buffer = filled(9, 'a', 'b', 'c', 'd').with_saturated(
      [bcq('a', 0), bcq('b', 8), bcq('c', 3), bcq('x', 0), group('d', 0),
       group('d', 0, kind=PromptKind.NCQ)], 4)
  assert list(buffer.entries) == ['a', 'b', 'c', 'd']
  assert [buffer.resting(step, 2) for step in (5, 6, 7)] == [
      {'a', 'b'}, {'a', 'b'}, frozenset()]
  assert buffer.resting(5, 0) == frozenset()
  kept, _ = settle(buffer, 5, a=0, b=8)  # a stays, and b graduates
  assert kept.resting(5, 2) == {'a'} and kept.entries['a'].visits == 1
  again = buffer.with_saturated([bcq('a', 5)], 5)
  assert again.resting(6, 9) == {'b'}
  found = ReplayBuffer.load(9, buffer.dump(), question)
  assert found == buffer
  # Without the option a checkpoint has the four values that it always had.
  assert {len(row) for row in filled(9, 'a').dump()} == {4}


def test_graduate_keeps_the_accuracy_of_its_entry():
  buffer, _ = settle(ReplayBuffer(9), 0, a=2)
  _, settled = settle(buffer, 7, a=6)
  entry, = settled.graduated
  assert (entry.admitted_at, entry.entry_accuracy) == (0, 2 / 8)


def test_a_graduate_that_fails_again_starts_as_a_new_entry_at_the_end():
  buffer = filled(9, 'a', 'b')
  buffer, _ = settle(buffer, 2, a=8)
  buffer, settled = settle(buffer, 3, a=1)
  assert list(buffer.entries) == ['b', 'a']
  assert settled.admitted == (buffer.entries['a'],)
  assert buffer.entries['a'].admitted_at == 3
  assert buffer.entries['a'].visits == 0


def test_refailed_replay_keeps_its_place_in_the_queue():
  buffer = filled(2, 'a', 'b')
  buffer, settled = settle(buffer, 2, a=3)
  assert list(buffer.entries) == ['a', 'b']
  assert not settled.admitted
  assert (buffer.entries['a'].admitted_at,
          buffer.entries['a'].entry_accuracy) == (0, 0.0)
  buffer, settled = settle(buffer, 3, c=0)
  assert ids(settled.evicted) == ['a']
  assert list(buffer.entries) == ['b', 'c']


def test_evicts_the_oldest_first_when_many_come_at_once():
  buffer = filled(3, 'a', 'b')
  buffer, settled = settle(buffer, 2, c=0, d=0, e=0)
  assert ids(settled.admitted) == ['c', 'd', 'e']
  assert ids(settled.evicted) == ['a', 'b']
  assert list(buffer.entries) == ['c', 'd', 'e']


def test_one_step_may_evict_what_it_admitted():
  buffer, settled = settle(ReplayBuffer(2), 0, a=0, b=0, c=0, d=0)
  assert ids(settled.admitted) == ['a', 'b', 'c', 'd']
  assert ids(settled.evicted) == ['a', 'b']
  assert list(buffer.entries) == ['c', 'd']


def test_a_graduate_makes_room_whatever_the_order_of_the_groups():
  for order in (('c', 'a'), ('a', 'c')):
    right = {'a': 8, 'c': 0}
    buffer, settled = settle(filled(2, 'a', 'b'), 2,
                             **{q: right[q] for q in order})
    assert list(buffer.entries) == ['b', 'c']
    assert not settled.evicted


def test_a_buffered_question_that_is_drawn_as_new_settles_like_a_replay():
  buffer = filled(9, 'a', 'b', 'c')
  drawn = buffer.draw(3, ['a', 'b'], np.random.default_rng(0))
  assert [q.id for q in drawn] == ['c']  # a and b came as new questions
  buffer, settled = settle(buffer, 3, a=0, b=4, c=0)
  assert list(buffer.entries) == ['a', 'c']
  assert ids(settled.graduated) == ['b'] and not settled.admitted
  assert buffer.entries['a'].admitted_at == 0


def test_visits_count_plain_groups_since_admission():
  buffer = filled(9, 'a', 'b')
  buffer, _ = settle(buffer, 2, a=1)
  buffer, _ = settle(buffer, 3, a=2, b=0)
  assert {i: e.visits for i, e in buffer.entries.items()} == {'a': 2, 'b': 1}
  _, settled = settle(buffer, 4, a=8)
  assert settled.graduated[0].visits == 3


def test_settle_leaves_the_old_buffer_alone():
  before = filled(2, 'a', 'b')
  entries = dict(before.entries)
  settle(before, 2, a=0, b=8, c=0, d=0)
  assert before.entries == entries


@pytest.mark.parametrize('kind', [PromptKind.BCQ, PromptKind.NCQ])
def test_a_reformulated_group_is_refused(kind):
  with pytest.raises(ValueError, match=rf"{kind.name}.*'a'"):
    ReplayBuffer(9).settle([group('a', 8, kind=kind)], TAU, 0)


@pytest.mark.parametrize('capacity', [0, -3])
def test_capacity_below_one_is_refused(capacity):
  with pytest.raises(ValueError, match=f'capacity is {capacity}'):
    ReplayBuffer(capacity)


def test_holds_the_question_and_no_response():
  asked = question('a', text='C l 7')
  found = group(asked, 3)
  buffer, _ = ReplayBuffer(9).settle([found], TAU, 0)
  assert buffer.entries['a'].question is asked
  for response in found.rollouts:
    assert response.text not in repr(buffer)
    assert repr(response.tokens) not in repr(buffer)
  assert not any(v.name in repr(buffer) for v in Verdict)


def test_draw_is_without_replacement_and_at_most_what_is_eligible():
  buffer = filled(9, *'abcdef')
  for seed in range(50):
    drawn = [q.id for q in buffer.draw(4, 'bx', np.random.default_rng(seed))]
    assert len(drawn) == len(set(drawn)) == 4
    assert set(drawn) <= set('acdef')
  drawn = buffer.draw(99, 'ab', np.random.default_rng(0))
  assert {q.id for q in drawn} == set('cdef') and len(drawn) == 4
  assert buffer.draw(3, 'abcdef', np.random.default_rng(0)) == ()
  assert buffer.draw(0, '', np.random.default_rng(0)) == ()
  assert ReplayBuffer(1).draw(3, '', np.random.default_rng(0)) == ()
  assert len(buffer) == 6  # drawing takes nothing out


def test_draw_is_a_function_of_its_generator():
  buffer = filled(99, *map(str, range(40)))
  one, again, other = (buffer.draw(9, '', np.random.default_rng(s))
                       for s in (1, 1, 2))
  assert one == again != other


def test_draw_is_uniform_over_the_eligible():
  buffer = filled(9, *'abcdef')
  rng = np.random.default_rng(0)
  pairs = [frozenset(q.id for q in buffer.draw(2, 'd', rng))
           for _ in range(2000)]
  assert_uniform(pairs, map(frozenset, itertools.combinations('abcef', 2)))


def dark(name):
  """A group without a single verdict."""
  lost = rollout(verdict=Verdict.TIMEOUT)
  return Group(group(name, 0).prompt, (lost,) * 8)


def test_a_group_without_a_verdict_settles_nothing():
  """It admits no question, and visits none that is here."""
  buffer, settled = ReplayBuffer(9).settle([dark('a')], TAU, 0)
  assert not buffer.entries and settled == Settlement((), (), ())
  before = filled(9, 'a')
  after, settled = before.settle([dark('a')], TAU, 1)
  assert after.entries == before.entries and settled == Settlement((), (), ())
