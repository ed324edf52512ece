"""Teachers of the student's own weights (`teacher.kind` = 'own').

| teacher.own.weights | the teacher's weights | where they lie |
|---|---|---|
| frozen | student.weights, as the run began | a rollout copy |
| folder | other weights of the same model | a rollout copy |
| adapters_off | student.weights, which adapters leave frozen | nowhere else |
| live | the policy itself, without a gradient | nowhere else |
| lagged | the policy, copied every `lag` optimizer steps | TrainState |
| ema | a p + (1 - a) copy after each optimizer step, a = `rate` | TrainState |

The copy that follows is float32, is sharded as the parameters, and is part of
every checkpoint. With the context 'same', `live` teaches nothing; the teacher
then needs something to read (distil.context).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from zppo_jax import allowed
from zppo_jax.algorithms import methods
from zppo_jax.arrays import FollowedState, TrainState
from zppo_jax.learner.update import Follow

ADAPTERS_OFF = 'adapters_off'
WEIGHTS = ('frozen', 'live', 'lagged', 'ema', 'folder', ADAPTERS_OFF)
FIELD = 'teacher.own.weights'  # among the usual ones of a method
NAME = 'teacher'  # among the frozen models of the update


@dataclasses.dataclass(frozen=True)
class OwnConfig:
  """The section `teacher.own`.

  Attributes:
    weights: one of WEIGHTS.
    lag: optimizer steps between two copies, of 'lagged'.
    rate: a, of 'ema'; 1 is 'live' and 0 'frozen'.
    folder: anything that student.weights may be, of 'folder'.
  """
  weights: str = 'frozen'
  lag: int = 10
  rate: float = 0.05
  folder: str = ''

  def __post_init__(self) -> None:
    allowed.one_of('teacher.own.weights', self.weights, WEIGHTS)
    allowed.number('teacher.own.lag', self.lag, '>= 1', whole=True)
    allowed.number('teacher.own.rate', self.rate, '[0, 1]')
    if bool(self.folder) != (self.weights == 'folder'):
      raise ValueError(
          f'teacher.own.folder is {self.folder!r} and teacher.own.weights '
          f"{self.weights!r}; a folder is named exactly for 'folder'")

  @property
  def followed(self) -> bool:
    """Whether a copy follows the parameters."""
    return self.weights in ('lagged', 'ema')

  @property
  def moves(self) -> bool:
    """Whether the teacher's weights change in the run."""
    return self.followed or self.weights == 'live'

  @property
  def follow(self) -> Follow | None:
    """How the copy moves after an optimizer step."""
    return {'lagged': self._lagged, 'ema': self._averaged}.get(self.weights)

  def _lagged(self, own: Any, params: Any, updates: jax.Array) -> Any:
    due = updates % self.lag == 0
    return jax.tree.map(
        lambda old, new: jnp.where(due, new.astype(old.dtype), old), own,
        params)

  def _averaged(self, own: Any, params: Any, updates: jax.Array) -> Any:
    del updates
    return jax.tree.map(
        lambda old, new: self.rate * new.astype(old.dtype)
        + (1 - self.rate) * old, own, params)

  def params(self, state: TrainState) -> Any:
    """The teacher's weights in a state; for weights that move."""
    return state.own if isinstance(state, FollowedState) else state.params

  def beside(self, state: TrainState, joined: Callable[[Any], Any] =
             lambda params: params) -> Mapping[str, Any]:
    """`params` by name, for a pass inside the update; `joined` makes those of
    the network of them."""
    return {NAME: joined(self.params(state))}


def own_config(c: Any) -> OwnConfig:
  """The section `teacher.own`; open weights are those of the method's paper,
  or else the initial ones.

  Raises:
    KeyError, ValueError: see methods.get and OwnConfig.
  """
  usual = methods.get(c.method).usual.get(FIELD, OwnConfig.weights)
  return OwnConfig(**{**c.teacher.own,
                      'weights': c.teacher.own.weights or usual})


@dataclasses.dataclass(frozen=True)
class Own:
  """What a run needs of a teacher whose weights move.

  Attributes:
    config: the section.
    reshard_fn: trained params -> a rollout copy in the student's type; None if
      the teacher runs inside the update alone.
  """
  config: OwnConfig
  reshard_fn: Callable[[Any], Any] | None

  def at(self, teacher: Any, state: TrainState) -> Any:
    """The teacher with the weights of a state.

    Args:
      teacher: a `teachers.in_process.InProcessTeacher`.
      state: the state before the step's updates.
    """
    if self.reshard_fn is None:
      return teacher
    return dataclasses.replace(
        teacher, params=self.reshard_fn(self.config.params(state)))
