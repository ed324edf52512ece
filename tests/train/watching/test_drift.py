"""How far a policy has left its start, at evaluations."""

import jax
import numpy as np
import pytest

from tests.builders import json_rows
from tests.long import LONG
from tests.train.test_distillation import make_config
from zppo_jax.runs import diagnostics
from zppo_jax.train import build, loop
from zppo_jax.train.watching import drift

pytestmark = pytest.mark.usefixtures('quick_compile')


def test_changed_parameters_on_the_devices_are_those_of_the_host():
  before = {'a': np.float32([1, 1, 1]), 'b': np.float32([[1]])}
  after = {'a': np.float32([1, 1 + 2**-9, 1 + 2**-7]), 'b': before['b']}
  assert drift.changed_share(before, after) == .25 == (
      diagnostics.changed_share(before, after))


@LONG
def test_the_start_has_none_and_a_moved_leaf_is_counted():
  run = build.build(make_config('grpo', **{'watch.drift': 2}))
  params = run.init_state().params
  assert run.drift.of(params) == {'drift/kl': 0, 'drift/changed_share': 0}
  leaves, tree = jax.tree.flatten(params)
  big = int(np.argmax([x.size for x in leaves]))
  moved = jax.tree.unflatten(tree, [
      x * 1.5 + 1 if i == big else x for i, x in enumerate(leaves)])
  numbers = run.drift.of(moved)
  size = sum(x.size for x in leaves)
  assert numbers['drift/changed_share'] == leaves[big].size / size
  sequences, base = run.drift.written
  scores = run.drift.score_fn(run.drift.reshard_fn(moved), sequences).logps
  apart = np.concatenate(base.logps) - np.concatenate(scores)
  assert numbers['drift/kl'] == pytest.approx(apart.mean(), rel=1e-5)
  # Another attempt writes the same texts.
  again = build.build(make_config('grpo', **{'watch.drift': 2}))
  assert [s.response for s in again.drift.written[0]] == [
      s.response for s in sequences]


@LONG
def test_evaluations_have_it_and_the_summary_has_not(tmp_path):
  config = make_config('grpo', **{
      'watch.drift': 2, 'steps': 2, 'eval.every': 1})
  summary = loop.main(config, tmp_path / 'run')
  start, *later = json_rows(tmp_path / 'run' / 'eval.jsonl')
  assert 'drift/kl' not in start and len(later) == 2
  assert all(0 <= row['drift/changed_share'] <= 1 for row in later)
  assert all(np.isfinite(row['drift/kl']) for row in later)
  assert set(summary['eval']) == set(config.eval.splits)
