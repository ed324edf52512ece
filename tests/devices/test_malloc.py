"""Freed memory stays in the process, and only where that is asked for."""

import os
import platform
import resource
import subprocess
import sys

import pytest

from tests.long import long

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != 'glibc', reason='malloc is not glibc\'s')

BEGIN = '''
import resource, sys
import numpy as np
from zppo_jax.devices import malloc
told = malloc.keep() if sys.argv[1] == 'keep' else None
'''
ARRAYS = '''
def touch():
  for _ in range(20):
    np.ones(2**22)  # 32 MiB
'''
PROGRAM = '''
import jax, jax.numpy as jnp
gradient = jax.jit(jax.grad(lambda x: jnp.sin(jnp.tanh(x @ x.T) @ x).sum()))
x = jnp.ones((2048, 512))  # x @ x.T: 16 MiB
def touch():
  for _ in range(20):
    jax.block_until_ready(gradient(x))
'''
END = '''
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(str(told).replace(' ', ''), faults)
'''


def run(mode, work=ARRAYS, **env):
  out = subprocess.run(
      [sys.executable, '-c', BEGIN + work + END, mode], check=True,
      capture_output=True, text=True,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu', **env}).stdout
  told, faults = out.split()
  return told, int(faults)


@pytest.mark.parametrize(('work', 'size'), [(ARRAYS, 2**25),
                                            long(PROGRAM, 2**24)])
def test_memory_that_was_touched_is_not_asked_for_again(work, size):
  """20 times so many bytes, by numpy or for the temporaries of a program on
  whatever thread: page faults without it, next to none with it."""
  pages = size // resource.getpagesize()
  _, without = run('leave', work)
  told, kept = run('keep', work)
  assert told == 'True'
  # Huge pages would hide the faults; then there is nothing to hold.
  if without > pages:
    assert kept < without / 20


@pytest.mark.parametrize('said', [
    dict(GLIBC_TUNABLES='glibc.malloc.arena_max=2'),
    dict(JAX_CPU_ENABLE_ASYNC_DISPATCH='1')])
def test_the_users_own_settings_stay(said):
  """Also of dispatch: it is told in the child after `keep`."""
  work = ARRAYS + '''
import jax
told = told, jax.config.read('jax_cpu_enable_async_dispatch')
'''
  told, _ = run('keep', work, **said)
  assert told == '(False,True)'


def test_release_hands_back_what_is_free():
  """256 MiB that were touched and freed, between blocks that live on."""
  code = '''
import resource
import numpy as np
from zppo_jax.devices import malloc
malloc.keep()
def resident():
  with open('/proc/self/statm') as f:
    return int(f.read().split()[1]) * resource.getpagesize() >> 20
blocks = [np.ones(2**22) for _ in range(8)]
after = np.ones(2**22)
before = resident()
del blocks
kept = resident()
malloc.release()
print(before - kept, kept - resident())
'''
  if not os.path.exists('/proc/self/statm'):
    pytest.skip('no /proc')
  out = subprocess.run(
      [sys.executable, '-c', code], check=True, capture_output=True, text=True,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'}).stdout
  held, handed = map(int, out.split())
  assert held < 32 and handed > 200
