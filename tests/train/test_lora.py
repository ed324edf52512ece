"""Runs with adapters: what trains, what is saved, who reads the frozen weights.
"""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.builders import group, json_rows
from tests.long import LONG
from tests.train.test_distillation import make_config
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.commands import dry_run
from zppo_jax.devices import memory
from zppo_jax.models import lora
from zppo_jax.plan import abstract, programs, topologies
from zppo_jax.runs import checkpoints
from zppo_jax.runs.checkpoints import CheckpointError
from zppo_jax.train import build, loop, minibatches, step
from zppo_jax.train.models import load_model
from zppo_jax.weights import safetensors_file

pytestmark = pytest.mark.usefixtures('quick_compile')

CPU = topologies.Topology('cpu:1', 'cpu', 'cpu', 1, 1, 2**30)


def lora_config(method='opsd', steps=2, weights='adapters_off', **changes):
  """A teacher of the frozen weights that reads stored solutions."""
  c = make_config(method, **{
      'lora.rank': 4, 'lora.alpha': 8.0, 'optimizer.learning_rate': 1e-2,
      'teacher.kind': 'own', 'teacher.own.weights': weights,
      'data.pool.worked': True, 'checkpoint.every': 1, **changes})
  c.steps = steps
  return c


@pytest.fixture
def unbuilt(monkeypatch):
  """A run that is built fails the test."""
  for command in (loop, dry_run):
    monkeypatch.setattr(command, 'build', lambda *_: pytest.fail('built'))


@pytest.mark.usefixtures('unbuilt')
def test_a_start_that_is_not_there_is_named_before_anything(tmp_path):
  """Before the shapes are proposed and the directory is made."""
  (tmp_path / 'half').mkdir()
  (tmp_path / 'half' / 'adapter_config.json').write_text(json.dumps(
      {'peft_type': 'LORA', 'r': 4, 'lora_alpha': 8}))
  (tmp_path / 'run').mkdir()
  for start in ('typo', 'half', 'run', 'run/adapters.safetensors'):
    c = lora_config(**{'lora.start': str(tmp_path / start)})
    c.shapes.auto = True
    for main in (loop.main, dry_run.main):
      with pytest.raises(FileNotFoundError, match='^lora.start is '):
        main(c, tmp_path / 'new')
  assert not (tmp_path / 'new').exists()


@LONG
@pytest.mark.usefixtures('unbuilt')
def test_a_start_of_another_rank_is_named_before_anything(finished, tmp_path):
  """The directory was made first; a finished run, and a folder of peft's."""
  (tmp_path / 'peft').mkdir()
  (tmp_path / 'peft' / 'adapter_config.json').write_text(json.dumps(
      {'peft_type': 'LORA', 'r': 4, 'lora_alpha': 8}))
  (tmp_path / 'peft' / 'adapter_model.safetensors').write_bytes(b'')
  for start in (finished, finished / 'adapters.safetensors', tmp_path / 'peft'):
    for field, value in (('lora.rank', 2), ('lora.alpha', 16.0)):
      c = lora_config(**{'lora.start': str(start), field: value})
      for main in (loop.main, dry_run.main):
        with pytest.raises(ValueError, match='with rank 4, alpha 8; the sect'):
          main(c, tmp_path / 'new')
  assert not (tmp_path / 'new').exists()


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The directory of a run of two steps."""
  path = tmp_path_factory.mktemp('lora') / 'run'
  loop.main(lora_config(), path)
  return path


def test_adapters_alone_are_trained(finished):
  """Params, moments and checkpoints are those of A and B; B moved from zero."""
  run = build.build(lora_config())
  frozen = memory.count(run.adapted.base)
  assert memory.count(run.abstract_state.params) < 0.2 * frozen
  assert memory.count(run.abstract_state.opt_state) < 0.4 * frozen + 10
  held = checkpoints.peek(finished / 'checkpoints', 2)
  assert held['leaves'] == checkpoints.leaf_types(run.abstract_state)
  assert {name.split("'")[-2] for name in held['leaves']
          if name.startswith('.params')} == {'lora_a', 'lora_b'}
  trained = load_file(finished / safetensors_file.ADAPTERS)
  assert len(trained) == 14  # q, k, v, o, gate, up, down
  assert all(np.any(x) for x in trained.values())
  assert all(row['update/grad_norm'] > 0 for row in json_rows(
      finished / 'metrics.jsonl'))


def test_final_weights_are_merged(finished):
  """W + alpha / r A B in the adapted matrices and W in all others."""
  run = build.build(lora_config())
  whole = load_file(finished / safetensors_file.FINAL)
  trained = load_file(finished / safetensors_file.ADAPTERS)
  for path, w in jax.tree_util.tree_leaves_with_path(run.adapted.base):
    name = '/'.join(k.key for k in path)
    want = np.asarray(w)
    if f'{name}/lora_a' in trained:
      a, b = (trained[f'{name}/{x}'] for x in ('lora_a', 'lora_b'))
      want = want + 2.0 * np.stack([np.tensordot(x, y, 1) for x, y in zip(
          a, b, strict=True)])
      assert np.abs(want - w).max() > 1e-3
    np.testing.assert_allclose(whole[name], want, atol=1e-5, err_msg=name)
  # So whoever loads a run has the trained policy.
  spec = lora_config().student
  spec.weights = str(finished)
  loaded = load_model(spec)
  assert not lora.is_adapted(loaded.params['blocks']['mlp']['up'])


@LONG
def test_a_resumed_run_ends_to_the_byte(finished, tmp_path):
  path = tmp_path / 'run'
  loop.main(lora_config(steps=1), path)
  loop.main(lora_config(), path)
  for name in (safetensors_file.FINAL, safetensors_file.ADAPTERS):
    assert (path / name).read_bytes() == (finished / name).read_bytes()
  assert (checkpoints.peek(path / 'checkpoints', 2)['checksums']
          == checkpoints.peek(finished / 'checkpoints', 2)['checksums'])


def test_other_base_weights_are_refused(finished, tmp_path):
  """A checkpoint holds adapters and says of which weights."""
  shutil.copytree(finished / 'checkpoints', tmp_path / 'checkpoints')
  c = lora_config(steps=3)
  c.student.weights = str(finished)  # the merged ones
  with pytest.raises(CheckpointError, match=(
      r'adapters of other weights: those of .*student\.weights is .*Put the '
      'former weights back')):
    loop.main(c, tmp_path / 'fork', fork_from=tmp_path)
  for rank in (0, 3):
    with pytest.raises(CheckpointError, match=(
        rf'lora\.rank 4, which is {rank} here')):
      loop.main(lora_config(steps=3, **{
          'lora.rank': rank, 'teacher.own.weights': 'frozen'}),
                tmp_path / 'fork', fork_from=tmp_path)
  with pytest.raises(CheckpointError, match='alpha is 8.0 there and 9.0 here'):
    loop.main(lora_config(steps=3, **{'lora.alpha': 9.0}),
              tmp_path / 'fork', fork_from=tmp_path)


def test_a_checkpoint_is_evaluated_merged(finished):
  from zppo_jax.commands import evaluate
  c = lora_config()
  run = build.build(c)
  loaded = evaluate.load_policy(c, str(finished / 'checkpoints' / '2'),
                                run.mesh)
  merged = lora.merge_stacked(loaded.params)
  whole = load_file(finished / safetensors_file.FINAL)
  np.testing.assert_array_equal(merged['blocks']['mlp']['up'],
                                whole['blocks/mlp/up'])


def first_row(c):
  run = build.build(c)
  outcome = step.train_step(run, run.init_state(),
                            ReplayBuffer(run.buffer_capacity), 0)
  return run, step.metrics_row(run, outcome)


@LONG
def test_adapters_off_is_frozen_without_a_copy(finished):
  """The same divergence as that to a copy; the frozen weights are the teacher.
  """
  run = build.build(lora_config())
  assert run.is_frozen(run.teacher.params)
  copy, expected = first_row(lora_config(weights='frozen'))
  assert not copy.is_frozen(copy.teacher.params)
  row = json_rows(finished / 'metrics.jsonl')[0]
  assert row['distil/divergence'] > 1e-3
  for name in ('distil/divergence', 'update/loss', 'update/grad_norm'):
    np.testing.assert_allclose(row[name], expected[name], rtol=1e-5)
  assert 'teacher copy' not in programs.standing(run)
  assert 'teacher copy' in programs.standing(copy)


def test_who_answers_has_a_rollout_copy():
  asks = build.build(lora_config(method='zppo', **{'algorithm.updates': 2}))
  assert not asks.is_frozen(asks.teacher.params)
  assert 'blocks_0' in asks.teacher.params


def test_adapters_off_needs_adapters():
  with pytest.raises(ValueError, match=(
      r"'adapters_off' and lora\.rank 0.*Set lora\.rank, or take 'frozen'")):
    build.build(lora_config(**{'lora.rank': 0}))


@LONG
def test_an_average_of_adapters_is_a_teacher():
  """The copy that follows is one of the adapters, and starts as the policy."""
  run, row = first_row(lora_config(method='opd_reverse', weights='ema'))
  assert memory.count(run.abstract_state.own) == memory.count(
      run.abstract_state.params)
  assert abs(row['distil/divergence']) < 1e-6


def recorded_sums(run):
  """The Sums of the first update on one group of two right and two wrong."""
  groups = [group('C h 4', right=2, size=4)]
  state = run.init_state()
  scored = minibatches.score_by_teacher(
      run, state, run.reshard_fn(state.params), groups, 0)
  made, _ = minibatches.make(
      run, groups, minibatches.advantages(run, groups), 0, scored)
  [of] = minibatches.score(run, state, made)
  return run.update_fn(state, of.batches, float(of.count))[1]


@LONG
def test_scores_and_reference_are_the_frozen_weights():
  """Before the first update the policy is the base: the scores that are stored
  are the student's own, and the penalty is 0. After it neither is."""
  run = build.build(lora_config(method='opd', **{
      'algorithm.reference.kind': 'k3',
      'algorithm.reference.coefficient': 0.1}))
  for params in (run.teacher.params, run.reference.params):
    assert run.is_frozen(params)
  assert 'reference copy' not in programs.standing(run)
  sums = recorded_sums(run)
  assert sums.tokens > 10
  assert abs(sums.total['reference/kl']) < 1e-6 * sums.tokens
  assert abs(sums.loss) < 1e-4
  moved = dataclasses.replace(run, init_state=lambda: run.init_state().replace(
      params=jax.tree.map(lambda x: x + 0.02, run.init_state().params)))
  assert recorded_sums(moved).total['reference/kl'] > 1e-4 * sums.tokens


def test_a_reference_inside_the_update_needs_no_copy():
  run = build.build(lora_config(method='grpo', **{
      'algorithm.reference.kind': 'full',
      'algorithm.reference.coefficient': 0.1}))
  assert run.is_frozen(run.reference.params)
  frozen = programs.frozen_models(run)
  assert list(frozen) == ['reference']
  assert run.is_frozen(frozen['reference'])


@LONG
def test_a_plan_knows_the_frozen_weights():
  """The programs of a plan, from shapes: what they read stands in memory."""
  c = lora_config()
  run = abstract.run_of(c, CPU)
  standing, whole = (programs.standing(abstract.run_of(of, CPU)) for of in (
      c, lora_config(weights='frozen', **{'lora.rank': 0})))
  assert standing[programs.FROZEN] == whole['parameters']
  assert standing['gradient'] == standing['parameters'] < 0.2 * whole[
      'gradient']
  by_name = {p.name: p for p in programs.of_run(run, c)}
  assert by_name['update'].reads == ('parameters', programs.FROZEN, 'gradient')
  reads = sum(standing[part] for part in by_name['update'].reads)
  compiled = by_name['update'].lower().compile().memory_analysis()
  assert compiled.argument_size_in_bytes >= reads
  for name in ('reshard', 'optimizer'):
    assert by_name[name].lower() is not None


def test_records_name_the_base(finished):
  held = json.loads((finished / 'checkpoints' / '2' / 'host' / 'metadata')
                    .read_text())['lora']
  assert (held['rank'], held['alpha']) == (4, 8.0)
  assert held['matrices'] == ['q', 'k', 'v', 'o', 'gate', 'up', 'down']
  assert held['base']['weights'] == lora_config().student.weights
  assert len(held['base']['digest']) == 64
