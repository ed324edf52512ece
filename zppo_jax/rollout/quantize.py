"""Rollout weights in fewer bits: int8 with one scale per channel.

Only weights are quantised. A matrix is widened where it is used, and the
product is computed in the type of the activations (the vector-wise scaling of
LLM.int8 without its outliers, arXiv 2208.07339, section 2.1).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import DTypeLike

# leaf with its owner (without one if it has none) -> the axes that its product
# sums over. Every other axis is a channel axis with scales of its own. An
# embedding is read by rows and, if tied, serves as the head, so its rows are
# channels. Norms, convolutions, DeltaNet's decay and write gates (a, b) and
# vision towers, which run once per prompt, are not quantised.
LEAVES = {
    'embed': (1,), 'head': (0,),
    'attention/q': (0,), 'attention/k': (0,), 'attention/v': (0,),
    'attention/o': (0, 1), 'attention/q_gate': (0,),
    'mlp/gate': (0,), 'mlp/up': (0,), 'mlp/down': (0,),
    'delta/qkv': (0,), 'delta/z': (0,), 'delta/o': (0, 1),
}
_TOWERS = 'vision'
_LARGEST = 127  # -128 stays unused, because the range is symmetric


@struct.dataclass
class Int8:
  """A weight as values * scale.

  Layers use only a weight's shape, rows, transpose and `astype`, so an Int8 can
  stand where an array would.

  Attributes:
    values: int8, of the weight's shape.
    scale: float32, of size 1 along the axes that share a scale.
  """
  values: jax.Array
  scale: jax.Array

  @property
  def shape(self) -> tuple[int, ...]:
    return self.values.shape

  @property
  def dtype(self) -> jnp.dtype:
    """The type of the stored values."""
    return self.values.dtype

  @property
  def T(self) -> 'Int8':
    return Int8(self.values.T, self.scale.T)

  def __getitem__(self, rows: Any) -> 'Int8':
    return Int8(self.values[rows], self.scale[rows])

  def astype(self, dtype: DTypeLike) -> jax.Array:
    """The weight widened in float32 and rounded to `dtype` once."""
    return (self.values.astype(jnp.float32) * self.scale).astype(dtype)


def int8(w: jax.Array, axes: tuple[int, ...]) -> Int8:
  """The nearest Int8 of a matrix; its error is at most half a scale.

  Args:
    w: floats.
    axes: the axes that share a scale, which is the largest magnitude along them
      divided by 127.
  """
  w = w.astype(jnp.float32)
  most = jnp.max(jnp.abs(w), axis=axes, keepdims=True)
  scale = jnp.where(most > 0, most / _LARGEST, 1)  # zeros take any scale
  return Int8(jnp.round(w / scale).astype(jnp.int8), scale)


def axes_of(path: Sequence[Any]) -> tuple[int, ...] | None:
  """The axes that share a scale, by a leaf's key path; None: not quantised."""
  names = [k.key for k in path]
  if _TOWERS in names:
    return None
  return LEAVES.get('/'.join(names[-2:]), LEAVES.get(names[-1]) if (
      len(names) == 1) else None)


def int8_leaves(params: Any) -> Any:
  """Params by block (layers.unstack) with LEAVES as Int8, others unchanged."""
  def one(path, x):
    axes = axes_of(path)
    return x if axes is None else int8(x, axes)
  return jax.tree_util.tree_map_with_path(one, params)
