"""A check that a prepared TFDS folder names no code.

features.json names the class of each feature, and tensorflow-datasets imports
the module of a class that it does not know yet. Only its own classes are
allowed, because other people write the folders.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

OWN = 'tensorflow_datasets.core.features.'
_NAMES = ('type', 'pythonClassName', 'python_class_name')


def _classes(value: Any) -> Iterator[str]:
  """Yields the names of all classes in a JSON value and in the JSON in it."""
  waiting = [value]
  while waiting:
    value = waiting.pop()
    if isinstance(value, list):
      waiting += value
    elif isinstance(value, dict):
      for key, inner in value.items():
        if key in _NAMES and isinstance(inner, str):
          yield inner
        elif key == 'json' and isinstance(inner, str):
          waiting.append(json.loads(inner))
        else:
          waiting.append(inner)


def check(folder: pathlib.Path) -> None:
  """Refuses a folder whose features have classes other than TFDS's own.

  Args:
    folder: of a prepared builder.

  Raises:
    ValueError: naming the file and the class, or if the file is no JSON.
  """
  path = folder / 'features.json'
  if not path.is_file():
    return  # tensorflow-datasets raises an error about the missing file
  try:
    names = list(_classes(json.loads(path.read_text())))
  except (ValueError, RecursionError) as e:
    raise ValueError(f'{path} is no JSON: {e}') from None
  for name in names:
    if not name.startswith(OWN):
      raise ValueError(
          f'{path}: a feature is of the class {name[:80]!r}; allowed: classes '
          f'of {OWN.rstrip(".")}. A data folder may name no code of its own')
