"""Gated DeltaNet (Yang et al. 2025, arXiv 2412.06464): maths and layer.

Every head keeps a matrix S that maps keys to values. A token decays S, then
replaces what S now answers to its key by its value (their equation 10):

  S_t = exp(g_t) S_{t-1} + k_t beta_t (v_t - exp(g_t) S_{t-1}^T k_t)^T
  o_t = S_t^T q_t

`step` computes this for one token. `chunked` computes many tokens with matrix
products, by the WY form (their section 3.3). Both use at least float32.

Rows are compact here: real tokens come first, padding follows them
(`layers.compact`). A run is a maximal stretch of one segment, and the runs of a
row are counted from 0. Run 0 continues the given state; any later run starts
from zeros.

Axes, besides those of records.py: J convolution taps, E convolution channels,
K key heads, N value heads (a multiple of K), H key dimension, U value
dimension, M chunks, W positions per chunk, G value heads per key head.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from zppo_jax.devices import sharding
from zppo_jax.models import layers, lora
from zppo_jax.objectives.rounding import (
  is_narrow,
  once,
  rounded,
  sum_of_squares,
)

CHUNK = 64
_NORM_EPS = 1e-6
# The state sums over a whole sequence, and a TPU would multiply in bfloat16.
_EXACT = jax.lax.Precision.HIGHEST


@struct.dataclass
class DeltaState:
  """What a layer remembers of a row; it is zero before the row's first token.

  Attributes:
    conv_BJE: the last J - 1 inputs of the convolution, in the compute type.
    memory_BNHU: S of every value head, at least float32.
  """
  conv_BJE: jax.Array
  memory_BNHU: jax.Array


@struct.dataclass
class Runs:
  """The segments of compact rows.

  Attributes:
    run_BT: int32; padding belongs to the last run.
    real_BT: True on tokens.
  """
  run_BT: jax.Array
  real_BT: jax.Array


def runs(segment_BT) -> Runs:
  """The runs of compact rows of segment ids, 0 on padding."""
  real_BT = segment_BT > 0
  new = (segment_BT[:, 1:] != segment_BT[:, :-1]) & real_BT[:, 1:]
  run_BT = jnp.cumsum(jnp.pad(new, ((0, 0), (1, 0))), axis=1, dtype=jnp.int32)
  return Runs(run_BT, real_BT)


def causal_conv(x_BTE, weight_JE, past_BJE, of: Runs):
  """Depthwise causal convolution in which a token sees only its own run.

  Args:
    x_BTE: inputs.
    weight_JE: taps, the oldest first.
    past_BJE: the J - 1 inputs before the first input.
    of: the runs of the rows.

  Returns:
    (y_BTE, the J - 1 inputs up to each row's last real token; they are zero
    where they belong to another run).
  """
  T, J = x_BTE.shape[1], weight_JE.shape[0]
  dtype = layers.wide(x_BTE.dtype)
  full = jnp.concatenate([past_BJE.astype(x_BTE.dtype), x_BTE], axis=1)
  run = jnp.pad(of.run_BT, ((0, 0), (J - 1, 0)))  # the past belongs to run 0
  y, weight_JE = 0, layers.narrowed(weight_JE, x_BTE.dtype).astype(dtype)
  for j in range(J):
    seen = (run[:, j:j + T] == of.run_BT)[..., None]
    y += jnp.where(seen, full[:, j:j + T], 0).astype(
        dtype) * jax.lax.broadcast_to_rank(weight_JE[j], x_BTE.ndim)
  count_B = of.real_BT.sum(axis=1)
  at = count_B[:, None] + jnp.arange(J - 1)[None]
  last = jnp.take_along_axis(run, at[:, -1:], axis=1)
  seen = jnp.take_along_axis(run, at, axis=1) == last
  past = jnp.take_along_axis(full, at[..., None], axis=1)
  return rounded(y, x_BTE.dtype), jnp.where(seen[..., None], past, 0)


def l2norm(x):
  """x / sqrt(|x|^2 + 1e-6) over the last axis, at least float32."""
  return x.astype(layers.wide(x.dtype)) * jax.lax.rsqrt(
      sum_of_squares(x) + _NORM_EPS)


def gates(a_BTN, b_BTN, A_log_N, dt_bias_N, real_BT):
  """(log-decay, beta), both [B, T, N] and at least float32.

  g = -exp(A_log) softplus(a + dt_bias), beta = sigmoid(b), rounded to the type
  of b. On padding both are 0, which leaves S unchanged.
  """
  dtype = layers.wide(a_BTN.dtype)
  a, b = a_BTN.astype(dtype), b_BTN.astype(dtype)
  of_heads = lambda x_N: jax.lax.broadcast_to_rank(x_N, a.ndim)
  g = of_heads(-jnp.exp(A_log_N.astype(dtype))) * jax.nn.softplus(
      a + of_heads(dt_bias_N.astype(dtype)))
  real = real_BT[..., None]
  return jnp.where(real, g, 0), jnp.where(
      real, rounded(jax.nn.sigmoid(b), b_BTN.dtype).astype(dtype), 0)


def step(q_BKH, k_BKH, v_BNU, g_BN, beta_BN, memory_BNHU):
  """One token: (o_BNU, S). Arguments are as in `chunked`, without T."""
  G = v_BNU.shape[1] // k_BKH.shape[1]
  q, k = (jnp.repeat(x, G, axis=1) for x in (q_BKH, k_BKH))
  S = memory_BNHU * jnp.exp(g_BN)[..., None, None]
  answer = jnp.einsum('bnh,bnhu->bnu', k, S, precision=_EXACT)
  write = (v_BNU.astype(S.dtype) - answer) * beta_BN[..., None]
  S = S + k[..., None] * write[..., None, :]
  return jnp.einsum('bnh,bnhu->bnu', q, S, precision=_EXACT), S


def _inverse(A):
  n = A.shape[-1]
  mul = functools.partial(jnp.matmul, precision=_EXACT)
  if n > 16:
    h = n // 2
    both = _inverse(jnp.stack([A[..., :h, :h], A[..., h:, h:]], axis=-3))
    first, second = both[..., 0, :, :], both[..., 1, :, :]
    below = -mul(second, mul(A[..., h:, :h], first))
    return jnp.concatenate([
        jnp.concatenate([first, jnp.zeros_like(first)], axis=-1),
        jnp.concatenate([below, second], axis=-1)], axis=-2)
  # This inverts all pairs of neighbouring blocks of 1, 2, 4, ... at once. A
  # block of 1 is its own inverse, so that its pairs take no product.
  i, j = np.indices((n, n))
  between = lambda size: jnp.where(
      (i // size % 2 == 1) & (j // size == i // size - 1), A, 0)
  X = jax.lax.broadcast_to_rank(jnp.eye(n, dtype=A.dtype), A.ndim) - between(1)
  for size in (2**m for m in range(1, n.bit_length() - 1)):
    X = X - mul(X, mul(between(size), X))
  return X


@jax.custom_vjp
def unit_lower_inverse(A):
  """(I + A)^-1 for the entries below the diagonal of A, [..., n, n]; the others
  are not read. n is a power of two.

  It works by halves: two inverses on the diagonal and one product below them.
  Sums of powers of A would cancel, and LAPACK's solver can hang a CPU's
  simulated devices.
  """
  return _inverse(A)


def _inverse_forward(A):
  X = _inverse(A)
  return X, X


def _inverse_backward(X, dX):
  X = jnp.swapaxes(X, -1, -2)
  mul = functools.partial(jnp.matmul, precision=_EXACT)
  return (-jnp.tril(mul(mul(X, dX), X), -1),)


unit_lower_inverse.defvjp(_inverse_forward, _inverse_backward)


def _cut(x, size: int, mode: str = 'constant'):
  """[B, T, ...] cut into chunks, [M, B, W, ...]; the end is padded."""
  more = -x.shape[1] % size
  x = jnp.pad(x, ((0, 0), (0, more)) + ((0, 0),) * (x.ndim - 2), mode=mode)
  return jnp.moveaxis(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)


def chunked(q_BTKH, k_BTKH, v_BTNU, g_BTN, beta_BTN, run_BT, memory_BNHU,
            chunk: int = CHUNK):
  """Many tokens: (o_BTNU, S after the last one).

  In a chunk, c is the running sum of g, and D_ij = exp(sum of g over
  j < l <= i) for j <= i of one run, else 0. Each token's write depends on the
  writes before it; all writes together are (I + A)^-1 (beta v - beta exp(c) k
  S) with A = beta k k^T D below the diagonal.

  Args:
    q_BTKH, k_BTKH: normalised queries (scaled) and keys.
    v_BTNU: values.
    g_BTN, beta_BTN: see `gates`; beta = g = 0 on padding.
    run_BT: see `runs`.
    memory_BNHU: S before the first token of run 0.
    chunk: W, the most positions per chunk; a power of two. Fewer positions
      than that have a chunk of their own size, unless v is of a narrow type.
  """
  B, T, K, H = k_BTKH.shape
  N, U = v_BTNU.shape[2:]
  size = min(chunk, 1 << (T - 1).bit_length())
  if is_narrow(v_BTNU):
    # A prompt alone and the row that it begins then have the same sums. With a
    # narrower chunk for the prompt they differ in the last bits of float32, and
    # one output in some thousands rounds to another side.
    size = chunk
  heads = lambda x: jnp.moveaxis(_cut(x, size), 2, 3)
  grouped = lambda x: x.reshape(*x.shape[:2], K, N // K, *x.shape[3:])
  run = _cut(run_BT, size, 'edge')  # [M, B, W]
  last = run[..., -1:]
  before = jnp.concatenate([jnp.zeros_like(last[:1]), last[:-1]])
  S, out = jax.lax.scan(
      _one_chunk, memory_BNHU.reshape(B, K, N // K, H, U),
      (heads(q_BTKH), heads(k_BTKH), grouped(heads(v_BTNU)),
       grouped(heads(g_BTN)), grouped(heads(beta_BTN)), run, before))
  # [M, B, K, G, W, U] -> [B, T, N, U]
  out = jnp.transpose(out, (1, 0, 4, 2, 3, 5)).reshape(B, -1, N, U)[:, :T]
  return out, S.reshape(B, N, H, U)


@functools.partial(jax.checkpoint, prevent_cse=False)
def _one_chunk(S, x):
  """(S after a chunk, its output [B, K, G, W, U]).

  The scan holds all work of a chunk, and the backward pass recomputes it. So
  the arrays of a chunk exist for one chunk only, and between chunks only S is
  kept.
  """
  q, k, v, g, beta, run, before = x  # [B, K, (G,) W, ...]; run [B, W]
  W = run.shape[1]
  dot = functools.partial(jnp.einsum, precision=_EXACT)
  mul = functools.partial(jnp.matmul, precision=_EXACT)
  over_heads = lambda x: x[:, None, None]
  lower = np.tri(W, dtype=bool)
  seen = over_heads((run[:, :, None] == run[:, None]) & lower[None])
  # Summed anew for each j, as c_i - c_j would lose small terms among large.
  between = dot('il,bkglj->bkgij', lower.astype(g.dtype),
                jnp.where(np.tri(W, k=-1, dtype=bool), g[..., None], 0))
  D = jnp.where(seen, jnp.exp(between), 0)
  c = jnp.cumsum(g, axis=-1)
  from_state = jnp.where(over_heads(run == before), jnp.exp(c), 0)[..., None]
  kept = jnp.where(over_heads(run[:, -1:] == before), jnp.exp(c[..., -1:]), 0)

  A = dot('bkih,bkjh->bkij', k, k)[:, :, None] * D * beta[..., None]
  weights = dot('bkih,bkjh->bkij', q, k)[:, :, None] * D
  q, k = q[:, :, None], k[:, :, None]
  fresh = mul(unit_lower_inverse(A), beta[..., None] * (
      v.astype(S.dtype) - from_state * mul(k, S)))
  out = from_state * mul(q, S) + mul(weights, fresh)
  writes = D[..., -1, :, None] * k
  return kept[..., None] * S + mul(jnp.swapaxes(writes, -1, -2), fresh), out


def _mixed(x_BTD, weight_DE, conv_JE, past_BJE, of: Runs):
  """(silu of the convolved projections [B, T, E], the past behind them)."""
  y, past = causal_conv(layers.project(x_BTD, weight_DE), conv_JE, past_BJE, of)
  return layers.silu(y), past


def _mixed_by_kind(x_BTD, weight_DE, conv_JE, past_BJE, of: Runs, ends, mesh):
  """`_mixed` for the channels of queries, keys and values one by one.

  The mesh cuts all channels together, so that a device's cut holds parts of two
  kinds, and values would move to where their heads are. Here the weights move.

  Args:
    ends: where the channels of queries and of keys end.
  """
  whole = lambda w: jax.tree.map(
      lambda x: sharding.pin(x, mesh, None, None), w)
  hold_past = lambda x: sharding.pin(x, mesh, sharding.BATCH_AXES, None, None)

  def cut(x, *axes):
    """x by kind; an array, a quantize.Int8 whose parts are cut alike, or a
    lora.Adapted, whose kinds share lora_a."""
    if lora.is_adapted(x):
      return [x.replace(base=w, lora_b=b) for w, b in zip(
          cut(x.base, *axes), cut(x.lora_b, *axes), strict=True)]
    leaves, tree = jax.tree.flatten(x)
    # Held whole first, because a cut would otherwise be made before the split.
    parts = [[sharding.pin(sharding.pin(part, mesh, *axes, None), mesh, *axes,
                           'tensor') for part in jnp.split(leaf, ends, axis=-1)]
             for leaf in leaves]
    return [tree.unflatten(of) for of in zip(*parts, strict=True)]

  out, past = zip(*[_mixed(x_BTD, *parts, of) for parts in zip(
      cut(whole(weight_DE), None), cut(whole(conv_JE), None),
      cut(hold_past(past_BJE), sharding.BATCH_AXES, None), strict=True)],
                  strict=True)
  return out, hold_past(jnp.concatenate([hold_past(x) for x in past], axis=-1))


_opened = once(lambda x, gate: x * jax.nn.silu(gate))


class GatedDeltaNet(nn.Module):
  """The layer: projections, convolution, gated delta rule, gated norm."""
  num_key_heads: int
  num_value_heads: int
  key_dim: int
  value_dim: int
  kernel: int
  norm_eps: float
  mesh: jax.sharding.Mesh | None = None

  @nn.compact
  def __call__(self, x_BTD, of: Runs, state: DeltaState | None):
    """(y_BTD, DeltaState after each row's last real token).

    Args:
      x_BTD: compact rows.
      of: their runs.
      state: the state that run 0 continues, or None.
    """
    B, T, D = x_BTD.shape
    K, N, H, U = (self.num_key_heads, self.num_value_heads, self.key_dim,
                  self.value_dim)
    E = 2 * K * H + N * U
    init = layers.fan_in_init(1)
    weight = self.param('qkv', init, (D, E))
    z = layers.project(x_BTD, self.param('z', init, (D, N, U)))
    a = layers.project(x_BTD, self.param('a', init, (D, N)))
    b = layers.project(x_BTD, self.param('b', init, (D, N)))
    conv = self.param('conv', init, (self.kernel, E))
    A_log = self.param('A_log', _decay_init, (N,))
    dt_bias = self.param('dt_bias', nn.initializers.ones, (N,))
    wo = self.param('o', layers.fan_in_init(2), (N, U, D))
    if state is None:
      state = DeltaState(
          jnp.zeros((B, self.kernel - 1, E), x_BTD.dtype),
          jnp.zeros((B, N, H, U), layers.wide(x_BTD.dtype)))
    ends = [K * H, 2 * K * H]
    mixed = x_BTD, weight, conv, state.conv_BJE, of
    if self.mesh is not None and self.mesh.shape['tensor'] > 1 and T > 1:
      (q, k, v), past = _mixed_by_kind(*mixed, ends, self.mesh)
    else:
      qkv, past = _mixed(*mixed)
      q, k, v = jnp.split(qkv, ends, axis=-1)
    q = l2norm(q.reshape(B, T, K, H)) * H**-0.5
    k = l2norm(k.reshape(B, T, K, H))
    v = v.reshape(B, T, N, U)
    g, beta = gates(a, b, A_log, dt_bias, of.real_BT)
    if T == 1:
      out, memory = step(*(x[:, 0] for x in (q, k, v, g, beta)),
                         state.memory_BNHU)
      out = out[:, None]
    else:
      out, memory = chunked(q, k, v, g, beta, of.run_BT, state.memory_BNHU)
    out = layers.RMSNorm(self.norm_eps, name='out_norm')(
        rounded(out, x_BTD.dtype))
    out = _opened(out, z)
    return layers.project(out, wo, 2), DeltaState(past, memory)


def _decay_init(key, shape, dtype=jnp.float32):
  """log A with A uniform in (0.01, 16), so that decays have many lengths."""
  return jnp.log(jax.random.uniform(key, shape, dtype, 0.01, 16))
