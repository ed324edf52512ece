"""Edit distance of texts, and of trees."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple


def distance(one: Sequence, other: Sequence) -> int:
  """Levenshtein's distance: the insertions, deletions and replacements.

  A column of the table is two integers whose bits are the differences between
  neighbours (Myers 1999, in the form of Hyyrö 2003), so that a text of some
  thousand characters takes milliseconds.
  """
  if len(one) < len(other):
    one, other = other, one
  if not other:
    return len(one)
  masks: dict = {}
  for i, member in enumerate(other):
    masks[member] = masks.get(member, 0) | 1 << i
  full, last = (1 << len(other)) - 1, 1 << len(other) - 1
  up, down, count = full, 0, len(other)
  for member in one:
    same = masks.get(member, 0)
    vertical = same | down
    same = (((same & up) + up) ^ up) | same
    more, less = down | ~(same | up) & full, up & same
    count += bool(more & last) - bool(less & last)
    more, less = (more << 1 | 1) & full, less << 1 & full
    up, down = less | ~(vertical | more) & full, more & vertical
  return count


def similarity(one: Sequence, other: Sequence) -> float:
  """1 - distance / length of the longer; 1 for two empty texts."""
  longest = max(len(one), len(other))
  return 1 - distance(one, other) / longest if longest else 1.0


class Tree(NamedTuple):
  """A node with a label of any kind, and its children in order."""
  label: Hashable
  children: list

  @property
  def size(self) -> int:
    """The number of nodes, this one included."""
    return 1 + sum(child.size for child in self.children)


class _Walked(NamedTuple):
  """The nodes of a tree in postorder.

  Attributes:
    labels: of each node.
    first: the number of the leftmost leaf below each node.
    roots: the nodes that have a left sibling, and the root.
  """
  labels: list
  first: list[int]
  roots: list[int]


def _walked(tree: Tree) -> _Walked:
  labels: list = []
  first: list[int] = []

  def visit(node: Tree) -> int:
    starts = [visit(child) for child in node.children]
    start = starts[0] if starts else len(labels)
    labels.append(node.label)
    first.append(start)
    return start

  visit(tree)
  last = {start: i for i, start in enumerate(first)}
  return _Walked(labels=labels, first=first, roots=sorted(last.values()))


def tree_distance(one: Tree, other: Tree,
                  renamed: Callable[[Any, Any], float]) -> float:
  """The edit distance of ordered trees (Zhang and Shasha 1989).

  An insertion or a deletion of a node costs 1.

  Args:
    one, other: the trees; they are a few nodes deep.
    renamed: (label, label) -> the cost of taking one for the other, >= 0.
  """
  a, b = _walked(one), _walked(other)
  trees = [[0.0] * len(b.labels) for _ in a.labels]
  for i in a.roots:
    for j in b.roots:
      _forests(a, b, i, j, renamed, trees)
  return trees[-1][-1]


def _forests(a: _Walked, b: _Walked, i: int, j: int,
             renamed: Callable[[Any, Any], float],
             trees: list[list[float]]) -> None:
  """Fills in the distances of the subtrees that end the forests of i and j."""
  begin, start = a.first[i], b.first[j]
  above = [float(k) for k in range(j - start + 2)]
  rows = [above]
  for x in range(begin, i + 1):
    row = [above[0] + 1]
    for y in range(start, j + 1):
      at = y - start
      best = min(above[at + 1], row[at]) + 1
      if a.first[x] == begin and b.first[y] == start:
        if above[at] < best:  # because no renaming costs less than nothing
          best = min(best, above[at] + renamed(a.labels[x], b.labels[y]))
        trees[x][y] = best
      else:
        before = rows[a.first[x] - begin][b.first[y] - start]
        best = min(best, before + trees[x][y])
      row.append(best)
    rows.append(row)
    above = row
