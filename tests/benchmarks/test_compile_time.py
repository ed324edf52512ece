"""The command compiles for TPUs and adds its record to the file."""

import json

import jax
import pytest

from benchmarks import compile_time
from zppo_jax.weights import presets

TINY = presets.Preset({
    **presets.PRESETS['Qwen3-0.6B'].config, 'hidden_size': 64,
    'vocab_size': 512, 'intermediate_size': 128, 'num_attention_heads': 8,
    'num_hidden_layers': 2}, 0.001, ())


def test_two_records(monkeypatch, tmp_path):
  pytest.importorskip('libtpu', reason='needs the package libtpu')
  monkeypatch.setitem(presets.PRESETS, 'tiny', TINY)
  argv = ['--model=tiny', '--topology=v5e:2x2', '--mesh=1x4x1', '--prompt=128',
          '--response=128', f'--to={tmp_path / "found.json"}']
  for more in ([], ['--effort=O1']):
    compile_time.main([*argv, *more])
  assert jax.config.jax_optimization_level == 'UNKNOWN'
  first, second = json.loads((tmp_path / 'found.json').read_text())
  assert first['command'].startswith(
      'python -m benchmarks.compile_time --model=tiny')
  assert first['machine']['git_revision']
  assert first['compile_s'] > 0 and first['lower_s'] > 0
  assert second['command'].endswith('--effort=O1')
  for name in ('stablehlo_lines', 'arguments'):
    assert first[name] == second[name] > 0
  for name in ('hlo_lines', 'temporaries', 'estimated_cycles'):
    assert first[name] > 0 and second[name] > 0
  # The compiler made another program with less effort.
  assert first['hlo_lines'] != second['hlo_lines']


def test_layers_are_counted():
  """The published model, and the same with fewer layers."""
  whole = compile_time.model_of('Qwen3.5-0.8B', None)
  short = compile_time.model_of('Qwen3.5-0.8B', None, layers=4)
  assert (whole.config.num_layers, short.config.num_layers) == (24, 4)
  assert whole.config.remat == 'full' and whole.config.dtype == 'bfloat16'


@pytest.mark.parametrize('argument, error, message', [
    ('--rows=0', ValueError, '--rows is 0'),
    ('--prompt=0', ValueError, '--prompt is 0')])
def test_refusals(argument, error, message, tmp_path):
  with pytest.raises(error, match=message):
    compile_time.main([argument, f'--to={tmp_path / "no.json"}'])


def test_an_unknown_model_is_named():
  with pytest.raises(KeyError, match="'some'"):
    compile_time.model_of('some', None)
