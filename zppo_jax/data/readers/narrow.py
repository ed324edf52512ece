"""Arrow's values as Python's, whose narrow numbers keep their decimals."""

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
