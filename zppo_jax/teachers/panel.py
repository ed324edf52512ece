"""Several teachers: one per data source, or several combined for a source.

A question's `source` names its members. The first of them answers, writes
summaries and hints; all of them score, and their probabilities are averaged by
weight: log sum_i w_i p_i, of ids that all of them scored. A panel of one member
is that member.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from zppo_jax import allowed
from zppo_jax.records import (
  Answers,
  CallStats,
  Prompt,
  Question,
  Scores,
  Summaries,
  TokenSequence,
  Wanted,
)
from zppo_jax.teachers import PLAIN, Capabilities, Teacher, check
from zppo_jax.teachers.ahead import AheadTeacher
from zppo_jax.teachers.in_process import InProcessTeacher
from zppo_jax.teachers.journal import CachedTeacher

ANY = '*'  # the route of every source that has none


@dataclasses.dataclass(frozen=True)
class Route:
  """The members for a source.

  Attributes:
    names: their names; the first answers.
    weights: their weights, which sum to 1.
  """
  names: tuple[str, ...]
  weights: tuple[float, ...]


def read_route(field: str, text: str, names: Iterable[str]) -> Route:
  """'maths', or '0.7 maths + 0.3 code' as a Route.

  Args:
    field: the config field, for errors.
    text: what it says.
    names: the members.

  Raises:
    KeyError: for an unknown member.
    ValueError: for weights that are not above 0; they are scaled to sum to 1.
  """
  known, parts = list(names), []
  for part in text.split('+'):
    weight, _, name = part.strip().rpartition(' ')
    allowed.one_of(f'member in {field}', name, known)
    try:
      number = float(weight or 1)
    except ValueError:
      raise ValueError(f'{field} is {text!r}; it must be NAME, or WEIGHT NAME '
                       '+ WEIGHT NAME') from None
    parts.append((name, allowed.number(f'a weight of {field}', number, '> 0')))
  if len({name for name, _ in parts}) < len(parts):
    raise ValueError(f'{field} is {text!r}; a member may stand there once')
  total = sum(weight for _, weight in parts)
  return Route(names=tuple(name for name, _ in parts),
               weights=tuple(weight / total for _, weight in parts))


def _mixed(arrays: Sequence[np.ndarray | None],
           weights: Sequence[float]) -> np.ndarray | None:
  """log sum_i w_i exp(x_i), in float64; None if one did not come."""
  if any(x is None for x in arrays):
    return None
  if len(arrays) == 1:
    return arrays[0]
  with np.errstate(divide='ignore'):
    logs = [np.asarray(x, np.float64) + np.log(w)
            for x, w in zip(arrays, weights, strict=True)]
  return np.logaddexp.reduce(logs).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Panel:
  """Teachers by the source of a question; itself a `teachers.Teacher`.

  Attributes:
    members: name -> teacher.
    routes: source -> Route; ANY is for every other source.
  """
  members: Mapping[str, Teacher]
  routes: Mapping[str, Route]

  def route(self, source: str) -> Route:
    """The members for a source.

    Raises:
      KeyError: for a source without a route.
    """
    known = self.routes.get(source) or self.routes.get(ANY)
    if known is None:
      raise KeyError(
          f'no member of the panel teaches source {source!r}; '
          f'teacher.panel.routes has {", ".join(map(repr, self.routes))}')
    return known

  def check_sources(self, questions: Iterable[Question]) -> None:
    """KeyError for a question without a teacher, before any step."""
    for source in sorted({q.source for q in questions}):
      self.route(source)

  @property
  def combines(self) -> bool:
    return any(len(route.names) > 1 for route in self.routes.values())

  @property
  def capabilities(self) -> Capabilities:
    """What every member can do. Likeliest ids and entropies of an average are
    not those of its members, so that a panel which combines has none."""
    of = [teacher.capabilities for teacher in self.members.values()]
    every = lambda name: all(getattr(c, name) for c in of)
    alone = not self.combines
    return Capabilities(
        max_compression_prompt=min(c.max_compression_prompt for c in of),
        scores=every('scores'), pictures=every('pictures'),
        clips=every('clips'), repeatable=every('repeatable'),
        top=min(c.top for c in of) if alone else 0, gathers=every('gathers'),
        entropy=every('entropy') and alone, temperature=every('temperature'))

  def _shares(self, sources: Sequence[str]
              ) -> Iterable[tuple[Route, list[int]]]:
    """(route, the places of its items), routes in the order of `routes`."""
    places: dict[Route, list[int]] = {}
    for i, source in enumerate(sources):
      places.setdefault(self.route(source), []).append(i)
    return places.items()

  def _asked(self, prompts: Sequence[Prompt], ask: Callable[..., Any],
             unpack: Callable[[Any], Sequence[Any]]) -> tuple[list, CallStats]:
    """What the first member of each prompt's route returns, in order."""
    out: list = [None] * len(prompts)
    calls = CallStats()
    for route, places in self._shares([p.question.source for p in prompts]):
      results = ask(self.members[route.names[0]], places)
      for i, result in zip(places, unpack(results), strict=True):
        out[i] = result
      calls += results.calls
    return out, calls

  def answer(self, prompts: Sequence[Prompt], step: int) -> Answers:
    """Answers of the first member for each question's source."""
    groups, calls = self._asked(
        prompts, lambda teacher, places: teacher.answer(
            [prompts[i] for i in places], step), lambda x: x.groups)
    return Answers(groups=tuple(groups), calls=calls)

  def summarise(self, prompts: Sequence[Prompt], traces: Sequence[str],
                step: int) -> Summaries:
    """Summaries by the first member for each question's source."""
    rollouts, calls = self._asked(
        prompts, lambda teacher, places: teacher.summarise(
            [prompts[i] for i in places], [traces[i] for i in places], step),
        lambda x: x.rollouts)
    return Summaries(rollouts=tuple(rollouts), calls=calls)

  def hint(self, prompts: Sequence[Prompt], traces: Sequence[str],
           step: int) -> Summaries:
    """Hints by the first member for each question's source."""
    rollouts, calls = self._asked(
        prompts, lambda teacher, places: teacher.hint(
            [prompts[i] for i in places], [traces[i] for i in places], step),
        lambda x: x.rollouts)
    return Summaries(rollouts=tuple(rollouts), calls=calls)

  def score(self, sequences: Sequence[TokenSequence], wanted: Wanted = PLAIN,
            step: int | None = None) -> Scores:
    """Scores of each sequence by the members for its source, averaged.

    Raises:
      ValueError: for what the panel cannot deliver.
    """
    check('panel', self.capabilities, wanted, sequences)
    fields = ('logps', 'top_ids', 'top_logps', 'given_logps', 'entropies')
    out: dict[str, list] = {name: [None] * len(sequences) for name in fields}
    asked: set[str] = {'logps'}
    calls = CallStats()
    for route, places in self._shares([s.source for s in sequences]):
      part = dataclasses.replace(wanted, ids=tuple(
          wanted.ids[i] for i in places)) if len(wanted.ids) else wanted
      of_members = [self.members[name].score(
          [sequences[i] for i in places], part, step) for name in route.names]
      calls = sum((s.calls for s in of_members), calls)
      for name in fields:
        columns = [getattr(s, name) for s in of_members]
        if not all(len(column) for column in columns):
          continue
        asked.add(name)
        for i, arrays in zip(places, zip(*columns, strict=True), strict=True):
          out[name][i] = _mixed(arrays, route.weights)
    return Scores(calls=calls, **{
        name: tuple(out[name]) if name in asked else () for name in fields})


def unwrapped(teacher: Teacher | None) -> Teacher | None:
  """The teacher behind a journal and behind asking ahead."""
  while isinstance(teacher, AheadTeacher | CachedTeacher):
    teacher = teacher.teacher
  return teacher


def in_process_of(teacher: Teacher | None) -> dict[str, InProcessTeacher]:
  """The teachers of this process by role: 'teacher', or 'teacher/NAME' for the
  members of a panel."""
  inner = unwrapped(teacher)
  if isinstance(inner, InProcessTeacher):
    return {'teacher': inner}
  if isinstance(inner, Panel):
    return {f'teacher/{name}': member for name, member in inner.members.items()
            if isinstance(member, InProcessTeacher)}
  return {}


def answering_of(teacher: Teacher | None) -> dict[str, InProcessTeacher]:
  """Those of `in_process_of` that write answers if one is asked for: of a panel
  the first members of routes; the others only score."""
  inner, found = unwrapped(teacher), in_process_of(teacher)
  if not isinstance(inner, Panel):
    return found
  first = {f'teacher/{route.names[0]}' for route in inner.routes.values()}
  return {role: member for role, member in found.items() if role in first}


def with_in_process(teacher: Teacher | None,
                    change: Callable[[InProcessTeacher], InProcessTeacher]
                    ) -> Teacher | None:
  """The teacher with every teacher of this process changed, before a journal
  is put around it."""
  if isinstance(teacher, InProcessTeacher):
    return change(teacher)
  if isinstance(teacher, Panel):
    return dataclasses.replace(teacher, members={
        name: with_in_process(member, change)
        for name, member in teacher.members.items()})
  return teacher
