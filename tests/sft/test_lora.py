"""Supervised runs with adapters."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.builders import json_rows
from tests.sft import builders
from zppo_jax.devices import memory
from zppo_jax.sft import build, command
from zppo_jax.weights import safetensors_file

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.fixture
def config(tmp_path):
  file = builders.write_lines(tmp_path / 'rows.jsonl', builders.micro_rows(12))
  return builders.micro_config(
      file, lora__rank=4, lora__alpha=8.0, optimizer__learning_rate=1e-2,
      steps=4, lora__matrices=('q', 'up'))


def test_a_run_learns_by_adapters(config, tmp_path, capsys):
  """The loss falls on training and held-out rows; the final weights are the
  base but for the two matrices."""
  summary = command.main(config, tmp_path / 'run')
  held = summary['eval']['held_out/loss']
  assert held['final'] < held['base'] - 0.05
  rows = json_rows(tmp_path / 'run' / 'metrics.jsonl')
  assert rows[-1]['sft/loss'] < rows[0]['sft/loss'] - 0.05
  run = build.build(config)
  assert memory.count(run.abstract_state.params) < 0.1 * memory.count(
      run.adapted.base)
  whole = load_file(tmp_path / 'run' / safetensors_file.FINAL)
  base = run.adapted.base['blocks']
  for owner, name in (('attention', 'q'), ('mlp', 'up'), ('mlp', 'down')):
    moved = np.any(whole[f'blocks/{owner}/{name}'] != base[owner][name])
    assert moved == (name != 'down')
  assert len(load_file(tmp_path / 'run' / safetensors_file.ADAPTERS)) == 4
  command.dry_run(config, tmp_path / 'run')
  assert f'frozen below them {memory.count(run.adapted.base):,}\n' in (
      capsys.readouterr().out)
