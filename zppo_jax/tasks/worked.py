r"""Worked solutions of reasoning-gym's entries, from their own metadata.

They are what a stored teacher answers with (teachers/stored.py), in the form
that responses are graded in: steps inside <think>, the answer in \boxed{}.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any


def _sums(entry: Mapping[str, Any]) -> list[str]:
  """A chain of sums and differences from left to right.

  One line a term: '4 - 1 = 3', '3 - 7 = -4'.
  """
  first, *rest = re.findall(r'[+-]|\d+', entry['metadata']['expression'])
  total, lines = int(first), []
  for sign, term in zip(rest[::2], rest[1::2], strict=True):
    after = total + int(term) if sign == '+' else total - int(term)
    lines.append(f'{total} {sign} {term} = {after}')
    total = after
  return lines


def _euclid(entry: Mapping[str, Any]) -> list[str]:
  """Euclid's divisions over all numbers: '48 = 1 * 36 + 12'."""
  current, *others = entry['metadata']['numbers']
  lines = []
  for other in others:
    a, b = max(current, other), min(current, other)
    while b:
      lines.append(f'{a} = {a // b} * {b} + {a % b}')
      a, b = b, a % b
    current = a
  return lines


# data set -> an entry's derivation, a line a step
STEPS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    'chain_sum': _sums, 'gcd': _euclid}


def solution(name: str, entry: Mapping[str, Any]) -> str:
  """The worked solution of an entry.

  Args:
    name: of the data set.
    entry: of it, with `answer` and `metadata`.

  Raises:
    KeyError: for a data set without worked solutions, with those that have
      them.
  """
  if name not in STEPS:
    raise KeyError(f'reasoning_gym/{name} has no worked solutions; known: '
                   f'{", ".join(STEPS)}')
  steps = '\n'.join(STEPS[name](entry))
  return f'<think>\n{steps}\n</think>\n\\boxed{{{entry["answer"]}}}'
