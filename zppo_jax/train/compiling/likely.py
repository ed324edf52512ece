"""Which programs a run will need next, for devices/compile_ahead.py.

Before the first step these are the chunks that evaluations and rollouts decode,
and the teacher's. The main thread compiles the shorter ones itself meanwhile,
because it needs them at once. Once the prompts of a step are known, so are the
programs that train on them. A guess that is wrong costs the time of its
compilation, so what only may come is left out: rare lengths, media, lessons of
a teacher.
"""

import os
from collections.abc import Callable, Sequence

import jax

from zppo_jax.algorithms import reference, zppo
from zppo_jax.devices import compile_ahead, hosts, sharding
from zppo_jax.devices.compile_ahead import Job
from zppo_jax.learner import layouts, packing, update
from zppo_jax.records import Prompt
from zppo_jax.train import minibatches
from zppo_jax.train.run import Run


def _works(run: Run) -> bool:
  """Whether a thread is of use: on one core it would only take turns with the
  main thread, and several processes compile in one order."""
  config = run.config
  return (config is not None and config.get('compile_ahead', True)
          and hosts.count() == 1 and len(os.sched_getaffinity(0)) > 1)


def _optimizer(run: Run) -> Job:
  parts, state = run.update_fn.keywords, run.abstract_state
  return Job(id(parts['optimizer_fn']), lambda: parts['optimizer_fn'].lower(
      state, state.params, 1.0, *parts['anchor']).compile())


def at_start(run: Run) -> list[Job]:
  """The programs that the first step will likely need, the first ones first.
  The main thread meanwhile compiles the small ones before them."""
  engine, copy = run.sampler.engine, run.reshard_fn.copy
  questions = run.source.draw(0)
  prompts = zppo.plain_prompts(questions, run.chat)
  if any(p.media is not None for p in prompts):
    return [_optimizer(run)]
  plain = max(len(p.tokens) for p in prompts)
  jobs = [engine.jobs(copy, count, plain, rollouts)[-1]
          for count, rollouts in ((sum(map(len, run.splits.values())), 1),
                                  (len(questions), run.num_rollouts)) if count]
  if run.method.reformulations and run.rules.num_aug:
    for teacher in run.answering.values():
      *others, last = teacher.answers.engine.jobs(
          teacher.params, run.rules.num_aug, plain,
          teacher.answers.num_rollouts)
      jobs += [last, *others]
  return [*jobs, _optimizer(run)]


def _learner(run: Run, length: int) -> list[Job]:
  """Scoring and gradient of groups whose prompts have `length` tokens."""
  layout = run.layout
  prompt = packing.bucket(length, layout.prompt_buckets, 'a prompt')
  shape = next(s for s in layouts.shapes(layout) if s.prompt == prompt
               and s.length == max(layout.response_buckets) and not s.patches)
  targets = minibatches.example_targets(
      run.method, run.num_updates, run.distil, run.stored_need,
      run.teacher is not None and run.teacher.capabilities.entropy,
      run.reference and run.reference.penalty)
  batch = sharding.abstract_batch(
      run.mesh, layouts.empty(layout, shape, targets))
  # What scoring adds lies on the devices (minibatches.score).
  rows = sharding.batch_sharding(run.mesh)
  for name in {'old_logp', reference.TARGET} & set(targets):
    like = batch.targets[name]
    batch = batch.with_target(name, jax.ShapeDtypeStruct(
        like.shape, like.dtype, sharding=rows))
  parts, state = run.update_fn.keywords, run.abstract_state
  gradient = parts['accumulate_fn']
  jobs = [Job((id(gradient), update.sizes(batch)), lambda: gradient.lower(
      state.params, state.params, batch,
      *parts['beside_fn'](state)).compile())]
  if 'old_logp' in targets:
    unscored = batch.replace(targets={
        name: x for name, x in batch.targets.items() if name != 'old_logp'})
    # The main thread calls it first and then compiles it itself, while the
    # gradient, which takes longest, is compiled beside it.
    jobs.append(Job(
        (id(run.score_fn), update.sizes(batch)),
        lambda: run.score_fn.lower(state.params, unscored).compile()))
  return jobs


def begin(run: Run, add: Callable[[Callable[[], None]], None],
          note: Callable[[str], None]) -> None:
  """Begins to compile what the first step needs.

  Args:
    run: the run.
    add: is given what ends the work.
    note: writes a line to the log, for programs that could not be compiled.
  """
  def end() -> None:
    for error in compile_ahead.PROGRAMS.clear():
      note(f'compiled ahead, in vain: {type(error).__name__}: {error}')

  if _works(run):
    add(end)
    compile_ahead.PROGRAMS.add(at_start(run))


def trained_on(run: Run, prompts: Sequence[Prompt]) -> None:
  """Begins to compile what trains on groups of these prompts, the most likely
  first; those of a length that is known compile nothing."""
  layout = run.layout
  if not _works(run) or layout.kind != 'shared' or layout.lessons is not None:
    return
  lengths = dict.fromkeys(
      packing.bucket(len(p.tokens), layout.prompt_buckets, 'a prompt')
      for p in prompts if p.media is None)
  compile_ahead.PROGRAMS.add(
      [job for length in lengths for job in _learner(run, length)], first=True)
