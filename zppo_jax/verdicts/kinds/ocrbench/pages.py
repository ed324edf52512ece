"""Documents of OCRBench v2: the edit distance of trees of headings."""

import re
from typing import Any

from zppo_jax.verdicts.kinds import edits
from zppo_jax.verdicts.kinds.edits import Tree
from zppo_jax.verdicts.kinds.numerals import Unreadable

# Marks of other tools' output, and spaces inside of LaTeX.
_CLEAN = ((r'<bos>|<eos>|<pad>|<unk>', ''), (r'\s##(\S)', r'\1'),
          (r'\\\s', r'\\'), (r'\s\*\s\*\s', '**'), (r'{\s', '{'),
          (r'\s}', '}'), (r'\s}', '}'), (r'\\begin\s', r'\\begin'),
          (r'\\end\s', r'\\end'), (r'[*_\n]', ' '))
_PATTERNS = tuple((re.compile(pattern), to) for pattern, to in _CLEAN)


def _cleaned(line: str) -> str:
  for pattern, to in _PATTERNS:
    line = pattern.sub(to, line)
  return line


def tree(text: str) -> Tree:
  """Headings below the root, and the lines behind each below it."""
  root, title = Tree('ROOT', []), Tree('TITLE', [])
  root.children.append(title)
  headings = {'': title}
  last = ''
  for line in map(_cleaned, text.split('\n')):
    if line.startswith('#'):
      last = line.replace('#', '')
      heading = Tree(last, [])
      root.children.append(heading)
      headings.setdefault(last, heading)  # lines go below the first of a name
    else:
      headings[last].children.append(Tree(line, []))
  return root


def _blank(one: str, other: str) -> float:
  """Labels are not compared, but a blank one is no other's match."""
  return float(not one.split() or not other.split())


def document(answer: str, row: dict[str, Any]) -> float:
  """1 - tree edit distance / nodes of the larger tree."""
  if len(row['answers']) != 1:
    raise Unreadable(f'{len(row["answers"])} answers of one document')
  given, gold = tree(answer), tree(str(row['answers'][0]))
  away = edits.tree_distance(given, gold, _blank)
  return max(0.0, 1 - away / max(given.size, gold.size))
