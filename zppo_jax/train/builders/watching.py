"""What the section `watch` asks of a run, checked."""

import dataclasses
from typing import Any

from zppo_jax import allowed
from zppo_jax.algorithms import distillation
from zppo_jax.chat import segments
from zppo_jax.learner import scoring
from zppo_jax.records import Decoding
from zppo_jax.rollout import collect, weight_sync
from zppo_jax.runs import alarms
from zppo_jax.teachers import Teacher
from zppo_jax.teachers.in_process import InProcessTeacher
from zppo_jax.train import teachers
from zppo_jax.train.builders.parts import Questions, Student
from zppo_jax.train.run import Every
from zppo_jax.train.watching.drift import Drift


def alarms_of(c: Any, distil: distillation.Distil | None
              ) -> tuple[alarms.Alarm, ...]:
  """The alarms of guard.alarms, and the one of contexts that hold the attempt
  (alarms.with_copying)."""
  read = alarms.read('guard.alarms', c.guard.alarms)
  shown = distil is not None and distillation.shows_attempt(distil)
  return alarms.with_copying(read) if shown else read


def drift_of(c: Any, student: Student, sampler: collect.Sampler,
             asked: Questions, mesh: Any) -> Drift | None:
  """What evaluations need to measure how far the policy has left
  student.weights; None without watch.drift.

  Raises:
    ValueError: for a number out of its range.
  """
  number = allowed.number('watch.drift', c.watch.drift, '>= 0', whole=True,
                          note=' (questions of each split; 0: off)')
  if not number:
    return None
  return Drift(
      base=student.copied(),
      sampler=dataclasses.replace(
          sampler, num_rollouts=1,
          decoding=Decoding(c.algorithm.max_tokens, temperature=1.0)),
      questions=tuple(q for questions in asked.splits.values()
                      for q in questions[:number]),
      reshard_fn=weight_sync.compile_reshard(
          student.model, mesh, adapted=student.adapted),
      score_fn=teachers.compile_scores(
          c, student.model, mesh,
          segments.true_vocabulary(student.chat.codec), scoring.Form()),
      seed=c.seed)


def lift_of(c: Any, distil: distillation.Distil | None,
            teacher: Teacher | None, context: Any) -> Every:
  """When the teacher answers with and without its context.

  Raises:
    ValueError: for a row without a context, or a teacher that draws none.
  """
  lift = Every('watch.lift', **c.watch.lift)
  if not lift.every:
    return lift
  if distil is None or context is None:
    raise ValueError(
        f'watch.lift.every is {lift.every}; in method {c.method!r}, with '
        f'distil.context = {c.distil.context!r}, no teacher reads a context '
        'of its own; allowed: 0')
  if not isinstance(teacher, InProcessTeacher):
    raise ValueError(
        f'watch.lift.every is {lift.every} and teacher.kind '
        f"{c.teacher.kind!r}; only 'own' and 'in_process' answer behind a "
        'context')
  return lift
