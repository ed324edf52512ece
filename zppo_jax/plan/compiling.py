"""What the compiler says of a program: memory, collectives, largest tensors.

The compiler of TPUs uses as much memory as it may: where there is room, it
schedules for speed. So a program is compiled under a limit, the room that its
phase leaves it, and fits if the compiler finds a schedule within. A fast plan
sets a limit that no program meets. The compiler then looks for the schedule
that needs least, dumps it with its buffers, and stops before it generates code,
which takes most of the time.
"""

import dataclasses
import functools
import glob
import hashlib
import importlib.metadata
import json
import os
import pathlib
import re
import tempfile
import time

import jax

import zppo_jax
from zppo_jax.devices import compile_cache, shared_jit
from zppo_jax.plan import hlo
from zppo_jax.plan.programs import Program
from zppo_jax.plan.topologies import Topology

MIB = 2**20
LIMIT = 'xla_tpu_max_hbm_size_mib'  # libtpu's name of the limit
# Half the work of LLVM is left out, because the code never runs.
_CPU_OPTIONS = {'xla_backend_optimization_level': 0,
                'xla_llvm_disable_expensive_passes': True}
NUMBER_OF_TENSORS = 5
# What a user sets, beside JAX's settings, that changes what the compiler makes.
_OF_ENVIRONMENT = ('XLA_FLAGS', 'LIBTPU_INIT_ARGS')
_TOTAL = re.compile(r'Memory Space: default \(color=0\)\nTotal bytes: (\d+)')
_ROW = re.compile(
    r'\(\s*\d+%\);\s*([\d.]+)(B|KiB|MiB|GiB);\s*(\d+);[^;]*; (.*)')
# Arguments of computations that run beside the others, as on tpu7x: they are
# buffers of the caller, and the report counts them once more.
_THREAD_LOCAL = re.compile(
    r'^allocation \d+: size (\d+), page \d+, thread-local', re.MULTILINE)
_TUPLE = re.compile(r'\d*×?\(')
_UNITS = {'B': 1, 'KiB': 2**10, 'MiB': 2**20, 'GiB': 2**30}


@dataclasses.dataclass(frozen=True)
class Analysis:
  """What is known of a compiled program, per device.

  Attributes:
    memory: bytes of all its buffers: arguments, results that do not replace an
      argument, and temporaries.
    temporaries: bytes of the temporaries among them.
    code: bytes of the program itself; None if no code was generated.
    collectives: hlo.totals.
    tensors: the largest tensors, as (bytes, type), the largest first.
    seconds: how long lowering and compiling took.
    refusal: what the compiler said if it found no room; '' if it found some.
  """
  memory: int
  temporaries: int
  code: int | None
  collectives: dict[str, dict[str, float]]
  tensors: list[tuple[int, str]]
  seconds: float
  refusal: str = ''


def of_lowered(lowered: jax.stages.Lowered, topology: Topology) -> Analysis:
  """Compiles a program for simulated devices in this process."""
  begun = time.perf_counter()
  compiled = lowered.compile(compiler_options=_CPU_OPTIONS)
  m, text = compiled.memory_analysis(), compiled.as_text()
  return Analysis(
      memory=(m.argument_size_in_bytes + m.output_size_in_bytes
              - m.alias_size_in_bytes + m.temp_size_in_bytes),
      temporaries=m.temp_size_in_bytes, code=m.generated_code_size_in_bytes,
      collectives=hlo.totals(hlo.collectives(text, topology.count)),
      tensors=hlo.largest(text, NUMBER_OF_TENSORS),
      seconds=time.perf_counter() - begun)


def buffers(report: str) -> tuple[int, int, list[tuple[int, str]]]:
  """(bytes of all buffers, of the temporaries, the largest tensors) of the
  memory usage report that libtpu dumps.

  Raises:
    ValueError: for a text of another form.
  """
  if (total := _TOTAL.search(report)) is None:
    raise ValueError('the report of libtpu has another form: '
                     f'{report[:80]!r}')
  # Each block of rows is an allocation, the temporaries' first. Rows of a block
  # may share places, because not all values live at the same time.
  first, *others = report[total.end():].split('Memory Space:')[0].split(
      'cumulative_size')[1:] or ['']
  temporaries = max((size + int(offset) for size, offset, _ in _rows(first)),
                    default=0)
  tensors = sorted({
      max(hlo.tensors(text), default=(0, ''))
      for block in (first, *others) for _, _, text in _rows(block)},
      reverse=True)
  return int(total[1]), temporaries, tensors[:NUMBER_OF_TENSORS]


def again(assignment: str) -> int:
  """Bytes that the report of libtpu counts twice: the thread-local allocations
  of the default memory space in the dumped buffer assignment.

  Raises:
    ValueError: for a text of another form.
  """
  if not assignment.startswith('BufferAssignment:'):
    raise ValueError('the buffer assignment of libtpu has another form: '
                     f'{assignment[:80]!r}')
  return sum(map(int, _THREAD_LOCAL.findall(assignment)))


def _rows(block: str) -> list[tuple[int, str, str]]:
  """(bytes, offset, types) of the rows of an allocation, tuples left out."""
  return [(int(float(n) * _UNITS[unit]), offset, text)
          for n, unit, offset, text in _ROW.findall(block)
          if not _TUPLE.match(text)]


def _only(folder: str, ending: str) -> str:
  """The text of the one dump with an ending; '' before it is there."""
  found = sorted(glob.glob(f'{glob.escape(folder)}/*{ending}'))
  return pathlib.Path(found[-1]).read_text(errors='replace') if found else ''


def of_dumps(folder: str, topology: Topology, *, seconds: float,
             code: int | None = None, refusal: str = '') -> Analysis:
  """What the dumps of a compiler say."""
  memory, temporaries, tensors = buffers(
      _only(folder, 'after_optimizations-memory-usage-report.txt'))
  memory -= again(_only(folder, 'after_optimizations-buffer-assignment.txt'))
  text = _only(folder, 'after_optimizations.txt')
  return Analysis(
      memory=memory, temporaries=temporaries, code=code,
      collectives=hlo.totals(hlo.collectives(text, topology.count)),
      tensors=tensors, seconds=seconds, refusal=refusal)


def of_tpu(lowered: jax.stages.Lowered, topology: Topology,
           room: int | None) -> Analysis:
  """Compiles a program for a TPU that is not here.

  Args:
    lowered: the program.
    topology: a slice.
    room: bytes that buffers and code may fill; None: only the schedule that
      needs least is wanted, and no code.

  Raises:
    JaxRuntimeError: for what is no lack of memory.
  """
  begun, code, refusal = time.perf_counter(), None, ''
  with tempfile.TemporaryDirectory(prefix='zppo_plan_') as folder:
    try:
      compiled = lowered.compile(compiler_options={
          'xla_dump_to': folder, 'xla_dump_hlo_as_text': True,
          LIMIT: str(max(1, (room or 0) // MIB))})
      code = compiled.memory_analysis().generated_code_size_in_bytes
    except jax.errors.JaxRuntimeError as e:
      if not str(e).startswith('RESOURCE_EXHAUSTED'):
        raise
      if room is not None:
        refusal = str(e).splitlines()[0]
    return of_dumps(folder, topology, seconds=time.perf_counter() - begun,
                    code=code, refusal=refusal)


def extended(few: Analysis, more: Analysis, steps: int) -> Analysis:
  """What is said of a program with more blocks, each of which adds as much.

  Args:
    few: the analysis with some blocks.
    more: the analysis with one block more.
    steps: how many blocks more than `more` the program has.
  """
  grown = lambda a, b: b + steps * (b - a)
  none = dict.fromkeys(('count', 'bytes', 'moved'), 0)
  return Analysis(
      memory=grown(few.memory, more.memory),
      temporaries=max(more.temporaries,
                      grown(few.temporaries, more.temporaries)),
      code=None, tensors=more.tensors, seconds=few.seconds + more.seconds,
      collectives={kind: {
          name: max(0, grown(few.collectives.get(kind, none)[name], value))
          for name, value in of.items()}
          for kind, of in more.collectives.items()})


@functools.cache
def _versions() -> str:
  """A digest of this package's code and of the compilers."""
  root = pathlib.Path(zppo_jax.__file__).parent
  digest = hashlib.blake2b(digest_size=16)
  for path in sorted(root.rglob('*.py')):
    digest.update(path.read_bytes())
  for name in ('jax', 'jaxlib', 'libtpu'):
    try:
      digest.update(importlib.metadata.version(name).encode())
    except importlib.metadata.PackageNotFoundError:
      pass
  return digest.hexdigest()


def _settings() -> str:
  """How hard JAX lets the compilers try, and the flags that they get."""
  return json.dumps([
      *map(str, shared_jit.settings().values()),
      *(os.environ.get(name, '') for name in _OF_ENVIRONMENT)])


def _file(config, topology: Topology, name: str, room: int | None,
          blocks: int | None) -> pathlib.Path:
  limit = str(room) if topology.platform == 'tpu' else ''
  key = '\n'.join([_versions(), _settings(), topology.name, name, limit,
                   str(blocks), config.to_yaml()])
  digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
  return compile_cache.plans() / f'{digest}.json'


def analysis(config, topology: Topology, program: Program, room: int | None,
             blocks: int | None = None) -> Analysis:
  """What the compiler says of a program; what it said before is kept on disk.

  Args:
    config: the config on the topology.
    topology: the devices.
    program: a program of its run.
    room: see `of_tpu`.
    blocks: how many blocks its run has, if it has not all (abstract.run_of).
  """
  file = _file(config, topology, program.name, room, blocks)
  if file.is_file():
    found = Analysis(**json.loads(file.read_text()))
    return dataclasses.replace(
        found, tensors=[tuple(t) for t in found.tensors])
  lowered = program.lower()
  result = (of_tpu(lowered, topology, room) if topology.platform == 'tpu'
            else of_lowered(lowered, topology))
  file.parent.mkdir(parents=True, exist_ok=True)
  part = file.with_suffix(f'.{os.getpid()}')
  part.write_text(json.dumps(dataclasses.asdict(result)))
  part.replace(file)
  return result
