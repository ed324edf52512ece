"""Objects that users bring, named by import path: `package.module:NAME`.

`zppo` is a console script, so Python does not search the folder in which it is
called. `search` adds a folder behind all others, so that a user's `random.py`
or `datasets.py` never replaces the library of that name.

Import paths of earlier versions of this package are refused with the new path
(`moved`), wherever they are imported.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

_PACKAGE = __name__.rpartition('.')[0]
_SEARCHED: list[str] = []  # the folders that `search` added in this process

# Modules that moved into a folder under their own name: folder -> names.
_ENTERED = {
    'algorithms': 'compression methods reformulate replay zppo',
    'chat': 'images',
    'commands': 'convert dry_run pretrain sample',
    'devices': 'compile_cache cpu_devices sharding',
    'learner': 'layouts optimizers packing scoring update',
    'objectives': 'advantages losses',
    'report': 'compare',
    'rollout': 'engine quantize',
    'runs': 'checkpoints console metrics samples workdir writers',
    'train': 'build checks evaluate step',
    'verdicts': 'grading',
    'weights': 'gguf_file hub_folder pretrained',
}
# Modules whose name changed: old path -> new path, inside this package.
_RENAMED = {
    'arms': 'study.tables',
    'correction': 'objectives.importance',
    'fit': 'data.prompt_lengths',
    'heap': 'devices.malloc',
    'history': 'runs.totals',
    'hub': 'weights.hub_checkpoint',
    'judging': 'endpoints.judge',
    'kernels': 'train.shapes.attention_kernels',
    'logprobs': 'objectives.token_logps',
    'measure': 'commands.evaluate',
    'openai_client': 'endpoints.client',
    'pools': 'rollout.programs',
    'ranking': 'objectives.top_logps',
    'rollouts': 'rollout.collect',
    'sampling': 'rollout.decode',
    'data.source': 'data.loader',
    'data.suite_rows': 'data.suites',
    'data.tfds_features': 'data.readers.tfds_features',
    'data.tfds_reader': 'data.readers.tfds_reader',
    'train.attention_kernels': 'train.shapes.attention_kernels',
    'models.hub_leaf': 'weights.hub_leaf',
    'models.hub_text': 'weights.hub_text',
    'models.hub_vision': 'weights.hub_vision',
    'models.llama': 'models.decoder',
    'models.presets': 'weights.presets',
    'models.qwen3': 'models.decoder',
    'models.qwen3_5_hub': 'weights.hub_qwen3_5',
    'serve.asked': 'serve.requests',
    'serve.told': 'serve.responses',
    'verdicts.boxed': 'verdicts.kinds.boxed',
    'verdicts.forms': 'verdicts.kinds.forms',
    'verdicts.gym': 'verdicts.kinds.gym',
    'verdicts.maths': 'verdicts.kinds.maths',
    'verdicts.numerals': 'verdicts.kinds.numerals',
    'verdicts.plain': 'verdicts.kinds.plain',
    'verdicts.screen': 'verdicts.kinds.prefilter',
    'verdicts.spelling': 'verdicts.kinds.spelling',
    'verdicts.units': 'verdicts.kinds.units',
    'verdicts.wall': 'verdicts.sandbox',
}
MODULES = _RENAMED | {name: f'{folder}.{name}'
                      for folder, names in _ENTERED.items()
                      for name in names.split()}
# Objects that left the module from which users import records.
NAMES = {
    'data.pool': {name: f'data.sources:{name}' for name in (
        'NO_GOLD NO_PICTURE NO_QUESTION PLACES REPEATED Spec ascii_name '
        'read_spec roots why_not').split()},
    'records': {
        'Asked': 'records:CallStats', 'Cache': 'arrays:Cache',
        'Cadence': 'train.run:Every',
        'CompressionFailure': 'algorithms.compression:CompressionFailure',
        'Every': 'train.run:Every', 'Fresh': 'arrays:NewKV',
        'HubSource': 'weights.hub_leaf:HubSource',
        'HubTensor': 'weights.hub_leaf:HubTensor', 'Media': 'arrays:Media',
        'MicroBatch': 'arrays:MicroBatch', 'PromptBatch': 'arrays:PromptBatch',
        'Samples': 'arrays:Samples', 'Seen': 'records:ProcessedMedia',
        'Slots': 'arrays:Slots', 'TrainState': 'arrays:TrainState',
    },
}


def moved(name: str) -> str:
  """The import path that took the place of an earlier one, '' if none did.

  Args:
    name: of a module, or of an object as in 'zppo_jax.records:Asked'.
  """
  path, _, attribute = name.partition(':')
  if not path.startswith(f'{_PACKAGE}.'):
    return ''
  inside = path.removeprefix(f'{_PACKAGE}.')
  if inside in MODULES:
    return f'{_PACKAGE}.{MODULES[inside]}'
  new = NAMES.get(inside, {}).get(attribute)
  return f'{_PACKAGE}.{new}' if new else ''


class _MovedModules:
  """A finder that refuses the modules of earlier versions by their new path.

  Python asks it last, so it never hides a module that exists.
  """

  @staticmethod
  def find_spec(fullname: str, path: Sequence[str] | None = None,
                target: ModuleType | None = None) -> None:
    del path, target
    if new := moved(fullname):
      raise ModuleNotFoundError(f'{fullname} is now {new}', name=fullname)


def refuse_moved_modules() -> None:
  """Lets the import of a module of an earlier version name the new path."""
  if _MovedModules not in sys.meta_path:
    sys.meta_path.append(_MovedModules)


def refuse_moved_names(module: str) -> None:
  """Lets the import of an object that left a module name the new path.

  Args:
    module: the `__name__` of the module, which calls this function. It gets a
      `__getattr__` at run time, because type checkers would accept any name of
      a module that defines one.
  """

  def refuse(attribute: str) -> NoReturn:
    if new := moved(f'{module}:{attribute}'):
      raise ImportError(f'{module}.{attribute} is now '
                        f'{new.replace(":", ".")}', name=module)
    raise AttributeError(f'module {module!r} has no attribute {attribute!r}')

  vars(sys.modules[module])['__getattr__'] = refuse


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


def _place(function: Any) -> str:
  """'NAME(ARGUMENTS) in FILE:LINE' of a function, as far as Python knows it."""
  name = getattr(function, '__qualname__', type(function).__name__)
  code = getattr(inspect.unwrap(function), '__code__', None)
  where = f' in {code.co_filename}:{code.co_firstlineno}' if code else ''
  return f'{name}{inspect.signature(function)}{where}'


def check_call(what: str, function: Any, *arguments: str,
               **named: Any) -> None:
  """Refuses a function that cannot be called as the package will call it.

  Args:
    what: what the function is, for the error: e.g. 'Grader.parse'.
    function: of the user; one that Python cannot look into is accepted.
    *arguments: the names of what it is called with, in their order.
    **named: what it is called with by name.

  Raises:
    ValueError: naming the function, its file and line, and the arguments.
  """
  if not callable(function):
    raise ValueError(f'{what} is of type {type(function).__name__}; allowed: a '
                     f'function of ({", ".join(arguments)})')
  try:
    signature = inspect.signature(function)
  except (TypeError, ValueError):
    return
  try:
    signature.bind(*arguments, **named)
  except TypeError as e:
    wanted = ', '.join((*arguments, *(f'{name}=' for name in named)))
    raise ValueError(f'{what} is {_place(function)}, which cannot be called '
                     f'with ({wanted}): {e}') from None


def load(name: str, field: str) -> tuple[Any, Any]:
  """The module and the object that an import path names.

  Args:
    name: `package.module:NAME`.
    field: the field that holds the name, for errors: e.g. 'data.task'.

  Returns:
    (module, object); the object is None if the module has no such name.

  Raises:
    ValueError: for a name of another form or of an earlier version, or if there
      is no such module; then the message lists the folders that were searched.
      An error inside the module is raised unchanged.
  """
  path, _, attribute = name.partition(':')
  if not all(part.isidentifier() for part in (*path.split('.'), attribute)):
    raise ValueError(f'{field} is {name!r}; an import path has the form '
                     'package.module:NAME')
  if new := moved(name):
    raise ValueError(f'{field} is {name!r}; that is now {new!r}')
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
