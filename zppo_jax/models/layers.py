"""Layers that the decoder families share: functions of arrays, no state."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from zppo_jax import allowed
from zppo_jax.devices import sharding
from zppo_jax.models import lora
from zppo_jax.objectives.rounding import (
  is_narrow,
  mean_square,
  once,
  product,
  rounded,
  summed,
  wide,
)

# The name by which remat policies know narrow products: each holds two
# programs, by platform, and is no product to them.
PRODUCT = 'product'
NUM_AXES = 3  # axes of a position in models with images: time, height, width
_MASKED = -1e30  # finite, because a padding row has no key and must not be NaN


def fan_in_init(axis_count: int):
  """Truncated normal with variance 1 / (product of the first axes)."""
  def init(key, shape, dtype=jnp.float32):
    fan_in = 1
    for size in shape[:axis_count]:
      fan_in *= size
    return jax.random.truncated_normal(key, -2, 2, shape, dtype) * (
        fan_in**-0.5 / 0.8796)  # 0.8796: deviation of the truncated normal
  return init


def weight(w, x):
  """A weight (an array or a quantize.Int8) in the type of its other factor x.

  A weight in fewer bits is widened at this place in the program and tied to x,
  because otherwise a decoding loop would widen all weights before it starts and
  keep them.
  """
  if w.dtype.itemsize < x.dtype.itemsize:
    w, _ = jax.lax.optimization_barrier((w, x))
  return narrowed(w, x.dtype)


def narrowed(w, dtype):
  """Params, or rows of them, in the compute type. A rollout copy holds weights
  that were rounded to this type before; the trainer's float32 weights are
  rounded here."""
  if w.dtype.itemsize <= jnp.dtype(dtype).itemsize:
    return w.astype(dtype)
  return rounded(w, dtype)


def _whole(variables, mesh, dtype):
  """The params of a block with their widths gathered. A matrix is rounded to
  the compute type first, because it is used in that type and then half as many
  bytes are moved."""
  cut, whole = (sharding.param_shardings(variables, mesh, rules) for rules in (
      sharding.TRAIN_RULES, sharding.ROLLOUT_RULES))
  def gather(w, cut, whole):
    if cut == whole:
      return w
    return sharding.regathered(narrowed(w, dtype), cut, whole)

  return jax.tree.map(gather, variables, cut, whole)


def has_cut_weights(module) -> bool:
  """Whether a module runs with weights whose widths are cut over devices.

  These are the trainer's, which are stacked (`over_blocks`), on a mesh with an
  fsdp axis. A rollout copy has an entry per block and whole widths.
  """
  stacked = module.has_variable('params', 'blocks') or 'blocks' in module.path
  return (stacked and not module.is_initializing()
          and module.mesh is not None and module.mesh.shape['fsdp'] > 1)


def with_whole_weights(block, mesh, dtype, cut: bool):
  """A module class whose weights are gathered when it begins, forward and
  backward, if they are `cut` (`has_cut_weights`); else the class itself.

  A remat goes around it, so that no gathered weight is kept for the backward
  pass.
  """
  if not cut:
    return block
  return nn.map_variables(block, 'params', functools.partial(
      _whole, mesh=mesh, dtype=dtype))


def whole_leaf(name: str, w, mesh, dtype, cut: bool):
  """One weight, gathered likewise where it is not that of a block."""
  return _whole({name: w}, mesh, dtype)[name] if cut else w


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _looked_up(embed_VD, tokens_BT, dtype, mesh):
  cut, whole = _embed_shardings(mesh)
  hold = jax.lax.with_sharding_constraint
  return hold(hold(narrowed(embed_VD, dtype), cut), whole)[tokens_BT]


def _embed_shardings(mesh):
  return tuple(jax.NamedSharding(mesh, jax.P(*(
      rules[axis] for axis in sharding.PARAM_AXES['embed'])))
      for rules in (sharding.TRAIN_RULES, sharding.ROLLOUT_RULES))


def _looked_up_back(dtype, mesh, kept, grad_BTD):
  """The gradient of the table, summed in the table's type.

  Devices swap the gradients of their tokens, so that each has its columns of
  all of them and sums its own part of the table. A whole table on each device,
  summed over the devices, would be many times as large. Along `data`, where
  parameters are whole, each device sums its own rows first.
  """
  like_VD, tokens_BT = kept
  cut, _ = _embed_shardings(mesh)
  copies = mesh.shape['data']
  copies = 1 if len(tokens_BT) % copies else copies
  rows = 'data' if copies > 1 else None
  width = sharding.TRAIN_RULES['width']
  grad_BTD = sharding.pin(grad_BTD, mesh, rows, None, width)
  split = lambda x, *axes: sharding.pin(
      x.reshape(copies, -1, *x.shape[1:]), mesh, rows, None, *axes)

  def summed(zeros, tokens, grads):
    # Row by row: the TPU compiler takes three times as long for all at once.
    return jax.lax.scan(lambda total, row: (
        total.at[row[0]].add(row[1].astype(total.dtype)), None),
        zeros, (tokens, grads))[0]

  sums = jax.vmap(summed)(
      sharding.pin(jnp.zeros((copies, *like_VD.shape), like_VD.dtype), mesh,
                   rows, 'tensor', width),
      split(tokens_BT, None), split(grad_BTD, None, width))
  return jax.lax.with_sharding_constraint(sums.sum(axis=0), cut), None


_looked_up.defvjp(
    lambda embed_VD, tokens_BT, dtype, mesh: (
        _looked_up(embed_VD, tokens_BT, dtype, mesh), (embed_VD, tokens_BT)),
    _looked_up_back)


def look_up(module, embed_VD, tokens_BT, dtype):
  """Embeddings of tokens in the compute type, [B, T, D].

  A table whose width is cut is gathered first, because otherwise every device
  would look up its columns for the whole batch and exchange them.
  """
  tokens_BT = sharding.pin_rows(tokens_BT, module.mesh)
  if has_cut_weights(module):
    x_BTD = _looked_up(embed_VD, tokens_BT, jnp.dtype(dtype), module.mesh)
  else:
    x_BTD = narrowed(embed_VD[tokens_BT], dtype)
  return pin_hidden(x_BTD, module.mesh)


def pin_hidden(x_BTD, mesh):
  """Hidden states between blocks: rows are cut over the batch axes, and a
  token's width is whole on its device."""
  return sharding.pin(x_BTD, mesh, sharding.BATCH_AXES, None, None)


def add(x, y):
  """x + y in the type of x, rounded once."""
  return rounded(x + y)


def project(x, w, num_in: int = 1):
  """Contracts the last `num_in` axes of x with the first of w.

  It is one two-dimensional product, because on CPUs the weight gradient of a
  contraction over (B, T) is otherwise up to three times slower.

  Args:
    x: [..., in...].
    w: [in..., out...], an array, a quantize.Int8 or a lora.Adapted.
    num_in: the number of input axes.
  """
  if lora.is_adapted(w):
    low = project(x, w.lora_a, num_in)
    return add(project(x, w.base, num_in),
               rounded(w.scale * project(low, w.lora_b)))
  lead, out = x.shape[:x.ndim - num_in], w.shape[num_in:]
  size = math.prod(w.shape[:num_in])
  y = product(x.reshape(-1, size), weight(w, x).reshape(size, -1))
  if is_narrow(y):
    y = checkpoint_name(y, PRODUCT)
  return y.reshape(*lead, *out)


def over_blocks(module, block, fields, num: int, x_BTD, shared, past, *,
                unroll: int):
  """Runs a module's blocks in order; called inside its compact method.

  Params are either stacked under 'blocks' and scanned, or `unstack` has given
  them one entry per block and the blocks run one by one. A scan compiles once
  for all blocks, but it copies the params and the cache of each block before
  use, which is too slow for a decoding step.

  Args:
    module: the network.
    block: the module class; called with (x_BTD, *shared, past of the block).
    fields: the fields of `block`.
    num: the number of blocks.
    x_BTD: the hidden states that enter the first block.
    shared: arguments that all blocks get.
    past: a pytree of [num, ...] leaves; if params are by block, also a list of
      `num` pytrees; None without a cache.
    unroll: blocks per iteration of the scan. If one iteration holds all blocks,
      there is no loop: nothing is copied into it, and nothing is stacked for
      the backward pass.

  Returns:
    (x_BTD, what each block returns besides it: stacked, or a list over blocks).

  Raises:
    ValueError: if params are stacked and `past` is a list.
  """
  if module.has_variable('params', 'blocks_0'):
    out = []
    for i in range(num):
      mine = past[i] if isinstance(past, list) else jax.tree.map(
          lambda x: x[i], past)  # noqa: B023
      x_BTD, new = block(*fields, name=f'blocks_{i}')(x_BTD, *shared, mine)
      out.append(new)
    return x_BTD, out
  if isinstance(past, list):
    raise ValueError('this cache is by layer, these params are stacked; '
                     'layers.unstack the params')
  scan = nn.scan(
      block, variable_axes={'params': 0}, split_rngs={'params': True},
      in_axes=(*[nn.broadcast] * len(shared), 0), length=num,
      unroll=min(unroll, num))
  return scan(*fields, name='blocks')(x_BTD, *shared, past)


def over_layers(module, layer, names, x_BTD, shared, past):
  """Runs equal layers of a block in order, in a scan; called inside its compact
  method, once the block has params.

  The program then holds one body, and a compiler takes its time once. The
  layers keep params of their own, which are stacked here, so that a copy of one
  block's params exists at a time.

  Args:
    module: the block.
    layer: a module without a parent whose params each name holds; called with
      (x_BTD, *shared, past of the layer).
    names: the names under which the block has the layers' params.
    x_BTD: the hidden states that enter the first layer.
    shared: arguments that all layers get.
    past: None, or a pytree whose leaves have a first axis over the layers.

  Returns:
    (x_BTD, what each layer returns besides it, stacked).
  """
  params = jax.tree.map(
      lambda *leaves: jnp.stack(leaves),
      *[module.get_variable('params', name) for name in names])

  def one(x_BTD, own):
    params, past = own
    return layer.apply({'params': params}, x_BTD, *shared, past)

  return jax.lax.scan(one, x_BTD, (params, past), length=len(names))


def columns(left):
  """What over_blocks returns, part by part: a list of tuples becomes a tuple of
  tuples over blocks; stacked results have this form already."""
  return tuple(zip(*left, strict=True)) if isinstance(left, list) else left


def unstack(params):
  """Params with one entry per block instead of the stacked 'blocks'."""
  if 'blocks' not in params:
    return params
  num = jax.tree.leaves(params['blocks'])[0].shape[0]
  rest = {name: x for name, x in params.items() if name != 'blocks'}
  return rest | {f'blocks_{i}': jax.tree.map(lambda x: x[i], params['blocks'])  # noqa: B023
                 for i in range(num)}


def compact(segment_BT):
  """(order_BT, place_BT): gathering by `order` puts a row's real tokens first,
  in their order; gathering by `place` puts them back."""
  order_BT = jnp.argsort(segment_BT == 0, axis=1, stable=True)
  return order_BT, jnp.argsort(order_BT, axis=1)


def take(x, at_BT, mesh):
  """x [B, T, ...] with the tokens of each row in the order `at_BT`; x itself
  for None."""
  if at_BT is None:
    return x
  hold = functools.partial(sharding.pin_rows, mesh=mesh)
  at = hold(at_BT).reshape(*at_BT.shape, *(1,) * (x.ndim - 2))
  return hold(jnp.take_along_axis(hold(x), at, axis=1))


def interleaved_axes(num_pairs: int, sections) -> np.ndarray:
  """The rotary axis of each pair of dimensions, interleaved (Qwen3-VL).

  Pairs take the axes t, h, w, t, h, w, ... while `sections` = (t, h, w) pairs
  last. Once height or width is used up, its pairs take the time axis.

  Raises:
    ValueError: if the sections do not add up to `num_pairs`.
  """
  if sum(sections) != num_pairs:
    raise ValueError(f'rotary sections {tuple(sections)} sum to '
                     f'{sum(sections)}; there are {num_pairs} pairs')
  axes = np.zeros(num_pairs, np.int32)
  for axis in (1, 2):
    axes[axis:3 * sections[axis]:3] = axis
  return axes


def llama3_scale(rotary_dim: int, theta: float, factor: float, low: float,
                 high: float, original: float) -> np.ndarray:
  """The factor by which Llama 3.1 multiplies the frequency of each rotary pair.

  A pair that turns more than `high` times in `original` positions keeps its
  frequency. A pair that turns less than `low` times has its frequency divided
  by `factor`. In between, the frequency is a linear blend of the two.
  """
  frequency = theta**-(np.arange(0, rotary_dim, 2) / rotary_dim)
  turns = original * frequency / (2 * np.pi)
  kept = np.clip((turns - low) / (high - low), 0, 1)
  return kept + (1 - kept) / factor


def rotary_phases(positions_BTA, rotary_dim: int, theta: float, dtype,
                  axes=None, scale=None, frequency=None, amplitude=1.0):
  """cos and sin, [B, T, rotary_dim / 2], at least float32.

  Args:
    positions_BTA: positions on A axes.
    rotary_dim: the number of dimensions that are turned, even.
    theta: base.
    dtype: compute type; phases are float32 or wider whatever it is.
    axes: the axis of each pair (`interleaved_axes`); None takes the first.
    scale: factor on each pair's frequency (`llama3_scale`); None is 1.
    frequency: the angle per position of each pair (rope.frequencies); if given,
      it replaces `theta` and `scale`.
    amplitude: factor on cos and sin.
  """
  exponent = jnp.arange(0, rotary_dim, 2, dtype=wide(dtype)) / rotary_dim
  of_pairs = lambda x: jax.lax.broadcast_to_rank(x, 3)
  axes = np.zeros(rotary_dim // 2, np.int32) if axes is None else axes
  positions = positions_BTA[..., axes].astype(wide(dtype))
  if frequency is not None:
    angles = positions * of_pairs(frequency.astype(wide(dtype)))
  else:
    angles = positions / of_pairs(theta**exponent)
  if scale is not None:
    angles = angles * of_pairs(scale.astype(wide(dtype)))
  if amplitude != 1:
    return jnp.cos(angles) * amplitude, jnp.sin(angles) * amplitude
  return jnp.cos(angles), jnp.sin(angles)


def rotate(x_BTNH, cos, sin):
  """Rotary position embedding, halves convention (Su et al. 2021).

  It turns the first 2 * cos.shape[-1] dimensions; the rest pass unchanged.
  """
  half = cos.shape[-1]
  x = x_BTNH.astype(wide(x_BTNH.dtype))
  first, second, rest = jnp.split(x, [half, 2 * half], axis=-1)
  cos, sin = cos[:, :, None], sin[:, :, None]
  out = jnp.concatenate(
      [first * cos - second * sin, second * cos + first * sin, rest], axis=-1)
  return rounded(out, x_BTNH.dtype)


def attend(q_BTNH, sources):
  """Grouped-query attention over several key sources in one softmax.

  Scores and softmax are at least float32. For a narrow type, exp(score - top)
  is rounded, and the sum is divided by their total at the end, because a weight
  that is divided first differs with the order of the total.

  Sources are kept apart, so that a cache is read in place and not copied
  together with the new keys. All products are batched matrix products over rows
  and key heads with operands transposed for them, because contractions over the
  axes in their stored order take two and a half times as long on a CPU,
  backward pass included.

  Args:
    q_BTNH: queries; N is a multiple of K.
    sources: list of (k_BSKH, v_BSKH, mask_BTS); True where position t may
      read slot s.

  Returns:
    [B, T, N, H] in the type of the queries.
  """
  B, T, N, H = q_BTNH.shape
  K = sources[0][0].shape[2]
  G, dtype = N // K, q_BTNH.dtype
  q = q_BTNH.reshape(B, T, K, G, H).transpose(0, 2, 3, 1, 4)
  q = q.reshape(B, K, G * T, H)
  scores = []
  for k_BSKH, _, mask_BTS in sources:
    k = k_BSKH.astype(dtype).transpose(0, 2, 3, 1)
    s = jnp.matmul(q, k, preferred_element_type=wide(dtype)) * H**-0.5
    s = s.reshape(B, K, G, T, -1)
    scores.append(jnp.where(mask_BTS[:, None, None], s, _MASKED))
  scores, total = jnp.concatenate(scores, axis=-1), None
  if is_narrow(q):
    top = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    weights = jnp.exp(scores - top)
    total = weights.sum(axis=-1, keepdims=True).reshape(B, K, G * T, 1)
    weights, multiply = rounded(weights, dtype), summed
  else:
    weights, multiply = jax.nn.softmax(scores, axis=-1), jnp.matmul
  weights = weights.reshape(B, K, G * T, -1)
  out, start = 0, 0
  for _, v_BSKH, mask_BTS in sources:
    stop = start + mask_BTS.shape[-1]
    v = v_BSKH.astype(dtype).transpose(0, 2, 1, 3)
    out += multiply(weights[..., start:stop], v)
    start = stop
  if total is not None:
    out /= total
  out = rounded(out, dtype).reshape(B, K, G, T, H).transpose(0, 3, 1, 2, 4)
  return out.reshape(B, T, N, H)


class RMSNorm(nn.Module):
  """x / rms(x) * scale, at least in float32 (Zhang and Sennrich 2019)."""
  eps: float

  @nn.compact
  def __call__(self, x):
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],))
    y = x.astype(wide(x.dtype))
    return rounded(y * jax.lax.rsqrt(mean_square(x) + self.eps)
                   * jax.lax.broadcast_to_rank(scale, y.ndim), x.dtype)


def check_unroll(unroll: int, remat: str) -> None:
  """ValueError for a number below 1, or for unroll above 1 with a remat.

  If no loop is left, the compiler reuses the values of the forward pass where
  remat asks it to recompute them.
  """
  allowed.number('unroll', unroll, '>= 1')
  if unroll > 1 and remat != 'none':
    raise ValueError(f'unroll is {unroll} and remat {remat!r}; blocks that '
                     "are written out are not recomputed: remat must be 'none' "
                     'or unroll 1')


@jax.custom_vjp
def gated(gate, up):
  """silu(gate) * up. The backward pass keeps these two and recomputes the rest,
  because what differentiation would keep besides them costs more to store."""
  to = wide(gate.dtype)
  return rounded(jax.nn.silu(gate.astype(to)) * up.astype(to), gate.dtype)


def _gated(gate, up):
  return gated(gate, up), (gate, up)


def _gated_back(kept, grad):
  gate, up = kept
  sigmoid = jax.nn.sigmoid(gate)
  return (grad * up * sigmoid * (1 + gate * (1 - sigmoid)),
          grad * gate * sigmoid)


gated.defvjp(_gated, _gated_back)


silu = once(jax.nn.silu)


class SwiGLU(nn.Module):
  """silu(x W_gate) * (x W_up) W_down (Shazeer 2020)."""
  width: int

  @nn.compact
  def __call__(self, x_BTD):
    D, F = x_BTD.shape[-1], self.width
    gate = self.param('gate', fan_in_init(1), (D, F))
    up = self.param('up', fan_in_init(1), (D, F))
    down = self.param('down', fan_in_init(1), (F, D))
    hidden = gated(project(x_BTD, gate), project(x_BTD, up))
    return project(hidden, down)
