"""What several builders read: the questions, and the policy on its mesh."""

from typing import NamedTuple

from zppo_jax import models, tasks
from zppo_jax.chat.wording import Chat
from zppo_jax.data.loader import QuestionLoader
from zppo_jax.records import Question
from zppo_jax.train import models as loading
from zppo_jax.verdicts.verifier import Verifier


class Questions(NamedTuple):
  """Questions and their grader, from the config's data, eval and judge."""
  task: tasks.Task
  source: QuestionLoader
  splits: dict[str, tuple[Question, ...]]
  verifier: Verifier


class Student(NamedTuple):
  """The policy on its mesh: `loaded` holds its weights, `model` is the network
  with the mesh's kernels."""
  loaded: loading.Loaded
  chat: Chat
  model: models.Model
