"""What a compiled program does, read off its HLO text: its instructions and how
often they run, its collectives, and the FLOPs of its matrix products.

What stands inside a loop counts as often as the loop runs, which XLA's own cost
analysis leaves out, where the compiler knows the trip count. A loop that ends
by its data, such as the one over decoding steps, counts as often as the caller
says, once by default, so that its numbers are those of one iteration.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

KINDS = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all',
         'collective-permute')
PRODUCTS = ('dot', 'convolution')
_BITS = {'pred': 8, 's4': 4, 'u4': 4, 's8': 8, 'u8': 8, 'f8e4m3fn': 8,
         'f8e5m2': 8, 's16': 16, 'u16': 16, 'bf16': 16, 'f16': 16, 's32': 32,
         'u32': 32, 'f32': 32, 's64': 64, 'u64': 64, 'f64': 64, 'c64': 64}
_SHAPE = re.compile(r'\b([a-z]+[0-9]*(?:e[0-9]m[0-9][a-z]*)?)\[([0-9,]*)\]')
_HEAD = re.compile(r'^(ENTRY )?%?([\w.-]+)(?: \(.*)?\{$')
# The end of a computation.
_END = re.compile(r'^\}(?:, execution_thread=.*)?$')
# %name = result type operation(operands), attributes. A tuple type is in
# parentheses and may hold layouts in braces with parentheses of their own.
_LINE = re.compile(r'^\s*(?:ROOT )?%?([\w.-]+) = (.*)$')
_OPERATION = re.compile(r'(?:^|[\s)}\]])([a-z][\w-]*)\(')
_CALLED = re.compile(
    r'(?:calls|to_apply|body|condition|async_wrapped|branch_computations|'
    r'true_computation|false_computation|called_computations)='
    r'(\{[^}]*\}|%?[\w.-]+)')
_TRIPS = re.compile(r'known_trip_count"?:\s*\{"?n"?:\s*"?(\d+)')
_LISTED = re.compile(r'replica_groups=\{\{([^}]*)\}')
_IOTA = re.compile(r'replica_groups=\[(\d+),(\d+)\]')
# mesh['a'=4,'b'=2] {'a'}: the axes of a group; 'a':(2)4 is a part of size 4.
_MESH = re.compile(r'replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}')
_AXIS = re.compile(r"'([^']+)'=(\d+)")
_MEMBER = re.compile(r"'([^']+)'(?::\(\d+\)(\d+))?")
_CHANNEL = re.compile(r'channel_id=(\d+)')
_CONSTANT = re.compile(r'constant\((-?\d+)\)')
_SOURCE = re.compile(r'op_name="([^"]*)"')
_OPERANDS = re.compile(r'^[\s)}\]]*[a-z][\w-]*\(([^)]*)\)')
_NAME = re.compile(r'%([\w.-]+)')
_LABELS = re.compile(r'dim_labels=(\w+)_(\w+)->(\w+)')
_CONTRACTED = re.compile(r'lhs_contracting_dims=\{([\d,]*)\}')
_COMPARED = re.compile(r'compare\(%?[\w.-]+, %?([\w.-]+)\), direction=L([TE])')


class Instruction(NamedTuple):
  """A line of HLO.

  Attributes:
    name: its name.
    kind: the operation, such as 'fusion'.
    types: the text of its result types.
    line: the whole line.
    called: names of the computations that it calls.
  """
  name: str
  kind: str
  types: str
  line: str
  called: tuple[str, ...]


class Collective(NamedTuple):
  """A collective of a program.

  Attributes:
    kind: one of KINDS.
    count: how often it runs.
    bytes: bytes of its largest result on one device, for one run: those
      gathered, reduced or sent. A reduce-scatter counts what it reduces.
    group: the number of devices that take part.
    where: the name that JAX gives the operation that it belongs to.
  """
  kind: str
  count: int
  bytes: int
  group: int
  where: str = ''

  @property
  def moved(self) -> float:
    """Bytes that a device receives in all runs, by ring algorithms: (n - 1) / n
    of what is gathered or reduced, twice that for an all-reduce."""
    share = (self.group - 1) / self.group
    of = {'all-reduce': 2 * share, 'collective-permute': 1.0}
    return self.count * self.bytes * of.get(self.kind, share)


def arrays(text: str) -> list[tuple[str, tuple[int, ...]]]:
  """(type, axes) of each array that a text names."""
  return [(kind, tuple(int(n) for n in axes.split(',') if n))
          for kind, axes in _SHAPE.findall(text) if kind in _BITS]


def tensors(types: str) -> list[tuple[int, str]]:
  """(bytes, type) of each array type in a text; a type without numbers has 0
  bytes."""
  return [(math.ceil(math.prod(int(n) for n in axes.split(',') if n)
                     * _BITS.get(kind, 0) / 8), f'{kind}[{axes}]')
          for kind, axes in _SHAPE.findall(types)]


def _split(text: str) -> tuple[str, str, str]:
  """(result types, operation, the rest) of what stands behind the `=`."""
  depth, end = 0, len(text)
  for place, letter in enumerate(text):
    depth += (letter in '([{') - (letter in ')]}')
    if letter == ' ' and not depth:
      end = place
      break
  types, rest = text[:end], text[end:]
  found = _OPERATION.match(rest)
  return types, found[1] if found else '', rest


def _lines(hlo: str) -> Iterator[str]:
  """The lines of HLO text, each instruction on one: the metadata of a Pallas
  kernel holds line breaks, and lines that begin with braces."""
  held: list[str] = []
  for line in hlo.splitlines():
    begins = (line[:1] in (' ', '') or _END.match(line) or _HEAD.match(line)
              or not held or held[0][:1] != ' ')
    if begins and held:
      yield ' '.join(held)
      held = []
    held.append(line)
  if held:
    yield ' '.join(held)


def computations(hlo: str) -> tuple[dict[str, list[Instruction]], str]:
  """({computation: its instructions}, the name of the entry) of HLO text."""
  out, entry, current = {}, '', None
  for line in _lines(hlo):
    if current is None or _END.match(line):
      current = None
      if (head := _HEAD.match(line.rstrip())) and line[:1] != ' ':
        current = out.setdefault(head[2], [])
        entry = head[2] if head[1] else entry
      continue
    if (found := _LINE.match(line)) is None:
      continue
    types, kind, rest = _split(found[2])
    called = tuple(
        name.strip().lstrip('%') for names in _CALLED.findall(rest)
        for name in names.strip('{}').split(','))
    current.append(Instruction(found[1], kind, types, rest, called))
  return out, entry


def _trips(loop: Instruction, known: dict[str, list[Instruction]],
           others: int) -> int:
  """How often a loop runs: what the compiler says, else the bound with which
  its condition compares a counter that begins at 0; `others` if neither is
  there."""
  if found := _TRIPS.search(loop.line):
    return int(found[1])
  condition = re.search(r'condition=%?([\w.-]+)', loop.line)
  body = known.get(condition[1], ()) if condition else ()
  compared = _COMPARED.search(body[-1].line) if body else None
  if compared is None:
    return others
  bound = next((_CONSTANT.search(i.line) for i in body
                if i.name == compared[1]), None)
  return int(bound[1]) + (compared[2] == 'E') if bound else others


def _group(line: str, devices: int) -> int:
  if found := _IOTA.search(line):
    return int(found[2])
  if found := _MESH.search(line):
    axes = dict(_AXIS.findall(found[1]))
    return math.prod(int(part or axes[name])
                     for name, part in _MEMBER.findall(found[2]))
  if found := _LISTED.search(line):
    return len([n for n in found[1].split(',') if n.strip()])
  return devices


def walk(hlo: str, *, inside: bool = True,
         others: int = 1) -> Iterator[tuple[Instruction, int]]:
  """(instruction, how often it runs) of a program, called computations
  included.

  Args:
    hlo: the text of the compiled module.
    inside: whether to go into fusions too, whose results are not in memory.
    others: runs of a loop that does not say how often it runs.
  """
  known, entry = computations(hlo)
  waiting = [(entry, 1)]
  while waiting:
    name, times = waiting.pop()
    for instruction in known.get(name, ()):
      yield instruction, times
      if inside or instruction.kind != 'fusion':
        more = times * (_trips(instruction, known, others)
                        if instruction.kind == 'while' else 1)
        waiting += [(called, more) for called in instruction.called]


def _of(instruction: Instruction, times: int,
        devices: int) -> Collective | None:
  kind = instruction.kind.removesuffix('-start')
  if kind not in KINDS:
    return None
  group = _group(instruction.line, devices)
  if kind == 'collective-permute':
    group = 2
  if group < 2:
    return None
  found = [size for size, _ in tensors(instruction.types)]
  # The result of a start holds operands and results; a variadic collective has
  # a tuple of results, which are all moved.
  if instruction.kind.endswith('-start'):
    size = max(found, default=0)
  else:
    size = sum(found)
  where = _SOURCE.search(instruction.line)
  return Collective(kind, times, size * (
      group if kind == 'reduce-scatter' else 1), group,
                    where[1] if where else '')


def collectives(hlo: str, devices: int, others: int = 1) -> list[Collective]:
  """The collectives of a compiled program between two devices or more.

  Args:
    hlo: the text of the compiled module.
    devices: the number of devices that it runs on, for a collective whose
      groups are not written down.
    others: runs of a loop that does not say how often it runs.
  """
  out, seen = [], set()
  for instruction, times in walk(hlo, others=others):
    found = _of(instruction, times, devices)
    # An asynchronous collective stands in the fusions that start, accompany and
    # end it, each time under the same channel.
    channel = _CHANNEL.search(instruction.line)
    key = (found and found.kind, channel and channel[1])
    if found is None or (channel and key in seen):
      continue
    seen.add(key)
    out.append(found)
  return out


def totals(of: list[Collective]) -> dict[str, dict[str, float]]:
  """{kind: {count, bytes, moved}} of collectives; kinds in order."""
  out = {}
  for kind in KINDS:
    if some := [c for c in of if c.kind == kind]:
      out[kind] = {'count': sum(c.count for c in some),
                   'bytes': sum(c.count * c.bytes for c in some),
                   'moved': sum(c.moved for c in some)}
  return out


def largest(hlo: str, number: int) -> list[tuple[int, str]]:
  """The largest results of instructions as (bytes on one device, type and
  operation), each type once."""
  found = {}
  for instruction, _ in walk(hlo, inside=False):
    if instruction.kind in ('parameter', 'tuple', 'get-tuple-element', 'while',
                            'bitcast', ''):
      continue
    for size, name in tensors(instruction.types):
      found.setdefault(name, (size, f'{name} of {instruction.kind}'))
  return sorted(found.values(), reverse=True)[:number]


def operands(instruction: Instruction) -> list[str]:
  """The names of what an instruction takes."""
  found = _OPERANDS.match(instruction.line)
  return _NAME.findall(found[1]) if found else []


def _axes(types: str) -> tuple[int, ...]:
  return arrays(types)[0][1]


def product_flops(instruction: Instruction, types: Mapping[str, str]) -> int:
  """FLOPs of a dot or a convolution: two per multiply-add.

  Args:
    instruction: it.
    types: the result types of what stands in the same computation.
  """
  made = _axes(instruction.types)
  out = math.prod(made)
  left, right = (_axes(types[name]) for name in operands(instruction)[:2])
  if instruction.kind == 'dot':
    axes = _CONTRACTED.search(instruction.line)[1]
    return 2 * out * math.prod(left[int(a)] for a in axes.split(',') if a)
  of = _LABELS.search(instruction.line)
  total = 2 * out * right[of[2].index('i')]
  for axis in sorted(x for x in of[2] if x.isdigit()):
    sizes = [shape[labels.index(axis)] for shape, labels in zip(
        (left, right, made), of.groups(), strict=True)]
    total = total * window_pairs(
        instruction.line, int(axis), *sizes) // sizes[2]
  return total


def window_pairs(line: str, axis: int, size: int, taps: int, made: int) -> int:
  """Pairs of an output and a tap of a window that meets an input there, and
  neither padding nor a gap: an axis of a batch, of heads or of a sum is written
  as one of a window too."""
  def each(name, default):
    found = re.search(rf'[{{ ]{name}=([\d_x-]+)', line)
    return found[1].split('x')[axis] if found else default
  low = int(each('pad', '0_0').split('_')[0])
  stride, between, apart = (int(each(name, '1')) for name in (
      'stride', 'lhs_dilate', 'rhs_dilate'))
  at = (np.arange(made)[:, None] * stride + np.arange(taps) * apart - low)
  return int(((at >= 0) & (at % between == 0) & (at < size * between)).sum())


def flops(hlo: str, others: int = 1) -> int:
  """FLOPs of the matrix products of a program on one device.

  Args:
    hlo: the text of the compiled module.
    others: runs of a loop that does not say how often it runs.
  """
  types = {i.name: i.types for of in computations(hlo)[0].values() for i in of}
  return sum(times * product_flops(i, types)
             for i, times in walk(hlo, others=others) if i.kind in PRODUCTS)
