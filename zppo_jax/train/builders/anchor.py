"""What holds a run's parameters: `algorithm.ewc` and `optimizer.frozen`."""

import functools
import json
from collections.abc import Callable
from typing import Any

import jax

from zppo_jax.arrays import TrainState
from zppo_jax.learner import ewc, optimizers
from zppo_jax.train.builders.parts import Student
from zppo_jax.weights import safetensors_file


def anchor_of(c: Any, student: Student,
              shardings: TrainState) -> ewc.Anchor | None:
  """The anchor of `algorithm.ewc`; None without a coefficient.

  Args:
    c: the config.
    student: its loaded weights are returned to. If they are shapes, so are the
      arrays of the anchor, and no file is read.
    shardings: those of the run's states.

  Raises:
    FileNotFoundError, ValueError: for a file that is not the diagonal of this
      student, see safetensors_file.load and ewc.check; for adapters.
  """
  section = ewc.EwcConfig(**c.algorithm.ewc)
  if not section.coefficient:
    return None
  if c.lora.rank:
    raise ValueError(
        f'algorithm.ewc.coefficient is {section.coefficient}, lora.rank is '
        f'{c.lora.rank}; allowed: one of them. The penalty is a sum over '
        'weights, and adapters train products')
  params = student.loaded.params
  like = ewc.like(params)
  if isinstance(jax.tree.leaves(params)[0], jax.ShapeDtypeStruct):
    place = functools.partial(jax.tree.map, lambda x, where: (
        jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)))
    return ewc.Anchor(section.coefficient, place(params, shardings.params),
                      place(like, shardings.params))
  fisher = safetensors_file.load(section.fisher, like)
  ewc.check(section.fisher, fisher)
  model = safetensors_file.description(section.fisher).get('model')
  if model != json.loads(json.dumps(student.loaded.description['model'])):
    raise ValueError(
        f'algorithm.ewc.fisher is {section.fisher!r}, of another model than '
        'student.weights')
  return ewc.Anchor(
      section.coefficient, jax.device_put(params, shardings.params),
      jax.device_put(fisher, shardings.params))


def trained_of(c: Any, params: Any) -> Callable[[Any], Any] | None:
  """params -> whether each is trained; None if all are.

  Args:
    c: the config.
    params: those of the student, or shapes.

  Raises:
    ValueError: for a pattern of optimizer.frozen that fits nothing; for
      adapters.
  """
  frozen = tuple(c.optimizer.get('frozen', ()))
  if not frozen:
    return None
  if c.lora.rank:
    raise ValueError(
        f'optimizer.frozen is {list(frozen)}, lora.rank is {c.lora.rank}; '
        'allowed: one of them. lora.matrices names what adapters train')
  optimizers.check_frozen(frozen, params)
  return functools.partial(optimizers.trained, frozen=frozen)
