"""The prompt replay buffer (ZPPO Algorithm 1, step 8).

The buffer holds only questions, keyed by id, in order of admission. Only plain
accuracy settles it; rewards of reformulated prompts never reach it.
"""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from zppo_jax import allowed
from zppo_jax.records import Group, PromptKind, Question


@dataclasses.dataclass(frozen=True)
class Entry:
  """A buffered question and its history.

  Attributes:
    question: the question.
    admitted_at: the step of admission; it fixes the place in the FIFO order.
    entry_accuracy: the plain accuracy at admission, below tau.
    visits: the number of plain groups since admission; the question may have
      been replayed or drawn anew.
    saturated_at: the last step at which its BCQ was all right or all wrong;
      None for none, and where nobody asked (Rules.rest_saturated).
  """
  question: Question
  admitted_at: int
  entry_accuracy: float
  visits: int = 0
  saturated_at: int | None = None


@dataclasses.dataclass(frozen=True)
class Settlement:
  """What one step did to the buffer, as tuples of entries."""
  admitted: tuple[Entry, ...]
  graduated: tuple[Entry, ...]
  evicted: tuple[Entry, ...]


@dataclasses.dataclass(frozen=True)
class ReplayBuffer:
  """State in, state out: every method returns a new buffer.

  Attributes:
    capacity: |B|max.
    entries: id -> Entry, oldest first.
  """
  capacity: int
  entries: dict[str, Entry] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    allowed.number('buffer capacity', self.capacity, '>= 1')

  def __len__(self) -> int:
    return len(self.entries)

  def dump(self) -> list:
    """Entries as JSON values, oldest first; questions by id alone."""
    return [[e.question.id, e.admitted_at, e.entry_accuracy, e.visits,
             *([] if e.saturated_at is None else [e.saturated_at])]
            for e in self.entries.values()]

  @classmethod
  def load(cls, capacity: int, rows: list,
           find: Callable[[str], Question]) -> 'ReplayBuffer':
    """Inverts `dump`; `find` returns a question by its id."""
    entries = [Entry(find(name), *rest) for name, *rest in rows]
    return cls(capacity, {e.question.id: e for e in entries})

  def draw(self, count: int, exclude: Iterable[str],
           rng: np.random.Generator) -> tuple[Question, ...]:
    """Draws questions uniformly and without replacement.

    Args:
      count: the number of questions wanted; fewer are drawn if fewer are
        eligible.
      exclude: ids that may not be drawn (this step's new questions).
      rng: numpy generator.
    """
    excluded = set(exclude)
    eligible = [e.question for i, e in self.entries.items()
                if i not in excluded]
    chosen = rng.permutation(len(eligible))[:count]
    return tuple(eligible[i] for i in chosen)

  def with_saturated(self, groups: Iterable[Group],
                     step: int) -> 'ReplayBuffer':
    """The buffer that knows whose BCQs had no advantage in a step. This decides
    who takes a slot later, and neither admission nor graduation.

    Args:
      groups: groups of the step, of any kind.
      step: the step.
    """
    entries = dict(self.entries)
    for group in groups:
      entry = entries.get(group.prompt.question.id)
      if (group.prompt.kind == PromptKind.BCQ and entry is not None
          and group.graded):
        entries[entry.question.id] = dataclasses.replace(
            entry, saturated_at=step if group.trivial else None)
    return ReplayBuffer(self.capacity, entries)

  def resting(self, step: int, steps: int) -> frozenset[str]:
    """Ids of questions whose last BCQ saturated in one of the `steps` steps
    before a step."""
    return frozenset(
        name for name, e in self.entries.items()
        if e.saturated_at is not None and step - e.saturated_at <= steps)

  def settle(self, plain: Iterable[Group], tau: float,
             step: int) -> tuple['ReplayBuffer', Settlement]:
    """Admits, graduates and evicts by plain accuracy.

    A question below tau is admitted, or keeps its place if it is in the buffer.
    A question at or above tau graduates if it is in the buffer. Then the oldest
    entries are evicted until the capacity holds. A group without any verdict
    changes nothing.

    Raises:
      ValueError: for a group that is not plain.
    """
    entries = dict(self.entries)
    admitted, graduated, evicted = [], [], []
    for group in plain:
      if group.prompt.kind != PromptKind.PLAIN:
        raise ValueError(
            f'the buffer settles plain groups only; got '
            f'{group.prompt.kind.name} of {group.prompt.question.id!r}')
      if not group.graded:
        continue
      question, accuracy = group.prompt.question, group.accuracy
      entry = entries.get(question.id)
      if entry is not None:
        entry = dataclasses.replace(entry, visits=entry.visits + 1)
      if accuracy >= tau:
        if entry is not None:
          del entries[question.id]
          graduated.append(entry)
      elif entry is not None:
        entries[question.id] = entry  # the same key keeps its place
      else:
        entry = Entry(question=question, admitted_at=step,
                      entry_accuracy=accuracy)
        entries[question.id] = entry
        admitted.append(entry)
    while len(entries) > self.capacity:
      evicted.append(entries.pop(next(iter(entries))))
    return (ReplayBuffer(self.capacity, entries),
            Settlement(admitted=tuple(admitted), graduated=tuple(graduated),
                       evicted=tuple(evicted)))
