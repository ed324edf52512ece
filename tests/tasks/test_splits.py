"""Evaluation questions are made as the pool's are."""

import ast
import dataclasses
import time

import pytest

from tests.train.test_build import make_config
from zppo_jax import tasks
from zppo_jax.records import Grader, Question
from zppo_jax.train import build

GRADER = Grader(str, lambda answer, question: 1.0)


class Eval:
  """A section `eval` without files."""
  sources, size, benchmarks = {}, 6, ''


def test_the_pools_steps_are_the_splits_steps():
  """fault D7: K = 4 was trained and K = 3 evaluated, in silence."""
  run = build.build(make_config(**{'data.pool.num_steps': 4, 'eval.size': 8}))
  asked = [*run.source.pool, *run.splits['hard'], *run.splits['easy_list']]
  assert {len(q.answer.split()) for q in asked} == {4}
  run = build.build(make_config(**{'eval.size': 8}))
  assert {len(q.answer.split()) for q in run.splits['hard']} == {3}


@pytest.mark.parametrize('name', ['micro', 'micro_pictures', 'micro_clips'])
def test_of_the_built_in_tasks(name):
  """fault D7"""
  pytest.importorskip('sklearn')
  task = tasks.get(name)
  pool = dict(size=8, hard_share=0.5, num_steps=2)
  found = tasks.splits(task, Eval, ('hard', 'easy'), pool)
  assert {len(q.answer.split()) for qs in found.values() for q in qs} == {2}
  assert tasks.splits(task, Eval, ('hard',)) == tasks.splits(
      task, Eval, ('hard',), dict(pool, num_steps=3))


def made(split, size, **fields):
  """Questions whose text says with which fields they were made."""
  return [Question(f'{split}{i}', str(fields), '7', split)
          for i in range(size)]


def told(evaluation, pool, **fields):
  """What an evaluation of a user's own task was given."""
  task = tasks.Task(lambda **_: [], evaluation, GRADER, **fields)
  return ast.literal_eval(tasks.splits(task, Eval, ('s',), pool)['s'][0].text)


def test_tasks_of_ones_own():
  """fault D7: an evaluation that names no such field goes on as it was; what
  it names alike is passed, but not sizes and seeds."""
  pool = dict(level=3, size=9, seed=5, other=1)
  assert told(lambda split, size: made(split, size), pool) == {}
  assert told(lambda name, size, level=1: made(
      name, size, level=level), pool) == {'level': 3}
  assert told(lambda split, count, *, level: made(
      split, count, level=level), pool) == {'level': 3}
  assert told(lambda split, size, seed=1, level=1: made(
      split, size, seed=seed, level=level), pool) == {'seed': 1, 'level': 3}
  assert told(lambda split, size, **fields: made(
      split, size, **fields), pool) == {}


def test_a_task_may_say_what_is_shared():
  pool = dict(level=3, seed=5)
  assert told(lambda split, size, **fields: made(split, size, **fields), pool,
              shared=('level', 'seed')) == {'level': 3, 'seed': 5}
  assert told(lambda split, size, level=1: made(split, size, level=level), pool,
              shared=()) == {'level': 1}
  with pytest.raises(ValueError, match="Task.shared has 'seed', which its"):
    told(lambda split, size: made(split, size), pool, shared=('seed',))


def test_reasoning_gyms_pool_and_split_have_one_config():
  """fault D7: its splits had the data set's defaults."""
  pytest.importorskip('reasoning_gym')
  task = tasks.get('reasoning_gym')
  pool = dict(name='chain_sum', size=9, config=dict(min_terms=7, max_terms=7))
  names = ('chain_sum', 'chain_sum?{"min_terms": 6}', 'lcm')
  found = tasks.splits(task, Eval, names, pool)
  assert {len(q.text.split(': ')[1].split())
          for q in found['chain_sum']} == {14}
  assert {len(q.text.split(': ')[1].split()) for q in found[names[1]]} == {12}
  assert found['lcm'] == tuple(task.evaluation('lcm', 6))
  with pytest.raises(ValueError, match='holds list behind its question mark'):
    task.evaluation('chain_sum?[1]', 2)


HALF = '7 \ud83d'


@pytest.mark.parametrize('field', [
    'id', 'text', 'answer', 'split', 'kind', 'source', 'hint', 'responses'])
def test_half_a_surrogate_pair_names_row_question_and_field(field):
  """A tokenizer answers it with a TypeError that names nothing."""
  value = (HALF,) if field == 'responses' else HALF
  good = made('s', 3)
  bad = [*good, dataclasses.replace(good[0], **{field: value})]
  task = tasks.Task(lambda: bad, lambda split, size: bad[:size], GRADER)
  name = field + ('\\[0\\]' if field == 'responses' else '')
  said = (rf"row 3, question '.*': {name} holds half a surrogate pair, "
          r"'\\ud83d' at character 2")
  with pytest.raises(ValueError, match='data.pool: ' + said):
    tasks.pool(task, {})
  with pytest.raises(ValueError, match="eval.splits 's': " + said):
    tasks.splits(task, Eval, ('s',))
  fine = tasks.Task(lambda: good, lambda split, size: good, GRADER)
  assert tasks.pool(fine, {}) == good


def test_a_draw_that_takes_long_says_whose_it_is(monkeypatch, capsys):
  """issue 21: a draw without an end was silent."""
  good = made('s', 3)

  def slow(*_):
    time.sleep(0.3)
    return good
  task = tasks.Task(lambda: slow(), slow, GRADER)
  tasks.pool(task, {}, 'sums:SUMS')
  assert not capsys.readouterr().out
  monkeypatch.setattr(tasks, 'SLOW_S', 0.01)
  tasks.pool(task, {}, 'sums:SUMS')
  tasks.splits(task, Eval, ('s',), task_name='sums:SUMS')
  assert capsys.readouterr().out == (
      'drawing the questions of sums:SUMS (data.pool) ...\n'
      "drawing the questions of sums:SUMS (eval.splits 's') ...\n")


def test_whole_pairs_and_other_scripts_are_text():
  whole = [Question('q', '🙂 雪 é', '7', 's', hint='🙂', responses=('🙂',))]
  task = tasks.Task(lambda: whole, lambda split, size: whole, GRADER)
  assert tasks.pool(task, {}) == whole
