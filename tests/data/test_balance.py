"""Questions that a pass repeats, by the right rollouts that they had."""

import collections
import json

import numpy as np
import pytest

from tests.builders import question, small_config
from zppo_jax.data import balance
from zppo_jax.data.loader import QuestionLoader
from zppo_jax.train import build

# 0, 1 or 2 of 2 rollouts of q0 to q8 are right, by turns.
RIGHT = {f'q{i}': i % 3 for i in range(9)}


def source(factors=(1, 2, 1), num_new=3, **changes):
  pool = tuple(question(f'q{i}') for i in range(9))
  return QuestionLoader(pool, num_new, changes.pop('seed', 0), True,
                        balance.Balance(RIGHT, factors), **changes)


def drawn(loader, steps):
  return [q.id for step in steps for q in loader.draw(step)]


def test_a_pass_draws_each_question_as_often_as_its_factor_says():
  loader = source()  # 6 questions once, 3 twice: 12 draws, 4 steps
  assert loader.steps_per_pass == 4
  for epoch in range(5):
    counts = collections.Counter(drawn(loader, range(4 * epoch, 4 * epoch + 4)))
    assert counts == {name: 2 if right == 1 else 1
                      for name, right in RIGHT.items()}


def test_the_questions_of_a_step_stay_distinct():
  for factors in ((1, 2, 1), (3, 1, 1), (2, 1, 3)):
    loader = source(factors)
    for step in range(60):
      assert len(set(drawn(loader, [step]))) == 3


def test_fractions_and_the_extremes():
  """A factor of 1.5 repeats every second question; none is left out over a
  pass that divides."""
  loader = source((1.5, 1, 1), num_new=2)  # 3 of right 0: 4 draws; 10 in all
  counts = collections.Counter(drawn(loader, range(5)))
  assert sum(counts.values()) == 10 and set(counts) == RIGHT.keys()
  assert [counts[name] for name in ('q0', 'q3', 'q6')] == [1, 2, 1]


def test_a_draw_depends_on_seed_and_step_alone():
  forward = [drawn(source(), [step]) for step in range(12)]
  again = source()
  assert [drawn(again, [step]) for step in reversed(range(12))] == forward[::-1]
  assert [drawn(source(seed=1), [s]) for s in range(12)] != forward
  assert forward[:4] != forward[4:8]  # passes are shuffled anew


def test_what_is_left_over_waits_for_the_next_pass():
  """13 draws, 3 a step: one is left out, and not always the same."""
  repeats = np.array([2, 2, 2, 2, 1, 1, 1, 1, 1])
  rest = set()
  for seed in range(30):
    counts = np.bincount(
        balance.dealt(repeats, 3, np.random.default_rng(seed)), minlength=9)
    assert counts.sum() == 12 and (repeats - counts).sum() == 1
    rest.add(int(np.argmax(repeats - counts)))
  assert len(rest) > 3


def test_without_a_balance_nothing_changes():
  plain = QuestionLoader(tuple(question(f'q{i}') for i in range(9)), 3, 0, True)
  ones = source((1, 1, 1))
  assert plain.steps_per_pass == ones.steps_per_pass == 3
  assert 'repeats' not in plain.position(4)
  assert {**plain.position(4), 'repeats': ones.position(4)['repeats']} == (
      ones.position(4))


def test_a_checkpoint_of_other_repeats_is_refused(tmp_path):
  loader = source()
  loader.check_position(loader.position(2), 2, tmp_path)
  with pytest.raises(ValueError, match='stands at'):
    source((1, 1, 2)).check_position(loader.position(2), 2, tmp_path)


def test_too_many_repeats_for_a_pass():
  with pytest.raises(ValueError, match='repeats a question 9 times; a pass has '
                     '5 steps of 6 questions'):
    source((9, 1, 1), num_new=6)


def write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def test_a_file_of_evaluated_rollouts(tmp_path):
  path = write(tmp_path / 'samples.jsonl', [
      {'id': name, 'reward': reward, 'text': 'x'}
      for name, rewards in (('a', (1, 0.0)), ('b', (1, 1)))
      for reward in rewards])
  read = balance.read(path, (1, 2, 3))
  assert read.right == {'a': 1, 'b': 2}
  assert read.repeats(['b', 'a']).tolist() == [3, 2]
  assert balance.read('', ()) is None
  with pytest.raises(ValueError, match="no rollout of question 'c' and 0 o"):
    read.repeats(['a', 'c'])


@pytest.mark.parametrize(('rows', 'factors', 'words'), [
    ([{'id': 'a', 'reward': 1}], (), 'both are needed'),
    ([{'id': 'a', 'reward': 1}], (1, 1, 1), 'has 3 numbers; 1 rollouts per q'),
    ([{'id': 'a', 'reward': 1}], (1, .5), 'factors is 0.5; it must be >= 1'),
    ([{'id': 'a', 'reward': 1}] * 2 + [{'id': 'b', 'reward': 1}], (1, 1, 1),
     "question 'b' has 1 rollouts, the first one has 2"),
    ([{'id': 'a'}], (1, 1), "line 1 is no line of"),
    ([[]], (1, 1), "line 1 is no line of"),
    ([{'id': 'a', 'reward': .5}], (1, 1), "'reward' 0.5; they must be"),
    ([], (1, 1), 'which is empty'),
])
def test_bad_files_are_refused(rows, factors, words, tmp_path):
  path = write(tmp_path / 'samples.jsonl', rows)
  with pytest.raises(ValueError, match=words):
    balance.read(path, factors)


def test_a_run_reads_it(tmp_path):
  """Through the config; the questions of the embedded pool."""
  c = small_config()
  pool = build.build(c).source.pool
  path = write(tmp_path / 'samples.jsonl', [
      {'id': q.id, 'reward': int(i % 2)} for i, q in enumerate(pool)])
  c.data.balance.update(samples=path, factors=(2.0, 1.0))
  loader = build.build(c).source
  steps = loader.steps_per_pass
  assert steps == (len(pool) + (len(pool) + 1) // 2) // c.algorithm.num_new
  counts = collections.Counter(drawn(loader, range(steps)))
  assert counts[pool[0].id] == 2 and counts[pool[1].id] == 1
  c.data.balance.samples = str(tmp_path / 'gone')
  with pytest.raises(FileNotFoundError, match='data.balance.samples is'):
    build.build(c)
