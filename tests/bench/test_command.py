"""zppo bench: one tiny run, its JSON and its table."""

import json

import pytest

from tests.builders import small_config
from tests.long import LONG
from zppo_jax.bench import command, roofline


@LONG
def test_json_and_table(tmp_path, capsys):
  command.main(small_config(), 'sample,host', 2, str(tmp_path / 'b.json'))
  found = json.loads((tmp_path / 'b.json').read_text())
  assert set(found['measurements']) == {'sample', 'host'}
  sample = found['measurements']['sample']
  assert len(sample['seconds']) == 2
  assert sample['min_s'] <= sample['median_s'] <= sample['max_s']
  assert sample['flops'] > 0 and sample['bytes'] > 0
  assert 0 < sample['shares']['of_matmul'] < 1
  assert found['measurements']['host']['shares'] == {}
  limit = found['roofline']
  assert limit['bytes'] == max(limit['by_access'].values())
  assert 0 < sample['shares']['of_bandwidth'] < 1
  assert found['machine']['versions'] and found['machine']['cpu']
  assert 'sample' in capsys.readouterr().out


def test_unknown_measurement_names_the_known():
  with pytest.raises(KeyError, match='logprob-memory'):
    command.names('nothing')


@LONG
def test_a_mesh_of_several_devices(monkeypatch):
  """Rows divide over it: 8 of 15 that would fit."""
  monkeypatch.setattr(roofline, 'apart', roofline.measure)
  config = small_config(mesh={'data': 8, 'fsdp': 1, 'tensor': 1})
  config.shapes.micro_tokens = 15 * 200
  found = command.run(config, 'score,host', 1)
  assert found['measurements']['score']['flops'] > 0
