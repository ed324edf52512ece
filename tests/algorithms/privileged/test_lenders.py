"""What belongs to another question, beside the rollout's own."""

import dataclasses
from collections import Counter

import pytest

from tests.builders import assert_uniform, rollout, wrong
from zppo_jax.algorithms.privileged import contexts, lenders
from zppo_jax.algorithms.privileged.contexts import CONTEXTS, Material, Untaught
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.records import Group, Prompt, PromptKind, Question

LENT = ('answer', 'reference', 'demonstration', 'calibrated', 'hint', 'sibling',
        'notes', 'document', 'peer')


def question(name, letter, digit, **fields):
  """Each has words of its own: `letter` in all texts, `digit` as answer."""
  return Question(**{
      'id': name, 'text': f'C {letter} {digit}', 'answer': str(digit),
      'split': 'hard', 'hint': f'{letter} 0',
      'responses': (f'{letter} {digit} A {digit}',), **fields})


def group(of, *rollouts, kind=PromptKind.PLAIN):
  return Group(Prompt(of, kind, CHAT.plain(of.text).tokens), rollouts)


def right(of, *more):
  """A right rollout; `more` words tell it from others."""
  return rollout(' '.join([of.text[2:], *more, 'A', of.answer]))


def words(name, groups, longest=99, **fields):
  """(group, rollout) -> the lesson as words, or why there is none."""
  made = lenders.lessons(name, groups, Material(**fields), CHAT, longest,
                         'another')
  assert not made.prompts.keys() & made.untaught.keys()
  return {**{at: CHAT.codec.decode(x.tokens) for at, x in made.prompts.items()},
          **made.untaught}


def shown(of, text):
  return f'{of.text} <candidate> {text} </candidate> :'


A, B, D = question('a', 'h', 4), question('b', 'i', 5), question('d', 'j', 6)
# Three groups of two questions; the second is a reformulated one.
THREE = (group(A, wrong(0), right(A)),
         group(A, right(A, 'k'), wrong(1), kind=PromptKind.BCQ),
         group(B, right(B), wrong(2)))
TEXTS = {of.id: {'notes': f'{of.hint} 1', 'document': f'{of.hint} 2',
                 'peers': (f'{of.hint} 3',)} for of in (A, B, D)}


@pytest.mark.parametrize('name, of_a, of_b', [
    ('answer', '4', '5'), ('hint', 'h 0', 'i 0'),
    ('reference', 'h 4 A 4', 'i 5 A 5'),
    ('demonstration', 'h 4 A 4', 'i 5 A 5'),
    # Of the two groups of a question the plain one is asked first.
    ('sibling', 'h 4 A 4', 'i 5 A 5'),
    ('notes', 'h 0 1', 'i 0 1'), ('document', 'h 0 2', 'i 0 2'),
    ('peer', 'h 0 3', 'i 0 3')])
def test_three_groups_of_two_questions_by_hand(name, of_a, of_b):
  """Each reads what the other question has, beside its own question."""
  want = {**{(p, g): shown(A, of_b) for p in (0, 1) for g in (0, 1)},
          **{(2, g): shown(B, of_a) for g in (0, 1)}}
  assert words(name, THREE, texts=TEXTS) == want
  # The pieces are those that the other group shows to a rollout of its own.
  own = contexts.lessons(name, THREE, Material(texts=TEXTS), CHAT, 99)
  assert shown(B, of_b) in {
      CHAT.codec.decode(x.tokens) for x in own.prompts.values()}
  same = lenders.lessons(name, THREE, Material(texts=TEXTS), CHAT, 99)
  assert same.prompts.keys() == own.prompts.keys()
  assert all(same.prompts[at].tokens == own.prompts[at].tokens
             for at in own.prompts)


def crowd(*, spare=()):
  """Groups of six questions with several right rollouts, and of one of them
  twice. `spare` have no hint."""
  out = []
  for i, letter in enumerate('hijkhi'):
    of = question(f'q{i}', letter, i + 1)
    if i in spare:
      of = dataclasses.replace(of, hint='')
    out.append(group(of, wrong(9), *(right(of, x) for x in 'hijk')))
  return [*out, dataclasses.replace(out[0], prompt=dataclasses.replace(
      out[0].prompt, kind=PromptKind.NCQ))]


@pytest.mark.parametrize('name', ['hint', 'sibling'])
def test_the_order_of_groups_changes_no_lesson(name):
  for step in range(9):
    groups = crowd()
    ahead = words(name, groups, step=step)
    back = words(name, groups[::-1], step=step)
    last = len(groups) - 1
    assert back == {(last - p, g): x for (p, g), x in ahead.items()}
    assert ahead == words(name, groups, step=step)


def test_the_lender_is_uniform_over_the_others_and_lends_once():
  groups = crowd()[:6]
  lends = [[of[0] for of in lenders.asked(groups, 0, step)]
           for step in range(500)]
  for of in lends:  # no question lends to itself, and each to one
    assert sorted(of) == [*range(6)]
    assert all(p != q for p, q in enumerate(of))
  for p in range(6):
    assert_uniform([of[p] for of in lends], [q for q in range(6) if q != p])
  others = [[of[0] for of in lenders.asked(groups, 1, step)]
            for step in range(500)]
  assert others != lends


def test_groups_of_one_question_never_lend_to_each_other():
  groups = crowd()
  for step in range(200):
    asked = [*lenders.asked(groups, 0, step)]
    for p, places in enumerate(asked):
      name = groups[p].prompt.question.id
      assert {groups[q].prompt.question.id for q in places} == {
          f'q{i}' for i in range(6)} - {name}
    assert asked[0] == asked[6]  # and they ask in one order
  alone = [group(A, right(A), wrong(1)), THREE[1]]
  for name in LENT:
    assert set(words(name, alone, texts=TEXTS).values()) == {
        Untaught.ABSENT}, name


def test_rollouts_of_a_group_draw_apart_from_the_same_lender():
  """By (seed, step, question, rollout) of the one that reads."""
  lender = group(B, *(right(B, x) for x in 'hijk'))
  readers = [group(A, wrong(1), wrong(1)), lender]
  pairs = Counter((made[0, 0], made[0, 1]) for made in (
      words('sibling', readers, step=step) for step in range(400)))
  texts = [shown(A, r.text) for r in lender.rollouts]
  assert_uniform([*pairs.elements()], [(x, y) for x in texts for y in texts])


def test_another_group_is_asked_where_one_has_nothing():
  """A question without a hint reads one all the same, and lends none."""
  groups = crowd(spare=(1, 2, 4))
  for step in range(20):
    made = words('hint', groups, step=step)
    for (p, _), text in made.items():
      lent = {0: 'h', 3: 'k', 5: 'i', 6: 'h'}  # q0 twice, q3 and q5
      of = groups[p].prompt.question
      assert text in [shown(of, f'{x} 0') for x in set(lent.values()) - {
          lent.get(p)}]
  # The one that has a hint finds none.
  made = words('hint', crowd(spare=(1, 2, 3, 4, 5)))
  assert {p for (p, _), x in made.items() if x is Untaught.ABSENT} == {0, 6}
  spoilt = dataclasses.replace(B, hint=f'A {B.answer}')
  made = words('hint', [group(A, wrong(0)), group(spoilt, wrong(0))])
  assert made == {(0, 0): Untaught.SPOILER, (1, 0): shown(spoilt, A.hint)}


def test_a_group_without_a_right_rollout_lends_none():
  solved, unsolved = group(A, right(A)), group(B, wrong(0))
  made = words('sibling', [solved, unsolved])
  assert made == {(0, 0): Untaught.ABSENT, (1, 0): shown(B, 'h 4 A 4')}


def test_a_rollout_never_reads_its_own_text():
  """It may stand with another question, word for word."""
  own = rollout(B.responses[0])
  reads = group(A, own, wrong(0))
  lends = group(B, own, wrong(0))
  for name, itself in (('reference', Untaught.ITSELF),
                       ('sibling', Untaught.ITSELF),
                       ('demonstration', Untaught.ITSELF)):
    made = words(name, [reads, lends])
    assert made[0, 0] is itself, name
    assert made[0, 1] == shown(A, B.responses[0]), name
  # A context that is one of the question stays so: the others read B's.
  three = [reads, lends, group(D, right(D))]
  for step in range(20):
    made = words('sibling', three, step=step)
    assert made[0, 0] == shown(A, 'j 6 A 6')
    made = words('reference', three, step=step)
    assert made[0, 0] in (Untaught.ITSELF, shown(A, 'j 6 A 6'))
    assert (made[0, 0] is Untaught.ITSELF) == (
        made[0, 1] == shown(A, B.responses[0]))


def test_a_context_that_fits_is_looked_for():
  long = dataclasses.replace(B, hint='i 0 i 0 i 0 i 0')
  size = len(shown(A, A.hint).split())
  asks = [group(A, wrong(0)), group(long, wrong(0)), group(D, wrong(0))]
  for step in range(9):
    assert words('hint', asks, longest=size, step=step)[0, 0] == shown(
        A, D.hint)
  assert words('hint', asks[:2], longest=size)[0, 0] is Untaught.OVER_LONG


def test_a_rollout_without_tokens_has_no_lesson():
  empty = dataclasses.replace(wrong(3), tokens=(), text='')
  made = words('answer', [group(A, empty, wrong(0)), group(B, wrong(0))])
  assert made[0, 0] is Untaught.EMPTY and made[0, 1] == shown(A, '5')


def test_contexts_that_mean_nothing_of_another_question_are_refused():
  for name in CONTEXTS:
    lenders.check_row(name, 'own')
    if name in LENT:
      lenders.check_row(name, 'another')
      continue
    with pytest.raises(ValueError, match=(
        f"distil.context_of is 'another' and distil.context '{name}', .*"
        f"allowed: 'own', or one of the contexts {', '.join(LENT)}$")):
      lenders.check_row(name, 'another')
  with pytest.raises(KeyError, match="context_of 'other'.*known: own, another"):
    lenders.check_row('hint', 'other')


def test_a_text_that_all_questions_share_is_no_other_questions():
  shared = Material(texts={'*': {'notes': 'h 0'}, 'a': {'document': 'h 1'}})
  with pytest.raises(ValueError, match=(
      "context_of is 'another' and distil.context 'notes'; the row '\\*' of "
      "distil.material has the field 'notes'")):
    lenders.check_material('notes', 'another', shared)
  lenders.check_material('notes', 'own', shared)
  lenders.check_material('document', 'another', shared)
  lenders.check_material('sibling', 'another', shared)


def test_lent_contexts_of_a_question_read_nothing_of_the_rollout():
  """What a group shows to a rollout of another is what all of them read."""
  for name, row in CONTEXTS.items():
    if row.lent is not None and row.of_question:
      assert len({row.build(A, THREE[0], r, Material(texts=TEXTS))
                  for r in (*THREE[0].rollouts, *THREE[2].rollouts,
                            contexts.FUTURE)}) == 1, name
