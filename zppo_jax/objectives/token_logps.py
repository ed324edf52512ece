"""Token log-probs from hidden states, never all of [B, T, V] at once.

Logits exist only in blocks of some positions and a part of the vocabulary. The
forward pass joins the parts of the vocabulary by a running logsumexp. The
backward pass recomputes each block, unless all blocks together hold at most
KEPT numbers. Positions that the caller does not ask for cost nothing.

Axes, besides those of records.py: c positions of a block, n parts of the
vocabulary, v ids of a part. Part i holds the ids i, i + n, i + 2n, ..., because
then a head that is cut along its vocabulary over devices stays cut in the same
way in every part. Such a head has parts of its own on each of S devices: part i
holds every n-th id of each device's ids, and each device pads its own.

On a mesh the head is gathered once for a pass over the blocks; each part of its
gradient is summed over the devices once, after all blocks.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike, DTypeLike

from zppo_jax.devices import sharding
from zppo_jax.objectives.rounding import rounded

VOCAB_CHUNK = 8192  # ids per part
# The most logits that are kept for the backward pass (float32: 64 MiB).
KEPT = 2**24
FAR = -1e30  # the logit of an id that pads the vocabulary; its exp is 0


def scaled(temperature: float) -> float:
  """The temperature of stored log-probs; for greedy decoding it is 1."""
  return temperature if temperature > 0 else 1.0


class Blocks(NamedTuple):
  """Sizes of the blocks; see the module's axes.

  Attributes:
    temperature: logits are divided by it.
    c, n, v: positions per block, parts of the vocabulary, ids per part.
    vocab: ids from this one on pad the vocabulary and have no mass.
    kept: whether all logits are kept for the backward pass.
    width: columns of the head.
    cuts: S, in how many pieces the mesh cuts the head's columns.
    mesh: the mesh on which the blocks are computed, or None.
  """
  temperature: float
  c: int
  n: int
  v: int
  vocab: int
  kept: bool
  width: int
  cuts: int
  mesh: Mesh | None

  @classmethod
  def of(cls, width: int, c: int, *, temperature: float, vocab: int,
         most: int, kept_rows: int = 0,
         mesh: Mesh | None = None) -> 'Blocks':
    """Blocks for a head of `width` columns.

    Args:
      width, c, vocab, mesh: as the fields.
      temperature: that of the sampler; 0 counts as 1.
      most: the most ids per part.
      kept_rows: positions whose logits may be kept if they are few enough.
    """
    cuts = 1 if mesh is None else mesh.shape['tensor']
    cuts = cuts if width % cuts == 0 else 1
    n, v = parts(width // cuts, -(-most // cuts))
    return cls(temperature=scaled(temperature), c=c, n=n, v=v * cuts,
               vocab=vocab, kept=n == 1 and 0 < kept_rows * v * cuts <= KEPT,
               width=width, cuts=cuts, mesh=mesh)

  def ids(self, columns: Any, part: ArrayLike) -> Any:
    """The ids in columns of a part."""
    if self.cuts == 1:
      return columns * self.n + part
    v = self.v // self.cuts
    return (columns // v * (self.width // self.cuts)
            + columns % v * self.n + part)

  def columns(self, ids: jax.Array, part: ArrayLike, absent: int) -> jax.Array:
    """The columns of ids >= 0 in a part; `absent` for ids of other parts."""
    if self.cuts == 1:
      return jnp.where(ids % self.n == part, ids // self.n, absent)
    width = self.width // self.cuts
    own = ids % width
    return jnp.where(own % self.n == part,
                     ids // width * (self.v // self.cuts) + own // self.n,
                     absent)

  def counted(self, part: ArrayLike) -> Any:
    """bool [v]: True where a column of a part is an id of the vocabulary."""
    columns = np.arange(self.v)
    inside = self.ids(columns, part) < self.vocab
    if self.cuts == 1:
      return inside
    v, width = self.v // self.cuts, self.width // self.cuts
    return inside & (columns % v * self.n + part < width)

  @property
  def padded(self) -> bool:
    """Whether any column of a part is not an id of the vocabulary."""
    return self.n * self.v > self.vocab


def parts(vocab: int, most: int) -> tuple[int, int]:
  """(number n of equal parts of at most `most` ids, ids per part).

  The parts need no padding if a number up to twice the least n divides V.
  """
  least = -(-vocab // most)
  n = next((n for n in range(least, 2 * least) if vocab % n == 0), least)
  return n, -(-vocab // n)


def head_parts(head_DV: jax.Array, b: Blocks) -> jax.Array:
  """[n, D, v]: part i is head[:, i::n] of each cut, zero beyond its width."""
  S, more = b.cuts, b.n * b.v - b.width
  head = head_DV.reshape(-1, S, b.width // S)
  head = jnp.pad(head, ((0, 0), (0, 0), (0, more // S)))
  head = jnp.moveaxis(head.reshape(-1, S, b.v // S, b.n), 3, 0)
  return sharding.pin(head.reshape(b.n, -1, b.v), b.mesh, None, None, 'tensor')


def head_reader(head_DV: jax.Array, b: Blocks,
                dtype: DTypeLike) -> Callable[[ArrayLike], jax.Array]:
  """part -> [D, v]: `head_parts`[part] of the head in another type.

  Where no mesh cuts the head and no part is padded, parts are read from its
  rows. Then a head that is the transpose of an embedding is not copied.
  """
  if b.cuts > 1 or b.n * b.v != b.width:
    head_nDv = head_parts(rounded(head_DV, dtype), b)
    return lambda part: head_nDv[part]
  rows_vnD = head_DV.T.reshape(b.v, b.n, -1)
  return lambda part: rounded(jax.lax.dynamic_index_in_dim(
      rows_vnD, part, axis=1, keepdims=False).T, dtype)


def whole_head(grad_nDv: jax.Array, b: Blocks) -> jax.Array:
  """The inverse of `head_parts`."""
  S = b.cuts
  grad = jnp.moveaxis(grad_nDv.reshape(b.n, -1, S, b.v // S), 0, 3)
  grad = grad.reshape(-1, S, b.n * b.v // S)[..., :b.width // S]
  return grad.reshape(-1, b.width)


def take_block(x_BT: jax.Array, i: ArrayLike, c: int) -> jax.Array:
  return jax.lax.dynamic_slice_in_dim(x_BT, i * c, c, axis=1)


def put_block(x_BT: jax.Array, block_Bc: jax.Array, i: ArrayLike,
              c: int) -> jax.Array:
  return jax.lax.dynamic_update_slice_in_dim(x_BT, block_Bc, i * c, axis=1)


def block_logits(hidden_BcD: jax.Array, head_Dv: jax.Array, part: ArrayLike,
                 b: Blocks) -> jax.Array:
  """float32 or wider [B, c, v], divided by the temperature."""
  B, c, D = hidden_BcD.shape
  wide = jnp.promote_types(hidden_BcD.dtype, jnp.float32)
  z = jnp.matmul(hidden_BcD.reshape(B * c, D), head_Dv,
                 preferred_element_type=wide).reshape(B, c, -1)
  if b.temperature != 1:
    z = z / b.temperature
  if b.padded:
    z = jnp.where(b.counted(part), z, FAR)
  return z


def is_target(targets_Bc: jax.Array, part: ArrayLike, b: Blocks) -> jax.Array:
  """bool [B, c, v]: True where a part holds the target."""
  place = b.columns(targets_Bc, part, -1)
  return place[..., None] == np.arange(b.v)[None, None]


def places(ids_BcK: jax.Array, part: ArrayLike,
           b: Blocks) -> tuple[Any, ...]:
  """Indices [B, c, K] of ids in the logits [B, c, v] of a part.

  They lie beyond v for ids of other parts, and where no id stands (-1).
  """
  B, c, _ = ids_BcK.shape
  return (np.arange(B)[:, None, None], np.arange(c)[None, :, None],
          jnp.where(ids_BcK >= 0, b.columns(ids_BcK, part, b.v), b.v))


def over_parts(n: int, step: Callable[..., Any], state: Any) -> Any:
  """step(part, state) for each of n parts; without a loop if n is 1."""
  return step(0, state) if n == 1 else jax.lax.fori_loop(0, n, step, state)


def back_through(hidden_BTD: jax.Array, head_DV: jax.Array,
                 head_nDv: jax.Array, num: ArrayLike, b: Blocks,
                 slope: Callable[[ArrayLike, ArrayLike], jax.Array]
                 ) -> tuple[jax.Array, jax.Array]:
  """Gradients by hidden states and head from those by the logits of blocks.

  Args:
    hidden_BTD: hidden states of the blocks' positions.
    head_DV: the head; its type and width are those of its gradient.
    head_nDv: the head in parts, in the type of the products.
    num: the blocks that hold an asked position.
    b: sizes of the blocks.
    slope: (block, part) -> the gradient by the block's logits [B, c, v], before
      their division by the temperature.

  Returns:
    (gradient of hidden_BTD, gradient of head_DV). Both are summed in float32 or
    wider and have the types of what they belong to.
  """
  B, T, D = hidden_BTD.shape
  wide = jnp.promote_types(hidden_BTD.dtype, jnp.float32)
  cuts = 1 if b.mesh is None else sharding.batch_shards(b.mesh)
  cuts = cuts if B % cuts == 0 else 1
  # With a gradient for each cut of the rows no block waits for other devices.
  hold = lambda grad: grad if cuts == 1 else sharding.pin(
      grad, b.mesh, sharding.BATCH_AXES, None, 'tensor')

  def by_head(hidden: jax.Array, grad: jax.Array) -> jax.Array:
    if cuts == 1:
      return jnp.matmul(hidden.reshape(-1, D).T, grad,
                        preferred_element_type=wide)
    return hold(jnp.einsum(
        'sbd,sbv->sdv', hidden.reshape(cuts, -1, D),
        grad.reshape(cuts, -1, b.v), preferred_element_type=wide))

  def part_of(grad_hidden_BTD: jax.Array, part: ArrayLike) -> Any:
    head_Dv = head_nDv[part]

    def block(i: ArrayLike, carry: Any) -> Any:
      grad_hidden_BTD, grad_Dv = carry
      take = lambda x_BT: take_block(x_BT, i, b.c)
      hidden = take(hidden_BTD)
      grad = (slope(i, part) / b.temperature).astype(hidden.dtype).reshape(
          B * b.c, -1)
      back = jnp.matmul(grad, head_Dv.T, preferred_element_type=wide)
      grad_Dv += by_head(hidden, grad)
      return put_block(
          grad_hidden_BTD, take(grad_hidden_BTD) + back.reshape(B, b.c, D), i,
          b.c), grad_Dv

    none = jnp.zeros((D, b.v) if cuts == 1 else (cuts, D, b.v), wide)
    grad_hidden_BTD, grad_Dv = jax.lax.fori_loop(
        0, num, block, (grad_hidden_BTD, hold(none)))
    if cuts > 1:
      grad_Dv = sharding.pin(grad_Dv.sum(axis=0), b.mesh, 'fsdp', 'tensor')
    return grad_hidden_BTD, grad_Dv

  grad_hidden = sharding.pin_rows(jnp.zeros((B, T, D), wide), b.mesh)
  if b.n == 1:
    grad_hidden, grad_head = part_of(grad_hidden, 0)
    grad_head = grad_head[None]
  else:
    grad_hidden, grad_head = jax.lax.scan(
        part_of, grad_hidden, jnp.arange(b.n))
  return (grad_hidden.astype(hidden_BTD.dtype),
          whole_head(grad_head, b).astype(head_DV.dtype))


class Mass(NamedTuple):
  """Running sums over the ids of a distribution, of logits z.

  Attributes:
    top: the largest z.
    total: sum e^(z - top).
    first: sum e^(z - top) (z - top).
  """
  top: jax.Array
  total: jax.Array
  first: jax.Array

  @classmethod
  def none(cls, shape: tuple[int, ...], dtype: DTypeLike) -> 'Mass':
    """No id yet."""
    zero = jnp.zeros(shape, dtype)
    return cls(top=zero + FAR, total=zero, first=zero)

  def grown(self, z: jax.Array) -> 'tuple[Mass, jax.Array, jax.Array]':
    """With the ids of the last axis of z.

    Returns:
      (the new sums, e^(z - new top), the factor that brings sums of
      e^(z - old top) to the new top).
    """
    top = jnp.maximum(self.top, z.max(axis=-1))
    down = self.top - top
    above = z - top[..., None]
    e = jnp.exp(above)
    shrunk = jnp.exp(down)
    first = shrunk * (self.first + self.total * down) + jnp.sum(
        e * above, axis=-1)
    total = shrunk * self.total + jnp.sum(e, axis=-1)
    return Mass(top=top, total=total, first=first), e, shrunk

  @property
  def lse(self) -> jax.Array:
    return self.top + jnp.log(self.total)

  def logp(self, z: jax.Array) -> jax.Array:
    """Log-probs of logits [..., K] or [...]; exact for the likeliest id.

    Equal logits have equal log-probs.
    """
    top, total = (x.reshape(x.shape + (1,) * (z.ndim - x.ndim))
                  for x in (self.top, self.total))
    return z - top - jnp.log(total)

  @property
  def entropy(self) -> jax.Array:
    return jnp.log(self.total) - self.first / self.total


def _forward(hidden_BTD: jax.Array, head_DV: jax.Array, targets_BT: jax.Array,
             num: ArrayLike, b: Blocks) -> tuple[Any, Any]:
  """Outputs and residuals of `_scores`."""
  wide = jnp.promote_types(hidden_BTD.dtype, jnp.float32)
  head_nDv = head_parts(rounded(head_DV, hidden_BTD.dtype), b)
  B, T, _ = hidden_BTD.shape
  zero = jnp.zeros((B, T), wide)
  logits_BTv = jnp.zeros((B, T, b.v) if b.kept else (), wide)

  def block(i: ArrayLike, carry: Any) -> Any:
    logp_BT, entropy_BT, lse_BT, kept = carry
    take = lambda x_BT: take_block(x_BT, i, b.c)
    put = lambda x_BT, block: put_block(x_BT, block, i, b.c)
    hidden, targets = take(hidden_BTD), take(targets_BT)

    def one(part: ArrayLike, state: Any) -> Any:
      mass, picked, kept = state
      z = block_logits(hidden, head_nDv[part], part, b)
      mass, _, _ = mass.grown(z)
      picked += jnp.sum(jnp.where(is_target(targets, part, b), z, 0), -1)
      return mass, picked, put(kept, z) if b.kept else kept

    state = (Mass.none(targets.shape, wide), jnp.zeros(targets.shape, wide),
             kept)
    mass, picked, kept = over_parts(b.n, one, state)
    return (put(logp_BT, mass.logp(picked)), put(entropy_BT, mass.entropy),
            put(lse_BT, mass.lse), kept)

  logp_BT, entropy_BT, lse_BT, kept = jax.lax.fori_loop(
      0, num, block, (zero, zero, zero, logits_BTv))
  return (logp_BT, entropy_BT), (
      hidden_BTD, head_DV, targets_BT, num, entropy_BT, lse_BT, kept)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _scores(hidden_BTD: jax.Array, head_DV: jax.Array, targets_BT: jax.Array,
            num: ArrayLike, b: Blocks) -> tuple[jax.Array, jax.Array]:
  """(logp_BT, entropy_BT) of targets; 0 after the first `num` blocks."""
  return _forward(hidden_BTD, head_DV, targets_BT, num, b)[0]


def _backward(b: Blocks, residuals: Any, cotangents: Any) -> Any:
  """The gradient. With p the distribution and H its entropy,

    d logp / d z_v = 1[v = target] - p_v
    d H / d z_v = -p_v (log p_v + H)
  """
  hidden_BTD, head_DV, targets_BT, num, entropy_BT, lse_BT, kept = residuals
  of_logp_BT, of_entropy_BT = cotangents
  head_nDv = head_parts(rounded(head_DV, hidden_BTD.dtype), b)

  def slope(i: ArrayLike, part: ArrayLike) -> jax.Array:
    take = lambda x_BT: take_block(x_BT, i, b.c)
    hidden, lse = take(hidden_BTD), take(lse_BT)[..., None]
    z = take(kept) if b.kept else block_logits(hidden, head_nDv[part], part, b)
    of_logp, of_entropy = (
        take(x)[..., None] for x in (of_logp_BT, of_entropy_BT))
    logps = z - lse
    of_p = of_logp + of_entropy * (logps + take(entropy_BT)[..., None])
    return jnp.where(is_target(take(targets_BT), part, b), of_logp, 0
                     ) - jnp.exp(logps) * of_p

  return *back_through(hidden_BTD, head_DV, head_nDv, num, b, slope), None, None


_scores.defvjp(_forward, _backward)


class Asked(NamedTuple):
  """The asked positions of rows, first in their row and in whole blocks.

  Attributes:
    c: positions per block.
    num: blocks that hold an asked position; an array if some are not asked.
    pad: positions that are added at the end of each row.
    asked: bool [B, T - 1], by predicted token; None if all are asked.
    order: int32 [B, T - 1], the positions in their new order; None likewise.
    mesh: the mesh on which the rows lie, or None.
  """
  c: int
  num: int | jax.Array
  pad: int
  asked: jax.Array | None
  order: jax.Array | None
  mesh: Mesh | None

  @classmethod
  def of(cls, asked_BT: jax.Array | None, length: int, chunk: int,
         mesh: Mesh | None = None) -> 'Asked':
    """Of T = `length` tokens per row, T > 1; `asked_BT` None asks for all."""
    c = min(chunk, length - 1)
    pad = -(length - 1) % c
    if asked_BT is None:
      return cls(c=c, num=(length - 1 + pad) // c, pad=pad, asked=None,
                 order=None, mesh=mesh)
    # Asked positions come first, in order, so that blocks hold few others.
    asked = asked_BT[:, 1:]
    return cls(c=c, num=-(-jnp.max(asked.sum(axis=1)) // c), pad=pad,
               asked=asked, order=sharding.pin_rows(
                   jnp.argsort(~asked, axis=1, stable=True), mesh), mesh=mesh)

  def pack(self, x: jax.Array) -> jax.Array:
    """[B, T - 1, ...] of predicting positions to [B, blocks * c, ...]."""
    if self.order is not None:
      x = self._taken(x, self.order)
    return jnp.pad(x, ((0, 0), (0, self.pad)) + ((0, 0),) * (x.ndim - 2))

  def _taken(self, x: jax.Array, at_BT: jax.Array) -> jax.Array:
    hold = functools.partial(sharding.pin_rows, mesh=self.mesh)
    return hold(jnp.take_along_axis(hold(x), _columns(at_BT, x), axis=1))

  def unpack(self, x: jax.Array) -> jax.Array:
    """The inverse of `pack`, aligned with tokens: [B, T, ...].

    Position 0 and positions that are not asked for are 0.
    """
    x = x[:, :x.shape[1] - self.pad]
    if self.order is not None and self.asked is not None:
      x = self._taken(x, jnp.argsort(self.order, axis=1))
      x = jnp.where(_columns(self.asked, x), x, 0)
    return jnp.pad(x, ((0, 0), (1, 0)) + ((0, 0),) * (x.ndim - 2))


def _columns(x_BT: jax.Array, like: jax.Array) -> jax.Array:
  """x_BT with axes of size 1 behind, up to the rank of `like`."""
  return x_BT.reshape(x_BT.shape + (1,) * (like.ndim - 2))


def token_logps(hidden_BTD: jax.Array, head_DV: jax.Array, tokens_BT: jax.Array,
                asked_BT: jax.Array | None = None, *, temperature: float = 1.0,
                chunk: int = 512, vocab: int | None = None,
                vocab_chunk: int = VOCAB_CHUNK, mesh: Mesh | None = None
                ) -> tuple[jax.Array, jax.Array]:
  """The log-prob of each token given those before it, and the entropy there.

  Differentiable in hidden states and head, through both outputs. The gradient
  of the head is summed in float32 or wider.

  Args:
    hidden_BTD: hidden states; position t predicts token t + 1.
    head_DV: the matrix from hidden states to logits.
    tokens_BT: int32 ids.
    asked_BT: True on tokens whose log-prob is wanted; None asks for all.
    temperature: logits are divided by it (1 for greedy decoding).
    chunk: the asked positions per row whose logits exist at a time.
    vocab: the true vocabulary, in ids; columns from it on have no mass. None:
      all columns count, as they do for a sampler.
    vocab_chunk: the ids whose logits exist at a time.
    mesh: the mesh on which it runs, or None.

  Returns:
    (logp_BT, entropy_BT), nats, at least float32, aligned with tokens:
    position t holds log p(token t | tokens < t) and the entropy of that
    distribution. Both are 0 where not asked, and at position 0, which has no
    context.
  """
  chex.assert_rank([hidden_BTD, head_DV, tokens_BT], [3, 2, 2])
  chex.assert_equal_shape_prefix([hidden_BTD, tokens_BT], 2)
  B, T, _ = hidden_BTD.shape
  wide = jnp.promote_types(hidden_BTD.dtype, jnp.float32)
  if T == 1:
    return (jnp.zeros((B, T), wide),) * 2
  width = head_DV.shape[1]
  vocab = width if vocab is None else vocab
  asked = Asked.of(asked_BT, T, chunk, mesh)
  blocks = Blocks.of(
      width, asked.c, temperature=temperature, vocab=vocab, most=vocab_chunk,
      kept_rows=B * (T - 1 + asked.pad), mesh=mesh)
  logp_BT, entropy_BT = _scores(
      asked.pack(hidden_BTD[:, :-1]), head_DV, asked.pack(tokens_BT[:, 1:]),
      asked.num, blocks)
  return asked.unpack(logp_BT), asked.unpack(entropy_BT)
