"""TrainStates: their shardings, their shapes, and new ones."""

import jax
import jax.numpy as jnp

from zppo_jax.arrays import TrainState
from zppo_jax.devices import sharding


def _fresh(params, tx) -> TrainState:
  return TrainState(params=params, opt_state=tx.init(params),
                    updates=jnp.zeros((), jnp.int32))


def state_shardings(model, tx, mesh) -> TrainState:
  """Shardings of a TrainState under the training rules."""
  params = jax.eval_shape(model.init, jax.random.key(0))
  opt_state = jax.eval_shape(tx.init, params)
  of_params = sharding.param_shardings(params, mesh, sharding.TRAIN_RULES)
  return TrainState(
      params=of_params,
      opt_state=sharding.state_shardings(opt_state, params, of_params, mesh),
      updates=sharding.replicated(mesh))


def abstract_state(model, tx, shardings: TrainState) -> TrainState:
  """Shapes, types and shardings of the result of `new_state`."""
  make = lambda key: _fresh(model.init(key), tx)
  return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      jax.eval_shape(make, jax.random.key(0)), shardings)


def new_state(params, tx, shardings: TrainState) -> TrainState:
  """A TrainState on the mesh from host or device params."""
  return jax.jit(lambda p: _fresh(p, tx), out_shardings=shardings)(
      jax.device_put(params, shardings.params))
