"""zppo_jax: post-training of small models with the teacher in the prompt.

  import zppo_jax

  config = zppo_jax.load_config('micro')
  config.steps = 50
  run = zppo_jax.train(config, 'runs/a')
  print(run.summary['eval'], run.report)

docs/python.md describes `load_config`, `train` and `evaluate`.
"""

import importlib
import types
from typing import TYPE_CHECKING, Any

from zppo_jax import import_paths

__version__ = '0.1.0'
__all__ = ['evaluate', 'load_config', 'train']

import_paths.refuse_moved_modules()


def _call(name: str, *args: Any, **options: Any) -> Any:
  # By name, because everything below imports this package, and because JAX is
  # only needed, and slow to import, when something is called.
  calls = importlib.import_module('zppo_jax.commands.calls')
  return getattr(calls, name)(*args, **options)


def load_config(name: str) -> Any:
  """A config to change and to train by (commands/calls/)."""
  return _call('load_config', name)


def evaluate(*args: Any, **options: Any) -> Any:
  """Answers questions with a checkpoint, as `zppo eval` does
  (commands/calls/)."""
  return _call('evaluate', *args, **options)


class _Train(types.ModuleType):
  """The package zppo_jax.train, which is a function, too: the command's name is
  that of the folder, and an attribute can be only one of them."""

  def __call__(self, *args: Any, **options: Any) -> Any:
    """Trains by a config, as `zppo train` does (commands/calls/)."""
    return _call('train', *args, **options)


if TYPE_CHECKING:
  def train(*args: Any, **options: Any) -> Any:
    """Trains by a config, as `zppo train` does (commands/calls/)."""
else:
  importlib.import_module('zppo_jax.train').__class__ = _Train
