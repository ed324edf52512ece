"""What this machine does at best: matmul rate and memory bandwidth, measured.

A share of the roofline means something only against a number of the same run.
"""

import functools
import statistics
import time

import jax
import jax.numpy as jnp

MATMUL_SIZES = (512, 1024, 2048)
ARRAY_BYTES = 64 << 20  # of one array: beyond the caches of a CPU
REPEATS = 5


def _best_seconds(f, *args, repeats: int) -> float:
  jax.block_until_ready(f(*args))
  found = []
  for _ in range(repeats):
    begun = time.perf_counter()
    jax.block_until_ready(f(*args))
    found.append(time.perf_counter() - begun)
  return min(found)


def matmul_rate(dtype: str, sizes=MATMUL_SIZES, repeats: int = REPEATS):
  """{size: best FLOP/s} of square matmuls."""
  def chain(a, b):
    return jax.lax.dot(a, b, preferred_element_type=a.dtype)
  out = {}
  for n in sizes:
    a = jax.random.normal(jax.random.key(0), (n, n), jnp.float32).astype(dtype)
    out[n] = 2 * n**3 / _best_seconds(jax.jit(chain), a, a, repeats=repeats)
  return out


def bandwidth(size: int = ARRAY_BYTES, repeats: int = REPEATS) -> dict:
  """Best bytes/s by what is done.

  Returns:
    read: a sum; what decoding mostly does, with weights and caches.
    triad: a + s * b -> c, two arrays read and one written. On a CPU far less:
      new pages are cleared and lines are read before they are written.
  """
  n = size // 4
  a = jnp.ones(n, jnp.float32)
  b = a + 1
  best = functools.partial(_best_seconds, repeats=repeats)
  return {'read': 4 * n / best(jax.jit(jnp.sum), a),
          'triad': 3 * 4 * n / best(jax.jit(lambda a, b: a + 3.0 * b), a, b)}


@functools.cache
def measure(dtype: str, sizes=MATMUL_SIZES, size: int = ARRAY_BYTES) -> dict:
  """The limit of this machine now.

  Returns:
    flops: best matmul FLOP/s; by_size; bytes: best bytes/s; by_access; dtype.
  """
  rates, speeds = matmul_rate(dtype, sizes), bandwidth(size)
  return {'dtype': dtype, 'flops': max(rates.values()),
          'by_size': {str(n): r for n, r in rates.items()},
          'bytes': max(speeds.values()), 'by_access': speeds}


def spread(seconds) -> dict:
  """Median, extremes and all of a list of seconds."""
  seconds = list(seconds)
  return {'median_s': statistics.median(seconds), 'min_s': min(seconds),
          'max_s': max(seconds), 'seconds': seconds}
