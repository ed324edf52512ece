"""What is left of complete runs: a record each, from which results are made.

A study keeps the records in `records.jsonl`. A run that has one is not run
again, also where its folder is gone. So a study that takes days can go on on
another machine with that file and the study's models.
"""

import hashlib
import json
import pathlib

from zppo_jax.devices import disk
from zppo_jax.runs import workdir
from zppo_jax.study import endpoints, saturation
from zppo_jax.study.jobs import MODELS, Place, StudyRun, noted, seconds_of
from zppo_jax.study.tables import step_seconds

NAME = 'records.jsonl'


def _made_of(place: Place, job: StudyRun) -> dict:
  """All that a record depends on. Models of the study count by content."""
  folder = str(place.home / 'models')
  fields, models = {}, {}
  for name, value in job.overrides:
    if isinstance(value, str) and folder in value:
      file = pathlib.Path(value)
      models[file.stem] = (hashlib.sha256(file.read_bytes()).hexdigest()
                           if file.is_file() else 'missing')
      value = value.replace(folder, MODELS)
    fields[name] = value
  return json.loads(json.dumps({
      'base': place.base, 'rate': job.rate, 'seed': job.seed, 'fields': fields,
      'models': models, 'answers': place.answers, 'last': place.last,
      'width': place.width,
      **({'watched': place.watched} if place.watched else {})}))


def read(place: Place, job: StudyRun) -> dict:
  """The record of a run that is complete, or that a guard stopped, from its
  folder: the summary, the evaluation curve, the seconds per step and the
  endpoints; and of the latter why it stopped.

  Args:
    place: where the runs are, and what is read of them.
    job: the run.
  """
  path = place.of(job)
  curve, metrics = (endpoints.json_lines(path / name)
                    for name in ('eval.jsonl', 'metrics.jsonl'))
  record = {'arm': job.arm, 'rate': job.rate, 'seed': job.seed,
            'summary': endpoints.summary_of(path), 'curve': curve,
            'step_s': step_seconds(metrics)}
  if why := endpoints.stop_of(path):
    record['stopped'] = why
  if place.last:
    record['endpoints'] = endpoints.of_run(
        path, place.last, place.watched)
    record['spread'] = record['endpoints'].get('spread', float('nan'))
  if place.width:
    record['saturation'] = saturation.by_steps(
        endpoints.json_lines(path / 'samples.jsonl'), place.width)
  if (path / 'config.json').is_file():
    record['revision'] = workdir.read_config(path).get('git_revision', '')
  if note := noted(path):
    record['commands'] = [of['command'] for of in note.values()]
    record |= seconds_of(path)._asdict()
  return record


class Records:
  """The records of a study's folder.

  Attributes:
    file: where they are kept.
  """

  def __init__(self, home: pathlib.Path):
    self.file = home / NAME
    self._of: dict[str, dict] = {}
    whole = self.file.read_text() if self.file.is_file() else ''
    complete, _, partial = whole.rpartition('\n')
    if partial:  # of a command that was killed
      self.file.write_text(complete + '\n' if complete else '')
    for line in complete.splitlines():
      kept = json.loads(line)
      self._of[kept['name']] = kept

  def of(self, place: Place, job: StudyRun) -> dict | None:
    """The record of a run; None if it has none.

    Raises:
      ValueError: if it was made with other fields, or with another model.
    """
    kept = self._of.get(job.name)
    if kept is None:
      return None
    wanted = _made_of(place, job)
    for field, value in wanted.items():
      if (was := kept['made_of'].get(field)) != value:
        raise ValueError(
            f'{self.file}: the record of {job.name} was made with {field} = '
            f'{was!r}; the study now says {value!r}. Take '
            'another --to, or remove that record and its run')
    return kept['record']

  def keep(self, place: Place, job: StudyRun) -> dict:
    """Reads the record of a run that is complete, and keeps it.

    Raises:
      OSError: see disk.append.
    """
    kept = {'name': job.name, 'made_of': _made_of(place, job),
            'record': read(place, job)}
    disk.append(self.file, json.dumps(kept, sort_keys=True) + '\n')
    self._of[job.name] = kept
    return kept['record']
