"""How long a run will take, from counts and the limits of this machine.

Nothing of the run is compiled. Counts are those of a plan (zppo_jax/plan). The
rates of products and of memory are measured here, for a second.
"""

import math
from typing import NamedTuple

from zppo_jax.bench import roofline as measured
from zppo_jax.plan import planning, programs as program_lib, workload
from zppo_jax.plan.roofline import Machine
from zppo_jax.plan.workload import Assumptions, Load, Rollouts
from zppo_jax.rollout.engine import Engine
from zppo_jax.teachers import panel
from zppo_jax.train.run import Run

# Seconds that the host takes for a call of a program, with what it prepares for
# it and does with the result: a step of the main job, over its calls.
HOST_S = 0.002
_SIZES, _BYTES = (512,), 16 << 20  # of measured matmuls and arrays
_CHUNK = 64  # decoding steps between two looks of the host (engine.Engine)


class Estimate(NamedTuple):
  """Seconds of a step, and of an evaluation.

  Attributes:
    step: a step that trains on all groups.
    drawn: a step that trains on none.
    evaluation: an evaluation of all splits.
    flops, bytes: per second, of this machine.
  """
  step: float
  drawn: float
  evaluation: float
  flops: float
  bytes: float


def _machine(run: Run) -> tuple[float, float]:
  """(FLOP/s, bytes/s) of the devices of the run's mesh together."""
  device = run.mesh.devices.flat[0]
  found = measured.measure(run.config.student.dtype, _SIZES, _BYTES)
  # Several CPU devices share the cores that one of them may use.
  count = 1 if device.platform == 'cpu' else run.mesh.size
  return found['flops'] * count, found['bytes'] * count


def _calls(engine: Engine, drawn: tuple[Rollouts, ...]) -> int:
  """Calls of programs that draw rollouts: prefills, insertions and chunks."""
  lengths = engine.shapes.prompt_lengths
  size = lambda of: engine.shapes.prefills(next(
      n for n in lengths if n >= of.prompt))[-1]
  return sum(2 * math.ceil(of.prompts / size(of))
             + math.ceil(of.steps / _CHUNK) for of in drawn)


def _learner_calls(run: Run, load: Load) -> int:
  passes = 1 + (run.num_updates > 1 and run.method.old_logps)
  return passes * sum(load.batches.values()) + load.updates


def of_run(run: Run) -> Estimate:
  """The estimate of a run whose every method cap is reached."""
  config = run.config
  load = workload.of_run(run, config, Assumptions())
  flops, speed = _machine(run)
  # Measured rates stand in the place of assumed shares of peak rates.
  work = planning.work(
      run, load, program_lib.standing(run), dict.fromkeys(
          p.name for p in program_lib.of_run(run, config)),
      Machine(flops, speed, math.inf))
  evaluation = work.pop('evaluation', None)
  trains = ('scoring', 'reference scoring', 'update', 'optimizer')
  engine, teachers = run.sampler.engine, panel.in_process_of(run.teacher)
  drawn = HOST_S * (1 + _calls(engine, load.student) + sum(
      _calls(teacher.answers.engine, load.teacher.get(role, ()))
      for role, teacher in teachers.items())) + sum(
          of.seconds for name, of in work.items() if name not in trains)
  step = drawn + HOST_S * _learner_calls(run, load) + sum(
      of.seconds for name, of in work.items() if name in trains)
  # Of a plan it is what falls on a step.
  whole = 0.0 if evaluation is None else evaluation.seconds * run.eval_every
  return Estimate(step, drawn, whole + HOST_S * (
      0 if load.evaluation is None else _calls(engine, (load.evaluation,))),
      flops, speed)
