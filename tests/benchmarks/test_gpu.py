"""The GPU benchmark runs end to end at tiny shapes on a CPU."""

import json

import pytest

from benchmarks import gpu
from tests.long import LONG, long


@LONG
@pytest.mark.parametrize('model', [
    'tiny', long('tiny-qwen3_5')])
def test_tiny(model, tmp_path):
  gpu.main([f'--model={model}', '--dtype=float32', '--remat=none', '--rows=1',
            '--length=16', '--batches=2', '--prompt=8', '--response=4',
            '--repeats=1', f'--to={tmp_path / "g.json"}'])
  found = json.loads((tmp_path / 'g.json').read_text())
  assert 0 < found['train']['of_matmul'] < 1
  assert found['decode'][0]['bytes']['weights'] > 0
  state = found['decode'][0]['bytes']['state_read']
  assert (state > 0) == (model == 'tiny-qwen3_5')


def test_unknown_model_names_the_known():
  with pytest.raises(ValueError, match=r'Qwen3\.5-2B'):
    gpu.build('nothing', 'float32', 'none')
