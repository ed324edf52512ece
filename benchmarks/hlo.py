"""What a compiled program does, counted from its HLO text.

Loops count as often as they run, which XLA's own cost analysis leaves out. A
loop whose number of runs is not in the text counts as often as the caller says.
"""

import math
import re
from typing import NamedTuple

_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 'f32': 4, 's32': 4,
          'u32': 4, 'f64': 8, 's64': 8, 'u64': 8}
_ARRAY = re.compile(rf'\b({"|".join(_BYTES)})\[([\d,]*)\]')
_HEAD = re.compile(r'(ENTRY )?%?([\w.\-]+) \(.*\{\s*$')
_CALL = re.compile(r'(body|condition|calls|to_apply|true_computation|'
                   r'false_computation)=%?([\w.\-]+)')
_NAME = r'(?:ROOT )?%?([\w.\-]+) = '
KINDS = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all',
         'collective-permute')
_COLLECTIVE = re.compile(_NAME + rf'(.*?) ({"|".join(KINDS)})(?:-start)?\(')
_DOT = re.compile(_NAME + r'(\S+) dot\((.*?)\), .*'
                  r'lhs_contracting_dims=\{([\d,]*)\}')


class Collective(NamedTuple):
  """An exchange between devices.

  Attributes:
    kind: one of KINDS.
    runs: how often a run of the program makes it.
    size: bytes of its result on a device.
    where: the part of the source that it comes from.
  """
  kind: str
  runs: int
  size: int
  where: str


def arrays(text: str) -> list[tuple[str, tuple[int, ...]]]:
  """(type, axes) of each array that a text names."""
  return [(kind, tuple(int(d) for d in axes.split(',') if d))
          for kind, axes in _ARRAY.findall(text)]


def _size(text: str) -> int:
  return sum(_BYTES[kind] * math.prod(axes) for kind, axes in arrays(text))


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
  """(lines of each computation, the name of the first to run)."""
  found: dict[str, list[str]] = {}
  name = entry = ''
  for line in text.splitlines():
    head = None if line.startswith(' ') else _HEAD.match(line)
    if head:
      name = head.group(2)
      found[name] = []
      entry = name if head.group(1) else entry
    elif name and line.startswith('  '):
      found[name].append(line.strip())
  return found, entry


def _runs(of: dict[str, list[str]], entry: str, others: int) -> dict[str, int]:
  """How often each computation runs."""
  runs = dict.fromkeys(of, 0)

  def visit(name: str, times: int) -> None:
    runs[name] += times
    for line in of[name]:
      known = re.search(r'known_trip_count\D+(\d+)', line)
      for kind, callee in _CALL.findall(line):
        loop = kind in ('body', 'condition')
        inner = (int(known.group(1)) if known else others) if loop else 1
        if callee in of:
          visit(callee, times * inner)

  visit(entry, 1)
  return runs


def collectives(text: str, others: int = 1) -> list[Collective]:
  """All exchanges of a program.

  Args:
    text: of a compiled program.
    others: runs of a loop that does not say how often it runs.
  """
  of, entry = _computations(text)
  runs = _runs(of, entry, others)
  out = []
  for name, lines in of.items():
    for line in lines:
      found = _COLLECTIVE.match(line)
      if found and runs[name]:
        where = re.search(r'op_name="([^"]*)"', line)
        out.append(Collective(
            kind=found.group(3), runs=runs[name], size=_size(found.group(2)),
            where=where.group(1) if where else ''))
  return out


def flops(text: str, others: int = 1) -> int:
  """FLOPs of all matrix products on a device; arguments as `collectives`."""
  of, entry = _computations(text)
  runs = _runs(of, entry, others)
  total = 0
  for name, lines in of.items():
    shapes = {}
    for line in lines:
      result = re.match(_NAME + r'(\S+) ', line)
      if result:
        shapes[result.group(1)] = result.group(2)
      dot = _DOT.match(line)
      if dot:
        operand = dot.group(3)
        # Operands stand there by name, in some versions behind their type.
        first = arrays(operand) or arrays(
            shapes[operand.split(',')[0].strip().lstrip('%')])
        contracted = math.prod(
            first[0][1][int(d)] for d in dot.group(4).split(',') if d)
        [(_, out)] = arrays(dot.group(2))
        total += runs[name] * 2 * math.prod(out) * contracted
  return total
