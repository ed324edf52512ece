"""Numbers of a loss that change with the optimizer steps of a run."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import optax

from zppo_jax import allowed

# kind -> (Schedule) -> (optimizer steps done -> number).
KINDS: dict[str, Callable] = {
    'constant': lambda of: optax.constant_schedule(of.start),
    'linear': lambda of: optax.linear_schedule(of.start, of.end, of.length),
    'cosine': lambda of: _cosine(of),
    'steps': lambda of: optax.join_schedules(
        [optax.constant_schedule(x)
         for x in (of.start, *(value for _, value in of.boundaries))],
        [at for at, _ in of.boundaries]),
}


@dataclasses.dataclass(frozen=True)
class Schedule:
  """A number by the optimizer steps that were made before.

  Attributes:
    kind: a key of KINDS. 'linear' and 'cosine' go from `start` to `end` in
      `length` optimizer steps and stay there.
    start, end: finite numbers >= 0.
    length: optimizer steps.
    boundaries: (optimizer step, number from it on) of 'steps', ascending.

  Raises:
    KeyError: for another kind.
    ValueError: for a number out of its range.
  """
  kind: str = 'constant'
  start: float = 1.0
  end: float = 0.0
  length: int = 1
  boundaries: tuple[tuple[int, float], ...] = ()

  def __post_init__(self) -> None:
    allowed.one_of('schedule', self.kind, KINDS)
    allowed.number('start', self.start, '>= 0')
    allowed.number('end', self.end, '>= 0')
    allowed.number('length', self.length, '>= 1', whole=True)
    if bool(self.boundaries) != (self.kind == 'steps'):
      raise ValueError(f'boundaries is {self.boundaries}; the schedule '
                       f"{self.kind!r} takes "
                       f'{"some" if self.kind == "steps" else "none"}')
    for at, value in self.boundaries:
      allowed.number('boundaries', at, '>= 1', whole=True)
      allowed.number('boundaries', value, '>= 0')
    places = [at for at, _ in self.boundaries]
    if any(a >= b for a, b in itertools.pairwise(places)):
      raise ValueError(f'boundaries is {self.boundaries}; its optimizer steps '
                       'must ascend')

  @property
  def moves(self) -> bool:
    """Whether the number depends on the optimizer step."""
    return self.kind != 'constant'

  def __call__(self, done: jax.Array | None) -> float | jax.Array:
    """The number after `done` optimizer steps; None for a constant."""
    return KINDS[self.kind](self)(done) if self.moves else self.start


def _cosine(of: Schedule) -> Callable:
  """end + (start - end) (1 + cos(pi done / length)) / 2."""
  fall = optax.cosine_decay_schedule(1.0, of.length)
  return lambda done: of.end + (of.start - of.end) * fall(done)


def of_section(section: Any, updates: int, prefix: str,
               usual: float = 1.0) -> Schedule:
  """The schedule of config fields PREFIX, PREFIX_schedule, PREFIX_end,
  PREFIX_updates (0: all of the run) and PREFIX_steps.

  Args:
    section: the config section that holds them.
    updates: optimizer steps of the run.
    prefix: the name of the number.
    usual: the number where the section has None.

  Raises:
    KeyError, ValueError: for a field out of its range, naming it.
  """
  fields = {'schedule': f'{prefix}_schedule', 'start': prefix,
            'end': f'{prefix}_end', 'length': f'{prefix}_updates',
            'boundaries': f'{prefix}_steps'}
  length, said = section[fields['length']], section[prefix]
  try:
    return Schedule(
        kind=section[fields['schedule']],
        start=usual if said is None else said,
        end=section[fields['end']], length=updates if length == 0 else length,
        boundaries=tuple(map(tuple, section[fields['boundaries']])))
  except ValueError as e:
    name, _, rest = str(e).partition(' ')
    raise ValueError(f'distil.{fields.get(name, name)} {rest}') from e


# What a text may name -> the form of its numbers.
_MOVING = {'linear': 'START:END', 'cosine': 'START:END',
           'step': 'START:END:UPDATE'}


@dataclasses.dataclass(frozen=True)
class Moving:
  """A number that goes from `start` to `end`, as 'linear:64:4096' says it.

  Attributes:
    schedule: the number by optimizer step.
  """
  schedule: Schedule

  @property
  def ends(self) -> tuple[float, float]:
    """Its first and its last value."""
    of = self.schedule
    return of.start, of.boundaries[-1][1] if of.boundaries else of.end

  def __call__(self, done: Any) -> Any:
    """The number after `done` optimizer steps, which may be traced."""
    return self.schedule(done)


@dataclasses.dataclass(frozen=True)
class BySteps:
  """A number that the host reads once per step of the run.

  Attributes:
    moving: the number by optimizer step.
    updates: optimizer steps of a step.
  """
  moving: Moving
  updates: int

  def __call__(self, step: int) -> float:
    """The number before the first update of a step, which counts from 0."""
    return float(self.moving(step * self.updates))


def ranged(field: str, text: str, updates: int, span: str) -> Moving | None:
  """The Moving of a field that is '' for a number that stays.

  Args:
    field, text, updates: as of `moving`.
    span: what both ends must be, as allowed.number takes it.

  Raises:
    ValueError: as `moving`; for an end out of its range.
  """
  if not text:
    return None
  of = moving(field, text, updates)
  for end in of.ends:
    allowed.number(field, end, span)
  return of


def by_steps(field: str, text: str, steps: int, updates: int,
             span: str) -> BySteps | None:
  """As `ranged`, for the host: `steps` of the run, `updates` of each."""
  of = ranged(field, text, steps * updates, span)
  return None if of is None else BySteps(of, updates)


def moving(field: str, text: str, updates: int) -> Moving:
  """'KIND:START:END' or 'KIND:START:END:UPDATES' as a Moving.

  'linear' and 'cosine' arrive after UPDATES optimizer steps; 'step' is START
  before that many were made and END from then on, and always names them.

  Args:
    field: the config field, for errors.
    text: what it says.
    updates: optimizer steps of the run, where the text says none.

  Raises:
    ValueError: for another form.
  """
  kind, *numbers = text.split(':')
  try:
    start, end, *length = (float(x) for x in numbers)
    if (kind not in _MOVING or len(length) > 1
        or (kind == 'step' and not (length and length[0].is_integer()))):
      raise ValueError
  except ValueError:
    forms = ', '.join(f'{kind}:{form}' for kind, form in _MOVING.items())
    raise ValueError(
        f'{field} is {text!r}; it must be a number, or one that moves: '
        f'{forms}. Behind the first two :UPDATES may say when they arrive, if '
        'that is before the end of the run') from None
  try:
    return Moving(Schedule(
        kind='steps', start=start, boundaries=((int(length[0]), end),))
        if kind == 'step' else Schedule(
            kind=kind, start=start, end=end,
            length=int(length[0]) if length else max(updates, 1)))
  except ValueError as e:
    raise ValueError(f'{field} is {text!r}: {e}') from e
