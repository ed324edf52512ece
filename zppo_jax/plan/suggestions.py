"""Settings with which a run fits that does not fit as it is.

Every suggestion is planned before it is made: what stands in memory is counted
again, and the programs that found no room are compiled again.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from zppo_jax import allowed
from zppo_jax.plan import abstract, memory, planning, topologies
from zppo_jax.plan.planning import Plan
from zppo_jax.plan.programs import ALIVE, standing
from zppo_jax.plan.topologies import Topology

NUMBER = 2
# Slices that Cloud TPU sells, by the number of their dimensions.
_SLICES = {
    2: ('2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16'),
    3: ('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8',
        '8x8x8')}


class Suggestion(NamedTuple):
  """Settings that make a run fit.

  Attributes:
    changes: {config field: value}.
    topology: the name of another topology; '' to keep it.
    highest: the share of the usable memory that the fullest phase takes, as far
      as it was planned anew.
  """
  changes: dict[str, Any]
  topology: str
  highest: float

  def words(self) -> str:
    """The flags to set."""
    flags = [f'--config.{field}={value}' for field, value in
             self.changes.items()]
    if self.topology:
      flags.append(f'--topology={self.topology}')
    return ' '.join(flags)


def larger(topology: Topology) -> Iterator[str]:
  """Names of larger topologies of the same kind, the next one first."""
  if topology.platform != 'tpu':
    head = topology.name.rpartition(':')[0]
    yield from (f'{head}:{topology.count * n}' for n in (2, 4, 8))
    return
  kind, sizes = topology.name.split(':')
  dimensions = sizes.count('x') + 1
  for name in _SLICES[dimensions]:
    if math.prod(map(int, name.split('x'))) > topology.chips:
      yield f'{kind}:{name}'


def _halved_slots(plan: Plan) -> Iterator[dict[str, Any]]:
  slots = plan.config.shapes.slots
  shards = plan.mesh['data'] * plan.mesh['fsdp']
  algo = plan.config.algorithm
  unit = shards * math.lcm(algo.rollouts, algo.teacher_rollouts)
  if slots is None:
    slots = 2 * unit * (-(-(algo.num_new * algo.rollouts) // (2 * unit)))
  # Fewer than a unit count as one on the student's mesh, and may be fewer on
  # the teacher's.
  for fewer in (slots // parts for parts in (2, 4, 8, 16)):
    if fewer >= 1 and (fewer <= unit or fewer % unit == 0):
      yield {'shapes.slots': fewer}


def _halved_micro_tokens(plan: Plan) -> Iterator[dict[str, Any]]:
  shapes = plan.config.shapes
  for parts in (2, 4, 8):
    if shapes.micro_tokens // parts >= max(shapes.row_buckets):
      yield {'shapes.micro_tokens': shapes.micro_tokens // parts}


def _fewer_bits(plan: Plan) -> Iterator[dict[str, Any]]:
  if plan.config.student.rollout_weights != 'int8':
    yield {'student.rollout_weights': 'int8'}
  if plan.config.teacher.get('rollout_weights', 'int8') != 'int8':
    yield {'teacher.rollout_weights': 'int8'}
  if plan.config.optimizer.state_dtype != 'bfloat16':
    yield {'optimizer.state_dtype': 'bfloat16'}


def _recomputed(plan: Plan) -> Iterator[dict[str, Any]]:
  if plan.config.student.remat != 'full':
    yield {'student.remat': 'full', 'student.unroll': 1}


def _more_tensor(plan: Plan) -> Iterator[dict[str, Any]]:
  mesh = plan.mesh
  for factor in (2, 4, 8):
    if mesh['fsdp'] % factor == 0:
      changes = {'mesh.tensor': mesh['tensor'] * factor,
                 'mesh.fsdp': mesh['fsdp'] // factor}
      if plan.config.shapes.slots is not None:
        changes['shapes.slots'] = max(1, plan.config.shapes.slots // factor)
      yield changes


def _smaller_prefills(plan: Plan) -> Iterator[dict[str, Any]]:
  shapes = plan.config.shapes
  longest = max(shapes.prompt_buckets)
  if shapes.prefill_tokens is None or shapes.prefill_tokens >= 2 * longest:
    yield {'shapes.prefill_tokens': longest}


# Phase -> the kinds of changes that make it smaller, the cheapest first.
_KINDS: dict[str, tuple[Callable[[Plan], Iterator[dict[str, Any]]], ...]] = {
    'reshard': (_fewer_bits, _more_tensor),
    'rollouts': (_halved_slots, _smaller_prefills, _fewer_bits, _more_tensor),
    'teacher': (_halved_slots, _smaller_prefills, _fewer_bits, _more_tensor),
    'teacher scoring': (_halved_micro_tokens, _fewer_bits, _more_tensor),
    'scoring': (_halved_micro_tokens, _fewer_bits, _more_tensor),
    'update': (_halved_micro_tokens, _recomputed, _fewer_bits, _more_tensor),
    'evaluation': (_halved_slots, _smaller_prefills, _fewer_bits,
                   _more_tensor)}


def candidates(plan: Plan) -> list[dict[str, Any]]:
  """Changes that may make a run fit: first single ones, then pairs."""
  blocked = [phase for phase, peak in plan.phases.items() if not peak.fits]
  single: list[dict[str, Any]] = []
  for phase in blocked:
    for make in allowed.known('phase', phase, _KINDS):
      single += [c for c in make(plan) if c not in single]
  pairs = [a | b for a, b in itertools.combinations(single, 2)
           if not a.keys() & b.keys()]
  return single + pairs


def _verified(plan: Plan, changes: dict[str, Any],
              name: str = '') -> Suggestion | None:
  """The suggestion, if the programs that found no room fit with it."""
  topology = topologies.parse(name) if name else plan.topology
  try:
    config, fitted = abstract.fitted(
        abstract.changed_config(plan.config, changes), topology)
    run = abstract.run_of(config, topology)
  except (ValueError, KeyError):
    return None  # heads that do not divide over tensor, for example
  parts = standing(run)
  highest = max(memory.standing_of(phase, parts) for phase in ALIVE)
  if highest > topology.usable:
    return None
  blocked = [e.program.name for e in plan.entries if not e.peak.fits]
  for program in blocked:
    found = planning.entries(config, topology, run, True, [program])
    if not all(entry.peak.fits for entry in found):
      return None
    highest = max(highest, *(entry.peak.total for entry in found))
  return Suggestion(changes | (fitted if name else {}), name,
                    highest / topology.usable)


def of_plan(plan: Plan, tries: int = 8) -> list[Suggestion]:
  """At most NUMBER suggestions for a plan that does not fit: settings on the
  same devices first, then a larger slice, then other settings.

  Args:
    plan: the plan.
    tries: the most settings, and the most slices, that are planned.
  """
  if plan.fits:
    return []
  settings = iter(candidates(plan)[:tries])
  slices = itertools.islice(larger(plan.topology), tries)
  attempts = (
      (found for changes in settings
       if (found := _verified(plan, changes)) is not None),
      (found for name in slices
       if (found := _verified(plan, {}, name)) is not None))
  out = [found for attempt in attempts if (found := next(attempt, None))]
  return out + list(itertools.islice(attempts[0], NUMBER - len(out)))
