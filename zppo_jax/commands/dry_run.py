"""What a run would do: whether it fits, its counts, shapes, memory and time.

It leaves no file, and shows one page; `details` adds all fields, shapes and
programs. Counts are exact. The time is estimated from them (plan/estimate.py),
and nothing is compiled, so that the page is there within seconds.

With `measure`, temporaries are what the compiler says of the largest program of
each engine, and the first steps run in memory. Later steps may train more
groups, so the time of a step is given between two bounds: a step that trains as
few groups as the third one did, and a step that trains all of them.
"""

import dataclasses
import time

import jax
import numpy as np

from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.chat import dates
from zppo_jax.data import prompt_lengths
from zppo_jax.devices import memory
from zppo_jax.learner import layouts
from zppo_jax.plan import estimate
from zppo_jax.runs import console, workdir
from zppo_jax.teachers import panel
from zppo_jax.train import evaluate, minibatches, models as loading
from zppo_jax.train.build import build, with_row
from zppo_jax.train.control import evaluations
from zppo_jax.train.run import Run
from zppo_jax.train.shapes import attention_kernels, auto, room
from zppo_jax.train.shapes.room import lowered, standing_memory
from zppo_jax.train.step import metrics_row, train_step, update

MEASURED_STEPS = 3
_ASKED = 1000  # questions whose prompts are measured


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
  for role, teacher in run.answering.items():
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


def _show_shapes(run: Run) -> None:
  """Prints the lengths of prompts and rows, and the buckets that hold them."""
  shapes, pool = run.config.shapes, run.source.pool
  asked = min(len(pool), _ASKED)
  sizes = sorted(tokens for tokens, _ in prompt_lengths.measure(
      [pool[i] for i in range(asked)], run.sampler.chat))
  listed = lambda buckets: ', '.join(map(str, buckets))
  print(f'\nshapes\n  prompts of {len(pool)} questions'
        + (f' (of the first {asked})' if asked < len(pool) else '')
        + f': {sizes[0]} to {sizes[-1]} tokens, median '
        f'{sizes[len(sizes) // 2]}; buckets {listed(shapes.prompt_buckets)}\n'
        f'  responses of at most {run.config.algorithm.max_tokens} tokens; '
        f'rows of {listed(shapes.row_buckets)}; '
        f'{shapes.micro_tokens} positions in a micro-batch')


def _show_details(run: Run) -> None:
  """Prints the kernel of every shape, and the programs of every engine."""
  print('\nattention of new tokens, rows x length')
  for line in attention_kernels.table(attention_kernels.of_run(run)):
    print(f'  {line}')
  print('\nprograms that shapes.*_buckets allow; a run compiles those that its '
        'prompts and\nresponses need')
  for engine, number in programs(run).items():
    print(f'  {engine:28s} {number:4d}')


def _show_memory(run: Run, details: bool, measure: bool) -> bool:
  """Prints what a step needs, and returns whether it fits a device; its
  temporaries are known if they are measured."""
  print('\nmemory per device', end='' if details else '\n', flush=True)
  if details:
    print(' (caches and rollout copy are freed before the gradient is made)')
  for part, number in standing_memory(run).items():
    print(f'  {part:28s} {memory.size(number):>11s}')
  if details and measure:
    print('\ntemporaries of the largest program of an engine, per device')
  limit, largest = room.limit(), dict.fromkeys((room.ROLLOUTS, room.UPDATE), 0)
  fits = True
  for engine, program in lowered(run).items() if measure else ():
    begun, phase = time.perf_counter(), room.phase_of(engine)
    used = room.temporaries(program)
    if used is None:
      print(f'  {engine:28s} exceeds the device')
      fits = False
      continue
    largest[phase] = max(largest[phase], used)
    if details:
      print(f'  {engine:28s} {memory.size(used):>11s}   compiled in '
            f'{time.perf_counter() - begun:.1f} s', flush=True)
  for phase, used in largest.items():
    needed = room.beside(run, phase) + used
    fits &= needed <= limit
    print((f'  {phase}, with temporaries' if measure else
           f'  {phase}, all together').ljust(30)
          + f' {memory.size(needed):>11s} of {memory.size(limit)}')
  note = '' if measure else ' but for temporaries, which --measure compiles'
  print(f'  it fits{note}' if fits else
        '  it does NOT fit: `zppo plan` names other settings, '
        'and shapes.auto chooses slots and micro-batches that do')
  return fits


def _rounds(run: Run) -> float:
  """The evaluations of a run; parts of the splits count as parts."""
  return evaluations.of_run(
      run.config, run.splits, evaluate.names(run)).count(run.steps)


def _show_estimate(run: Run) -> None:
  """Prints what the run will take, by counts."""
  of, rounds = estimate.of_run(run), _rounds(run)
  low, high = (run.steps * seconds + rounds * of.evaluation
               for seconds in (of.drawn, of.step))
  print('\ntime, by counts and what this machine does now (--measure runs '
        f'steps): {of.flops / 1e9:.3g} GFLOP/s, {of.bytes / 1e9:.3g} GB/s\n'
        f'  step {of.drawn:.2g} s, {of.step:.2g} s if all its groups were '
        f'trained, evaluation {of.evaluation:.2g} s\n'
        f'  estimated: {low:.2g} to {high:.2g} s for {run.steps} steps and '
        f'{rounds:.4g} evaluations, compilations apart')


def _show_time(run: Run) -> None:
  """Measures steps and an evaluation, and prints what the run will take."""
  print(f'\ntime, by {MEASURED_STEPS} steps and an evaluation in memory '
        '(Ctrl-C leaves it out)', flush=True)
  seconds = _measure(run)
  rounds = _rounds(run)
  low, high = (seconds['first'] + (run.steps - 1) * seconds[name]
               + rounds * seconds['evaluation'] for name in ('last', 'all'))
  print(f'  first step {seconds["first"]:.1f} s with compilation, step '
        f'{MEASURED_STEPS} {seconds["last"]:.2f} s, {seconds["all"]:.2f} s if '
        'all its groups were trained, evaluation '
        f'{seconds["evaluation"]:.2f} s\n'
        f'  estimated: {low:.0f} to {high:.0f} s for {run.steps} steps and '
        f'{rounds:.4g} evaluations, more compilations apart')


def main(config, path, details: bool = False, measure: bool = False) -> None:
  """Prints what `train` would do in directory `path`; writes nothing.

  Args:
    config: the config.
    path: the workdir.
    details: whether it shows all fields, shapes and programs.
    measure: whether it compiles the largest programs and runs some steps.

  Raises:
    As loop.main for a config or directory that does not fit.
    SystemExit: with code 1, if a step does not fit the memory of a device.
  """
  config = auto.of_workdir(with_row(config), path)
  stored = workdir.read_same(path, config)
  if not workdir.goes_on(path, config):
    loading.check_start(config)
  run = build(config, dates.choose(config, path if stored else None))
  config = run.config
  print(f'{config.method}, {run.steps} steps of {run.rules.num_new} new and '
        f'at most {run.rules.num_replay if run.method.replay else 0} replayed '
        f'questions, {run.num_rollouts} rollouts each; '
        f'{run.mesh.devices.size} device(s); '
        + ('a new directory' if stored is None else 'goes on in') + f' {path}')
  print('\nconfig')
  console.show_config(config, 'base', details)
  print(f'\nparameters\n  student {memory.count(run.abstract_state.params):,}')
  if run.adapted is not None:
    print(f'  frozen below them {memory.count(run.adapted.base):,}')
  for role, teacher in panel.in_process_of(run.teacher).items():
    print(f'  {role} {memory.count(teacher.params):,}')
  _show_shapes(run)
  if details:
    _show_details(run)
  if not _show_memory(run, details, measure):
    raise SystemExit(1)
  (_show_time if measure else _show_estimate)(run)
