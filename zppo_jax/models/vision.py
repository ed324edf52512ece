"""The vision tower of Qwen3-VL and Qwen3.5: patches to rows of embeddings.

Every frame is a segment of its own. The host (chat/images.py) passes positions
as arrays, so that one graph serves images and videos of any size.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from zppo_jax import allowed
from zppo_jax.arrays import Media
from zppo_jax.models import attention, layers
from zppo_jax.models.decoder import DTYPES, REMAT
from zppo_jax.objectives import rounding

_EPS = 1e-6  # the epsilon of every LayerNorm; no config names it


@dataclasses.dataclass(frozen=True)
class VisionConfig:
  """The shapes of a tower, and the ids that stand for its output in a prompt.

  Attributes:
    depth: the number of layers.
    width: residual width.
    num_heads: heads; width / num_heads is a multiple of 4.
    mlp_width: hidden width of a layer's MLP.
    out_width: width of the decoder.
    patch_size, temporal_patch, channels: a patch's pixels (C in all).
    merge: merge x merge patches become one row.
    num_positions: rows of the learned position table, a square.
    taps: layers whose features go to the decoder's first layers (DeepStack,
      Meng et al. 2024), or ().
    image_id, video_id: the placeholder tokens.
    start_id, end_id: the tokens around them.
    rope_theta: rotary base.
  """
  depth: int
  width: int
  num_heads: int
  mlp_width: int
  out_width: int
  patch_size: int
  temporal_patch: int
  channels: int
  merge: int
  num_positions: int
  image_id: int
  video_id: int
  start_id: int
  end_id: int
  taps: tuple[int, ...] = ()
  rope_theta: float = 10000.0

  def __post_init__(self):
    object.__setattr__(self, 'taps', tuple(self.taps))
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.type is int and not field.name.endswith('_id'):
        allowed.number(f'vision.{field.name}', value, '>= 1')
    if self.width % (4 * self.num_heads):
      raise ValueError(f'vision.width is {self.width}; it must be a multiple '
                       f'of 4 * num_heads, {4 * self.num_heads}')
    if self.side**2 != self.num_positions:
      raise ValueError(f'vision.num_positions is {self.num_positions}; it '
                       'must be a square')
    if list(self.taps) != sorted(set(self.taps)) or any(
        not 0 <= tap < self.depth for tap in self.taps):
      raise ValueError(f'vision.taps is {self.taps}; allowed: layers in '
                       f'ascending order, 0 to {self.depth - 1}')

  @property
  def side(self) -> int:
    """Rows (and columns) of the learned position table."""
    return round(self.num_positions**0.5)

  @property
  def patch_values(self) -> int:
    """C."""
    return self.channels * self.temporal_patch * self.patch_size**2

  @property
  def ids(self) -> tuple[int, int]:
    return self.image_id, self.video_id


def as_config(vision) -> VisionConfig | None:
  """A VisionConfig from itself, None, or its fields (a JSON description).

  Raises:
    ValueError: for fields that are missing or unknown.
  """
  if not isinstance(vision, dict):
    return vision
  try:
    return VisionConfig(**vision)
  except TypeError as e:
    raise ValueError(f'vision is {vision}: {e}') from e


def check_fits(vision: VisionConfig | None, width: int) -> None:
  """ValueError unless a tower's rows have the decoder's width."""
  if vision is not None and vision.out_width != width:
    raise ValueError(f'vision.out_width is {vision.out_width}; it must be '
                     f'width, {width}')


def _rows(tokens_BT, merged_BJD, ids):
  """(a merged patch for each token, whether the token is a placeholder). The
  k-th placeholder of a row takes the k-th merged patch."""
  visual_BT = (tokens_BT == ids[0]) | (tokens_BT == ids[1])
  index_BT = jnp.clip(jnp.cumsum(visual_BT, axis=1) - 1, 0,
                      merged_BJD.shape[1] - 1)
  rows_BTD = jnp.take_along_axis(merged_BJD, index_BT[..., None], axis=1)
  return rows_BTD, visual_BT[..., None]


def place(embeds_BTD, tokens_BT, merged_BJD, ids):
  """Embeddings with merged patches at the placeholders.

  Args:
    embeds_BTD: embeddings of the tokens.
    tokens_BT: int32 ids.
    merged_BJD: the tower's rows.
    ids: placeholder ids, (image, video).
  """
  rows_BTD, visual = _rows(tokens_BT, merged_BJD, ids)
  return jnp.where(visual, rows_BTD.astype(embeds_BTD.dtype), embeds_BTD)


def add(hidden_BTD, tokens_BT, merged_BJD, ids):
  """Hidden states with merged patches added at the placeholders (DeepStack);
  arguments are as in `place`."""
  rows_BTD, visual = _rows(tokens_BT, merged_BJD, ids)
  return layers.add(
      hidden_BTD, jnp.where(visual, rows_BTD, 0).astype(hidden_BTD.dtype))


def phases(rotary_BI2, head_dim: int, theta: float, dtype):
  """cos and sin, [B, I, head_dim / 2]. Half of the pairs turn with a patch's
  row and half with its column; both start at the highest frequency."""
  quarter = head_dim // 4
  exponent = jnp.arange(quarter, dtype=layers.wide(dtype)) / quarter
  angles = rotary_BI2[..., None].astype(
      layers.wide(dtype)) / jax.lax.broadcast_to_rank(theta**exponent, 4)
  angles = angles.reshape(*rotary_BI2.shape[:2], 2 * quarter)
  return jnp.cos(angles), jnp.sin(angles)


class LayerNorm(nn.Module):
  """(x - mean) / deviation * scale + bias, at least in float32."""

  @nn.compact
  def __call__(self, x):
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],))
    bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],))
    y = x.astype(layers.wide(x.dtype))
    y = y - jnp.mean(y, axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + _EPS)
    scale, bias = (jax.lax.broadcast_to_rank(w, y.ndim) for w in (scale, bias))
    return rounding.rounded(y * scale + bias, x.dtype)


def _affine(module, name: str, x, shape, num_in: int = 1, whole=None):
  """x W + b with parameters `name` and `name`_bias of a module; `whole`
  gathers W."""
  w = module.param(name, layers.fan_in_init(num_in), shape)
  w = w if whole is None else whole(name, w)
  b = module.param(f'{name}_bias', nn.initializers.zeros, shape[num_in:])
  y = layers.project(x, w, num_in)
  return layers.add(y, jax.lax.broadcast_to_rank(
      layers.narrowed(b, x.dtype), y.ndim))


class Attention(nn.Module):
  """Self-attention inside frames, with a 2-D rotary embedding."""
  num_heads: int
  asked: str
  mesh: jax.sharding.Mesh | None

  @nn.compact
  def __call__(self, x_BID, rotary, segment_BI):
    D, N = x_BID.shape[-1], self.num_heads
    qkv = _affine(self, 'qkv', x_BID, (D, 3, N, D // N))
    q, k, v = (qkv[:, :, i] for i in range(3))
    out = attention.among(
        layers.rotate(q, *rotary), layers.rotate(k, *rotary), v, segment_BI,
        asked=self.asked, mesh=self.mesh, causal=False)
    return _affine(self, 'o', out, (N, D // N, D), 2)


_GELU = {approximate: rounding.once(functools.partial(
    jax.nn.gelu, approximate=approximate)) for approximate in (True, False)}


class Mlp(nn.Module):
  """gelu(x W_up + b) W_down + b, in the given form of `gelu`."""
  width: int
  out_width: int
  approximate: bool

  @nn.compact
  def __call__(self, x):
    hidden = _affine(self, 'up', x, (x.shape[-1], self.width))
    hidden = _GELU[self.approximate](hidden)
    return _affine(self, 'down', hidden, (self.width, self.out_width))


class Block(nn.Module):
  """A layer of the tower."""
  config: VisionConfig
  asked: str
  mesh: jax.sharding.Mesh | None

  @nn.compact
  def __call__(self, x_BID, rotary, segment_BI):
    c = self.config
    x_BID = layers.add(x_BID, Attention(
        c.num_heads, self.asked, self.mesh, name='attention')(
        LayerNorm(name='attention_norm')(x_BID), rotary, segment_BI))
    x_BID = layers.pin_hidden(x_BID, self.mesh)
    x_BID = layers.add(x_BID, Mlp(c.mlp_width, c.width, True, name='mlp')(
        LayerNorm(name='mlp_norm')(x_BID)))
    return layers.pin_hidden(x_BID, self.mesh)


class _Layer(nn.Module):
  """A block that also keeps its output if it is a tap. The taps are passed
  outside of the recomputed block, so that no layer stores them again."""
  config: VisionConfig
  dtype: str
  remat: str
  asked: str
  mesh: jax.sharding.Mesh | None
  cut: bool

  @nn.compact
  def __call__(self, carry, layer, rotary, segment_BI):
    x_BID, taps = carry
    block = layers.with_whole_weights(
        Block, self.mesh, DTYPES[self.dtype], self.cut)
    if self.remat != 'none':
      block = nn.remat(block, policy=REMAT[self.remat], prevent_cse=False)
    x_BID = block(self.config, self.asked, self.mesh, name='block')(
        x_BID, rotary, segment_BI)
    taps = tuple(jnp.where(layer == at, x_BID, tap) for at, tap in zip(
        self.config.taps, taps, strict=True))
    return (x_BID, taps), None


class Merger(nn.Module):
  """Joins merge x merge patches to one row of the decoder's width.

  If `norm_merged`, the joined patches are normalised (DeepStack); otherwise
  each patch is normalised on its own.
  """
  config: VisionConfig
  norm_merged: bool

  @nn.compact
  def __call__(self, x_BID):
    c = self.config
    B, _, D = x_BID.shape
    width = D * c.merge**2
    join = lambda x: x.reshape(B, -1, width)
    norm = LayerNorm(name='norm')
    x = norm(join(x_BID)) if self.norm_merged else join(norm(x_BID))
    return Mlp(width, c.out_width, False, name='mlp')(x)


class Tower(nn.Module):
  """Patches to merged rows."""
  config: VisionConfig
  dtype: str
  remat: str
  attention: str = 'auto'
  mesh: jax.sharding.Mesh | None = None
  cut: bool = False  # see layers.has_cut_weights

  @nn.compact
  def __call__(self, media: Media):
    """Runs the tower.

    Returns:
      (merged_BJD, taps: tuple of merged_BJD), J = I / merge^2, in the compute
      type; both are 0 on padding.
    """
    c = self.config
    segment_BI = media.segment_BI
    whole = functools.partial(
        layers.whole_leaf, mesh=self.mesh, dtype=DTYPES[self.dtype],
        cut=self.cut)
    x = layers.pin_hidden(_affine(
        self, 'patch', media.patches_BIC.astype(DTYPES[self.dtype]),
        (c.patch_values, c.width), whole=whole), self.mesh)
    table = self.param('positions', nn.initializers.normal(c.width**-0.5),
                       (c.num_positions, c.width))
    # Rounded where it is read, as is every matrix, and then summed in float32.
    table = layers.narrowed(whole('positions', table), x.dtype)
    corners = [table[media.corners_BI4[..., i]]
               * media.weights_BI4[..., i, None] for i in range(4)]
    x = layers.pin_hidden(layers.add(
        x, rounding.rounded(sum(corners), x.dtype)), self.mesh)
    rotary = phases(media.rotary_BI2, c.width // c.num_heads, c.rope_theta,
                    x.dtype)
    scan = nn.scan(
        _Layer, variable_axes={'params': 0}, split_rngs={'params': True},
        in_axes=(0, nn.broadcast, nn.broadcast), length=c.depth)
    (x, taps), _ = scan(
        c, self.dtype, self.remat, self.attention, self.mesh, self.cut,
        name='blocks')(
        (x, (x,) * len(c.taps)), jnp.arange(c.depth), rotary, segment_BI)
    real = segment_BI[:, ::c.merge**2, None] > 0
    keep = lambda rows: layers.pin_hidden(
        jnp.where(real, rows, 0), self.mesh)
    merger = layers.with_whole_weights(
        Merger, self.mesh, DTYPES[self.dtype], self.cut)
    merged = keep(merger(c, False, name='merger')(x))
    if not c.taps:
      return merged, ()
    stacked = nn.vmap(
        merger, variable_axes={'params': 0}, split_rngs={'params': True})(
            c, True, name='taps')(jnp.stack(taps))
    return merged, tuple(keep(rows) for rows in stacked)


def dummy_media(c: VisionConfig) -> Media:
  """One merged patch of padding, with which `init` calls the tower."""
  num = c.merge**2
  whole = lambda *size: jnp.zeros((1, num, *size), jnp.int32)
  return Media(jnp.zeros((1, num, c.patch_values)), whole(2), whole(),
               whole(4), jnp.zeros((1, num, 4)))
