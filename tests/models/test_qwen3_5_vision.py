"""The qwen3_5 family with its tower, against Qwen3_5ForConditionalGeneration.

Its text model alone is tested in test_qwen3_5.py.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from zppo_jax import models
from zppo_jax.weights import hub_qwen3_5

transformers = pytest.importorskip('transformers')
pytest.importorskip('torch')
from tests.models import vision_reference as reference  # noqa: E402

pytestmark = pytest.mark.usefixtures('quick_compile')

TEXT = dict(vocab_size=66, max_position_embeddings=1024, rms_norm_eps=1e-6)
VARIANTS = {
    'tied': (dict(
        hidden_size=20, intermediate_size=36, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        linear_num_key_heads=2, linear_num_value_heads=4,
        linear_key_head_dim=8, linear_value_head_dim=12,
        rope_parameters=dict(
            rope_type='default', rope_theta=1e4, partial_rotary_factor=0.5,
            mrope_section=[2, 1, 1], mrope_interleaved=True)),
             reference.tower(out_hidden_size=20)),
    'untied': (dict(
        hidden_size=24, intermediate_size=28, num_hidden_layers=4,
        layer_types=['linear_attention', 'full_attention'] * 2,
        num_attention_heads=3, num_key_value_heads=1, head_dim=24,
        linear_num_key_heads=1, linear_num_value_heads=3,
        linear_key_head_dim=6, linear_value_head_dim=16,
        rope_parameters=dict(
            rope_type='default', rope_theta=1e6, partial_rotary_factor=0.5,
            mrope_section=[2, 2, 2], mrope_interleaved=True)),
               reference.tower(out_hidden_size=24, depth=2, hidden_size=24,
                               num_heads=3, num_position_embeddings=36))}


def hub_config(name):
  text, tower = VARIANTS[name]
  tied = name == 'tied'
  return transformers.Qwen3_5Config(
      text_config={**TEXT, **text, 'tie_word_embeddings': tied},
      vision_config=tower, tie_word_embeddings=tied, **reference.IDS)


@functools.cache
def drawn(name, spread=True):
  model = reference.draw(
      hub_config(name), transformers.Qwen3_5ForConditionalGeneration,
      len(name) + spread, spread)
  return (model, *reference.ours(model))


@pytest.mark.parametrize('name', VARIANTS)
@pytest.mark.parametrize('spread', [False, True])
def test_logits(name, spread):
  """Images and videos, at initial weights and at logits of deviation 1."""
  reference.check_logits(*drawn(name, spread), spread=spread)


@pytest.mark.parametrize('name', VARIANTS)
def test_gradients(name):
  reference.check_gradients(*drawn(name))


@pytest.mark.parametrize('name', VARIANTS)
def test_greedy_continuation(name):
  reference.check_greedy(*drawn(name))


@pytest.mark.parametrize('name', VARIANTS)
def test_cached_equals_uncached(name):
  reference.check_cached(*drawn(name)[1:])


@pytest.mark.parametrize('name', ['media', 'positions'])
def test_the_comparison_sees_a_mutation(name):
  """Frames that see each other; height and width exchanged."""
  torch_model, model, params = drawn('untied')
  case, theirs = reference.prompt('image and video', model.config.vision)
  batch = reference.batch([case])
  if name == 'media':
    segment = np.minimum(batch.media.segment_BI, 1)
    batch = batch.replace(media=batch.media.replace(segment_BI=segment))
  else:
    batch = batch.replace(positions_PTA=batch.positions_PTA[..., [0, 2, 1]])
  assert reference.moved(model, params, batch, torch_model, case, theirs) > 100


@pytest.mark.parametrize('name', VARIANTS)
def test_config_round_trip(name):
  """Through config.json, and through the description of saved weights."""
  model = drawn(name)[1]
  config = hub_qwen3_5.to_hub(model.config)
  assert hub_qwen3_5.from_hub(config) == model.config
  assert models.build(**models.describe(model)).config == model.config
  read = transformers.Qwen3_5Config(**{
      k: v for k, v in config.items() if k != 'model_type'})
  assert hub_qwen3_5.from_hub(read.to_dict()) == model.config


def test_a_tower_with_taps_is_refused():
  config = drawn('tied')[1].config
  with pytest.raises(ValueError, match='vision.taps is .0,.; this family has'):
    dataclasses.replace(
        config, vision=dataclasses.replace(config.vision, taps=(0,)))


def test_media_need_a_tower():
  _, model, _ = drawn('tied')
  text = models.build(**{**models.describe(model), 'vision': None})
  case, _ = reference.prompt('one image', model.config.vision)
  params = jax.eval_shape(text.init, jax.random.key(0))
  with pytest.raises(ValueError, match='no vision tower'):
    jax.eval_shape(reference.logits_fn(text), params, reference.batch([case]))
