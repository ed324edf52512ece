"""Numbers of a study that are computed from runs, not written by hand: steps at
an equal budget, and the hours that a table takes."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zppo_jax import allowed

# What two arms may have in equal number -> function of a run's summary.
SPENT = {
    'student_rollouts': lambda summary: summary['student_rollouts'],
    'tokens': lambda summary: sum(
        count for role, count in summary['tokens'].items()
        if not role.startswith('probe_'))}


def equal_steps(records: Sequence[Mapping], lengthened: str, reference: str,
                spent: str) -> int:
  """The fewest steps after which one arm has spent as much as another does in
  its whole run, by means over the runs.

  Args:
    records: {'arm', 'summary'} of complete runs.
    lengthened: the arm that takes other steps.
    reference: the arm whose budget it gets.
    spent: a key of SPENT.

  Raises:
    ValueError: if an arm has no run.
  """
  of = allowed.known('matched', spent, SPENT)
  summaries: dict[str, list[Mapping]] = {lengthened: [], reference: []}
  for record in records:
    if record['arm'] in summaries:
      summaries[record['arm']].append(record['summary'])
  for arm, found in summaries.items():
    if not found:
      raise ValueError(f'matched: the arm {arm!r} has no development run, from '
                       'which steps of an equal budget could be computed')
  whole = float(np.mean([of(s) for s in summaries[reference]]))
  per_step = float(np.mean([of(s) / s['steps'] for s in summaries[lengthened]]))
  return math.ceil(round(whole / per_step, 6))


class Measured(NamedTuple):
  """What a short run of an arm told.

  Attributes:
    whole_s: the processors' seconds of its process, start and compilation
      included.
    step_s: seconds per step by the clock, which are more where another job
      shares the core.
    evaluation_s: the same per evaluation, without its compilation.
    steps: the steps of the short run.
    evaluations: its evaluations, the first included.
  """
  whole_s: float
  step_s: float
  evaluation_s: float
  steps: int
  evaluations: int

  def run_s(self, steps: int, evaluations: int) -> float:
    """The seconds of a run of so many steps and evaluations."""
    return (self.whole_s + (steps - self.steps) * self.step_s
            + (evaluations - self.evaluations) * self.evaluation_s)


def table_hours(run_s: Mapping[str, float], counts: Mapping[str, int],
                workers: int) -> float:
  """The hours of a table.

  Args:
    run_s: arm -> seconds of one run.
    counts: arm -> its runs.
    workers: how many runs go on at a time.
  """
  return sum(run_s[arm] * count for arm, count in counts.items()) / (
      3600 * workers)
