"""What the programs of a run do on a TPU, operation by operation.

  JAX_PLATFORMS=cpu python -m benchmarks.operations \\
      --config=configs/pod_0_8b.py:v5e:4x4 --topology=v5e:4x4 \\
      --programs='student decode,update' --blocks=2 --to=operations.json

Programs are compiled ahead for a slice that is not here (pip install
'zppo_jax[aot]'), and nothing runs. Of the compiled text the FLOPs of matrix
products are counted, and the bytes that each operation reads from the memory of
the chip and writes to it; what lies in VMEM costs none. The least time of an
operation is the longer of what its FLOPs and its bytes need at the peaks of the
chip. A loop that ends by its data, such as that over decoding steps, counts
once.
"""

import argparse
import json
import os
import pathlib
import re
import runpy
import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from zppo_jax import allowed
from zppo_jax.plan import abstract, hlo, programs, topologies
from zppo_jax.plan.hlo import Instruction, operands, product_flops
from zppo_jax.study.launch import machine
from zppo_jax.study.tables import markdown

ROOT = pathlib.Path(__file__).parents[1]
SHOWN = 12  # rows of a table
MOVES = 'moves of the compiler'
_HOPS = 6  # from a move to what reads it
# What moves and computes nothing, or is counted where it begins.
_FREE = frozenset({
    'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while',
    'conditional', 'call', 'after-all', 'partition-id', 'replica-id', 'iota',
    'opt-barrier', ''})
_ARRAY = re.compile(r'([a-z]+[0-9]*(?:e[0-9]m[0-9][a-z]*)?\[[0-9,]*\])'
                    r'(?:\{([^}]*)\})?')
_SOURCE = re.compile(r'op_name="([^"]*)"')
_LEFT_OUT = re.compile(r'(?:while|body|cond|checkpoint|closed_call|remat\d*|'
                       r'branch_\d+_fun|jit\([^)]*\)|custom_\w+|vmap\(\)|'
                       r'rematted_computation)$')
_WRAPPED = re.compile(r'\b(?:transpose|jvp|vmap|remat\d*)\(([^()]*)\)')
_NUMBER = re.compile(r'parameter\((\d+)\)')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


class Operation(NamedTuple):
  """Operations of a program that come from one place of the source.

  Attributes:
    source: the place, layers of equal kind as one; MOVES for what the compiler
      moves for no one place.
    runs: how often they run.
    flops: of their matrix products, per chip.
    bytes: read from and written to the memory of a chip.
    cycles: what the compiler expects; of loads in the background it knows none.
  """
  source: str
  runs: int
  flops: int
  bytes: int
  cycles: int

  def least(self, topology: topologies.Topology) -> float:
    """The fewest seconds at the peaks of a chip."""
    return max(self.flops / topology.flops, self.bytes / topology.bandwidth)


def stored(types: str) -> list[int]:
  """Bytes of each array in a text that lies in the memory of the chip."""
  return [hlo.tensors(array)[0][0]
          for array, layout in _ARRAY.findall(types) if 'S(' not in layout]


def whole(types: str) -> list[int]:
  """Bytes of each array in a text, wherever it lies."""
  return [size for size, _ in hlo.tensors(types)]


def _flops(instruction: Instruction,
           known: Mapping[str, list[Instruction]]) -> int:
  """Of the products in what an instruction calls."""
  total = 0
  for name in instruction.called:
    inside = known.get(name, [])
    types = {i.name: i.types for i in inside}
    total += sum(product_flops(i, types) if i.kind in hlo.PRODUCTS
                 else _flops(i, known) for i in inside)
  return total


def _used(name: str, inside: list[Instruction],
          known: Mapping[str, list[Instruction]]) -> int | None:
  """Bytes of an array of which a computation reads parts alone: rows that are
  sliced or gathered, or none if it is updated in place, handed on, or what a
  collective in the background sends. None: it reads all."""
  if inside and inside[-1].name == name:
    return None
  total = 0
  for user in (i for i in inside if name in operands(i)):
    first = operands(user)[0] == name
    if user.kind in ('dynamic-slice', 'gather', 'slice') and first:
      part = sum(whole(user.types))
    elif user.kind == 'dynamic-update-slice' and first or _passes(user):
      part = 0
    elif _renames(user, known):
      part = _used(user.name, inside, known)
    elif user.kind == 'fusion':
      within = known.get(user.called[0], [])
      parts = [_used(_parameter(within, place), within, known)
               for place, operand in enumerate(operands(user))
               if operand == name]
      part = None if None in parts else sum(parts)
    else:
      part = None
    if part is None:
      return None
    total += part
  return total


def _passes(user: Instruction) -> bool:
  return user.kind == 'tuple' or user.kind.removesuffix('-start') in (
      hlo.KINDS)


def _renames(instruction: Instruction,
             known: Mapping[str, list[Instruction]]) -> bool:
  """Whether an instruction gives its operand another shape alone."""
  return instruction.kind == 'bitcast' or (
      instruction.kind == 'fusion' and all(
          i.kind in ('parameter', 'bitcast')
          for i in known.get(instruction.called[0], [])))


def _parameter(inside: list[Instruction], place: int) -> str:
  return next((i.name for i in inside if i.kind == 'parameter'
               and int(_NUMBER.search(i.line)[1]) == place), '')


def _written(fusion: Instruction, inside: list[Instruction]) -> int:
  """Bytes that a fusion writes: of an array that is updated in place, what is
  put into it."""
  if not inside:
    return sum(stored(fusion.types))
  of = {i.name: i for i in inside}
  root, arrays = inside[-1], _ARRAY.findall(fusion.types)
  made = ([of[name] for name in operands(root)] if root.kind == 'tuple'
          else [root])
  if len(made) != len(arrays):
    return sum(stored(fusion.types))
  total = 0
  for one, (array, layout) in zip(made, arrays, strict=True):
    while one.kind == 'bitcast' and operands(one)[0] in of:
      one = of[operands(one)[0]]
    if 'S(' in layout or one.kind == 'parameter' or _passes(one):
      continue
    put = one.kind == 'dynamic-update-slice'
    total += sum(whole(of[operands(one)[1]].types if put else array))
  return total


def moved(instruction: Instruction, types: Mapping[str, str],
          known: Mapping[str, list[Instruction]]) -> int:
  """Bytes that an instruction moves between the chip and its memory.

  Args:
    instruction: it.
    types: the result types of all instructions of the program.
    known: hlo.computations.
  """
  kind = instruction.kind
  if kind in _FREE or kind.endswith('-done') or kind == 'async-update':
    return 0
  if kind.endswith('-start'):  # source, destination, and a flag
    of = [n for n in whole(instruction.types) if n > 4]
    here = stored(instruction.types)
    return min(of, default=0) * min(len(here), 2) if of else 0
  taken = [types.get(name, '') for name in operands(instruction)]
  if kind == 'dynamic-update-slice':
    return 2 * sum(stored(taken[1]))
  if kind in ('dynamic-slice', 'gather'):
    return 2 * sum(stored(instruction.types))
  if kind != 'fusion':
    return sum(sum(stored(t)) for t in (instruction.types, *taken))
  inside = known.get(instruction.called[0], [])
  written = _written(instruction, inside)
  for place, given in enumerate(taken):
    if all_of := sum(stored(given)):
      part = _used(_parameter(inside, place), inside, known)
      written += all_of if part is None else min(part, all_of)
  return written


def source(path: str) -> str:
  """A place of the source, from the name that JAX gives an operation: without
  loops and without the numbers of layers."""
  way = ('backward ' if 'transpose(' in path else
         'recomputed ' if 'rematted_computation' in path else '')
  while path != (path := _WRAPPED.sub(r'\1', path)):
    pass
  parts = [re.sub(r'_\d+$', '', part) for part in path.split('/')
           if part and not _LEFT_OUT.match(part)]
  return way + '/'.join(parts[-4:])


def _users(known: Mapping[str, list[Instruction]]) -> dict[str, Instruction]:
  """The first instruction that takes each name."""
  out: dict[str, Instruction] = {}
  for of in known.values():
    for instruction in of:
      for name in operands(instruction):
        out.setdefault(name, instruction)
  return out


def place(instruction: Instruction, users: Mapping[str, Instruction]) -> str:
  """The place of the source that an instruction works for: of a move that the
  compiler made, that of what reads it."""
  for _ in range(_HOPS):
    if found := _SOURCE.search(instruction.line):
      return source(found[1])
    if instruction.name not in users:
      break
    instruction = users[instruction.name]
  return MOVES


def of_program(text: str) -> list[Operation]:
  """The operations of a compiled program, by source.

  Args:
    text: of the compiled module.
  """
  known, _ = hlo.computations(text)
  types = {i.name: i.types for of in known.values() for i in of}
  users = _users(known)
  out: dict[str, Operation] = {}
  for instruction, times in hlo.walk(text, inside=False):
    if instruction.kind in _FREE:
      continue
    flops = (product_flops(instruction, types)
             if instruction.kind in hlo.PRODUCTS else
             _flops(instruction, known) if instruction.kind == 'fusion' else 0)
    cycles = _CYCLES.search(instruction.line)
    one = Operation(place(instruction, users), times, times * flops,
                    times * moved(instruction, types, known),
                    times * int(cycles[1]) if cycles else 0)
    before = out.get(one.source, Operation(one.source, 0, 0, 0, 0))
    out[one.source] = Operation(one.source, *(
        a + b for a, b in zip(before[1:], one[1:], strict=True)))
  return [o for o in out.values() if o.flops or o.bytes or o.cycles]


def longest(operations: Iterable[Operation],
            topology: topologies.Topology) -> list[Operation]:
  """The operations with the longest least time first."""
  return sorted(operations, key=lambda o: (-o.least(topology), o.source))


def measure(flags) -> dict:
  """{program: what the compiler made of it}."""
  topology = topologies.parse(flags.topology)
  topologies.prepare(topology)
  path, _, argument = flags.config.partition(':')
  get_config = runpy.run_path(path)['get_config']
  config, _ = abstract.fitted(
      get_config(argument) if argument else get_config(), topology)
  run = abstract.run_of(config, topology, flags.blocks or None)
  of = {p.name: p for p in programs.of_run(run, config)}
  out = {}
  for name in flags.programs.split(','):
    program = of[allowed.one_of('--programs', name, of)]
    compiled = program.lower().compile()
    memory = compiled.memory_analysis()
    text = compiled.as_text()
    found = longest(of_program(text), topology)
    sums = hlo.totals(hlo.collectives(text, topology.count))
    out[name] = {
        'shape': program.shape, 'temporaries': memory.temp_size_in_bytes,
        # Bytes that a chip receives, by kind.
        'received': {kind: of['moved'] for kind, of in sums.items()},
        'least_s': sum(o.least(topology) for o in found),
        'operations': [{**o._asdict(), 'least_s': o.least(topology)}
                       for o in found]}
    print(name, program.shape, flush=True)
    print(_table(out[name]), flush=True)
  return out


def _table(found: dict) -> str:
  rows = [['operation', 'runs', 'GFLOP', 'MiB', 'least ms', 'of all',
           'cycles expected']]
  all_s = found['least_s']
  for o in found['operations'][:SHOWN]:
    rows.append([
        o['source'] or 'without a name', str(o['runs']),
        f'{o["flops"] / 1e9:,.1f}',
        f'{o["bytes"] / 2**20:,.0f}', f'{1e3 * o["least_s"]:,.3f}',
        f'{o["least_s"] / all_s:.0%}', f'{o["cycles"]:,}'])
  sums = [sum(o[key] for o in found['operations'])
          for key in ('runs', 'flops', 'bytes', 'cycles')]
  rows.append([f'all {len(found["operations"])}', str(sums[0]),
               f'{sums[1] / 1e9:,.1f}', f'{sums[2] / 2**20:,.0f}',
               f'{1e3 * all_s:,.3f}', '', f'{sums[3]:,}'])
  return markdown(rows)


def table(found: dict) -> str:
  """What is committed, for a page: a table per record and program."""
  parts = []
  for record in found['records']:
    for name, program in record['programs'].items():
      parts.append(
          f'{record["what"]}, {name} ({program["shape"]}), revision '
          f'{record["git_revision"][:7]}:\n\n{_table(program)}')
  return '\n\n'.join(parts)


def main(argv=None) -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--config', default='configs/pod_0_8b.py:v5e:4x4')
  parser.add_argument('--topology', default='v5e:4x4')
  parser.add_argument('--programs', default='student decode,update')
  parser.add_argument('--blocks', type=int, default=0,
                      help='blocks of the models; 0: all of theirs')
  parser.add_argument('--to', type=pathlib.Path, required=True)
  flags = parser.parse_args(argv)
  allowed.number('--blocks', flags.blocks, '>= 0')
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  given = sys.argv[1:] if argv is None else argv
  measured = measure(flags)
  here = machine()
  earlier = json.loads(flags.to.read_text())['records'] if (
      flags.to.exists()) else []
  record = {'what': f'{flags.config.partition(":")[0]} on {flags.topology}, '
                    f'{flags.blocks or "all"} blocks',
            'command': ' '.join(['python -m benchmarks.operations', *given]),
            'git_revision': here['git_revision'], 'programs': measured}
  flags.to.parent.mkdir(parents=True, exist_ok=True)
  flags.to.write_text(json.dumps(
      {'machine': here, 'records': [*earlier, record]}, indent=1) + '\n')


if __name__ == '__main__':
  main()
