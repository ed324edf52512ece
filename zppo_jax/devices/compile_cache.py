"""Compiled programs kept on disk between runs."""

import os
import pathlib

import jax


def folder() -> pathlib.Path:
  """Where they are kept: JAX_COMPILATION_CACHE_DIR, else the user's cache."""
  home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return pathlib.Path(os.environ.get('JAX_COMPILATION_CACHE_DIR') or (
      pathlib.Path(home) / 'zppo_jax' / 'programs')).expanduser()


def enable() -> None:
  """Keeps every program that takes at least 0.3 s to compile.

  JAX_ENABLE_COMPILATION_CACHE=false turns this off, and
  JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS changes the 0.3 s.
  """
  jax.config.update('jax_compilation_cache_dir', str(folder()))
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)
