"""`zppo cache`: what is kept of compiled programs, and its removal."""

import os

from zppo_jax.devices import compile_cache


def text(clear: bool) -> str:
  """Place, size and entries of each folder of the cache.

  Args:
    clear: whether they are removed, and the text says so.
  """
  there = compile_cache.clear() if clear else compile_cache.kept()
  lines = [f'{of.path}: {of.entries} entries, {of.bytes / 2**20:.1f} MiB'
           for of in there] or ['no compiled programs are kept']
  if clear and there:
    lines.append('removed')
  where = compile_cache.folder()
  off = os.environ.get(compile_cache.OFF, '').lower() in ('0', 'false')
  return '\n'.join([
      *lines, f'runs keep none, because {compile_cache.OFF} is off' if off else
      f'runs keep theirs in {where}; JAX_COMPILATION_CACHE_DIR names another '
      f'folder, {compile_cache.OFF}=false keeps none'])
