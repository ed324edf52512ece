"""Scaled rotary positions against transformers, at long positions too."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zppo_jax import models
from zppo_jax.models import layers, rope
from zppo_jax.weights import families, hub_rope, presets

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
from tests.models import torch_reference as reference  # noqa: E402

# Positions up to the million of Qwen's 1M form.
POSITIONS = np.unique(np.concatenate([
    np.arange(64), np.geomspace(64, 1_000_000, 400).astype(int)]))
YARN = {'rope_type': 'yarn', 'factor': 4.0,
        'original_max_position_embeddings': 32768}
SCALINGS = {
    'yarn': YARN,
    'yarn by mscale': {**YARN, 'mscale': 0.7, 'mscale_all_dim': 1.3},
    'yarn by attention_factor': {**YARN, 'attention_factor': 0.8},
    'yarn with betas': {**YARN, 'beta_fast': 16, 'beta_slow': 2,
                        'truncate': False},
    'yarn of short originals': {**YARN, 'factor': 32.0,
                                'original_max_position_embeddings': 128},
    'linear': {'rope_type': 'linear', 'factor': 8.0}}
NAMES = ('Llama-3.2-1B', 'Qwen3-4B', 'Qwen3.5-4B', 'Qwen3-VL-4B')


def hub_config(name, scaling, **fields):
  """A published config.json with another rotary scaling."""
  config = copy.deepcopy(presets.PRESETS[name].config)
  part = config.get('text_config', config)
  old = part['rope_parameters']
  kept = {key: old[key] for key in (
      'rope_theta', 'partial_rotary_factor', 'mrope_section',
      'mrope_interleaved') if key in old}
  part['rope_parameters'] = {**kept, **scaling}
  part.update(fields)
  return config


def theirs(config):
  """cos and sin of the hub's class, [T, pairs]."""
  made = transformers.AutoConfig.for_model(**copy.deepcopy(config))
  part = made.get_text_config()
  from transformers.models.llama import modeling_llama
  from transformers.models.qwen3 import modeling_qwen3
  from transformers.models.qwen3_5 import modeling_qwen3_5
  from transformers.models.qwen3_vl import modeling_qwen3_vl
  kind = {'llama': modeling_llama.LlamaRotaryEmbedding,
          'qwen3': modeling_qwen3.Qwen3RotaryEmbedding,
          'qwen3_5': modeling_qwen3_5.Qwen3_5TextRotaryEmbedding,
          'qwen3_vl': modeling_qwen3_vl.Qwen3VLTextRotaryEmbedding,
          }[config['model_type']]
  cos, sin = kind(part)(torch.zeros(1), torch.as_tensor(POSITIONS)[None])
  half = cos.shape[-1] // 2
  return cos[0, :, :half].numpy(), sin[0, :, :half].numpy()


def ours(config):
  c = families.FAMILIES[config['model_type']].from_hub(config)
  size = getattr(c, 'rotary_dim', c.head_dim)
  frequency, amplitude = rope.frequencies(c, size, np.float32)
  assert frequency is not None
  cos, sin = layers.rotary_phases(
      jnp.asarray(POSITIONS)[None, :, None], size, c.rope_theta, jnp.float32,
      frequency=frequency, amplitude=amplitude)
  return np.asarray(cos[0]), np.asarray(sin[0])


@pytest.mark.parametrize('scaling', SCALINGS)
@pytest.mark.parametrize('name', NAMES)
def test_phases_are_those_of_the_class(name, scaling):
  """cos and sin to 1e-5 up to position 262,144, and up to a million within
  what two units in the last place of a frequency turn: fault A9.

  torch's float32 power is not always the nearest number; of these models it
  is off for one pair of Qwen3's base and one of Qwen3-VL's.
  """
  config = hub_config(name, SCALINGS[scaling])
  c = families.FAMILIES[config['model_type']].from_hub(config)
  table = rope.table(c, getattr(c, 'rotary_dim', c.head_dim))
  unit = POSITIONS[:, None] * np.spacing(table) * 2 * 1.4  # amplitude
  near = POSITIONS <= 262_144
  for got, want in zip(ours(config), theirs(config), strict=True):
    gap = np.abs(got - want)
    assert (gap <= 1e-5 + unit).all()
    if name != 'Qwen3-VL-4B':
      assert gap[near].max() < 1e-5


@pytest.mark.parametrize('name', NAMES)
def test_another_factor_is_seen(name):
  """A hundredth more: the comparison above can fail."""
  want = theirs(hub_config(name, YARN))
  got = ours(hub_config(name, {**YARN, 'factor': 4.04}))
  assert np.abs(got[0] - want[0]).max() > 0.1


@pytest.mark.parametrize('scaling', SCALINGS)
@pytest.mark.parametrize('name', NAMES)
def test_round_trip(name, scaling):
  """to_hub gives back what from_hub read, and transformers takes it: fault
  A9."""
  row = families.FAMILIES[presets.PRESETS[name].config['model_type']]
  config = hub_config(name, SCALINGS[scaling])
  read = row.from_hub(config)
  written = row.to_hub(read)
  assert row.from_hub(written) == read
  for got, want in zip(theirs(written), theirs(config), strict=True):
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_longest_sequence():
  """YaRN's is what it was scaled to, where that is more: fault A9."""
  of = lambda **fields: families.FAMILIES['qwen3'].from_hub(
      hub_config('Qwen3-4B', YARN, **fields)).max_positions
  assert of() == 131072
  assert of(max_position_embeddings=200000) == 200000


def test_forms_of_the_same_scaling():
  """Old and new spelling, the original length beside it or absent, a factor
  that follows from the lengths: fault A9."""
  row = families.FAMILIES['qwen3']
  base = {k: v for k, v in presets.PRESETS['Qwen3-4B'].config.items()
          if k != 'rope_parameters'}
  want = row.from_hub({**base, 'rope_parameters': {
      **YARN, 'rope_theta': 1e6, 'original_max_position_embeddings': 40960}})
  forms = [
      {'rope_theta': 1e6, 'rope_scaling': {'type': 'yarn', 'factor': 4.0}},
      {'rope_theta': 1e6, 'rope_scaling': {
          'rope_type': 'yarn', 'type': 'yarn', 'factor': 4.0}},
      {'rope_parameters': {'rope_type': 'yarn', 'factor': 4.0,
                           'rope_theta': 1e6}},
      {'rope_theta': 1e6, 'original_max_position_embeddings': 40960,
       'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0}},
      {'rope_theta': 1e6, 'max_position_embeddings': 163840, 'rope_scaling': {
          'rope_type': 'yarn', 'factor': None,
          'original_max_position_embeddings': 40960}},
      # rope_scaling added by hand to a file of transformers 5
      {'rope_theta': 1e6, 'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0},
       'rope_parameters': {'rope_type': 'default', 'rope_theta': 1e6}}]
  for form in forms:
    assert row.from_hub({**base, **form}) == want, form


@pytest.mark.parametrize('fields, message', [
    ({'rope_scaling': {'rope_type': 'dynamic', 'factor': 2.0}},
     "rope_type is 'dynamic': it changes the frequencies with the length"),
    ({'rope_scaling': {'rope_type': 'longrope', 'factor': 2.0}},
     "rope_type is 'longrope': it has other frequencies"),
    ({'rope_scaling': {**YARN, 'factor': 0.5}},
     "factor of rope_type 'yarn' is 0.5; allowed: a number >= 1"),
    ({'rope_scaling': {**YARN, 'factor': '4'}}, "factor .* is '4'"),
    ({'rope_scaling': {**YARN, 'beta_fast': -1}}, 'beta_fast .* is -1'),
    ({'rope_scaling': {**YARN, 'short_factor': [1.0]}}, 'short_factor'),
    ({'rope_scaling': {'type': 'linear'}}, "exactly .*'factor'"),
    ({'partial_rotary_factor': 0.5}, 'partial_rotary_factor is 0.5'),
    ({'rope_parameters': {'full_attention': {'rope_type': 'default'}}},
     'full_attention'),
    ({'rope_scaling': YARN, 'rope_parameters': {
        'rope_type': 'default', 'rope_theta': 1e6}},
     'both there, and only the second has rope_theta')])
def test_refused(fields, message):
  """Naming the field, its value and what is allowed: fault A9."""
  base = {k: v for k, v in presets.PRESETS['Qwen3-4B'].config.items()
          if k != 'rope_parameters'}
  with pytest.raises(ValueError, match=message):
    families.FAMILIES['qwen3'].from_hub({**base, **fields})


def test_a_field_without_effect_is_told():
  """`default` with the fields of a scaling, as transformers takes it: fault
  A9."""
  config = hub_config('Qwen3-4B', {'rope_type': 'default', 'factor': 4.0})
  plain = hub_config('Qwen3-4B', {'rope_type': 'default'})
  row = families.FAMILIES['qwen3']
  assert row.from_hub(config) == row.from_hub(plain)
  (told,) = hub_rope.ignored(config)
  assert 'factor = 4.0' in told and "rope_type 'default'" in told
  assert hub_rope.ignored(plain) == []
  for name in presets.PRESETS:
    assert hub_rope.ignored(presets.PRESETS[name].config) == []


SMALL = dict(
    vocab_size=61, hidden_size=32, intermediate_size=40, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    max_position_embeddings=512, tie_word_embeddings=False)
SHORT = {'rope_type': 'yarn', 'rope_theta': 1e4, 'factor': 8.0,
         'original_max_position_embeddings': 64}


@functools.cache
def small(family, scaled=True):
  scaling = dict(SHORT) if scaled else {
      'rope_type': 'default', 'rope_theta': 1e4}
  fields = dict(SMALL)
  if family == 'qwen3_5_text':
    scaling |= {'partial_rotary_factor': 0.5, 'mrope_section': [1, 1, 0],
                'mrope_interleaved': True}
    fields |= dict(
        linear_num_key_heads=2, linear_num_value_heads=2,
        linear_key_head_dim=8, linear_value_head_dim=12,
        layer_types=['linear_attention', 'full_attention'])
  return transformers.AutoConfig.for_model(
      family, **fields, rope_parameters=scaling)


@pytest.mark.parametrize('family', ['llama', 'qwen3', 'qwen3_5_text'])
def test_logits(family):
  """Of whole models over 648 tokens, ten times the original length; without
  the scaling they differ: fault A9."""
  torch_model = reference.draw(small(family), 0, True)
  model, params = reference.ours(torch_model)
  assert model.config.rope_yarn
  tokens = np.random.default_rng(0).integers(1, 61, (1, 648))
  axes = np.broadcast_to(np.arange(648)[None, :, None],
                         (1, 648, model.num_axes))
  with torch.no_grad():
    want = torch_model(torch.as_tensor(tokens)).logits.numpy()

  def logits(model):
    hidden, _ = jax.jit(model.apply)(
        params, tokens, axes, np.ones_like(tokens))
    return np.asarray(hidden @ model.head(params))

  np.testing.assert_allclose(logits(model), want, atol=2e-4)
  plain = reference.changed(model, rope_yarn=())
  assert np.abs(logits(plain) - want).max() > 0.01


def test_descriptions_of_unscaled_models_are_those_of_before():
  """So that older checkpoints are still of the same model; a scaled one says
  so and is built again: fault A9."""
  row = families.FAMILIES['qwen3']
  for scaling, held in (({'rope_type': 'default'}, False), (YARN, True)):
    model = row.build(row.from_hub(hub_config('Qwen3-4B', scaling)))
    model = model._replace(family='qwen3')
    told = models.describe(model)
    assert ('rope_yarn' in told) == held and 'rope_linear' not in told
    assert models.build(**told).config == model.config
