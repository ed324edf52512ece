"""Preset sizes against transformers' classes, and what `zppo models` says."""

import copy
import re

import pytest

from zppo_jax.weights import families, presets
from zppo_jax.weights.presets import PRESETS


@pytest.mark.parametrize('name', PRESETS)
def test_count_is_that_of_transformers(name):
  """Exactly, on torch's meta device; without weights or a download."""
  config = PRESETS[name].config
  if config['model_type'] not in families.FAMILIES:
    pytest.skip(f'no family {config["model_type"]!r} here')
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  made = transformers.AutoConfig.for_model(**copy.deepcopy(config))
  with torch.device('meta'):
    reference = getattr(transformers, config['architectures'][0])(made)
  assert presets.count(config) == sum(
      p.numel() for p in reference.parameters())


@pytest.mark.parametrize('name', PRESETS)
def test_unconfirmed_fields_are_fields(name):
  """Each names a field, or a whole part, of the preset."""
  config, _, unconfirmed = PRESETS[name]
  for path in unconfirmed:
    found = config
    for key in path.split('.') if path != presets.EVERY else ():
      assert key in found, path
      found = found[key]


@pytest.mark.parametrize('name', [
    n for n, p in PRESETS.items() if p.config['model_type'] == 'qwen3'])
def test_config_round_trip(name):
  """Every preset is a config that its family takes, and gives back."""
  row = families.FAMILIES['qwen3']
  config = row.from_hub(PRESETS[name].config)
  assert presets.differences(name, row.to_hub(config)) == []
  assert row.from_hub(row.to_hub(config)) == config


def test_a_checkpoint_counts_and_differences_are_told():
  """The longest preset name in the folder's; fields it lacks do not count."""
  config = {**PRESETS['Qwen3-1.7B'].config, 'num_hidden_layers': 27}
  assert presets.differences('qwen3-1.7b-base', config) == [
      'config.json: num_hidden_layers is 27; preset Qwen3-1.7B has 28; '
      'config.json counts']
  del config['num_hidden_layers']
  assert presets.differences('Qwen3-1.7B', config) == []
  assert presets.differences('mine', {'num_hidden_layers': 1}) == []
  nested = copy.deepcopy(PRESETS['Qwen3.5-9B'].config)
  nested['vision_config']['depth'] = 12
  (told,) = presets.differences('Qwen3.5-9B-FP8', nested)
  assert 'vision_config.depth is 12; preset Qwen3.5-9B has 27' in told


def test_table():
  """Every preset; count, 2 and 12 bytes a parameter, and which values were
  in no public copy of its config: fault A7."""
  lines = presets.table().splitlines()
  assert len(lines) == 1 + len(PRESETS)
  (line,) = [x for x in lines if x.startswith('Qwen3-8B ')]
  n = presets.count(PRESETS['Qwen3-8B'].config)
  assert re.split(r'\s{1,}', line)[:7] == [
      'Qwen3-8B', '8B', f'{n / 1e9:.3f}B', f'{2 * n / 2**30:.1f}', 'GiB',
      f'{12 * n / 2**30:.1f}', 'GiB']
  assert line.endswith(' all')
  of = lambda name: next(x for x in lines if x.startswith(f'{name} '))
  assert of('Qwen3.5-2B').endswith('all but vision_config')
  assert of('Qwen3-VL-2B').endswith('all but text_config.intermediate_size')
  assert of('SmolLM2-1.7B').endswith(' nothing')
  assert max(map(len, lines)) <= 100


def test_small_presets():
  """Their counts, and the heads of the smallest tower: fault A7."""
  count = lambda name: round(presets.count(PRESETS[name].config) / 1e6)
  assert count('Qwen3-0.6B') == 596 and count('Llama-3.2-1B') == 1236
  assert count('SmolLM2-360M') == 362 and count('SmolLM2-135M') == 135
  tower = PRESETS['Qwen3.5-0.8B'].config['vision_config']
  assert tower['hidden_size'] // tower['num_heads'] == 64


def test_how_the_hub_spells_the_tower_is_no_difference():
  """Published files say 'qwen3_5' where transformers writes
  'qwen3_5_vision': fault A7."""
  config = copy.deepcopy(PRESETS['Qwen3.5-0.8B'].config)
  config['vision_config']['model_type'] = 'qwen3_5'
  assert presets.differences('Qwen3.5-0.8B', config) == []
