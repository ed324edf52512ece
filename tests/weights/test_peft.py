"""Adapters as a folder of peft's."""

import json
import pathlib

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks import random_models
from tests import builders
from tests.long import long_but
from tests.models.test_lora import drawn
from zppo_jax import models
from zppo_jax.commands import convert, table
from zppo_jax.models import lora
from zppo_jax.weights import hub_checkpoint, peft, pretrained, safetensors_file
from zppo_jax.weights.peft import reading

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


@pytest.mark.parametrize('family', long_but(
    ['llama', 'qwen3'], random_models.FIELDS))
def test_names_and_shapes_are_those_of_peft(family, tmp_path):
  """benchmarks/peft_names.py wrote the file with peft itself."""
  file_of(family, tmp_path)
  convert.to_peft(str(tmp_path), str(tmp_path / 'out'), 'float32')
  assert len({p.stat().st_mode for p in (tmp_path / 'out').iterdir()}) == 1
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
        adapters=True, tokenizer='folder', checkpoint='', to='', dtype='',
        push=None, private=False))


def test_the_base_is_found_from_every_folder(tmp_path, monkeypatch, capsys):
  """peft takes a relative path that is not there for a hub id."""
  model, base, _, _ = drawn('qwen3')
  file = file_of('qwen3', tmp_path)
  monkeypatch.chdir(tmp_path)
  named = lambda to: json.loads((tmp_path / to / 'adapter_config.json'
                                 ).read_text())['base_model_name_or_path']
  convert.to_peft(str(file), 'away', 'float32')
  assert named('away') == 'models/base'  # is not here
  said = capsys.readouterr().out
  assert "their base is 'models/base', which is no checkpoint folder" in said
  hub_checkpoint.save('models/base', base, model)
  convert.to_peft(str(file), 'here', 'float32')
  assert named('here') == str(tmp_path / 'models' / 'base')
  assert 'their base' not in capsys.readouterr().out


def test_a_base_of_ours_is_exported_first(tmp_path, monkeypatch, capsys):
  """A run of `zppo sft` below adapters: peft cannot read its folder."""
  monkeypatch.chdir(tmp_path)
  model, base, _, _ = drawn('qwen3')
  file = file_of('qwen3', tmp_path)
  safetensors_file.save(tmp_path / 'models/base' / safetensors_file.FINAL,
                        base, {'model': models.describe(model)})
  convert.to_peft(str(file), 'out', 'float32')
  said = capsys.readouterr().out.splitlines()[-1]
  named = json.loads(pathlib.Path('out/adapter_config.json').read_text())[
      'base_model_name_or_path']
  assert f'`zppo export --checkpoint={named} --to=BASE` writes one' in said
  assert said.endswith('adapter_config.json')
  convert.to_hub(named, 'BASE', None, 'float32')
  assert hub_checkpoint.is_hub('BASE')


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


def folder_of(family, path):
  """A folder of peft's with the adapters of `drawn`, and what it holds."""
  file = file_of(family, path)
  convert.to_peft(str(file), str(path / 'peft'), 'float32')
  return str(path / 'peft'), drawn(family)


@pytest.mark.parametrize('family', random_models.FIELDS)
def test_what_was_written_is_read(family, tmp_path):
  """Bit by bit, with rank, alpha and the names of the matrices."""
  folder, (model, base, adapters, config) = folder_of(family, tmp_path)
  section, found = reading.load(folder, model)
  jax.tree.map(np.testing.assert_array_equal, found, adapters)
  assert (section.rank, section.alpha) == (config.rank, config.alpha)
  assert section.matrices == tuple(lora.chosen(config, base))
  started = reading.start(
      lora.LoraConfig(rank=3, alpha=6.0, matrices=section.matrices,
                      start=folder), model, base)
  jax.tree.map(np.testing.assert_array_equal, started, adapters)
  of_run = lora.LoraConfig(rank=3, alpha=6.0, matrices=section.matrices,
                           start=str(tmp_path))
  jax.tree.map(np.testing.assert_array_equal,
               reading.start(of_run, model, base), adapters)


@pytest.mark.parametrize('family', random_models.FIELDS)
def test_a_folder_of_pefts_own_names_is_read(family, tmp_path):
  """benchmarks/peft_names.py wrote names and shapes down; the logits of such
  adapters here and in peft are in its results."""
  model = drawn(family)[0]
  rng = np.random.default_rng(0)
  written = WRITTEN['families'][family]
  save_file({n: rng.standard_normal(s).astype(np.float32)
             for n, s in written['tensors'].items()},
            tmp_path / 'adapter_model.safetensors')
  (tmp_path / 'adapter_config.json').write_text(json.dumps(
      {'peft_type': 'LORA', 'r': 3, 'lora_alpha': 6.0}))
  section, adapters = reading.load(str(tmp_path), model)
  count = sum(len(x) for x in jax.tree.leaves(adapters))
  assert count == len(written['tensors'])
  of = written['logits_of_ours']
  worst = max(of['ours_in_peft'], of['peft_in_ours'])
  assert worst < (1e-5 if family != 'qwen3_5' else 2 * of['base'])
  assert worst < 5e-6 * of['largest']


def test_ours_are_no_farther_from_exact_logits_than_torchs():
  """Where two float32 programs differ by more than 1e-5, the exact logits say
  whose rounding it is (benchmarks/qwen3_5_rounding.py)."""
  of = json.loads((builders.ROOT / 'benchmarks' / 'results' /
                   'qwen3_5_rounding.json').read_text())
  assert of['ours'] <= of['torch'] < 1e-5 < of['ours_from_torch']
  assert of['ours_from_torch'] < of['ours'] + of['torch']
  assert max(of['operations'].values()) < of['torch']


def test_adapters_are_merged_into_their_base(tmp_path):
  folder, (model, base, adapters, config) = folder_of('qwen3', tmp_path)
  hub_checkpoint.save(tmp_path / 'base', base, model)
  to = tmp_path / 'merged.safetensors'
  convert.to_ours(folder, str(to), str(tmp_path / 'base'))
  merged = lora.merge_stacked(lora.join(base, adapters, config.scale))
  jax.tree.map(np.testing.assert_array_equal,
               pretrained.load(str(to)).params, merged)
  with pytest.raises(ValueError, match='which holds no adapters'):
    convert.to_ours(str(tmp_path / 'base'), str(to), folder)


@pytest.mark.parametrize('changes, error', [
    ({'peft_type': 'IA3'}, "peft_type is 'IA3'; allowed: LORA"),
    ({'use_dora': True}, 'use_dora is True; adapters here are without it'),
    ({'rank_pattern': {'q_proj': 8}}, 'rank_pattern is'),
    ({'modules_to_save': ['lm_head']}, r"modules_to_save is \['lm_head'\]"),
    ({'r': 4}, r'q_proj has adapters of shapes \(\(3, 64\), .* r = 4 have')])
def test_adapters_of_another_kind_are_refused(changes, error, tmp_path):
  folder, (model, *_) = folder_of('llama', tmp_path)
  file = tmp_path / 'peft' / 'adapter_config.json'
  file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
  with pytest.raises(ValueError, match=error):
    reading.load(folder, model)


def test_tensors_without_a_place_and_missing_layers_are_named(tmp_path):
  folder, (model, base, _, config) = folder_of('llama', tmp_path)
  file = tmp_path / 'peft' / 'adapter_model.safetensors'
  whole = load_file(file)
  save_file({**whole, 'base_model.model.lm_head.lora_A.weight': np.ones(2)},
            file)
  with pytest.raises(ValueError, match="1 tensors have no place in this model, "
                     "the first is 'base_model.model.lm_head"):
    reading.load(folder, model)
  save_file({n: x for n, x in whole.items() if 'layers.0.self_attn.v' not in n},
            file)
  with pytest.raises(ValueError, match="3 of 4 layers have adapters of 'v'"):
    reading.load(folder, model)
  save_file(whole, file)
  with pytest.raises(ValueError, match='lora.start is .* with rank 3, alpha 6; '
                     'the section lora has rank 5'):
    reading.start(lora.LoraConfig(rank=5, start=folder), model, base)
  with pytest.raises(ValueError, match='lora.start is .* with matrices down, '
                     '.*; the section lora has q$'):
    reading.start(lora.LoraConfig(rank=3, alpha=6, matrices=('q',),
                                  start=folder), model, base)
  with pytest.raises(ValueError, match='lora.start is .x. and lora.rank 0'):
    lora.LoraConfig(start='x')


def test_rslora_is_another_alpha(tmp_path):
  """alpha / sqrt(r) is alpha sqrt(r) / r."""
  folder, (model, *_) = folder_of('llama', tmp_path)
  file = tmp_path / 'peft' / 'adapter_config.json'
  file.write_text(json.dumps({**json.loads(file.read_text()),
                              'use_rslora': True}))
  assert reading.load(folder, model)[0].scale == pytest.approx(6 / 3**0.5)
