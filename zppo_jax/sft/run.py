"""The record of a supervised run: everything that its steps need."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from zppo_jax.arrays import TrainState
from zppo_jax.chat.wording import Chat
from zppo_jax.devices.notice import Notice
from zppo_jax.learner.states import Initial
from zppo_jax.models import Model
from zppo_jax.models.lora import Lora
from zppo_jax.runs import checkpoints, watch
from zppo_jax.sft.dataset import Dataset, Lessons, Room
from zppo_jax.train import guards


@dataclasses.dataclass(frozen=True)
class SftRun:
  """Attributes:
    steps, seed, eval_every, checkpoint, vain, description, rate, update_fn,
      init_state, abstract_state: as those of train.run.Run.
    source: the conversations of each step.
    splits: validation split -> its conversations.
    chat: of the student.
    model: the network, with the kernels of the mesh.
    mesh: the mesh.
    room: the rows of micro-batches.
    micro_tokens: positions of a micro-batch on each batch shard.
    packed: whether conversations share rows.
    evaluate_fn: (params, micro-batch) -> its Sums.
    patience: that of a run without a teacher.
    replays, buffer_capacity: those of a run without a replay buffer, whose
      checkpoints hold an empty one.
    reference, ewc: those of a run whose policy and parameters nothing holds.
    notice: whether the run must end.
    journal: that of a run without rollouts.
    adapted: as that of train.run.Run.
    config: the config with what shapes.auto proposed; None without that.
  """
  steps: int
  seed: int
  source: Lessons
  splits: Mapping[str, Dataset]
  eval_every: int
  checkpoint: checkpoints.Policy
  vain: watch.Limits
  description: dict
  chat: Chat
  model: Model
  mesh: Any
  room: Room
  micro_tokens: int
  packed: bool
  rate: Callable[[int], float]
  update_fn: Any
  evaluate_fn: Any
  init_state: Initial
  abstract_state: TrainState
  patience: guards.FailureBudget = guards.FailureBudget(1.0, 1)
  replays: bool = False
  buffer_capacity: int = 1
  reference: None = None
  ewc: None = None
  notice: Notice = dataclasses.field(default_factory=Notice)
  journal: None = None
  adapted: Lora | None = None
  config: Any = None
