"""The plan of a config on a topology: memory of every program, time of a step.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zppo_jax.algorithms import reference
from zppo_jax.bench import counting
from zppo_jax.plan import (
  abstract,
  compiling,
  memory,
  programs as program_lib,
  roofline,
  workload,
)
from zppo_jax.plan.compiling import Analysis
from zppo_jax.plan.memory import Peak
from zppo_jax.plan.programs import Program
from zppo_jax.plan.roofline import Machine, Work
from zppo_jax.plan.topologies import Topology
from zppo_jax.plan.workload import Assumptions, Load
from zppo_jax.teachers import panel
from zppo_jax.train.run import Run

# Blocks of the rollout programs that a fast plan compiles, besides one more.
FEW = 2


@dataclasses.dataclass(frozen=True)
class Entry:
  """A program of a plan.

  Attributes:
    program: the program.
    peak: its memory in its phase.
    analysis: what the compiler said of it; None if the program was not
      compiled, because what stands beside it leaves it no room.
  """
  program: Program
  peak: Peak
  analysis: Analysis | None


@dataclasses.dataclass(frozen=True)
class Plan:
  """A config on a topology.

  Attributes:
    topology: the devices.
    config: the config on them.
    changed: {field: value} of what was changed so that it has their number.
    fast: whether no code was generated for a TPU.
    mesh: {axis: size}.
    standing: bytes per device of the parts of the run (programs.standing).
    entries: its programs, in the order of a step.
    assumed: what nobody knows.
    load: what a step does.
    work: what each phase of a step does, evaluations shared out among steps.
    steps: of the run.
  """
  topology: Topology
  config: Any
  changed: dict[str, Any]
  fast: bool
  mesh: dict[str, int]
  standing: dict[str, int]
  entries: list[Entry]
  assumed: Assumptions
  load: Load
  work: dict[str, Work]
  steps: int

  @property
  def fits(self) -> bool:
    return all(entry.peak.fits for entry in self.entries)

  @property
  def limit(self) -> int:
    """The most bytes that the compiler may give a program, so that each leaves
    what stands beside it its place; 0 if one limit does not serve all programs.
    """
    peaks = [entry.peak for entry in self.entries]
    room = min(peak.room for peak in peaks)
    return room if all(
        peak.buffers + peak.code <= room for peak in peaks) else 0

  @property
  def phases(self) -> dict[str, Peak]:
    return memory.by_phase([entry.peak for entry in self.entries])

  @property
  def seconds(self) -> float:
    """Of a step; 0 where the peaks of the devices are not known."""
    return sum(work.seconds for work in self.work.values())


def _no_room(program: Program, standing: Mapping[str, int],
             usable: int) -> bool:
  return memory.standing_of(program.phase, standing) > usable


def few_blocks(run: Run) -> int:
  """The fewer blocks of a fast plan: FEW, or as many as there are layers that
  take something from a vision tower, which differ from those behind them."""
  networks = [run.sampler.engine.programs.model, *(
      teacher.answers.engine.programs.model
      for teacher in panel.in_process_of(run.teacher).values())]
  towers = [getattr(network.config, 'vision', None) for network in networks]
  return max(FEW, *(len(tower.taps) for tower in towers if tower is not None),
             0)


def _by_few_blocks(config, topology: Topology, program: Program, blocks: int,
                   short: Callable[[int], dict[str, Program]]) -> Analysis:
  """What the compiler says of programs with a few blocks and one more, extended
  to all blocks. A rollout program writes its blocks out, so that the time of
  its compilation goes with their number, and each adds its weights and caches.
  """
  few, more = (compiling.analysis(config, topology, short(n)[program.name],
                                  None, n) for n in (blocks, blocks + 1))
  return compiling.extended(few, more, program.blocks - blocks - 1)


def entries(config, topology: Topology, run: Run, fast: bool,
            chosen: Iterable[str] | None = None,
            say: Callable[[str], None] = lambda line: None) -> list[Entry]:
  """The programs of a run with their memory.

  Args:
    config: the config on the topology.
    topology: the devices.
    run: its run.
    fast: whether a TPU's code is left out.
    chosen: the names of the programs that are compiled; None: all of them.
    say: shows a line while programs are compiled.
  """
  standing = program_lib.standing(run)
  short = functools.cache(lambda blocks: {
      p.name: p for p in program_lib.of_run(
          abstract.run_of(config, topology, blocks), config)})
  few = few_blocks(run)
  out = []
  for program in program_lib.of_run(run, config):
    if chosen is not None and program.name not in chosen:
      continue
    analysis = None
    if not _no_room(program, standing, topology.usable):
      say(f'{program.name}: {program.shape}')
      room = topology.usable - sum(memory.beside(program, standing).values())
      if fast and topology.platform == 'tpu' and program.blocks > few + 1:
        analysis = _by_few_blocks(config, topology, program, few, short)
      else:
        analysis = compiling.analysis(config, topology, program,
                                      None if fast else max(room, 1))
    known = analysis or Analysis(
        memory=sum(standing[part] for part in program.reads), temporaries=0,
        code=0, collectives={}, tensors=[], seconds=0.0)
    out.append(Entry(program, memory.peak(
        program, known, standing, topology.usable), analysis))
  return out


def work(run: Run, load: Load, standing: Mapping[str, int],
          of: Mapping[str, Analysis | None], machine: Machine
         ) -> dict[str, Work]:
  """What each phase of a step does.

  Args:
    run: the run.
    load: how much a step does.
    standing: programs.standing of the run.
    of: what the compiler said of each program by name; None if it was not
      asked.
    machine: where it runs.
  """
  engine = run.sampler.engine.programs
  c = counting.count(engine.model)
  copy = standing['rollout copy']
  read = copy + standing['decode pool']
  find = lambda who, what: next(
      (a for name, a in of.items() if name.startswith(f'{who} {what}')), None)
  draw = lambda drawn: [roofline.drawn(
      r, c, engine, machine, read, find('student', 'prefill'),
      find('student', 'decode')) for r in drawn]
  # A device holds its own part of the copy, and receives the others.
  received = copy * (1 - 1 / run.mesh.shape['fsdp'])
  read_once = standing['parameters'] + standing.get(program_lib.FROZEN, 0)
  out = {'reshard': machine.work(bytes=read_once + copy,
                                 moved=received),
         'rollouts': roofline.together(*draw(load.student))}
  scored = [roofline.trained(load, c, machine, 1, of[name])
            for name in ('scoring', 'reference scoring') if name in of]
  drawn, counted = [], {}
  for role, teacher in panel.in_process_of(run.teacher).items():
    theirs = teacher.answers.engine.programs
    count = counting.count(theirs.model)
    drawn += [roofline.drawn(
        r, count, theirs, machine,
        standing[program_lib.teacher_copy(run, role)]
        + program_lib.teacher_pool(teacher),
        find(role, 'prefill'), find(role, 'decode'))
        for r in load.teacher.get(role, ())]
    if f'{role} scoring' in of:
      scored.append(roofline.trained(
          load, count, machine, 1, of[f'{role} scoring']
      ).times(load.scores.get(role, 0.0)))
    counted[role] = count
  if drawn:
    out['teacher'] = roofline.together(*drawn)
  if scored:
    out['scoring'] = roofline.together(*scored)
  # The reference policy is the student's model, and a teacher inside the update
  # is a teacher alone.
  frozen = [c if name == reference.MODEL else counted.get('teacher', c)
            for name in program_lib.frozen_models(run)]
  passes = counting.TRAIN if run.adapted is None else counting.TRAIN_ADAPTERS
  out['update'] = roofline.together(
      roofline.trained(load, c, machine, passes, of.get('update')),
      *(roofline.trained(load, counts, machine, 1, None) for counts in frozen))
  out['optimizer'] = roofline.optimized(load, standing, machine,
                                        of.get('optimizer'))
  if load.evaluation is not None:
    out['evaluation'] = draw([load.evaluation])[0].times(1 / run.eval_every)
  return out


def plan(config, topology: Topology, *, fast: bool = False,
         assumed: Assumptions | None = None,
         say: Callable[[str], None] = lambda line: None) -> Plan:
  """Plans a config.

  Args:
    config: the config of `zppo train`.
    topology: the devices; topologies.prepare was called.
    fast: whether a TPU's code is left out.
    assumed: what nobody knows; None: the defaults.
    say: shows a line while programs are compiled.

  Raises:
    ValueError, KeyError: as abstract.run_of.
    JaxRuntimeError: for a program that does not compile, memory apart.
  """
  assumed = assumed or Assumptions()
  config, changed = abstract.fitted(config, topology)
  run = abstract.run_of(config, topology)
  found = entries(config, topology, run, fast, say=say)
  standing = program_lib.standing(run)
  load = workload.of_run(run, config, assumed)
  return Plan(
      topology=topology, config=config, changed=changed, fast=fast,
      mesh=dict(run.mesh.shape), standing=standing, entries=found,
      assumed=assumed, load=load, steps=run.steps, work=work(
          run, load, standing, {e.program.name: e.analysis for e in found},
          Machine.of(topology, assumed)))
