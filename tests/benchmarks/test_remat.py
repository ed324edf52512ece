"""Every remat policy is measured, and the table has them."""

import json

import pytest

from benchmarks import remat, tables
from tests.long import LONG
from zppo_jax.models.decoder import REMAT

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.fixture
def small(monkeypatch):
  fields = dict(vocab_size=64, width=32, num_layers=8, num_heads=4,
                num_kv_heads=2, head_dim=8, mlp_width=128, max_positions=128)
  monkeypatch.setattr(remat, 'MODELS', {'small': ('qwen3', fields)})


@LONG
def test_every_policy_and_the_table(small, tmp_path):
  """All of student.remat; recomputing all holds least, nothing most."""
  remat.main(['--rows=4', '--length=128', '--rounds=2',
              f'--to={tmp_path / "remat.json"}'])
  found = json.loads((tmp_path / 'remat.json').read_text())
  assert found['command'].startswith('python -m benchmarks.remat --rows=4')
  assert found['machine']['versions']
  policies = found['models']['small']['policies']
  assert list(policies) == list(REMAT)
  assert all(len(p['seconds']) == 2 and p['min_s'] <= p['median_s']
             for p in policies.values())
  used = {name: p['temporaries'] for name, p in policies.items()}
  assert used['full'] < used['dots'] < used['none']
  page = tables.filled('<!-- remat -->\n<!-- /remat -->', tmp_path)
  assert page.count('| small, ') == len(REMAT)


def test_the_real_models_have_both_kinds_of_layers():
  assert {family for family, _ in remat.MODELS.values()} == {
      'qwen3', 'qwen3_5'}


@pytest.mark.parametrize('argv, message', [
    (['--models=some'], "'some'"), (['--rounds=0'], 'rounds is 0')])
def test_refusals(argv, message):
  with pytest.raises(SystemExit, match=message):
    remat.main([*argv, '--to=nowhere.json'])
