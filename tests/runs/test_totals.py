"""Totals of a run: by hand, and through JSON and back."""

import json

from tests.builders import question
from zppo_jax.algorithms.replay import Entry, Settlement
from zppo_jax.runs.totals import History


def entries(**accuracies):
  return tuple(Entry(question(q), 0, a) for q, a in accuracies.items())


def row(**tokens):
  return {'student_rollouts': 16, 'loss': 0.5,
          **{f'tokens/{k}': v for k, v in tokens.items()}}


def filled():
  history = History()
  history.add(row(student_prompt=5, teacher_prompt=2), Settlement(
      entries(a=0.0, b=0.0, c=0.25), (), ()))
  history.add(row(student_prompt=3), Settlement(
      entries(d=0.0), entries(a=0.0, c=0.25), entries(b=0.0)))
  history.seconds = 1.5
  return history


def test_summary_counts_rollouts_tokens_accuracy_and_graduation():
  made = filled().summary({'hard': 0.0, 'easy': 1.0},
                          {'hard': 0.25, 'easy': 0.5}, 2)
  assert made == {
      'steps': 2, 'wall_s': 1.5, 'student_rollouts': 32,
      'tokens': {'student_prompt': 8, 'teacher_prompt': 2},
      'eval': {'hard': {'base': 0.0, 'final': 0.25},
               'easy': {'base': 1.0, 'final': 0.5}},
      'graduated': 2, 'admitted': 4, 'graduation_by_entry_accuracy': {
          '0': {'admitted': 3, 'graduated': 1},
          '0.25': {'admitted': 1, 'graduated': 1}}}


def test_a_run_without_buffer_graduates_nothing():
  history = History()
  history.add(row(student_prompt=1), None)
  made = history.summary({'hard': 0.0}, {'hard': 0.0}, 1)
  assert made['graduation_by_entry_accuracy'] == {}


def test_json_and_back_goes_on_as_if_nothing_had_been():
  again = History.load(json.loads(json.dumps(filled().dump())))
  assert again.dump() == filled().dump()
  ends = []
  for history in (again, filled()):
    history.add(row(student_prompt=4), Settlement((), entries(d=0.0), ()))
    ends.append(history.summary({'hard': 0.0}, {'hard': 1.0}, 3))
  assert ends[0] == ends[1]
