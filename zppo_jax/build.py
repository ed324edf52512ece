"""Spends a config once into everything a run needs; refuses bad ones.

Every check is made here, before anything is compiled.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from zppo_jax import (
  advantages,
  assets,
  checkpoints,
  compression,
  losses,
  methods,
  models,
  optimizers,
  rollouts,
  scoring,
  sharding,
  tasks,
  update,
  weights,
  zppo,
)
from zppo_jax.data.source import Source
from zppo_jax.records import Cadence, Decoding, Question, TrainState
from zppo_jax.teachers.in_process import InProcessTeacher

SCOPES = ('rollout_batch', 'minibatch')


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
  source: Source
  splits: dict[str, tuple[Question, ...]]
  eval_every: int
  probe: Cadence
  samples: Cadence
  checkpoint: checkpoints.Policy
  max_ratio: float
  mesh: Any
  description: dict
  sampler: rollouts.Sampler
  greedy: rollouts.Sampler
  teacher: InProcessTeacher | None
  reshard_fn: Any
  score_fn: Any
  advantage_fn: Any
  update_fn: Any
  init_state: Callable[[], TrainState]
  abstract_state: TrainState
  buffer_capacity: int
  num_rollouts: int
  micro_tokens: int
  row_buckets: tuple[int, ...]
  patch_buckets: tuple[int, ...]
  num_axes: int


def load_model(spec):
  """(Model, host params) from a weights file and its own description.

  Args:
    spec: config with `weights` (a packaged name or a path), `dtype`, `remat`.
  """
  path = assets.find(spec.weights)
  fields = dict(weights.description(path)['model'])
  fields.update(dtype=spec.dtype, remat=spec.remat)
  model = models.build(fields.pop('family', 'decoder'), **fields)
  like = jax.eval_shape(model.init, jax.random.key(0))
  return model, weights.load(path, like)


def _known(name: str, table, what: str):
  if name not in table:
    raise KeyError(f'unknown {what} {name!r}; known: {", ".join(table)}')
  return table[name]


def _check_prompts(questions, chat, max_prompt: int) -> None:
  """ValueError for a plain prompt that no bucket holds, before compiling."""
  for question in questions:
    length = len(chat.plain(question.text).tokens)
    if length > max_prompt:
      raise ValueError(
          f'question {question.id!r} has a prompt of {length} tokens; the '
          f'largest of shapes.prompt_buckets is {max_prompt}')


def _check_numbers(c) -> None:
  """ValueError for a number out of its range, or an empty bucket table."""
  algo, shapes = c.algorithm, c.shapes
  for name, value, lowest in (
      ('seed', c.seed, 0), ('steps', c.steps, 1),
      ('algorithm.num_new', algo.num_new, 1),
      ('algorithm.rollouts', algo.rollouts, 2),  # one has no baseline
      ('algorithm.teacher_rollouts', algo.teacher_rollouts, 1),
      ('algorithm.updates', algo.updates, 1),
      ('algorithm.advantage_eps', algo.advantage_eps, 0),
      ('shapes.micro_tokens', shapes.micro_tokens, 1),
      ('shapes.logprob_chunk', shapes.logprob_chunk, 1),
      ('eval.every', c.eval.every, 0), ('eval.size', c.eval.size, 1)):
    if not value >= lowest:
      raise ValueError(f'{name} is {value}; it must be >= {lowest}')
  if algo.updates > algo.num_new:
    raise ValueError(
        f'algorithm.updates is {algo.updates}; a step of algorithm.num_new = '
        f'{algo.num_new} groups has no more mini-batches than that')
  if not c.guard.max_ratio > 1:
    raise ValueError(f'guard.max_ratio is {c.guard.max_ratio}; it must be > 1')
  for name in ('prompt_buckets', 'row_buckets', 'group_buckets'):
    table = shapes[name]
    if not table or min(table) < 1:
      raise ValueError(f'shapes.{name} is {tuple(table)}; it must hold at '
                       'least one size, each >= 1')


def build(config) -> Run:
  """Checks a config and builds the run; nothing is compiled yet.

  Raises:
    KeyError: for an unknown name, with the known ones.
    ValueError: for values that do not fit each other, naming the field.
  """
  c, algo, shapes = config, config.algorithm, config.shapes
  method = methods.get(c.method)
  normaliser = _known(algo.normaliser, advantages.NORMALISERS, 'normaliser')
  if algo.advantage_scope not in SCOPES:
    raise KeyError(f'unknown advantage_scope {algo.advantage_scope!r}; '
                   f'known: {", ".join(SCOPES)}')
  _check_numbers(c)
  rules = zppo.Rules(algo.num_new, algo.tau, algo.rho_replay, algo.rho_aug,
                     max(shapes.prompt_buckets), c.seed)
  if method.replay and algo.buffer_capacity < rules.num_replay:
    raise ValueError(
        f'algorithm.buffer_capacity is {algo.buffer_capacity}; a draw takes '
        f'floor(rho_replay * num_new) = {rules.num_replay}')
  compress = compression.CompressionConfig(**c.compression)
  policy = checkpoints.Policy(**c.checkpoint)

  task = tasks.get(c.data.task)
  source = Source(tuple(task.pool(**c.data.pool)), algo.num_new, c.seed,
                  c.data.repeat)
  source.check_steps(c.steps)
  splits = {s: tuple(task.evaluation(s, c.eval.size)) for s in c.eval.splits}
  _check_prompts([*source.pool, *(q for qs in splits.values() for q in qs)],
                 task.chat, rules.max_prompt)

  mesh = sharding.make_mesh(sharding.MeshConfig(**c.mesh))
  longest = max(shapes.prompt_buckets) + algo.max_tokens
  if longest > max(shapes.row_buckets):
    raise ValueError(
        f'shapes.row_buckets end at {max(shapes.row_buckets)}; the longest '
        f'prompt bucket and algorithm.max_tokens need {longest}')
  model, params = load_model(c.student)
  tx = optimizers.adamw(optimizers.AdamWConfig(**c.optimizer))
  shardings = update.state_shardings(model, tx, mesh)

  sampling_of = functools.partial(
      Decoding, temperature=algo.temperature, top_p=algo.top_p,
      top_k=algo.top_k)
  make = functools.partial(
      rollouts.make_sampler, mesh=mesh, chat=task.chat, grader=task.grader,
      prompt_buckets=shapes.prompt_buckets,
      patch_buckets=shapes.patch_buckets)
  step_sizes = (rules.num_new, rules.num_new + rules.num_replay,
                *shapes.group_buckets)
  sampler = make(model=model, decoding=sampling_of(algo.max_tokens),
                 num_rollouts=algo.rollouts, group_buckets=step_sizes)
  greedy = make(model=model,
                decoding=Decoding(algo.max_tokens, temperature=0.0),
                num_rollouts=1,
                group_buckets=(max(1, c.eval.size * len(splits)),))
  teacher = None
  if method.reformulations:
    teacher_model, teacher_params = load_model(c.teacher)
    teacher_shardings = sharding.param_shardings(
        teacher_params, mesh, sharding.ROLLOUT_RULES)
    make_teacher = functools.partial(make, model=teacher_model,
                                     group_buckets=shapes.group_buckets)
    teacher = InProcessTeacher(
        jax.device_put(
            rollouts.rollout_copy(teacher_params, teacher_model.config.dtype),
            teacher_shardings),
        make_teacher(decoding=sampling_of(algo.teacher_max_tokens),
                     num_rollouts=algo.teacher_rollouts),
        make_teacher(
            decoding=Decoding(compress.cap + 1, compress.temperature),
            num_rollouts=1),
        c.seed)

  loss_fn = functools.partial(
      update.policy_loss, model=model, temperature=algo.temperature,
      chunk=shapes.logprob_chunk, own_old_logp=algo.updates == 1,
      objective=functools.partial(losses.OBJECTIVES[method.objective],
                                  clip=losses.Clip(**algo.clip)))
  rows = sharding.batch_sharding(mesh)
  return Run(
      steps=c.steps, seed=c.seed, rules=rules, method=method,
      compress=compress, num_updates=algo.updates,
      advantage_scope=algo.advantage_scope, source=source, splits=splits,
      eval_every=c.eval.every, probe=Cadence('probe', **c.probe),
      samples=Cadence('samples', **c.samples), checkpoint=policy,
      max_ratio=c.guard.max_ratio, mesh=mesh,
      description={'model': dataclasses.asdict(model.config)},
      sampler=sampler, greedy=greedy,
      teacher=teacher, reshard_fn=rollouts.compile_reshard(model, mesh),
      score_fn=scoring.compile_scorer(
          model=model, mesh=mesh, shardings=shardings,
          temperature=algo.temperature, chunk=shapes.logprob_chunk),
      advantage_fn=jax.jit(
          functools.partial(normaliser, eps=algo.advantage_eps),
          in_shardings=(rows, rows), out_shardings=rows),
      update_fn=update.compile_update(
          loss_fn=loss_fn, tx=tx, mesh=mesh, shardings=shardings),
      init_state=functools.partial(update.new_state, params, tx, shardings),
      abstract_state=update.abstract_state(model, tx, shardings),
      buffer_capacity=algo.buffer_capacity, num_rollouts=algo.rollouts,
      micro_tokens=shapes.micro_tokens,
      row_buckets=tuple(sorted(shapes.row_buckets)),
      patch_buckets=tuple(sorted(shapes.patch_buckets)),
      num_axes=model.num_axes)
