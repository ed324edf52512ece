"""Rollout weights: the copy of the policy that decoding reads.

A copy has one entry per block, the compute type of the network, and the rollout
sharding. Making it is the weight sync of a step.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike

from zppo_jax import allowed
from zppo_jax.devices import sharding
from zppo_jax.models import Model, layers
from zppo_jax.rollout import quantize

# Leaves that the network uses in float32: scales of norms (of the form 1 + w
# too), their biases, and leaves that set a recurrent layer's decay. They are
# exact because rounding them alone moves bf16 log-probs.
EXACT_LEAVES = frozenset({'scale', 'bias', 'offset', 'A_log', 'dt_bias'})


def cast(params: Any, dtype: DTypeLike) -> Any:
  """Params in the compute type, except EXACT_LEAVES."""
  return jax.tree_util.tree_map_with_path(
      lambda path, x: x if path[-1].key in EXACT_LEAVES else x.astype(dtype),
      params)


def _int8(params: Any, dtype: DTypeLike) -> Any:
  return jax.tree.map(
      lambda small, x: small if isinstance(small, quantize.Int8) else x,
      quantize.int8_leaves(params), cast(params, dtype),
      is_leaf=lambda x: isinstance(x, quantize.Int8))


# student.rollout_weights -> (params by block, compute type) -> rollout weights.
WEIGHTS: dict[str, Callable[[Any, DTypeLike], Any]] = {
    'same': cast,
    'bfloat16': lambda params, dtype: cast(params, jnp.bfloat16),
    'int8': _int8,
}


def rollout_copy(params: Any, dtype: DTypeLike,
                 weights: str = 'same') -> Any:
  """The weights that decoding reads, by block, in a form of WEIGHTS.

  Args:
    params: stacked or by block (layers.unstack).
    dtype: the compute type.
    weights: a key of WEIGHTS.

  Raises:
    KeyError: for another key.
  """
  make = allowed.known('rollout weights', weights, WEIGHTS)
  return make(layers.unstack(params), dtype)


def compile_reshard(model: Model, mesh: Mesh,
                    weights: str = 'same') -> Callable[[Any], Any]:
  """A jitted function: training-sharded params -> sharded `rollout_copy`."""
  params = jax.eval_shape(model.init, jax.random.key(0))
  copy = functools.partial(rollout_copy, dtype=jnp.dtype(model.config.dtype),
                           weights=weights)
  of = lambda tree, rules: sharding.param_shardings(tree, mesh, rules)
  return jax.jit(
      copy, in_shardings=(of(params, sharding.TRAIN_RULES),),
      out_shardings=of(jax.eval_shape(copy, params), sharding.ROLLOUT_RULES))


def place_copy(params: Any, model: Model, mesh: Mesh,
               weights: str = 'same') -> Any:
  """`rollout_copy` of host or device params, in the rollout sharding; of shapes
  the shapes of the copy, with their shardings."""
  of = lambda x: sharding.param_shardings(x, mesh, sharding.ROLLOUT_RULES)
  make = lambda x: rollout_copy(x, jnp.dtype(model.config.dtype), weights)
  if isinstance(jax.tree.leaves(params)[0], jax.ShapeDtypeStruct):
    copy = jax.eval_shape(make, params)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=s), copy, of(copy))
  copy = make(params)
  return jax.device_put(copy, of(copy))
