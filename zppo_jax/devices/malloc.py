"""CPU programs run on the calling thread, and the process keeps freed memory.

An XLA program on a CPU takes its large temporaries from malloc on every call.
By default glibc maps them anew and unmaps them each time, so that the kernel
clears the pages again and again (docs/performance.md).
"""

import ctypes
import os
import platform

import jax

# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_WHOLE_HEAP = 2**31 - 1  # bytes; the largest int


def keep() -> bool:
  """Makes the process keep freed memory and run programs on the calling thread.

  Call it before JAX starts; if it is called later, programs still run on JAX's
  threads. Every thread but the main one has a heap of its own, which is made of
  small pieces and returns memory to the system even if malloc is set to keep
  it. Only programs of a single CPU device run on the calling thread. Programs
  of several CPU devices have threads of their own, and these threads share one
  heap. Programs of accelerators are dispatched as before.

  It does nothing if the environment sets how malloc or JAX's dispatch behaves
  (GLIBC_TUNABLES, JAX_CPU_ENABLE_ASYNC_DISPATCH). It leaves malloc unchanged on
  accelerators and without glibc.

  Returns:
    Whether malloc accepted the settings.
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
  """Hands all free memory back to the system now, even after `keep`."""
  if platform.libc_ver()[0] == 'glibc':
    ctypes.CDLL(None).malloc_trim(0)
