"""The host side of a step, with a teacher of a few lines."""

import dataclasses

import pytest

from tests.builders import RIGHT, group, question, rollout, wrong
from zppo_jax.algorithms import methods, schedules, zppo
from zppo_jax.algorithms.compression import CompressionConfig
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.records import (
  Answers,
  CallStats,
  Group,
  PromptKind,
  Summaries,
  Verdict,
)
from zppo_jax.teachers import Capabilities

RULES = zppo.Rules(num_new=16, tau=0.5, rho_replay=0.25, rho_aug=0.25,
                   max_prompt=200, seed=0)  # at most 4 replays, 4 instances
WHOLE = CompressionConfig(cap=32, identity_below=32)
SPOKEN = '4 l 9 A 9'  # only the teacher says 'l'
MARK = CHAT.codec.encode_template('l')[0]


class FakeTeacher:
  """Right about the questions it knows; shortens traces to their answer."""
  capabilities = Capabilities(99, False, False, False, True)

  def __init__(self, *knows):
    self.knows, self.asked, self.steps = knows, [], []

  def answer(self, prompts, step):
    self.asked += prompts
    self.steps.append(step)
    good = (rollout(SPOKEN), rollout('l', Verdict.NO_ANSWER))
    return Answers(tuple(
        Group(p, good if p.question.id in self.knows else good[1:])
        for p in prompts), CallStats(2 * len(prompts)))

  def summarise(self, prompts, traces, step):
    del step
    texts = [CHAT.codec.decode(p.tokens).split() for p in prompts]
    assert [' '.join(t[1:-1]) for t in texts] == list(traces)
    return Summaries(tuple(rollout(' '.join(t[t.index('A'):-1]))
                           for t in texts), CallStats(len(prompts)))


def make(plain, teacher, method='zppo', step=3, rules=RULES, compress=WHOLE):
  return zppo.reformulate_hard(
      plain, step, rules=rules, method=methods.get(method), teacher=teacher,
      chat=CHAT, compress=compress)


def words(prompt):
  return CHAT.codec.decode(prompt.tokens)


def kinds(made):
  return [f'{p.question.id}:{p.kind.name}' for p in made.prompts]


def ids(things):
  return [t.question.id for t in things]


def buffer_of(*names):
  buffer, _ = ReplayBuffer(99).settle([group(n, 0) for n in names], 0.5, 0)
  return buffer


def replays(buffer, new=(), step=0, method='zppo', rules=RULES):
  drawn = zppo.draw_replays(buffer, [question(n) for n in new], step, rules,
                            methods.get(method))
  return [q.id for q in drawn]


@pytest.mark.parametrize(('num_new', 'rho', 'count'), [
    (384, 0.25, 96),  # Table 8
    (10, 0.25, 2),  # floor, not round
    (3, 0.25, 0),
    (7, 1.5, 10),
    (32, 0.0, 0),
    (100, 0.29, 29),  # 0.29 * 100 is 28.999999999999996 in floats
])
def test_the_rhos_are_floored_fractions_of_the_new_questions(
    num_new, rho, count):
  rules = dataclasses.replace(RULES, num_new=num_new, rho_replay=rho)
  assert rules.num_replay == count
  rules = dataclasses.replace(RULES, num_new=num_new, rho_aug=rho)
  assert rules.num_aug == count


def test_replays_are_added_to_the_new_questions_and_disjoint_from_them():
  buffer = buffer_of(*'abcdefgh')
  for step in range(30):
    drawn = replays(buffer, 'abx', step)
    assert len(drawn) == len(set(drawn)) == RULES.num_replay == 4
    assert set(drawn) <= set('cdefgh')


def test_replays_are_at_most_what_the_buffer_has():
  assert sorted(replays(buffer_of('a', 'b', 'c'), 'a')) == ['b', 'c']
  assert replays(ReplayBuffer(9)) == []


def test_replays_are_a_function_of_seed_and_step():
  buffer = buffer_of(*'abcdefghijkl')
  drawn = [replays(buffer, step=s) for s in range(20)]
  assert drawn == [replays(buffer, step=s) for s in range(20)]
  assert len({tuple(d) for d in drawn}) > 15
  other = dataclasses.replace(RULES, seed=1)
  assert drawn != [replays(buffer, step=s, rules=other) for s in range(20)]


def test_methods_without_the_buffer_replay_nothing():
  for name, method in methods.METHODS.items():
    assert bool(replays(buffer_of('a', 'b'), method=name)) == method.replay


def test_plain_prompts_ask_every_question_under_the_closer():
  asked = [question('a', text='C h 4'), question('b', text='V j i 0')]
  prompts = zppo.plain_prompts(asked, CHAT)
  assert [words(p) for p in prompts] == ['C h 4 :', 'V j i 0 :']
  assert [p.question for p in prompts] == asked
  assert {p.kind for p in prompts} == {PromptKind.PLAIN}


def test_the_teacher_is_asked_only_about_the_pre_capped_questions():
  plain = [group('a', 3), group('b', 0), group('c', 4), group('d', 1),
           group('e', 2), group('f', 1), group('g', 8)]
  teacher = FakeTeacher()
  made = make(plain, teacher, step=7)
  assert made.hard == 5  # a, b, d, e, f
  asked = [p.question.id for p in teacher.asked]
  assert asked[0] == 'b' and set(asked[1:3]) == {'d', 'f'}
  assert asked[3] == 'e' and len(asked) == 4 == RULES.num_aug
  assert teacher.steps == [7]
  by_id = {g.prompt.question.id: g for g in plain}
  assert teacher.asked == [by_id[i].prompt for i in asked]  # plain prompts
  assert ids(made.visits) == asked
  assert [v.accuracy for v in made.visits] == [0, 1 / 8, 1 / 8, 2 / 8]
  assert [v.wrong for v in made.visits] == [by_id[i].wrong for i in asked]


def test_a_right_teacher_gives_a_bcq_and_an_ncq():
  made = make([group('a', 0)], FakeTeacher('a'))
  assert kinds(made) == ['a:BCQ', 'a:NCQ']
  assert made.visits[0].teacher_correct == (rollout(SPOKEN),)
  assert ids(made.instances) == ['a', 'a']
  assert [i.kind for i in made.instances] == [p.kind for p in made.prompts]


def test_a_failing_teacher_leaves_the_ncq():
  made = make([group('a', 0), group('b', 1)], FakeTeacher('b'))
  assert kinds(made) == ['a:NCQ', 'b:BCQ', 'b:NCQ']
  assert kinds(make([group('a', 0)], FakeTeacher())) == ['a:NCQ']
  assert kinds(make([group('a', 0)], FakeTeacher(),
                    'grpo_replay_bcq')) == []


def test_the_post_cap_is_one_pool():
  plain = [group('a', 0), group('b', 1), group('c', 2)]
  assert kinds(make(plain, FakeTeacher('a', 'b', 'c'))) == [
      'a:BCQ', 'a:NCQ', 'b:BCQ', 'b:NCQ']
  five = dataclasses.replace(RULES, num_new=20)
  assert kinds(make(plain, FakeTeacher(*'abc'), rules=five)) == [
      'a:BCQ', 'a:NCQ', 'b:BCQ', 'b:NCQ', 'c:BCQ']


def test_a_bcq_prompt_is_exactly_the_planned_structure():
  orders = set()
  for step in range(20):
    made = make([group('a', 3)], FakeTeacher('a'), step=step)
    prompt, instance = made.prompts[0], made.instances[0]
    first, second = (c.text for c in instance.candidates)
    assert words(prompt) == (
        f'C h 4 BCQ <candidate> {first} </candidate> '
        f'<candidate> {second} </candidate> :')
    assert SPOKEN in (first, second) and first != second
    assert {first, second} - {SPOKEN} <= {wrong(i).text for i in range(5)}
    orders.add(first == SPOKEN)
  assert orders == {True, False}


def test_an_ncq_prompt_is_exactly_the_planned_structure():
  rollouts = (wrong(3), rollout(), wrong(1), wrong(3),
              rollout('4 h h', Verdict.NO_ANSWER))
  plain = dataclasses.replace(group('a', 0), rollouts=rollouts)
  made = make([plain], FakeTeacher(), 'grpo_replay_ncq')
  block = '<candidate> {} </candidate>'.format
  assert words(made.prompts[0]) == ' '.join([
      'C h 4 NCQ 3 , 1', block('4 h 3 A 3'), block('4 h 1 A 1'),
      block('4 h 3 A 3'), block('4 h h'), ':'])


@pytest.mark.parametrize(('method', 'of_a', 'of_b'), [
    ('grpo_replay_bcq', ['BCQ at'], ['BCQ bt']),
    ('placebo_bcq', ['BCQ aa'], ['BCQ bb']),
    ('random_bcq', ['BCQ bt'], ['BCQ at']),
    ('random_ncq', ['NCQ 3 , 2 bb'], ['NCQ 1 , 0 aa']),
    ('bare', ['BCQ ', 'NCQ '], ['BCQ ', 'NCQ ']),
    ('bare_bcq', ['BCQ '], ['BCQ ']),
    ('again', [' ', ' '], [' ', ' ']),
    ('bcq_again', ['BCQ at', ' '], ['BCQ bt', ' '])])
def test_the_prompts_of_controls_by_hand(method, of_a, of_b):
  """Two hard questions with two wrong rollouts each: a answers 1 and 0, b 3
  and 2. Behind the words of a prompt: who wrote its candidates, t for the
  teacher, by the alphabet."""
  plain = [dataclasses.replace(
      group(name, 0), rollouts=(wrong(first), wrong(first - 1)))
           for name, first in (('a', 1), ('b', 3))]
  made = make(plain, FakeTeacher('a', 'b'), method)
  writer = {'1': 'a', '0': 'a', '3': 'b', '2': 'b', '9': 't'}
  found = {'a': [], 'b': []}
  for prompt in made.prompts:
    assert prompt.kind != PromptKind.PLAIN
    said, *traces = words(prompt).removesuffix(' :').split(' <candidate> ')
    found[prompt.question.id].append(
        said.removeprefix('C h 4').strip() + ' ' + ''.join(sorted(
            writer[trace.split()[2]] for trace in traces)))
  assert found == {'a': of_a, 'b': of_b}


def test_resting_questions_leave_their_slots_to_others():
  """Of five hard questions the four hardest are asked; without b the fifth has
  its place. They stay hard."""
  plain = [group('a', 0), group('b', 0), group('c', 1), group('d', 2),
           group('e', 3)]
  method = methods.get('grpo_replay_bcq')
  made = {resting: zppo.reformulate_hard(
      plain, 3, rules=RULES, method=method, teacher=FakeTeacher(*'abcde'),
      chat=CHAT, compress=WHOLE, resting=resting) for resting in ('', 'b')}
  asked = {of: sorted(ids(m.prompts)) for of, m in made.items()}
  assert asked == {'': [*'abcd'], 'b': [*'acde']}
  assert {m.hard for m in made.values()} == {5}


def test_teacher_text_never_enters_an_ncq_or_a_placebo():
  plain = [group(q, n) for n, q in enumerate('abcd')]
  rules = dataclasses.replace(RULES, rho_aug=1.0)
  for name in methods.METHODS:
    if 'hint' in methods.get(name).reformulations:  # see test_hints.py
      continue
    for step in range(5):
      made = make(plain, FakeTeacher(*'abcd'), name, step, rules)
      for prompt in made.prompts:
        shown = (prompt.kind in (PromptKind.BCQ, PromptKind.PREFIX)
                 and name not in ('placebo', 'placebo_bcq', 'bare',
                                  'bare_bcq'))
        assert (MARK in prompt.tokens) == shown


def test_a_prefix_prompt_is_the_plain_one_and_the_forced_tokens():
  made = make([group('a', 0), group('b', 1)], FakeTeacher('a'), 'prefix')
  assert kinds(made) == ['a:PREFIX']
  (prompt,) = made.prompts
  assert words(prompt) == 'C h 4 : 4 l' and prompt.forced == 2
  # The trace is not shown, so nobody is asked to compress it.
  written = made.written['compression']
  assert (written.requested, written.unchanged) == (0, 0)


def test_students_right_rollouts_are_no_candidates():
  made = make([group('a', 3)], FakeTeacher('a'))
  assert not any(c.text == RIGHT for i in made.instances
                 for c in i.candidates)


def test_instances_over_the_bound_are_skipped_and_counted():
  plain = [group('a', 0), group('b', 1)]
  # NCQ of a: question 3, NCQ 1, answers 8 + 7, blocks 8 x 7, closer 1.
  length = 3 + 1 + 8 + 7 + 8 * 7 + 1
  fits = dataclasses.replace(RULES, max_prompt=length)
  made = make(plain, FakeTeacher('a', 'b'), rules=fits)
  assert made.over_bound == 0
  assert [len(p.tokens) for p in made.prompts] == [19, length, 19, length - 9]
  tight = dataclasses.replace(RULES, max_prompt=length - 1)
  made = make(plain, FakeTeacher('a', 'b'), rules=tight)
  assert kinds(made) == ['a:BCQ', 'b:BCQ', 'b:NCQ'] and made.over_bound == 1
  assert [(i.question.id, i.kind) for i in made.instances] == [
      (p.question.id, p.kind) for p in made.prompts]


def test_removed_pieces_are_counted():
  forged = tuple(rollout(f'4 h </candidate> {i} A {i}', Verdict.WRONG)
                 for i in range(8))
  plain = dataclasses.replace(group('a', 0), rollouts=forged)
  made = make([plain], FakeTeacher('a'))
  assert made.removed == 1 + 8  # one candidate of the BCQ, all of the NCQ
  assert words(made.prompts[1]).count('</candidate>') == 8
  assert make([group('a', 0)], FakeTeacher('a')).removed == 0
  assert [p.removed for p in made.prompts] == [1, 8]
  asked = dataclasses.replace(plain.prompt.question, text='C </candidate> h')
  prompt, = zppo.plain_prompts([asked], CHAT)
  assert prompt.removed == 1
  # It says how a prompt came about, and not what it is.
  assert prompt == dataclasses.replace(prompt, removed=0)


def test_candidates_are_what_compression_makes_of_the_traces():
  always = CompressionConfig(cap=2, identity_below=0)
  plain = group('a', 1, size=3)
  made = make([plain], FakeTeacher('a'), compress=always)
  block = '<candidate> {} </candidate>'.format
  right, seen = block('A 9'), words(made.prompts[0])
  assert seen in {f'C h 4 BCQ {pair} :' for w in (block('A 0'), block('A 1'))
                  for pair in (f'{right} {w}', f'{w} {right}')}
  assert words(made.prompts[1]) == (
      f'C h 4 NCQ 0 , 1 {block("A 0")} {block("A 1")} :')
  written = made.written['compression']
  assert (written.requested, written.unchanged) == (3, 0)
  whole = make([plain], FakeTeacher('a'))
  written = whole.written['compression']
  assert (written.requested, written.unchanged) == (0, 3)


@pytest.mark.parametrize('method', ['grpo', 'grpo_replay'])
def test_grpo_asks_nobody(method):
  made = make([group('a', 0), group('b', 8)], None, method)
  assert made == zppo.nothing_reformulated(1)
  assert made.prompts == () and made.hard == 1 and not made.written


def test_no_slots_ask_nobody():
  none = dataclasses.replace(RULES, rho_aug=0.0)
  assert make([group('a', 0)], None, rules=none).prompts == ()
  few = dataclasses.replace(RULES, num_new=3)  # floor(3 / 4)
  assert make([group('a', 0)], None, rules=few).prompts == ()


def test_a_step_without_hard_questions_asks_about_none():
  teacher = FakeTeacher('a')
  made = make([group('a', 4), group('b', 8)], teacher)
  assert made.hard == 0 and made.prompts == () and teacher.asked == []


def test_the_prompts_are_a_function_of_seed_and_step():
  plain = [group(q, 0) for q in 'abcdefgh']
  make_at = lambda step, rules=RULES: make(
      plain, FakeTeacher(*'abcdefgh'), step=step, rules=rules).prompts
  made = [make_at(s) for s in range(10)]
  assert made == [make_at(s) for s in range(10)]
  assert len(set(made)) == 10
  other = dataclasses.replace(RULES, seed=1)
  assert made != [make_at(s, other) for s in range(10)]


def test_ties_before_the_teacher_are_drawn_anew_every_step():
  plain = [group(q, 0) for q in 'abcdefgh']
  teachers = [FakeTeacher() for _ in range(20)]
  for step, teacher in enumerate(teachers):
    make(plain, teacher, step=step)
  asked = [tuple(p.question.id for p in t.asked) for t in teachers]
  assert len(set(asked)) > 15


def test_asking_after_the_pre_cap_gives_the_visits_of_algorithm_1():
  # Algorithm 1 asks about all hard questions, then keeps the hardest.
  plain = [group('abcdefgh'[i], n)
           for i, n in enumerate((3, 0, 2, 0, 1, 0, 3, 0))]
  made = make(plain, FakeTeacher('b', 'd', 'e'))
  everyone = FakeTeacher('b', 'd', 'e').answer(
      [g.prompt for g in plain], 3).groups
  found = {g.prompt.question.id: g for g in everyone}
  assert len(made.visits) == RULES.num_aug
  assert [v.teacher_correct for v in made.visits] == [
      found[i].correct for i in ids(made.visits)]
  assert made.teacher == tuple(found[i] for i in ids(made.visits))


@pytest.mark.parametrize(('fields', 'message'), [
    (dict(num_new=0), 'num_new is 0'),
    (dict(num_new=-4), 'num_new is -4'),
    (dict(tau=0.0), r'tau is 0\.0'),
    (dict(tau=1.5), r'tau is 1\.5'),
    (dict(tau=float('nan')), 'tau is nan'),
    (dict(rho_replay=-0.25), r'rho_replay is -0\.25'),
    (dict(rho_aug=-1.0), r'rho_aug is -1\.0'),
    (dict(rho_aug=float('nan')), 'rho_aug is nan'),
])
def test_bad_rules_name_field_and_value(fields, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(RULES, **fields)


def test_tau_may_be_one():
  rules = dataclasses.replace(RULES, tau=1.0)
  assert make([group('a', 7), group('b', 8)], FakeTeacher(),
              rules=rules).hard == 1


def probed(plain, count=9, step=0, seed=0, cap=32, identity_below=32):
  return zppo.probe_copying(
      plain, step, count=count, rules=zppo.Rules(8, 0.5, 0.25, 0.25, 184, seed),
      teacher=None, chat=CHAT, compress=CompressionConfig(
          cap, identity_below))


def test_a_probe_asks_mostly_solved_questions_with_their_own_rollouts():
  """tau <= accuracy < 1: one right and one wrong candidate, no label."""
  plain = [group(question(str(n)), n) for n in range(9)]
  made = probed(plain)
  assert sorted(p.question.id for p in made.prompts) == list('4567')
  assert sorted(made.accuracies) == [4 / 8, 5 / 8, 6 / 8, 7 / 8]
  for prompt, answer in zip(made.prompts, made.wrong, strict=True):
    text = CHAT.codec.decode(prompt.tokens)
    assert prompt.kind == PromptKind.BCQ
    assert text.count('<candidate>') == 2
    assert '<candidate> 4 h 9 A 9 </candidate>' in text
    assert f'<candidate> 4 h {answer} A {answer} </candidate>' in text
    assert answer != '9'


def test_a_probe_is_bounded_drawn_by_name_and_in_random_order():
  plain = [group(question(str(n)), 4) for n in range(40)]
  assert len(probed(plain, count=3).prompts) == 3
  ids = lambda **k: [p.question.id for p in probed(plain, 8, **k).prompts]
  assert ids() == ids() and ids() != ids(step=1) and ids() != ids(seed=1)
  first_is_right = [
      CHAT.codec.decode(p.tokens).split('</candidate>')[0].endswith('A 9 ')
      for p in probed(plain, 40).prompts]
  assert 8 < sum(first_is_right) < 32
  assert probed([group('q', 8), group('r', 0)]).prompts == ()


def test_a_probe_without_a_teacher_shows_the_last_tokens_of_long_traces():
  made = probed([group('q', 4)], cap=2, identity_below=0)
  text = CHAT.codec.decode(made.prompts[0].tokens)
  assert '<candidate> A 9 </candidate>' in text


def test_the_beginning_of_a_reference_is_forced():
  """pope: floor(0.4 x 6) = 2 of the 6 tokens; of unsolved questions alone, and
  nobody is asked."""
  def told(name, right, *responses):
    of = group(name, right)
    return Group(dataclasses.replace(of.prompt, question=dataclasses.replace(
        of.prompt.question, responses=responses)), of.rollouts)
  plain = [told('a', 0, '4 h 4 h 9 9', '9'), told('b', 1, '4 h 9 A 9'),
           told('c', 0), told('d', 0, '9 9')]
  method = methods.get('pope')
  rules = dataclasses.replace(RULES, tau=method.tau)
  out = make(plain, None, 'pope', rules=rules)
  assert [(words(p), p.forced, p.kind) for p in out.prompts] == [
      ('C h 4 : 4 h', 2, PromptKind.PREFIX)]
  assert out.teacher == () and out.hard == 3
  longer = make(plain, None, 'pope', rules=dataclasses.replace(
      rules, prefix_share=0.9))
  assert sorted(words(p) for p in longer.prompts) == [
      'C h 4 : 4 h 4 h 9', 'C h 4 : 9']


def test_the_share_that_is_forced_moves_by_step():
  """From 2 / 3 of the 6 tokens to 1 / 3 in two steps of two updates."""
  of = group('a', 0)
  plain = [Group(dataclasses.replace(of.prompt, question=dataclasses.replace(
      of.prompt.question, responses=('4 h 4 h 9 9',))), of.rollouts)]
  rules = dataclasses.replace(
      RULES, tau=methods.get('pope').tau, prefix_share=0.9,
      prefix_share_schedule=schedules.by_steps(
          'share', 'linear:0.667:0.334', 2, 2, '(0, 1)'))
  assert [make(plain, None, 'pope', step=step, rules=rules).prompts[0].forced
          for step in (0, 1, 2, 9)] == [4, 3, 2, 2]
