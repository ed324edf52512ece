"""Seconds of phases, worked by hand."""

import pytest

from zppo_jax.bench import counting
from zppo_jax.learner import layouts
from zppo_jax.plan import roofline, topologies
from zppo_jax.plan.roofline import Machine
from zppo_jax.plan.workload import Assumptions, Load

V5E = topologies.Topology('v5e:2x2', 'tpu', 'v5e', 4, 4, 2**34, 200e12, 800e9,
                          100e9)
HALF = Assumptions(mfu=0.5, bandwidth=0.25, link=0.1)


def test_a_machine_is_its_peaks_times_the_assumed_shares():
  machine = Machine.of(V5E, HALF)
  assert (machine.flops, machine.bandwidth, machine.link) == (
      400e12, 200e9, 10e9)


@pytest.mark.parametrize('of, seconds, limit', [
    (dict(flops=800e12, bytes=100e9, moved=1e9), 2.0, 'compute'),
    (dict(flops=400e12, bytes=600e9, moved=1e9), 3.0, 'memory bandwidth'),
    (dict(flops=400e12, bytes=100e9, moved=50e9), 5.0, 'links'),
    # Behind a decoding step, collectives run beside nothing.
    (dict(flops=400e12, bytes=600e9, moved=50e9, apart=True), 8.0, 'links')])
def test_work_takes_as_long_as_what_is_slowest(of, seconds, limit):
  work = Machine.of(V5E, HALF).work(**of)
  assert (work.seconds, work.limit) == (pytest.approx(seconds), limit)


def test_without_peaks_there_are_no_seconds():
  cpu = V5E._replace(flops=0.0, bandwidth=0.0, link=0.0)
  work = Machine.of(cpu, HALF).work(flops=1e12, bytes=1e9)
  assert (work.flops, work.seconds, work.limit) == (1e12, 0.0, '')


COUNTED = counting.Counted(
    layers=counting.Layers(1, 0), token_flops=10, head_flops=100, pair_flops=2,
    delta_flops=0, params=5, read_params=5, kv_token=1, state_row=0, conv_row=0)


def test_flops_of_micro_batches():
  """Two rows of 3 tokens: 6 tokens and their logits, and 2 x 6 pairs."""
  rows = layouts.BatchShape(units=2, rows=1, prompt=0, length=3, patches=0)
  assert roofline.micro_batch_flops(COUNTED, rows) == 6 * 110 + 2 * 6 * 2
  # One prompt of 4 tokens (10 pairs) without logits, and two rows of 3 behind
  # it: each token sees the prompt, so 3 x 4 + 6 pairs a row.
  shared = layouts.BatchShape(units=1, rows=2, prompt=4, length=3, patches=0)
  assert roofline.micro_batch_flops(COUNTED, shared) == (
      4 * 10 + 10 * 2 + 6 * 110 + 2 * 18 * 2)


def test_an_update_is_three_passes_and_moves_per_micro_batch():
  shape = layouts.BatchShape(units=2, rows=1, prompt=0, length=3, patches=0)
  load = Load(student=(), teacher={}, scores={}, batches={shape: 7}, updates=4,
              evaluation=None)
  machine = Machine.of(V5E, HALF)
  work = roofline.trained(load, COUNTED, machine, counting.TRAIN, None)
  assert work.flops == 3 * 7 * (6 * 110 + 24)
  stepped = roofline.optimized(
      load, {'parameters': 10, 'moments': 6, 'gradient': 10}, machine, None)
  assert stepped.bytes == 4 * (2 * 16 + 10)
