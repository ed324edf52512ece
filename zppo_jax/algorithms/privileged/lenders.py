"""Lessons that show what belongs to another question of the step.

It is a control (`distil.context_of = 'another'`): the teacher reads a piece of
the same kind beside the rollout's own question, and it is of no use there.

The questions of a step stand in a ring, whose order is drawn by their names,
and each asks those behind it until one has something to show. So the lender is
uniform over the others, each lends once where all have something to show, and
neither the order of the groups nor the number of processes changes who lends.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from zppo_jax import allowed
from zppo_jax.algorithms.privileged import contexts
from zppo_jax.algorithms.privileged.contexts import (
  CONTEXTS,
  Lessons,
  Material,
  Shown,
  Untaught,
)
from zppo_jax.chat.wording import Chat
from zppo_jax.randomness import Purpose, question_uid
from zppo_jax.records import Group, Prompt, Rollout

OWN, ANOTHER = 'own', 'another'
OF = (OWN, ANOTHER)  # values of distil.context_of


def check_row(name: str, of: str) -> None:
  """Refuses a context that means nothing of another question: one that shows
  the attempt, one that shows nothing of a question, or another question.

  Raises:
    KeyError: for an unknown name, with the known ones.
    ValueError: for such a context, with those that are allowed.
  """
  allowed.one_of('distil.context_of', of, OF)
  if of != OWN and CONTEXTS[name].lent is None:
    able = ', '.join(key for key, row in CONTEXTS.items()
                     if row.lent is not None)
    raise ValueError(
        f'distil.context_of is {of!r} and distil.context {name!r}, which means '
        f"nothing of another question; allowed: 'own', or one of the contexts "
        f'{able}')


def check_material(name: str, of: str, material: Material) -> None:
  """ValueError for another question's text where all questions have the same
  one, so that it would be the rollout's own."""
  field = CONTEXTS[name].lent
  if of != OWN and field and field in material.texts.get('*', {}):
    raise ValueError(
        f'distil.context_of is {of!r} and distil.context {name!r}; the row '
        f"'*' of distil.material has the field {field!r}, so that questions "
        'share it; allowed: rows with the ids of questions')


def asked(groups: Sequence[Group], seed: int, step: int) -> Iterator[list[int]]:
  """For each group the places of the groups of other questions, in the order in
  which they are asked.

  Groups of one question id never lend to each other, and all of them ask in the
  same order. Of the groups of a question, the kind of the prompt comes first,
  and then what they hold.

  Args:
    groups: all groups of a step.
    seed, step: they key the ring, with the questions' ids.
  """
  places: dict[str, list[int]] = {}
  for p, group in enumerate(groups):
    places.setdefault(group.prompt.question.id, []).append(p)
  for of in places.values():
    of.sort(key=lambda p: (
        int(groups[p].prompt.kind), groups[p].prompt.tokens,
        tuple(r.tokens for r in groups[p].rollouts)))
  ring = sorted(places, key=lambda name: (np.random.default_rng([
      seed, step, int(Purpose.LENDERS), question_uid(name)]).random(), name))
  turn = {name: i for i, name in enumerate(ring)}
  for group in groups:
    i = turn[group.prompt.question.id]
    yield [p for name in (*ring[i + 1:], *ring[:i]) for p in places[name]]


def _of_question(group: Group, offers: Sequence[Shown], chat: Chat,
                 longest: int) -> list[Prompt | Untaught]:
  """The lessons of a group whose rollouts read one prompt: that of the first
  offer that fits. A rollout that stands in it is untaught."""
  why: list[Prompt | Untaught] = []
  for shown in offers:
    prompt = contexts.shown_to(group, shown, chat, longest)
    if isinstance(prompt, Prompt):
      return [Untaught.ITSELF if contexts.shows(shown, r) else prompt
              for r in group.rollouts]
    why.append(prompt)
  return why[:1] * len(group.rollouts)


def _of_rollout(name: str, group: Group, rollout: Rollout,
                others: Sequence[Group], material: Material, chat: Chat,
                longest: int) -> Prompt | Untaught:
  """The lesson of a rollout that reads a prompt of its own."""
  why = []
  for other in others:
    made: Shown | Prompt | Untaught = CONTEXTS[name].build(
        other.prompt.question, other, rollout, material)
    if isinstance(made, Shown):
      made = (Untaught.ITSELF if contexts.shows(made, rollout) else
              contexts.shown_to(group, made, chat, longest))
    if isinstance(made, Prompt):
      return made
    why.append(made)
  return why[0]


def lessons(name: str, groups: Sequence[Group], material: Material, chat: Chat,
            longest: int, of: str = OWN) -> Lessons:
  """What the teacher reads of every rollout (contexts.lesson).

  Args:
    name: a key of CONTEXTS.
    groups: all groups of the step whose teacher reads the context.
    material, chat, longest: as of contexts.lesson.
    of: one of OF. 'another': what the context shows is that of another
      question, beside the rollout's own. If no group of another question has a
      lesson for a rollout, the reason is that of the first one that has
      something to show, else that of the first; without another question it is
      ABSENT.
  """
  if of == OWN:
    return contexts.lessons(name, groups, material, chat, longest)
  row = CONTEXTS[name]
  # What a group shows to a rollout that is none of its own. A group that shows
  # nothing to it shows nothing to any, and is not asked.
  offers = [row.build(group.prompt.question, group, contexts.FUTURE, material)
            for group in groups]
  made: dict[tuple[int, int], Prompt | Untaught] = {}
  for p, places in enumerate(asked(groups, material.seed, material.step)):
    group = groups[p]
    able = [(groups[q], shown) for q in places
            if isinstance(shown := offers[q], Shown)]
    read: list[Prompt | Untaught]
    if not able:
      none = offers[places[0]] if places else Untaught.ABSENT
      assert isinstance(none, Untaught)  # nobody is able
      read = [none for _ in group.rollouts]
    elif row.of_question:
      read = _of_question(group, [shown for _, shown in able], chat, longest)
    else:
      read = [_of_rollout(
          name, group, rollout, [other for other, _ in able],
          dataclasses.replace(
              material, reader=(group.prompt.question.id, g)), chat, longest)
          for g, rollout in enumerate(group.rollouts)]
    made |= {(p, g): of_rollout if rollout.tokens else Untaught.EMPTY
             for g, (rollout, of_rollout) in enumerate(
                 zip(group.rollouts, read, strict=True))}
  return contexts.gathered(made)


