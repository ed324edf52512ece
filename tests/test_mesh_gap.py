"""The gap over meshes and layouts: recorded, shown, and held on a new seed."""

import json

import pytest

from benchmarks import mesh_gap
from tests.builders import ROOT
from tests.long import LONG
from zppo_jax.learner import layouts

RECORDED = json.loads(
    (ROOT / 'benchmarks' / 'results' / 'mesh_gap.json').read_text())
# Over the largest recorded mean of a family.
FACTOR = 2


def test_the_page_has_the_table_of_the_results():
  page = (ROOT / 'docs' / 'numerics.md').read_text()
  assert mesh_gap.table(RECORDED) in page


def test_every_mesh_and_layout_was_recorded():
  assert {(r['family'], r['mesh'], r['layout'], r['seed'])
          for r in RECORDED['gaps']} == {
      (family, mesh, kind, seed) for family in mesh_gap.FAMILIES
      for mesh in mesh_gap.MESHES for kind in layouts.LAYOUTS
      for seed in RECORDED['seeds']}


@LONG
@pytest.mark.usefixtures('quick_compile')
def test_a_mesh_and_a_layout_keep_the_gap():
  """Fault A13."""
  bound = FACTOR * max(
      r['mean'] for r in RECORDED['gaps'] if r['family'] == 'qwen3')
  for record in mesh_gap.measure('qwen3', 'fsdp 4 x tensor 2', [7]):
    assert record['seed'] not in RECORDED['seeds']
    assert record['tokens'] == 2 * sum(mesh_gap.LIMITS)
    assert 0 < record['mean'] <= bound, record
