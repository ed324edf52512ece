"""The parts of a distillation row, checked against its teacher."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from zppo_jax.algorithms import distillation, lessons, methods
from zppo_jax.algorithms.credit import (
  settings as credit_settings,
  targets as credit_targets,
)
from zppo_jax.algorithms.credit.settings import Credit
from zppo_jax.algorithms.lessons import Drawing
from zppo_jax.algorithms.privileged.contexts import Material
from zppo_jax.chat import segments
from zppo_jax.learner import scoring
from zppo_jax.rollout import weight_sync
from zppo_jax.teachers import Teacher
from zppo_jax.teachers.in_process import InProcessTeacher
from zppo_jax.teachers.stored import StoredTeacher
from zppo_jax.train import checks, teachers
from zppo_jax.train.builders.parts import Questions, Student
from zppo_jax.train.teaching import reading
from zppo_jax.train.teaching.own import Own, OwnConfig, own_config


class Distillation(NamedTuple):
  """What a distillation row brings; its fields are fields of Run, but `frozen`:
  name -> (model, params) of what runs inside the update."""
  distil: distillation.Distil | None
  reducer: str
  stored_need: str
  stored: StoredTeacher | None
  student_ids_fn: Callable | None
  frozen: dict
  context: Material | None = None
  drawing: Drawing | None = None


def stored_states(c, method: methods.Method) -> bool:
  """Whether some step may train on answers that came with the questions."""
  return method.states == 'stored' or (
      method.states == 'mixed' and c.distil.other_states == 'stored')


def has_gold(c, method: methods.Method) -> bool:
  """Whether stored answers are an anchor beside the row's own loss."""
  return bool(method.terms) and credit_settings.gold_of(
      c.credit, method.credit, 1) is not None


def teachers_states(c, method: methods.Method) -> bool:
  """Whether some step may train on fresh answers of the teacher."""
  return method.states in ('teacher', 'guided') or (
      method.states == 'mixed' and c.distil.other_states == 'teacher')


def teacher_draws(c, method: methods.Method) -> bool:
  """Whether the teacher draws the rollouts under a context."""
  return method.draws and c.distil.drawn_by == 'teacher'


def _drawing(c, method: methods.Method, distil: distillation.Distil,
             student: Student, teacher: Teacher | None) -> Drawing | None:
  """How rollouts are drawn under a context; None for a row without them.

  Raises:
    ValueError: for a teacher that is to draw them and has no weights here.
  """
  if not method.draws:
    return None
  if teacher_draws(c, method) and not isinstance(teacher, InProcessTeacher):
    raise ValueError(
        f"distil.drawn_by is 'teacher' and teacher.kind {c.teacher.kind!r}; "
        "only 'own' and 'in_process' draw rollouts under a context")
  return lessons.drawing(distil, reading.material_of(c, distil), student.chat,
                         max(c.shapes.prompt_buckets))


def distillation_of(c, method: methods.Method,
                  distil: distillation.Distil | None, student: Student,
                  teacher: Teacher | None, asked: Questions,
                  mesh) -> Distillation:
  """The parts of a distillation row, checked against its teacher.

  Raises:
    ValueError: for a teacher that cannot give what the row needs, naming it.
  """
  if distil is None:
    return Distillation(
        distil=None, reducer=method.reducer, stored_need='', stored=None,
        student_ids_fn=None, frozen={})
  needs = method.needs_of(distil)
  if method.terms and credit_settings.of_section(
      c.credit, method.credit, 1, terms=method.terms,
      scored='teacher_scores' in method.needs).asks_teacher:
    needs |= {'teacher_scores'}
  vocab = segments.true_vocabulary(student.chat.codec)
  checks.needs(c, needs, distil, teacher)
  if 'teacher_given' in needs and distil.top > vocab:
    raise ValueError(f'distil.top is {distil.top}; the vocabulary has {vocab} '
                     'ids')
  hidden = 'teacher_hidden' in needs
  if hidden:
    _check_beside(student, teacher, mesh)
  # Scores of any ids come with those of the tokens.
  stored_need = next(iter(sorted(
      needs - {'teacher_hidden'}, key=lambda need: need == 'teacher_scores')),
      '')
  return Distillation(
      distil=distil, reducer=distil.reducer, stored_need=stored_need,
      stored=StoredTeacher(
          chat=student.chat, grader=asked.task.grader,
          num_answers=c.algorithm.teacher_rollouts, seed=c.seed)
      if stored_states(c, method) or has_gold(c, method) else None,
      student_ids_fn=_student_ids(c, student, mesh, vocab, distil.top)
      if stored_need == 'teacher_given' else None,
      frozen={'teacher': (teacher.answers.engine.programs.model,
                          teacher.params)} if hidden else {},
      drawing=_drawing(c, method, distil, student, teacher),
      context=None if method.draws and not needs
      else reading.context(c, distil, needs, student.chat))


def moving(c) -> OwnConfig | None:
  """The section of a teacher whose weights move with the student's."""
  section = own_config(c)
  return section if c.teacher.kind == 'own' and section.moves else None


def own_of(c, method: methods.Method, student: Student, mesh,
           stored_need: str) -> Own | None:
  """A teacher whose weights move; it has a rollout copy per step if it is asked
  for anything outside the update."""
  section = moving(c)
  if section is None:
    return None
  outside = (stored_need or method.reformulations or method.teacher_scores
             or teachers_states(c, method) or teacher_draws(c, method)
             or c.watch.lift.every)
  return Own(config=section, reshard_fn=weight_sync.compile_reshard(
      student.model, mesh, adapted=student.adapted) if outside else None)


def _check_beside(student: Student, teacher: InProcessTeacher, mesh) -> None:
  """ValueError unless the teacher can run on the student's micro-batches."""
  own = teacher.answers.engine.programs.mesh
  if own != mesh:
    raise ValueError(
        f'teacher.mesh is {"x".join(map(str, own.devices.shape))} (data x fsdp '
        f'x tensor), mesh is {"x".join(map(str, mesh.devices.shape))}; inside '
        'the update both models are one program on one mesh. Allowed: all 0, '
        "the run's mesh; or a stored form, which needs no such pass: "
        "distil.support = 'student', 'teacher' or 'sampled'")
  theirs = teacher.answers.engine.programs.model.num_axes
  if theirs != student.model.num_axes:
    raise ValueError(
        f'teacher.weights have {theirs} rotary axes, student.weights '
        f'{student.model.num_axes}; inside the update both read the same '
        "positions. A stored form needs no such pass: distil.support = "
        "'student', 'teacher' or 'sampled'")
  ours = segments.true_vocabulary(student.chat.codec)
  if teacher.vocab != ours:
    raise ValueError(f"teacher.weights have a vocabulary of {teacher.vocab} "
                     f'ids, student.weights of {ours}')


def _student_ids(c, student: Student, mesh, vocab: int, top: int) -> Callable:
  """(rollout copy, sequences) -> int32 [R, K] of each, the likeliest ids."""
  score = teachers.compile_scores(
      c, student.model, mesh, vocab, scoring.Form(top=top))
  return lambda params, sequences: score(params, sequences).top_ids


def credit_of(c, method: methods.Method, of: Distillation,
            teacher: Teacher | None, student: Student,
            mesh) -> tuple[Credit | None, Callable | None]:
  """The section `credit`, checked against what is known of each token, and
  (trained params, groups, targets, step) -> the targets with the student's own
  scores and those of the base.

  Raises:
    ValueError: for a part that reads what the method does not have.
  """
  if not method.terms:
    return None, None
  credit = credit_settings.of_section(
      c.credit, method.credit, c.steps * c.algorithm.updates,
      terms=method.terms, scored='teacher_scores' in method.needs)
  drawn = method.states in ('student', 'guided') or method.draws
  has = ['tokens', *(['advantage', 'accuracy'] if drawn else []),
         'logps', 'entropies']
  if of.stored_need and method.states != 'guided':  # which scores guides alone
    has.append('teacher_logps')
    if teacher.capabilities.entropy:
      has.append('teacher_entropies')
  if credit.base == 'initial':
    has.append('base_logps')
  if of.stored_need == 'teacher_given':
    has.append('divergences')
  credit_settings.check(credit, has)
  vocab = segments.true_vocabulary(student.chat.codec)
  compiled = functools.partial(
      teachers.compile_scores, c, student.model, mesh, vocab)
  temperature = of.distil.student_temperature
  own = base = None
  if credit.reads & {'logps', 'entropies', 'divergences'}:
    own = compiled(scoring.Form(
        given='divergences' in credit.reads, temperature=temperature,
        entropy='entropies' in credit.reads))
  if 'base_logps' in credit.reads:
    base = functools.partial(
        compiled(scoring.Form(temperature=temperature)), student.initial())
  if own is None and base is None:
    return credit, None

  def own_scores(params, groups, targets, step):
    places = credit_targets.read_places(
        credit, groups, c.seed, step, step * c.algorithm.updates)
    return credit_targets.with_own(
        targets, groups, places,
        None if own is None else functools.partial(
            own, student.joined(params)), base)

  return credit, own_scores
