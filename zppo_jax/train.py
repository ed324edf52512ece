"""The loop: the only file that knows the concrete choices of a run.

`build` spends the config once into frozen records; `run` is the loop.
"""

import dataclasses
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zppo_jax import (
  advantages,
  assets,
  compression,
  evaluate,
  losses,
  methods,
  metrics,
  models,
  optimizers,
  packing,
  rollouts,
  scoring,
  sharding,
  tasks,
  update,
  weights,
  workdir,
  zppo,
)
from zppo_jax.data.source import Source
from zppo_jax.randomness import host_rng
from zppo_jax.records import Decoding, Group, Purpose, Question, TrainState
from zppo_jax.replay import ReplayBuffer
from zppo_jax.teachers.in_process import InProcessTeacher

SCOPES = ('rollout_batch', 'minibatch')


@dataclasses.dataclass(frozen=True)
class Run:
  """Everything that a run needs, compiled functions included."""
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
  mesh: Any
  model_config: Any
  sampler: rollouts.Sampler
  greedy: rollouts.Sampler
  teacher: InProcessTeacher | None
  reshard_fn: Any
  score_fn: Any
  advantage_fn: Any
  update_fn: Any
  state: TrainState
  buffer_capacity: int
  num_rollouts: int
  micro_tokens: int
  row_buckets: tuple[int, ...]


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
      prompt_buckets=shapes.prompt_buckets)
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
            jax.tree.map(lambda x: x.astype(teacher_model.config.dtype),
                         teacher_params), teacher_shardings),
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
      eval_every=c.eval.every, mesh=mesh, model_config=model.config,
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
      state=update.new_state(params, tx, shardings),
      buffer_capacity=algo.buffer_capacity, num_rollouts=algo.rollouts,
      micro_tokens=shapes.micro_tokens,
      row_buckets=tuple(sorted(shapes.row_buckets)))


def step_advantages(run: Run, groups: list[Group]) -> np.ndarray:
  """Advantages [len(groups), G] with statistics over these groups."""
  most = run.rules.num_new + run.rules.num_replay + run.rules.num_aug
  shards = sharding.batch_shards(run.mesh)
  shape = (-(-most // shards) * shards, run.num_rollouts)
  rewards, mask = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
  for p, group in enumerate(groups):
    rewards[p], mask[p] = group.rewards, 1
  arrays = sharding.put_batch(run.mesh, (rewards, mask))
  return sharding.to_host(run.advantage_fn(*arrays))[:len(groups)]


def make_minibatches(run: Run, groups: list[Group], step: int):
  """I mini-batches: (micro-batches on the mesh, response tokens) each."""
  split = packing.split_minibatches(
      len(groups), run.num_updates,
      host_rng(run.seed, step, Purpose.MINIBATCHES))
  whole = step_advantages(run, groups)
  out = []
  for indices in split:
    chosen = [groups[i] for i in indices]
    advantage = (whole[indices] if run.advantage_scope == 'rollout_batch'
                 else step_advantages(run, chosen))
    batches = packing.micro_batches(
        chosen, advantage, max_tokens=run.micro_tokens,
        multiple=sharding.batch_shards(run.mesh), buckets=run.row_buckets,
        skip_zero=True)
    out.append(([sharding.put_batch(run.mesh, b) for b in batches],
                packing.response_tokens(chosen)))
  return out


def score_minibatches(run: Run, state: TrainState, minibatches):
  """Fills in the old log-probs by the trainer's own graph, before the first
  update. With one update they are the update's own and stay zero."""
  if run.num_updates == 1:
    return minibatches
  return [([b.replace(old_logp_BT=run.score_fn(state.params, b)[0])
            for b in batches], tokens) for batches, tokens in minibatches]


def sampler_gap(minibatches) -> float:
  """Largest |sampler - trainer| log-prob on trained tokens, nats."""
  gaps = [jnp.max(jnp.abs(b.old_logp_BT - b.sampler_logp_BT) * b.mask_BT)
          for batches, _ in minibatches for b in batches]
  return float(max(gaps, default=0.0))


class Clock:
  """Seconds by phase of a step."""

  def __init__(self):
    self.seconds: dict[str, float] = {}
    self._last = time.perf_counter()

  def lap(self, name: str) -> None:
    now = time.perf_counter()
    key = f'time/{name}'
    self.seconds[key] = self.seconds.get(key, 0.0) + now - self._last
    self._last = now


def train_step(run: Run, state: TrainState, buffer: ReplayBuffer, step: int):
  """One step of Algorithm 1.

  Returns:
    (next state, next buffer, metrics, what the buffer settled).
  """
  clock = Clock()
  chat = run.sampler.chat
  params = run.reshard_fn(state.params)
  ask = functools.partial(rollouts.collect, run.sampler, params,
                          seed=run.seed, step=step, purpose=Purpose.ROLLOUT)

  new = run.source.draw(step)
  replayed = zppo.draw_replays(buffer, new, step, run.rules, run.method)
  plain = ask(zppo.plain_prompts(new + replayed, chat))
  clock.lap('rollouts')
  settled = None
  if run.method.replay:
    buffer, settled = buffer.settle(plain, run.rules.tau, step)
  made = zppo.reformulate_hard(
      plain, step, rules=run.rules, method=run.method, teacher=run.teacher,
      chat=chat, compress=run.compress)
  clock.lap('teacher')
  groups = plain + ask(made.prompts)
  clock.lap('rollouts')

  minibatches = make_minibatches(run, groups, step)
  minibatches = score_minibatches(run, state, minibatches)
  gap = sampler_gap(minibatches) if run.num_updates > 1 else None
  clock.lap('scoring')
  sums, norms = [], []
  for batches, tokens in minibatches:
    state, new_sums, norm = run.update_fn(state, batches, float(tokens))
    sums.append(new_sums)
    norms.append(norm)
  sums, norms = jax.device_get((sums, norms))
  clock.lap('update')

  row = {'step': step, **metrics.of_groups(groups),
         **metrics.of_plain_splits(plain[:len(new)]),
         **metrics.of_reformulation(made),
         'plain/removed': sum(
             chat.plain(q.text).removed for q in new + replayed),
         **metrics.of_tokens(groups, made),
         **metrics.of_updates(sums, [t for _, t in minibatches], norms)}
  if settled is not None:
    row.update(metrics.of_buffer(buffer, settled))
  if gap is not None:
    row['sampler_trainer/logp_gap_max'] = gap
  row['student_rollouts'] = len(groups) * run.num_rollouts
  row.update(clock.seconds)
  return state, buffer, row, settled


def evaluate_state(run: Run, state: TrainState) -> dict[str, float]:
  params = run.reshard_fn(state.params)
  return evaluate.accuracy(run.greedy, params, run.splits, run.seed)


def run_loop(run: Run, out: workdir.Workdir):
  """All steps; writes metrics and the summary.

  Returns:
    (final TrainState, summary dict).
  """
  begun = time.perf_counter()
  state, buffer = run.state, ReplayBuffer(run.buffer_capacity)
  history = workdir.History()
  base = evaluate_state(run, state)
  out.log_eval(0, base, history)
  final = base
  for step in range(run.steps):
    state, buffer, row, settled = train_step(run, state, buffer, step)
    history.add(row, settled)
    out.log_step(row)
    done = step + 1
    if done == run.steps or (run.eval_every and done % run.eval_every == 0):
      final = evaluate_state(run, state)
      out.log_eval(done, final, history)
  summary = history.summary(base, final, run.steps,
                            time.perf_counter() - begun)
  return state, summary


def main(config, path) -> dict:
  """Trains by a config into a new directory and returns the summary."""
  workdir.check_unused(path)
  run = build(config)
  out = workdir.Workdir.create(path, config)
  state, summary = run_loop(run, out)
  summary = {'method': config.method, 'seed': config.seed, **summary}
  out.finish(summary, sharding.to_host(state.params), run.model_config)
  return summary
