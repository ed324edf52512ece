"""Functions of the user's own that a run tells what happens: `run.callbacks`.

A callback is a function of one `Event`, named by import path. It looks on: what
it returns is not read, and guard.alarms and best.patience are what stop a run.
Several processes call it on the first of them.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zppo_jax import import_paths
from zppo_jax.devices import hosts

FIELD = 'run.callbacks'


class CallbackError(RuntimeError):
  """A callback raised an error; its own traceback is the cause."""


@dataclasses.dataclass(frozen=True)
class Event:
  """Something that happened in a run.

  Attributes:
    name: 'begin', before the first step of an attempt; 'step', once the numbers
      of a step are known; 'evaluation'; 'checkpoint', once its writing has
      begun; 'best', once the best weights so far are in WORKDIR/best; 'end',
      once the summary is written.
    step: the number of the step for 'step', else the steps done.
    numbers: of the step (docs/metrics.md), of the evaluation, or the summary;
      for 'best' its value; else {}.
    workdir: the directory of the run.
  """
  name: str
  step: int
  numbers: Mapping[str, Any]
  workdir: pathlib.Path


Callback = Callable[[Event], Any]


def load(names: Sequence[str]) -> dict[str, Callback]:
  """The callbacks of a config, by import path.

  Args:
    names: of the field run.callbacks.

  Raises:
    ValueError: for a name that leads to no function.
  """
  if isinstance(names, str):
    raise ValueError(f'{FIELD} is {names!r}; it must be a tuple of import '
                     f'paths, e.g. ({names!r},)')
  out = {}
  for name in names:
    module, function = import_paths.load(name, FIELD)
    if not callable(function):
      what = ('missing' if function is None
              else f'of type {type(function).__name__}')
      raise ValueError(f'{FIELD} has {name!r}, which is {what} in '
                       f'{module.__file__}; it must be a function of one '
                       'event')
    import_paths.check_call(f'{FIELD} {name!r}', function, 'event')
    out[name] = function
  return out


class Events:
  """Tells the callbacks of a run.

  Args:
    callbacks: the functions by import path.
    workdir: the directory of the run.
  """

  def __init__(self, callbacks: Mapping[str, Callback],
               workdir: pathlib.Path):
    self._callbacks, self._workdir = callbacks, workdir

  def tell(self, name: str, step: int,
           numbers: Mapping[str, Any] | None = None) -> None:
    """Calls every callback with an event, in the order of the config.

    Args:
      name, step, numbers: as those of Event.

    Raises:
      CallbackError: on every process, naming the callback, if one raises.
    """
    if self._callbacks:
      event = Event(name, step, dict(numbers or {}), self._workdir)
      hosts.from_first(lambda: self._call(event), 'the callbacks')

  def _call(self, event: Event) -> None:
    for name, function in self._callbacks.items():
      try:
        function(event)
      except Exception as e:
        raise CallbackError(
            f"{FIELD}: {name!r} failed at the event {event.name!r} of step "
            f'{event.step}: {type(e).__name__}: {e}') from e
