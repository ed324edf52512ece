"""The limit of a machine, for one device and for several."""

import types

import numpy as np

from tests.long import LONG
from zppo_jax.bench import roofline


def test_the_best_of_what_was_tried():
  found = roofline.measure('float32', (64, 128), 1 << 16)
  assert found['flops'] == max(found['by_size'].values()) > 0
  assert found['bytes'] == max(found['by_access'].values()) > 0
  assert set(found['by_access']) == {'read', 'triad'}


def mesh_of(platform, size):
  device = types.SimpleNamespace(platform=platform)
  return types.SimpleNamespace(size=size, devices=np.array([device], object))


def test_several_devices(monkeypatch):
  """Accelerators add up; a CPU's devices are parts of one."""
  one = {'flops': 3.0, 'bytes': 5.0, 'by_size': {}}
  monkeypatch.setattr(roofline, 'measure', lambda dtype: one)
  monkeypatch.setattr(roofline, 'apart', lambda dtype: 'apart')
  assert roofline.of_mesh('float32', mesh_of('gpu', 1)) == one
  assert roofline.of_mesh('float32', mesh_of('cpu', 2)) == 'apart'
  four = roofline.of_mesh('float32', mesh_of('gpu', 4))
  assert (four['flops'], four['bytes'], four['devices']) == (12, 20, 4)


@LONG
def test_apart_is_measured():
  """In another process, as one device."""
  found = roofline.apart('float32')
  assert found['dtype'] == 'float32' and found['flops'] > 1e9
