"""The list of a program's operations: what counts, and to which place."""

import json
import pathlib

import pytest

from benchmarks import operations
from zppo_jax.plan import topologies

# A step of a loop as the compiler of TPUs writes it: a matrix that lies in the
# chip's memory, a cache that is updated in place, a prefetch, a row of a table.
LOOP = pathlib.Path(__file__).with_name('operations.hlo').read_text()


@pytest.fixture(scope='module')
def found():
  return {o.source: o for o in operations.of_program(LOOP)}


def test_products_count_as_often_as_the_loop_runs(found):
  """Layers of equal kind are one place, and so is what is brought for them."""
  mlp = found['blocks/mlp/dot_general']
  assert mlp.flops == 3 * 2 * (2 * 8 * 256 * 64) and mlp.cycles == 3 * 120
  assert found['attention/dot_general'].flops == 3 * 2 * (2 * 4 * 32) * 16


def test_bytes_are_those_of_the_chips_memory(found):
  """What lies in VMEM costs none; a matrix that is brought there costs once."""
  assert found['blocks/mlp/dot_general'].bytes == 3 * 2 * (256 * 64 * 2)
  assert found['attention/dot_general'].bytes == 3 * (2 * 16 * 32 * 2)


def test_a_part_of_an_array_is_a_part(found):
  """A cache updated in place, and a row of a table."""
  assert found['dynamic_update_slice'].bytes == 3 * 2 * (8 * 2)
  assert found['embed/gather'].bytes == 3 * (64 * 4)


def test_the_least_time_is_the_longer_of_two(found):
  v5e = topologies.parse('v5e:4x4')
  mlp = found['blocks/mlp/dot_general']
  assert mlp.least(v5e) == mlp.bytes / v5e.bandwidth > mlp.flops / v5e.flops
  assert operations.longest(found.values(), v5e)[0] is mlp


@pytest.mark.parametrize('path, place', [
    ('jit(f)/while/body/closed_call/checkpoint/layer_3/attention/exp',
     'layer/attention/exp'),
    ('jit(f)/transpose(jvp(g))/while/body/layer_12/dot_general',
     'backward g/layer/dot_general'),
    ('jit(f)/jvp(g)/rematted_computation/norm/mul', 'recomputed g/norm/mul')])
def test_places_have_no_loops_and_no_numbers(path, place):
  assert operations.source(path) == place


def test_the_committed_tables_are_of_whole_programs():
  record = json.loads((operations.ROOT / 'benchmarks' / 'results' /
                       'operations.json').read_text())
  for one in record['records']:
    assert not one['git_revision'].endswith('-dirty')
    for program in one['programs'].values():
      assert program['least_s'] == pytest.approx(
          sum(o['least_s'] for o in program['operations']))
