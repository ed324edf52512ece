"""Qwen3.5 in the hub's config.json and tensors.

There are two forms: `qwen3_5` is the checkpoint with a vision tower, in which
the text model is nested; `qwen3_5_text` is the text model alone.
"""

import dataclasses

from zppo_jax.models.qwen3_5 import Qwen35Config
from zppo_jax.weights import hub_rope, hub_vision
from zppo_jax.weights.hub_leaf import HubLeaf
from zppo_jax.weights.hub_text import field, only

# Ours -> the hub's.
_FIELDS = {
    'vocab_size': 'vocab_size', 'width': 'hidden_size',
    'num_layers': 'num_hidden_layers', 'num_heads': 'num_attention_heads',
    'num_kv_heads': 'num_key_value_heads', 'head_dim': 'head_dim',
    'mlp_width': 'intermediate_size', 'norm_eps': 'rms_norm_eps',
    'max_positions': 'max_position_embeddings',
    'delta_key_heads': 'linear_num_key_heads',
    'delta_value_heads': 'linear_num_value_heads',
    'delta_key_dim': 'linear_key_head_dim',
    'delta_value_dim': 'linear_value_head_dim',
    'conv_kernel': 'linear_conv_kernel_dim'}
_LINEAR, _FULL = 'linear_attention', 'full_attention'
_TIED = 'tie_word_embeddings'
# The multi-token-prediction head; a text model leaves out a tower as well.
SKIPPED = ('mtp.',)
TEXT_SKIPPED = ('mtp.', 'model.visual.')


def hub_layer(block: int, slot: int, period: int) -> int:
  """The hub's index of a block's layer; divmod(index, period) goes back."""
  return block * period + slot


def _layer_types(period: int, count: int) -> list[str]:
  return [_FULL if divmod(i, period)[1] == period - 1 else _LINEAR
          for i in range(count)]


def _period(hub: dict, count: int) -> int:
  types = hub.get('layer_types')
  if types is None:
    return hub.get('full_attention_interval') or 4
  period = types.index(_FULL) + 1 if _FULL in types else len(types) + 1
  if list(types) != _layer_types(period, count) or not 2 <= period <= count:
    raise ValueError(
        f'config.json: layer_types is {types}; allowed: num_hidden_layers = '
        f'{count} of them, periods of {_LINEAR!r} that end in {_FULL!r}')
  only(hub, 'full_attention_interval', period, None)
  return period


def _rope(hub: dict) -> dict:
  rotary = hub_rope.from_hub(hub, share=0.25, other=hub_rope.MROPE)
  only(rotary.other, 'mrope_interleaved', True)
  if rotary.llama3:
    raise ValueError("config.json: rope_type is 'llama3'; allowed: 'default', "
                     "'yarn', 'linear'")
  return {**rotary.fields, 'rotary_share': rotary.share,
          'rope_sections': tuple(
              rotary.other.get('mrope_section') or (11, 11, 10)),
          'max_positions': rotary.positions(
              hub, field(hub, 'max_position_embeddings'))}


def text_from_hub(hub: dict) -> Qwen35Config:
  """The config of a `qwen3_5_text` config.json.

  Raises:
    ValueError: naming the field, its value and what is allowed.
  """
  fields = {ours: field(hub, theirs) for ours, theirs in _FIELDS.items()}
  only(hub, 'hidden_act', 'silu')
  only(hub, 'attention_bias', False, None)
  only(hub, 'attention_dropout', 0, None)
  only(hub, 'attn_output_gate', True, None)
  return Qwen35Config(
      **{**fields, **_rope(hub)}, period=_period(hub, fields['num_layers']),
      tied=bool(hub.get(_TIED)))


def from_hub(hub: dict) -> Qwen35Config:
  """The config of a `qwen3_5` config.json.

  Without `vision_config` it is that of the nested text model. The top level
  decides whether embeddings are tied; the nested field has no effect, as in the
  hub's class. Errors are those of `text_from_hub` and `hub_vision.from_hub`.
  """
  text = field(hub, 'text_config')
  config = text_from_hub({**text, _TIED: hub.get(_TIED, False)})
  if hub.get('vision_config') is None:
    return config
  return dataclasses.replace(config, vision=hub_vision.from_hub(hub))


def text_to_hub(c: Qwen35Config) -> dict:
  """The config.json of the text model alone."""
  return {
      'model_type': 'qwen3_5_text', 'architectures': ['Qwen3_5ForCausalLM'],
      **{theirs: getattr(c, ours) for ours, theirs in _FIELDS.items()},
      'layer_types': _layer_types(c.period, c.num_layers),
      'hidden_act': 'silu', 'attention_bias': False, 'attention_dropout': 0.0,
      _TIED: c.tied,
      'rope_parameters': {
          **hub_rope.to_hub(c), 'partial_rotary_factor': c.rotary_share,
          'mrope_interleaved': True,
          'mrope_section': list(c.rope_sections)}}


def to_hub(c: Qwen35Config) -> dict:
  """The config.json with a nested text model.

  Without a tower it names the class of the text model.
  """
  text = text_to_hub(c)
  architectures, tower = text.pop('architectures'), {}
  if c.vision is not None:
    architectures = ['Qwen3_5ForConditionalGeneration']
    tower = hub_vision.to_hub(c.vision, 'qwen3_5')
  return {'model_type': 'qwen3_5', 'architectures': architectures,
          'text_config': text, **tower, _TIED: c.tied}


def _leaves(c: Qwen35Config, root: str) -> tuple[HubLeaf, ...]:
  D, F, V, H = c.width, c.mlp_width, c.vocab_size, c.head_dim
  N, K = c.num_heads, c.num_kv_heads
  values, U = c.delta_value_heads, c.delta_value_dim
  E = 2 * c.delta_key_heads * c.delta_key_dim + values * U
  leaves = []

  def one(path, name, shape, perm):
    leaves.append(HubLeaf(path, (name,), shape, shape, perm, False))

  one(('embed',), f'{root}embed_tokens.weight', (V, D), (0, 1))
  one(('norm', 'offset'), f'{root}norm.weight', (D,), (0,))
  if not c.tied:
    one(('head',), 'lm_head.weight', (V, D), (1, 0))
  for slot in range(c.period):
    def add(path, name, shape, perm, split=None, slot=slot):
      names = tuple(
          f'{root}layers.{hub_layer(block, slot, c.period)}.{name}'
          for block in range(c.num_blocks))
      path = ('blocks', f'layer_{slot}', *path.split('/'))
      leaves.append(HubLeaf(path, names, shape, split or shape, perm, True))

    # The hub's matrices are [out, in]; ours are [in, out] with heads apart.
    def matrix(path, name, rows, columns=D, add=add):
      add(path, f'{name}.weight', (rows, columns), (1, 0))

    def heads(path, name, count, size, add=add):
      add(path, f'{name}.weight', (count * size, D), (2, 0, 1),
          (count, size, D))

    def output(path, name, count, size, add=add):
      add(path, f'{name}.weight', (D, count * size), (1, 2, 0),
          (D, count, size))

    def vector(path, name, size, add=add):
      add(path, name, (size,), (0,))

    vector('mixer_norm/offset', 'input_layernorm.weight', D)
    vector('mlp_norm/offset', 'post_attention_layernorm.weight', D)
    matrix('mlp/gate', 'mlp.gate_proj', F)
    matrix('mlp/up', 'mlp.up_proj', F)
    matrix('mlp/down', 'mlp.down_proj', D, F)
    if slot == c.period - 1:
      # The rows of a head are its query and then its gate.
      add('attention/q_gate', 'self_attn.q_proj.weight', (2 * N * H, D),
          (3, 0, 1, 2), (N, 2, H, D))
      heads('attention/k', 'self_attn.k_proj', K, H)
      heads('attention/v', 'self_attn.v_proj', K, H)
      output('attention/o', 'self_attn.o_proj', N, H)
      vector('attention/q_norm/offset', 'self_attn.q_norm.weight', H)
      vector('attention/k_norm/offset', 'self_attn.k_norm.weight', H)
    else:
      matrix('delta/qkv', 'linear_attn.in_proj_qkv', E)
      heads('delta/z', 'linear_attn.in_proj_z', values, U)
      matrix('delta/a', 'linear_attn.in_proj_a', values)
      matrix('delta/b', 'linear_attn.in_proj_b', values)
      add('delta/conv', 'linear_attn.conv1d.weight', (E, 1, c.conv_kernel),
          (1, 0), (E, c.conv_kernel))
      vector('delta/A_log', 'linear_attn.A_log', values)
      vector('delta/dt_bias', 'linear_attn.dt_bias', values)
      vector('delta/out_norm/scale', 'linear_attn.norm.weight', U)
      output('delta/o', 'linear_attn.out_proj', values, U)
  return tuple(leaves)


def text_leaves(c: Qwen35Config) -> tuple[HubLeaf, ...]:
  """The leaves of all parameters, in tensors of Qwen3_5ForCausalLM."""
  return _leaves(c, 'model.')


def hub_leaves(c: Qwen35Config) -> tuple[HubLeaf, ...]:
  """The leaves of all parameters, in Qwen3_5ForConditionalGeneration."""
  tower = () if c.vision is None else hub_vision.hub_leaves(c.vision)
  return (*_leaves(c, 'model.language_model.'), *tower)
