"""Compiled programs kept on disk between runs."""

import os
import pathlib

import jax


def folder() -> pathlib.Path:
  """Where they lie: JAX_COMPILATION_CACHE_DIR, else the user's cache."""
  home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return pathlib.Path(os.environ.get('JAX_COMPILATION_CACHE_DIR') or (
      pathlib.Path(home) / 'zppo_jax' / 'programs')).expanduser()


def enable() -> None:
  """Keeps every program that takes 0.3 s to compile.

  JAX_ENABLE_COMPILATION_CACHE=false turns it off,
  JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS moves the limit.
  """
  jax.config.update('jax_compilation_cache_dir', str(folder()))
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)
