"""What a run holds in memory, and its largest programs."""

import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.stages import Lowered

from zppo_jax.algorithms.credit import gold
from zppo_jax.arrays import FollowedState
from zppo_jax.devices import hosts, memory
from zppo_jax.learner import layouts
from zppo_jax.rollout.collect import Sampler
from zppo_jax.train import minibatches
from zppo_jax.train.run import Run

SHARE = 0.9  # of the memory of a device that a step may fill
# What only a rollout holds, by the end of its name; it is freed before an
# update.
_DRAWING = ('rollout copy of the student', "'s slots")
UPDATE, ROLLOUTS = 'update', 'rollouts'


def _rollout_params(run: Run):
  return run.reshard_fn.eval_shape(run.abstract_state.params)


def standing_memory(run: Run) -> dict[str, int]:
  """Bytes per device of what a step holds, by part. Caches count at their
  largest size. They and the rollout copy are freed before the gradient is
  made."""
  state = run.abstract_state
  shapes = _rollout_params(run)
  out = {
      'student parameters': memory.device_bytes(state.params),
      'optimizer state': memory.device_bytes(state.opt_state),
      'gradient': memory.device_bytes(state.params),
      'rollout copy of the student': memory.device_bytes(shapes),
      'cache of the student\'s slots': (
          run.sampler.engine.programs.largest_cache_bytes())}
  if isinstance(state, FollowedState):
    out['copy that follows the student'] = memory.device_bytes(state.own)
  if run.ewc is not None:
    out['anchor of the parameters'] = memory.device_bytes(run.ewc.arrays)
  if run.adapted is not None:
    out['frozen weights of the student'] = memory.device_bytes(
        run.adapted.base)
  words = lambda role: role.replace('teacher/', 'teacher ')
  for reader, params in run.copies().items():
    out[f'{words(reader)} parameters'] = memory.device_bytes(params)
  for role, teacher in run.answering.items():
    out[f"cache of the {words(role)}'s slots"] = (
        teacher.answers.engine.programs.largest_cache_bytes())
  return out


def lowered(run: Run) -> dict[str, Lowered]:
  """The largest text-only program of each engine, lowered."""
  params, rollout = run.abstract_state.params, _rollout_params(run)
  text = [s for s in layouts.shapes(run.layout) if not s.patches]
  targets = minibatches.example_targets(
      run.method, run.num_updates, run.distil, run.stored_need,
      run.teacher is not None and run.teacher.capabilities.entropy,
      run.reference and run.reference.penalty, run.context is not None)
  rows = layouts.empty(run.layout, text[-1], targets)
  update = run.update_fn.keywords
  out = {f'student {name}': program for name, program in
         run.sampler.engine.programs.largest(rollout).items()}
  for role, teacher in run.answering.items():
    out |= {f'{role} {name}': program for name, program in
            teacher.answers.engine.programs.largest(
                teacher.params).items()}
  if run.num_updates > 1:
    out['scoring'] = run.score_fn.lower(params, rows)
  if run.reference is not None and run.reference.penalty.sampled:
    out['scoring by the reference'] = run.reference.score_fn.lower(
        run.reference.params, rows)
  grads = update['zeros_fn'].eval_shape(params)
  out['gradient of a micro-batch'] = update['accumulate_fn'].lower(
      grads, params, rows, *update['beside_fn'](run.abstract_state))
  if update['gold_fn'] is not None:
    out['gradient of stored answers'] = update['gold_fn'].lower(
        grads, params, layouts.empty(run.layout._replace(lessons=None),
                                     text[-1], gold.EXAMPLE),
        *update['beside_fn'](run.abstract_state))
  out['optimizer step'] = update['optimizer_fn'].lower(
      run.abstract_state, grads, 1.0, *update['anchor'])
  return out


def phase_of(program: str) -> str:
  """The phase in which a program of `lowered` runs."""
  drawing = program.endswith(('prefill', 'decode chunk'))
  return ROLLOUTS if drawing else UPDATE


def beside(run: Run, phase: str) -> int:
  """Bytes per device of what stands in memory in a phase.

  Args:
    run: the run.
    phase: UPDATE, without what is freed before it, or ROLLOUTS, before there
      is a gradient.
  """
  return sum(number for part, number in standing_memory(run).items()
             if (part != 'gradient' if phase == ROLLOUTS
                 else not part.endswith(_DRAWING)))


def limit() -> int:
  """Bytes of a device that a step may fill, on the smallest device."""
  stats = jax.local_devices()[0].memory_stats() or {}
  own = stats.get('bytes_limit') or (
      memory.of_machine() // jax.local_device_count())
  return hosts.agreed(int(SHARE * own), min, 'the memory')


def temporaries(program: Lowered) -> int | None:
  """Bytes per device of a program's temporaries, as the compiler tells; None if
  the compiler says that a device cannot hold them."""
  try:
    return program.compile().memory_analysis().temp_size_in_bytes
  except jax.errors.JaxRuntimeError as e:
    if not str(e).startswith('RESOURCE_EXHAUSTED'):
      raise
    return None


def most_temporaries(program: Lowered) -> float:
  """Bytes that the temporaries of a program cannot exceed, without compiling
  it: what all its operations read and write together, each of which has its
  result in memory once. Infinite for a TPU, whose layouts pad small axes.

  In programs of the embedded world it is 27 to 112 times what the compiler
  tells (tests/train/shapes/test_room.py).
  """
  if jax.default_backend() == 'tpu':
    return math.inf
  return (program.cost_analysis() or {}).get('bytes accessed', math.inf)


def fits(run: Run, phase: str, limit: int) -> bool:
  """Whether a phase fits: what stands there, and the temporaries of its largest
  program, which the compiler tells.

  Args:
    run: the run.
    phase: UPDATE or ROLLOUTS.
    limit: bytes per device.
  """
  there = beside(run, phase)
  return there <= limit and _run_beside(there, {
      name: program for name, program in lowered(run).items()
      if phase_of(name) == phase}, limit)


def _run_beside(there: int, programs: Mapping[str, Lowered],
                limit: int) -> bool:
  """Whether programs have room for their temporaries beside what stands. Where
  the most that they could be has room, nothing is compiled."""
  for name, program in programs.items():
    if there + most_temporaries(program) <= limit:
      continue
    print(f'shapes.auto: compiling {name}, whose memory decides', flush=True)
    used = temporaries(program)
    if used is None or there + used > limit:
      return False
  return True


def answers_fit(sampler: Sampler, params: Any, held: Any, limit: int) -> bool:
  """Whether answers fit that no training follows.

  Args:
    sampler: draws them.
    params: in its sharding.
    held: further arrays; those that are no jax.Array lie on the host.
    limit: bytes per device.
  """
  arrays = {id(x): x for x in jax.tree.leaves((params, held))
            if isinstance(x, jax.Array)}
  programs = sampler.engine.programs
  there = memory.device_bytes(arrays) + programs.largest_cache_bytes()
  return there <= limit and _run_beside(
      there, programs.largest(params), limit)
