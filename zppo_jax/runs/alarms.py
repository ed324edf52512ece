"""Alarms on metrics: they warn, and stop a run that the user wants stopped.

An alarm is a text: 'NAME > NUMBER', or with '<'. ' for STEPS' behind it waits
until that many rows in a row with the metric are beyond the number, and
'; stop' ends the run then. A row without the metric leaves the count as it is.

  distil/copied > 0.9 for 20; stop
  length/mean < 5 for 3
"""

import dataclasses
import operator
import re
from collections.abc import Mapping, Sequence

from zppo_jax import allowed

_FORM = re.compile(
    r'(?P<name>\S+) (?P<side>[<>]) (?P<bound>\S+)(?: for (?P<steps>\d+))?'
    r'(?P<stop>; stop)?')
_SIDES = {'<': operator.lt, '>': operator.gt}


@dataclasses.dataclass(frozen=True)
class Alarm:
  """A bound of a metric.

  Attributes:
    name: the metric, a name of docs/metrics.md.
    side: '<' or '>': beyond the bound.
    bound: the bound.
    steps: how many rows in a row must be beyond it.
    stop: whether the run ends then.
  """
  name: str
  side: str
  bound: float
  steps: int = 1
  stop: bool = False

  def __str__(self) -> str:
    steps = f' for {self.steps}' if self.steps > 1 else ''
    return (f'{self.name} {self.side} {self.bound:g}{steps}'
            f'{"; stop" if self.stop else ""}')

  def beyond(self, row: Mapping[str, float]) -> bool | None:
    """Whether a row is beyond the bound; None for a row without the metric."""
    if self.name not in row:
      return None
    return _SIDES[self.side](row[self.name], self.bound)


# Of contexts that hold the attempt: a teacher that reads the text which it
# scores holds 91 % of its tokens for all but certain (SDPO, Table 6).
COPYING = Alarm(name='distil/copied', side='>', bound=0.8, steps=5)


def with_copying(alarms: Sequence[Alarm]) -> tuple[Alarm, ...]:
  """Alarms, and COPYING unless one of them is of its metric: 'distil/copied >
  1' switches it off, because no share is above 1."""
  if any(alarm.name == COPYING.name for alarm in alarms):
    return tuple(alarms)
  return (*alarms, COPYING)


def read(field: str, texts: Sequence[str]) -> tuple[Alarm, ...]:
  """Alarms of a config field.

  Raises:
    ValueError: for a text of another form, naming the field.
  """
  if isinstance(texts, str):
    texts = (texts,)
  out = []
  for text in texts:
    parts = _FORM.fullmatch(text.strip())
    if parts is None:
      raise ValueError(
          f"{field} has {text!r}; an alarm is 'NAME > NUMBER' or 'NAME < "
          "NUMBER', then ' for STEPS' and '; stop' if wanted")
    try:
      bound = float(parts['bound'])
    except ValueError:
      raise ValueError(f'{field} has {text!r}; {parts["bound"]!r} must be a '
                       'number') from None
    allowed.number(field, bound, '(-inf, inf)')
    out.append(Alarm(
        name=parts['name'], side=parts['side'], bound=bound,
        steps=allowed.number(field, int(parts['steps'] or 1), '>= 1',
                             whole=True), stop=bool(parts['stop'])))
  return tuple(out)


class Bells:
  """Counts of one attempt; a resumed run starts counting anew.

  Attributes:
    counts: rows in a row beyond the bound of each alarm.
  """

  def __init__(self, alarms: Sequence[Alarm]):
    self._alarms = tuple(alarms)
    self.counts = [0] * len(self._alarms)

  def see(self, row: Mapping[str, float]) -> list[str]:
    """Counts a row and returns warnings: when an alarm rings first, and at
    doublings of its length, so that a log is not flooded."""
    lines = []
    for i, alarm in enumerate(self._alarms):
      beyond = alarm.beyond(row)
      if beyond is None:
        continue
      self.counts[i] = self.counts[i] + 1 if beyond else 0
      times, rest = divmod(self.counts[i], alarm.steps)
      if times and not rest and times & (times - 1) == 0:
        lines.append(
            f'alarm: step {row["step"]}: {alarm.name} is '
            f'{row[alarm.name]:.4g}, the {self.counts[i]}. row in a row '
            f'beyond {alarm.bound:g} ({alarm})')
    return lines

  def ended(self) -> str | None:
    """Why the run may not continue, or None."""
    for count, alarm in zip(self.counts, self._alarms, strict=True):
      if alarm.stop and count >= alarm.steps:
        return (f'{count} rows in a row are beyond the alarm {str(alarm)!r} of '
                'guard.alarms')
    return None
