"""Arrow's values as Python's, whose narrow numbers keep their decimals."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from zppo_jax.data import values


def narrow(value: Any, kind: Any) -> Any:
  """A value whose numbers of 32 bits or fewer are values.Single.

  Args:
    value: the Python value that Arrow made.
    kind: its Arrow type.
  """
  from pyarrow import types
  if value is None:
    return None
  if types.is_float32(kind):
    return values.single(value)
  if types.is_float16(kind):
    return values.single(value, np.float16)
  if types.is_struct(kind):
    return {field.name: narrow(value[field.name], field.type)
            for field in kind}
  if (types.is_list(kind) or types.is_large_list(kind)
      or types.is_fixed_size_list(kind)):
    return [narrow(v, kind.value_type) for v in value]
  return value


@functools.cache
def _has_narrow(kind: Any) -> bool:
  """Whether an Arrow type holds numbers that `narrow` changes."""
  from pyarrow import types
  if types.is_struct(kind):
    return any(_has_narrow(field.type) for field in kind)
  if types.is_nested(kind):
    return hasattr(kind, 'value_type') and _has_narrow(kind.value_type)
  return types.is_float32(kind) or types.is_float16(kind)


def row(names: Sequence[str], columns: Sequence[Any],
        where: Callable[[], str]) -> dict[str, Any]:
  """The row of Arrow columns of one value each.

  Args:
    names: of the columns.
    columns: each with one value.
    where: gives the row's place, which a ValueError names.
  """
  out: dict[str, Any] = {}
  try:
    for name, column in zip(names, columns, strict=True):
      value, kind = column.to_pylist()[0], column.type
      out[name] = narrow(value, kind) if _has_narrow(kind) else value
  # A date may be beyond Python's range, and nesting beyond its stack.
  except (ValueError, OverflowError, RecursionError) as e:
    raise ValueError(f'{where()}: cannot be read: {e}') from None
  return out


def counted(column: Iterable[Any], whole: bool = True
            ) -> tuple[np.ndarray, int]:
  """How many values an Arrow column holds in each row, as values.held counts.

  Texts and bytes are not copied.

  Args:
    column: its Arrow scalars.
    whole: whether the structs have all of their fields; one of a struct that
      lacks some is taken to hold a value.

  Returns:
    The counts [rows], and how many values, lists and structs are null or empty.
  """
  nulls = 0

  def held(scalar: Any) -> int:
    nonlocal nulls
    if not scalar.is_valid:
      nulls += 1
      return 0
    if hasattr(scalar, 'dictionary'):
      scalar = scalar.value
    if hasattr(scalar, 'as_buffer'):
      return int(scalar.as_buffer().size > 0)
    if isinstance(scalar, Mapping):
      return int(not whole or any([held(v) for v in scalar.values()]))
    if isinstance(scalar, Sequence):
      nulls += not len(scalar)
      return sum([held(v) for v in scalar])
    return 1

  return np.array([held(scalar) for scalar in column], np.int32), nulls
