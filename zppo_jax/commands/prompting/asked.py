"""Whose words stand around a question that a command asks."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from zppo_jax import allowed, configs, tasks
from zppo_jax.chat import dates, prompts
from zppo_jax.chat.rendering import Day
from zppo_jax.train.models import THINKING


class Asked(NamedTuple):
  """How a command asks.

  Attributes:
    texts: a user's own words by field, {} for those of the package; None: the
      message stands alone in the chat template.
    thinking: the switch of the chat template.
    day: the date in prompts; None: today.
    note: whose words they are, for the user; '' where the message stands alone.
  """
  texts: Mapping[str, str] | None
  thinking: bool | None
  day: Day | None
  note: str


def texts_of(config) -> dict[str, str]:
  """The words of a config and its task, as prompts.own gives them.

  Raises:
    KeyError, ValueError: as tasks.get and prompts.own.
  """
  name = config.data.get('task', '')
  task = tasks.get(name) if name else None
  return prompts.own(config.get('prompts', {}), task.prompts if task else {})


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
    ValueError: for a config of supervised training, or one besides `bare`; as
      configs.load and texts_of.
  """
  if bare and config:
    raise ValueError(f'--config is {config!r} with --bare; allowed: one of '
                     'them')
  if config:
    c = configs.load(config)
    if c.get('method') == 'sft':
      raise ValueError(f"--config is {config!r}, whose method is 'sft': it has "
                       'no words around questions. Allowed: a config of '
                       '`zppo train`')
    return Asked(texts_of(c), _switch(c.student), dates.choose(c),
                 f'prompts: those of --config={config}')
  run = None if bare else dates.run_of(pathlib.Path(model).resolve())
  if run is None or run[1]['config'].get('method') == 'sft':
    return Asked(None, None, None, '')
  folder, stored = run
  return Asked(stored.get('prompts', {}),
               _switch(stored['config'].get('student', {})),
               dates.of_run(folder), f'prompts: those of the run {folder.name}'
               '; --bare leaves the message alone')
