"""The date of a run's prompts; some chat templates tell it to the model.

The date is fixed at a run's start and stored in its config.json, so that a run
which goes on another day, and an evaluation of it, have the prompts of the
first day. No other module of this folder reads a clock.
"""

import datetime
import json
import pathlib

from zppo_jax.chat.rendering import Day, parse_day


def today() -> Day:
  return Day(datetime.date.today(), False)


def named(text: str | None, field: str) -> Day | None:
  """A date that a user named; None where the user named none.

  Raises:
    ValueError: naming the field, if the text is no date in ISO form.
  """
  return parse_day(text, field) if text not in ('', None) else None


def run_of(path: pathlib.Path) -> tuple[pathlib.Path, dict] | None:
  """(workdir, content of config.json) of the run that a path belongs to.

  Args:
    path: a workdir, its final weights, or one of its checkpoints.
  """
  folder = path
  if path.name in ('final.safetensors', 'checkpoints'):
    folder = path.parent
  elif path.parent.name == 'checkpoints':
    folder = path.parent.parent
  file = folder / 'config.json'
  if not file.is_file():
    return None
  try:
    config = json.loads(file.read_text())
  except ValueError as e:
    raise ValueError(f'{file} is not readable: {e}') from e
  # A checkpoint folder of the hub has a config.json, too.
  if isinstance(config, dict) and {'config', 'versions'} <= set(config):
    return folder, config
  return None


def of_run(path) -> Day | None:
  """The date of a run's prompts; None where there is no run.

  Older versions stored no date; their runs began on the day of the first
  attempt.

  Args:
    path: a workdir, its final.safetensors, or a checkpoint in it.

  Raises:
    ValueError: naming the file, if it is not readable or stores no date.
  """
  run = run_of(pathlib.Path(path).resolve())
  if run is None:
    return None
  folder, stored = run
  given = bool((stored['config'].get('student') or {}).get('date'))
  if 'date' in stored:
    return parse_day(stored['date'], f'{folder / "config.json"}: date'
                     )._replace(given=given)
  for attempt in sorted((folder / 'attempts').glob('*/attempt.json')):
    try:
      begun = json.loads(attempt.read_text())['started'][:10]
      return Day(datetime.date.fromisoformat(begun), given)
    except (OSError, ValueError, KeyError, TypeError):
      continue
  return None


def choose(config, *runs) -> Day:
  """The date of prompts.

  It is the config's date; without one, that of the first run that has a date;
  without one, today's.

  Args:
    config: the config of a run, for its student.date.
    *runs: paths as in `of_run`; None for no run.

  Raises:
    ValueError: naming student.date if it is no date; as `of_run`.
  """
  day = named(config.student.get('date', ''), 'student.date')
  for path in runs:
    if day is None and path is not None:
      day = of_run(path)
  return today() if day is None else day
