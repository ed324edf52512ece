"""One jitted function for equal functions: what a process has compiled for a
run serves its next run, and a teacher of the student's shape.

`jax.jit` compares functions by `==`, and two partials are never equal, so each
run would trace and compile all its programs anew. Here a function is what it is
made of: a partial of the same function with equal arguments is the same
function. What has no value to compare, such as an array, is never shared.
"""

import collections
import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Hashable
from typing import Any

import jax

# Settings of JAX that change what the compiler makes and that no cache of JAX's
# own knows of: a function that was jitted under others is another one.
SETTINGS = ('jax_disable_most_optimizations', 'jax_optimization_level',
            'jax_exec_time_optimization_effort', 'jax_memory_fitting_level',
            'jax_memory_fitting_effort')
# Jitted functions that stay, those used last. Each of their programs has
# several memory maps, and Linux allows a process 65,530.
KEPT = 128

_jitted: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
_lock = threading.Lock()


def value_of(x: Any) -> Hashable:
  """What two equal arguments of programs have in common.

  Partials, dataclasses, mappings and sequences count by what they hold, numbers
  by type and value, and everything else by its own `==`.

  Raises:
    TypeError: if something in `x` has no hash, such as an array.
  """
  if isinstance(x, functools.partial):
    parts = (x.func, x.args, x.keywords)
  elif dataclasses.is_dataclass(x) and not isinstance(x, type):
    parts = tuple(getattr(x, f.name) for f in dataclasses.fields(x))
  elif isinstance(x, dict):
    return dict, frozenset((value_of(k), value_of(v)) for k, v in x.items())
  elif isinstance(x, (tuple, list)):
    parts = tuple(x)
  else:
    hash(x)
    return type(x), x
  return type(x), tuple(map(value_of, parts))


def settings() -> dict[str, Any]:
  """The values of those of SETTINGS that this version of JAX has."""
  found = {}
  for name in SETTINGS:
    with contextlib.suppress(AttributeError):  # JAX 0.12 has no efforts
      # A setting without a context manager is no attribute.
      found[name] = (getattr(jax.config, name) if hasattr(jax.config, name)
                     else jax.config.read(name))
  return found


def shared_jit(fn: Callable, *, of: Any = None, **options: Any):
  """`jax.jit(fn, **options)`, the same one for equal functions and options
  under equal SETTINGS.

  Args:
    fn: a function of which `value_of` can tell whether it is another's equal;
      otherwise nobody shares what is returned.
    of: what stands for `fn`, if fn is made anew each time.
    options: those of `jax.jit`; shardings are compared leaf by leaf.
  """
  # jit keeps one cache for equal functions, whatever their options are.
  make = lambda: jax.jit(functools.partial(fn), **options)
  try:
    key = value_of((fn if of is None else of, options, settings()))
  except TypeError:
    return make()
  with _lock:
    if key not in _jitted:
      _jitted[key] = make()
    _jitted.move_to_end(key)
    while len(_jitted) > KEPT:
      _jitted.popitem(last=False)
    return _jitted[key]


def forget() -> None:
  """Nothing that was jitted before is shared from now on."""
  with _lock:
    _jitted.clear()
