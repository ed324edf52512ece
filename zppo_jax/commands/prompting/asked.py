"""Whose words stand around a question that a command asks."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from zppo_jax import allowed, configs, import_paths, tasks
from zppo_jax.chat import dates, prompts
from zppo_jax.chat.rendering import Day
from zppo_jax.chat.wording import Chat
from zppo_jax.train.models import THINKING


class Asked(NamedTuple):
  """How a command asks.

  Attributes:
    texts: a user's own words by field, {} for those of the package; None: the
      message stands alone in the chat template.
    thinking: the switch of the chat template.
    day: the date in prompts; None: today.
    note: whose words they are, for the user; '' where the message stands alone.
    chat: finds the chat of the task, for a model without a tokenizer.
    max_tokens: the longest response of the run or config; 0: it is not known.
  """
  texts: Mapping[str, str] | None
  thinking: bool | None
  day: Day | None
  note: str
  chat: Callable[[], Chat | None] | None = None
  max_tokens: int = 0


def texts_of(config) -> dict[str, str]:
  """The words of a config and its task, as prompts.own gives them.

  Raises:
    KeyError, ValueError: as tasks.get and prompts.own.
  """
  name = config.data.get('task', '')
  task = tasks.get(name) if name else None
  return prompts.own(config.get('prompts', {}), task.prompts if task else {})


def _chat_of(data: Mapping[str, Any]) -> Chat | None:
  """The chat of the task of a section `data`, whose module may lie here."""
  import_paths.search(os.curdir)
  return tasks.get(data['task']).chat


def _longest(config: Mapping[str, Any]) -> int:
  return (config.get('algorithm') or {}).get('max_tokens', 0)


def _switch(student: Mapping[str, Any]) -> bool | None:
  return allowed.known('student.thinking', student.get('thinking', 'default'),
                       THINKING)


def of(model: str, config: str | None, bare: bool) -> Asked:
  """How to ask a model.

  Args:
    model: what the command takes as --model. A run that was trained on
      questions has its words, its date and its student.thinking.
    config: the name of a config that has the words instead.
    bare: whether the message stands alone, whatever the model.

  Raises:
    ValueError: for a config besides `bare`; as configs.load and texts_of.
  """
  if bare and config:
    raise ValueError(f'--config is {config!r} with --bare; allowed: one of '
                     'them')
  if config:
    c = configs.load(config)
    return Asked(texts_of(c), _switch(c.student), dates.choose(c),
                 f'prompts: those of --config={config}',
                 lambda: _chat_of(c.data), _longest(c))
  run = None if bare else dates.run_of(pathlib.Path(model).resolve())
  if run is None or run[1]['config'].get('method') == 'sft':
    return Asked(None, None, None, '')
  folder, stored = run
  return Asked(stored.get('prompts', {}),
               _switch(stored['config'].get('student', {})),
               dates.of_run(folder), f'prompts: those of the run {folder.name}'
               '; --bare leaves the message alone',
               lambda: _chat_of(stored['config']['data']),
               _longest(stored['config']))
