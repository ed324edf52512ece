"""Tasks: where questions come from and what makes an answer right.

A config names one of TASKS, or `package.module:NAME`: a `Task` of the user's
own (docs/your_task.md).
"""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from zppo_jax.chat import micro_chat
from zppo_jax.chat.wording import Chat
from zppo_jax.data import suites
from zppo_jax.records import Grader, Question
from zppo_jax.tasks import digits, files, micro, micro_pictures, reasoning_gym
from zppo_jax.verdicts.verifier import BOXED, NUMBERS, Verifier


class Task(NamedTuple):
  """A task as functions.

  Attributes:
    pool: fields of config.data.pool -> questions to train on.
    evaluation: (split, size) -> questions of an evaluation split.
    grader: parses and grades responses.
    chat: how questions become token ids, where the model brings no tokenizer
      of its own; None if it has to.
  """
  pool: Callable[..., Sequence[Question]]
  evaluation: Callable[[str, int], Sequence[Question]]
  grader: Grader
  chat: Chat | None = None


TASKS = {
    'micro': Task(micro.pool, micro.evaluation,
                  Grader(micro.parse_answer, micro.grade), micro_chat.CHAT),
    'micro_pictures': Task(
        micro_pictures.pool, micro_pictures.evaluation,
        Grader(micro.parse_answer, micro.grade), micro_pictures.CHAT),
    'digits': Task(digits.pool, digits.evaluation,
                   Grader(digits.parse_answer, digits.grade)),
    'reasoning_gym': Task(reasoning_gym.pool, reasoning_gym.evaluation,
                          BOXED),
    'reasoning_gym_numbers': Task(
        reasoning_gym.pool, reasoning_gym.evaluation, NUMBERS),
    'files': Task(files.pool, files.evaluation, BOXED),
}


def graded_by(task: Task, verifier: Verifier) -> Task:
  """A task whose questions with a kind a run's own verifier grades."""
  return task._replace(
      grader=dataclasses.replace(task.grader, verifier=verifier))


def splits(task: Task, config, names: Sequence[str]
           ) -> dict[str, tuple[Question, ...]]:
  """Evaluation questions by split.

  A name of config.sources is read from files, `bench:NAME` is a benchmark on
  disk (data/suites.py), any other one is the task's.

  Args:
    task: of the run.
    config: its section `eval`.
    names: the splits.

  Raises:
    KeyError, ValueError, FileNotFoundError: naming what does not fit.
  """
  out = {}
  for name in names:
    if name in config.sources:
      found = files.split(name, config.sources[name], config.size)
    elif name.startswith(suites.PREFIX):
      found = suites.load(name, config.benchmarks, config.size)
    else:
      found = task.evaluation(name, config.size)
    out[name] = tuple(found)
  return out


def get(name: str) -> Task:
  """A task by name or by import path `package.module:NAME`.

  Raises:
    KeyError: for an unknown name, with the known ones.
    ValueError: if the path leads to no `Task`, saying what is there.
  """
  if ':' not in name:
    if name not in TASKS:
      raise KeyError(f'unknown task {name!r}; known: {", ".join(TASKS)}, or '
                     'package.module:NAME of your own')
    return TASKS[name]
  path, attribute = name.split(':', 1)
  try:
    module = importlib.import_module(path)
  except ImportError as e:
    raise ValueError(f'data.task is {name!r}, but {path!r} cannot be '
                     f'imported: {e}') from e
  found = getattr(module, attribute, None)
  if not isinstance(found, Task):
    known = [n for n, v in vars(module).items() if isinstance(v, Task)]
    raise ValueError(f'data.task is {name!r}, but {attribute!r} in {path!r} is '
                     f'{type(found).__name__}, not a Task; tasks there: '
                     f'{", ".join(known) or "none"}')
  return found
