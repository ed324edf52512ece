"""Tasks: where questions come from and what makes an answer right."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from zppo_jax.chat import micro_chat
from zppo_jax.chat.wording import Chat
from zppo_jax.records import Grader, Question
from zppo_jax.tasks import micro


class Task(NamedTuple):
  """A task as functions.

  Attributes:
    pool: fields of config.data.pool -> questions to train on.
    evaluation: (split, size) -> questions of an evaluation split.
    grader: parses and grades responses.
    chat: how questions become token ids.
  """
  pool: Callable[..., Sequence[Question]]
  evaluation: Callable[[str, int], Sequence[Question]]
  grader: Grader
  chat: Chat


TASKS = {
    'micro': Task(micro.pool, micro.evaluation,
                  Grader(micro.parse_answer, micro.grade), micro_chat.CHAT),
}


def get(name: str) -> Task:
  """A task by name; KeyError names the known ones."""
  if name not in TASKS:
    raise KeyError(f'unknown task {name!r}; known: {", ".join(TASKS)}')
  return TASKS[name]
