"""What is asked and drawn ahead is what the step comes to."""

import dataclasses

import numpy as np
import pytest

from tests.algorithms.test_zppo import RULES, WHOLE, FakeTeacher, ids, make
from tests.builders import group
from zppo_jax.algorithms import ahead, methods, zppo
from zppo_jax.algorithms.compression import CompressionConfig
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.records import PromptKind

SUMMARISED = CompressionConfig(cap=32, identity_below=0)
BY_NAME = dataclasses.replace(RULES, ties='name')
SIZE = 8


class PromptTeacher(FakeTeacher):
  """A teacher that may be asked ahead; it notes in which order."""

  def __init__(self, *knows):
    super().__init__(*knows)
    self.ahead, self.awaited = [], []

  def ask_ahead(self, prompts, step):
    self.ahead += [p.question.id for p in prompts
                   if p.question.id not in self.ahead]

  def look_at_answers(self, prompts, step):
    self.awaited += [p.question.id for p in prompts]
    return super().answer(prompts, step).groups

  def look_at_summaries(self, prompts, traces, step):
    return self.summarise(prompts, traces, step)


def plain_groups():
  return [group('abcdefghij'[i], n)
          for i, n in enumerate((3, 0, 2, 0, 8, 0, 3, 0, 1, 7))]


def options(method='zppo', compress=WHOLE, rules=BY_NAME):
  return dict(rules=rules, method=methods.get(method), chat=CHAT,
              compress=compress)


def ended_by(plain, seed):
  """(place, its rollouts so far) for each rollout that ends, in one of many
  orders."""
  ends = [(i, g) for i in range(len(plain)) for g in range(SIZE)]
  np.random.default_rng(seed).shuffle(ends)
  ended = {}
  for i, g in ends:
    its = ended.setdefault(i, {})
    its[g] = plain[i].rollouts[g]
    yield i, tuple(its[g] for g in sorted(its))


def named(prompts):
  return [(p.question.id, p.kind, p.tokens) for p in prompts]


@pytest.mark.parametrize('method', [
    'zppo', 'placebo', 'prefix', 'grpo_replay_bcq', 'bcq_again'])
@pytest.mark.parametrize('compress', [WHOLE, SUMMARISED])
def test_what_is_drawn_ahead_are_prompts_of_the_step(method, compress):
  """Whatever the order in which rollouts end and the moments at which slots
  are idle. Prompts with summaries wait for the end of the plain prompts."""
  rules = dataclasses.replace(BY_NAME, rho_aug=0.5)
  plain, some = plain_groups(), options(method, compress, rules)
  by_answers = 0
  for seed in range(20):
    teacher = PromptTeacher('b', 'd', 'i')
    one = ahead.of_plain([g.prompt for g in plain], 3, num_rollouts=SIZE,
                         teacher=teacher, **some)
    added, draw = [], np.random.default_rng(seed)
    for i, rollouts in ended_by(plain, seed):
      added += one.seen(i, rollouts)
      if draw.random() < 0.1:
        added += one.idle(int(draw.integers(1, 30)))
    added += one.idle(99 * SIZE)
    assert not one.idle(99 * SIZE)
    assert not one.seen(len(plain), plain[0].rollouts)  # one that was added
    more = ahead.of_hard(plain, 3, teacher=teacher, **some)
    made = make(plain, teacher, method, rules=rules, compress=compress)
    drawn = named([*added, *more])
    assert len(drawn) == len(set(drawn))
    assert set(drawn) <= set(named(made.prompts))
    assert {p.kind for p in more} <= {PromptKind.NCQ}
    by_answers += sum(p.kind != PromptKind.NCQ for p in added)
    assert set(teacher.awaited) <= set(teacher.ahead)
  shown = method == 'prefix' or compress == WHOLE  # a prefix is no candidate
  assert (by_answers > 20) == shown


@pytest.mark.parametrize('method', ['random', 'bare', 'again'])
def test_controls_are_asked_ahead_and_drawn_at_the_end(method):
  """What they show is not made ahead; the teacher is asked all the same. A
  question that may rest is not even asked ahead."""
  plain, teacher = plain_groups(), PromptTeacher('b', 'd', 'i')
  prompts = [g.prompt for g in plain]
  one = ahead.of_plain(prompts, 3, num_rollouts=SIZE, teacher=teacher,
                       **options(method))
  for i, rollouts in ended_by(plain, 0):
    assert not one.seen(i, rollouts)
  assert not one.idle(99 * SIZE) and teacher.ahead
  resting = dataclasses.replace(BY_NAME, rest_saturated=3)
  assert ahead.of_plain(prompts, 3, num_rollouts=SIZE, teacher=teacher,
                        **options(method, rules=resting)) is None


def test_questions_are_asked_before_all_groups_have_ended():
  """And only those that the pre-cap takes."""
  plain, early = plain_groups(), 0
  for seed in range(20):
    teacher = PromptTeacher()
    one = ahead.of_plain([g.prompt for g in plain], 3, num_rollouts=SIZE,
                         teacher=teacher, **options())
    for count, (i, rollouts) in enumerate(ended_by(plain, seed)):
      one.seen(i, rollouts)
      early += bool(teacher.ahead) and count < len(plain) * SIZE - 8
    taken = zppo.hardest(plain, 3, BY_NAME)
    assert sorted(teacher.ahead) == sorted(g.prompt.question.id for g in taken)
  assert early > 100


def test_ncqs_that_no_answer_takes_out_are_drawn_without_one():
  plain, teacher = plain_groups(), PromptTeacher()
  one = ahead.of_plain([g.prompt for g in plain], 3, num_rollouts=SIZE,
                       teacher=teacher, **options())
  added = [p for i, g in enumerate(plain) for p in one.seen(i, g.rollouts)]
  hard = zppo.hardest(plain, 3, BY_NAME)
  assert ids(added) and set(ids(added)) <= set(
      g.prompt.question.id for g in hard[:2])  # limit 4, two instances each
  assert {p.kind for p in added} == {PromptKind.NCQ}
  assert not teacher.awaited


def test_room_bounds_how_many_answers_are_waited_for():
  rules = dataclasses.replace(BY_NAME, rho_aug=0.5)
  plain, teacher = plain_groups(), PromptTeacher(*'abcdefghij')
  one = ahead.of_plain([g.prompt for g in plain], 3, num_rollouts=SIZE,
                       teacher=teacher, **options(rules=rules))
  for i, g in enumerate(plain):
    one.seen(i, g.rollouts)
  assert not one.idle(0) and not teacher.awaited
  assert len(one.idle(1)) == 1 and len(one.idle(2 * SIZE)) == 2
  assert teacher.awaited == [
      name for name in teacher.ahead if name in teacher.awaited]


def test_with_ties_by_name_a_question_s_candidates_depend_on_no_other():
  """Where they break by list, they are drawn in the order of the visits."""
  def shown(rules):
    teacher = PromptTeacher('a', 'b')
    of = lambda plain: [p.tokens for p in make(
        plain, teacher, 'grpo_replay_bcq', rules=rules).prompts
        if p.question.id == 'b']
    two, alone = [group('a', 0), group('b', 1)], [group('b', 1)]
    return of(two), of(alone)
  one, other = zip(*(shown(dataclasses.replace(BY_NAME, seed=seed))
                     for seed in range(10)), strict=True)
  assert one == other and len(set(map(tuple, one))) > 2
  one, other = zip(*(shown(dataclasses.replace(RULES, seed=seed))
                     for seed in range(10)), strict=True)
  assert one != other


def test_nothing_is_done_ahead_where_ties_need_the_whole_list():
  plain = [group(name, 0) for name in 'abcd']
  teacher = PromptTeacher('a')
  some = options(rules=RULES)
  assert ahead.of_plain([g.prompt for g in plain], 3, num_rollouts=SIZE,
                        teacher=teacher, **some) is None
  assert not ahead.of_hard(plain, 3, teacher=teacher, **some)
  assert not teacher.ahead
