"""The cores of a CPU as devices of the mesh.

The sharding of a config runs on them as it does on accelerators. Where it was
measured, one device that uses all cores is faster (docs/performance.md).
"""

import math
import os

import jax

from zppo_jax.devices import sharding

_THREADS = 4  # threads per device in XLA's pool


def ensure(config: sharding.MeshConfig, processes: int = 1) -> int:
  """Makes as many CPU devices as the mesh has; call it before JAX starts.

  Args:
    config: the mesh.
    processes: the number of processes that share the devices of the mesh.

  The number of accelerators is not changed. If there is a device for every
  core, each device runs on one thread. XLA's pool gets more threads than there
  are devices, because a device that waits for the others in a collective holds
  its thread, and a pool without free threads ends the process.

  It does nothing for a mesh of one device, or if XLA_FLAGS or
  JAX_NUM_CPU_DEVICES set the number of devices.

  Returns:
    The number of devices made; 0 if none were made.

  Raises:
    RuntimeError: if JAX has started with another number of CPU devices.
    ValueError: for a mesh whose devices the processes do not share evenly.
  """
  count = math.prod(config.shape)
  if count % processes:
    raise ValueError(
        f'mesh {"x".join(map(str, config.shape))} (data x fsdp x tensor) has '
        f'{count} devices, which {processes} processes do not share evenly')
  flags = os.environ.get('XLA_FLAGS', '')
  if (count <= 1 or 'xla_force_host_platform_device_count' in flags
      or 'JAX_NUM_CPU_DEVICES' in os.environ):
    return 0
  # Processes of one machine share its cores, so all devices count below.
  cores = len(os.sched_getaffinity(0)) if hasattr(
      os, 'sched_getaffinity') else os.cpu_count() or 1
  jax.config.update('jax_num_cpu_devices', count // processes)
  os.environ.setdefault('NPROC', str(max(cores, _THREADS * count)))
  if count >= cores and 'xla_cpu_multi_thread_eigen' not in flags:
    os.environ['XLA_FLAGS'] = f'{flags} --xla_cpu_multi_thread_eigen=false'
  return count // processes
