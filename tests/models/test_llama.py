"""The llama family against LlamaForCausalLM, and what its config refuses."""

import functools

import pytest

transformers = pytest.importorskip('transformers')
pytest.importorskip('torch')
from tests.models import torch_reference as reference  # noqa: E402
from zppo_jax.weights import families  # noqa: E402

LLAMA = families.FAMILIES['llama']

pytestmark = pytest.mark.usefixtures('quick_compile')

SCALING = dict(rope_type='llama3', rope_theta=5000.0, factor=8.0,
               low_freq_factor=1.0, high_freq_factor=4.0,
               original_max_position_embeddings=128)
SHAPES = dict(vocab_size=61, hidden_size=24, intermediate_size=40,
              num_hidden_layers=2, max_position_embeddings=1024,
              rms_norm_eps=1e-5)
VARIANTS = {
    'mha': dict(num_attention_heads=3, num_key_value_heads=3,
                tie_word_embeddings=False,
                rope_parameters=dict(rope_type='default', rope_theta=1e4)),
    'gqa': dict(num_attention_heads=9, num_key_value_heads=3, head_dim=8,
                hidden_size=36, tie_word_embeddings=True,
                rope_parameters=SCALING)}


@functools.cache
def drawn(name, spread=True):
  config = transformers.LlamaConfig(**{**SHAPES, **VARIANTS[name]})
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


@pytest.mark.parametrize('name', VARIANTS)
def test_greedy_continuation(name):
  reference.check_greedy(*drawn(name))


@pytest.mark.parametrize('name, fields', [
    ('mha', dict(rope_theta=1.2e4)), ('gqa', dict(rope_llama3=())),
    ('gqa', dict(rope_llama3=(8.0, 1.0, 4.0, 256.0))),
    ('mha', dict(norm_eps=1e-2))])
def test_the_comparison_sees_a_mutation(name, fields):
  torch_model, model, params = drawn(name)
  reference.check_mutation(
      torch_model, reference.changed(model, **fields), params)


def hub_config(**fields):
  return {'model_type': 'llama', 'hidden_act': 'silu',
          'num_attention_heads': 4, **SHAPES, **fields}


def test_rope_fields_old_and_new():
  """Old and new spellings are one config; absent heads and head dim follow."""
  new = LLAMA.from_hub(hub_config(rope_parameters=SCALING))
  scaling = {k: v for k, v in SCALING.items() if k != 'rope_theta'}
  old = LLAMA.from_hub(hub_config(rope_theta=5000.0, rope_scaling=scaling))
  assert old == new and new.rope_llama3 == (8, 1, 4, 128)
  plain = LLAMA.from_hub(hub_config(rope_scaling=None))
  assert plain.rope_theta == 10000 and plain.rope_llama3 == ()
  assert plain.num_kv_heads == 4 and plain.head_dim == 6 and not plain.tied


@pytest.mark.parametrize('name', VARIANTS)
def test_config_round_trip(name):
  config = drawn(name)[1].config
  assert LLAMA.from_hub(LLAMA.to_hub(config)) == config


@pytest.mark.parametrize('fields, message', [
    (dict(hidden_act='gelu'), "hidden_act is 'gelu'; allowed: 'silu'"),
    (dict(attention_bias=True), 'attention_bias is True; allowed: False'),
    (dict(mlp_bias=True), 'mlp_bias is True'),
    (dict(attention_dropout=0.1), 'attention_dropout is 0.1'),
    (dict(rope_scaling={'type': 'dynamic', 'factor': 2.0}),
     "rope_type is 'dynamic': it changes.*; allowed: 'default', 'llama3'"),
    (dict(rope_parameters={'rope_type': 'yarn'}), "rope_type is 'yarn'"),
    (dict(rope_parameters={**SCALING, 'beta_fast': 1}), 'beta_fast'),
    (dict(rope_parameters={'rope_type': 'llama3', 'factor': 2.0}),
     'exactly.*low_freq_factor'),
    (dict(rope_parameters={'partial_rotary_factor': 0.5}),
     'partial_rotary_factor'),
    (dict(rope_theta=1.0, rope_parameters=SCALING), 'rope_theta is 1.0.*5000'),
    (dict(hidden_size=None), 'hidden_size is missing'),
    (dict(rms_norm_eps=None), 'rms_norm_eps is missing'),
    (dict(num_key_value_heads=3), 'num_heads is 4.*num_kv_heads, 3')])
def test_refused_config(fields, message):
  """Field, value and what is allowed."""
  with pytest.raises(ValueError, match=message):
    LLAMA.from_hub(hub_config(**fields))


def test_qk_norm_has_no_llama_form():
  with pytest.raises(ValueError, match='qk_norm is True'):
    LLAMA.to_hub(reference.changed(drawn('mha')[1], qk_norm=True).config)
