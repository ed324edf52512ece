"""The teachers of a run, by `teacher.kind`."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from zppo_jax import allowed, models, tasks
from zppo_jax.algorithms import compression
from zppo_jax.algorithms.privileged.hints import DEFAULT, HintConfig
from zppo_jax.chat import segments
from zppo_jax.chat.wording import Chat, Wording
from zppo_jax.devices import sharding
from zppo_jax.learner import scoring
from zppo_jax.models.lora import Lora
from zppo_jax.records import CallStats, Decoding, Scores, TokenSequence
from zppo_jax.rollout import collect, weight_sync
from zppo_jax.rollout.build import make_engine
from zppo_jax.teachers import Teacher, endpoint
from zppo_jax.teachers.in_process import InProcessTeacher
from zppo_jax.teachers.panel import Panel, read_route
from zppo_jax.teachers.stored import StoredTeacher
from zppo_jax.train import checks
from zppo_jax.train.models import (
  Loaded,
  chat_of,
  check_attention,
  check_same_words,
  check_vocabulary,
  load_model,
  placed,
)
from zppo_jax.train.teaching.own import ADAPTERS_OFF, own_config


def compile_scores(c: Any, model: Any, mesh: Any, vocab: int,
                   form: scoring.Form) -> Callable[..., Scores]:
  """(params, sequences, ids of each to gather or ()) -> Scores of responses.

  Args:
    c: the run's config.
    model, mesh: whose scores, and where it runs.
    vocab: the true vocabulary, in ids.
    form: what is returned besides log-probs. `given` holds where ids are given.
  """
  programs = {given: scoring.compile_describer(
      model=model, mesh=mesh, chunk=c.shapes.logprob_chunk, vocab=vocab,
      form=form._replace(given=given)) for given in {False, form.given}}

  def score(params: Any, sequences: Sequence[TokenSequence],
            ids: Sequence[np.ndarray] = ()) -> Scores:
    given = form.given and len(ids) > 0
    described = scoring.by_row(
        programs[given], params, sequences, mesh=mesh,
        max_tokens=c.shapes.micro_tokens,
        buckets=tuple(sorted(c.shapes.row_buckets)),
        patch_buckets=tuple(c.shapes.patch_buckets), num_axes=model.num_axes,
        given=ids if given else ())
    field = lambda name: tuple(getattr(of, name) for of in described)
    return Scores(
        logps=field('logp_BT'), calls=CallStats(),
        top_ids=field('top_id_BTK') if form.top else (),
        given_logps=field('given_logp_BTN') if given else (),
        entropies=field('entropy_BT') if form.entropy else ())

  return score


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
    hint: how its hints are drawn; None if nobody asks it for hints.
    load: as models.load_model.
    student: the student's model, for a teacher of its own weights.
    adapted: its frozen weights, if it trains adapters of them.
    copied: the rollout copy of the student's weights as the run began, which
      all who read it share.
    answers: whether the teacher is asked for more than scores.
    kinds: of the members of a panel; None: TEACHERS.
    padding_counts: as in rollout.build.make_engine.
  """
  config: Any
  mesh: Any
  make_room: Callable[[], Any]
  chat: Chat
  words: Wording | None
  task: tasks.Task
  compress: compression.CompressionConfig
  decoding: Decoding
  hint: HintConfig | None = None
  load: Callable[..., Loaded] = load_model
  student: Loaded | None = None
  adapted: Lora | None = None
  copied: Callable[[], Any] | None = None
  answers: bool = True
  padding_counts: bool = True
  kinds: Mapping[str, Callable[..., Teacher]] | None = None


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
  c = context.config
  mesh = _mesh(c, context.mesh)
  cast = functools.partial(weight_sync.cast, dtype=c.teacher.dtype)
  return _of_model(context._replace(mesh=mesh), context.load(
      c.teacher, lambda like: placed(
          jax.eval_shape(cast, like), mesh, sharding.ROLLOUT_RULES),
      day=context.chat.day, who='teacher'))


def _own(context: TeacherContext) -> Teacher:
  """A teacher of the student's own weights, or others of the same model. Of
  weights that move there are shapes alone, until a step has the weights."""
  c, mesh, student = context.config, context.mesh, context.student
  assert student is not None and context.copied is not None  # by build
  section = own_config(c)
  if any(c.teacher.mesh.values()) or c.teacher.rollout_weights != 'same':
    raise ValueError(
        "teacher.kind is 'own', whose weights lie where the student's lie: "
        "teacher.mesh must be all 0 and teacher.rollout_weights 'same'")
  if section.weights == 'folder':
    spec = c.student.copy_and_resolve_references()
    spec.weights = section.folder
    loaded = context.load(spec, lambda like: placed(
        like, mesh, sharding.ROLLOUT_RULES), c.student.thinking,
        context.chat.day, 'teacher.own')
    if loaded.description['model'] != student.description['model']:
      raise ValueError(
          f'teacher.own.folder is {section.folder!r}; it holds another model '
          'than student.weights. Another model is a teacher of kind '
          "'in_process'")
    return _of_model(context, loaded)
  if section.weights == ADAPTERS_OFF:
    return _adapters_off(context, student)
  if not section.moves:
    return _of_model(context, student, context.copied())
  copy = functools.partial(weight_sync.rollout_copy,
                           dtype=student.model.config.dtype)
  return _of_model(context, student, placed(
      jax.eval_shape(copy, student.params), mesh, sharding.ROLLOUT_RULES))


def _adapters_off(context: TeacherContext, student: Loaded) -> Teacher:
  """A teacher of the weights that stay frozen under adapters, which are
  not copied; but answers are drawn from the rollout copy."""
  if context.adapted is None:
    raise ValueError(
        "teacher.own.weights is 'adapters_off' and lora.rank 0; without "
        "adapters there are none to switch off. Set lora.rank, or take "
        "'frozen', which is a copy of student.weights")
  assert context.copied is not None  # by build
  return _of_model(context, student, context.copied() if context.answers
                   else context.adapted.base)


def _of_model(context: TeacherContext, loaded: Loaded,
              params: Any = None) -> Teacher:
  """A teacher on the run's mesh; `params` in the place of the loaded ones."""
  c, mesh, shapes = context.config, context.mesh, context.config.shapes
  chat = chat_of('teacher', loaded, c.data.task, context.task)
  check_vocabulary('teacher', loaded, chat)
  check_attention('teacher', loaded, mesh)
  check_same_words(context.chat, chat)
  model = models.on_mesh(loaded.model, mesh)
  if params is None:
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
          max_tokens=max(
              context.decoding.max_tokens, context.compress.cap + 1,
              context.hint.cap + 1 if context.hint else 0),
          num_rollouts=(c.algorithm.teacher_rollouts,),
          prompt_buckets=shapes.prompt_buckets,
          patch_buckets=shapes.patch_buckets,
          group_buckets=shapes.group_buckets,
          prefill_tokens=shapes.prefill_tokens, slots=shapes.slots,
          padding_counts=context.padding_counts,
          cache_buckets=shapes.get('cache_buckets', ()),
          share_from=shapes.get('share_from', 0)),
      chat=chat, grader=context.task.grader, decoding=context.decoding,
      num_rollouts=c.algorithm.teacher_rollouts)
  vocab = segments.true_vocabulary(chat.codec)
  hint = context.hint or DEFAULT
  return InProcessTeacher(
      params=params, make_room=context.make_room,
      answers=answers, summaries=dataclasses.replace(
          answers, decoding=Decoding(context.compress.cap + 1,
                                     context.compress.temperature),
          num_rollouts=1),
      hints=dataclasses.replace(
          answers, decoding=Decoding(hint.cap + 1, hint.temperature),
          num_rollouts=1, grader=collect.UNGRADED),
      score_fn=functools.cache(lambda form: scoring.compile_describer(
          model=model, mesh=mesh,
          chunk=shapes.logprob_chunk, form=form, vocab=vocab)),
      vocab=vocab,
      row_buckets=tuple(sorted(shapes.row_buckets)),
      micro_tokens=shapes.micro_tokens, seed=c.seed)


def _endpoint(context: TeacherContext) -> Teacher:
  c, algo = context.config, context.config.algorithm
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


_MEMBERS = 'teacher.panel.members.'


def sections(section: Any) -> dict[str, Any]:
  """The sections of the teachers by name: `teacher` itself, or for the members
  of a panel copies of it with their own fields.

  Args:
    section: `teacher` of a config.
  """
  if section.kind != 'panel':
    return {'teacher': section}
  out = {}
  for name, fields in section.panel.members.items():
    out[f'{_MEMBERS}{name}'] = member = copy.deepcopy(section)
    with member.unlocked():
      member.panel = ConfigDict()
    member.kind = fields.get('kind', 'in_process')
    member.update(fields)
    # What a method's paper says of its teacher holds for a teacher alone.
    member.own.weights = member.own.weights or 'frozen'
  return out


def _panel(context: TeacherContext) -> Teacher:
  """Members that are built like a teacher alone, from a copy of the section
  with their own fields.

  Raises:
    KeyError: for an unknown kind, field, or member of a route.
    ValueError: for a panel without members or routes, or in another panel.
  """
  section = context.config.teacher.panel
  if not section.members or not section.routes:
    raise ValueError(
        "teacher.kind is 'panel'; teacher.panel.members and "
        'teacher.panel.routes must each have an entry')
  members, of = {}, sections(context.config.teacher)
  for name in section.members:
    member = of[who := f'{_MEMBERS}{name}']
    if member.kind == 'panel':
      raise ValueError(f"{who}.kind is 'panel'; a panel may hold no other")
    kind = allowed.known(f'{who}.kind', member.kind, context.kinds or TEACHERS)
    config = copy.deepcopy(context.config)
    with config.unlocked():
      config.teacher = member
    members[name] = kind(context._replace(config=config))
  return Panel(members=members, routes={
      source: read_route(f'teacher.panel.routes.{source}', text, members)
      for source, text in section.routes.items()})


TEACHERS: dict[str, Callable[[TeacherContext], Teacher]] = {
    'in_process': _in_process, 'own': _own, 'endpoint': _endpoint,
    'stored': _stored, 'panel': _panel}
