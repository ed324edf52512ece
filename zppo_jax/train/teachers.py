"""The teachers of a run, by `teacher.kind`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from zppo_jax import models, tasks
from zppo_jax.algorithms import compression
from zppo_jax.algorithms.privileged.hints import DEFAULT, HintConfig
from zppo_jax.chat import segments
from zppo_jax.chat.wording import Chat, Wording
from zppo_jax.devices import sharding
from zppo_jax.learner import scoring
from zppo_jax.records import Decoding
from zppo_jax.rollout import collect, weight_sync
from zppo_jax.rollout.build import make_engine
from zppo_jax.teachers import Teacher, endpoint
from zppo_jax.teachers.in_process import InProcessTeacher
from zppo_jax.teachers.stored import StoredTeacher
from zppo_jax.train.models import (
  Loaded,
  chat_of,
  check_attention,
  check_same_words,
  check_vocabulary,
  load_model,
  placed,
)
from zppo_jax.train.teaching.own import OwnConfig


class TeacherContext(NamedTuple):
  """What a teacher is made from.

  Attributes:
    config: the run's config.
    mesh: the run's mesh.
    chat: the student's chat.
    words: the text around a question without a template; None if the task's own
      chat has none.
    task: its grader grades answers.
    compress: when and how far traces are compressed.
    decoding: how the teacher's answers are drawn.
    hint: how its hints are drawn; None if nobody asks it for hints.
    student: the student's model, for a teacher of its own weights.
  """
  config: Any
  mesh: Any
  chat: Chat
  words: Wording | None
  task: tasks.Task
  compress: compression.CompressionConfig
  decoding: Decoding
  hint: HintConfig | None = None
  student: Loaded | None = None


def _in_process(context: TeacherContext) -> Teacher:
  c, mesh = context.config, context.mesh
  cast = functools.partial(weight_sync.cast, dtype=c.teacher.dtype)
  return _of_model(context, load_model(c.teacher, lambda like: placed(
      jax.eval_shape(cast, like), mesh, sharding.ROLLOUT_RULES),
      day=context.chat.day, who='teacher'))


def _own(context: TeacherContext) -> Teacher:
  """A teacher of the student's own weights, or others of the same model. Of
  weights that move there are shapes alone, until a step has the weights."""
  c, mesh, student = context.config, context.mesh, context.student
  assert student is not None  # build passes it
  section = OwnConfig(**c.teacher.own)
  if section.weights == 'folder':
    spec = c.student.copy_and_resolve_references()
    spec.weights = section.folder
    loaded = load_model(spec, lambda like: placed(
        like, mesh, sharding.ROLLOUT_RULES), c.student.thinking,
        context.chat.day, 'teacher.own')
    if loaded.description['model'] != student.description['model']:
      raise ValueError(
          f'teacher.own.folder is {section.folder!r}; it holds another model '
          'than student.weights. Another model is a teacher of kind '
          "'in_process'")
    return _of_model(context, loaded)
  if not section.moves:
    return _of_model(context, student)
  copy = functools.partial(weight_sync.rollout_copy,
                           dtype=student.model.config.dtype)
  return _of_model(context, student, placed(
      jax.eval_shape(copy, student.params), mesh, sharding.ROLLOUT_RULES))


def _of_model(context: TeacherContext, loaded: Loaded,
              params: Any = None) -> Teacher:
  """A teacher on the run's mesh; `params` in the place of the loaded ones."""
  c, mesh, shapes = context.config, context.mesh, context.config.shapes
  chat = chat_of('teacher', loaded, c.data.task, context.task)
  check_vocabulary('teacher', loaded, chat)
  check_attention('teacher', loaded, mesh)
  check_same_words(context.chat, chat)
  # Prompts are the student's, but the teacher's vocabulary may have other
  # padding rows, which its own codec knows. A turn also ends with the student's
  # end tokens, because the prompt has the student's template.
  ends = segments.end_ids(context.chat.codec)
  if not set(ends) <= set(segments.end_ids(chat.codec)):
    chat = dataclasses.replace(chat, codec=chat.codec.ending(ends))
  answers = collect.Sampler(
      engine=make_engine(
          model=models.on_mesh(loaded.model, mesh), mesh=mesh, chat=chat,
          max_tokens=max(
              context.decoding.max_tokens, context.compress.cap + 1,
              context.hint.cap + 1 if context.hint else 0),
          num_rollouts=(c.algorithm.teacher_rollouts,),
          prompt_buckets=shapes.prompt_buckets,
          patch_buckets=shapes.patch_buckets,
          group_buckets=shapes.group_buckets, slots=shapes.slots),
      chat=chat, grader=context.task.grader, decoding=context.decoding,
      num_rollouts=c.algorithm.teacher_rollouts)
  vocab = segments.true_vocabulary(chat.codec)
  hint = context.hint or DEFAULT
  return InProcessTeacher(
      params=weight_sync.place_copy(loaded.params, loaded.model, mesh)
      if params is None else params,
      answers=answers, summaries=dataclasses.replace(
          answers, decoding=Decoding(context.compress.cap + 1,
                                     context.compress.temperature),
          num_rollouts=1),
      hints=dataclasses.replace(
          answers, decoding=Decoding(hint.cap + 1, hint.temperature),
          num_rollouts=1, grader=collect.UNGRADED),
      score_fn=functools.cache(lambda form: scoring.compile_describer(
          model=models.on_mesh(loaded.model, mesh), mesh=mesh,
          chunk=shapes.logprob_chunk, form=form, vocab=vocab)),
      vocab=vocab,
      row_buckets=tuple(sorted(shapes.row_buckets)),
      micro_tokens=shapes.micro_tokens, seed=c.seed)


def _endpoint(context: TeacherContext) -> Teacher:
  c, algo = context.config, context.config.algorithm
  if jax.process_count() > 1:
    raise ValueError(
        f"teacher.kind is 'endpoint'; it runs in one process, this run has "
        f'{jax.process_count()}')
  return endpoint.connect(
      c.teacher.endpoint, chat=context.chat, words=context.words,
      grader=context.task.grader, decoding=context.decoding,
      num_answers=algo.teacher_rollouts,
      compress=context.compress, max_prompt=max(c.shapes.prompt_buckets),
      seed=c.seed, hints=context.hint or DEFAULT)


def _stored(context: TeacherContext) -> Teacher:
  return StoredTeacher(
      chat=context.chat, grader=context.task.grader,
      num_answers=context.config.algorithm.teacher_rollouts,
      seed=context.config.seed)


TEACHERS: dict[str, Callable[[TeacherContext], Teacher]] = {
    'in_process': _in_process, 'own': _own, 'endpoint': _endpoint,
    'stored': _stored}
