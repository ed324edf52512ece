"""The qwen3 family against Qwen3ForCausalLM, and what its config refuses."""

import functools

import pytest

transformers = pytest.importorskip('transformers')
pytest.importorskip('torch')
from tests.models import torch_reference as reference  # noqa: E402
from zppo_jax.weights import families  # noqa: E402

QWEN3 = families.FAMILIES['qwen3']

pytestmark = pytest.mark.usefixtures('quick_compile')

SHAPES = dict(vocab_size=53, hidden_size=20, intermediate_size=36,
              num_hidden_layers=3, max_position_embeddings=1024,
              rms_norm_eps=1e-6)
VARIANTS = {
    'tied': dict(num_attention_heads=5, num_key_value_heads=1, head_dim=6,
                 tie_word_embeddings=True,
                 rope_parameters=dict(rope_type='default', rope_theta=1e6)),
    'untied': dict(num_attention_heads=9, num_key_value_heads=3, head_dim=10,
                   tie_word_embeddings=False,
                   rope_parameters=dict(rope_type='default', rope_theta=1e4))}


@functools.cache
def drawn(name, spread=True):
  config = transformers.Qwen3Config(**{**SHAPES, **VARIANTS[name]})
  model = reference.draw(config, seed=len(name) + spread, spread=spread)
  return (model, *reference.ours(model))


@pytest.mark.parametrize('name', VARIANTS)
@pytest.mark.parametrize('spread', [False, True])
def test_logits(name, spread):
  """At transformers' initial weights, and at logits of deviation 1."""
  reference.check_logits(*drawn(name, spread), spread=spread)


@pytest.mark.parametrize('name', VARIANTS)
def test_gradients(name):
  reference.check_gradients(*drawn(name))


def test_bf16_costs_what_it_costs_torch():
  reference.check_bf16(*drawn('untied'))


@pytest.mark.parametrize('name', VARIANTS)
def test_greedy_continuation(name):
  reference.check_greedy(*drawn(name))


@pytest.mark.parametrize('name, fields', [
    ('untied', dict(rope_theta=1.2e4)), ('tied', dict(rope_theta=1.2e6)),
    ('tied', dict(qk_norm=False)), ('untied', dict(qk_norm=False))])
def test_the_comparison_sees_a_mutation(name, fields):
  torch_model, model, params = drawn(name)
  reference.check_mutation(
      torch_model, reference.changed(model, **fields), params)


@pytest.mark.parametrize('name', VARIANTS)
def test_config_round_trip(name):
  config = drawn(name)[1].config
  assert QWEN3.from_hub(QWEN3.to_hub(config)) == config


@pytest.mark.parametrize('fields, message', [
    (dict(use_sliding_window=True), 'use_sliding_window is True'),
    (dict(layer_types=['full_attention', 'sliding_attention']),
     "layer_types holds 'sliding_attention'; allowed: 'full_attention'"),
    (dict(attention_bias=True), 'attention_bias is True')])
def test_refused_config(fields, message):
  with pytest.raises(ValueError, match=message):
    QWEN3.from_hub({'num_attention_heads': 4, **SHAPES, **fields})


def test_llama_has_no_qwen3_form():
  with pytest.raises(ValueError, match='qk_norm is False'):
    QWEN3.to_hub(reference.changed(drawn('tied')[1], qk_norm=False).config)
