"""What a run would do: its config, counts, memory, programs and time.

It leaves no file. Counts are exact. Temporaries are what the compiler says of
the largest program of each engine. The time is measured, because the first
steps run in memory. Later steps may train more groups, so the time of a step is
given between two bounds: a step that trains as few groups as the third one did,
and a step that trains all of them.
"""

import dataclasses
import time

import jax
import numpy as np

from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.chat import dates
from zppo_jax.devices import memory
from zppo_jax.learner import layouts
from zppo_jax.runs import same_config, workdir
from zppo_jax.teachers import panel
from zppo_jax.train import attention_kernels, evaluate, minibatches
from zppo_jax.train.build import build
from zppo_jax.train.control import evaluations
from zppo_jax.train.run import Run
from zppo_jax.train.shapes import auto
from zppo_jax.train.shapes.room import lowered, standing_memory
from zppo_jax.train.step import metrics_row, train_step, update

MEASURED_STEPS = 3


def programs(run: Run) -> dict[str, int]:
  """The most programs that each engine can compile, by the bucket tables."""
  rows = len(layouts.shapes(run.layout))
  lessons = run.layout.lessons  # of each of its own lengths
  gradients = rows if lessons is None else rows * len(
      lessons.prompt_buckets if run.layout.kind == 'shared'
      else lessons.row_buckets)
  out = {'student engine': run.sampler.engine.shapes.max_programs,
         'gradient of a micro-batch': gradients, 'the rest': 4}
  if run.update_fn.keywords['gold_fn'] is not None:
    out['gradient of stored answers'] = rows
  if run.num_updates > 1:
    out['scoring'] = rows
  if run.reference is not None and run.reference.penalty.sampled:
    out['scoring by the reference'] = rows
  for role, teacher in panel.in_process_of(run.teacher).items():
    out[f'{role} engine'] = teacher.answers.engine.shapes.max_programs
  return out


def _seconds_when_all_train(run: Run, state, outcome):
  """(next state, seconds) of scoring and updating with every group of a step
  trained."""
  run = dataclasses.replace(run, advantage_scope='rollout_batch')
  groups = outcome.lessons.groups
  ones = np.ones((len(groups), max(
      (run.num_rollouts, *(len(g.rollouts) for g in groups)))), np.float32)
  for _ in range(2):  # the first one compiles
    begun = time.perf_counter()
    batches, _ = minibatches.make(run, groups, ones, 0, outcome.scored)
    batches = minibatches.score(run, state, batches)
    state = jax.block_until_ready(update(run, state, batches)[0])
    seconds = time.perf_counter() - begun
  return state, seconds


def _measure(run: Run) -> dict[str, float]:
  """Seconds by what was measured, in memory."""
  state, buffer = run.init_state(), ReplayBuffer(run.buffer_capacity)
  seconds = []
  for step in range(MEASURED_STEPS):
    begun = time.perf_counter()
    outcome = train_step(run, state, buffer, step)
    state, buffer = outcome.state, outcome.buffer
    row = metrics_row(run, outcome)  # waits for the update
    seconds.append(time.perf_counter() - begun)
  state, full = _seconds_when_all_train(run, state, outcome)
  evaluate.of_state(run, state)  # compiles
  begun = time.perf_counter()
  evaluate.of_state(run, state)
  return {'first': seconds[0], 'last': seconds[-1],
          'all': seconds[-1] - row['time/scoring'] - row['time/update'] + full,
          'evaluation': time.perf_counter() - begun}


def main(config, path) -> None:
  """Prints what `train` would do in directory `path`; writes nothing.

  Raises:
    As loop.main for a config or directory that does not fit.
  """
  config = auto.of_workdir(config, path)
  stored = workdir.read_config(path)
  if stored is not None:
    same_config.check_same_config(path, stored, config)
  run = build(config, dates.choose(config, path))
  config = run.config
  print('config')
  values = same_config.config_values(config)
  for name, value in same_config.flat(values).items():
    print(f'  {name} = {value!r}')
  devices = run.mesh.devices.size
  print(f'\n{config.method}, {run.steps} steps of {run.rules.num_new} new and '
        f'at most {run.rules.num_replay if run.method.replay else 0} replayed '
        f'questions, {run.num_rollouts} rollouts each; {devices} device(s); '
        + ('a new directory' if stored is None else 'goes on in')
        + f' {path}')
  print(f'\nparameters\n  student {memory.count(run.abstract_state.params):,}')
  if run.adapted is not None:
    print(f'  frozen below them {memory.count(run.adapted.base):,}')
  for role, teacher in panel.in_process_of(run.teacher).items():
    print(f'  {role} {memory.count(teacher.params):,}')
  print('\nmemory per device (caches and rollout copy are freed before the '
        'gradient is made)')
  for part, number in standing_memory(run).items():
    print(f'  {part:28s} {memory.size(number):>11s}')
  print('\nattention of new tokens, rows x length')
  for line in attention_kernels.table(attention_kernels.of_run(run)):
    print(f'  {line}')
  print('\nprograms to compile, at most (by shapes.*_buckets)')
  for engine, number in programs(run).items():
    print(f'  {engine:28s} {number:4d}')
  print('\ntemporaries of the largest program of an engine, per device')
  for engine, program in lowered(run).items():
    begun = time.perf_counter()
    used = program.compile().memory_analysis().temp_size_in_bytes
    print(f'  {engine:28s} {memory.size(used):>11s}   compiled in '
          f'{time.perf_counter() - begun:.1f} s', flush=True)
  print(f'\nmeasuring {MEASURED_STEPS} steps and an evaluation in memory '
        '(Ctrl-C leaves it out)', flush=True)
  seconds = _measure(run)
  rounds = evaluations.of_run(
      config, run.splits, tuple(run.splits)).count(run.steps)
  low, high = (seconds['first'] + (run.steps - 1) * seconds[name]
               + rounds * seconds['evaluation'] for name in ('last', 'all'))
  print(f'  first step {seconds["first"]:.1f} s with compilation, step '
        f'{MEASURED_STEPS} {seconds["last"]:.2f} s, {seconds["all"]:.2f} s if '
        'all its groups were trained, evaluation '
        f'{seconds["evaluation"]:.2f} s\n'
        f'  estimated: {low:.0f} to {high:.0f} s for {run.steps} steps and '
        f'{rounds:.4g} evaluations, more compilations apart')
