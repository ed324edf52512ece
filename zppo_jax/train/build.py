"""Spends a config once into everything a run needs; refuses bad ones.

Every check is made before anything is compiled; those of values are in checks.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from zppo_jax import models, tasks
from zppo_jax.algorithms import compression, methods, zppo
from zppo_jax.chat import dates, segments
from zppo_jax.chat.rendering import Day
from zppo_jax.chat.wording import BOXED, Chat, Wording
from zppo_jax.data import prompt_lengths
from zppo_jax.data.pool import Pool
from zppo_jax.data.source import Source
from zppo_jax.devices import sharding
from zppo_jax.endpoints import judge
from zppo_jax.learner import layouts, optimizers, scoring, update
from zppo_jax.models import attention
from zppo_jax.objectives import advantages, importance, losses
from zppo_jax.records import Cadence, Decoding, Question, TrainState
from zppo_jax.rollout import collect
from zppo_jax.runs import checkpoints, metrics, watch
from zppo_jax.teachers import Teacher, endpoint
from zppo_jax.teachers.in_process import InProcessTeacher
from zppo_jax.teachers.stored import StoredTeacher
from zppo_jax.train import checks
from zppo_jax.verdicts.verifier import Verifier
from zppo_jax.weights import pretrained

SCOPES = ('rollout_batch', 'minibatch')
# student.thinking -> the switch of the chat template; None: its own default
THINKING = {'default': None, 'on': True, 'off': False}


@dataclasses.dataclass(frozen=True)
class Run:
  """Everything that a run needs, compiled functions included.

  `init_state` places the pretrained weights and a fresh optimizer on the
  mesh; a resumed run never calls it and restores into `abstract_state`.
  """
  steps: int
  seed: int
  rules: zppo.Rules
  method: methods.Method
  compress: compression.CompressionConfig
  num_updates: int
  advantage_scope: str
  correction: importance.Correction
  gap_measured: bool
  source: Source
  splits: dict[str, tuple[Question, ...]]
  eval_every: int
  probe: Cadence
  samples: Cadence
  checkpoint: checkpoints.Policy
  max_ratio: float
  max_ungraded: float
  vain: watch.Limits
  mesh: Any
  description: dict
  verifier: Verifier
  sampler: collect.Sampler
  greedy: collect.Sampler
  teacher: Teacher | None
  patience: metrics.Patience
  rate: Callable[[int], float]
  reshard_fn: Any
  score_fn: Any
  advantage_fn: Any
  update_fn: Any
  init_state: Callable[[], TrainState]
  abstract_state: TrainState
  buffer_capacity: int
  num_rollouts: int
  layout: layouts.Layout


class Loaded(NamedTuple):
  """A config's model.

  Attributes:
    model: the network.
    params: of it, numpy or jax arrays.
    chat: of its own tokenizer; None where it has none, the task's counts then.
    description: what its weights are saved with.
  """
  model: models.Model
  params: Any
  chat: Chat | None
  description: dict


def load_model(spec, place=None, thinking: str = 'default',
               day: Day | None = None, who: str = 'student') -> Loaded:
  """A model from a weights file, a hub folder or a GGUF.

  Args:
    spec: config with `weights` (anything that pretrained.load takes),
      `dtype`, `remat`, `unroll`, `attention`; `end_tokens` and
      `chat_template` where it has them (pretrained.with_words).
    place: shapes -> types and shardings, as pretrained.load.
    thinking: in THINKING; how the chat template is rendered.
    day: the date in prompts, where the template tells one; None: today.
    who: 'student' or 'teacher', for errors.

  Raises:
    KeyError: for another value of `thinking`.
    FileNotFoundError, ValueError: as pretrained.load, with_words and chat;
      for a switch, or a date that was named, without a tokenizer whose
      template knows it.
  """
  switch = checks.known(thinking, THINKING, 'student.thinking')
  found = pretrained.load(spec.weights, dtype=spec.dtype, remat=spec.remat,
                          attention=spec.attention, place=place,
                          unroll=spec.unroll)
  found = pretrained.with_words(
      found, end_tokens=spec.get('end_tokens', ()),
      chat_template=spec.get('chat_template', ''), who=f'{who}.')
  chat = pretrained.chat(found, thinking=switch, day=day)
  for note in (*found.notes, *(chat.notes if chat else ())):
    print(f'{spec.weights}: {note}', flush=True)
  if chat is None and switch is not None:
    raise ValueError(f'student.thinking is {thinking!r}; {spec.weights} came '
                     'without a tokenizer, allowed: default')
  if chat is None and day is not None and day.given:
    raise ValueError(f"student.date is '{day.date}'; {spec.weights} came "
                     "without a tokenizer, allowed: ''")
  return Loaded(found.model, found.params, chat, found.description)


def optimizer(config):
  """(optimizer, step -> learning rate) of a run.

  Raises:
    ValueError: for a field of config.optimizer out of its range, by its name.
  """
  try:
    made = optimizers.AdamWConfig(**config.optimizer)
    return optimizers.adamw(
        made, steps=config.steps, updates=config.algorithm.updates,
        seed=config.seed), optimizers.rate(made, config.steps)
  except ValueError as e:
    raise ValueError(f'optimizer.{e}') from e


def abstract_state(config, model, mesh) -> TrainState:
  """Shapes, types and shardings of a run's TrainState."""
  tx, _ = optimizer(config)
  return update.abstract_state(
      model, tx, update.state_shardings(model, tx, mesh))


def _placed(like, mesh, rules):
  """Shapes and types with the shardings of a rule table."""
  return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), like,
      sharding.param_shardings(like, mesh, rules))


def chat_of(who: str, loaded: Loaded, name: str, task: tasks.Task) -> Chat:
  """The model's own chat, else the task's; ValueError without either."""
  found = loaded.chat or task.chat
  if found is None:
    raise ValueError(f'{who}.weights came without a tokenizer and the task '
                     f'{name!r} has no chat of its own; one of them is needed')
  return found


def _check_attention(who: str, loaded: Loaded, mesh) -> None:
  config = loaded.model.config
  try:
    attention.check(config.attention, mesh, config)
  except ValueError as e:
    raise ValueError(f'{who}.{e}') from e


def _check_vocabulary(who: str, loaded: Loaded, chat: Chat) -> None:
  rows = loaded.model.config.vocab_size
  if chat.codec.vocab_size != rows:
    raise ValueError(f'{who}.weights have {rows} embedding rows; the task\'s '
                     f'own chat has {chat.codec.vocab_size}, and the weights '
                     'came without a tokenizer')


def _check_same_words(student: Chat, teacher: Chat) -> None:
  """ValueError unless prompts of the student's chat are the teacher's too."""
  ours, theirs = student.codec, teacher.codec
  if ours.ids != theirs.ids:
    differ = len(ours.ids.items() ^ theirs.ids.items())
    raise ValueError(
        f'teacher.weights have another vocabulary than student.weights: '
        f'{len(theirs.ids)} words and end token {theirs.end_id}, not '
        f'{len(ours.ids)} and {ours.end_id}; {differ} entries differ')


class Desk(NamedTuple):
  """What a teacher is made from.

  Attributes:
    config: the run's.
    mesh: the run's.
    chat: the student's.
    words: around a question without a template; None where the task's own
      chat has none.
    task: its grader grades answers.
    compress: when and how far traces are compressed.
    decoding: of the teacher's answers.
  """
  config: Any
  mesh: Any
  chat: Chat
  words: Wording | None
  task: tasks.Task
  compress: compression.CompressionConfig
  decoding: Decoding


def _in_process(desk: Desk) -> Teacher:
  c, mesh, shapes = desk.config, desk.mesh, desk.config.shapes
  cast = functools.partial(collect.cast, dtype=c.teacher.dtype)
  loaded = load_model(c.teacher, lambda like: _placed(
      jax.eval_shape(cast, like), mesh, sharding.ROLLOUT_RULES),
      day=desk.chat.day, who='teacher')
  chat = chat_of('teacher', loaded, c.data.task, desk.task)
  _check_vocabulary('teacher', loaded, chat)
  _check_attention('teacher', loaded, mesh)
  _check_same_words(desk.chat, chat)
  # Prompts are the student's; the teacher's codec has its own padding rows.
  # In the student's template a turn ends as there, too.
  ends = segments.end_ids(desk.chat.codec)
  if not set(ends) <= set(segments.end_ids(chat.codec)):
    chat = dataclasses.replace(chat, codec=chat.codec.ending(ends))
  answers = collect.Sampler(
      collect.make_engine(
          model=models.on_mesh(loaded.model, mesh), mesh=mesh, chat=chat,
          max_tokens=max(desk.decoding.max_tokens, desk.compress.cap + 1),
          num_rollouts=(c.algorithm.teacher_rollouts,),
          prompt_buckets=shapes.prompt_buckets,
          patch_buckets=shapes.patch_buckets,
          group_buckets=shapes.group_buckets, slots=collect.slots_of(
              shapes.slots, shapes.group_buckets,
              c.algorithm.teacher_rollouts)),
      chat, desk.task.grader, desk.decoding, c.algorithm.teacher_rollouts)
  return InProcessTeacher(
      params=collect.place_copy(loaded.params, loaded.model, mesh),
      answers=answers, summaries=dataclasses.replace(
          answers, decoding=Decoding(desk.compress.cap + 1,
                                     desk.compress.temperature),
          num_rollouts=1),
      score_fn=scoring.compile_frozen_scorer(
          model=models.on_mesh(loaded.model, mesh), mesh=mesh,
          chunk=shapes.logprob_chunk),
      row_buckets=tuple(sorted(shapes.row_buckets)),
      micro_tokens=shapes.micro_tokens, seed=c.seed)


def _endpoint(desk: Desk) -> Teacher:
  c, algo = desk.config, desk.config.algorithm
  if jax.process_count() > 1:
    raise ValueError(
        f"teacher.kind is 'endpoint'; it runs in one process, this run has "
        f'{jax.process_count()}')
  return endpoint.connect(
      c.teacher.endpoint, chat=desk.chat, words=desk.words,
      grader=desk.task.grader, decoding=desk.decoding,
      num_answers=algo.teacher_rollouts,
      compress=desk.compress, max_prompt=max(c.shapes.prompt_buckets),
      seed=c.seed)


def _stored(desk: Desk) -> Teacher:
  return StoredTeacher(desk.chat, desk.task.grader,
                       desk.config.algorithm.teacher_rollouts,
                       desk.config.seed)


TEACHERS: dict[str, Callable[[Desk], Teacher]] = {
    'in_process': _in_process, 'endpoint': _endpoint, 'stored': _stored}


def build(config, day: Day | None = None) -> Run:
  """Checks a config and builds the run; nothing is compiled yet.

  Args:
    config: of the run.
    day: the date in its prompts; None: the config's, else today's.

  Raises:
    KeyError: for an unknown name, with the known ones.
    ValueError: for values that do not fit each other, naming the field.
    EndpointError: for a judge or a teacher that cannot be reached.
  """
  c, algo, shapes = config, config.algorithm, config.shapes
  method = methods.get(c.method)
  normaliser = checks.known(algo.normaliser, advantages.NORMALISERS,
                            'normaliser')
  if algo.advantage_scope not in SCOPES:
    raise KeyError(f'unknown advantage_scope {algo.advantage_scope!r}; '
                   f'known: {", ".join(SCOPES)}')
  checks.numbers(c)
  rules = zppo.Rules(algo.num_new, algo.tau, algo.rho_replay, algo.rho_aug,
                     max(shapes.prompt_buckets), c.seed)
  if method.replay and algo.buffer_capacity < rules.num_replay:
    raise ValueError(
        f'algorithm.buffer_capacity is {algo.buffer_capacity}; a draw takes '
        f'floor(rho_replay * num_new) = {rules.num_replay}')
  compress = compression.CompressionConfig(**c.compression)
  correct = importance.Correction(**algo.correction)
  weights = c.student.rollout_weights
  checks.known(weights, collect.WEIGHTS, 'student.rollout_weights')
  gap_measured = correct.on or weights != 'same'
  if weights == 'int8' and not correct.on:
    print("student.rollout_weights is 'int8': rollouts come from another "
          'policy than the trained one; algorithm.correction is recommended, '
          "its kind is 'none'", flush=True)
  policy = checkpoints.Policy(**c.checkpoint)
  tx, rate = optimizer(c)
  vain = watch.Limits(c.guard.max_idle, c.teacher.min_answered,
                      c.teacher.window)

  task = tasks.get(c.data.task)
  if c.data.fit not in prompt_lengths.FITS:
    raise KeyError(f'unknown data.fit {c.data.fit!r}; known: '
                   f'{", ".join(prompt_lengths.FITS)}')
  source = Source(tasks.pool(task, c.data.pool), algo.num_new, c.seed,
                  c.data.repeat)
  source.check_steps(c.steps)
  splits = tasks.splits(task, c.eval, c.eval.splits, c.data.pool)
  words_of = lambda pool: pool.words() if isinstance(pool, Pool) else pool
  verifier = judge.verifier_of(c.judge, checks.golds(
      itertools.chain(words_of(source.pool), *splits.values()),
      c.guard.max_ungraded))
  task = tasks.graded_by(task, verifier)
  if method.reformulations and c.teacher.kind == 'stored':
    checks.responses(words_of(source.pool))
  mesh = sharding.make_mesh(sharding.MeshConfig(**c.mesh))
  checks.slots(c, mesh)
  longest = max(shapes.prompt_buckets) + algo.max_tokens
  if longest > max(shapes.row_buckets):
    raise ValueError(
        f'shapes.row_buckets end at {max(shapes.row_buckets)}; the longest '
        f'prompt bucket and algorithm.max_tokens need {longest}')
  student = load_model(c.student, lambda like: _placed(
      like, mesh, sharding.TRAIN_RULES), c.student.thinking,
      day or dates.choose(c))
  chat = chat_of('student', student, c.data.task, task)
  model = models.on_mesh(student.model, mesh)
  _check_vocabulary('student', student, chat)
  _check_attention('student', student, mesh)
  room = (chat, rules.max_prompt, shapes.patch_buckets)
  prompt_lengths.check((q for found in splits.values() for q in found), *room)
  source = dataclasses.replace(
      source, pool=prompt_lengths.fitting(source.pool, c.data.fit, *room))
  source.check_steps(c.steps)
  shardings = update.state_shardings(model, tx, mesh)

  sampling_of = functools.partial(
      Decoding, temperature=algo.temperature, top_p=algo.top_p,
      top_k=algo.top_k)
  make_engine = functools.partial(
      collect.make_engine, mesh=mesh, prompt_buckets=shapes.prompt_buckets,
      patch_buckets=shapes.patch_buckets)
  groups = (rules.num_new, rules.num_new + rules.num_replay,
            *shapes.group_buckets)
  sampler = collect.Sampler(
      make_engine(
          model=model, chat=chat, max_tokens=algo.max_tokens,
          num_rollouts=(algo.rollouts,), group_buckets=groups,
          slots=collect.slots_of(shapes.slots, groups, algo.rollouts)),
      chat, task.grader, sampling_of(algo.max_tokens), algo.rollouts)
  greedy = dataclasses.replace(
      sampler, decoding=Decoding(algo.max_tokens, temperature=0.0),
      num_rollouts=1)
  teacher = None
  if method.reformulations:
    teacher = checks.known(c.teacher.kind, TEACHERS, 'teacher.kind')(Desk(
        c, mesh, chat, BOXED if student.chat else None, task, compress,
        sampling_of(algo.teacher_max_tokens)))
    checks.media(source.pool, teacher.capabilities, c.teacher.kind)

  loss_fn = functools.partial(
      update.policy_loss, model=model, temperature=algo.temperature,
      chunk=shapes.logprob_chunk, own_old_logp=algo.updates == 1,
      correct=(importance.gap_alone if gap_measured and not correct.on
               else correct.function),
      objective=functools.partial(losses.OBJECTIVES[method.objective],
                                  clip=losses.Clip(**algo.clip)))
  rows = sharding.batch_sharding(mesh)
  return Run(
      steps=c.steps, seed=c.seed, rules=rules, method=method,
      compress=compress, num_updates=algo.updates,
      advantage_scope=algo.advantage_scope, correction=correct,
      gap_measured=gap_measured, source=source, splits=splits,
      eval_every=c.eval.every,
      probe=Cadence('probe', **c.probe),
      samples=Cadence('samples', **c.samples), checkpoint=policy,
      max_ratio=c.guard.max_ratio, max_ungraded=c.guard.max_ungraded,
      vain=vain,
      mesh=mesh,
      description=student.description, verifier=verifier,
      sampler=sampler, greedy=greedy,
      teacher=teacher, patience=metrics.Patience(
          c.teacher.max_failures, c.teacher.window),
      rate=rate, reshard_fn=collect.compile_reshard(model, mesh, weights),
      score_fn=scoring.compile_scorer(
          model=model, mesh=mesh, shardings=shardings,
          temperature=algo.temperature, chunk=shapes.logprob_chunk),
      advantage_fn=jax.jit(
          functools.partial(normaliser, eps=algo.advantage_eps),
          in_shardings=(rows, rows), out_shardings=rows),
      update_fn=update.compile_update(
          loss_fn=loss_fn, tx=tx, mesh=mesh, shardings=shardings),
      init_state=functools.partial(
          update.new_state, student.params, tx, shardings),
      abstract_state=update.abstract_state(model, tx, shardings),
      buffer_capacity=algo.buffer_capacity, num_rollouts=algo.rollouts,
      layout=layouts.Layout(
          shapes.layout, shapes.micro_tokens, sharding.batch_shards(mesh),
          algo.rollouts, tuple(shapes.row_buckets),
          tuple(shapes.prompt_buckets),
          tuple(shapes.response_buckets) or (algo.max_tokens,),
          tuple(shapes.patch_buckets), model.num_axes))
