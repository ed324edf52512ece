"""Tests that README's command leaves out, because they are long and a lighter
sibling in the same file tests the same thing.

`ZPPO_LONG=1 python -m pytest -q` runs them too, and so does `.ci/run` for as
long as it has time. A test carries the marker `long`; of a parametrisation with
many rows the suite keeps a few, and the others are long.
"""

from collections.abc import Iterable
from typing import Any

import pytest

LONG = pytest.mark.long
# In `config.stash`: (id, whether it is long) of each test that was collected.
COLLECTED: pytest.StashKey[list[tuple[str, bool]]] = pytest.StashKey()


def long(*values: Any) -> Any:
  """A row of a parametrisation that is long."""
  return pytest.param(*values, marks=LONG)


def long_but(quick: Iterable[str], rows: Iterable[Any]) -> list:
  """The rows of a parametrisation, all of them long but the quick ones.

  Args:
    quick: the names of the rows that the suite keeps.
    rows: names, or tuples that begin with a name. All rows of a quick name are
      quick.

  Raises:
    ValueError: for a name of `quick` that no row has.
  """
  rows, quick = list(rows), set(quick)
  of = [(row,) if isinstance(row, str) else tuple(row) for row in rows]
  unknown = quick - {row[0] for row in of}
  if unknown:
    raise ValueError(f'no row is called {", ".join(sorted(unknown))}; known: '
                     f'{", ".join(dict.fromkeys(row[0] for row in of))}')
  return [pytest.param(*row) if row[0] in quick else long(*row) for row in of]
