"""Qwen3-VL: the decoder with three rotary axes, a vision tower and DeepStack.

After each of the decoder's first layers, the features of one tapped layer of
the tower are added to the hidden states at placeholders (DeepStack).
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from zppo_jax.arrays import NewKV
from zppo_jax.devices import sharding
from zppo_jax.models import (
  attention,
  cache as cached,
  decoder,
  layers,
  rope,
  vision,
)
from zppo_jax.models.vision import VisionConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen3VLConfig(decoder.DecoderConfig):
  """A decoder's fields and the following.

  Attributes:
    rope_sections: rotary pairs of (time, height, width).
    vision: the tower's config.
  """
  rope_sections: tuple[int, ...]
  vision: VisionConfig

  def __post_init__(self):
    super().__post_init__()
    object.__setattr__(self, 'rope_sections', tuple(self.rope_sections))
    object.__setattr__(self, 'vision', vision.as_config(self.vision))
    layers.interleaved_axes(self.head_dim // 2, self.rope_sections)
    vision.check_fits(self.vision, self.width)
    if len(self.vision.taps) > self.num_layers:
      raise ValueError(f'vision.taps is {self.vision.taps}; there are '
                       f'{self.num_layers} layers to take them')
    if self.rope_llama3:
      raise ValueError(f'rope_llama3 is {self.rope_llama3}; allowed: ()')


class Block(nn.Module):
  """A layer of the decoder and the features that DeepStack adds after it."""
  config: Qwen3VLConfig
  mesh: jax.sharding.Mesh | None

  @nn.compact
  def __call__(self, x_BTD, rotary, segment_BT, valid, tokens_BT, taps, past):
    c = self.config
    layer, past = past
    y, new = attention.Attention(
        c.num_heads, c.num_kv_heads, c.head_dim, c.qk_norm, c.norm_eps,
        c.attention, self.mesh, name='attention')(
            layers.RMSNorm(c.norm_eps, name='attention_norm')(x_BTD), rotary,
            segment_BT, valid, past)
    x_BTD = layers.pin_hidden(layers.add(x_BTD, y), self.mesh)
    y = layers.SwiGLU(c.mlp_width, name='mlp')(
        layers.RMSNorm(c.norm_eps, name='mlp_norm')(x_BTD))
    x_BTD = layers.pin_hidden(layers.add(x_BTD, y), self.mesh)
    if taps is not None:
      # The layer index is traced: only the first layers run the gather.
      x_BTD = jax.lax.cond(
          layer < taps.shape[0],
          lambda x: vision.add(x, tokens_BT, taps[layer], c.vision.ids),
          lambda x: x, x_BTD)
    return (layers.pin_hidden(x_BTD, self.mesh),
            sharding.pin_rows(new, self.mesh))


class Qwen3VL(nn.Module):
  """Token ids and patches to final hidden states."""
  config: Qwen3VLConfig
  mesh: jax.sharding.Mesh | None = None

  @nn.compact
  def __call__(self, tokens_BT, positions_BTA, segment_BT, cache=None,
               media=None, compact=False):
    """See decoder.Decoder; here A = 3, and `media` belongs to the rows."""
    del compact  # padding may stand anywhere
    c = self.config
    embed = self.param('embed', nn.initializers.normal(c.width**-0.5),
                       (c.vocab_size, c.width))
    if not c.tied:
      self.param('head', layers.fan_in_init(1), (c.width, c.vocab_size))
    dtype, cut = decoder.DTYPES[c.dtype], layers.has_cut_weights(self)
    x = layers.look_up(self, embed, tokens_BT, dtype)
    taps = None
    if media is not None:
      merged, features = vision.Tower(
          c.vision, c.dtype, c.remat, c.attention, self.mesh, cut,
          name='vision')(media)
      x = layers.pin_hidden(
          vision.place(x, tokens_BT, merged, c.vision.ids), self.mesh)
      taps = jnp.stack(features) if features else None
    frequency, amplitude = rope.frequencies(
        c, c.head_dim, layers.wide(x.dtype))
    rotary = layers.rotary_phases(
        positions_BTA, c.head_dim, c.rope_theta, x.dtype,
        layers.interleaved_axes(c.head_dim // 2, c.rope_sections),
        frequency=frequency, amplitude=amplitude)
    past, valid = cached.by_layer(cache)
    block = layers.with_whole_weights(Block, self.mesh, dtype, cut)
    if c.remat != 'none':
      block = nn.remat(block, policy=decoder.REMAT[c.remat],
                       prevent_cse=False)
    number = jnp.arange(c.num_layers)
    past = list(zip(number, past, strict=True)) if isinstance(
        past, list) else (number, past)
    x, new = layers.over_blocks(
        self, block, (c, self.mesh), c.num_layers, x,
        (rotary, segment_BT, valid, tokens_BT, taps), past, unroll=c.unroll)
    k, v = layers.columns(new)
    x = layers.RMSNorm(c.norm_eps, name='norm')(x)
    return layers.pin_hidden(x, self.mesh), NewKV(k, v, ())
