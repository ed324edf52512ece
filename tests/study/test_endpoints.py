"""Endpoints of a run by hand."""

import itertools
import json
import pathlib

import numpy as np
import pytest

from zppo_jax import assets
from zppo_jax.algorithms import methods
from zppo_jax.study import endpoints
from zppo_jax.tasks import micro
from zppo_jax.weights import safetensors_file

FLOP_ROW = {
    'tokens/student_prompt': 10, 'tokens/student_generated': 90,
    'tokens/teacher_prompt': 20, 'tokens/teacher_generated': 180,
    'tokens/compression_prompt': 5, 'tokens/compression_generated': 5,
    'tokens/probe_prompt': 10**6, 'update/trained_tokens': 0.5,
    'teacher/accuracy': 0.25}


def right(op, x):
  return micro.apply_operator(op, x)


def test_the_facts_that_an_answer_uses_by_hand():
  """A chain reads its own values; a list reads the question's digits."""
  h4 = right('h', 4)
  wrong = (h4 + 1) % 10
  assert endpoints.uses('micro/C/hij/4', f'{wrong} {right("i", wrong)}') == [
      (('h', 4), False), (('i', wrong), True)]
  assert endpoints.uses('pictures/L/hi/42', f'{h4} {right("i", 2)} 7') == [
      (('h', 4), True), (('i', 2), True)]
  assert endpoints.uses('micro/V/hi/4', '') == []


def test_mastered_facts_are_right_in_most_of_their_uses():
  """h4 is right in 2 of 3, i2 in 1 of 2, and j0 is never used."""
  good, bad = right('h', 4), (right('h', 4) + 1) % 10
  answers = [f'{good} {right("i", 2)}', f'{good} {(right("i", 2) + 1) % 10}',
             f'{bad}']
  rows = [{'id': 'micro/L/hi/42', 'answer': a} for a in answers]
  assert endpoints.mastered(rows, {('h', 4), ('i', 2), ('j', 0)}) == 1
  assert endpoints.mastered(rows, {('i', 2)}) == 0


def test_deep_facts_are_those_that_the_packaged_student_was_taught():
  """0.44 of 50; they are hard, and a teacher and the shallow one have none."""
  deep = endpoints.deep_facts('micro/student')
  assert len(deep) == 22 and {op for op, _ in deep} <= set(micro.HARD)
  assert not endpoints.deep_facts('micro/shallow_student')
  assert not endpoints.deep_facts('micro/teacher')


@pytest.mark.parametrize(('method', 'updates', 'student', 'teacher'), [
    # 100 tokens forward; 50 again before the first of 4 updates, and trained.
    ('grpo', 4, 2 * 150 + 6 * 50, 2 * 210),
    ('zppo', 4, 2 * 150 + 6 * 50, 2 * 210),
    ('grpo', 1, 2 * 100 + 6 * 50, 2 * 210),
    # The teacher reads what is trained on.
    ('on_distill', 1, 2 * 100 + 6 * 50, 2 * (210 + 50)),
    # A quarter of 200 tokens of the teacher is right, half of these trained.
    ('seqkd', 4, 2 * 100 + 6 * 25, 2 * 210),
    ('off_distill', 1, 2 * 100 + 6 * 25, 2 * (210 + 25))])
def test_flops_by_hand(method, updates, student, teacher):
  """Probes are a measurement and cost nothing here."""
  of = methods.get(method)
  assert endpoints.flops([FLOP_ROW], of, updates, 1, 0) == student
  assert endpoints.flops([FLOP_ROW] * 2, of, updates, 3, 10) == 2 * (
      3 * student + 10 * teacher)


def made_run(path: pathlib.Path, method: str) -> pathlib.Path:
  """A folder with what `of_run` reads."""
  lines = lambda rows: ''.join(json.dumps(row) + '\n' for row in rows)
  path.mkdir()
  curve = [{'step': s, 'hard': a, 'easy': 1.0}
           for s, a in ((0, 0.0), (5, 0.25), (10, 0.75))]
  (path / 'summary.json').write_text(json.dumps({
      'eval': {s: {'base': 0.0, 'final': curve[-1][s]}
               for s in ('hard', 'easy')},
      'steps': 10, 'wall_s': 7.0, 'student_rollouts': 80,
      'tokens': {'student_prompt': 3, 'student_generated': 6,
                 'probe_generated': 100},
      'graduation_by_entry_accuracy': {
          '0': {'admitted': 4, 'graduated': 1},
          '0.25': {'admitted': 2, 'graduated': 2}}}))
  (path / 'config.json').write_text(json.dumps({'config': {
      'method': method, 'algorithm': {'updates': 4},
      'student': {'weights': 'micro/student'},
      'teacher': {'kind': 'in_process', 'weights': 'micro/teacher'}},
      'forked_from': None}))
  (path / 'eval.jsonl').write_text(lines(curve))
  (path / 'metrics.jsonl').write_text(lines([FLOP_ROW]))
  (path / 'samples.jsonl').write_text(lines([{'step': 9, 'groups': [
      {'kind': 'plain', 'rollouts': [
          {'text': t, 'verdict': 'correct'} for t in 'aab']}]}]))
  safetensors_file.save(path / safetensors_file.FINAL, {
      'a': np.zeros((2, 3), np.float32), 'b': {'c': np.zeros(4, np.float32)}},
      {})
  return path


def test_all_endpoints_of_a_run(tmp_path):
  path = made_run(tmp_path / 'run', 'zppo')
  teacher = endpoints.parameters(assets.find('micro/teacher'))
  expected = {
      'hard': 0.75, 'easy': 1.0, 'mean_hard': 0.5, 'mean_easy': 1.0,
      'spread': 2.0, 'graduated_from_0': 0.25, 'student_rollouts': 80,
      'tokens': 9, 'flops': 10 * (2 * 150 + 6 * 50) + teacher * 2 * 210,
      'seconds': 7.0}
  assert endpoints.of_run(path, 5) == pytest.approx(expected)
  # An arm without a teacher pays for none, and answers tell of deep facts and
  # of splits that training did not evaluate.
  other = made_run(tmp_path / 'other', 'grpo')
  (other / endpoints.ANSWERS).mkdir()
  (other / endpoints.ANSWERS / 'summary.json').write_text('{}')
  deep = sorted(endpoints.deep_facts('micro/student'))[:2]
  rows = [{'id': f'micro/L/{op}/{x}', 'answer': str(right(op, x)),
           'split': split, 'reward': reward}
          for (op, x), (split, reward) in zip(
              itertools.cycle(deep), (('hard', 1.0), ('extra', 1.0),
                                      ('extra', 0.0)), strict=False)]
  (other / endpoints.ANSWERS / 'samples.jsonl').write_text(
      ''.join(json.dumps(row) + '\n' for row in rows))
  assert endpoints.of_run(other, 5) == pytest.approx({
      **expected, 'flops': 10 * (2 * 150 + 6 * 50), 'deep_mastered': 2,
      'extra': 0.5})


def test_watched_metrics_are_means_of_the_steps_that_wrote_them(tmp_path):
  path = made_run(tmp_path / 'run', 'zppo')
  rows = ({**FLOP_ROW, 'distil/copied': 0.5}, FLOP_ROW,
          {**FLOP_ROW, 'distil/copied': 1.0})
  (path / 'metrics.jsonl').write_text(
      ''.join(json.dumps(row) + '\n' for row in rows))
  found = endpoints.of_run(path, 5, ('distil/copied', 'context/lift'))
  assert found['distil/copied'] == 0.75 and 'context/lift' not in found
  assert 'distil/copied' not in endpoints.of_run(path, 5)


def test_a_run_that_a_guard_stopped_has_its_evaluations_and_cost(tmp_path):
  path = made_run(tmp_path / 'run', 'zppo')
  (path / 'summary.json').unlink()
  (path / safetensors_file.FINAL).unlink()
  with pytest.raises(FileNotFoundError):
    endpoints.of_run(path, 5)
  config = json.loads((path / 'config.json').read_text())
  config['config']['eval'] = {'splits': ['hard', 'easy']}
  (path / 'config.json').write_text(json.dumps(config))
  (path / endpoints.STOPPED).write_text(
      json.dumps({'error': 'Diverged', 'why': 'NaN'}))
  row = {'step': 0, 'student_rollouts': 8, 'tokens/student_generated': 3,
         'tokens/probe_generated': 4}
  (path / 'metrics.jsonl').write_text(json.dumps(row) + '\n')
  assert endpoints.of_run(path, 5) == pytest.approx({
      'hard': 0.75, 'easy': 1.0, 'mean_hard': 0.5, 'mean_easy': 1.0,
      'student_rollouts': 8, 'tokens': 3, 'seconds': 0.0})
