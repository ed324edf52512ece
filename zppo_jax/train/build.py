"""Turns a config into everything that a run needs, and refuses bad configs.

All checks are made before anything is compiled; checks.py checks values.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from zppo_jax import allowed, models, tasks
from zppo_jax.algorithms import (
  compression,
  distillation,
  methods,
  reference,
  schedules,
  zppo,
)
from zppo_jax.algorithms.credit import targets as credit_targets
from zppo_jax.algorithms.credit.settings import Credit
from zppo_jax.algorithms.privileged.hints import DEFAULT, HintConfig
from zppo_jax.arrays import TrainState
from zppo_jax.chat import dates, prompts
from zppo_jax.chat.rendering import Day
from zppo_jax.chat.wording import BOXED, Chat
from zppo_jax.data import balance, prompt_lengths
from zppo_jax.data.loader import QuestionLoader
from zppo_jax.data.pool import Pool
from zppo_jax.devices import sharding
from zppo_jax.endpoints import judge
from zppo_jax.learner import optimizers, scoring, states
from zppo_jax.models.lora import LoraConfig
from zppo_jax.objectives import advantages, importance
from zppo_jax.records import Decoding
from zppo_jax.rollout import collect, weight_sync
from zppo_jax.rollout.build import make_engine
from zppo_jax.runs import checkpoints, watch
from zppo_jax.teachers import PLAIN, Teacher, lacking
from zppo_jax.teachers.panel import Panel
from zppo_jax.train import (
  checks,
  guards,
  minibatches,
  models as loading,
  teachers,
)
from zppo_jax.train.builders import (
  distillation as parts_of,
  learner,
  rewards,
  watching,
)
from zppo_jax.train.builders.parts import Questions, Student
from zppo_jax.train.run import Every, Reference, Run
from zppo_jax.train.shapes import auto

SCOPES = ('rollout_batch', 'minibatch')


def optimizer(config):
  """(optimizer, step -> learning rate) of a run.

  Raises:
    ValueError: for a field of config.optimizer out of its range, naming it.
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
  return states.abstract_state(
      model, tx, states.state_shardings(model, tx, mesh))


def _penalty(c, method: methods.Method) -> reference.Penalty:
  """The penalty towards the reference policy.

  Raises:
    KeyError, ValueError: see reference.Penalty; also for a method that takes
      none.
  """
  penalty = reference.Penalty(**c.algorithm.reference)
  if not penalty.on and method.reference:
    penalty = reference.Penalty(**method.reference)
    print(f'method {c.method!r} has the penalty of its paper towards '
          f'student.weights: algorithm.reference = {dict(method.reference)}',
          flush=True)
  if penalty.on and not method.of_advantages and 'policy' not in method.terms:
    takes = [name for name, row in methods.METHODS.items()
             if row.of_advantages or 'policy' in row.terms]
    raise ValueError(
        f'algorithm.reference.kind is {penalty.kind!r}; method {c.method!r} is '
        'no policy objective of group advantages and takes none. Those that '
        f'do: {", ".join(takes)}')
  if penalty.routed and 'taught' in penalty.route and (
      'divergence' not in method.terms):
    raise ValueError(
        f'algorithm.reference.route is {penalty.route!r}; method {c.method!r} '
        'has no divergence term that teaches anybody')
  return penalty


def _normaliser(c, method: methods.Method) -> str:
  """The key of advantages.NORMALISERS: the row's own, else the config's.

  Raises:
    ValueError: for a value of the config that is neither its default nor the
      row's.
  """
  there = c.algorithm.normaliser
  if method.normaliser in ('', there):
    return there
  if there != methods.NORMALISER:
    raise ValueError(
        f'algorithm.normaliser is {there!r}; method {c.method!r} has '
        f'{method.normaliser!r}, because its paper has it')
  print(f'method {c.method!r} normalises advantages by {method.normaliser!r}, '
        f'as its paper does; algorithm.normaliser = {there!r} is not read',
        flush=True)
  return method.normaliser


def _reference(c, penalty: reference.Penalty, student: Student, mesh,
               counted: int | None) -> Reference | None:
  """The frozen reference policy: student.weights, whatever a run resumes or
  forks from. It counts the vocabulary that the student counts."""
  if not penalty.on:
    return None
  return Reference(
      penalty=penalty,
      params=student.initial(),
      score_fn=scoring.compile_scorer(
          model=student.model, mesh=mesh, shardings=None,
          temperature=c.algorithm.temperature, chunk=c.shapes.logprob_chunk,
          vocab=counted))


def _rules(c) -> tuple[methods.Method, zppo.Rules]:
  """The method and the constants of its rules."""
  algo = c.algorithm
  method = methods.get(c.method)
  allowed.known('normaliser', algo.normaliser, advantages.NORMALISERS)
  allowed.one_of('advantage_scope', algo.advantage_scope, SCOPES)
  checks.numbers(c)
  rules = zppo.Rules(
      num_new=algo.num_new, tau=method.tau or algo.tau,
      rho_replay=algo.rho_replay, prefix_share=algo.prefix_share,
      rho_aug=algo.rho_aug, max_prompt=max(c.shapes.prompt_buckets),
      rest_saturated=algo.rest_saturated, seed=c.seed, ties=algo.ties,
      prefix_share_schedule=schedules.by_steps(
          'algorithm.prefix_share_schedule', algo.prefix_share_schedule,
          c.steps, algo.updates, '(0, 1)'))
  if method.replay and algo.buffer_capacity < rules.num_replay:
    raise ValueError(
        f'algorithm.buffer_capacity is {algo.buffer_capacity}; a draw takes '
        f'floor(rho_replay * num_new) = {rules.num_replay}')
  checks.resting(c, method.replay and 'bcq' in method.reformulations)
  return method, rules


def _hint(c, method: methods.Method) -> HintConfig:
  """The section `hint`; its defaults for a method that shows no hints, which
  does not read it."""
  section = HintConfig(**c.hint)
  if 'hint' not in method.reformulations:
    return DEFAULT
  checks.hint_source(c.method, method.hint_sources, section.source)
  return section.opened()


def _correction(c) -> tuple[importance.Correction, bool]:
  """The importance correction, and whether the gap is measured where a method
  has the log-probs of sampler and trainer."""
  correct = importance.Correction(**c.algorithm.correction)
  weights = c.student.rollout_weights
  # Adapters are merged before a narrow copy is rounded, the trainer rounds the
  # outputs of both.
  merged = LoraConfig(**c.lora).on and c.student.dtype != 'float32'
  for who, form in (('student', weights),
                    ('teacher', c.teacher.rollout_weights)):
    allowed.one_of(f'{who}.rollout_weights', form, weight_sync.WEIGHTS)
  if weights == 'int8' and not correct.on:
    print("student.rollout_weights is 'int8': rollouts come from another "
          'policy than the trained one; algorithm.correction is recommended, '
          "its kind is 'none'", flush=True)
  return correct, correct.on or weights != 'same' or merged


def _questions(c, method: methods.Method) -> Questions:
  """Questions whose gold answers can be read, and their verifier."""
  task = tasks.get(c.data.task)
  allowed.one_of('data.fit', c.data.fit, prompt_lengths.ON_OVERLONG)
  source = QuestionLoader(tasks.pool(task, c.data.pool, c.data.task),
                          c.algorithm.num_new, c.seed, c.data.repeat,
                          balance.read(**c.data.balance))
  source.check_steps(c.steps)
  splits = tasks.splits(task, c.eval, c.eval.splits, c.data.pool,
                        judged=bool(c.judge.url), task_name=c.data.task)
  words_of = lambda pool: pool.words() if isinstance(pool, Pool) else pool
  verifier = judge.verifier_of(c.judge, checks.golds(
      itertools.chain(words_of(source.pool), *splits.values()),
      c.guard.max_ungraded))
  hint = _hint(c, method)
  if method.reformulations and c.teacher.kind == 'stored' and (
      method.visited(hint)):
    checks.responses(words_of(source.pool))
  if 'hint' in method.reformulations and hint.stored:
    checks.stored_hints(c.method, words_of(source.pool), hint)
  if 'hint' in method.reformulations and hint.source == 'reference':
    checks.references(c.method, "hint.source is 'reference'",
                      words_of(source.pool))
  if 'oracle_prefix' in method.reformulations:
    checks.references(c.method, 'which forces the beginning of a reference',
                      words_of(source.pool))
  if parts_of.stored_states(c, method) or parts_of.has_gold(c, method):
    checks.stored_states(c.method, words_of(source.pool))
  return Questions(task=tasks.graded_by(task, verifier), source=source,
                    splits=splits, verifier=verifier)


def _fitting(c, asked: Questions, chat: Chat, most: int) -> Questions:
  """The questions whose prompts fit the buckets.

  Args:
    most: the most tokens of a prompt.
  """
  room = (chat, most, c.shapes.patch_buckets)
  evaluated = [q for found in asked.splits.values() for q in found]
  prompt_lengths.check_words(itertools.chain(asked.words, evaluated), chat)
  prompt_lengths.check(evaluated, *room)
  pool = prompt_lengths.without_overlong(
      asked.source.pool, c.data.fit, *room, c.data.get('prompt_tokens', 0))
  source = dataclasses.replace(asked.source, pool=pool)
  source.check_steps(c.steps)
  return asked._replace(source=source)


class Outside(NamedTuple):
  """What a run takes from files, servers and the machine. A plan of a run
  (zppo_jax/plan/) takes shapes instead.

  Attributes:
    devices: those of the mesh; None: all of this machine's.
    questions: (config, method) -> Questions.
    fitting: (config, questions, chat, most tokens of a prompt) -> those whose
      prompts fit the buckets.
    load: as models.load_model.
    worded: as models.worded.
    teachers: teacher.kind -> a function of teachers.TeacherContext.
  """
  devices: Sequence | None = None
  questions: Callable[..., Questions] = _questions
  fitting: Callable[..., Questions] = _fitting
  load: Callable[..., loading.Loaded] = loading.load_model
  worded: Callable[..., Chat] = loading.worded
  teachers: Mapping[str, Callable] = teachers.TEACHERS


OUTSIDE = Outside()


def _student(c, task: tasks.Task, mesh, day: Day,
             outside: Outside) -> Student:
  loaded = outside.load(c.student, loading.place_trained(c, mesh),
                        c.student.thinking, day)
  chat = outside.worded(c, task, loaded)
  if note := prompts.unboxed(chat, methods.get(c.method).reformulations):
    print(note, flush=True)
  model = models.on_mesh(loaded.model, mesh)
  loading.check_vocabulary('student', loaded, chat)
  loading.check_attention('student', loaded, mesh)
  loaded, adapted = loading.with_adapters(c, loaded, mesh)
  return Student(loaded=loaded, chat=chat, model=model, adapted=adapted,
                 copied=functools.cache(lambda: weight_sync.place_copy(
                     loaded.params, model, mesh)))


def _decoding(c, max_tokens: int) -> Decoding:
  algo = c.algorithm
  return Decoding(max_tokens=max_tokens, temperature=algo.temperature,
                  top_p=algo.top_p, top_k=algo.top_k)


def _sampler(c, method: methods.Method, rules: zppo.Rules, student: Student,
             task: tasks.Task, mesh) -> collect.Sampler:
  """The sampler that draws the groups of a step."""
  algo, shapes = c.algorithm, c.shapes
  # Steps without replays fill most of what few replays need.
  few = 2 * rules.num_replay <= rules.num_new
  groups = (rules.num_new + (rules.num_replay if method.replay else 0),
            *(() if method.replay and few else (rules.num_new,)),
            *shapes.group_buckets)
  return collect.Sampler(
      engine=make_engine(
          model=student.model, chat=student.chat, mesh=mesh,
          max_tokens=algo.max_tokens, num_rollouts=(algo.rollouts,),
          prompt_buckets=shapes.prompt_buckets,
          patch_buckets=shapes.patch_buckets, group_buckets=groups,
          prefill_tokens=shapes.prefill_tokens, slots=shapes.slots,
          padding_counts=not learner.reads_scores(method),
          cache_buckets=shapes.get('cache_buckets', ()),
          share_from=shapes.get('share_from', 0)),
      chat=student.chat, grader=task.grader,
      decoding=_decoding(c, algo.max_tokens), num_rollouts=algo.rollouts)


def _teacher(c, method: methods.Method, mesh, student: Student,
             sampler: collect.Sampler, asked: Questions,
             compress: compression.CompressionConfig, hint: HintConfig,
             outside: Outside) -> Teacher:
  kind = allowed.known('teacher.kind', c.teacher.kind, outside.teachers)
  if 'hint' in method.reformulations and not hint.stored:
    checks.writes_hints(c, student.chat)
  teacher = kind(teachers.TeacherContext(
      config=c, mesh=mesh, make_room=sampler.engine.release,
      chat=student.chat,
      words=prompts.wording(BOXED, student.chat.prompts)
      if student.loaded.chat else None, task=asked.task,
      compress=compress, load=outside.load,
      padding_counts=not learner.reads_scores(method),
      decoding=_decoding(c, c.algorithm.teacher_max_tokens),
      hint=hint if 'hint' in method.reformulations else None,
      student=student.loaded, adapted=student.adapted,
      copied=student.copied, kinds=outside.teachers,
      answers=bool(method.reformulations or c.watch.lift.every)
      or parts_of.teachers_states(c, method)))
  if isinstance(teacher, Panel):
    teacher.check_sources(asked.words)
  checks.media(asked.source.pool, teacher.capabilities, c.teacher.kind)
  lacks = lacking(c.teacher.kind, teacher.capabilities, PLAIN)
  if method.teacher_scores and lacks:
    raise ValueError(f'method is {c.method!r}; it needs log-probs of given '
                     f'tokens. {lacks}')
  return teacher


def _check_room(c) -> None:
  """ValueError unless the longest training row fits its buckets."""
  longest = max(c.shapes.prompt_buckets) + c.algorithm.max_tokens
  if longest > max(c.shapes.row_buckets):
    raise ValueError(
        f'shapes.row_buckets end at {max(c.shapes.row_buckets)}; the longest '
        f'prompt bucket and algorithm.max_tokens need {longest}')


def _with_credit(method: methods.Method, credit: Credit,
                 penalty: reference.Penalty,
                 correct: importance.Correction) -> methods.Method:
  """The method whose targets the section `credit` decides."""
  return dataclasses.replace(method, targets=functools.partial(
      credit_targets.two_terms, credit=credit,
      all_graded=penalty.on and not penalty.routed,
      anchored=penalty.held if penalty.routed else None,
      sampler=method.states != 'guided' and not method.draws and (
          credit.signal is None or correct.on),
      drawn=method.draws))


def with_row(config):
  """The config with what its method's row fixes (distillation.with_row)."""
  return distillation.with_row(config.method,
                               methods.get(config.method).pinned, config)


def build(config, day: Day | None = None,
          outside: Outside = OUTSIDE) -> Run:
  """Checks a config and builds the run. Nothing is compiled yet, unless
  shapes.auto tries what fits.

  Args:
    config: the run's config.
    day: the date in its prompts; None: the config's date, else today.
    outside: where questions, weights and devices come from.

  Raises:
    KeyError: for an unknown name; the message lists the known ones.
    ValueError: for values that do not fit each other, naming the field.
    EndpointError: for a judge or a teacher that cannot be reached.
  """
  config = with_row(config)
  if config.shapes.auto:
    config, outside = _with_shapes(config, day, outside)
  return _build(config, day, outside)


def _with_shapes(c, day: Day | None, outside: Outside) -> tuple:
  """(the config with proposed shapes, outside with its weights loaded)."""
  method, _ = _rules(c)
  asked = outside.questions(c, method)
  outside = outside._replace(
      load=auto.once(outside.load), questions=lambda *_: asked)
  mesh = sharding.make_mesh(sharding.MeshConfig(**c.mesh), outside.devices)
  student = _student(c, asked.task, mesh, day or dates.choose(c), outside)
  tried = outside._replace(fitting=lambda config, asked, *_: asked)
  return auto.resolved(c, method, asked, student, lambda config: _build(
      config, day, tried)), outside


def _build(config, day: Day | None, outside: Outside) -> Run:
  """`build`, of given shapes."""
  c, algo = config, config.algorithm
  method, rules = _rules(c)
  penalty = _penalty(c, method)
  method = dataclasses.replace(method, normaliser=_normaliser(c, method))
  if penalty.on and not method.terms:
    method = dataclasses.replace(method, targets=functools.partial(
        reference.with_all_graded, make=method.targets, penalty=penalty))
  distil = (distillation.settings(c.method, method.pinned, c, method.usual)
            if method.distils else None)
  checks.surrogate(c, method)
  checks.student_temperature(c, method, distil)
  checks.guides(c, method, distil)
  compress = compression.CompressionConfig(**c.compression)
  correct, gap_measured = _correction(c)
  policy = checkpoints.Policy(**c.checkpoint)
  tx, rate = optimizer(c)
  vain = watch.Limits(
      max_idle=c.guard.max_idle, min_answered=c.teacher.min_answered,
      window=c.teacher.window,
      alarms=watching.alarms_of(c, distil))
  rewards.check_method(c, method)
  asked = outside.questions(c, method)
  asked = asked._replace(task=rewards.with_rewards(c, asked.task))
  mesh = sharding.make_mesh(sharding.MeshConfig(**c.mesh), outside.devices)
  checks.slots(c, mesh)
  _check_room(c)
  if by_teacher := (parts_of.teachers_states(c, method)
                    or parts_of.teacher_draws(c, method)):
    checks.teacher_rows(c)
  student = _student(c, asked.task, mesh, day or dates.choose(c), outside)
  asked = outside.fitting(c, asked, student.chat, rules.max_prompt)
  sampler = _sampler(c, method, rules, student, asked.task, mesh)
  hint = _hint(c, method)
  teacher = (
      _teacher(c, method, mesh, student, sampler, asked, compress, hint,
               outside)
      if method.asked(hint) or by_teacher else None)
  of = parts_of.distillation_of(
      c, method, distil, student, teacher, asked, mesh)
  credit, own_scores = parts_of.credit_of(c, method, of, teacher, student, mesh)
  checks.sources(credit, asked.words)
  if credit is not None:
    method = _with_credit(method, credit, penalty, correct)
  lift = watching.lift_of(c, distil, teacher, of.context)
  example = minibatches.example_targets(
      method, algo.updates, of.distil, of.stored_need,
      teacher is not None and teacher.capabilities.entropy, penalty,
      of.context is not None)
  if not correct.on:
    gap_measured &= method.old_logps and 'sampler_logp' in example
  counted = learner.counted_ids(method, student, of, example)
  frozen = _reference(c, penalty, student, mesh, counted)
  if frozen is not None and not penalty.sampled:
    of = of._replace(frozen={
        **of.frozen, reference.MODEL: (student.model, frozen.params)})
  return Run(
      config=c, steps=c.steps, seed=c.seed, watched=checks.watched(c.watch),
      rules=rules, method=method,
      compress=compress, hint=hint, num_updates=algo.updates,
      advantage_scope=algo.advantage_scope, correction=correct,
      gap_measured=gap_measured, source=asked.source, splits=asked.splits,
      eval_every=c.eval.every, probe=Every('probe', **c.probe),
      samples=Every('samples', **c.samples), checkpoint=policy,
      max_ratio=c.guard.max_ratio, max_ungraded=c.guard.max_ungraded,
      vain=vain, mesh=mesh, description=student.loaded.description,
      verifier=asked.verifier, sampler=sampler,
      greedy=dataclasses.replace(
          sampler, decoding=Decoding(algo.max_tokens, temperature=0.0),
          num_rollouts=1),
      teacher=teacher, patience=guards.FailureBudget(
          c.teacher.max_failures, c.teacher.window),
      rate=rate, buffer_capacity=algo.buffer_capacity,
      num_rollouts=algo.rollouts, distil=of.distil, reducer=of.reducer,
      stored_need=of.stored_need, stored=of.stored,
      student_ids_fn=of.student_ids_fn, reference=frozen, credit=credit,
      base=student.initial() if credit and 'base_logps' in credit.reads
      else None,
      own_scores=own_scores, context=of.context, drawing=of.drawing,
      adapted=student.adapted, lift=lift,
      drift=watching.drift_of(c, student, sampler, asked, mesh),
      own=parts_of.own_of(c, method, student, mesh, of.stored_need)
      if teacher else None,
      **learner.learner_of(
          c, method, student, mesh, tx, correct, gap_measured, of, penalty,
          example, counted)._asdict())
