"""Objects that users bring, named by import path: `package.module:NAME`.

`zppo` is a console script, so Python does not search the folder in which it is
called. `search` adds a folder behind all others, so that a user's `random.py`
or `datasets.py` never replaces the library of that name.
"""

import importlib
import os
import sys
from typing import Any

_SEARCHED: list[str] = []  # the folders that `search` added in this process


def search(*folders: str | os.PathLike) -> None:
  """Lets this process, and the workers that grade for it, import from folders.

  Args:
    folders: the folders in the order of the search, which tries them last.
  """
  for folder in folders:
    path = os.path.abspath(folder)
    if path not in _SEARCHED:
      _SEARCHED.append(path)
    if path not in [os.path.abspath(p) for p in sys.path]:
      sys.path.append(path)


def load(name: str, field: str) -> tuple[Any, Any]:
  """The module and the object that an import path names.

  Args:
    name: `package.module:NAME`.
    field: the field that holds the name, for errors: e.g. 'data.task'.

  Returns:
    (module, object); the object is None if the module has no such name.

  Raises:
    ValueError: for a name of another form, or if there is no such module; the
      message lists the folders that were searched. An error inside the module
      is raised unchanged.
  """
  path, _, attribute = name.partition(':')
  if not all(part.isidentifier() for part in (*path.split('.'), attribute)):
    raise ValueError(f'{field} is {name!r}; an import path has the form '
                     'package.module:NAME')
  importlib.invalidate_caches()  # the file may have been written just now
  try:
    module = importlib.import_module(path)
  except ModuleNotFoundError as e:
    if e.name != path and not path.startswith(f'{e.name}.'):
      raise  # a module is missing that the module itself imports
    raise ValueError(
        f'{field} is {name!r}, but no module {path!r} is installed or lies in '
        f'{", ".join(_SEARCHED) or os.getcwd()}') from e
  return module, getattr(module, attribute, None)
