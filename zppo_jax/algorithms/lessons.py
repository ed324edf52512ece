"""Whose tokens a step trains on: the states of a method.

'student' is the policy's own rollouts. 'teacher' asks the teacher the step's
questions anew (Off-Distill, ZPPO App. D.2), and 'stored' takes answers that
came with the questions; a question without a kept answer is skipped. 'mixed'
throws a coin per step (GKD, Agarwal et al. 2024, Algorithm 1). The student's
rollouts are drawn in any case: replay and accuracies read them.

'guided' are the student's groups in which the teacher's right answers take the
place of wrong rollouts (NPO); the teacher answers what has a wrong one.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from zppo_jax.algorithms.distillation import Distil
from zppo_jax.randomness import host_rng
from zppo_jax.records import CallStats, Group, Purpose, Rollout


@dataclasses.dataclass(frozen=True)
class Lessons:
  """What a step trains on.

  Attributes:
    states: 'student', 'teacher', 'stored' or 'guided'.
    groups: the groups that are trained on.
    teacher: all that was answered, kept or not; () for the student's states.
    over_long: kept answers that were left out as too long for a training row.
    calls: statistics of the calls to the teacher.
  """
  states: str
  groups: Sequence[Group]
  teacher: Sequence[Group] = ()
  over_long: int = 0
  calls: CallStats = dataclasses.field(default_factory=CallStats)


def states_of(states: str, distil: Distil | None, seed: int, step: int) -> str:
  """The states of a step: 'student', 'teacher', 'stored' or 'guided'.

  Args:
    states: those of the method.
    distil: the settings, which 'mixed' reads.
    seed, step: they key the coin of 'mixed'.
  """
  if states != 'mixed':
    return states
  assert distil is not None  # a method of mixed states distils
  coin = host_rng(seed, step, Purpose.STATES).random()
  return 'student' if coin < distil.student_share else distil.other_states


def kept(answers: Sequence[Group], keep: str, longest: int
          ) -> tuple[list[Group], int]:
  """(groups of the kept answers, the number of those that are too long).

  Args:
    answers: a group of answers per question.
    keep: one of distillation.KEEP.
    longest: the most tokens of a response that a training row holds.
  """
  groups, over_long = [], 0
  for group in answers:
    rollouts = group.correct if keep == 'correct' else group.rollouts
    fitting = tuple(r for r in rollouts if len(r.tokens) <= longest)
    over_long += len(rollouts) - len(fitting)
    if fitting:
      groups.append(Group(group.prompt, fitting))
  return groups, over_long


def guided(group: Group, guides: Sequence[Rollout], most: int) -> Group:
  """The group with texts of another policy in the place of wrong rollouts.

  They are `not sampled` then. The last wrong ones go, so that which ones does
  not depend on the guides.

  Args:
    group: the student's.
    guides: right answers, the first of which are taken.
    most: the most rollouts that are replaced.
  """
  wrong = [g for g, r in enumerate(group.rollouts) if r.graded and not r.reward]
  rollouts = list(group.rollouts)
  for place, guide in zip(reversed(wrong), guides[:most], strict=False):
    rollouts[place] = dataclasses.replace(guide, logps=())
  return Group(group.prompt, tuple(rollouts))


def _guided(distil: Distil, plain: Sequence[Group], groups: Sequence[Group],
            step: int, teacher: Any, longest: int) -> Lessons:
  """The student's groups, guided where a plain one has a wrong rollout."""
  asked = [p for p, group in enumerate(plain) if group.wrong]
  answers, calls = teacher.answer([plain[p].prompt for p in asked], step)
  out, over_long = list(groups), 0
  for p, group in zip(asked, answers, strict=True):
    right, long = kept([group], 'correct', longest)
    over_long += long
    if right:  # groups begin with the plain ones
      out[p] = guided(plain[p], right[0].rollouts, distil.guides)
  return Lessons(states='guided', groups=out, teacher=answers,
                 over_long=over_long, calls=calls)


def learn_from(states: str, distil: Distil | None, plain: Sequence[Group],
               groups: Sequence[Group], step: int, *, teacher: Any,
               stored: Any, longest: int) -> Lessons:
  """What a step trains on.

  Args:
    states: see `states_of`.
    distil: the settings; only the student's states need none.
    plain: the student's groups of the step's questions.
    groups: all groups of the student, reformulated ones included.
    step: the step.
    teacher: the `teachers.Teacher`, for 'teacher' and 'guided'.
    stored: a `teachers.stored.StoredTeacher`, for 'stored'.
    longest: the most tokens of a response that a training row holds.
  """
  if states == 'student':
    return Lessons(states=states, groups=groups)
  assert distil is not None  # a method of other states distils
  if states == 'guided':
    return _guided(distil, plain, groups, step, teacher, longest)
  answers, calls = {'teacher': teacher, 'stored': stored}[states].answer(
      [g.prompt for g in plain], step)
  groups, over_long = kept(answers, distil.keep, longest)
  return Lessons(states=states, groups=groups, teacher=answers,
                 over_long=over_long, calls=calls)
