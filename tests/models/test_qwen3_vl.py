"""The qwen3_vl family against Qwen3VLForConditionalGeneration."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from zppo_jax import models
from zppo_jax.models import attention, layers, vision

transformers = pytest.importorskip('transformers')
pytest.importorskip('torch')
from tests.models import vision_reference as reference  # noqa: E402
from zppo_jax.weights import families  # noqa: E402

QWEN3_VL = families.FAMILIES['qwen3_vl']

pytestmark = pytest.mark.usefixtures('quick_compile')


def rope(theta, sections):
  return dict(rope_type='default', rope_theta=theta, mrope_interleaved=True,
              mrope_section=sections)


TEXT = dict(vocab_size=66, num_hidden_layers=3, max_position_embeddings=1024,
            rms_norm_eps=1e-6)
VARIANTS = {
    'tied': (dict(hidden_size=20, intermediate_size=36, num_attention_heads=4,
                  num_key_value_heads=2, head_dim=12,
                  rope_parameters=rope(1e4, [2, 2, 2])),
             reference.tower(out_hidden_size=20,
                             deepstack_visual_indexes=[0, 2])),
    'untied': (dict(hidden_size=24, intermediate_size=28, num_attention_heads=3,
                    num_key_value_heads=1, head_dim=16,
                    rope_parameters=rope(5e4, [4, 2, 2])),
               reference.tower(out_hidden_size=24, depth=4, hidden_size=24,
                               num_heads=3, num_position_embeddings=36,
                               deepstack_visual_indexes=[1]))}


def hub_config(name):
  text, tower = VARIANTS[name]
  tied = name == 'tied'
  return transformers.Qwen3VLConfig(
      text_config={**TEXT, **text, 'tie_word_embeddings': tied},
      vision_config=tower, tie_word_embeddings=tied, **reference.IDS)


@functools.cache
def drawn(name, spread=True):
  model = reference.draw(
      hub_config(name), transformers.Qwen3VLForConditionalGeneration,
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


def axes_in_blocks(num_pairs, sections):
  """A wrong order of axes: t ... t, h ... h, w ... w."""
  return np.repeat([0, 1, 2], sections)


phases, among = vision.phases, attention.among


def in_frames(change):
  """`among` with other segments where it is not causal: in the tower."""
  def run(q, k, v, segment, *, causal=True, **rest):
    segment = segment if causal else change(segment, 1)
    return among(q, k, v, segment, causal=causal, **rest)
  return run


PATCHED = {
    'mrope order': (layers, 'interleaved_axes', axes_in_blocks),
    'rotary order': (vision, 'phases',
                     lambda r, *args: phases(r[..., ::-1], *args)),
    'frame mask': (attention, 'among', in_frames(jax.numpy.minimum)),
    'padding': (attention, 'among', in_frames(jax.numpy.maximum))}


@pytest.mark.parametrize('name', PATCHED)
def test_the_comparison_sees_a_mutation(name, monkeypatch):
  torch_model, model, params = drawn('untied')
  case, theirs = reference.prompt('image and video', model.config.vision)
  batch = reference.batch([case])
  assert reference.moved(model, params, batch, torch_model, case, theirs) <= 1
  monkeypatch.setattr(*PATCHED[name])
  fresh = models.FAMILIES['qwen3_vl'].build(model.config)
  assert reference.moved(fresh, params, batch, torch_model, case, theirs) > 100


@pytest.mark.parametrize('name', ['corners', 'weights', 'taps'])
def test_the_comparison_sees_a_mutation_of_inputs(name):
  """Corners mixed up, weights of the nearest corner, another tapped layer."""
  torch_model, model, params = drawn('untied')
  case, theirs = reference.prompt('image and video', model.config.vision)
  batch = reference.batch([case])
  media = batch.media
  if name == 'corners':
    media = media.replace(corners_BI4=media.corners_BI4[..., [0, 2, 1, 3]])
  elif name == 'weights':
    media = media.replace(weights_BI4=np.float32(
        media.weights_BI4 == media.weights_BI4.max(-1, keepdims=True)))
  else:
    tower = dataclasses.replace(model.config.vision, taps=(2,))
    model = models.FAMILIES['qwen3_vl'].build(
        dataclasses.replace(model.config, vision=tower))
  batch = batch.replace(media=media)
  assert reference.moved(model, params, batch, torch_model, case, theirs) > 100


def test_text_alone_equals_media_of_padding():
  """A text row of a batch with images is what it is without."""
  _, model, params = drawn('tied')
  case, _ = reference.prompt('one image', model.config.vision)
  text = dataclasses.replace(case, tokens=(5, 7, 9, 2) * 20, media=None)
  run = jax.jit(reference.logits_fn(model))
  mixed = run(params, reference.batch([case, text]))[1, :80]
  alone = run(params, reference.batch([text], 0))[0, :80]
  np.testing.assert_allclose(mixed, alone, atol=1e-5)


def test_layers_written_out_change_nothing():
  """Features of the tower are added to the same layers."""
  _, model, params = drawn('tied')
  case, _ = reference.prompt('one image', model.config.vision)
  batch = reference.batch([case])
  fields = {**models.describe(model), 'unroll': model.config.num_layers}
  written = reference.logits_fn(models.build(**fields))
  assert f'unroll={model.config.num_layers}' in str(
      jax.make_jaxpr(written)(params, batch))
  np.testing.assert_allclose(
      jax.jit(written)(params, batch),
      jax.jit(reference.logits_fn(model))(params, batch), atol=1e-5)


@pytest.mark.parametrize('name', VARIANTS)
def test_config_round_trip(name):
  """Through config.json, and through the description of saved weights."""
  model = drawn(name)[1]
  assert QWEN3_VL.from_hub(QWEN3_VL.to_hub(model.config)) == model.config
  fields = models.describe(model)
  assert models.build(**fields).config == model.config


def test_export_is_what_transformers_reads():
  hub = QWEN3_VL.to_hub(drawn('tied')[1].config)
  read = transformers.Qwen3VLConfig(**{
      k: v for k, v in hub.items() if k != 'model_type'})
  assert QWEN3_VL.from_hub(read.to_dict()) == drawn('tied')[1].config


@pytest.mark.parametrize('fields, message', [
    (dict(vision_config=None), 'vision_config is missing'),
    (dict(vision_config=reference.tower(out_hidden_size=21)),
     'vision.out_width is 21; it must be width, 20'),
    (dict(vision_config=reference.tower(out_hidden_size=20, hidden_act='relu')),
     "hidden_act is 'relu'; allowed: 'gelu_pytorch_tanh'"),
    (dict(vision_config=reference.tower(
        out_hidden_size=20, deepstack_visual_indexes=[3])), 'vision.taps'),
    (dict(vision_config=reference.tower(
        out_hidden_size=20, num_position_embeddings=24)), 'must be a square'),
    (dict(image_token_id=None), 'image_token_id is missing'),
    (dict(text_config={**TEXT, **VARIANTS['tied'][0],
                       'rope_parameters': rope(1e4, [3, 2, 2])}),
     'sum to 7; there are 6 pairs'),
    (dict(text_config={**TEXT, **VARIANTS['tied'][0], 'rope_parameters': {
        **rope(1e4, [2, 2, 2]), 'mrope_interleaved': False}}),
     'mrope_interleaved is False')])
def test_refused_config(fields, message):
  """Field, value and what is allowed."""
  with pytest.raises(ValueError, match=message):
    QWEN3_VL.from_hub({**hub_config('tied').to_dict(), **fields})
