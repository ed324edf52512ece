"""The decoder: RMSNorm, rotary grouped-query attention, SwiGLU.

One apply serves training, scoring, prefill and decoding. Params are a plain
pytree. Layers are stacked and scanned over blocks of one period (here one
layer). The cache is an explicit input and output.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from zppo_jax import allowed
from zppo_jax.arrays import NewKV
from zppo_jax.devices import sharding
from zppo_jax.models import attention, cache as cached, layers, rope

# float64 is for tests under jax_enable_x64.
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16,
          'float64': jnp.float64}
REMAT = {
    'none': None,
    'full': jax.checkpoint_policies.nothing_saveable,
    'dots': jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names(layers.PRODUCT)),
}


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """Shapes and numerics of a decoder.

  Attributes:
    vocab_size: embedding rows (V).
    width: residual width (D).
    num_layers: layers (L).
    num_heads, num_kv_heads: query and key/value heads (N, K).
    head_dim: H, even.
    mlp_width: F.
    max_positions: tokens of the longest sequence, prompt and response together.
    rope_theta: rotary base.
    rope_llama3: (factor, low, high, original positions) of Llama 3.1's
      frequency scaling (layers.llama3_scale), or () for none.
    rope_yarn: YaRN's scaling (rope.Yarn), or () for none.
    rope_linear: the number by which positions are divided.
    norm_eps: RMSNorm epsilon.
    qk_norm: RMSNorm on queries and keys, per head.
    tied: the head is the embedding.
    dtype: compute type, 'float32' or 'bfloat16'; params are float32.
    remat: 'none', 'full' or 'dots': what a block's backward pass recomputes.
    unroll: blocks per iteration of the loop over them (layers.over_blocks); a
      number above 1 requires remat 'none'.
    attention: 'auto' or a kernel: one of attention.NAMES (attention.choose).
  """
  vocab_size: int
  width: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  mlp_width: int
  max_positions: int
  rope_theta: float = 10000.0
  rope_llama3: tuple[float, ...] = ()
  rope_yarn: tuple[float, ...] = ()
  rope_linear: float = 1.0
  norm_eps: float = 1e-6
  qk_norm: bool = True
  tied: bool = True
  dtype: str = 'float32'
  remat: str = 'none'
  unroll: int = 1
  attention: str = 'auto'

  def __post_init__(self):
    # A JSON description holds a list, but the config must be hashable.
    object.__setattr__(self, 'rope_llama3', tuple(self.rope_llama3))
    object.__setattr__(self, 'rope_yarn', tuple(self.rope_yarn))
    if len(self.rope_llama3) not in (0, 4):
      raise ValueError(f'rope_llama3 is {self.rope_llama3}; it must hold '
                       '(factor, low, high, original positions) or nothing')
    rope.check(self)
    for name in ('vocab_size', 'width', 'num_layers', 'num_heads',
                 'num_kv_heads', 'head_dim', 'mlp_width', 'max_positions'):
      allowed.number(name, getattr(self, name), '>= 1')
    if self.num_heads % self.num_kv_heads:
      raise ValueError(f'num_heads is {self.num_heads}; it must be a multiple '
                       f'of num_kv_heads, {self.num_kv_heads}')
    if self.head_dim % 2:
      raise ValueError(f'head_dim is {self.head_dim}; it must be even')
    for name, names in (('dtype', DTYPES), ('remat', REMAT),
                        ('attention', attention.NAMES)):
      allowed.one_of(name, getattr(self, name), names)
    layers.check_unroll(self.unroll, self.remat)


class Block(nn.Module):
  """One period of the decoder: a layer of attention and a layer of SwiGLU."""
  config: DecoderConfig
  mesh: jax.sharding.Mesh | None

  @nn.compact
  def __call__(self, x_BTD, rotary, segment_BT, valid, past):
    c = self.config
    y, new = attention.Attention(
        c.num_heads, c.num_kv_heads, c.head_dim, c.qk_norm, c.norm_eps,
        c.attention, self.mesh, name='attention')(
            layers.RMSNorm(c.norm_eps, name='attention_norm')(x_BTD), rotary,
            segment_BT, valid, past)
    x_BTD = layers.pin_hidden(layers.add(x_BTD, y), self.mesh)
    y = layers.SwiGLU(c.mlp_width, name='mlp')(
        layers.RMSNorm(c.norm_eps, name='mlp_norm')(x_BTD))
    return (layers.pin_hidden(layers.add(x_BTD, y), self.mesh),
            sharding.pin_rows(new, self.mesh))


class Decoder(nn.Module):
  """Token ids to final hidden states."""
  config: DecoderConfig
  mesh: jax.sharding.Mesh | None = None

  @nn.compact
  def __call__(self, tokens_BT, positions_BTA, segment_BT, cache=None):
    """Runs the decoder over new tokens.

    Args:
      tokens_BT: int32 ids.
      positions_BTA: int32 position of each token in its sequence, A = 1.
      segment_BT: int32; tokens see only tokens of their own segment before
        them, and 0 is padding. With a cache there is one segment, 1.
      cache: `Cache` whose valid slots every token sees, or None.

    Returns:
      (hidden_BTD after the last norm, in the compute type, `NewKV`).
    """
    c = self.config
    # With deviation D^-1/2 a tied head starts with logits of deviation 1.
    embed = self.param('embed', nn.initializers.normal(c.width**-0.5),
                       (c.vocab_size, c.width))
    if not c.tied:
      self.param('head', layers.fan_in_init(1), (c.width, c.vocab_size))
    x = layers.look_up(self, embed, tokens_BT, DTYPES[c.dtype])
    scale = layers.llama3_scale(
        c.head_dim, c.rope_theta, *c.rope_llama3) if c.rope_llama3 else None
    frequency, amplitude = rope.frequencies(
        c, c.head_dim, layers.wide(x.dtype))
    rotary = layers.rotary_phases(
        positions_BTA, c.head_dim, c.rope_theta, x.dtype, scale=scale,
        frequency=frequency, amplitude=amplitude)
    past, valid = cached.by_layer(cache)
    block = layers.with_whole_weights(
        Block, self.mesh, DTYPES[c.dtype], layers.has_cut_weights(self))
    if c.remat != 'none':
      block = nn.remat(block, policy=REMAT[c.remat], prevent_cse=False)
    x, new = layers.over_blocks(
        self, block, (c, self.mesh), c.num_layers, x,
        (rotary, segment_BT, valid), past, unroll=c.unroll)
    k, v = layers.columns(new)
    x = layers.RMSNorm(c.norm_eps, name='norm')(x)
    return layers.pin_hidden(x, self.mesh), NewKV(k, v, ())
