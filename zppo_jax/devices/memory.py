"""Bytes and parameters of trees of arrays, and their text form."""

import os

import jax
import numpy as np


def count(tree) -> int:
  """The number of parameters in a tree of arrays or shapes."""
  return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


def device_bytes(tree) -> int:
  """Bytes of a tree on one device; leaves without a sharding count whole."""
  def one(x):
    shape = x.shape if getattr(x, 'sharding', None) is None else (
        x.sharding.shard_shape(x.shape))
    return int(np.prod(shape)) * x.dtype.itemsize
  return sum(map(one, jax.tree.leaves(tree)))


def of_machine() -> int:
  """Bytes of the memory of this machine."""
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def size(count: float) -> str:
  """A number of bytes as text, with a unit of 1024."""
  for unit in ('B', 'KiB', 'MiB', 'GiB'):
    if count < 1024 or unit == 'GiB':
      return f'{count:.0f} B' if unit == 'B' else f'{count:.1f} {unit}'
    count /= 1024
  raise AssertionError('unreachable')
