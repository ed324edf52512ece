"""The best that this machine does: matmul rate and memory bandwidth, measured.

A share of the roofline only makes sense against a limit from the same run.
"""

import functools
import json
import os
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp

MATMUL_SIZES = (512, 1024, 2048)
ARRAY_BYTES = 64 << 20  # bytes of one array; more than the caches of a CPU
REPEATS = 5


def _best_seconds(f, *args, repeats: int) -> float:
  jax.block_until_ready(f(*args))
  seconds = []
  for _ in range(repeats):
    begun = time.perf_counter()
    jax.block_until_ready(f(*args))
    seconds.append(time.perf_counter() - begun)
  return min(seconds)


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
  """The best bytes/s by kind of access.

  Returns:
    read: a sum over an array. Decoding mostly reads, weights and caches.
    triad: a + s * b -> c, which reads two arrays and writes one. It is far
      slower on a CPU, because new pages are cleared and lines are read before
      they are written.
  """
  n = size // 4
  a = jnp.ones(n, jnp.float32)
  b = a + 1
  best = functools.partial(_best_seconds, repeats=repeats)
  return {'read': 4 * n / best(jax.jit(jnp.sum), a),
          'triad': 3 * 4 * n / best(jax.jit(lambda a, b: a + 3.0 * b), a, b)}


@functools.cache
def measure(dtype: str, sizes=MATMUL_SIZES, size: int = ARRAY_BYTES) -> dict:
  """The limits of this machine now.

  Returns:
    flops: best matmul FLOP/s; by_size; bytes: best bytes/s; by_access; dtype.
  """
  rates, speeds = matmul_rate(dtype, sizes), bandwidth(size)
  return {'dtype': dtype, 'flops': max(rates.values()),
          'by_size': {str(n): r for n, r in rates.items()},
          'bytes': max(speeds.values()), 'by_access': speeds}


def apart(dtype: str) -> dict:
  """`measure` in a process of its own, with all cores as one device, because
  one of several CPU devices of this process would measure its own limit."""
  code = ('import json; from zppo_jax.bench import roofline; '
          f'print(json.dumps(roofline.measure({dtype!r})))')
  flags = ('XLA_FLAGS', 'NPROC', 'JAX_NUM_CPU_DEVICES')
  return json.loads(subprocess.run(
      [sys.executable, '-c', code], check=True, stdout=subprocess.PIPE,
      text=True, env={k: v for k, v in os.environ.items()
                      if k not in flags}).stdout)


def of_mesh(dtype: str, mesh) -> dict:
  """`measure` for all devices of a mesh together."""
  if mesh.size == 1:
    return measure(dtype)
  if mesh.devices.flat[0].platform == 'cpu':
    return apart(dtype)
  one = measure(dtype)
  return {**one, 'flops': one['flops'] * mesh.size,
          'bytes': one['bytes'] * mesh.size, 'devices': mesh.size}


def spread(seconds) -> dict:
  """The median, the extremes and all of a list of seconds."""
  seconds = list(seconds)
  return {'median_s': statistics.median(seconds), 'min_s': min(seconds),
          'max_s': max(seconds), 'seconds': seconds}
