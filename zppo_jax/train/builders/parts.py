"""What several builders read: the questions, and the policy on its mesh."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from zppo_jax import models, tasks
from zppo_jax.chat.wording import Chat
from zppo_jax.data.loader import QuestionLoader
from zppo_jax.data.pool import Pool
from zppo_jax.models.lora import Lora
from zppo_jax.records import Question
from zppo_jax.train import models as loading
from zppo_jax.verdicts.verifier import Verifier


class Questions(NamedTuple):
  """Questions and their grader, from the config's data, eval and judge."""
  task: tasks.Task
  source: QuestionLoader
  splits: dict[str, tuple[Question, ...]]
  verifier: Verifier

  @property
  def words(self) -> Iterable[Question]:
    """The questions of the pool; those of files have no pictures yet."""
    pool = self.source.pool
    return pool.words() if isinstance(pool, Pool) else pool


class Student(NamedTuple):
  """The policy on its mesh: `loaded` holds its weights, `model` is the network
  with the mesh's kernels, `copied` returns the rollout copy of the weights with
  which the run began, always the same one, and `adapted` holds these weights
  too if they are frozen under adapters."""
  loaded: loading.Loaded
  chat: Chat
  model: models.Model
  copied: Callable[[], Any]
  adapted: Lora | None = None

  @property
  def trained(self) -> models.Model:
    """The network, whose `init` makes what is trained."""
    return self.model if self.adapted is None else self.model._replace(
        init=self.adapted.init)

  def joined(self, params: Any) -> Any:
    """Trained params -> the params of the network."""
    return params if self.adapted is None else self.adapted.join(params)

  def initial(self) -> Any:
    """The weights with which the run began, to run the network with: the frozen
    ones themselves under adapters, else the rollout copy."""
    return self.copied() if self.adapted is None else self.adapted.base
