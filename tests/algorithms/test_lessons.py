"""Whose tokens a step trains on."""

import dataclasses
import types

import numpy as np
import pytest

from tests.builders import RIGHT, group, rollout, wrong
from zppo_jax.algorithms import lessons, schedules
from zppo_jax.algorithms.credit import routes
from zppo_jax.algorithms.privileged.contexts import Material, Untaught
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.records import Answers, CallStats, Group, PromptKind


class Fake:
  """A teacher with fixed groups by question."""

  def __init__(self, groups):
    self.groups = {g.prompt.question.id: g for g in groups}
    self.steps = []

  def answer(self, prompts, step):
    self.steps.append(step)
    return Answers(groups=tuple(self.groups[p.question.id] for p in prompts),
                   calls=CallStats(answers=4 * len(prompts)))


def learn(states, teacher=None, stored=None, longest=99, keep='correct'):
  plain = [group(name, 1, 4) for name in 'abc']
  made = lessons.learn_from(
      states, types.SimpleNamespace(keep=keep), plain, [*plain, 'reformulated'],
      7, teacher=teacher, stored=stored, longest=longest)
  return made, plain


def test_the_students_own_groups_are_all_of_them():
  made, plain = learn('student')
  assert made.groups == [*plain, 'reformulated'] and not made.teacher
  assert made.calls == CallStats()


@pytest.mark.parametrize('states', ['teacher', 'stored'])
def test_correct_answers_are_kept_and_a_question_without_any_is_skipped(states):
  """Off-Distill: 2 of 4 right, none right, all right."""
  answers = [group('a', 2, 4), group('b', 0, 4), group('c', 4, 4)]
  fake = Fake(answers)
  made, _ = learn(states, **{states: fake})
  assert [(g.prompt.question.id, len(g.rollouts)) for g in made.groups] == [
      ('a', 2), ('c', 4)]
  assert all(r.reward == 1 for g in made.groups for r in g.rollouts)
  assert list(made.teacher) == answers and fake.steps == [7]
  assert made.calls.answers == 12 and made.over_long == 0
  every, _ = learn(states, **{states: fake}, keep='all')
  assert [len(g.rollouts) for g in every.groups] == [4, 4, 4]


def test_answers_that_no_row_holds_are_counted():
  short, long = rollout(), rollout('4 h 4 h 4 h 9 A 9')
  of = group('a', 1, 4).prompt
  fake = Fake([Group(of, (short, long)), group('b', 0), Group(
      group('c', 1).prompt, (long,))])
  made, _ = learn('teacher', teacher=fake, longest=len(short.tokens))
  assert [g.rollouts for g in made.groups] == [(short,)]
  assert made.over_long == 2


def test_the_coin_of_mixed_states():
  """By (seed, step): the share of the student's states is the probability, and
  the same step has the same coin; 0 and 1 are certain."""
  of = lambda share, step, seed=0: lessons.states_of(
      'mixed', types.SimpleNamespace(
          student_share=share, student_share_schedule=None,
          other_states='stored'), seed, step)
  draws = [of(0.3, i) for i in range(2000)]
  assert set(draws) == {'student', 'stored'}
  share = np.mean([d == 'student' for d in draws])
  assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 2000)
  assert draws == [of(0.3, i) for i in range(2000)]
  assert draws != [of(0.3, i, seed=1) for i in range(2000)]
  assert {of(1.0, i) for i in range(50)} == {'student'}
  assert {of(0.0, i) for i in range(50)} == {'stored'}
  assert lessons.states_of('teacher', None, 0, 0) == 'teacher'


def test_the_share_of_the_students_states_moves():
  """From 0 to 1 in 1,000 steps: certain at both ends; the coin is that of the
  constant share, so that a step of share s has the states of s."""
  of = lambda step, moving, share=0.5: lessons.states_of(
      'mixed', types.SimpleNamespace(
          student_share=share, student_share_schedule=moving,
          other_states='stored'), 0, step)
  rising = schedules.by_steps('share', 'linear:0:1', 1000, 1, '[0, 1]')
  draws = [of(i, rising) for i in range(1000)]
  assert draws == [of(i, None, rising(i)) for i in range(1000)]
  early, late = ([d == 'student' for d in draws[a:a + 500]] for a in (0, 500))
  for part, want in ((early, 0.25), (late, 0.75)):
    assert abs(np.mean(part) - want) < 4 * np.sqrt(want * (1 - want) / 500)
  assert of(0, rising) == 'stored' and of(1000, rising) == 'student'


def test_guides_take_the_places_of_wrong_rollouts():
  """Right answers of the teacher, in the last wrong places; a group without a
  wrong rollout is not asked about, and one without a guide stays."""
  plain = [group('a', 1, 4), group('b', 2, 2), group('c', 0, 3)]
  answers = [group('a', 2, 3), group('c', 0, 3)]
  fake = Fake(answers)
  made = lessons.learn_from(
      'guided', types.SimpleNamespace(keep='all', guides=2), plain,
      [*plain, 'reformulated'], 7, teacher=fake, stored=None, longest=99)
  assert made.states == 'guided' and made.calls.answers == 8
  first, *others = made.groups
  assert others == [*plain[1:], 'reformulated']
  assert [r.sampled for r in first.rollouts] == [True, True, False, False]
  assert first.rollouts[:2] == plain[0].rollouts[:2]
  assert [r.reward for r in first.rollouts] == [1, 0, 1, 1]
  assert [r.tokens for r in first.rollouts[3:1:-1]] == [
      r.tokens for r in answers[0].correct]
  one = lessons.guided(plain[0], answers[0].correct, 1)
  assert [r.sampled for r in one.rollouts] == [True, True, True, False]
def under(context, plain, says, asked_of='all', under='plain', longest=99,
          states='joint', **material):
  """What is learnt from, where each prompt with a context draws `says`."""
  asked = []

  def draw(prompts):
    asked.extend(prompts)
    return [Group(p, tuple(says)) for p in prompts]
  made = lessons.learn_from(
      states, None, plain, plain, 7, teacher=None, stored=None,
      longest=longest, draw=draw, drawing=lessons.Drawing(
          context=context, asked_of=routes.read('of', asked_of), under=under,
          by_teacher=False, material=Material(**material), chat=CHAT,
          max_prompt=20))
  return made, asked


def test_rollouts_are_drawn_for_the_questions_of_a_route():
  """hdpo and star: for those without a right rollout."""
  plain = [group('a', 0), group('b', 1), group('c', 8), group('d', 0)]
  said = [rollout(), wrong(3)]
  made, asked = under('answer', plain, said, 'cliff')
  assert [(p.question.id, p.kind) for p in asked] == [
      ('a', PromptKind.PRIVILEGED), ('d', PromptKind.PRIVILEGED)]
  assert made.groups[:4] == plain and made.of_student
  for carried, of, prompt in zip(made.groups[4:], (plain[0], plain[3]), asked,
                                 strict=True):
    assert carried.prompt == dataclasses.replace(
        of.prompt, kind=PromptKind.CARRIED)
    # No sampler drew them behind this prompt.
    assert carried.rollouts == tuple(
        dataclasses.replace(r, logps=()) for r in said)
    assert made.read[made.groups.index(carried)] is prompt
  _, some = under('answer', plain, said, 'wrong')
  assert [p.question.id for p in some] == ['a', 'b', 'd']
  _, none = under('answer', plain[2:3], said, 'cliff')
  assert none == []


@pytest.mark.parametrize('where, kinds', [
    ('plain', [PromptKind.CARRIED]), ('context', [PromptKind.PRIVILEGED]),
    ('both', [PromptKind.PRIVILEGED, PromptKind.CARRIED])])
def test_they_are_trained_behind_one_prompt_or_both(where, kinds):
  made, (asked,) = under('answer', [group('a', 0)], [rollout()], under=where,
                         states='context')
  assert [g.prompt.kind for g in made.groups] == kinds
  assert not made.of_student and list(made.read) == list(range(len(kinds)))
  for g in made.groups:
    assert (g.prompt == asked) == (g.prompt.kind == PromptKind.PRIVILEGED)


def test_what_repeats_its_context_is_counted_and_not_trained():
  """By equal text, spaces aside; so are rollouts that no row holds, and
  questions with nothing to show."""
  told = group('a', 0)
  told = Group(dataclasses.replace(told.prompt, question=dataclasses.replace(
      told.prompt.question, responses=(RIGHT,))), told.rollouts)
  long = rollout('4 h 4 h 4 h 9 A 9')
  other = rollout('4 h h 9 A 9')
  said = [rollout(), rollout(f' {RIGHT} '), other, long]
  made, asked = under('reference', [told, group('b', 0)], said,
                      longest=len(other.tokens))
  assert [p.question.id for p in asked] == ['a']
  assert made.drawn.copies == 2 and made.over_long == 1
  assert made.drawn.untold == {'b': Untaught.ABSENT}
  assert [[r.text for r in g.rollouts] for g in made.groups[2:]] == [
      [other.text]]
  assert made.drawn.groups[0].rollouts == tuple(said)
  nothing, _ = under('reference', [told], said[:2])
  assert nothing.groups == [told] and not nothing.read
