"""zppo bench --model: named shapes, random weights, a row each."""

import json
import types

import jax
import pytest

from benchmarks.side_by_side import work
from tests.long import LONG
from zppo_jax import main, models
from zppo_jax.bench import command, counting, measurements, shapes

pytestmark = pytest.mark.usefixtures('quick_compile')


def count(name):
  return counting.count(shapes.build(name, 'float32', 'none'))


def test_the_shapes_are_those_that_they_are_named_after():
  """Parameters by the published counts; the side-by-side model."""
  assert count('micro').params == 113_696
  assert count('tiny') == counting.count(models.build('qwen3', **work.SHAPE))
  assert count('smollm2-135m').params == 134_515_008
  small, large = count('qwen3.5-0.8b'), count('qwen3.5-2b')
  assert small.layers == large.layers == (6, 18)
  assert small.head_flops == 2 * 1024 * 248320
  assert 0.7e9 < small.params < 0.8e9 and 1.8e9 < large.params < 2e9
  for name in ('qwen3.5-0.8b', 'qwen3.5-2b'):
    assert shapes.build(name, 'bfloat16', 'none').config.vision is None


@LONG
def test_json_and_a_row_a_shape(tmp_path, capsys):
  main.main(['bench', '--model=micro', '--load=2x5x2x3', '--repeats=1',
             f'--to={tmp_path / "b.json"}'])
  found = json.loads((tmp_path / 'b.json').read_text())
  (row,) = found['shapes'].values()
  assert found['dtype'] == 'float32' and row['missing'] == {}
  assert row['load'] == dict(prompts=2, prompt=5, rollouts=2, response=3)
  assert set(row['measurements']) == {'sample', 'score', 'update'}
  for m in row['measurements'].values():
    assert len(m['seconds']) == 1 and 0 < m['shares']['of_matmul'] < 1
  flops = {k: m['flops'] for k, m in row['measurements'].items()}
  assert flops['update'] == 3 * flops['score']
  table = capsys.readouterr().out
  assert '| micro | 0.1 M | 2 x 5, 2 x 3 |' in table


def test_what_does_not_fit_is_said_and_not_begun(monkeypatch):
  """2B: 20 bytes a parameter are 35 GiB; nothing is made."""
  monkeypatch.setattr(shapes, 'here', lambda: 20 * 2**30)
  monkeypatch.setattr(measurements, 'measure', None)
  found = command.run_shapes('qwen3.5-2b', 'update', 1)
  (row,) = found['shapes'].values()
  assert row['missing']['update'].endswith('GiB of 20.0 GiB')
  assert 'needs more than 3' in command.shape_table(found)


def test_running_out_of_memory_ends_one_measurement(monkeypatch):
  def fails(*args):
    raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory')
  monkeypatch.setattr(measurements, 'measure', fails)
  found = command.run_shapes('micro', 'score,update', 1)
  assert found['shapes']['micro']['missing'] == dict.fromkeys(
      ('score', 'update'), 'out of memory')
  assert command.shape_table(found).count('out of memory') == 2


@pytest.mark.parametrize('argv, message', [
    (['--model=nothing'], 'smollm2-135m'),
    (['--model=tiny', '--measure=step'], 'sample, score, update'),
    (['--model=tiny', '--load=3x3'], '8x512x8x256'),
    (['--model=tiny', '--load=1x4x2x1'],
     'length of a response is 1; it must be >= 2'),
    (['--model=tiny', '--repeats=0'], 'repeats is 0'),
    (['--model='], 'one of them is needed'),
    (['--model=tiny', '--config=configs/micro.py'], 'one of them is needed'),
    (['--config=configs/micro.py', '--dtype=float32'], 'are of --model'),
    ([], 'one --config=NAME is needed')])
def test_refusals(argv, message):
  with pytest.raises(SystemExit, match=message):
    main.main(['bench', *argv])


def test_log_prob_memory_at_the_real_shape():
  """Qwen3.5's vocabulary, 32k positions: at most a tenth of the plain form."""
  setting = types.SimpleNamespace(model=shapes.build('tiny', 'bfloat16',
                                                     'none'))
  found = measurements.logprob_memory(setting).shapes
  assert found['rows'] * found['length'] == 2**15
  assert found['vocab'] == 248320 and found['dtype'] == 'bfloat16'
  assert 0 < found['temporaries'] <= 0.1 * found['plain_temporaries']
  said = command.MEMORY['logprob-memory'](found)
  assert 'V = 248,320, width 1024, bfloat16' in said
