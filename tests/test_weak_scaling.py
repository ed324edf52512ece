"""The compiled update of one device does not grow with the mesh."""

import json
import pathlib

import pytest

from benchmarks import hlo, weak_scaling
from tests.long import LONG

ROOT = pathlib.Path(__file__).parents[1]
RECORDED = json.loads(
    (ROOT / 'benchmarks' / 'results' / 'weak_scaling.json').read_text())

pytestmark = pytest.mark.usefixtures('quick_compile')


def check(records: list[dict]) -> None:
  """FLOPs are flat, temporaries hardly grow, and bytes are as predicted."""
  first = records[0]
  for one in records:
    assert one['flops'] == pytest.approx(first['flops'], rel=0.02)
    # A batch that every device held would double them with the devices.
    assert one['temporaries'] < 1.3 * first['temporaries']
    for kind, size in one['predicted'].items():
      assert one['received'].get(kind, 0) == pytest.approx(size, rel=0.02)
    assert one['received'].keys() <= one['predicted'].keys()


def test_the_records_scale_and_the_page_holds_them():
  page = (ROOT / 'docs' / 'performance.md').read_text()
  assert weak_scaling.table(RECORDED) in page
  for family in weak_scaling.FAMILIES:
    records = [one for one in RECORDED['records'] if one['family'] == family]
    assert [one['devices'] for one in records] == list(weak_scaling.DEVICES)
    check(records)


@LONG
def test_a_dense_model_scales():
  check([weak_scaling.measure('qwen3', devices) for devices in (2, 8)])


HLO = """HloModule m

%body (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %x = f32[4,8]{1,0} get-tuple-element(%p), index=1
  %w = f32[8,8]{1,0} all-gather(%x), dimensions={0}, metadata={op_name="here"}
  %d = f32[4,8]{1,0} dot(%x, %w), lhs_contracting_dims={1}, more={0}
}

%condition (p: (s32[], f32[4,8])) -> pred[] {
  %c = pred[] constant(true)
}

ENTRY %main (a: f32[4,8]) -> f32[4,8] {
  %a = f32[4,8]{1,0} parameter(0)
  %t = (s32[], f32[4,8]{1,0}) tuple(%a)
  %l = (s32[], f32[4,8]{1,0}) while(%t), condition=%condition, body=%body%KNOWN
  %r = (f32[4]{0}, bf16[2]{0}) all-reduce(%a), to_apply=%sum
}
"""


@pytest.mark.parametrize('known, others, runs', [
    (', backend_config={"known_trip_count":{"n":"3"}}', 7, 3), ('', 7, 7)])
def test_counts_by_hand(known, others, runs):
  text = HLO.replace('%KNOWN', known)
  assert hlo.collectives(text, others) == [
      hlo.Collective('all-gather', runs, 8 * 8 * 4, 'here'),
      hlo.Collective('all-reduce', 1, 4 * 4 + 2 * 2, '')]
  assert hlo.flops(text, others) == runs * 2 * 4 * 8 * 8
