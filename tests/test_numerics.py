"""How far log-probs may move: the gate that docs/numerics.md measures.

Bounds are for random models with logits of deviation 1, whose log-probs move
more than a trained model's.
"""

import json

import jax
import pytest

from benchmarks import numerics, random_models
from tests.builders import ROOT
from tests.long import LONG, long

pytestmark = pytest.mark.usefixtures('quick_compile')

RECORDED = json.loads(
    (ROOT / 'benchmarks' / 'results' / 'numerics.json').read_text())
# Sampler against trainer in float32, nats: what a run's metric is held to.
EXACT = 1e-4
FACTOR = 3  # over the largest recorded mean of a case
# Sampler against trainer in bf16, over what bf16 itself costs; both programs
# rounded apart, it was 1.
SHARE = 0.25


def recorded_mean(case: str, dtype: str, kind: str) -> float:
  return max(r[kind]['mean'] for r in RECORDED['gaps']
             if (r['case'], r['dtype']) == (case, dtype))


@pytest.mark.parametrize('case', [
    'qwen3', long('qwen3_vl, image'), long('qwen3_5')])
def test_gaps_are_within_their_bounds(case):
  """Another seed than the recorded ones; both types, one small batch; fault
  A13."""
  found = numerics.measure(case, rows=2, lengths=(24, 24), seed=7,
                           chunks=(64,), delta_chunks=(64,))
  exact, low = found
  assert (exact['dtype'], low['dtype']) == ('float32', 'bfloat16')
  assert exact['sampler_trainer']['max'] <= EXACT
  for kind in ('sampler_trainer', 'to_float32'):
    bound = FACTOR * recorded_mean(case, 'bfloat16', kind)
    assert 0 < low[kind]['mean'] <= bound, kind
  assert low['tokens'] == 48
  # The two programs round the same numbers: zppo_jax/objectives/rounding.py.
  assert low['sampler_trainer']['mean'] <= SHARE * low['to_float32']['mean']


def test_every_case_was_recorded_and_float32_kept_the_gate():
  cases = {r['case'] for r in RECORDED['gaps']}
  assert cases == set(numerics.CASES)
  for row in RECORDED['gaps']:
    if row['dtype'] == 'float32':
      assert row['sampler_trainer']['max'] <= EXACT, row
  assert RECORDED['machine']['versions']['jax']


@LONG
def test_two_devices_are_compared():
  """The path of --big on two simulated CPUs: equal there."""
  model, params = random_models.build('qwen3')
  first, second, *_ = jax.devices()
  found = numerics.against(model, params, first, second, rows=2, length=24)
  assert found['logp']['max'] < 1e-5 and found['decode_logp']['max'] < 1e-5
  assert found['gradient'] < 1e-5
  assert found['devices'] == [str(first), str(second)]
  assert found['train_seconds'] > 0


def test_presets_become_models():
  """The text shapes that --big takes; nothing is drawn here."""
  model = numerics.preset_model('Qwen3.5-0.8B', 'bfloat16')
  assert model.config.dtype == 'bfloat16' and model.config.remat == 'full'
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  assert shapes['embed'].shape == (248320, 1024)
  assert 'vision' not in shapes


def test_without_an_accelerator_it_says_so():
  with pytest.raises(RuntimeError, match='only a CPU is here'):
    numerics.big('Qwen3.5-0.8B', 1, 8)
  with pytest.raises(RuntimeError, match='needs a GPU'):
    numerics.cudnn_attention()
