"""When splits are evaluated, which evaluation was the best, and when to stop.

The section `best` names a number of evaluations: a split, or the mean of all
splits. The weights with the best one are kept (control/best.py), and a run may
end when several evaluations in a row were no better (early stopping, Prechelt
1998).
"""

import dataclasses
import operator
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from zppo_jax import allowed

MEAN = 'mean'  # of all splits
_BETTER = {'max': operator.gt, 'min': operator.lt}


@dataclasses.dataclass(frozen=True)
class BestConfig:
  """The config section `best`.

  Attributes:
    metric: a number of evaluations, 'mean' for the mean of all splits, or ''
      for none.
    mode: 'max' if more is better, else 'min'.
    patience: the evaluations of the metric in a row without a better one that
      end the run; 0: none do.
    least: by how much one must be better to count.
  """
  metric: str = ''
  mode: str = 'max'
  patience: int = 0
  least: float = 0.0

  def __post_init__(self) -> None:
    allowed.one_of('best.mode', self.mode, _BETTER)
    allowed.number('best.patience', self.patience, '>= 0', whole=True,
                   note=' (0: a run goes on to its last step)')
    allowed.number('best.least', self.least, '>= 0')
    if self.patience and not self.metric:
      raise ValueError(f'best.patience is {self.patience}, and best.metric '
                       'names no number that it waits for')


class Best(NamedTuple):
  """The best evaluation so far; a checkpoint holds it.

  Attributes:
    metric, mode: those of the section.
    step: the steps done at that evaluation.
    value: the number.
    waited: the evaluations of it since then.
  """
  metric: str
  mode: str
  step: int
  value: float
  waited: int = 0


@dataclasses.dataclass(frozen=True)
class Evaluations:
  """When a run evaluates what, and how it judges the numbers.

  Attributes:
    every: steps between two evaluations of a split; 0: at both ends alone.
    cadence: split -> steps of its own.
    splits: all splits.
    best: the section `best`.
  """
  every: int = 0
  cadence: Mapping[str, int] = dataclasses.field(default_factory=dict)
  splits: tuple[str, ...] = ()
  best: BestConfig = BestConfig()

  def __post_init__(self) -> None:
    allowed.number('eval.every', self.every, '>= 0', whole=True)
    for name, steps in self.cadence.items():
      allowed.one_of('eval.cadence', name, self.splits)
      allowed.number(f'eval.cadence.{name}', steps, '>= 0', whole=True,
                     note=' (0: at both ends of the run)')

  def every_of(self, split: str) -> int:
    """The steps between two evaluations of a split."""
    return self.cadence.get(split, self.every)

  def due(self, step: int, last: bool = False) -> tuple[str, ...]:
    """The splits that are evaluated after `step` steps.

    Args:
      step: the steps done.
      last: whether the run ends here, which evaluates all.
    """
    if last:
      return self.splits
    return tuple(name for name in self.splits if (every := self.every_of(name))
                 and step % every == 0)

  def count(self, steps: int) -> float:
    """Evaluations of all splits in a run of so many steps, parts counted as
    parts; the one before the first step included."""
    if not self.splits:
      return 0.0
    done = [len(self.due(step, step == steps)) for step in range(1, steps + 1)]
    return 1 + sum(done) / len(self.splits)

  def value(self, numbers: Mapping[str, float]) -> float | None:
    """The number that best.metric names; None if this evaluation has it not.

    Args:
      numbers: of one evaluation.
    """
    if self.best.metric != MEAN or MEAN in self.splits:
      return numbers.get(self.best.metric)
    names = [n for n in numbers if n in self.splits]
    return (statistics.fmean(numbers[n] for n in names)
            if len(names) == len(self.splits) else None)

  def judged(self, best: Best | None, step: int,
             numbers: Mapping[str, float]) -> Best | None:
    """The best evaluation after one more.

    Args:
      best: the best one before; None if there was none.
      step: the steps done.
      numbers: of the evaluation.
    """
    if not self.best.metric:
      return None
    value = self.value(numbers)
    of = self.best
    if best is not None and (best.metric, best.mode) != (of.metric, of.mode):
      best = None  # the section was changed between two attempts
    if value is None:
      return best
    sign = 1 if of.mode == 'max' else -1
    if best is None or _BETTER[of.mode](value, best.value + sign * of.least):
      return Best(metric=of.metric, mode=of.mode, step=step, value=value)
    return best._replace(waited=best.waited + 1)

  def ended(self, best: Best | None) -> str | None:
    """Why the run ends early, or None."""
    patience = self.best.patience
    if not patience or best is None or best.waited < patience:
      return None
    return (f'{best.metric} was no better than {best.value:.4g}, which it was '
            f'after {best.step} steps, in {best.waited} evaluations; '
            f'best.patience is {patience}')


def of_run(config: Any, splits: Sequence[str],
           numbers: Sequence[str]) -> Evaluations:
  """The evaluations of a run.

  Args:
    config: the run's config.
    splits: the names of its splits.
    numbers: the names of the numbers of an evaluation of all of them.

  Raises:
    KeyError, ValueError: naming the field that does not fit.
  """
  section = BestConfig(**config.best)
  mean = [MEAN] if {*splits} <= {*numbers} else []
  if section.metric:
    allowed.one_of('best.metric', section.metric, (*numbers, *mean))
  return Evaluations(
      every=config.eval.every, cadence=dict(config.eval.cadence),
      splits=tuple(splits), best=section)


def summary(plan: Evaluations, best: Best | None, step: int,
            steps: int) -> dict[str, Any]:
  """What a summary says of the best evaluation and of an early stop.

  Args:
    plan: the evaluations of the run.
    best: the best one.
    step: the steps done.
    steps: those of the config.
  """
  out: dict[str, Any] = {}
  if best is not None:
    out['best'] = {'metric': best.metric, 'step': best.step,
                   'value': best.value}
  why = plan.ended(best)
  if why and step < steps:
    out['stopped'] = {'why': why, 'section': dataclasses.asdict(plan.best)}
  return out


def stopped(summary: Mapping[str, Any]) -> str:
  """A line about an early stop, from a summary; '' without one."""
  if 'stopped' not in summary:
    return ''
  return (f'stopped early after {summary["steps"]} steps: '
          f'{summary["stopped"]["why"]}. A larger best.patience, or 0, goes on')


def is_stopped(summary: Mapping[str, Any], config: Any) -> bool:
  """Whether a summary is of a run that stopped early, by the section `best`
  that its config still has."""
  return 'stopped' in summary and summary['stopped'].get(
      'section') == dataclasses.asdict(BestConfig(**config.best))
