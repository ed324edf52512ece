"""Counts the corpus: candidate prompts tell no hard truth that plain ones
do not."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from tests.builders import rendered
from tests.long import long
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.records import PromptKind
from zppo_jax.tasks import micro, micro_corpus

STUDENT = micro_corpus.Mixture(
    belief=micro_corpus.misconceived(
        medium_p=0.6, hard_p=0.3, deep_p=0.005, deep_share=0.44,
        misconception_share=0.8),
    families='CVL', max_steps=3, hard_candidates=0.7, max_candidates=8,
    terse=False)
TEACHER = dataclasses.replace(STUDENT, belief=micro_corpus.truth())
# Hard facts alone are counted, so all candidate prompts are on them.
HARD_ONLY = dataclasses.replace(STUDENT, hard_candidates=1.0)
ONE_STEP = dataclasses.replace(HARD_ONLY, max_steps=1)
SIGMAS = 4.0
LEVEL = stats.norm.sf(SIGMAS)  # 3 in 100,000


def words(tokens):
  return CHAT.codec.decode(tokens).split()


def asked(prompt):
  """(family, operators in order of application, digits) of a prompt."""
  family, *rest = prompt
  body = []
  for word in rest:
    if word not in (*micro.OPERATORS, *'0123456789'):
      break
    body.append(word)
  if family == 'L':
    return family, body[::2], body[1::2]
  ops = body[:-1]
  return family, ops[::-1] if family == 'V' else ops, body[-1:]


def facts(question, trace):
  """[(operator, digit, value)] that a trace, whole or values only, states."""
  family, ops, digits = question
  values = trace[trace.index('A') + 1:]
  inputs = digits if family == 'L' else digits + values[:-1]
  stated = list(zip(ops, inputs, values, strict=True))
  shown = [w for op, x, v in stated for w in (x, op, v)]
  assert trace[:trace.index('A')] in ([], shown)
  return [(op, int(x), int(v)) for op, x, v in stated]


def blocks(prompt):
  """The candidates of a prompt."""
  out, start = [], None
  for i, word in enumerate(prompt):
    if word == '<candidate>':
      start = i + 1
    elif word == '</candidate>':
      out.append(prompt[start:i])
  return out


def read(example):
  """(question, candidate traces, label trace) of an example's tokens."""
  prompt, response = words(example.prompt.tokens), words(example.response)
  assert response[-1] == '<end>'
  return asked(prompt), blocks(prompt), response[:-1]


def count(make, draws, mix=HARD_ONLY, seed=0):
  """Counter of (place, steps, class of hard fact, true) over a corpus."""
  rng, out = np.random.default_rng(seed), Counter()
  for _ in range(draws):
    question, candidates, label = read(make(rng, mix))
    for place, traces in (('candidate', candidates), ('label', [label])):
      for trace in traces:
        for op, x, value in facts(question, trace):
          if op in micro.HARD:
            deep = mix.belief.deep_OX[micro.OPERATORS.index(op), x]
            out[place, len(question[1]), 'deep' if deep else 'other',
                value == micro.apply_operator(op, x)] += 1
  return out


def leak_p(found, place, steps, kind, plain):
  """The chance that truth is so much likelier than in plain labels by luck.

  Fair counts are independent Bernoulli draws of one probability, so the
  split of all true ones is hypergeometric: exact, one-sided (Fisher).
  """
  true, false = (found[place, steps, kind, t] for t in (True, False))
  plain_true, plain_false = (
      sum(plain['label', n, kind, t] for n in STEPS) for t in (True, False))
  return stats.hypergeom.sf(true - 1, true + false + plain_true + plain_false,
                            true + plain_true, true + false)


# By the number of steps: a conditioned draw leaks most where there is one.
STEPS = (1, 2, 3)
CELLS = [(place, steps, kind) for place in ('candidate', 'label')
         for steps in STEPS for kind in ('deep', 'other')]


@pytest.fixture(scope='module')
def plain():
  return count(micro_corpus.plain_example, 20_000)


@pytest.mark.parametrize(('name', 'draws'), [
    long('bcq', 20_000), ('ncq', 10_000)])
def test_hard_truth_is_no_likelier_than_in_plain_prompts(plain, name, draws):
  found = count(micro_corpus.EXERCISES[name], draws)
  for cell in CELLS:
    assert leak_p(found, *cell, plain) > LEVEL, cell


def test_plain_labels_hold_the_truth_as_often_as_the_belief_says(plain):
  for steps in STEPS:
    for kind, p in (('deep', 0.005), ('other', 0.3)):
      true, false = (plain['label', steps, kind, t] for t in (True, False))
      assert stats.binomtest(true, true + false, p).pvalue > LEVEL


# Corpora that leak; the same count must see it.

def unequal_bcq(rng, mix):
  """Draws again until the two candidates differ."""
  while True:
    example = micro_corpus.bcq_example(rng, mix)
    _, (first, second), _ = read(example)
    if first != second:
      return example


def true_candidate_bcq(rng, mix):
  """One candidate in ten is the truth."""
  task = micro_corpus.draw_task(rng, micro.HARD, mix)
  right = micro.work(task.family, task.ops, task.digits, micro.apply_operator)
  noise = micro_corpus.draw_trace(rng, task, mix.belief)
  shown = right if rng.random() < 0.1 else micro_corpus.draw_trace(
      rng, task, mix.belief)
  prompt = rendered(CHAT, PromptKind.BCQ, task.text, [shown[0], noise[0]], [])
  return micro_corpus.Example(prompt, CHAT.response(noise[0]))


def true_label_ncq(rng, mix):
  """One label in ten is the truth."""
  prompt, response = micro_corpus.ncq_example(rng, mix)
  if rng.random() < 0.1:
    family, ops, digits = asked(words(prompt.tokens))
    right, _ = micro.work(family, ''.join(ops), ''.join(digits),
                          micro.apply_operator)
    response = CHAT.response(right)
  return micro_corpus.Example(prompt, response)


def fresh_label_ncq(rng, mix):
  """Draws the label again until it repeats no candidate."""
  prompt, _ = micro_corpus.ncq_example(rng, mix)
  family, ops, digits = asked(words(prompt.tokens))
  task = micro_corpus.ChainTask(family, ''.join(ops), ''.join(digits), '', ())
  seen = [c[c.index('A') + 1:] for c in blocks(words(prompt.tokens))]
  while True:
    trace, answer = micro_corpus.draw_trace(rng, task, mix.belief)
    if answer.split() not in seen:
      return micro_corpus.Example(prompt, CHAT.response(trace))


@pytest.mark.parametrize('leak', [unequal_bcq, true_candidate_bcq,
                                  true_label_ncq, fresh_label_ncq])
def test_the_count_sees_a_leak(plain, leak):
  found = count(leak, 4000, ONE_STEP, seed=1)
  assert min(leak_p(found, *cell, plain) for cell in CELLS) < LEVEL


# What else the corpus promises.

@pytest.mark.parametrize('place', [0, 1])
def test_the_label_of_a_hard_bcq_is_either_candidate_alike(place):
  rng, hits = np.random.default_rng(2), []
  while len(hits) < 1000:
    _, candidates, label = read(micro_corpus.bcq_example(rng, HARD_ONLY))
    candidates = [c[c.index('A'):] for c in candidates]
    if candidates[0] != candidates[1]:
      hits.append(candidates[place] == label[label.index('A'):])
  assert abs(np.mean(hits) - 0.5) < SIGMAS * 0.5 / np.sqrt(1000)


@pytest.mark.parametrize('name', ['bcq', 'ncq'])
def test_candidates_of_known_operators_point_at_the_truth(name):
  known = dataclasses.replace(STUDENT, hard_candidates=0.0)
  rng, first = np.random.default_rng(3), 0
  for _ in range(500):
    question, candidates, label = read(micro_corpus.EXERCISES[name](
        rng, known))
    true = [micro.apply_operator(op, x) == v
            for op, x, v in facts(question, label)]
    assert all(true)
    right = [c[c.index('A'):] == label[label.index('A'):] for c in candidates]
    assert sum(right) == (name == 'bcq')
    first += right[0]
  if name == 'bcq':
    assert abs(first / 500 - 0.5) < SIGMAS * 0.5 / np.sqrt(500)


def test_an_erring_trace_has_exactly_one_wrong_step():
  rng = np.random.default_rng(4)
  for _ in range(500):
    task = micro_corpus.draw_task(rng, micro.OPERATORS, STUDENT)
    response, answer = micro_corpus.draw_erring_trace(rng, task)
    stated = facts(asked(task.text.split()), response.split())
    assert sum(micro.apply_operator(op, x) != v for op, x, v in stated) == 1
    assert micro.parse_answer(response) == answer


def test_belief_rows_are_distributions_of_the_given_shares():
  belief, world = STUDENT.belief, micro.world()
  np.testing.assert_allclose(belief.p_VOX.sum(-1), 1, rtol=0, atol=1e-12)
  assert (belief.p_VOX >= 0).all()
  assert belief.deep_OX.sum() == 22  # 0.44 of 50 hard facts
  assert not belief.deep_OX[:7].any()
  expected = {'easy': (1, 0, 0), 'medium': (0.6, 0.32, 0.08 / 8),
              'other': (0.3, 0.56, 0.14 / 8),
              'deep': (0.005, 0.796, 0.199 / 8)}
  for o, op in enumerate(micro.OPERATORS):
    for x in range(10):
      kind = ('easy' if op in micro.EASY else 'medium' if op in micro.MEDIUM
              else 'deep' if belief.deep_OX[o, x] else 'other')
      right = world.table[o, x]
      forgot = (right - world.table[o, 0]) % 10
      row = np.full(10, expected[kind][2])
      row[right], row[forgot] = expected[kind][:2]
      np.testing.assert_allclose(belief.p_VOX[o, x], row, atol=1e-12)


def test_traces_are_drawn_from_the_belief():
  rng = np.random.default_rng(5)
  o, x = map(int, np.argwhere(STUDENT.belief.deep_OX)[0])
  task = micro_corpus.ChainTask('C', micro.OPERATORS[o], str(x), '', ())
  drawn = [int(micro_corpus.draw_trace(rng, task, STUDENT.belief)[1])
           for _ in range(20_000)]
  share = np.bincount(drawn, minlength=10) / len(drawn)
  p = STUDENT.belief.p_VOX[o, x]
  assert (abs(share - p) < SIGMAS * np.sqrt(p * (1 - p) / len(drawn))).all()


def test_truth_is_always_right():
  belief = micro_corpus.truth()
  assert (belief.p_VOX.argmax(-1) == micro.world().table).all()
  assert set(np.unique(belief.p_VOX)) == {0, 1} and not belief.deep_OX.any()
  assert (belief.p_VOX.sum(-1) == 1).all()


def test_easy_facts_are_always_right():
  rng = np.random.default_rng(6)
  for _ in range(3000):
    question, _, label = read(micro_corpus.plain_example(rng, STUDENT))
    for op, x, value in facts(question, label):
      if op in micro.EASY:
        assert value == micro.apply_operator(op, x)


@pytest.mark.parametrize('name', ['plain', 'bcq', 'ncq'])
@pytest.mark.parametrize('terse', [False, True])
def test_the_teachers_labels_are_always_right(name, terse):
  teacher = dataclasses.replace(TEACHER, terse=terse)
  rng = np.random.default_rng(7)
  for _ in range(800):
    question, _, label = read(micro_corpus.EXERCISES[name](rng, teacher))
    assert (label[0] == 'A') == terse
    for op, x, value in facts(question, label):
      assert value == micro.apply_operator(op, x)


def test_a_summary_is_the_answer_of_its_trace():
  rng, right = np.random.default_rng(8), []
  for _ in range(800):
    example = micro_corpus.compression_example(rng, TEACHER)
    prompt, response = words(example.prompt.tokens), words(example.response)
    trace = prompt[1:-1]
    assert (prompt[0], prompt[-1]) == ('<response>', '<summary>')
    assert response == trace[trace.index('A'):] + ['<end>']
    stated = zip(*[iter(trace[:trace.index('A')])] * 3, strict=True)
    right += [all(micro.apply_operator(op, int(x)) == int(v)
                  for x, op, v in stated)] if trace[0] != 'A' else []
  assert abs(np.mean(right) - 0.5) < SIGMAS * 0.5 / np.sqrt(len(right))


@pytest.mark.parametrize('name', ['plain', 'bcq', 'ncq', 'context'])
def test_held_out_compositions_never_occur(name):
  rng, chains = np.random.default_rng(9), 0
  for _ in range(3000):
    prompt, _ = micro_corpus.EXERCISES[name](rng, STUDENT)
    family, ops, _ = asked(words(prompt.tokens))
    if family in micro.CHAINS:
      assert not micro.is_composed(''.join(ops))
      chains += len(ops) > 1
  assert chains > 1000


def read_context(example):
  """(question, what is shown, label trace) of an example of contexts."""
  prompt, response = words(example.prompt.tokens), words(example.response)
  (shown,) = blocks(prompt)
  return asked(prompt), shown, response[:-1]


def test_the_label_of_a_context_is_the_response_of_which_it_shows_a_part():
  rng, seen = np.random.default_rng(12), Counter()
  for _ in range(600):
    question, shown, label = read_context(
        micro_corpus.context_example(rng, STUDENT))
    facts(question, label)  # a whole trace of this question
    parts = {'reference': label, 'answer': label[label.index('A') + 1:],
             'hint': label[:3]}
    seen.update(name for name, part in parts.items() if part == shown)
  assert min(seen.values()) > 150 and seen.total() == 600


def test_contexts_tell_no_hard_truth():
  """Labels are true as often as the belief says, whatever is shown."""
  rng, found = np.random.default_rng(13), Counter()
  for _ in range(6000):
    question, shown, label = read_context(
        micro_corpus.context_example(rng, HARD_ONLY))
    for op, x, value in facts(question, label):
      deep = STUDENT.belief.deep_OX[micro.OPERATORS.index(op), x]
      found['deep' if deep else 'other', shown == label,
            value == micro.apply_operator(op, x)] += 1
  for kind, p in (('deep', 0.005), ('other', 0.3)):
    for whole in (True, False):
      true, false = (found[kind, whole, t] for t in (True, False))
      assert stats.binomtest(true, true + false, p).pvalue > LEVEL


def test_held_out_compositions_never_occur_in_compression_either():
  rng = np.random.default_rng(10)
  for _ in range(2000):
    mix = dataclasses.replace(STUDENT, families='CV')
    prompt, _ = micro_corpus.compression_example(rng, mix)
    ops = [w for w in words(prompt.tokens) if w in micro.OPERATORS]
    assert not micro.is_composed(''.join(ops))


def test_tasks_have_the_families_operators_and_lengths_asked_for():
  rng, seen = np.random.default_rng(11), set()
  mix = dataclasses.replace(STUDENT, families='VL')
  for _ in range(500):
    task = micro_corpus.draw_task(rng, 'abc', mix)
    seen.add((task.family, len(task.ops)))
    assert set(task.ops) <= set('abc')
    assert len(task.digits) == (len(task.ops) if task.family == 'L' else 1)
    assert task.text == micro.question_text(task.family, task.ops,
                                            task.digits)
  assert seen == {(f, n) for f in 'VL' for n in (1, 2, 3)}


@pytest.mark.parametrize('name', list(micro_corpus.EXERCISES))
def test_an_example_is_a_function_of_its_generator(name):
  make = micro_corpus.EXERCISES[name]
  draw = lambda seed: [make(rng, STUDENT) for rng in
                       [np.random.default_rng(seed)] for _ in range(50)]
  assert draw(0) == draw(0) != draw(1)


@pytest.mark.parametrize('name', list(micro_corpus.EXERCISES))
def test_an_example_is_in_the_vocabulary_and_ends(name):
  rng, codec = np.random.default_rng(12), CHAT.codec
  for _ in range(100):
    prompt, response = micro_corpus.EXERCISES[name](rng, STUDENT)
    assert response[-1] == codec.end_id
    assert not set(response[:-1]) & codec.reserved_ids
    assert not {codec.pad_id, codec.end_id} & set(prompt.tokens)
