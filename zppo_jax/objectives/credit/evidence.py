"""What is known of the tokens of a rollout, and rows that name what they read.

Credit is computed on the host with numpy in float64, from numbers that were
stored for the whole mini-batch. So it depends neither on micro-batches nor on
the layout, the mesh or the number of processes.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from zppo_jax import allowed

# The fields of Evidence that a row may read -> the words for them in errors.
FIELDS = {
    'logps': "the student's log-probs of its tokens",
    'teacher_logps': "the teacher's log-probs of the tokens",
    'base_logps': 'the log-probs of the tokens under a base model',
    'entropies': "the student's entropies",
    'teacher_entropies': "the teacher's entropies",
    'advantage': "the rollout's advantage",
    'accuracy': 'the share of right rollouts in the group',
    'tokens': 'the token ids',
    'divergences': 'KL(student || teacher) of each position',
}
_OF_ROLLOUTS = ('advantage', 'accuracy')  # numbers, not arrays [R]


@dataclasses.dataclass(frozen=True)
class Evidence:
  """What is known of one rollout of R tokens; a field may be None.

  Attributes:
    logps: [R] nats, the trainer's own log-probs of the tokens, which were
      scored before the update.
    teacher_logps: [R] nats, the teacher's, under its context.
    base_logps: [R] nats, those of a third model.
    entropies, teacher_entropies: [R] nats, of the next-token distributions.
    divergences: [R] nats, KL(student || teacher) of each position.
    tokens: int [R].
    advantage: the group-relative advantage of the rollout.
    accuracy: the share of right ones among the graded rollouts of its group.
  """
  logps: np.ndarray | None = None
  teacher_logps: np.ndarray | None = None
  base_logps: np.ndarray | None = None
  entropies: np.ndarray | None = None
  teacher_entropies: np.ndarray | None = None
  divergences: np.ndarray | None = None
  tokens: np.ndarray | None = None
  advantage: float | None = None
  accuracy: float | None = None

  def __len__(self) -> int:
    """R, by the first field that has it."""
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name not in _OF_ROLLOUTS and value is not None:
        return len(value)
    raise ValueError('evidence holds no array; it must hold one of '
                     f'{", ".join(x for x in FIELDS if x not in _OF_ROLLOUTS)}')

  @property
  def difference(self) -> np.ndarray:
    """d = log p_T - log p_S of each token, nats, float64 [R]."""
    return (np.asarray(self.teacher_logps, np.float64)
            - np.asarray(self.logps, np.float64))


@dataclasses.dataclass(frozen=True)
class Number:
  """A number of a row.

  Attributes:
    name: its symbol.
    bounds: what allowed.number takes.
    default: the value of the source; None where there is none.
    whole: whether it is a count.
  """
  name: str
  bounds: str
  default: float | None = None
  whole: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of a table of credit.

  Attributes:
    function: (what the table says, *numbers) -> array.
    reads: the fields of Evidence that the function reads, keys of FIELDS.
    numbers: what follows the first argument. The last may stand for any count
      of them if `many`.
    many: whether the last number repeats (a set of ids).
  """
  function: Callable[..., Any]
  reads: frozenset[str]
  numbers: tuple[Number, ...] = ()
  many: bool = False


@dataclasses.dataclass(frozen=True)
class Call:
  """A row with its numbers, as a config names it: 'floored(0.17)'.

  Attributes:
    name: the key of the row.
    row: the row.
    values: a number, or a function of the optimizer steps done, for each.
  """
  name: str
  row: Row
  values: tuple[Any, ...] = ()

  def at(self, done: int) -> tuple[float, ...]:
    """The numbers after `done` optimizer steps, whole where they count."""
    out = []
    for place, value in enumerate(self.values):
      of = self.row.numbers[min(place, len(self.row.numbers) - 1)]
      x = value(done) if callable(value) else value
      out.append(round(float(x)) if of.whole else float(x))
    return tuple(out)

  @property
  def moves(self) -> bool:
    """Whether a number depends on the optimizer steps done."""
    return any(callable(value) for value in self.values)

  def __call__(self, what: Any, done: int) -> Any:
    """The row's function of `what`, with the numbers of that time."""
    return self.row.function(what, *self.at(done))


def read(field: str, text: str, table: Mapping[str, Row],
         schedule: Callable[[str, str], Any] | None = None) -> Call:
  """'name', 'name(number)' or 'name(number, number)' as a call of a row.

  Args:
    field: the config field, for errors.
    text: the call.
    table: the rows by name.
    schedule: (field, text) -> a function of the optimizer steps done, for text
      that is no number; None where only numbers are taken.

  Raises:
    KeyError: for an unknown name, with the known ones.
    ValueError: for another count of numbers than the row has, or a number out
      of its bounds; the message names the field.
  """
  name, opened, rest = text.strip().partition('(')
  row: Row = allowed.known(field, name.strip(), table)
  if opened and not rest.endswith(')'):
    raise ValueError(f"{field} is {text!r}; what '(' opens ')' must end")
  parts = [x.strip() for x in rest[:-1].split(',')] if opened else []
  parts = [x for x in parts if x]
  defaults = [of.default for of in row.numbers[len(parts):]]
  if (len(parts) > len(row.numbers) and not row.many) or None in defaults:
    takes = ', '.join(of.name for of in row.numbers) or 'no number'
    raise ValueError(f'{field} is {text!r}; {name.strip()} takes {takes}')
  rows = [row.numbers[min(i, len(row.numbers) - 1)] for i in range(len(parts))]
  values = [*(_value(f'{field}: {of.name}', x, of, schedule)
              for of, x in zip(rows, parts, strict=True)), *defaults]
  return Call(name=name.strip(), row=row, values=tuple(values))


def _value(field: str, text: str, of: Number,
           schedule: Callable[[str, str], Any] | None) -> Any:
  try:
    value: float = int(text) if of.whole else float(text)
  except ValueError:
    if schedule is None:
      raise ValueError(f'{field} is {text!r}; it must be a number '
                       f'{of.bounds}') from None
    value_at = schedule(field, text)
    for x in value_at.ends:
      allowed.number(field, x, of.bounds)
    return value_at
  return allowed.number(field, value, of.bounds, whole=of.whole)


def check(field: str, call: Call, available: Sequence[str]) -> None:
  """ValueError where a row reads what does not exist.

  Args:
    field: the config field that names the row.
    call: the call.
    available: the fields of Evidence that the method has.
  """
  lacking = sorted(call.row.reads - set(available))
  if lacking:
    raise ValueError(
        f'{field} is {call.name!r}, which reads '
        f'{" and ".join(FIELDS[name] for name in lacking)}; this method has '
        f'{", ".join(FIELDS[name] for name in available)}')
