"""Names of topologies, and what is known of their devices."""

import pytest

from zppo_jax.plan import topologies


def test_a_slice_by_jax_own_table():
  slice_ = topologies.parse('v5p:4x4x4')
  assert (slice_.count, slice_.chips, slice_.platform) == (64, 64, 'tpu')
  assert slice_.usable == pytest.approx(95.73 * 2**30, abs=1)
  # JAX's table is per TensorCore; a v5p device has two.
  assert slice_.flops == pytest.approx(459e12, rel=0.01)
  assert slice_.bandwidth == pytest.approx(2.46e12, rel=0.01)


@pytest.mark.parametrize('name, count, chips', [
    ('v5e:4x4', 16, 16), ('v6e:8x8', 64, 64), ('tpu7x:2x2x1', 8, 4),
    ('v4:2x2x2', 16, 8), ('gpu:h100:8', 8, 8), ('cpu:3', 3, 1)])
def test_devices_and_what_is_paid_for(name, count, chips):
  topology = topologies.parse(name)
  assert (topology.count, topology.chips) == (count, chips)
  assert topology.usable > 0


def test_a_device_of_tpu7x_is_half_a_chip():
  device = topologies.parse('tpu7x:2x2x1')
  assert device.flops == pytest.approx(2.31e15 / 2, rel=0.01)


@pytest.mark.parametrize('name', [
    '', 'v5p', 'v5p:', 'v5p:4', 'v5p:4x4x4:2', 'v7x:2x2', 'gpu:8', 'cpu:x',
    'cpu:-1', 'v5e:4x-4'])
def test_other_names_are_refused_with_examples(name):
  with pytest.raises(ValueError, match='v5p:4x4x4, gpu:h100:8 or cpu:8'):
    topologies.parse(name)


def test_an_unknown_gpu_names_the_known_ones():
  with pytest.raises(KeyError, match='h100, h200'):
    topologies.parse('gpu:rtx:8')


def test_no_devices_are_refused():
  with pytest.raises(ValueError, match='>= 1'):
    topologies.parse('cpu:0')


def test_the_share_of_a_gpu_is_the_one_that_jax_is_told(monkeypatch):
  whole = topologies.GPUS['h100'].usable
  assert topologies.parse('gpu:h100:1').usable == int(0.75 * whole)
  monkeypatch.setenv('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.9')
  assert topologies.parse('gpu:h100:1').usable == int(0.9 * whole)
