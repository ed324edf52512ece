"""The cores of a CPU as devices of the mesh.

A config's sharding runs on them as on accelerators. One device that uses all
cores is the faster one where that was measured (docs/performance.md).
"""

import math
import os

import jax

from zppo_jax.devices import sharding

_THREADS = 4  # of XLA's pool, for a device


def ensure(config: sharding.MeshConfig) -> int:
  """Makes as many CPU devices as the mesh has; before JAX starts.

  Accelerators are as many as they are. With a device for every core, each
  runs on one thread. XLA's pool gets more threads than there are devices: one
  that waits for the others in a collective holds its thread, and a pool of
  held threads ends the process.

  Does nothing for a mesh of one device, and where XLA_FLAGS or
  JAX_NUM_CPU_DEVICES say how many there are.

  Returns:
    The devices made; 0 if none were.

  Raises:
    RuntimeError: if JAX has started and has other CPU devices.
  """
  count = math.prod(config.shape)
  flags = os.environ.get('XLA_FLAGS', '')
  if (count <= 1 or 'xla_force_host_platform_device_count' in flags
      or 'JAX_NUM_CPU_DEVICES' in os.environ):
    return 0
  cores = len(os.sched_getaffinity(0)) if hasattr(
      os, 'sched_getaffinity') else os.cpu_count() or 1
  jax.config.update('jax_num_cpu_devices', count)
  os.environ.setdefault('NPROC', str(max(cores, _THREADS * count)))
  if count >= cores and 'xla_cpu_multi_thread_eigen' not in flags:
    os.environ['XLA_FLAGS'] = f'{flags} --xla_cpu_multi_thread_eigen=false'
  return count
