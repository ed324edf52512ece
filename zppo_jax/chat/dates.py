"""The date of a run's prompts; some chat templates tell it to the model.

It is fixed at a run's start and stored in its config.json, so that a run which
goes on another day, and an evaluation of it, have the prompts of the first
day. Only here is a clock asked.
"""

import datetime
import json
import pathlib

from zppo_jax.chat.rendering import Day, parse_day


def today() -> Day:
  return Day(datetime.date.today(), False)


def named(text: str | None, field: str) -> Day | None:
  """A date that somebody named; None for nothing.

  Raises:
    ValueError: naming the field, if it is no date in ISO form.
  """
  return parse_day(text, field) if text not in ('', None) else None


def _run_of(path: pathlib.Path) -> tuple[pathlib.Path, dict] | None:
  """(workdir, its config.json) of a run, its final weights, or one of its
  checkpoints."""
  folder = path
  if path.name in ('final.safetensors', 'checkpoints'):
    folder = path.parent
  elif path.parent.name == 'checkpoints':
    folder = path.parent.parent
  file = folder / 'config.json'
  if not file.is_file():
    return None
  try:
    found = json.loads(file.read_text())
  except ValueError as e:
    raise ValueError(f'{file} is not readable: {e}') from e
  # A checkpoint folder of the hub has a config.json, too.
  if isinstance(found, dict) and {'config', 'versions'} <= set(found):
    return folder, found
  return None


def of_run(path) -> Day | None:
  """The date of a run's prompts; None where there is no run.

  A run of a version that stored none began on the day of its first attempt.

  Args:
    path: a workdir, its final.safetensors, or a checkpoint in it.

  Raises:
    ValueError: naming the file, if it is not readable or what it stores is
      no date.
  """
  found = _run_of(pathlib.Path(path).resolve())
  if found is None:
    return None
  folder, stored = found
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
  """The date of prompts: the config's, else that of the first run that has
  one, else today's.

  Args:
    config: of a run; its student.date.
    *runs: paths as of `of_run`; None for none.

  Raises:
    ValueError: naming student.date if it is no date; as `of_run`.
  """
  day = named(config.student.get('date', ''), 'student.date')
  for path in runs:
    if day is None and path is not None:
      day = of_run(path)
  return today() if day is None else day
