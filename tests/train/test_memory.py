"""Bytes of what a distillation row stores for a rollout batch."""

import numpy as np
import pytest

from tests.train.test_distillation import make_config
from tests.train.test_step import recorded_groups
from zppo_jax.train import build, minibatches

pytestmark = pytest.mark.usefixtures('quick_compile')


def held(targets) -> int:
  """Bytes that are kept alive: a slice keeps all of the array behind it."""
  owners = {}
  for of in targets.values():
    for array in of.values():
      while isinstance(array.base, np.ndarray):
        array = array.base
      owners[id(array)] = array.nbytes
  return sum(owners.values())


@pytest.mark.parametrize('method, changes', [
    ('opd_jsd', {'distil.support': 'student'}), ('eopd', {})])
def test_stored_ids_take_eight_bytes_each(method, changes):
  """An int32 id and a float32 log-prob for each of K, and 4 bytes a token for
  each number besides; nothing of the padded rows that were scored stays."""
  config = make_config(method, **{'algorithm.rollouts': 8, **changes})
  if not method.startswith('e'):
    config.distil.top = 20
  run = build.build(config)
  state, groups = run.init_state(), recorded_groups()
  targets = minibatches.score_by_teacher(
      run, state, run.reshard_fn(state.params), groups, 0).targets
  tokens = sum(len(groups[p].rollouts[g].tokens) for p, g in targets)
  names = set(next(iter(targets.values())))
  numbers = len(names - {'kept_ids', 'kept_logps'})
  count = tokens * (8 * run.distil.top + 4 * numbers)
  assert tokens > 500 and {'kept_ids', 'kept_logps'} <= names
  assert abs(held(targets) - count) < 0.05 * count
