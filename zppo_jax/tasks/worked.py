r"""Worked solutions of reasoning-gym's entries, from their own metadata.

A stored teacher answers with them (teachers/stored.py). They have the form in
which responses are graded: steps inside <think>, the answer in \boxed{}.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from zppo_jax import allowed


def _sums(entry: Mapping[str, Any]) -> list[str]:
  """A chain of sums and differences from left to right.

  It has a line per term: '4 - 1 = 3', '3 - 7 = -4'.
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


# data set -> (entry -> the lines of its derivation, one per step)
STEPS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    'chain_sum': _sums, 'gcd': _euclid}


def solution(name: str, entry: Mapping[str, Any]) -> str:
  """The worked solution of an entry.

  Args:
    name: the name of the data set.
    entry: an entry of the data set, with `answer` and `metadata`.

  Raises:
    KeyError: for a data set without worked solutions, with those that have
      them.
  """
  steps = '\n'.join(allowed.known(
      'data set with worked solutions', name, STEPS)(entry))
  return f'<think>\n{steps}\n</think>\n\\boxed{{{entry["answer"]}}}'
