"""zppo eval on packaged weights: files, seeds, refusals."""

import json
import pathlib
import runpy

import pytest

from tests.builders import json_rows
from tests.long import LONG
from zppo_jax.commands import evaluate
from zppo_jax.rollout import collect
from zppo_jax.train import build, evaluate as evaluation, loop
from zppo_jax.train.shapes import tables

pytestmark = pytest.mark.usefixtures('quick_compile')

CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'micro.py'


def config(method='grpo'):
  """Four questions a split; one shape."""
  c = runpy.run_path(str(CONFIG))['get_config']()
  c.method = method
  c.shapes.prompt_buckets = (8,)
  c.algorithm.num_new = 4
  c.eval.update(size=4, splits=('hard', 'easy'))
  return c


def lines(path):
  return json_rows(path / 'samples.jsonl')


@pytest.fixture(scope='module')
def sampled(tmp_path_factory):
  path = tmp_path_factory.mktemp('eval')
  return path, evaluate.main(config(), 'micro/student', path, num_rollouts=4,
                            ks=(1, 2, 4), temperature=1.0)


@LONG
def test_summary_follows_from_the_samples(sampled):
  path, summary = sampled
  assert json.loads((path / 'summary.json').read_text()) == summary
  rows = lines(path)
  assert len(rows) == 2 * 4 * 4
  for split, found in summary['splits'].items():
    rewards = [r['reward'] for r in rows if r['split'] == split]
    assert found['questions'] == 4
    assert found['avg@4']['mean'] == pytest.approx(sum(rewards) / 16)
    assert found['pass@1']['mean'] <= found['pass@4']['mean']
  table = evaluate.table(summary)
  assert 'avg@4' in table and 'hard' in table


def test_the_table_has_graded_rewards():
  """issue 21: they stood in the summary alone."""
  avg = {'mean': 0.5, 'low': 0.4, 'high': 0.6}
  lines = evaluate.table({'splits': {'hard': {
      'questions': 8, 'avg@1': avg, 'verdicts': {},
      'rewards': {'near': 0.25, 'total': 0.75}}}}).splitlines()
  assert lines[0].split()[-2:] == ['reward/near', 'reward/total']
  assert lines[1].split()[-2:] == ['0.250', '0.750']


def test_same_seed_same_samples(sampled, tmp_path):
  path, _ = sampled
  evaluate.main(config(), 'micro/student', tmp_path / 'again', num_rollouts=4,
               ks=(1,), temperature=1.0)
  assert lines(tmp_path / 'again') == lines(path)


@LONG
def test_greedy_is_the_accuracy_of_training(tmp_path):
  """The number that a training run logs before its first step."""
  c = config()
  run = build.build(c)
  logged = evaluation.of_state(run, run.init_state()).results
  found = evaluate.main(c, c.student.weights, tmp_path / 'e')
  assert {s: v['pass@1']['mean'] for s, v in found['splits'].items()} == (
      pytest.approx(logged))


def test_weights_of_no_run_get_shapes_from_the_questions(tmp_path, sampled):
  """The same samples as with shapes by hand, and shapes in config.json."""
  c = config()
  c.shapes.update({**tables.DEFAULTS, 'auto': True})
  evaluate.main(c, 'micro/student', tmp_path / 'e', num_rollouts=4, ks=(1,),
                temperature=1.0)
  assert lines(tmp_path / 'e') == lines(sampled[0])
  shapes = json.loads((tmp_path / 'e' / 'config.json').read_text())[
      'config']['shapes']
  assert (shapes['auto'], shapes['prompt_buckets']) == (False, [8])
  assert shapes['slots'] == 4 * 8  # all rollouts of both splits


@LONG
def test_the_checkpoint_replaces_the_student(tmp_path):
  """The teacher's weights answer what the student's do not."""
  found = evaluate.main(config(), 'micro/teacher', tmp_path / 'e',
                       splits=('hard',))
  assert list(found['splits']) == ['hard']
  assert found['splits']['hard']['pass@1']['mean'] == 1.0


@pytest.mark.parametrize('fields, named', [
    (dict(num_rollouts=4), 'temperature 0'),
    (dict(num_rollouts=2, ks=(1, 4), temperature=1.0), 'k is 4'),
    (dict(num_rollouts=0), 'rollouts is 0')])
def test_numbers_without_meaning_are_refused(tmp_path, monkeypatch, fields,
                                             named):
  monkeypatch.setattr(collect, 'collect', lambda *a, **k: pytest.fail())
  with pytest.raises(ValueError, match=named):
    evaluate.main(config(), 'micro/student', tmp_path / 'e', **fields)
  assert not (tmp_path / 'e').exists()


def test_missing_checkpoint_and_used_directory_are_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match="no weights 'none'"):
    evaluate.main(config(), 'none', tmp_path / 'e')
  (tmp_path / 'note').write_text('')
  with pytest.raises(FileExistsError, match='not empty'):
    evaluate.main(config(), 'micro/student', tmp_path)


@LONG
def test_a_checkpoint_of_a_run_is_a_policy(tmp_path):
  """The newest of an unfinished run, one by its step, the end of a finished
  one: each gives the accuracy that training logged there."""
  from tests.builders import small_config
  c = small_config(steps=2, method='grpo')
  c.checkpoint.every = c.eval.every = 1
  loop.main(c, tmp_path / 'run')
  logged = {row['step']: row
            for row in json_rows(tmp_path / 'run' / 'eval.jsonl')}
  measured = lambda name, to: evaluate.main(
      c, tmp_path / 'run' / name, tmp_path / to)['splits']
  found = {1: measured('checkpoints/1', 'a'), 2: measured('', 'b')}
  (tmp_path / 'run' / 'final.safetensors').unlink()
  assert measured('', 'c') == found[2]
  for step, splits in found.items():
    for split, values in splits.items():
      assert values['pass@1']['mean'] == pytest.approx(logged[step][split])
