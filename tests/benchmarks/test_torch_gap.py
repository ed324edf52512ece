"""The table of gaps next to torch's: the page shows what was recorded."""

import json

import numpy as np
import pytest

from benchmarks import torch_gap
from tests.builders import ROOT

RECORDED = json.loads(
    (ROOT / 'benchmarks' / 'results' / 'torch_gap.json').read_text())


def test_the_page_has_the_table_of_the_results():
  page = (ROOT / 'docs' / 'numerics.md').read_text()
  assert torch_gap.table(RECORDED) in page


def test_every_case_size_and_chunk_was_recorded():
  """Over at least five seeds."""
  assert len(RECORDED['seeds']) >= 5
  assert {(r['case'], r['rows'], r['tokens'], r['seed'])
          for r in RECORDED['gaps']} == {
      (name, *size, seed) for name, (*_, sizes) in torch_gap.CASES.items()
      for size in sizes for seed in RECORDED['seeds']}
  for record in RECORDED['gaps']:
    deltas = (torch_gap.DELTA_CHUNKS if 'qwen3_5' in record['case']
              else torch_gap.DELTA_CHUNKS[-1:])
    assert [(g['chunk'], g['delta_chunk']) for g in record['ours']] == [
        (chunk, delta) for chunk in torch_gap.CHUNKS for delta in deltas]
    assert set(record['torch']) == set(torch_gap.ATTENTIONS)


def record(seed, ours, sdpa, eager):
  gap = lambda mean: {'mean': mean, 'p99': 4 * mean, 'max': 9 * mean}
  return {'case': 'some', 'rows': 1, 'tokens': 8, 'seed': seed,
          'ours': [{'chunk': chunk, 'delta_chunk': delta} | gap(mean)
                   for chunk, delta, mean in (
                       (64, 16, 1.0), *zip((64, 1024), (64, 64), ours,
                                           strict=True))],
          'torch': {'sdpa': gap(sdpa), 'eager': gap(eager)}}


def test_ours_is_the_worse_log_prob_chunk_and_torchs_the_larger_path():
  records = [record(0, (1e-3, 3e-3), 1e-3, 4e-3),
             record(1, (5e-3, 2e-3), 6e-3, 8e-3)]
  assert torch_gap.larger_path(records) == 'eager'
  np.testing.assert_allclose(torch_gap.means(records), (4e-3, 6e-3))
  middle, low, high = torch_gap.ratio(records)
  np.testing.assert_allclose((middle, low, high), (2 / 3, 5 / 8, 3 / 4))


@pytest.mark.parametrize('ours, theirs, shown', [
    (1e-7, 1e-7, 'both 0'), (1e-3, 1e-7, 'inf (inf to inf)'),
    (1e-3, 2e-3, '0.50 (0.50 to 0.50)')])
def test_a_gap_of_none_is_shown_as_such(ours, theirs, shown):
  records = [record(i, (ours, ours), theirs, 0.0) for i in range(3)]
  last = torch_gap.table({'gaps': records}).splitlines()[-1]
  assert last.startswith('| some | 1 | 8 | ') and last.endswith(f'| {shown} |')
