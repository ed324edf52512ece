"""The teachers of a run, by `teacher.kind`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from zppo_jax import models, tasks
from zppo_jax.algorithms import compression
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
from zppo_jax.train import checks
from zppo_jax.train.models import (
  chat_of,
  check_attention,
  check_same_words,
  check_vocabulary,
  load_model,
  placed,
)


class TeacherContext(NamedTuple):
  """What a teacher is made from.

  Attributes:
    config: the run's config.
    mesh: the run's mesh.
    make_room: frees what the student's idle engine holds on the devices.
    chat: the student's chat.
    words: the text around a question without a template; None if the task's own
      chat has none.
    task: its grader grades answers.
    compress: when and how far traces are compressed.
    decoding: how the teacher's answers are drawn.
  """
  config: Any
  mesh: Any
  make_room: Callable[[], Any]
  chat: Chat
  words: Wording | None
  task: tasks.Task
  compress: compression.CompressionConfig
  decoding: Decoding


def _mesh(c, mesh: Mesh) -> Mesh:
  """The teacher's mesh over the devices of the run's.

  Raises:
    ValueError: as sharding.make_mesh and checks.slots, of `teacher.mesh`.
  """
  if not any(c.teacher.mesh.values()):
    return mesh
  own = sharding.make_mesh(
      sharding.MeshConfig(**c.teacher.mesh, slices=c.mesh.get('slices', 1)),
      sorted(mesh.devices.flat, key=lambda d: d.id), 'teacher.mesh')
  checks.slots(c, own, 'teacher.mesh')
  return own


def _in_process(context: TeacherContext) -> Teacher:
  c, shapes = context.config, context.config.shapes
  mesh = _mesh(c, context.mesh)
  cast = functools.partial(weight_sync.cast, dtype=c.teacher.dtype)
  loaded = load_model(c.teacher, lambda like: placed(
      jax.eval_shape(cast, like), mesh, sharding.ROLLOUT_RULES),
      day=context.chat.day, who='teacher')
  chat = chat_of('teacher', loaded, c.data.task, context.task)
  check_vocabulary('teacher', loaded, chat)
  check_attention('teacher', loaded, mesh)
  check_same_words(context.chat, chat)
  model = models.on_mesh(loaded.model, mesh)
  params = weight_sync.place_copy(loaded.params, model, mesh,
                                  c.teacher.rollout_weights)
  del loaded  # what follows would keep its weights
  # Prompts are the student's, but the teacher's vocabulary may have other
  # padding rows, which its own codec knows. A turn also ends with the student's
  # end tokens, because the prompt has the student's template.
  ends = segments.end_ids(context.chat.codec)
  if not set(ends) <= set(segments.end_ids(chat.codec)):
    chat = dataclasses.replace(chat, codec=chat.codec.ending(ends))
  answers = collect.Sampler(
      engine=make_engine(
          model=model, mesh=mesh, chat=chat,
          max_tokens=max(context.decoding.max_tokens, context.compress.cap + 1),
          num_rollouts=(c.algorithm.teacher_rollouts,),
          prompt_buckets=shapes.prompt_buckets,
          patch_buckets=shapes.patch_buckets,
          group_buckets=shapes.group_buckets, slots=shapes.slots),
      chat=chat, grader=context.task.grader, decoding=context.decoding,
      num_rollouts=c.algorithm.teacher_rollouts)
  vocab = segments.true_vocabulary(chat.codec)
  return InProcessTeacher(
      params=params, make_room=context.make_room,
      answers=answers, summaries=dataclasses.replace(
          answers, decoding=Decoding(context.compress.cap + 1,
                                     context.compress.temperature),
          num_rollouts=1),
      score_fn=functools.cache(lambda form: scoring.compile_describer(
          model=model, mesh=mesh,
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
      seed=c.seed)


def _stored(context: TeacherContext) -> Teacher:
  return StoredTeacher(
      chat=context.chat, grader=context.task.grader,
      num_answers=context.config.algorithm.teacher_rollouts,
      seed=context.config.seed)


TEACHERS: dict[str, Callable[[TeacherContext], Teacher]] = {
    'in_process': _in_process, 'endpoint': _endpoint, 'stored': _stored}
