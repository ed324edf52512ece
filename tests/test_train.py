"""The whole loop for a few steps, from the packaged weights."""

import json
import pathlib
import runpy

import numpy as np
import pytest

from zppo_jax import build, methods, train, zppo
from zppo_jax.records import Group, Rollout, StopReason, Verdict
from zppo_jax.replay import ReplayBuffer
from zppo_jax.tasks import TASKS, micro

CONFIG = pathlib.Path(__file__).parents[1] / 'configs' / 'micro.py'


def small_config(**changes):
  """Two steps of eight new questions; one shape per engine."""
  c = runpy.run_path(str(CONFIG))['get_config']()
  c.steps, c.algorithm.num_new = 2, 8
  c.data.pool.update(size=64, hard_share=0.75)
  c.shapes.update(group_buckets=(2,), prompt_buckets=(184,),
                  row_buckets=(200,), micro_tokens=3200)
  c.eval.update(size=8, splits=('hard', 'easy'), every=0)
  with c.unlocked():
    for name, value in changes.items():
      c[name] = value
  return c


def lines(path):
  """metrics.jsonl without its clocks."""
  rows = [json.loads(x) for x in (path / 'metrics.jsonl').open()]
  return [{k: v for k, v in row.items() if not k.startswith('time/')}
          for row in rows]


@pytest.fixture(scope='module')
def zppo_run(tmp_path_factory):
  path = tmp_path_factory.mktemp('zppo')
  return path, train.main(small_config(), path)


def test_a_run_leaves_config_metrics_summary_and_weights(zppo_run):
  path, summary = zppo_run
  assert {p.name for p in path.iterdir()} == {
      'config.json', 'metrics.jsonl', 'eval.jsonl', 'summary.json',
      'final.safetensors'}
  assert json.loads((path / 'summary.json').read_text()) == summary
  rows = lines(path)
  assert [r['step'] for r in rows] == [0, 1]
  assert summary['student_rollouts'] == sum(r['student_rollouts'] for r in rows)
  assert summary['eval']['easy']['base'] > 0.9
  assert summary['eval']['hard']['base'] < 0.2


def test_step_sizes_are_algorithm_1s(zppo_run):
  """8 new, then 8 + floor(0.25 * 8) replayed; at most 2 instances."""
  path, _ = zppo_run
  first, second = lines(path)
  assert first['groups/plain'] == 8
  assert second['groups/plain'] == 8 + min(2, first['buffer/size'])
  for row in (first, second):
    assert row['groups/bcq'] + row['groups/ncq'] <= 2
    assert row['hard/asked'] == min(2, row['hard/questions'])
    groups = row['groups/plain'] + row['groups/bcq'] + row['groups/ncq']
    assert row['student_rollouts'] == 8 * groups


def test_same_seed_same_run_and_other_seed_another(zppo_run, tmp_path):
  """Every number but the clocks is a function of config and seed."""
  path, _ = zppo_run
  train.main(small_config(), tmp_path / 'again')
  assert lines(tmp_path / 'again') == lines(path)
  train.main(small_config(seed=1), tmp_path / 'other')
  assert lines(tmp_path / 'other') != lines(path)


@pytest.mark.parametrize('name', sorted(methods.METHODS))
def test_every_method_runs_what_its_row_says(name):
  """Kinds of groups, buffer and teacher follow the table, nothing else."""
  run = build.build(small_config(method=name))
  method = methods.METHODS[name]
  _, buffer, row, settled = train.train_step(
      run, run.state, ReplayBuffer(run.buffer_capacity), 0)
  assert (len(buffer) > 0) == method.replay == (settled is not None)
  assert (run.teacher is not None) == bool(method.reformulations)
  assert (row['groups/bcq'] > 0) == any(
      'bcq' in r for r in method.reformulations)
  assert (row['tokens/teacher_generated'] > 0) == bool(method.reformulations)


def test_decisions_are_the_same_on_every_mesh():
  """From the same recorded groups: advantages, mini-batches, rows."""
  groups = recorded_groups()
  found = []
  for shape in ((1, 1, 1), (2, 2, 2), (8, 1, 1)):
    mesh = dict(zip(('data', 'fsdp', 'tensor'), shape, strict=True))
    other = build.build(small_config(mesh=mesh))
    adv = train.step_advantages(other, groups)
    minis = train.make_minibatches(other, groups, 0)
    rows = [sorted(tuple(map(int, row)) for b in batches
                   for row in np.asarray(b.tokens_BT) if row.any())
            for batches, _ in minis]
    found.append((adv, rows, [tokens for _, tokens in minis]))
  for adv, rows, tokens in found[1:]:
    np.testing.assert_allclose(adv, found[0][0], rtol=1e-6)
    assert rows == found[0][1] and tokens == found[0][2]


def recorded_groups():
  """Ten plain groups of real prompts, rewards 0 to 8 of 8, lengths vary."""
  rng = np.random.default_rng(0)
  task = TASKS['micro']
  prompts = zppo.plain_prompts(micro.pool(10, 0.5), task.chat)
  groups = []
  for i, prompt in enumerate(prompts):
    rollouts = []
    for g in range(8):
      tokens = (*(int(t) for t in rng.integers(10, 20, 3 + (i + g) % 9)), 1)
      verdict = Verdict.CORRECT if g < i % 9 else Verdict.WRONG
      rollouts.append(Rollout(tokens, (-1.0,) * len(tokens), '',
                              StopReason.END, verdict, ''))
    groups.append(Group(prompt, tuple(rollouts)))
  return groups


def test_one_update_needs_no_scoring_pass():
  """I = 1: the old log-probs are the update's own, so the ratio is 1."""
  c = small_config()
  c.algorithm.updates = 1
  run = build.build(c)
  _, _, row, _ = train.train_step(
      run, run.state, ReplayBuffer(run.buffer_capacity), 0)
  assert row['update/ratio_max'] == row['update/ratio_min'] == 1.0
  assert 'sampler_trainer/logp_gap_max' not in row


def test_sampler_and_trainer_agree_in_the_loop(zppo_run):
  """Largest gap on trained tokens, float32."""
  for row in lines(zppo_run[0]):
    assert row['sampler_trainer/logp_gap_max'] < 1e-4


def test_minibatch_scope_normalises_each_minibatch():
  """Statistics over one group: its advantages differ by a scalar."""
  run = build.build(small_config())
  groups = recorded_groups()
  whole = train.step_advantages(run, groups)
  assert not whole[0].any() and whole[1].any()  # 0 of 8, then 1 of 8
  part = train.step_advantages(run, groups[1:2])[0]
  # One group alone: sigma is its own, so this is (r - mean) / std.
  np.testing.assert_allclose(part[0], (1 - 1 / 8) / np.sqrt(7 / 64), rtol=1e-4)
  scale = part / whole[1]
  np.testing.assert_allclose(scale, scale[0], rtol=1e-5)
  assert abs(scale[0] - 1) > 0.1
