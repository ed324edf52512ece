"""When a run stops early: limits on a step's numbers, and the errors."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from zppo_jax import allowed
from zppo_jax.records import UNGRADED, CallStats


class Interrupted(Exception):
  """A signal asked the run to stop; the run was saved and can be resumed.

  Attributes:
    number: the number of the signal.
  """

  def __init__(self, text: str, number: int):
    super().__init__(text)
    self.number = number


class Ungraded(RuntimeError):
  """More rollouts without a verdict than guard.max_ungraded allows."""


class TeacherFailed(RuntimeError):
  """More missing answers than teacher.max_failures, or more missing scores than
  distil.max_missing; the run was saved."""


class Idle(RuntimeError):
  """More work in vain than guard.max_idle or teacher.min_answered allows; the
  run was saved."""


class Diverged(RuntimeError):
  """NaN, or probability ratios beyond guard.max_ratio."""


def ungraded(row: dict, most: float) -> str | None:
  """Why a step's verdicts may not be trained on, or None.

  Args:
    row: the step's metrics.
    most: the largest allowed share of rollouts without a verdict.
  """
  if not row['verdict/ungraded'] > most:
    return None
  causes = ', '.join(
      f'{v.name.lower()} {row[f"verdict/{v.name.lower()}"]:.3g}'
      for v in sorted(UNGRADED) if f'verdict/{v.name.lower()}' in row)
  return (f'verdict/ungraded is {row["verdict/ungraded"]:.3g} ({causes}), more '
          f'than guard.max_ungraded = {most:g}')


def trouble(row: dict, max_ratio: float) -> str | None:
  """Why a run may not continue after a step with these numbers, or None.

  Args:
    row: the step's metrics.
    max_ratio: probability ratios must lie in [1 / max_ratio, max_ratio].
  """
  for name in ('update/loss', 'update/grad_norm', 'update/ratio_max',
               'update/ratio_min'):
    if not np.isfinite(row[name]):
      return f'{name} is {row[name]}'
  for name in ('update/ratio_max', 'update/ratio_min'):
    if not 1 / max_ratio <= row[name] <= max_ratio:
      return (f'{name} is {row[name]:g}, outside [1/r, r] for guard.max_ratio '
              f'= {max_ratio:g}')
  return None


def unscored(row: dict, most: float) -> str | None:
  """Why a run may not continue after a step with these numbers, or None.

  Args:
    row: the step's metrics.
    most: the largest allowed share of tokens without a score of the teacher.
  """
  if not row.get('distil/missing', 0) > most:
    return None
  return (f'distil/missing is {row["distil/missing"]:.3g}, the share of '
          'response tokens without a score of the teacher, more than '
          f'distil.max_missing = {most:g}')


@dataclasses.dataclass(frozen=True)
class FailureBudget:
  """How many missing answers of a teacher a run accepts.

  Attributes:
    max_failures: the largest share over the last `window` steps; 1 accepts all.
    window: the number of steps in which the teacher was asked; with fewer steps
      nothing is judged.
  """
  max_failures: float
  window: int

  def __post_init__(self):
    allowed.number('teacher.max_failures', self.max_failures, '[0, 1]')
    allowed.number('teacher.window', self.window, '>= 1')

  def ended(self, calls: Sequence[CallStats]) -> str | None:
    """Why a run may not continue after these steps (latest last), or None."""
    last = [c for c in calls if c.answers][-self.window:]
    total = sum(last, CallStats())
    missing = sum(total.failed.values())
    if (len(last) < self.window
        or missing <= self.max_failures * total.answers):
      return None
    causes = ', '.join(f'{count} {cause.name.lower()}' for cause, count in
                       sorted(total.failed.items(), key=lambda x: -x[1]))
    return (f'{missing} of {total.answers} answers of the teacher are missing '
            f'in the last {self.window} steps, more than teacher.max_failures '
            f'= {self.max_failures:g}: {causes}; last error: {total.error}')
