"""Compiled programs kept on disk between runs, and what a plan has compiled."""

import os
import pathlib
import re
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

OFF = 'JAX_ENABLE_COMPILATION_CACHE'
# A program with the hash of its key, and when it was read last; or a plan's.
_OURS = re.compile(r'.+-[0-9a-f]{64}-(cache|atime)|[0-9a-f]{32}\.json')


def home() -> pathlib.Path:
  """The user's cache of zppo_jax: XDG_CACHE_HOME, else ~/.cache."""
  of_user = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return (pathlib.Path(of_user) / 'zppo_jax').expanduser()


def folder() -> pathlib.Path:
  """Where programs are kept: JAX_COMPILATION_CACHE_DIR, else the user's cache,
  a folder for each version of jaxlib, because none reads another's programs."""
  named = os.environ.get('JAX_COMPILATION_CACHE_DIR')
  return pathlib.Path(named).expanduser() if named else (
      home() / 'programs' / f'jaxlib-{metadata.version("jaxlib")}')


def plans() -> pathlib.Path:
  """Where plans keep what the compiler has said of their programs."""
  named = os.environ.get('JAX_COMPILATION_CACHE_DIR')
  return (folder() if named else home() / 'programs').with_name('plans')


def enable() -> None:
  """Keeps every program, because a run has few and reading one is faster than
  compiling it, however small it is.

  JAX_ENABLE_COMPILATION_CACHE=false turns this off, and
  JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS keeps those alone that take longer.
  """
  import jax  # which `zppo cache` does not need
  jax.config.update('jax_compilation_cache_dir', str(folder()))
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


class Kept(NamedTuple):
  """What a folder of the cache holds.

  Attributes:
    path: the folder.
    entries: the number of programs, or of plans' programs.
    bytes: of all its files.
  """
  path: pathlib.Path
  entries: int
  bytes: int


def _files(path: pathlib.Path) -> list[pathlib.Path]:
  """Our files in a folder of the cache: programs, when each was read last, and
  plans. Another program may keep others beside them where a user named the
  folder."""
  return sorted(f for f in path.iterdir() if f.is_file() and _OURS.fullmatch(
      f.name))


def folders() -> Iterator[pathlib.Path]:
  """The folders of the cache that exist, those of other versions too."""
  programs = home() / 'programs'
  old = [programs, *(programs.iterdir() if programs.is_dir() else ())]
  for path in dict.fromkeys([folder(), plans(), *sorted(old)]):
    if path.is_dir():
      yield path


def kept() -> list[Kept]:
  """What each folder of the cache holds; empty ones are left out."""
  out = []
  for path in folders():
    files = _files(path)
    if files:
      out.append(Kept(
          path, sum(not f.name.endswith('-atime') for f in files),
          sum(f.stat().st_size for f in files)))
  return out


def clear() -> list[Kept]:
  """Removes what `kept` returns, and returns it."""
  there = kept()
  for of in there:
    for file in _files(of.path):
      file.unlink(missing_ok=True)
  return there


def text(cleared: bool) -> str:
  """Place, size and entries of each folder of the cache.

  Args:
    cleared: whether they are removed, and the text says so.
  """
  there = clear() if cleared else kept()
  lines = [f'{of.path}: {of.entries} entries, {of.bytes / 2**20:.1f} MiB'
           for of in there] or ['no compiled programs are kept']
  if cleared and there:
    lines.append('removed')
  where = folder()
  off = os.environ.get(OFF, '').lower() in ('0', 'false')
  return '\n'.join([
      *lines, f'runs keep none, because {OFF} is off' if off else
      f'runs keep theirs in {where}; JAX_COMPILATION_CACHE_DIR names another '
      f'folder, {OFF}=false keeps none'])
