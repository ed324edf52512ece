"""Seconds of the phases of a step, from counts and the peaks of a device.

FLOPs are those of bench/counting.py, because XLA's own count sees the body of a
loop once. Prefill, scoring and update take as long as their FLOPs or their
collectives do, whichever takes longer: collectives run beside the products.
A decoding step reads the rollout weights and the whole decode pool, or
computes, and its collectives come after that, because the next product waits
for them.
The time of the host between two programs is not counted.
"""

import dataclasses
from collections.abc import Mapping

from zppo_jax.bench import counting
from zppo_jax.learner import layouts
from zppo_jax.plan.compiling import Analysis
from zppo_jax.plan.topologies import Topology
from zppo_jax.plan.workload import Assumptions, Load, Rollouts
from zppo_jax.rollout.programs import Programs


@dataclasses.dataclass(frozen=True)
class Work:
  """What a phase does in a step, on all devices together or on each.

  Attributes:
    flops: on all devices together.
    bytes: read from and written to memory, per device.
    moved: bytes received through links, per device.
    seconds: 0 where the peaks of the devices are not known.
    limit: 'compute', 'memory bandwidth' or 'links': what takes longest.
  """
  flops: float
  bytes: float
  moved: float
  seconds: float
  limit: str

  def times(self, share: float) -> 'Work':
    """A share of this work, or a multiple of it."""
    return Work(self.flops * share, self.bytes * share, self.moved * share,
                self.seconds * share, self.limit)


@dataclasses.dataclass(frozen=True)
class Machine:
  """A topology under assumptions: FLOP/s of all devices together, bytes/s of
  one device's memory and of its links."""
  flops: float
  bandwidth: float
  link: float

  @classmethod
  def of(cls, topology: Topology, assumed: Assumptions) -> 'Machine':
    return cls(topology.flops * topology.count * assumed.mfu,
               topology.bandwidth * assumed.bandwidth,
               topology.link * assumed.link)

  def work(self, *, flops: float = 0, bytes: float = 0, moved: float = 0,
           apart: bool = False) -> Work:
    """The work of a phase; with `apart` collectives run beside nothing."""
    if not self.flops:
      return Work(flops, bytes, moved, 0.0, '')
    each = {'compute': flops / self.flops,
            'memory bandwidth': bytes / self.bandwidth,
            'links': moved / self.link}
    beside = max(each['compute'], each['memory bandwidth'])
    seconds = beside + each['links'] if apart else max(beside, each['links'])
    return Work(flops, bytes, moved, seconds, max(each, key=each.get))


def together(*parts: Work) -> Work:
  """Work that is done one after the other."""
  slowest = max(parts, key=lambda w: w.seconds)
  return Work(sum(w.flops for w in parts), sum(w.bytes for w in parts),
              sum(w.moved for w in parts), sum(w.seconds for w in parts),
              slowest.limit)


def moved(analysis: Analysis | None) -> float:
  """Bytes that a device receives in one call of a program."""
  return 0.0 if analysis is None else sum(
      kind['moved'] for kind in analysis.collectives.values())


def micro_batch_flops(c: counting.Counted, shape: layouts.BatchShape) -> int:
  """FLOPs of the forward pass of a micro-batch, padding included, with logits
  of the rows."""
  rows = shape.units * shape.rows
  if not shape.prompt:
    return counting.forward_flops(c, rows, shape.length)
  return (counting.forward_flops(c, shape.units, shape.prompt, logits=0)
          + counting.forward_flops(c, rows, shape.length, start=shape.prompt))


def drawn(of: Rollouts, c: counting.Counted, programs: Programs,
          machine: Machine, read: int, prefill: Analysis | None,
          decode: Analysis | None) -> Work:
  """Prefill and decoding of some rollouts.

  Args:
    of: the rollouts.
    c: the counts of their model.
    programs: of their engine.
    machine: where they are drawn.
    read: bytes that a decoding step reads on each device.
    prefill, decode: the analyses of the two programs.
  """
  if not of.prompts:
    return Work(0, 0, 0, 0.0, '')
  shapes = programs.shapes
  size, slots = shapes.prefills(shapes.prompt_lengths[-1])[0], shapes.slots[-1]
  begun = machine.work(
      flops=counting.forward_flops(c, of.prompts, of.prompt, logits=1),
      moved=moved(prefill) * -(-of.prompts // size))
  mean = float(of.tokens.mean())
  step = slots * (c.token_flops + c.delta_flops + c.head_flops
                  + c.pair_flops * (of.prompt + mean / 2))
  return together(begun, machine.work(
      flops=step * of.steps, bytes=read * of.steps,
      moved=moved(decode) * of.steps, apart=True))


def trained(load: Load, c: counting.Counted, machine: Machine, passes: int,
            analysis: Analysis | None) -> Work:
  """`passes` forward passes over all micro-batches of a step."""
  count = sum(load.batches.values())
  flops = passes * sum(n * micro_batch_flops(c, shape)
                       for shape, n in load.batches.items())
  return machine.work(flops=flops, moved=count * moved(analysis))


def optimized(load: Load, standing: Mapping[str, int], machine: Machine,
              analysis: Analysis | None) -> Work:
  """The optimizer steps: gradient, parameters and moments are read, and the
  latter two written."""
  state = standing['parameters'] + standing['moments']
  return machine.work(
      bytes=load.updates * (2 * state + standing['gradient']),
      moved=load.updates * moved(analysis))
