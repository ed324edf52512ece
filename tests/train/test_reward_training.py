"""A run with graded rewards: advantages, files, resume, and what refuses it."""

import pytest

from tests.builders import documented_metrics, json_rows, small_config
from tests.long import LONG
from zppo_jax.algorithms import methods
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.commands import dry_run
from zppo_jax.records import Grader, StopReason, Verdict
from zppo_jax.rollout import collect
from zppo_jax.tasks import Task, micro
from zppo_jax.train import build, evaluate, loop
from zppo_jax.train.builders import rewards
from zppo_jax.train.control import evaluations

pytestmark = pytest.mark.usefixtures('quick_compile')


def near(response) -> float:
  """The share of right digits of an answer of several."""
  gold, answer = response.question.answer.split(), response.answer.split()
  return sum(x == y for x, y in zip(gold, answer, strict=False)) / len(gold)


NEAR = Task(micro.pool, micro.evaluation,
            Grader(micro.parse_answer, micro.grade, rewards={'near': near}),
            CHAT)


def rewarded(method='grpo', **changes):
  c = small_config(method=method, **changes)
  c.data.task = 'tests.train.test_reward_training:NEAR'
  c.reward.weights = dict(right=1.0, near=0.5, linear_length=-0.1)
  c.algorithm.update(num_new=4, updates=1)
  c.eval.update(size=2, splits=('hard',))
  c.checkpoint.every, c.log.tensorboard = 1, False
  return c


def judged(**changes):
  """With an evaluation of more questions after every step."""
  c = rewarded(**changes)
  c.eval.update(size=8, every=1)
  c.best.metric = 'reward/hard/total'
  return c


def without_clocks(path, name):
  return [{k: v for k, v in row.items() if not k.startswith(
      ('time/', 'compilations/'))} for row in json_rows(path / name)]


@LONG
def test_components_train_and_are_written_and_a_resume_keeps_them(tmp_path):
  """Two steps at once, and in two attempts."""
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  summary = loop.main(judged(), whole)
  loop.main(judged(steps=1), parts)
  assert loop.main(judged(), parts).get('best') == summary.get('best')
  for name in ('metrics.jsonl', 'samples.jsonl', 'eval.jsonl'):
    assert without_clocks(parts, name) == without_clocks(whole, name)
  assert ((whole / 'final.safetensors').read_bytes()
          == (parts / 'final.safetensors').read_bytes())
  rows = json_rows(whole / 'metrics.jsonl')
  documented = documented_metrics()
  for row in rows:
    names = [n for n in row if n.startswith('reward/')]
    assert {*names} == {f'reward/{n}' for n in (
        'right', 'near', 'linear_length', 'total')}
    assert row['reward/right'] == pytest.approx(row['accuracy/plain'])
    assert row['reward/near'] > 0
    assert all(any(d.fullmatch(n) for d in documented) for n in names)
  assert [*summary['eval']] == ['hard']  # rewards are no results
  evals = json_rows(whole / 'eval.jsonl')
  assert [row['step'] for row in evals] == [0, 1, 2]
  for row in evals:
    of = {n: row[f'reward/hard/{n}'] for n in (
        'right', 'near', 'linear_length', 'total')}
    assert of['right'] == row['hard'] and of['linear_length'] == 0.5
    assert of['total'] == pytest.approx(of['right'] + 0.5 * of['near'] - 0.05)
  assert any(row['reward/hard/near'] > row['hard'] for row in evals)
  assert summary['best']['value'] == max(
      row['reward/hard/total'] for row in evals)
  trained = 0
  for sample in json_rows(whole / 'samples.jsonl'):
    for group in sample['groups']:
      totals = [r['rewards']['total'] for r in group['rollouts']]
      mean = sum(totals) / len(totals)
      for r, total in zip(group['rollouts'], totals, strict=True):
        of = r['rewards']
        assert total == pytest.approx(
            of['right'] + 0.5 * of['near'] - 0.1 * of['linear_length'])
        assert of['right'] == r['reward'] == (r['verdict'] == 'correct')
        assert (r['advantage'] > 0) == (total > mean + 1e-6)
        trained += r['advantage'] and not any(
            of['reward'] for of in group['rollouts'])
  assert trained > 4  # rollouts of groups that are all wrong


def test_a_metric_of_rewards_is_one_of_the_runs_weights():
  c = rewarded()
  c.best.metric = 'reward/hard/far'
  numbers = evaluate.names(build.build(c))
  assert sorted(numbers) == ['hard', *sorted(f'reward/hard/{n}' for n in (
      'right', 'near', 'linear_length', 'total'))]
  with pytest.raises(KeyError, match='best.metric.*reward/hard/total'):
    evaluations.of_run(c, ('hard',), numbers)
  # A dry run takes what a run takes.
  assert dry_run._rounds(build.build(judged())) == 3


def test_what_is_right_is_so_for_buffer_teacher_and_evaluation():
  """With decides = 'near' an answer with two right digits of three is right,
  for every sampler of the run."""
  c = rewarded('zppo')
  c.reward.update(decides='near', threshold=0.6)
  run = build.build(c)
  graders = [run.teacher.answers.grader, run.greedy.grader, run.sampler.grader]
  assert [g.scoring for g in graders] == [run.sampler.grader.scoring] * 3
  question = run.source.draw(0)[0]
  first, second, third = question.answer.split()
  (off, far) = collect.from_texts(
      [question], [[(f'A {first} {second} {9 - int(third)}', StopReason.END),
                    (f'A {first} {9 - int(second)} {9 - int(third)}',
                     StopReason.END)]], run.chat, run.sampler.grader)[0]
  assert [off.verdict, far.verdict] == [Verdict.CORRECT, Verdict.WRONG]
  assert dict(off.components) == {'right': 1, 'near': pytest.approx(2 / 3)}


@pytest.mark.parametrize('method', sorted(methods.METHODS))
def test_rows_say_whether_they_take_graded_rewards(method):
  """A row that reads rewards otherwise than by group advantages is refused."""
  row = methods.METHODS[method]
  assert row.graded == (row.of_advantages or method == 'grpo_distill')
  c = rewarded(method)
  if row.graded:
    rewards.check_method(c, row)
    return
  with pytest.raises(ValueError, match='reads which responses are right'):
    rewards.check_method(c, row)
