"""Whose tokens a step trains on: the states of a method.

'student' is the policy's own rollouts. 'teacher' asks the teacher the step's
questions anew (Off-Distill, ZPPO App. D.2), and 'stored' takes answers that
came with the questions; a question without a kept answer is skipped. 'mixed'
throws a coin per step (GKD, Agarwal et al. 2024, Algorithm 1). The student's
rollouts are drawn in any case: replay and accuracies read them.

'guided' are the student's groups in which the teacher's right answers take the
place of wrong rollouts (NPO); the teacher answers what has a wrong one.

'context' draws new rollouts from the model itself, which reads a context
(distil.context) that the student does not see; 'joint' trains on these and on
the student's own. distil.trained_under says behind which prompt they are
trained: the 'plain' question, the 'context', or 'both', as two groups. A group
behind the plain question has the kind CARRIED, and one behind the context
PRIVILEGED; routes tell them apart.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zppo_jax.algorithms.credit import routes
from zppo_jax.algorithms.credit.routes import Route
from zppo_jax.algorithms.distillation import Distil
from zppo_jax.algorithms.privileged import contexts
from zppo_jax.algorithms.privileged.contexts import (
  CONTEXTS,
  Disclosed,
  Material,
  Untaught,
)
from zppo_jax.chat.wording import Chat
from zppo_jax.randomness import Purpose, host_rng, question_rng
from zppo_jax.records import CallStats, Group, Prompt, PromptKind, Rollout

DRAWN_STATES = ('context', 'joint')  # whose rollouts a context is read for


@dataclasses.dataclass(frozen=True)
class Drawn:
  """The rollouts of a step that were drawn under a context.

  Attributes:
    groups: all of them, by question.
    untold: question id -> why it has no context, of those that were asked.
    copies: rollouts that repeat their context word for word.
    over_long: rollouts that no training row holds.
  """
  groups: Sequence[Group] = ()
  untold: Mapping[str, Untaught] = dataclasses.field(default_factory=dict)
  copies: int = 0
  over_long: int = 0


@dataclasses.dataclass(frozen=True)
class Lessons:
  """What a step trains on.

  Attributes:
    states: one of distillation.STATES but 'mixed'.
    groups: the groups that are trained on.
    teacher: all that was answered, kept or not; () for the student's states.
    over_long: kept answers that were left out as too long for a training row.
    calls: statistics of the calls to the teacher.
    drawn: what was drawn under a context; None where nothing is.
    read: place in `groups` -> the prompt under which the group was drawn, which
      a teacher reads that scores it.
  """
  states: str
  groups: Sequence[Group]
  teacher: Sequence[Group] = ()
  over_long: int = 0
  calls: CallStats = dataclasses.field(default_factory=CallStats)
  drawn: Drawn | None = None
  read: Mapping[int, Prompt] = dataclasses.field(default_factory=dict)

  @property
  def of_student(self) -> bool:
    """Whether the student's own rollouts are trained on."""
    return self.states in ('student', 'joint', 'guided')

  @property
  def others(self) -> Sequence[Group]:
    """All groups that the student did not draw behind its own prompt."""
    return self.teacher if self.drawn is None else self.drawn.groups


@dataclasses.dataclass(frozen=True)
class Drawing:
  """How rollouts are drawn under a context.

  Attributes:
    context: a key of CONTEXTS.
    asked_of: the questions: those with a plain rollout on this route.
    under: distil.trained_under.
    by_teacher: whether the run's teacher draws, and not the policy.
    material: what contexts are made of.
    chat: the student's chat.
    max_prompt: the most tokens of a prompt.
  """
  context: str
  asked_of: Route
  under: str
  by_teacher: bool
  material: Material
  chat: Chat
  max_prompt: int


def drawing(distil: Distil, material: Material, chat: Chat,
            max_prompt: int) -> Drawing:
  """The Drawing of a row's settings.

  Raises:
    KeyError, ValueError: for a route of distil.asked_of that is none; for a
      context of another question; see contexts.check.
  """
  if distil.context == 'same':
    raise ValueError(
        "distil.context is 'same'; this method draws rollouts under a context, "
        f'allowed: {", ".join(name for name in CONTEXTS if name != "same")}')
  if distil.context_of != 'own':
    raise ValueError(
        f'distil.context_of is {distil.context_of!r}; this method draws '
        "rollouts under a context, allowed: 'own'")
  contexts.check(distil.context, distil.context_level, chat, material)
  return Drawing(
      context=distil.context, under=distil.trained_under,
      asked_of=routes.read('distil.asked_of', distil.asked_of),
      by_teacher=distil.drawn_by == 'teacher', material=material, chat=chat,
      max_prompt=max_prompt)


def states_of(states: str, distil: Distil | None, seed: int, step: int) -> str:
  """The states of a step: one of distillation.STATES but 'mixed'.

  Args:
    states: those of the method.
    distil: the settings, which 'mixed' reads.
    seed, step: they key the coin of 'mixed'.
  """
  if states != 'mixed':
    return states
  assert distil is not None  # a method of mixed states distils
  coin = host_rng(seed, step, Purpose.STATES).random()
  moving = distil.student_share_schedule
  share = distil.student_share if moving is None else moving(step)
  return 'student' if coin < share else distil.other_states


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


def _asked(of: Drawing, plain: Sequence[Group], step: int) -> list[Group]:
  """The plain groups of the questions that are asked under a context."""
  seed = of.material.seed
  return [g for g in plain if of.asked_of(g, question_rng(
      seed, step, Purpose.PRIVILEGED, g.prompt.question.id,
      g.prompt.kind).random(len(g.rollouts))).any()]


def _behind(group: Group, plain: Prompt, under: str) -> list[Group]:
  """A group as it is trained: behind the plain question, its context, or both.

  The sampler's log-probs are those behind the context.
  """
  out = [group] if under in ('context', 'both') else []
  if under in ('plain', 'both'):
    out.append(Group(
        dataclasses.replace(plain, kind=PromptKind.CARRIED),
        tuple(dataclasses.replace(r, logps=()) for r in group.rollouts)))
  return out


def draw_under(of: Drawing, plain: Sequence[Group], step: int,
               draw: Callable[[list[Prompt]], Sequence[Group]], longest: int
               ) -> tuple[list[tuple[Group, Prompt]], Drawn]:
  """Rollouts under a context.

  A rollout that repeats what the context shows is no rollout of the model: it
  is counted, and not trained on.

  Args:
    of: how they are drawn.
    plain: the student's groups of the step's questions.
    step: the step.
    draw: prompts -> their graded groups.
    longest: the most tokens of a response that a training row holds.

  Returns:
    ((group to train on, the prompt under which it was drawn) ..., what was
    drawn).
  """
  material = dataclasses.replace(of.material, step=step)
  asked = _asked(of, plain, step)
  made = [contexts.disclosed(of.context, g, material, of.chat, of.max_prompt)
          for g in asked]
  told = [(group, one) for group, one in zip(asked, made, strict=True)
          if isinstance(one, Disclosed)]
  groups = list(draw([one.prompt for _, one in told])) if told else []
  trained, copies, over_long = [], 0, 0
  for (group, one), drawn in zip(told, groups, strict=True):
    own = [r for r in drawn.rollouts
           if r.tokens and not contexts.is_copy(r, one.texts)]
    fitting = tuple(r for r in own if len(r.tokens) <= longest)
    copies += sum(contexts.is_copy(r, one.texts) for r in drawn.rollouts)
    over_long += len(own) - len(fitting)
    if fitting:
      trained += [(x, one.prompt) for x in _behind(
          Group(drawn.prompt, fitting), group.prompt, of.under)]
  return trained, Drawn(
      groups=groups, copies=copies, over_long=over_long,
      untold={g.prompt.question.id: why for g, why in zip(
          asked, made, strict=True) if isinstance(why, Untaught)})


def learn_from(states: str, distil: Distil | None, plain: Sequence[Group],
               groups: Sequence[Group], step: int, *, teacher: Any,
               stored: Any, longest: int, drawing: Drawing | None = None,
               draw: Callable[[list[Prompt]], Sequence[Group]] | None = None
               ) -> Lessons:
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
    drawing, draw: as of `draw_under`, for DRAWN_STATES.
  """
  if states == 'student':
    return Lessons(states=states, groups=groups)
  if states in DRAWN_STATES:
    assert drawing is not None and draw is not None  # build makes them
    own = list(groups) if states == 'joint' else []
    trained, drawn = draw_under(drawing, plain, step, draw, longest)
    return Lessons(
        states=states, groups=[*own, *(group for group, _ in trained)],
        drawn=drawn, over_long=drawn.over_long,
        read={i: prompt for i, (_, prompt) in enumerate(trained, len(own))})
  assert distil is not None  # a method of other states distils
  if states == 'guided':
    return _guided(distil, plain, groups, step, teacher, longest)
  answers, calls = {'teacher': teacher, 'stored': stored}[states].answer(
      [g.prompt for g in plain], step)
  groups, over_long = kept(answers, distil.keep, longest)
  return Lessons(states=states, groups=groups, teacher=answers,
                 over_long=over_long, calls=calls)
