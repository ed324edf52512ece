"""Adapters as a folder of peft's."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks import random_models
from tests import builders
from tests.models.test_lora import drawn
from zppo_jax import models
from zppo_jax.commands import convert, table
from zppo_jax.models import lora
from zppo_jax.weights import peft, safetensors_file

WRITTEN = json.loads((builders.ROOT / 'benchmarks' / 'results' /
                      'peft_names.json').read_text())


def file_of(family, folder):
  """A file of adapters as a run of a family writes it."""
  model, base, adapters, config = drawn(family)
  file = folder / safetensors_file.ADAPTERS
  safetensors_file.save(file, adapters, {
      'model': models.describe(model), 'lora': {
          'rank': config.rank, 'alpha': config.alpha,
          'matrices': list(lora.chosen(config, base)),
          'base': {'weights': 'models/base', 'digest': ''}}})
  return file


@pytest.mark.parametrize('family', random_models.FIELDS)
def test_names_and_shapes_are_those_of_peft(family, tmp_path):
  """benchmarks/peft_names.py wrote the file with peft itself."""
  file_of(family, tmp_path)
  convert.to_peft(str(tmp_path), str(tmp_path / 'out'), 'float32')
  tensors = load_file(tmp_path / 'out' / 'adapter_model.safetensors')
  assert {n: list(x.shape) for n, x in tensors.items()} == WRITTEN['families'][
      family]['tensors']
  config = json.loads((tmp_path / 'out' / 'adapter_config.json').read_text())
  assert config.keys() <= set(WRITTEN['families'][family]['config'])
  assert (config['r'], config['lora_alpha']) == (3, 6.0)
  assert config['base_model_name_or_path'] == 'models/base'


@pytest.mark.parametrize('family', random_models.FIELDS)
def test_they_are_what_the_export_merges(family):
  """hub W + alpha / r lora_B lora_A is the hub form of the merged weights."""
  from zppo_jax.weights import families
  model, base, adapters, config = drawn(family)
  merged = lora.merge_stacked(lora.join(base, adapters, config.scale))
  tensors = peft.tensors(model, adapters, 'float32')
  at = lambda tree, path: tree if not path else at(tree[path[0]], path[1:])
  compared = 0
  for leaf in families.FAMILIES[family].hub_leaves(model.config):
    for i, name in enumerate(leaf.names if leaf.stacked else ()):
      module = 'base_model.model.' + name.removesuffix('.weight')
      if f'{module}.lora_A.weight' not in tensors:
        continue
      want, w = (leaf.to_hub(np.asarray(at(tree, leaf.path)[i]))
                 for tree in (merged, base))
      a, b = (tensors[f'{module}.lora_{x}.weight'] for x in 'AB')
      np.testing.assert_allclose(w + 2.0 * b @ a, want, atol=1e-5)
      assert np.abs(want - w).max() > 0.01
      compared += 2
  assert compared == len(tensors)


def test_export_needs_adapters(tmp_path):
  with pytest.raises(FileNotFoundError, match='no adapters at'):
    peft.save(str(tmp_path / 'out'), str(tmp_path))
  model, base, _, _ = drawn('qwen3')
  file = tmp_path / 'whole.safetensors'
  safetensors_file.save(file, base, {'model': models.describe(model)})
  with pytest.raises(ValueError, match='holds whole weights'):
    peft.save(str(tmp_path / 'out'), str(file))
  with pytest.raises(ValueError, match='--tokenizer is'):
    table.COMMANDS['export'].run(_Values(
        adapters=True, tokenizer='folder', checkpoint='', to='', dtype=''))


def test_nothing_is_overwritten(tmp_path):
  file = file_of('qwen3', tmp_path)
  with pytest.raises(FileExistsError, match='name a new folder'):
    peft.save(str(tmp_path), str(file))
  with pytest.raises(ValueError, match="dtype is 'int8'"):
    peft.save(str(tmp_path / 'out'), str(file), 'int8')
  assert not (tmp_path / 'out').exists()


class _Values:
  """Parsed flags."""

  def __init__(self, **values):
    self.__dict__.update(values)
