"""TrainStates: their shardings, their shapes, and new ones.

With `followed`, they are FollowedStates: a float32 copy of params lies beside
them.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from zppo_jax import randomness
from zppo_jax.arrays import FollowedState, TrainState
from zppo_jax.devices import sharding
from zppo_jax.devices.shared_jit import shared_jit


def copied(params: Any) -> Any:
  """A float32 copy of params, in buffers of its own."""
  return jax.tree.map(lambda x: jnp.copy(x).astype(jnp.float32), params)


def with_copy(state: TrainState) -> FollowedState:
  """The state with a copy of its params."""
  return FollowedState(params=state.params, opt_state=state.opt_state,
                       updates=state.updates, own=copied(state.params))


def without_copy(state: TrainState) -> TrainState:
  """The state alone."""
  return TrainState(params=state.params, opt_state=state.opt_state,
                    updates=state.updates)


def _fresh(params, tx, followed: bool = False) -> TrainState:
  state = TrainState(params=params, opt_state=tx.init(params),
                     updates=jnp.zeros((), jnp.int32))
  return with_copy(state) if followed else state


def state_shardings(model, tx, mesh, followed: bool = False) -> TrainState:
  """Shardings of a TrainState under the training rules."""
  params = jax.eval_shape(model.init, randomness.like_key())
  opt_state = jax.eval_shape(tx.init, params)
  of_params = sharding.param_shardings(params, mesh, sharding.TRAIN_RULES)
  state = TrainState(
      params=of_params,
      opt_state=sharding.state_shardings(opt_state, params, of_params, mesh),
      updates=sharding.replicated(mesh))
  return shaped_like(state, of_params) if followed else state


def shaped_like(state: TrainState, own: Any) -> FollowedState:
  """Shardings or shapes of a state with those of a copy."""
  return FollowedState(params=state.params, opt_state=state.opt_state,
                       updates=state.updates, own=own)


def abstract_state(model, tx, shardings: TrainState) -> TrainState:
  """Shapes, types and shardings of the result of `new_state`."""
  followed = isinstance(shardings, FollowedState)
  # jax keeps the shapes of `init`, which is the same function for equal models.
  state = jax.eval_shape(lambda params: _fresh(params, tx, followed),
                         jax.eval_shape(model.init, randomness.like_key()))
  return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state,
      shardings)


class Initial:
  """Makes the state with which a run begins; it holds the loaded weights until
  `release`, so that a run on its way does not keep them beside its state.

  Args:
    make: () -> the state.
  """

  def __init__(self, make: Callable[[], TrainState]):
    self._make: Callable[[], TrainState] | None = make

  def __call__(self) -> TrainState:
    """A new state.

    Raises:
      RuntimeError: after `release`.
    """
    if self._make is None:
      raise RuntimeError('the run has begun, and the weights that it loaded '
                         'were released; build it anew')
    return self._make()

  def release(self) -> None:
    """Drops the loaded weights."""
    self._make = None


def new_state(params, tx, shardings: TrainState) -> TrainState:
  """A TrainState on the mesh from host or device params."""
  followed = isinstance(shardings, FollowedState)
  return shared_jit(functools.partial(_fresh, tx=tx, followed=followed),
                    out_shardings=shardings)(
      jax.device_put(params, shardings.params))
