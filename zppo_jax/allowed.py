"""What a value may be: a number within bounds, a name in a table, or a text.

Each function returns the value that it was given, or raises an error that names
the field, the value and what is allowed.
"""

import difflib
import math
import operator
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

Row = TypeVar('Row')
Number = TypeVar('Number', int, float)

_MANY = 12  # names among which a wrong one gets a guess
_BOUND = re.compile(r'(>=|>|<=|<) (\S+)')
_INTERVAL = re.compile(r'([\[(])([^,\s]+), ([^,\s]+)([\])])')
_COMPARE = {'>=': operator.ge, '>': operator.gt, '<=': operator.le,
            '<': operator.lt}


def _within(value: float, bounds: str) -> bool:
  if found := _BOUND.fullmatch(bounds):
    return _COMPARE[found[1]](value, float(found[2]))
  found = _INTERVAL.fullmatch(bounds)
  if found is None:
    raise AssertionError(f'bounds are {bounds!r}; write ">= 1" or "(0, 1]"')
  above = _COMPARE['>=' if found[1] == '[' else '>']
  below = _COMPARE['<=' if found[4] == ']' else '<']
  return above(value, float(found[2])) and below(value, float(found[3]))


def number(field: str, value: Number, bounds: str, *, whole: bool = False,
           finite: bool = True, note: str = '') -> Number:
  """The value, if it is a number within the bounds.

  Args:
    field: the name of the field, as the user wrote it.
    value: the value.
    bounds: '>= 1', '> 0', '< 5', '<= 5', or an interval such as '(0, 1]'.
    whole: whether it must be an int; True and False are none.
    finite: whether infinity is refused; nan always is.
    note: text behind the bounds, for a reason or an exception.

  Raises:
    ValueError: '<field> is <value>; it must be <bounds>'.
  """
  try:
    # numpy's numbers are as good as Python's own.
    plain: Any = value.item() if hasattr(value, 'item') else value
    good = (isinstance(plain, int if whole else (int, float))
            and not isinstance(plain, bool)
            and not math.isnan(plain)
            and not (finite and math.isinf(plain)) and _within(plain, bounds))
  except (TypeError, ValueError, OverflowError):
    good = False
  if not good:
    kind = 'a whole number ' if whole else ''
    inside = f'in {bounds}' if bounds[0] in '[(' else bounds
    raise ValueError(f'{field} is {value!r}; it must be {kind}{inside}{note}')
  return value


def text(field: str, value: str) -> str:
  """The value, if UTF-8 can hold it: a lone surrogate is no character.

  Args:
    field: the name of the field, for the error.
    value: a text.

  Raises:
    ValueError: '<field> holds half a surrogate pair, <it> at character <n>'.
  """
  if not value.isascii():
    try:
      value.encode()
    except UnicodeEncodeError as e:
      raise ValueError(
          f'{field} holds half a surrogate pair, {value[e.start]!a} at '
          f'character {e.start}; it must be text that UTF-8 can hold'
          ) from None
  return value


def looked_from(path: str | os.PathLike) -> str:
  """Text behind a path that is not there: ' (looked for from FOLDER)' for a
  relative one, which starts at the folder where the command runs, else ''."""
  place = pathlib.Path(path).expanduser()
  return '' if place.is_absolute() else (
      f' (looked for from {pathlib.Path.cwd()})')


def known(field: str, name: Any, table: Mapping[Any, Row], *,
          note: str = '') -> Row:
  """The row of a table under a name.

  Args:
    field: the name of the field, as the user wrote it.
    name: the value of the field.
    table: the rows by name.
    note: text behind the names, for a value that is no name.

  Raises:
    KeyError: 'unknown <field> <name>; known: ...', with all names.
  """
  one_of(field, name, table, note=note)
  return table[name]


def one_of(field: str, name: Any, names: Iterable[Any], *,
           note: str = '') -> Any:
  """The name, if it is one of the names.

  Args:
    field, name, note: as of `known`.
    names: all names.

  Raises:
    KeyError: as `known`. Of names in one text, which a flag's value without
      quotes is, it says how several are written.
  """
  names = list(names)
  if name not in names:
    near = difflib.get_close_matches(str(name), map(str, names), 2, 0.8) if (
        len(names) > _MANY) else []
    guess = f' (did you mean {" or ".join(map(repr, near))}?)' if near else ''
    parts = [p.strip() for p in str(name).split(',')]
    several = f'; several are written "{tuple(parts)}"' if (
        len(parts) > 1 and set(parts) <= {*map(str, names)}) else ''
    raise KeyError(f'unknown {field} {name!r}{guess}; known: '
                   f'{", ".join(str(n) for n in names)}{note}{several}')
  return name
