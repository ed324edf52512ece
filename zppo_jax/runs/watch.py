"""Work in vain: a run warns of it, and stops if it lasts.

A step is idle if nothing moves the weights towards an answer, because no group
holds both a right and a wrong rollout. A teacher that is never right leaves
only the NCQ. Neither is an error if it happens in one step; `Watch` counts such
steps.
"""

import collections
import dataclasses

from zppo_jax import allowed
from zppo_jax.runs.alarms import Alarm, Bells


def idle(row: dict) -> bool:
  """Whether a step had no gradient of rewards, according to its metrics."""
  # A penalty towards the reference trains rollouts without an advantage too,
  # but it moves no weight towards an answer. A teacher does without advantages.
  penalty_alone = ('reference/kl' in row and 'distil/lessons' not in row
                   and row.get('advantage/abs_max', 1) == 0)
  return (row.get('update/trained_tokens', 1) == 0
          or row.get('update/grad_norm', 1) == 0 or penalty_alone)


def asked(row: dict) -> tuple[int, int]:
  """(questions that the teacher was asked, those it answered correctly)."""
  count = row.get('hard/asked', 0)
  return count, round(count * row.get('teacher/answered', 0))


def _cause(row: dict) -> str:
  """Why a step was idle, as far as its rollouts show."""
  if row.get('distil/lessons') == 0:
    return ('the teacher had no right answer, so nothing was taught'
            if row.get('teacher/accuracy') == 0 else
            'no answer of others was kept (distil.keep), so nothing was taught')
  if row.get('stop/length') == 1:
    return ('every rollout was cut at algorithm.max_tokens, which makes it '
            'wrong')
  shares = ', '.join(
      f'{name.removeprefix("verdict/")} {share:.3g}'
      for name, share in sorted(row.items())
      if name.startswith('verdict/') and share)
  if row.get('update/trained_tokens', 1) == 0 and 'reward/total' in row:
    return f'in every group all rewards are equal ({shares})'
  if row.get('update/trained_tokens', 1) == 0:
    return f'every group is all right or all wrong ({shares})'
  return f'the gradient is 0 ({shares})'


def _due(count: int) -> bool:
  """Whether to warn: at 2, 4, 8, ... in a row. One idle step alone is usual in
  a small batch, and a warning at every step would flood the log."""
  return count > 1 and count & (count - 1) == 0


@dataclasses.dataclass(frozen=True)
class Limits:
  """How much work in vain a run accepts.

  Attributes:
    max_idle: the number of idle steps in a row that ends a run; 0: no limit.
    min_answered: the least share of the teacher's questions that it must answer
      correctly, over the last `window` steps that asked it. 0 only warns, if
      the teacher answers none correctly.
    window: steps.
    alarms: bounds of metrics.
  """
  max_idle: int
  min_answered: float
  window: int
  alarms: tuple[Alarm, ...] = ()

  def __post_init__(self):
    allowed.number('guard.max_idle', self.max_idle, '>= 0', whole=True,
                   note=' (0: no limit)')
    allowed.number('teacher.min_answered', self.min_answered, '[0, 1]')


class Watch:
  """Counts of one attempt; a resumed run starts counting anew.

  Attributes:
    limits: the limits of the run.
    idle_steps: the number of idle steps in a row.
    visits: (asked, answered) of the last steps that asked the teacher.
  """

  def __init__(self, limits: Limits):
    self.limits, self.idle_steps = limits, 0
    self.visits: collections.deque = collections.deque()
    self._bells = Bells(limits.alarms)

  def see(self, row: dict) -> list[str]:
    """Counts a step and returns warnings about it."""
    warnings = self._bells.see(row)
    self.idle_steps = self.idle_steps + 1 if idle(row) else 0
    if _due(self.idle_steps):
      warnings.append(
          f'warning: step {row["step"]} trained nothing, the '
          f'{self.idle_steps}. in a row: {_cause(row)}')
    count, right = asked(row)
    if count:
      self.visits.append((count, right))
      while len(self.visits) > self.limits.window:
        self.visits.popleft()
      if len(self.visits) == self.limits.window and not self._right():
        warnings.append(
            f'warning: step {row["step"]}: the teacher was right on none of '
            f'{self._asked()} questions in the last {self.limits.window} steps '
            'that asked it')
        if not self.limits.min_answered:
          self.visits.clear()  # so that the warning comes once per window
    return warnings

  def _asked(self) -> int:
    return sum(count for count, _ in self.visits)

  def _right(self) -> int:
    return sum(right for _, right in self.visits)

  def ended(self) -> str | None:
    """Why the run may not continue, or None."""
    if self.limits.max_idle and self.idle_steps >= self.limits.max_idle:
      return (f'{self.idle_steps} steps in a row trained nothing, '
              f'guard.max_idle is {self.limits.max_idle}')
    if (len(self.visits) == self.limits.window
        and self._right() < self.limits.min_answered * self._asked()):
      return (f'the teacher was right on {self._right()} of {self._asked()} '
              f'questions in the last {self.limits.window} steps that asked '
              'it, less than teacher.min_answered = '
              f'{self.limits.min_answered:g}')
    return self._bells.ended()


def warnings(summary: dict) -> list[str]:
  """Warnings about work in vain, from a summary."""
  lines: list[str] = []
  count = summary.get('idle_steps', 0)
  if count:
    lines.append(f'warning: {count} of {summary["steps"]} steps trained '
                 'nothing; log.txt says why')
  visits = summary.get('teacher_visits') or {}
  if visits.get('asked') and not visits['answered']:
    lines.append('warning: the teacher was never right, on '
                 f'{visits["asked"]} questions')
  # Of the others the totals say nothing.
  lines += [f'warning: {text}' for name, text in
            summary.get('alarms', {}).items()
            if name not in ('nothing_trained', 'useless_teacher')]
  return lines
