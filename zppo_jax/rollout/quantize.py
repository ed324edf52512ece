"""Weights for rollouts in fewer bits: int8 with a scale a channel.

Weight-only: a matrix is widened where it is used and the product is taken in
the activations' type (LLM.int8's vector-wise scaling without its outliers,
arXiv 2208.07339, section 2.1).
"""

import jax
import jax.numpy as jnp
from flax import struct

# leaf with its owner, or alone where it has none -> the axes that its product
# sums over; every other axis is a channel with a scale of its own. An
# embedding is read by rows and, tied, as the head: its rows are channels.
# Not here: norms, convolutions, DeltaNet's decay and write gates (a, b), and
# vision towers, which run once a prompt.
LEAVES = {
    'embed': (1,), 'head': (0,),
    'attention/q': (0,), 'attention/k': (0,), 'attention/v': (0,),
    'attention/o': (0, 1), 'attention/q_gate': (0,),
    'mlp/gate': (0,), 'mlp/up': (0,), 'mlp/down': (0,),
    'delta/qkv': (0,), 'delta/z': (0,), 'delta/o': (0, 1),
}
_TOWERS = 'vision'
_LARGEST = 127  # -128 stays unused: the range is symmetric


@struct.dataclass
class Int8:
  """A weight as values * scale. Layers ask a weight for its shape, rows,
  transpose and `astype`, so this stands where an array would.

  Attributes:
    values: int8, of the weight's shape.
    scale: float32, 1 along the axes that were summed for it.
  """
  values: jax.Array
  scale: jax.Array

  @property
  def shape(self) -> tuple[int, ...]:
    return self.values.shape

  @property
  def dtype(self):
    """Of what is stored."""
    return self.values.dtype

  @property
  def T(self) -> 'Int8':
    return Int8(self.values.T, self.scale.T)

  def __getitem__(self, rows) -> 'Int8':
    return Int8(self.values[rows], self.scale[rows])

  def astype(self, dtype) -> jax.Array:
    """The weight itself, widened in float32 and rounded to `dtype` once."""
    return (self.values.astype(jnp.float32) * self.scale).astype(dtype)


def int8(w, axes: tuple[int, ...]) -> Int8:
  """The nearest Int8 of a matrix; off by half a scale at most.

  Args:
    w: floats.
    axes: share a scale, the largest magnitude along them over 127.
  """
  w = w.astype(jnp.float32)
  most = jnp.max(jnp.abs(w), axis=axes, keepdims=True)
  scale = jnp.where(most > 0, most / _LARGEST, 1)  # of zeros: any scale
  return Int8(jnp.round(w / scale).astype(jnp.int8), scale)


def axes_of(path) -> tuple[int, ...] | None:
  """The axes of a leaf's scale from its key path; None: it is left alone."""
  names = [k.key for k in path]
  if _TOWERS in names:
    return None
  return LEAVES.get('/'.join(names[-2:]), LEAVES.get(names[-1]) if (
      len(names) == 1) else None)


def int8_leaves(params):
  """Params by block (layers.unstack) with LEAVES as Int8, the rest as is."""
  def one(path, x):
    axes = axes_of(path)
    return x if axes is None else int8(x, axes)
  return jax.tree_util.tree_map_with_path(one, params)
