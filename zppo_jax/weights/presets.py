"""Published sizes as hub config.json dicts, without weights.

The values were compared with public copies of the config.json of each
checkpoint; `unconfirmed` names the fields of which no copy was seen. The
config.json of a checkpoint always counts (weights/pretrained.py), and
`differences` names the fields that differ from it.
"""

import math
from typing import NamedTuple

from zppo_jax.weights import families


class Preset(NamedTuple):
  """A published model.

  Attributes:
    config: config.json as a dict.
    billions: the size that its name tells.
    unconfirmed: fields or parts of its config.json of which no copy was seen;
      EVERY for all of them.
  """
  config: dict
  billions: float
  unconfirmed: tuple[str, ...]


def _qwen3(width, mlp, layers, heads, tied) -> dict:
  return {
      'model_type': 'qwen3', 'architectures': ['Qwen3ForCausalLM'],
      'vocab_size': 151936, 'hidden_size': width, 'intermediate_size': mlp,
      'num_hidden_layers': layers, 'num_attention_heads': heads,
      'num_key_value_heads': 8, 'head_dim': 128, 'hidden_act': 'silu',
      'rms_norm_eps': 1e-6, 'max_position_embeddings': 40960,
      'rope_parameters': {'rope_type': 'default', 'rope_theta': 1000000.0},
      'attention_bias': False, 'attention_dropout': 0.0,
      'use_sliding_window': False, 'tie_word_embeddings': tied}


def _tower(kind, depth, width, mlp, heads, out, **more) -> dict:
  return {
      'model_type': f'{kind}_vision', 'depth': depth, 'hidden_size': width,
      'intermediate_size': mlp, 'num_heads': heads, 'out_hidden_size': out,
      'hidden_act': 'gelu_pytorch_tanh', 'in_channels': 3, 'patch_size': 16,
      'temporal_patch_size': 2, 'spatial_merge_size': 2,
      'num_position_embeddings': 2304, **more}


def _qwen3_vl(width, mlp, layers, heads, tied, tower, taps) -> dict:
  text = {**_qwen3(width, mlp, layers, heads, tied),
          'model_type': 'qwen3_vl_text', 'max_position_embeddings': 262144,
          'rope_parameters': {
              'rope_type': 'default', 'rope_theta': 5000000.0,
              'mrope_interleaved': True, 'mrope_section': [24, 20, 20]}}
  for name in ('architectures', 'use_sliding_window'):
    del text[name]
  return {
      'model_type': 'qwen3_vl',
      'architectures': ['Qwen3VLForConditionalGeneration'],
      'text_config': text,
      'vision_config': _tower('qwen3_vl', *tower, width,
                              deepstack_visual_indexes=taps),
      'image_token_id': 151655, 'video_token_id': 151656,
      'vision_start_token_id': 151652, 'vision_end_token_id': 151653,
      'tie_word_embeddings': tied}


def _qwen3_5(width, mlp, layers, heads, kv_heads, value_heads, tied,
             tower) -> dict:
  period = ['linear_attention'] * 3 + ['full_attention']
  return {
      'model_type': 'qwen3_5',
      'architectures': ['Qwen3_5ForConditionalGeneration'],
      'text_config': {
          'model_type': 'qwen3_5_text', 'vocab_size': 248320,
          'hidden_size': width, 'intermediate_size': mlp,
          'num_hidden_layers': layers, 'num_attention_heads': heads,
          'num_key_value_heads': kv_heads, 'head_dim': 256,
          'linear_num_key_heads': 16, 'linear_num_value_heads': value_heads,
          'linear_key_head_dim': 128, 'linear_value_head_dim': 128,
          'linear_conv_kernel_dim': 4, 'layer_types': period * (layers // 4),
          'hidden_act': 'silu', 'rms_norm_eps': 1e-6,
          'max_position_embeddings': 262144, 'attention_bias': False,
          'attention_dropout': 0.0, 'tie_word_embeddings': tied,
          'rope_parameters': {
              'rope_type': 'default', 'rope_theta': 10000000.0,
              'partial_rotary_factor': 0.25, 'mrope_interleaved': True,
              'mrope_section': [11, 11, 10]}},
      'vision_config': _tower('qwen3_5', *tower, width),
      'image_token_id': 248056, 'video_token_id': 248057,
      'vision_start_token_id': 248053, 'vision_end_token_id': 248054,
      'tie_word_embeddings': tied}


def _llama(width, mlp, layers, heads, kv_heads, **fields) -> dict:
  return {
      'model_type': 'llama', 'architectures': ['LlamaForCausalLM'],
      'hidden_size': width, 'intermediate_size': mlp,
      'num_hidden_layers': layers, 'num_attention_heads': heads,
      'num_key_value_heads': kv_heads, 'head_dim': width // heads,
      'hidden_act': 'silu', 'rms_norm_eps': 1e-5, 'attention_bias': False,
      'attention_dropout': 0.0, 'mlp_bias': False,
      'tie_word_embeddings': True, **fields}


def _smollm2(*sizes, theta) -> dict:
  return _llama(
      *sizes, vocab_size=49152, max_position_embeddings=8192,
      rope_parameters={'rope_type': 'default', 'rope_theta': theta})


# The depth, width, MLP width and heads of a tower.
_SMALL, _MIDDLE, _LARGE = (
    (12, 768, 3072, 12), (24, 1024, 4096, 16), (27, 1152, 4304, 16))
EVERY = 'every field'

PRESETS = {
    'Qwen3.5-0.8B': Preset(
        _qwen3_5(1024, 3584, 24, 8, 2, 16, True, _SMALL), 0.8, ()),
    'Qwen3.5-2B': Preset(
        _qwen3_5(2048, 6144, 24, 8, 2, 16, True, _MIDDLE), 2,
        ('vision_config',)),
    'Qwen3.5-4B': Preset(
        _qwen3_5(2560, 9216, 32, 16, 4, 32, True, _MIDDLE), 4, ()),
    'Qwen3.5-9B': Preset(
        _qwen3_5(4096, 12288, 32, 16, 4, 32, False, _LARGE), 9, ()),
    'Qwen3.5-27B': Preset(
        _qwen3_5(5120, 17408, 64, 24, 4, 48, False, _LARGE), 27, ()),
    'Qwen3-VL-2B': Preset(
        _qwen3_vl(2048, 6144, 28, 16, True, _MIDDLE, [5, 11, 17]), 2,
        ('text_config.intermediate_size',)),
    'Qwen3-VL-4B': Preset(
        _qwen3_vl(2560, 9728, 36, 32, True, _MIDDLE, [5, 11, 17]), 4, ()),
    'Qwen3-VL-8B': Preset(
        _qwen3_vl(4096, 12288, 36, 32, False, _LARGE, [8, 16, 24]), 8, ()),
    'Qwen3-0.6B': Preset(_qwen3(1024, 3072, 28, 16, True), 0.6, ()),
    'Qwen3-1.7B': Preset(_qwen3(2048, 6144, 28, 16, True), 1.7, ()),
    'Qwen3-4B': Preset(_qwen3(2560, 9728, 36, 32, True), 4, ()),
    'Qwen3-8B': Preset(_qwen3(4096, 12288, 36, 32, False), 8, ()),
    'Llama-3.2-1B': Preset(
        _llama(2048, 8192, 16, 32, 8, vocab_size=128256,
               max_position_embeddings=131072, rope_parameters={
                   'rope_type': 'llama3', 'rope_theta': 500000.0,
                   'factor': 32.0, 'low_freq_factor': 1.0,
                   'high_freq_factor': 4.0,
                   'original_max_position_embeddings': 8192}), 1, ()),
    'SmolLM2-135M': Preset(
        _smollm2(576, 1536, 30, 9, 3, theta=100000.0), 0.135, ()),
    # Copies of this config.json disagree on the base.
    'SmolLM2-360M': Preset(
        _smollm2(960, 2560, 32, 15, 5, theta=100000.0), 0.36,
        ('rope_parameters.rope_theta',)),
    'SmolLM2-1.7B': Preset(
        _smollm2(2048, 8192, 24, 32, 32, theta=130000.0), 1.7, (EVERY,)),
}
# The hub spells this value in two ways.
_SPELT_TWICE = 'vision_config.model_type'


def _flat(config: dict, prefix: str = '') -> dict:
  out = {}
  for name, value in config.items():
    if isinstance(value, dict):
      out.update(_flat(value, f'{prefix}{name}.'))
    else:
      out[prefix + name] = value
  return out


def differences(name: str, config: dict) -> list[str]:
  """The fields of a config.json that differ from the preset of its name.

  Args:
    name: e.g. of the folder; the longest name of a preset in it counts.
    config: the config.json of the folder. Absent fields are not compared.
  """
  names = [n for n in PRESETS if n.lower() in name.lower()]
  if not names:
    return []
  chosen = max(names, key=len)
  theirs = _flat(config)
  return [f'config.json: {field} is {theirs[field]!r}; preset {chosen} has '
          f'{value!r}; config.json counts'
          for field, value in _flat(PRESETS[chosen].config).items()
          if field in theirs and theirs[field] != value
          and field != _SPELT_TWICE]


def count(config: dict) -> int | None:
  """The number of parameters of a config.json; None for an unknown type."""
  row = families.FAMILIES.get(config['model_type'])
  if row is None:
    return None
  return sum(len(leaf.names) * math.prod(leaf.hub_shape)
             for leaf in row.hub_leaves(row.from_hub(config)))


def _seen(unconfirmed) -> str:
  if unconfirmed == (EVERY,):
    return 'nothing'
  return f'all but {", ".join(unconfirmed)}' if unconfirmed else 'all'


def table() -> str:
  """The table of `zppo models`: names, sizes, memory, unconfirmed fields."""
  lines = [f'{"name":14s} {"named":>6s} {"counted":>8s} {"bf16":>8s} '
           f'{"fp32+AdamW":>11s}  seen in a copy of its config.json']
  for name, preset in PRESETS.items():
    n = count(preset.config)
    # Training with AdamW holds fp32 params and two fp32 moments.
    sizes = ('', '', '') if n is None else (
        f'{n / 1e9:.3f}B', f'{2 * n / 2**30:.1f} GiB',
        f'{12 * n / 2**30:.1f} GiB')
    lines.append(
        f'{name:14s} {preset.billions:>5g}B {sizes[0]:>8s} {sizes[1]:>8s} '
        f'{sizes[2]:>11s}  {_seen(preset.unconfirmed)}'
        + ('' if n else '  (family not built here)'))
  return '\n'.join(lines)
