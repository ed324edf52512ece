"""A CPU has as many devices as the mesh asks for, unless told otherwise."""

import os
import subprocess
import sys

import pytest

COUNT = '''
import os, sys
import jax
from zppo_jax.devices import cpu_devices, sharding
made = cpu_devices.ensure(sharding.MeshConfig(*map(int, sys.argv[1:])))
mesh = sharding.make_mesh(sharding.MeshConfig(data=jax.device_count()))
x = jax.device_put(jax.numpy.arange(12.), sharding.batch_sharding(mesh))
assert float(jax.jit(jax.numpy.sum)(x)) == 66
print(made, jax.device_count(), os.environ.get('NPROC'))
'''


def run(*shape, **env):
  env = {k: v for k, v in os.environ.items()
         if k not in ('XLA_FLAGS', 'NPROC', 'JAX_NUM_CPU_DEVICES')} | env
  return subprocess.run(
      [sys.executable, '-c', COUNT, *map(str, shape)], check=True,
      capture_output=True, text=True,
      env={**env, 'JAX_PLATFORMS': 'cpu'}).stdout.split()


def test_devices_of_the_mesh_and_threads_for_them():
  made, count, threads = run(2, 3, 1)
  assert (made, count) == ('6', '6') and int(threads) >= 24


@pytest.mark.parametrize('shape, env, want', [
    ((1, 1, 1), {}, ['0', '1', 'None']),
    ((2, 1, 1), {'NPROC': '9'}, ['2', '2', '9']),
    ((2, 1, 1), {'JAX_NUM_CPU_DEVICES': '3'}, ['0', '3', 'None']),
    ((2, 1, 1), {'XLA_FLAGS': '--xla_force_host_platform_device_count=4'},
     ['0', '4', 'None']),
])
def test_what_the_user_set_stays(shape, env, want):
  assert run(*shape, **env) == want


def test_too_late_is_an_error():
  late = COUNT.replace('made =', 'jax.devices()\nmade =')
  done = subprocess.run([sys.executable, '-c', late, '2', '1', '1'],
                        capture_output=True, text=True,
                        env={**{k: v for k, v in os.environ.items()
                                if k != 'XLA_FLAGS'}, 'JAX_PLATFORMS': 'cpu'})
  assert done.returncode and 'RuntimeError' in done.stderr
