"""The compiled update of one device does not grow with the mesh."""

import json
import pathlib

import pytest

from benchmarks import weak_scaling
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
