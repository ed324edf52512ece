"""Destinations of a run's numbers besides metrics.jsonl: TensorBoard, W&B.

A writer has write(step, {name: value}) and close(); a new one is a function
and a row of WRITERS.
"""

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple

from zppo_jax import allowed
from zppo_jax.devices import disk


class Writer(NamedTuple):
  """Attributes: write(step, values) and close()."""
  write: Callable[[int, dict], None]
  close: Callable[[], None]


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
  """A context in which torch is not imported. tensorboardX does so where torch
  is installed, for a second, and numbers do without it."""
  if 'torch' in sys.modules:
    yield
    return
  sys.modules['torch'] = None  # type: ignore[assignment] # no import finds it
  try:
    yield
  finally:
    del sys.modules['torch']


def tensorboard(path, config_values: dict, name: str, step: int) -> Writer:
  """Event files in path/tensorboard; a resumed run hides the points it repeats.

  Events are written at once and not by a thread, because a full disk would end
  the thread and leave the run waiting for it.
  """
  del config_values, name
  with _without_torch():
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.summary import scalar
  folder = path / 'tensorboard'
  with disk.naming(folder):
    folder.mkdir(exist_ok=True)
    events = EventsWriter(str(folder / 'events'))

  def put(step, **what):
    with disk.naming(folder):
      events.write_event(Event(wall_time=time.time(), step=step, **what))
      events.flush()

  put(step, session_log=SessionLog(status=SessionLog.START))

  def write(step, values):
    put(step, summary={'value': [
        v for key, value in values.items() for v in scalar(key, value).value]})

  def close():
    with disk.naming(folder):
      events.close()

  return Writer(write, close)


def wandb(path, config_values: dict, name: str, step: int) -> Writer:
  """A run of the W&B project `name`, shown under the workdir's name.

  Its id is drawn once and kept in the workdir (wandb_id.txt). So two workdirs
  of one name are two runs, and a resumed or moved workdir goes on with its run.

  Raises:
    ValueError: if the package is not installed.
  """
  try:
    import wandb as client
  except ImportError as e:
    raise ValueError(f'log.wandb is {name!r}, but the package wandb is not '
                     'installed: pip install "zppo_jax[wandb]"') from e
  id_file = path / 'wandb_id.txt'
  if not id_file.is_file():
    partial = path / 'wandb_id.partial'  # a kill leaves a complete id or none
    partial.write_text(f'{uuid.uuid4().hex}\n')
    os.replace(partial, id_file)
  run = client.init(project=name, dir=str(path), config=config_values,
                    id=id_file.read_text().strip(), name=path.resolve().name,
                    resume='allow')
  run.define_metric('*', step_metric='step')
  del step  # points of an earlier attempt are written again; they are equal

  def write(step, values):
    run.log({'step': step, **values})

  return Writer(write, run.finish)


WRITERS = {'tensorboard': tensorboard, 'wandb': wandb}


def open_writers(chosen: dict, path, config_values: dict,
                 step: int) -> list[Writer]:
  """Opens the writers whose value in config.log is set (True or a name).

  Raises:
    KeyError: for an unknown writer; the message names the known ones.
  """
  writers = []
  for kind, value in chosen.items():
    allowed.one_of('writer', f'log.{kind}', [f'log.{name}' for name in WRITERS])
    if value:
      writers.append(WRITERS[kind](path, config_values, value, step))
  return writers
