"""config.json and tensors of qwen3_5: names, round trips, what is refused."""

import copy
import functools
import json

import numpy as np
import pytest

from zppo_jax.weights import families, hub_checkpoint, hub_qwen3_5
from zppo_jax.weights.hub_leaf import HubSource, HubTensor

FAMILIES = {'qwen3_5': 'model.language_model.', 'qwen3_5_text': 'model.'}
TEXT = dict(
    vocab_size=24, hidden_size=16, intermediate_size=20, num_hidden_layers=6,
    num_attention_heads=4, num_key_value_heads=2, head_dim=8, hidden_act='silu',
    rms_norm_eps=1e-5, max_position_embeddings=99, linear_num_key_heads=2,
    linear_num_value_heads=4, linear_key_head_dim=6, linear_value_head_dim=5,
    linear_conv_kernel_dim=3, tie_word_embeddings=False,
    layer_types=['linear_attention', 'linear_attention', 'full_attention'] * 2,
    rope_parameters=dict(rope_type='default', rope_theta=5e5,
                         partial_rotary_factor=0.75, mrope_section=[1, 1, 1],
                         mrope_interleaved=True))


def hub_config(family, **fields):
  text = {'model_type': 'qwen3_5_text', **TEXT, **fields}
  if family == 'qwen3_5_text':
    return text
  return {'model_type': 'qwen3_5', 'text_config': text,
          'tie_word_embeddings': text['tie_word_embeddings']}


@functools.cache
def built(family, tied=False):
  row = families.FAMILIES[family]
  config = row.from_hub(hub_config(family, tie_word_embeddings=tied))
  return row.build(config)._replace(family=family)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('tied', [False, True])
def test_config_round_trip(family, tied):
  row, config = families.FAMILIES[family], built(family, tied).config
  assert config.tied == tied and config.period == 3
  assert config.rope_theta == 5e5 and config.rotary_dim == 6
  written = row.to_hub(config)
  assert written['model_type'] == family == hub_checkpoint.family_of(written)
  assert row.from_hub(written) == config


def test_layers_of_blocks():
  """(block, slot) <-> the hub's index, and in the names of a leaf."""
  for period in (2, 3, 4):
    for index in range(4 * period):
      assert hub_qwen3_5.hub_layer(*divmod(index, period), period) == index
  for family, root in FAMILIES.items():
    leaves = families.FAMILIES[family].hub_leaves(built(family).config)
    names = {leaf.path: leaf.names for leaf in leaves}
    assert names['blocks', 'layer_1', 'delta', 'a'] == tuple(
        f'{root}layers.{i}.linear_attn.in_proj_a.weight' for i in (1, 4))
    assert names['blocks', 'layer_2', 'attention', 'k'] == tuple(
        f'{root}layers.{i}.self_attn.k_proj.weight' for i in (2, 5))


def tensors_of(family, tied, seed=0):
  rng = np.random.default_rng(seed)
  leaves = families.FAMILIES[family].hub_leaves(built(family, tied).config)
  return {name: rng.standard_normal(leaf.hub_shape).astype(np.float32)
          for leaf in leaves for name in leaf.names}


@pytest.mark.parametrize('family, name', [
    ('qwen3_5', 'Qwen3_5ForConditionalGeneration'),
    ('qwen3_5_text', 'Qwen3_5ForCausalLM')])
@pytest.mark.parametrize('tied', [False, True])
def test_names_and_shapes_are_the_class(family, name, tied):
  """All its tensors but the tower's, and no other."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  config = hub_config(family, tie_word_embeddings=tied)
  kind = {'qwen3_5': transformers.Qwen3_5Config,
          'qwen3_5_text': transformers.Qwen3_5TextConfig}[family]
  del config['model_type']
  with torch.device('meta'):
    model = getattr(transformers, name)(kind(**config))
  theirs = {n: tuple(x.shape) for n, x in model.state_dict().items()
            if not n.startswith('model.visual.')}
  if tied:
    del theirs['lm_head.weight']
  assert theirs == {n: x.shape for n, x in tensors_of(family, tied).items()}


@pytest.mark.parametrize('family', FAMILIES)
def test_import_and_export(family, tmp_path):
  """Bit for bit; transformers loads the export and says the same."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  from safetensors.numpy import load_file, save_file
  model, tensors = built(family), tensors_of(family, False)
  extra = {'mtp.layers.0.weight': np.zeros(3, np.float32)}
  (tmp_path / 'in').mkdir()
  save_file({**tensors, **extra}, tmp_path / 'in' / 'model.safetensors')
  (tmp_path / 'in' / 'config.json').write_text(json.dumps(hub_config(family)))
  params, skipped = hub_checkpoint.load(
      hub_checkpoint.read(tmp_path / 'in'), model)
  assert skipped == ['mtp.layers.0.weight']
  hub_checkpoint.save(tmp_path / 'out', params, model)
  found = load_file(tmp_path / 'out' / 'model.safetensors')
  assert found.keys() == tensors.keys()
  for name, x in tensors.items():
    np.testing.assert_array_equal(found[name], x)
  reference, info = transformers.AutoModelForCausalLM.from_pretrained(
      tmp_path / 'out', output_loading_info=True)
  assert not any(info[n] for n in (
      'missing_keys', 'unexpected_keys', 'mismatched_keys'))
  assert type(reference).__name__ == 'Qwen3_5ForCausalLM'
  tokens = np.random.default_rng(1).integers(0, 24, (1, 20), dtype=np.int32)
  positions = np.repeat(np.arange(20)[None, :, None], 3, axis=-1)
  x, _ = model.apply(params, tokens, positions, np.ones_like(tokens))
  with torch.no_grad():
    want = reference(torch.as_tensor(tokens).long()).logits.numpy()
  got = np.asarray(x @ model.head(params))
  assert np.abs(got - want).max() < 1e-4 * np.abs(want).max()


def test_an_unknown_tensor_is_an_error(tmp_path):
  """Only the multi-token-prediction head is left out: a tower that config.json
  does not speak of is unknown."""
  source = HubSource(
      tmp_path, hub_config('qwen3_5'),
      {n: HubTensor(x.shape, 'F32') for n, x in {
          **tensors_of('qwen3_5', False),
          'model.visual.pos_embed.weight': np.zeros((2, 2)),
          'model.language_model.mtp.weight': np.zeros(2)}.items()}, None)
  with pytest.raises(ValueError, match=r"unknown tensors \['model.language_"
                     r"model.mtp.weight', 'model.visual.pos_embed.weight'\]$"):
    hub_checkpoint.load(source, built('qwen3_5'))


@pytest.mark.parametrize('fields, message', [
    (dict(layer_types=['full_attention'] * 6), 'layer_types is'),
    (dict(layer_types=['linear_attention'] * 6), 'layer_types is'),
    (dict(layer_types=TEXT['layer_types'][:5]), 'num_hidden_layers = 6'),
    (dict(layer_types=TEXT['layer_types'][::-1]), 'layer_types is'),
    (dict(full_attention_interval=4), 'full_attention_interval is 4.*: 3'),
    (dict(layer_types=None), 'num_layers is 6.*multiple of period, 4'),
    (dict(hidden_act='gelu'), "hidden_act is 'gelu'"),
    (dict(attention_bias=True), 'attention_bias is True'),
    (dict(attn_output_gate=False), 'attn_output_gate is False'),
    (dict(linear_key_head_dim=None), 'linear_key_head_dim is missing'),
    (dict(rope_parameters={**TEXT['rope_parameters'],
                           'mrope_interleaved': False}),
     'mrope_interleaved is False'),
    (dict(rope_parameters={**TEXT['rope_parameters'], 'rope_type': 'yarn'}),
     "rope_type is 'yarn'"),
    (dict(rope_parameters={**TEXT['rope_parameters'], 'rope_type': 'linear'}),
     "fields.*factor"),
    (dict(partial_rotary_factor=0.5), 'partial_rotary_factor is 0.5')])
def test_refused_config(fields, message):
  """Naming the field, its value and what is allowed."""
  for family in FAMILIES:
    with pytest.raises(ValueError, match=message):
      families.FAMILIES[family].from_hub(hub_config(family, **fields))


def test_levels_that_disagree():
  """On tying the top level counts, as in transformers: fault A8."""
  transformers = pytest.importorskip('transformers')
  config = hub_config('qwen3_5')
  for top, nested in ((True, False), (False, True), (None, True),
                      (True, None)):
    for at, value in ((config, top), (config['text_config'], nested)):
      at.pop('tie_word_embeddings', None)
      if value is not None:
        at['tie_word_embeddings'] = value
    theirs = transformers.AutoConfig.for_model(**copy.deepcopy(config))
    assert hub_qwen3_5.from_hub(config).tied == theirs.tie_word_embeddings
    assert theirs.tie_word_embeddings == bool(top)
  with pytest.raises(ValueError, match='text_config is missing'):
    hub_qwen3_5.from_hub({'model_type': 'qwen3_5'})


def test_absent_fields_are_the_class_defaults():
  """Rotary share 1/4 and every fourth layer."""
  config = hub_config('qwen3_5_text', num_hidden_layers=8, head_dim=256)
  for name in ('layer_types', 'rope_parameters'):
    del config[name]
  found = hub_qwen3_5.text_from_hub({**config, 'rope_theta': 3.0})
  assert (found.period, found.rotary_dim, found.rope_sections) == (
      4, 64, (11, 11, 10))
  assert found.rope_theta == 3.0
