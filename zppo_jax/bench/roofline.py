"""What this machine does at best: matmul rate and memory bandwidth, measured.

A share of the roofline means something only against a number of the same run.
"""

import functools
import statistics
import time

import jax
import jax.numpy as jnp

MATMUL_SIZES = (512, 1024, 2048)
TRIAD_BYTES = 64 << 20  # of one of three arrays: beyond the caches of a CPU
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


def bandwidth(size: int = TRIAD_BYTES, repeats: int = REPEATS) -> float:
  """Bytes/s of a triad, a + s * b -> c: two arrays read and one written."""
  n = size // 4
  a = jnp.ones(n, jnp.float32)
  f = jax.jit(lambda a, b: a + 3.0 * b)
  return 3 * 4 * n / _best_seconds(f, a, a + 1, repeats=repeats)


@functools.cache
def measure(dtype: str, sizes=MATMUL_SIZES, size: int = TRIAD_BYTES) -> dict:
  """The limit of this machine now.

  Returns:
    flops: best matmul FLOP/s; by_size; bytes: triad bytes/s; dtype.
  """
  rates = matmul_rate(dtype, sizes)
  return {'dtype': dtype, 'flops': max(rates.values()),
          'by_size': {str(n): r for n, r in rates.items()},
          'bytes': bandwidth(size)}


def spread(seconds) -> dict:
  """Median, extremes and all of a list of seconds."""
  seconds = list(seconds)
  return {'median_s': statistics.median(seconds), 'min_s': min(seconds),
          'max_s': max(seconds), 'seconds': seconds}
