"""bf16: sampler against trainer, held to torch's cache against its whole pass.

The same weights and tokens in both libraries. Torch's own gap is the measure
of what a different order of sums costs; benchmarks/torch_gap.py has the table.
"""

import pytest

from benchmarks import numerics, torch_gap

pytest.importorskip('transformers')
pytest.importorskip('torch')

pytestmark = pytest.mark.usefixtures('quick_compile')

# The rule: over five seeds, our mean gap is no more than that of torch's path
# with the larger gap. Both have DeltaNet chunks of 64. No number of ours enters
# the rule.
SEEDS = range(5, 10)  # others than the table's
SIZE = dict(rows=4, length=64, chunks=(64,), delta_chunks=(64,))


def gaps(name: str, seeds):
  return [torch_gap.measure(name, seed=seed, **SIZE) for seed in seeds]


@pytest.mark.parametrize('name', ['qwen3', 'qwen3_5, class, large'])
def test_the_gap_is_no_more_than_torchs_between_its_own_two_paths(name):
  """Fault A13."""
  records = gaps(name, SEEDS)
  assert min(r['to_float32']['mean'] for r in records) > 5e-3  # bf16 indeed
  ours, theirs = torch_gap.means(records)
  assert ours <= theirs


def test_the_rule_can_fail(monkeypatch):
  """With a trainer that shares no rounding with the sampler."""
  score = numerics.score
  monkeypatch.setattr(numerics, 'score', lambda model, *args: score(
      torch_gap.text_model('qwen3_5, class', 'float32'), *args))
  ours, theirs = torch_gap.means(gaps('qwen3_5, class', SEEDS[:2]))
  assert ours > theirs
