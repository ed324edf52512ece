"""Keeps freed memory in the process on Linux CPUs.

A program of XLA on a CPU takes its large temporaries from malloc on every
call. glibc maps those anew each time and hands them back, so that the kernel
clears the pages again and again (docs/performance.md).
"""

import ctypes
import os
import platform

import jax

# glibc's mallopt parameters (malloc.h)
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_WHOLE_HEAP = 2**31 - 1  # bytes, the largest int


def keep() -> bool:
  """From here on malloc grows one heap and returns nothing to the system.

  Does nothing on accelerators, without glibc, or where GLIBC_TUNABLES says how
  malloc is to behave.

  Returns:
    Whether malloc was told so.
  """
  if (jax.default_backend() != 'cpu' or platform.libc_ver()[0] != 'glibc'
      or 'GLIBC_TUNABLES' in os.environ):
    return False
  mallopt = ctypes.CDLL(None).mallopt
  return all([mallopt(_ARENA_MAX, 1), mallopt(_MMAP_MAX, 0),
              mallopt(_TRIM_THRESHOLD, _WHOLE_HEAP)])


def release() -> None:
  """Hands back to the system what is free now, whatever `keep` said."""
  if platform.libc_ver()[0] == 'glibc':
    ctypes.CDLL(None).malloc_trim(0)
