"""Tables of OCRBench v2: the tree edit distance of rows and cells (TEDS).

The tree of a table has a node for each row and each cell. A cell that differs
costs the edit distance of the texts by the longer one (Zhong et al. 2020).
Charts are dicts and tables are Markdown here, so that no HTML is read.
"""

import re
from typing import Any

from zppo_jax.verdicts.kinds import edits
from zppo_jax.verdicts.kinds.edits import Tree
from zppo_jax.verdicts.kinds.numerals import Unreadable
from zppo_jax.verdicts.kinds.published import literal

_FENCE = re.compile(r'```(?:python|json)?\n(.*?)\n```', re.DOTALL | re.I)
_NAME = re.compile(r'^\s*\w+\s*=\s*')
_COMMENT = re.compile(r'#.*')
_CELL = 'td'


def _table(rows: list[list[str]]) -> Tree:
  return Tree('table', [Tree('tr', [Tree((_CELL, text), []) for text in row])
                        for row in rows])


def _renamed(one: Any, other: Any) -> float:
  """The cost of taking one node for another."""
  if one == other:
    return 0.0
  if isinstance(one, str) or isinstance(other, str):  # a row is no cell
    return 1.0
  return 1 - edits.similarity(one[1], other[1])


def teds(given: list[list[str]], gold: list[list[str]]) -> float:
  """1 - tree edit distance / nodes of the larger table; tables as rows."""
  one, other = _table(given), _table(gold)
  nodes = max(one.size, other.size) - 1  # the table itself does not count
  if not nodes:
    return 0.0
  return max(0.0, 1 - edits.tree_distance(one, other, _renamed) / nodes)


def _dict_of(text: str) -> dict | None:
  """The dict that an answer holds, in a block of code or with a name."""
  blocks = _FENCE.findall(text)
  words = max(blocks, key=len) if blocks else text.strip()
  words = _COMMENT.sub('', _NAME.sub('', words, count=1))
  value = literal(words[:words.rfind('}') + 1])
  return value if isinstance(value, dict) else None


def _chart_rows(value: dict) -> list[list[str]]:
  """A row for each key; the official code puts a space between the characters
  of a value."""
  return [[str(key), ' '.join(str(said))] for key, said in value.items()]


def chart(answer: str, row: dict[str, Any]) -> float:
  """TEDS of the table of a chart's keys and values."""
  gold = row['answers'][0]
  gold = _dict_of(gold) if isinstance(gold, str) else gold
  if not isinstance(gold, dict) or not gold:
    raise Unreadable(f'{str(row["answers"][0])[:80]!r} is no dict')
  given = _dict_of(answer)
  return teds(_chart_rows(given), _chart_rows(gold)) if given else 0.0


def asks_html(question: str) -> bool:
  """Whether a question wants its table in HTML."""
  return 'html' in question.lower()


def _markdown_rows(text: str) -> list[list[str]]:
  """The rows of a table, the second line of which is a rule."""
  text = text.strip('`markdown').strip('`').strip()
  lines = text.split('\n')
  return [[cell.strip() or ' ' for cell in line.strip().split('|')[1:-1]]
          for line in (lines[0], *lines[2:])]


def markdown(answer: str, row: dict[str, Any]) -> float:
  """TEDS of a table in Markdown.

  Raises:
    Unreadable: for several golds, and for a question that wants no Markdown.
  """
  question = str(row.get('question') or '')
  if asks_html(question) or 'markdown' not in question.lower():
    raise Unreadable(f'{question[:80]!r} asks for no table in Markdown')
  if len(row['answers']) != 1:
    raise Unreadable(f'{len(row["answers"])} answers of one table')
  return teds(_markdown_rows(answer), _markdown_rows(str(row['answers'][0])))
