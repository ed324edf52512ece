"""What the configs of pods share: the recipe of configs/base.py on a TPU slice.

Each of pod_0_8b.py to pod_9b.py has a table of slices for which it was planned;
docs/plan.md has the plans. `--config=configs/pod_9b.py:v5p:4x4x4` takes the row
of a slice, and without a name the first one.

The run starts after `data.pool` is set to questions that you have, as in
configs/files.py, and the weights to folders whose names end as here.
"""

from typing import NamedTuple

from zppo_jax.configs import base

TEACHER = 'Qwen3.5-27B'


class Slice(NamedTuple):
  """How a run lies on a slice.

  Attributes:
    devices: JAX devices of the slice.
    tensor: devices that share a layer of the student; the others are fsdp.
    teacher_tensor: devices that share a layer of the teacher. It has 24 query
      heads, which they must divide.
    rows: responses of a group that a device trains on at a time, with one run
      of their prompt.
    weights: student.rollout_weights.
  """
  devices: int
  tensor: int = 1
  teacher_tensor: int = 8
  rows: int = 1
  weights: str = 'same'


def _on(student: str, of: Slice):
  """The recipe for a size on a slice."""
  c = base.get_config()
  c.student.weights, c.teacher.weights = student, TEACHER
  c.student.rollout_weights = of.weights
  c.teacher.rollout_weights = 'int8'
  c.mesh.update(data=1, fsdp=of.devices // of.tensor, tensor=of.tensor)
  c.teacher.mesh.update(data=1, fsdp=of.devices // of.teacher_tensor,
                        tensor=of.teacher_tensor)
  c.data.task = 'files'

  a, s = c.algorithm, c.shapes
  # The fewest slots that the student's mesh allows, 8 on each batch shard, and
  # as many of the teacher's as keep its pool small.
  s.slots = a.rollouts * of.devices // of.teacher_tensor
  s.micro_tokens = max(s.prompt_buckets) + of.rows * a.max_tokens
  # A group is padded to its longest response.
  s.response_buckets = (3072, 6144, a.max_tokens)
  # Students refill a few slots; an evaluation has a prompt for each slot.
  shards = of.devices // of.tensor
  s.group_buckets = (shards, shards * a.rollouts)
  if of.weights == 'int8':
    a.correction.kind = 'token_truncate'
  return c


def chosen(student: str, slices: dict[str, Slice], name: str):
  """The config of a size on the slice of a name; '' takes the first slice.

  Raises:
    KeyError: for a slice without a row; it names those that have one.
  """
  name = name or next(iter(slices))
  if name not in slices:
    raise KeyError(f'unknown slice {name!r}; known: {", ".join(slices)}')
  return _on(student, slices[name])
