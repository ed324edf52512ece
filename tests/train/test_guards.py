"""When a run stops, by hand. tests/train/test_loop.py lets runs stop."""

import math

import numpy as np
import pytest

from zppo_jax.train import guards


@pytest.mark.parametrize('name, value, said', [
    ('update/loss', np.nan, 'update/loss is nan'),
    ('update/grad_norm', np.inf, 'update/grad_norm is inf'),
    ('update/ratio_max', 101.0, 'update/ratio_max is 101, outside'),
    ('update/ratio_min', 0.0099, 'update/ratio_min is 0.0099, outside'),
    ('update/ratio_max', 100.0, None), ('update/ratio_min', 0.01, None),
])
def test_trouble_names_the_number(name, value, said):
  row = {'update/loss': -1.0, 'update/grad_norm': 0.0, 'update/ratio_max': 1.0,
         'update/ratio_min': 1.0, name: value}
  found = guards.trouble(row, 100.0)
  assert found is None if said is None else said in found


@pytest.mark.parametrize('field, value', [
    ('max_failures', -0.1), ('max_failures', 1.5), ('max_failures', math.nan),
    ('window', 0)])
def test_a_budget_out_of_range_is_refused(field, value):
  fields = {'max_failures': 0.5, 'window': 2, field: value}
  with pytest.raises(ValueError, match=rf'teacher\.{field} is {value}'):
    guards.FailureBudget(**fields)
