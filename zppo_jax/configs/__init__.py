"""Configs by name: those of the package, a file, or a module of a user's own.

The packaged configs are the files of the top-level folder configs/ of a clone;
a wheel holds them in this folder. In both places they are modules here, so that
a config of a user's own starts from one by name:

  from zppo_jax.configs import base
  c = base.get_config()
"""

import contextlib
import difflib
import importlib
import importlib.util
import os
import pathlib
import pkgutil
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from zppo_jax import import_paths
from zppo_jax.names import trl

_HERE = pathlib.Path(__file__).parent
_CLONE = _HERE.parents[1] / 'configs'
if not (_HERE / 'base.py').is_file() and (_CLONE / 'base.py').is_file():
  __path__.append(str(_CLONE))


class Config(ConfigDict):
  """A config, or a section of one, that says in one line which field it lacks.

  A misspelt field would otherwise be a new one that nothing reads.

  Args:
    values: its fields; those of a ConfigDict keep their references.
    path: its name in the whole config, '' for the whole.
    **options: as of ConfigDict.
  """

  def __init__(self, values: Mapping | None = None, *arguments: Any,
               path: str = '', **options: Any):
    super().__init__(None, *arguments, **options)
    object.__setattr__(self, '_path', path)
    fields = {} if values is None else getattr(values, '_fields', values)
    for name, value in fields.items():
      self[name] = value

  def _lacks(self, name: Any) -> str:
    whole = lambda field: f'{self._path}.{field}' if self._path else f'{field}'
    known = sorted(map(str, self._fields))
    close = difflib.get_close_matches(str(name), known, 1)
    theirs = trl.said(str(name))
    said = (f'{theirs} (docs/from_trl.md)' if theirs else
            f'did you mean {whole(close[0])}?' if close else
            f'known: {", ".join(known) or "none"}')
    return f'the config has no field {whole(name)}; {said}'

  def __setitem__(self, key: Any, value: Any) -> None:
    if self.is_locked and key not in self._fields:
      raise AttributeError(self._lacks(key))
    if isinstance(value, (dict, ConfigDict)):
      path = f'{self._path}.{key}' if self._path else str(key)
      inner = Config(value, path=path)
      if isinstance(value, ConfigDict):
        object.__setattr__(inner, '_locked', value.is_locked)
      value = inner
    super().__setitem__(key, value)

  def _sections(self) -> Iterator['Config']:
    yield self
    for value in self._fields.values():
      if isinstance(value, Config):
        yield from value._sections()

  @contextlib.contextmanager
  def unlocked(self) -> Iterator['Config']:
    """All sections take new fields inside; open ones stay open behind it."""
    before = [(section, section.is_locked) for section in self._sections()]
    self.unlock()
    try:
      yield self
    finally:
      for section, locked in before:
        object.__setattr__(section, '_locked', locked)

  def __getattr__(self, attribute: str) -> Any:
    try:
      return self[attribute]
    except KeyError:
      raise AttributeError(self._lacks(attribute)) from None


def closed(config: ConfigDict) -> Config:
  """A config to start from: its sections take no fields but those they have.

  A section without fields is filled by whoever uses it, so it stays open.
  """
  whole = Config(config)

  for section in whole._sections():
    object.__setattr__(section, '_locked', len(section) > 0)
  return whole


def names() -> list[str]:
  """The packaged configs, in alphabetical order."""
  return sorted(m.name for m in pkgutil.iter_modules(__path__))


def is_file(name: str) -> bool:
  """Whether a name of a config means a file: it ends in .py or has a folder."""
  return name.endswith('.py') or '/' in name or os.sep in name


def _of_file(path: pathlib.Path) -> ModuleType:
  if not path.is_file():
    folder = path.parent
    known = sorted(str(p) for p in folder.glob('*.py')) if (
        folder.is_dir()) else []
    packaged = (f'. --config={path.stem} is the one of the package'
                if path.stem in names() else '')
    raise ValueError(f'no config file {str(path)!r}; known in '
                     f'{str(folder)!r}: {", ".join(known) or "none"}'
                     f'{packaged}')
  import_paths.search(path.parent, os.curdir)
  spec = importlib.util.spec_from_file_location('zppo_config', path)
  assert spec is not None and spec.loader is not None  # it is a file
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _of_module(name: str) -> ModuleType:
  if not all(part.isidentifier() for part in name.split('.')):
    raise ValueError(f'--config is {name!r}; allowed: a packaged config, a '
                     'file that ends in .py, or package.module')
  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as e:
    if e.name != name and not name.startswith(f'{e.name}.'):
      raise  # a module is missing that the config itself imports
    close = difflib.get_close_matches(name, names(), 1)
    hint = f'; did you mean {close[0]}?' if close else '.'
    raise ValueError(
        f'--config is {name!r}, which is no packaged config and no module '
        f'that is installed or lies here{hint} Packaged: '
        f'{", ".join(names())}. A file ends in .py') from e


def module(name: str) -> ModuleType:
  """The module of a config: a packaged name, a file, or `package.module`.

  A packaged name goes before a module of a user's own. Objects that the config
  names by import path may lie in its folder, or in the folder in which the
  command was called.

  Args:
    name: without an argument.

  Raises:
    ValueError: if there is no such config, with those that are known.
    Exception: whatever the code of a user's own raises.
  """
  if is_file(name):
    return _of_file(pathlib.Path(name))
  import_paths.search(os.curdir)
  importlib.invalidate_caches()  # the file may have been written just now
  if name in names():
    return importlib.import_module(f'{__name__}.{name}')
  return _of_module(name)


def load(text: str) -> Any:
  """The config of `NAME[:ARGUMENT]`, where NAME is as in `module`.

  The argument goes to `get_config`, e.g. the slice of `pod_9b:v5p:4x4x4`.

  Raises:
    ValueError: as `module`; for a module without get_config(), or for one that
      takes no argument, or wants one.
    Exception: whatever the code of a user's own raises.
  """
  name, _, argument = text.partition(':')
  of = module(name)
  if not hasattr(of, 'get_config'):
    raise ValueError(f'{of.__file__ or name} defines no get_config()')
  return of.get_config(*([argument] if argument else []))


def _restore(into: Any, values: Mapping[str, Any]) -> None:
  for name, value in values.items():
    if isinstance(value, Mapping) and value and name in into and hasattr(
        into[name], 'keys'):
      _restore(into[name], value)
    else:  # JSON has no tuples
      into[name] = tuple(value) if isinstance(value, list) else value


def of_values(values: Mapping[str, Any]) -> Any:
  """The config of a run from the JSON values that the run stored.

  A field that an earlier version did not store has that of configs/base.py.
  Objects that the config names by import path may lie in the current folder.

  Raises:
    ValueError: for a run of supervised training.
  """
  if values.get('method') == 'sft':
    raise ValueError('a run of `zppo sft` asks no questions; name a config of '
                     '`zppo train` with your task by --config')
  config = module('base').get_config()  # it searches the current folder
  with config.unlocked(), config.ignore_type():
    _restore(config, values)
  return config
