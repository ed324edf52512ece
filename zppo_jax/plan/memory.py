"""Whether the phases of a step fit: what stands there, and the largest program.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zppo_jax.plan.compiling import Analysis
from zppo_jax.plan.programs import ALIVE, Program, alive

# Room for the code of a program that was not generated. The update of
# Qwen3.5-0.8B for v5e has 0.18 GiB.
CODE_ROOM = 2**28


class Peak(NamedTuple):
  """The most memory of a program, per device, in bytes.

  Attributes:
    program: its name.
    phase: its phase.
    beside: parts of the run that stay in memory and that it does not read.
    buffers: its arguments, results and temporaries.
    temporaries: the temporaries among them.
    code: of the program, or CODE_ROOM.
    usable: what the device has.
    refused: whether the compiler refused it.
  """
  program: str
  phase: str
  beside: dict[str, int]
  buffers: int
  temporaries: int
  code: int
  usable: int
  refused: bool

  @property
  def total(self) -> int:
    return sum(self.beside.values()) + self.buffers + self.code

  @property
  def room(self) -> int:
    """Bytes that are left for its buffers and its code."""
    return self.usable - sum(self.beside.values())

  @property
  def over(self) -> int:
    """Bytes beyond what is usable; 0 for a program that fits."""
    return max(0, self.total - self.usable)

  @property
  def fits(self) -> bool:
    return not self.refused and not self.over


def beside(program: Program, standing: Mapping[str, int]) -> dict[str, int]:
  """Bytes of what stays in memory while a program runs, and is no argument."""
  return {part: standing[part] for part in alive(program.phase, standing)
          if part not in program.reads and part != program.builds}


def peak(program: Program, analysis: Analysis, standing: Mapping[str, int],
         usable: int) -> Peak:
  """The peak of a program in its phase.

  Args:
    program: the program.
    analysis: what the compiler said of it.
    standing: bytes per device of the parts of the run (programs.standing).
    usable: bytes of a device.
  """
  buffers = analysis.memory
  if program.builds:
    # The last piece is no larger than the first, so it needs no more beside
    # what is built by then.
    buffers = max(buffers, standing[program.builds] + analysis.temporaries)
  return Peak(
      program=program.name, phase=program.phase,
      beside=beside(program, standing),
      buffers=buffers, temporaries=analysis.temporaries,
      code=CODE_ROOM if analysis.code is None else analysis.code,
      usable=usable, refused=bool(analysis.refusal))


def by_phase(peaks: Sequence[Peak]) -> dict[str, Peak]:
  """The highest peak of each phase, in the order of a step."""
  out: dict[str, Peak] = {}
  for one in peaks:
    if one.phase not in out or one.total > out[one.phase].total:
      out[one.phase] = one
  return {phase: out[phase] for phase in ALIVE if phase in out}


def standing_of(phase: str, standing: Mapping[str, int]) -> int:
  """Bytes of what stands in memory throughout a phase."""
  return sum(standing[part] for part in alive(phase, standing))
