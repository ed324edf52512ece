"""Freed memory stays in the process, and only where that is asked for."""

import os
import platform
import resource
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != 'glibc', reason='malloc is not glibc\'s')

FAULTS = '''
import resource, sys
import numpy as np
from zppo_jax import heap
told = heap.keep() if sys.argv[1] == 'keep' else None
def touch():
  for _ in range(20):
    np.ones(2**22)  # 32 MiB
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
'''


def run(mode, **env):
  out = subprocess.run(
      [sys.executable, '-c', FAULTS, mode], check=True, capture_output=True,
      text=True, env={**os.environ, 'JAX_PLATFORMS': 'cpu', **env}).stdout
  told, faults = out.split()
  return told, int(faults)


def test_memory_that_was_touched_is_not_asked_for_again():
  """20 arrays of 32 MiB: page faults without it, next to none with it."""
  pages = 2**25 // resource.getpagesize()
  _, without = run('leave')
  told, kept = run('keep')
  assert told == 'True'
  # Huge pages would hide the faults; then there is nothing to hold.
  if without > pages:
    assert kept < without / 20


def test_the_users_own_settings_stay():
  told, _ = run('keep', GLIBC_TUNABLES='glibc.malloc.arena_max=2')
  assert told == 'False'


def test_release_hands_back_what_is_free():
  """256 MiB that were touched and freed, between blocks that live on."""
  code = '''
import resource
import numpy as np
from zppo_jax import heap
heap.keep()
def resident():
  with open('/proc/self/statm') as f:
    return int(f.read().split()[1]) * resource.getpagesize() >> 20
blocks = [np.ones(2**22) for _ in range(8)]
after = np.ones(2**22)
before = resident()
del blocks
kept = resident()
heap.release()
print(before - kept, kept - resident())
'''
  if not os.path.exists('/proc/self/statm'):
    pytest.skip('no /proc')
  out = subprocess.run(
      [sys.executable, '-c', code], check=True, capture_output=True, text=True,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'}).stdout
  held, handed = map(int, out.split())
  assert held < 32 and handed > 200
