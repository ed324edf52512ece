"""Qwen3.5, dense: Gated DeltaNet layers alternate with gated attention.

The scan is over blocks of one period: the last layer of a block is attention,
all others are Gated DeltaNet (gated_delta.py). weights/hub_qwen3_5.py says how
a hub checkpoint stores it.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from zppo_jax import allowed
from zppo_jax.arrays import NewKV
from zppo_jax.devices import sharding
from zppo_jax.models import (
  attention,
  cache as cached,
  gated_delta,
  layers,
  rope,
  vision,
)
from zppo_jax.models.decoder import DTYPES, REMAT
from zppo_jax.models.vision import VisionConfig
from zppo_jax.objectives import rounding

NUM_AXES = layers.NUM_AXES


@dataclasses.dataclass(frozen=True)
class Qwen35Config:
  """Shapes and numerics; DecoderConfig describes the fields not listed here.

  Attributes:
    num_layers: a multiple of `period`.
    num_heads, num_kv_heads, head_dim: shapes of the attention layers.
    delta_key_heads, delta_value_heads: heads of the DeltaNet layers; the second
      number is a multiple of the first.
    delta_key_dim, delta_value_dim: dimensions of those heads.
    conv_kernel: the number of taps of their convolution.
    period: every period-th layer is attention.
    rotary_share: the share of a head's dimensions that is turned.
    rope_sections: rotary pairs of (time, height, width), interleaved.
    vision: the vision tower's config; None for text alone.
  """
  vocab_size: int
  width: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  mlp_width: int
  max_positions: int
  delta_key_heads: int
  delta_value_heads: int
  delta_key_dim: int
  delta_value_dim: int
  conv_kernel: int = 4
  period: int = 4
  rope_theta: float = 10000000.0
  rope_yarn: tuple[float, ...] = ()
  rope_linear: float = 1.0
  rotary_share: float = 0.25
  rope_sections: tuple[int, ...] = (11, 11, 10)
  norm_eps: float = 1e-6
  tied: bool = False
  dtype: str = 'float32'
  remat: str = 'none'
  unroll: int = 1
  attention: str = 'auto'
  vision: VisionConfig | None = None

  def __post_init__(self):
    # A JSON description holds a list, but the config must be hashable.
    object.__setattr__(self, 'rope_sections', tuple(self.rope_sections))
    object.__setattr__(self, 'rope_yarn', tuple(self.rope_yarn))
    rope.check(self)
    for name in ('vocab_size', 'width', 'num_layers', 'num_heads',
                 'num_kv_heads', 'head_dim', 'mlp_width', 'max_positions',
                 'delta_key_heads', 'delta_value_heads', 'delta_key_dim',
                 'delta_value_dim'):
      allowed.number(name, getattr(self, name), '>= 1')
    for name in ('conv_kernel', 'period'):
      allowed.number(name, getattr(self, name), '>= 2')
    for name, of in (('num_heads', 'num_kv_heads'),
                     ('delta_value_heads', 'delta_key_heads'),
                     ('num_layers', 'period')):
      if getattr(self, name) % getattr(self, of):
        raise ValueError(f'{name} is {getattr(self, name)}; it must be a '
                         f'multiple of {of}, {getattr(self, of)}')
    if not 0 < self.rotary_dim <= self.head_dim or self.rotary_dim % 2:
      raise ValueError(
          f'rotary_share is {self.rotary_share}: {self.rotary_dim} of '
          f'{self.head_dim} dimensions; it must be an even number, >= 2')
    if len(self.rope_sections) != NUM_AXES:
      raise ValueError(f'rope_sections is {self.rope_sections}; it must be '
                       'pairs of (time, height, width)')
    layers.interleaved_axes(self.rotary_dim // 2, self.rope_sections)
    for name, names in (('dtype', DTYPES), ('remat', REMAT),
                        ('attention', attention.NAMES)):
      allowed.one_of(name, getattr(self, name), names)
    layers.check_unroll(self.unroll, self.remat)
    object.__setattr__(self, 'vision', vision.as_config(self.vision))
    vision.check_fits(self.vision, self.width)
    if self.vision and self.vision.taps:
      raise ValueError(f'vision.taps is {self.vision.taps}; this family has '
                       'none, allowed: ()')

  @property
  def rotary_dim(self) -> int:
    return int(self.head_dim * self.rotary_share)

  @property
  def num_blocks(self) -> int:
    return self.num_layers // self.period


class OffsetNorm(nn.Module):
  """x / rms(x) * (1 + offset), at least in float32."""
  eps: float

  @nn.compact
  def __call__(self, x):
    offset = self.param('offset', nn.initializers.zeros, (x.shape[-1],))
    y = x.astype(layers.wide(x.dtype))
    scale = jax.lax.rsqrt(rounding.mean_square(x) + self.eps)
    return rounding.rounded(
        y * scale * jax.lax.broadcast_to_rank(1 + offset, y.ndim), x.dtype)


_opened = rounding.once(lambda x, gate: x * jax.nn.sigmoid(gate))


class GatedAttention(nn.Module):
  """Attention whose output is multiplied by the sigmoid of a projection."""
  config: Qwen35Config
  mesh: jax.sharding.Mesh | None

  @nn.compact
  def __call__(self, x_BTD, rotary, segment_BT, valid, past):
    """(y_BTD, (k_BTKH, v_BTKH)), as attention.Attention returns them."""
    c = self.config
    D, N, K, H = x_BTD.shape[-1], c.num_heads, c.num_kv_heads, c.head_dim
    init = layers.fan_in_init(1)
    both = layers.project(x_BTD, self.param('q_gate', init, (D, N, 2, H)))
    weights = lambda name: attention.copied(
        self.param(name, init, (D, K, H)), N, self.mesh)
    k = layers.project(x_BTD, weights('k'))
    v = layers.project(x_BTD, weights('v'))
    wo = self.param('o', layers.fan_in_init(2), (N, H, D))
    q, gate = both[..., 0, :], both[..., 1, :]
    q = layers.rotate(OffsetNorm(c.norm_eps, name='q_norm')(q), *rotary)
    k = layers.rotate(OffsetNorm(c.norm_eps, name='k_norm')(k), *rotary)
    out = attention.attend(q, k, v, segment_BT, past, valid,
                           asked=c.attention, mesh=self.mesh)
    return layers.project(_opened(out, gate), wo, 2), (k, v)


class Layer(nn.Module):
  """A token mixer, then SwiGLU; each has its own norm and residual."""
  config: Qwen35Config
  mesh: jax.sharding.Mesh | None
  full: bool

  @nn.compact
  def __call__(self, x_BTD, *args):
    """(x_BTD, the mixer's second result); `args` are the mixer's arguments."""
    c = self.config
    if self.full:
      mixer = GatedAttention(c, self.mesh, name='attention')
    else:
      mixer = gated_delta.GatedDeltaNet(
          c.delta_key_heads, c.delta_value_heads, c.delta_key_dim,
          c.delta_value_dim, c.conv_kernel, c.norm_eps, self.mesh,
          name='delta')
    norm = OffsetNorm(c.norm_eps, name='mixer_norm')
    y, new = mixer(norm(x_BTD), *args)
    x_BTD = layers.pin_hidden(layers.add(x_BTD, y), self.mesh)
    norm = OffsetNorm(c.norm_eps, name='mlp_norm')
    y = layers.SwiGLU(c.mlp_width, name='mlp')(norm(x_BTD))
    return (layers.pin_hidden(layers.add(x_BTD, y), self.mesh),
            sharding.pin_rows(new, self.mesh))


class Block(nn.Module):
  """One period: DeltaNet layers, then attention.

  Attributes:
    scanned: whether the DeltaNet layers are one scan (layers.over_layers);
      their states are then stacked, and else a tuple over them.
  """
  config: Qwen35Config
  mesh: jax.sharding.Mesh | None
  scanned: bool

  @nn.compact
  def __call__(self, x_BTD, runs, rotary, segment_BT, valid, past):
    """`past` is None or holds what attention.Attention takes and the DeltaState
    of each DeltaNet layer of the block; the result is (x_BTD, (k_BTKH, v_BTKH,
    the new states)).
    """
    c = self.config
    layer = layers.with_whole_weights(
        Layer, self.mesh, DTYPES[c.dtype], layers.has_cut_weights(self))
    if c.remat != 'none':
      layer = nn.remat(layer, policy=REMAT[c.remat], prevent_cse=False)
    *names, last = (f'layer_{i}' for i in range(c.period))
    if self.scanned:
      x_BTD, states = layers.over_layers(
          self, layer(c, self.mesh, False, parent=None), names, x_BTD, (runs,),
          past and past[1])
    else:
      states = []
      for i, name in enumerate(names):
        x_BTD, state = layer(c, self.mesh, False, name=name)(
            x_BTD, runs, past and past[1][i])
        states.append(state)
      states = tuple(states)
    x_BTD, (k, v) = layer(c, self.mesh, True, name=last)(
        x_BTD, rotary, segment_BT, valid, past and past[0])
    return x_BTD, (k, v, states)


class Qwen35(nn.Module):
  """Token ids to final hidden states."""
  config: Qwen35Config
  mesh: jax.sharding.Mesh | None = None

  @nn.compact
  def __call__(self, tokens_BT, positions_BTA, segment_BT, cache=None,
               media=None, compact=False):
    """Runs the network over new tokens.

    Args:
      tokens_BT: int32 ids.
      positions_BTA: int32 positions on A = 3 axes.
      segment_BT: int32; tokens see only tokens of their own segment before
        them. 0 is padding and may stand anywhere, unless the rows are
        `compact`. With a cache there is one segment, 1.
      cache: `Cache` whose valid slots every token sees and whose state the
        first segment continues, or None.
      media: images and videos, or None.
      compact: whether padding stands behind the tokens of every row.

    Returns:
      (hidden_BTD after the last norm, in the compute type, with any finite
      values on padding; `NewKV`).

    Raises:
      ValueError: for positions on another number of axes, or for media without
        a vision tower.
    """
    c = self.config
    if positions_BTA.shape[-1] != NUM_AXES:
      raise ValueError(f'positions have {positions_BTA.shape[-1]} axes; the '
                       f'qwen3_5 family has {NUM_AXES}')
    if media is not None and c.vision is None:
      raise ValueError('this qwen3_5 model has no vision tower (config.vision '
                       'is None); this batch holds images or videos')
    # With deviation D^-1/2 a tied head starts with logits of deviation 1.
    embed = self.param('embed', nn.initializers.normal(c.width**-0.5),
                       (c.vocab_size, c.width))
    if not c.tied:
      self.param('head', layers.fan_in_init(1), (c.width, c.vocab_size))
    x = layers.look_up(self, embed, tokens_BT, DTYPES[c.dtype])
    if media is not None:
      merged_BJD, _ = vision.Tower(
          c.vision, c.dtype, c.remat, c.attention, self.mesh,
          layers.has_cut_weights(self), name='vision')(media)
      x = layers.pin_hidden(
          vision.place(x, tokens_BT, merged_BJD, c.vision.ids), self.mesh)
    order = place = None
    if not compact and segment_BT.shape[1] > 1:
      order, place = layers.compact(segment_BT)
    take = functools.partial(layers.take, mesh=self.mesh)
    x, positions_BTA = take(x, order), take(positions_BTA, order)
    segment_BT = take(segment_BT, order)

    frequency, amplitude = rope.frequencies(
        c, c.rotary_dim, layers.wide(x.dtype))
    rotary = layers.rotary_phases(
        positions_BTA, c.rotary_dim, c.rope_theta, x.dtype,
        layers.interleaved_axes(c.rotary_dim // 2, c.rope_sections),
        frequency=frequency, amplitude=amplitude)
    runs = gated_delta.runs(segment_BT)
    past, valid = cached.by_layer(cache)
    # Without a remat, what the backward pass keeps of a layer would be copied
    # twice: into the stack of its block, and into the stack of all blocks.
    scanned = (c.remat != 'none' and c.period > 2
               and self.has_variable('params', 'blocks'))
    if isinstance(past, list):
      past = list(zip(past, cache.state, strict=True))
    elif past is not None:
      past = past, jax.tree.map(
          lambda s: s.reshape(c.num_blocks, -1, *s.shape[1:]), cache.state)
      if not scanned:
        past = past[0], tuple(
            jax.tree.map(lambda s: s[:, i], past[1])  # noqa: B023
            for i in range(c.period - 1))
    x, new = layers.over_blocks(
        self, Block, (c, self.mesh, scanned), c.num_blocks, x,
        (runs, rotary, segment_BT, valid), past, unroll=c.unroll)
    x = OffsetNorm(c.norm_eps, name='norm')(x)
    k, v, state = layers.columns(new)
    back = lambda x: take(x, place)
    if isinstance(new, list):
      k, v = jax.tree.map(back, (k, v))
    else:
      k, v = jax.vmap(back)(k), jax.vmap(back)(v)
      flat = lambda s: s.reshape(-1, *s.shape[2:])
      state = jax.tree.map(flat, state) if scanned else jax.tree.map(
          lambda *s: flat(jnp.stack(s, 1)), *state)
    return layers.pin_hidden(back(x), self.mesh), NewKV(k, v, state)
