"""Attention: which tokens see which, and the table of kernels.

A token sees the tokens of its own segment, itself included; causal attention
shows it only those up to itself. Segment 0 is padding: no token sees it, and
the output on it is finite and without meaning.

`choose` picks a row of KERNELS for the tokens of whole rows; a [B, T, T] mask
exists only if the kernel needs one. New tokens behind a cache use the same
kernels, and the slots of the cache become the first tokens of their rows. A
single token reads the cache in place, by `cache.attend`, in XLA everywhere.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import NamedSharding, PartitionSpec

from zppo_jax.devices import sharding
from zppo_jax.models import cache, layers, lora

OUTPUT = 'attention'  # the name by which remat policies know the outputs
_QUERIES = 256  # queries whose scores exist at a time
_PARTS = 8  # parts of a causal sequence; each reads the keys up to its own end
_SPLASH_MULTIPLE = 128  # positions
_MASKED = -1e30  # finite, because a padding row has no key and must not be NaN


# ---- kernels: (q_BTNH, k_BTKH, v_BTKH, segment_BT, *, causal) -> [B, T, N, H]


def xla(q_BTNH, k_BSKH, v_BSKH, segment_BS, *, causal: bool):
  """Plain XLA for any shape and type; scores and softmax at least float32.

  There may be fewer queries than keys: they are the last T of S tokens.

  Long sequences are computed some queries at a time and recomputed in the
  backward pass, so that memory grows with T, not T^2. Causal sequences are
  computed in parts that read no key after their own end, which saves almost
  half of the products.
  """
  T, S = q_BTNH.shape[1], segment_BS.shape[1]
  before = S - T
  segment_BT, at_T = segment_BS[:, before:], before + jnp.arange(T)
  if T <= _QUERIES:
    return _some(q_BTNH, segment_BT, at_T, k_BSKH, v_BSKH, segment_BS, causal)
  parts = min(_PARTS, -(-T // _QUERIES)) if causal else 1
  size = -(-T // (parts * _QUERIES)) * _QUERIES
  out = []
  for start in range(0, T, size):
    stop = before + start + size if causal else S
    out.append(_chunks(
        q_BTNH[:, start:start + size], segment_BT[:, start:start + size],
        at_T[start:start + size], k_BSKH[:, :stop], v_BSKH[:, :stop],
        segment_BS[:, :stop], causal))
  return jnp.concatenate(out, axis=1)


def _some(q_BCNH, segment_BC, at_C, k_BSKH, v_BSKH, segment_BS, causal):
  seen = (segment_BC[:, :, None] == segment_BS[:, None]) & (
      segment_BS > 0)[:, None]
  if causal:
    seen &= (at_C[:, None] >= jnp.arange(segment_BS.shape[1])[None])[None]
  return layers.attend(q_BCNH, [(k_BSKH, v_BSKH, seen)])


def _chunks(q_BTNH, segment_BT, at_T, k_BSKH, v_BSKH, segment_BS, causal):
  """`_some` for _QUERIES queries at a time."""
  B, T, N, H = q_BTNH.shape
  some = jax.checkpoint(
      lambda q, segment, at: _some(q, segment, at, k_BSKH, v_BSKH, segment_BS,
                                   causal), prevent_cse=False)
  if T <= _QUERIES:
    return some(q_BTNH, segment_BT, at_T)
  more = -T % _QUERIES
  cut = lambda x: jnp.moveaxis(
      jnp.pad(x, ((0, 0), (0, more), *[(0, 0)] * (x.ndim - 2))).reshape(
          x.shape[0], -1, _QUERIES, *x.shape[2:]), 1, 0)
  out = jax.lax.map(lambda x: some(x[0], x[1], x[2][0]),
                    (cut(q_BTNH), cut(segment_BT), cut(at_T[None])))
  return jnp.moveaxis(out, 0, 1).reshape(B, T + more, N, H)[:, :T]


def splash(q_BTNH, k_BSKH, v_BSKH, segment_BS, *, causal: bool,
           interpret: bool = False):
  """JAX's splash attention for TPUs; T and S are multiples of 128.

  There may be fewer queries than keys, as in `xla`. Padding sees padding here,
  because every row must have a key.

  Args:
    interpret: run the kernel's program in XLA; for tests.
  """
  from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel as kernel,
    splash_attention_mask as masks,
  )
  _, T, N, H = q_BTNH.shape
  S = segment_BS.shape[1]
  block, block_kv = (next(size for size in (512, 256, 128) if n % size == 0)
                     for n in (T, S))
  mask = masks.CausalMask((T, S), offset=S - T) if causal else masks.FullMask(
      (T, S))
  run = kernel.make_splash_mha(
      masks.MultiHeadMask([mask] * N), head_shards=1, q_seq_shards=1,
      block_sizes=kernel.BlockSizes(
          block_q=block, block_kv=block_kv, block_q_dkv=block,
          block_kv_dkv=block_kv, block_q_dq=block, block_kv_dq=block_kv),
      residual_checkpoint_name=OUTPUT, interpret=interpret)
  heads = lambda x: jnp.swapaxes(x, 1, 2)
  out = jax.vmap(lambda q, k, v, segment: run(
      q, k, v, kernel.SegmentIds(segment[S - T:], segment)))(
          heads(q_BTNH * H**-0.5), heads(k_BSKH), heads(v_BSKH), segment_BS)
  return heads(out)


def cudnn(q_BTNH, k_BTKH, v_BTKH, segment_BT, *, causal: bool,
          implementation: str = 'cudnn'):
  """cuDNN's flash attention for GPUs; it takes 16-bit types and an even T.

  If every row is one segment with padding behind it, the lengths are enough. If
  any row is not (because it is packed, or padded in front), all rows take a
  mask of segments. The mask costs [B, T, T] values of the compute type, but no
  scores.

  Args:
    implementation: see jax.nn.dot_product_attention; 'xla' for tests.
  """
  T = q_BTNH.shape[1]
  real_BT = segment_BT > 0
  length_B = real_BT.sum(axis=1, dtype=jnp.int32)
  ends = jnp.arange(T)[None] < length_B[:, None]
  one_run = jnp.all(segment_BT == jnp.where(ends, segment_BT[:, :1], 0))
  run = functools.partial(jax.nn.dot_product_attention, is_causal=causal,
                          implementation=implementation)

  def by_length(q, k, v, segment_BT):
    del segment_BT
    length = jnp.maximum(length_B, 1)  # a padding row sees its first token
    return run(q, k, v, query_seq_lengths=length, key_value_seq_lengths=length)

  def by_mask(q, k, v, segment_BT):
    same = segment_BT[:, :, None] == segment_BT[:, None]
    return run(q, k, v, mask=same[:, None])

  out = jax.lax.cond(one_run, by_length, by_mask, q_BTNH, k_BTKH, v_BTKH,
                     segment_BT)
  return jnp.where(real_BT[..., None, None], out, 0)


KERNELS = {'xla': xla, 'splash': splash, 'cudnn': cudnn}
NAMES = ('auto', *KERNELS)
_BEST = {'tpu': 'splash', 'gpu': 'cudnn'}  # by platform; 'xla' on all others


# ---- the choice


class KernelChoice(NamedTuple):
  """A row of KERNELS, and why `choose` picked it."""
  kernel: str
  why: str


class AttentionShape(NamedTuple):
  """What the rules for kernels read: rows, positions, query and key heads, head
  dimension, compute type."""
  rows: int
  length: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  dtype: str


def heads_of(config, mesh) -> dict[str, tuple[int, int, int]]:
  """(query heads, key heads with their copies on the mesh, head dimension) of a
  model config's 'decoder', and of its 'vision' tower if it has one."""
  N, K = config.num_heads, config.num_kv_heads
  K *= sharding.kv_copies(N, K, mesh)
  out = {'decoder': (N, K, config.head_dim)}
  tower = getattr(config, 'vision', None)
  if tower is not None:
    out['vision'] = (tower.num_heads, tower.num_heads,
                     tower.width // tower.num_heads)
  return out


def copied(w_DKH, num_heads: int, mesh):
  """Key or value weights with as many heads as divide over tensor.

  Where there are fewer heads, copies of a head lie beside it, each on the
  device whose queries read it (sharding.kv_copies). The gradient of the weights
  is the sum over the copies.

  Args:
    w_DKH: an array, a quantize.Int8 or a lora.Adapted.
    num_heads: N, the query heads.
    mesh: the mesh on which the model runs, or None.
  """
  copies = sharding.kv_copies(num_heads, w_DKH.shape[1], mesh)
  if copies == 1:
    return w_DKH
  on_heads = NamedSharding(mesh, PartitionSpec(
      PartitionSpec.UNCONSTRAINED, 'tensor', None))
  copies_of = functools.partial(jax.tree.map, lambda x: (
      jax.lax.with_sharding_constraint(
          jnp.repeat(x, copies, axis=1), on_heads)))
  if lora.is_adapted(w_DKH):
    return w_DKH.on_output(copies_of)
  return copies_of(w_DKH)


def check(asked: str, mesh, config) -> None:
  """Refuses a kernel that cannot serve a model on a mesh at any length.

  Args:
    asked: one of NAMES.
    mesh: the mesh on which the model runs.
    config: the model's config, its tower included.

  Raises:
    ValueError: see `choose`; the message names the part of the model that does
      not fit.
  """
  for part, heads in heads_of(config, mesh).items():
    shape = AttentionShape(
        sharding.batch_shards(mesh), 128, *heads, config.dtype)
    try:
      choose(asked, mesh, shape)
    except ValueError as e:
      raise ValueError(f'{e} ({part})') from e


def _unfit(kernel: str, mesh, shape: AttentionShape) -> str:
  """What in a model and mesh the kernel cannot serve at any length, or ''."""
  device, tensor = mesh.devices.flat[0], mesh.shape['tensor']
  if shape.num_heads % tensor or shape.num_kv_heads % tensor:
    return (f'{shape.num_heads} and {shape.num_kv_heads} heads do not divide '
            f'over mesh.tensor = {tensor}')
  if kernel == 'splash':
    if device.platform != 'tpu':
      return f'the platform is {device.platform}; splash needs tpu'
    if shape.head_dim not in (64, 128, 256):
      return f'head_dim is {shape.head_dim}; splash has 64, 128, 256'
    if shape.dtype not in ('bfloat16', 'float32'):
      return f'dtype is {shape.dtype}; splash has bfloat16, float32'
  if kernel == 'cudnn':
    if device.platform != 'gpu':
      return f'the platform is {device.platform}; cudnn needs gpu'
    most = 256 if float(device.compute_capability) >= 9 else 128
    if shape.head_dim > most or shape.head_dim % 8:
      return (f'head_dim is {shape.head_dim}; cudnn has multiples of 8 up to '
              f'{most} on this GPU')
    if shape.dtype not in ('bfloat16', 'float16'):
      return f'dtype is {shape.dtype}; cudnn has bfloat16, float16'
  return ''


def best(platform: str) -> str:
  """The row of KERNELS that 'auto' takes where everything fits it."""
  return _BEST.get(platform, 'xla')


def choose(asked: str, mesh, shape: AttentionShape) -> KernelChoice:
  """The kernel for new tokens among themselves; all rules are here.

  'auto' takes splash on TPUs, cudnn on GPUs and xla elsewhere. It also takes
  xla if the model, type or mesh does not fit that kernel, or if no mesh is
  given. A kernel asked by name must fit. Whatever was asked, a shape takes xla
  if it is a single token, if its length is no multiple (of 128 for splash, of 2
  for cudnn), or if its rows do not divide over the mesh.

  Args:
    asked: one of NAMES.
    mesh: the mesh on which the model runs (sharding.make_mesh), or None.
    shape: the shape of the call.

  Raises:
    ValueError: for a kernel asked by name that cannot serve this model, type
      or mesh at any length; the message names what does not fit.
  """
  if asked == 'xla':
    return KernelChoice('xla', 'asked for')
  if shape.length == 1:
    return KernelChoice('xla', 'a single token')
  if mesh is None:
    if asked != 'auto':
      raise ValueError(f'attention is {asked!r} and the model has no mesh '
                       '(models.on_mesh); allowed without one: auto, xla')
    return KernelChoice('xla', 'no mesh was given')
  platform = mesh.devices.flat[0].platform
  kernel = best(platform) if asked == 'auto' else asked
  if kernel == 'xla':
    return KernelChoice('xla', f'the platform is {platform}')
  unfit = _unfit(kernel, mesh, shape)
  if unfit:
    if asked != 'auto':
      raise ValueError(f'attention is {asked!r}: {unfit}; allowed here: auto, '
                       'xla')
    return KernelChoice('xla', unfit)
  multiple = {'splash': _SPLASH_MULTIPLE, 'cudnn': 2}[kernel]
  shards = sharding.batch_shards(mesh)
  if shape.length % multiple:
    return KernelChoice('xla', f'{shape.length} positions; {kernel} takes '
                               f'multiples of {multiple}')
  if shape.rows % shards:
    return KernelChoice('xla', f'{shape.rows} rows do not divide over data x '
                               f'fsdp = {shards}')
  return KernelChoice(kernel, f'the platform is {platform}')


def among(q_BTNH, k_BSKH, v_BSKH, segment_BS, *, asked: str, mesh,
          causal: bool = True):
  """Attention of tokens among themselves by the kernel that `choose` picks.

  Args:
    q_BTNH: queries of the last T of S tokens; N is a multiple of K.
    k_BSKH, v_BSKH: keys and values.
    segment_BS: int32, 0 on padding.
    asked: one of NAMES.
    mesh: the mesh on which it runs, or None.
    causal: whether tokens are kept from seeing later tokens.

  Returns:
    [B, T, N, H] in the type of the queries.

  Raises:
    ValueError: see `choose`.
  """
  B, T, N, H = q_BTNH.shape
  S, K = k_BSKH.shape[1:3]
  name, _ = choose(
      asked, mesh, AttentionShape(B, S, N, K, H, q_BTNH.dtype.name))
  run = functools.partial(KERNELS[name], causal=causal)
  if name != 'xla':
    if mesh.size > 1:
      run = on_each_device(run, mesh)
    if T < S and (name != 'splash' or T % _SPLASH_MULTIPLE):
      run = _as_whole_rows(run)
  return checkpoint_name(run(q_BTNH, k_BSKH, v_BSKH, segment_BS), OUTPUT)


def _as_whole_rows(run):
  """Adapts a kernel that has as many queries as keys to the last T of S tokens.

  The missing queries are zero and their outputs are dropped. Padding goes to
  the end of each row, so that a length describes it to the kernel.
  """
  def last(q_BTNH, k_BSKH, v_BSKH, segment_BS):
    before = segment_BS.shape[1] - q_BTNH.shape[1]
    order_BS, place_BS = layers.compact(segment_BS)
    move = lambda x, at: jnp.take_along_axis(
        x, at.reshape(*at.shape, *(1,) * (x.ndim - 2)), axis=1)
    q_BSNH = jnp.pad(q_BTNH, ((0, 0), (before, 0), (0, 0), (0, 0)))
    out = run(*(move(x, order_BS) for x in (
        q_BSNH, k_BSKH, v_BSKH, segment_BS)))
    return move(out, place_BS)[:, before:]
  return last


def on_each_device(run, mesh):
  """A kernel on rows cut over data and fsdp, and heads cut over tensor."""
  rows = PartitionSpec(sharding.BATCH_AXES)
  heads = PartitionSpec(sharding.BATCH_AXES, None, 'tensor')
  return jax.shard_map(run, mesh=mesh, in_specs=(heads, heads, heads, rows),
                       out_specs=heads, check_vma=False)


def attend(q_BTNH, k_BTKH, v_BTKH, segment_BT, past, valid, *, asked: str,
           mesh):
  """Causal attention to new tokens and to a cache, if there is one.

  Args:
    q_BTNH, k_BTKH, v_BTKH: queries, keys and values of the new tokens.
    segment_BT: int32; with a cache it holds only 1 and 0.
    past, valid: see cache.attend, or None.
    asked, mesh: see `among`.
  """
  B, T = segment_BT.shape
  if past is not None and T == 1:
    return cache.attend(q_BTNH, k_BTKH, v_BTKH, segment_BT > 0, past, valid)
  for (k_CKHS, v_CKSH), valid_CS in zip(past or (), valid or (), strict=True):
    join = lambda old, new: jnp.concatenate(
        [jnp.repeat(old, B // old.shape[0], axis=0), new], axis=1)
    k_BTKH = join(jnp.moveaxis(k_CKHS, 3, 1).astype(k_BTKH.dtype), k_BTKH)
    v_BTKH = join(jnp.swapaxes(v_CKSH, 1, 2).astype(v_BTKH.dtype), v_BTKH)
    segment_BT = join(valid_CS.astype(segment_BT.dtype), segment_BT)
  return among(q_BTNH, k_BTKH, v_BTKH, segment_BT, asked=asked, mesh=mesh)


class Attention(nn.Module):
  """Causal self-attention over its own tokens and a cache that it only reads.

  It returns the keys and values of the new tokens and does not write them,
  because the caller owns the cache.
  """
  num_heads: int
  num_kv_heads: int
  head_dim: int
  qk_norm: bool
  norm_eps: float
  asked: str
  mesh: jax.sharding.Mesh | None

  @nn.compact
  def __call__(self, x_BTD, rotary, segment_BT, valid, past):
    """`past` holds the layer's (k_CKHS, v_CKSH) of each source of a cache, and
    `valid` the valid_CS of each; both are None without a cache."""
    D, N, K, H = (x_BTD.shape[-1], self.num_heads, self.num_kv_heads,
                  self.head_dim)
    init = layers.fan_in_init(1)
    q = layers.project(x_BTD, self.param('q', init, (D, N, H)))
    weights = lambda name: copied(self.param(name, init, (D, K, H)), N,
                                  self.mesh)
    k = layers.project(x_BTD, weights('k'))
    v = layers.project(x_BTD, weights('v'))
    wo = self.param('o', layers.fan_in_init(2), (N, H, D))
    if self.qk_norm:
      q = layers.RMSNorm(self.norm_eps, name='q_norm')(q)
      k = layers.RMSNorm(self.norm_eps, name='k_norm')(k)
    q, k = layers.rotate(q, *rotary), layers.rotate(k, *rotary)
    out = attend(q, k, v, segment_BT, past, valid, asked=self.asked,
                 mesh=self.mesh)
    return layers.project(out, wo, 2), (k, v)
