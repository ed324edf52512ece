"""What the compiler says of a program: memory, collectives, largest tensors.

A TPU program is compiled in a process of its own, which dumps the optimised HLO
and the buffers. Both are complete before code is generated, which takes most of
the time; a fast plan ends the process there.
"""

import dataclasses
import functools
import glob
import hashlib
import importlib.metadata
import json
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tempfile
import time

import jax

import zppo_jax
from zppo_jax.devices import compile_cache
from zppo_jax.plan import collectives
from zppo_jax.plan.programs import Program
from zppo_jax.plan.topologies import Topology

_POLL = 0.2  # seconds between two looks at the dumps of a compiler
# Half the work of LLVM is left out, because the code never runs.
_CPU_OPTIONS = {'xla_backend_optimization_level': 0,
                'xla_llvm_disable_expensive_passes': True}
NUMBER_OF_TENSORS = 5
_TOTAL = re.compile(r'Memory Space: default \(color=0\)\nTotal bytes: (\d+)')
_ROW = re.compile(
    r'\(\s*\d+%\);\s*([\d.]+)(B|KiB|MiB|GiB);\s*(\d+);[^;]*; (.*)')
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
    collectives: collectives.totals.
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
  m, hlo = compiled.memory_analysis(), compiled.as_text()
  return Analysis(
      memory=(m.argument_size_in_bytes + m.output_size_in_bytes
              - m.alias_size_in_bytes + m.temp_size_in_bytes),
      temporaries=m.temp_size_in_bytes, code=m.generated_code_size_in_bytes,
      collectives=collectives.totals(
          collectives.of_program(hlo, topology.count)),
      tensors=collectives.largest(hlo, NUMBER_OF_TENSORS),
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
      max(collectives.tensors(text), default=(0, ''))
      for block in (first, *others) for _, _, text in _rows(block)},
      reverse=True)
  return int(total[1]), temporaries, tensors[:NUMBER_OF_TENSORS]


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
  hlo = _only(folder, 'after_optimizations.txt')
  return Analysis(
      memory=memory, temporaries=temporaries, code=code,
      collectives=collectives.totals(
          collectives.of_program(hlo, topology.count)),
      tensors=tensors, seconds=seconds, refusal=refusal)


def _wait(process: subprocess.Popen, folder: str, fast: bool) -> None:
  """Waits for the end of a compiler; if `fast`, only for its dumps."""
  before = -1
  while process.poll() is None:
    time.sleep(_POLL)
    if not fast:
      continue
    size = len(_only(folder, 'after_optimizations-memory-usage-report.txt'))
    # A file that no longer grows is whole.
    if size and size == before:
      process.kill()
      process.wait()
    before = size


def apart(config, topology: Topology, name: str, fast: bool) -> Analysis:
  """Compiles a program of a config for a TPU, in a process of its own.

  Args:
    config: the config; the topology fits its mesh.
    topology: a TPU slice.
    name: of the program.
    fast: whether to end before code is generated.

  Raises:
    RuntimeError: if the compiler ends without a result, with its last words.
  """
  with tempfile.TemporaryDirectory(prefix='zppo_plan_') as folder:
    request = pathlib.Path(folder, 'request')
    request.write_bytes(pickle.dumps((config, topology, name, folder)))
    begun = time.perf_counter()
    with open(f'{folder}/words', 'w') as words:
      process = subprocess.Popen(
          [sys.executable, '-m', 'zppo_jax.plan.worker', str(request)],
          stdout=words, stderr=words, env={
              **os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH':
              os.pathsep.join(p or os.curdir for p in sys.path)})
      try:
        _wait(process, folder, fast)
      finally:
        process.kill()
        process.wait()
    seconds = time.perf_counter() - begun
    result = pathlib.Path(folder, 'result')
    done = json.loads(result.read_text()) if result.is_file() else {}
    try:
      return of_dumps(folder, topology, seconds=seconds,
                      code=done.get('code'), refusal=done.get('refusal', ''))
    except ValueError as e:
      lines = pathlib.Path(folder, 'words').read_text(
          errors='replace').strip().splitlines() or ['(it said nothing)']
      raise RuntimeError(
          f'the program {name!r} did not compile for {topology.name}: '
          f'{lines[-1]}') from e


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


def _file(config, topology: Topology, name: str, fast: bool) -> pathlib.Path:
  key = '\n'.join([_versions(), topology.name, name, str(fast),
                   config.to_yaml()])
  digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
  return compile_cache.folder().with_name('plans') / f'{digest}.json'


def analysis(config, topology: Topology, program: Program,
             fast: bool) -> Analysis:
  """What the compiler says of a program; what it said before is kept on disk.

  Args:
    config: the config on the topology.
    topology: the devices.
    program: a program of its run.
    fast: whether a TPU's code may be left out.

  Raises:
    RuntimeError: see `apart`.
  """
  for kind in dict.fromkeys((False, fast)):
    file = _file(config, topology, program.name, kind)
    if file.is_file():
      found = Analysis(**json.loads(file.read_text()))
      return dataclasses.replace(
          found, tensors=[tuple(t) for t in found.tensors])
  if topology.platform == 'tpu':
    result = apart(config, topology, program.name, fast)
  else:
    result, fast = of_lowered(program.lower(), topology), False
  file = _file(config, topology, program.name, fast)
  file.parent.mkdir(parents=True, exist_ok=True)
  part = file.with_suffix(f'.{os.getpid()}')
  part.write_text(json.dumps(dataclasses.asdict(result)))
  part.replace(file)
  return result
