"""The runs of a study as values: where they are, and their commands."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from zppo_jax.study import endpoints
from zppo_jax.study.workers import Workers

MODELS = '{models}'  # in a value of a study: the folder of its own models
NOTE = 'study.json'  # in a run's folder: its command and the seconds it took
PRETRAIN = 'configs/micro_pretrain.py'


@dataclasses.dataclass(frozen=True)
class StudyRun:
  """One run: its directory and its config overrides."""
  arm: str
  rate: float
  seed: int
  overrides: tuple[tuple[str, object], ...]

  @property
  def name(self) -> str:
    return f'{self.arm}-lr{self.rate:g}-seed{self.seed}'


@dataclasses.dataclass(frozen=True)
class Place:
  """Where and how runs are made.

  Attributes:
    home: the directory of the study.
    base: the config of all runs.
    cores: one run at a time is pinned to each; None for one that is not.
    answers: splits whose greedy answers after training are kept; () for none.
    last: the last steps whose samples say the spread; 0: no endpoints but those
      of the summary.
    width: steps of a window in which saturated BCQs are counted; 0: they are
      not.
    watched: metrics whose means over the steps are endpoints too.
    workers: the processes that run commands.
  """
  home: pathlib.Path
  base: str
  cores: tuple[int | None, ...]
  answers: tuple[str, ...] = ()
  last: int = 0
  width: int = 0
  watched: tuple[str, ...] = ()
  workers: Workers = dataclasses.field(default_factory=Workers)

  def of(self, job: StudyRun) -> pathlib.Path:
    """The folder of a run."""
    return self.home / 'runs' / job.name


def placed(fields: Iterable[Sequence], home: pathlib.Path
           ) -> tuple[tuple[str, object], ...]:
  """Overrides with the folder of the study's models in the place of MODELS."""
  return tuple(
      (name, value.replace(MODELS, str(home / 'models'))
       if isinstance(value, str) else value) for name, value in fields)


def jobs(config, rates: Mapping[str, Sequence[float]], seeds: Sequence[int],
         home: pathlib.Path = pathlib.Path(),
         changes: Mapping[str, Sequence] | None = None) -> list[StudyRun]:
  """Every arm at its rates and all seeds; seeds vary slowest.

  Args:
    config: the study.
    rates: arm -> learning rates.
    seeds: the seeds.
    home: the directory of the study.
    changes: arm -> overrides that come after those of the study.
  """
  return [
      StudyRun(arm, rate, seed, placed(
          (*config.common, *fields, *(changes or {}).get(arm, ())), home))
      for seed in seeds for arm, fields in config.arms.items() if arm in rates
      for rate in rates[arm]]


def command(job: StudyRun, base: str, path: pathlib.Path) -> list[str]:
  """The documented command that a job stands for, after `zppo`."""
  return ['train', f'--config={base}', f'--workdir={path}',
          f'--config.seed={job.seed}',
          f'--config.optimizer.learning_rate={job.rate}',
          *(f'--config.{name}={value}' for name, value in job.overrides)]


def answers_command(job: StudyRun, base: str, path: pathlib.Path,
                    splits: Sequence[str]) -> list[str]:
  """The command that keeps a run's greedy answers after training."""
  return ['eval', f'--config={base}', f'--checkpoint={path}',
          f'--to={path / endpoints.ANSWERS}',
          f'--splits={",".join(splits)}', f'--config.seed={job.seed}',
          *(f'--config.{name}={value}' for name, value in job.overrides)]


def pretrain_command(role: str, fields: Iterable[Sequence],
                     to: pathlib.Path) -> list[str]:
  """The command that makes a model of a study."""
  return ['pretrain', f'--config={PRETRAIN}:{role}', f'--to={to}',
          *(f'--config.{name}={value}' for name, value in fields)]


class Seconds(NamedTuple):
  """What a command took, by the clock and of the processors."""
  seconds: float
  cpu_s: float


def noted(path: pathlib.Path) -> dict:
  """Command -> what `run_job` noted of it; {} of a run from elsewhere."""
  file = path / NOTE
  return json.loads(file.read_text()) if file.is_file() else {}


def seconds_of(path: pathlib.Path) -> Seconds:
  """The seconds of a run's commands, the last attempt of each; 0 if unknown."""
  notes = noted(path).values()
  return Seconds(*(float(sum(of[name] for of in notes))
                   for name in Seconds._fields))
