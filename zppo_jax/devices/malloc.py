"""CPU programs run on the thread that calls them; freed memory stays.

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
  """From here on the process keeps what it frees, and programs of one CPU
  device run on the thread that calls them.

  Call it before JAX starts; later, programs run on threads of JAX as ever.
  Every thread but the main one has a heap of its own, of small pieces, that
  hands memory back whatever malloc is told. Programs of several CPU devices
  have threads of their own, which get one heap. Those of accelerators are
  dispatched as ever.

  Does nothing where the environment says how malloc or JAX's dispatch is to
  behave (GLIBC_TUNABLES, JAX_CPU_ENABLE_ASYNC_DISPATCH); malloc is left alone
  on accelerators and without glibc.

  Returns:
    Whether malloc was told so.
  """
  if ('GLIBC_TUNABLES' in os.environ
      or 'JAX_CPU_ENABLE_ASYNC_DISPATCH' in os.environ):
    return False
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  if jax.default_backend() != 'cpu' or platform.libc_ver()[0] != 'glibc':
    return False
  mallopt = ctypes.CDLL(None).mallopt
  if jax.local_device_count() > 1:
    mallopt(_ARENA_MAX, 1)
  return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, _WHOLE_HEAP)])


def release() -> None:
  """Hands back to the system what is free now, whatever `keep` said."""
  if platform.libc_ver()[0] == 'glibc':
    ctypes.CDLL(None).malloc_trim(0)
