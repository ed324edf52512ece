"""What a fast plan says, beside the whole compilation for a TPU."""

import functools
import pathlib
import runpy

import jax
import numpy as np
import pytest

from benchmarks import pod_plans
from zppo_jax import models
from zppo_jax.devices import sharding
from zppo_jax.learner import optimizers, packing, states, update
from zppo_jax.objectives import losses
from zppo_jax.plan import abstract, compiling, programs, topologies
from zppo_jax.rollout import drawing, weight_sync
from zppo_jax.rollout.programs import Programs, Shapes

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
FIELDS = dict(
    vocab_size=2048, width=256, num_layers=2, num_heads=4, num_kv_heads=2,
    head_dim=128, mlp_width=1024, max_positions=2048, dtype='bfloat16',
    remat='full')


def test_the_least_memory_is_found_without_code():
  """A limit below the least is refused, because the buffers exceed it."""
  pytest.importorskip('libtpu', reason='needs the package libtpu')
  slice_ = topologies.parse('v5e:2x2')
  topologies.prepare(slice_)
  mesh = sharding.make_mesh(sharding.MeshConfig(fsdp=4),
                            topologies.devices(slice_))
  model = models.on_mesh(models.build('qwen3', **FIELDS), mesh)
  tx = optimizers.adamw(optimizers.AdamWConfig())
  shardings = states.state_shardings(model, tx, mesh)
  step = update.compile_update(
      loss_fn=functools.partial(
          update.policy_loss, model=model, temperature=1.0, chunk=256,
          loss=losses.negative_log_likelihood),
      tx=tx, mesh=mesh, shardings=shardings).keywords
  params = states.abstract_state(model, tx, shardings).params
  batch = packing.pad_rows([], 16, 1024, 0, model.num_axes,
                           {'advantage': np.zeros(0, np.float32)})
  lowered = step['accumulate_fn'].lower(
      step['zeros_fn'].eval_shape(params), params, batch)
  of = functools.partial(compiling.of_tpu, lowered, slice_)
  least = of(None)
  assert least.code is None and not least.refusal
  assert 'all-gather' in least.collectives
  refused = of(least.memory // 2)
  assert 'Ran out of memory' in refused.refusal
  assert refused.memory > least.memory // 2


ROWS = [(size, slice_) for size in ('0_8b', '2b', '4b', '9b')
        for slice_ in runpy.run_path(str(CONFIGS / f'pod_{size}.py'))['SLICES']]


@pytest.mark.parametrize('size, slice_', ROWS)
def test_configs_of_pods_have_the_devices_of_their_slices(size, slice_):
  """And the recipe of Table 8, under which the longest row fits."""
  c = runpy.run_path(str(CONFIGS / f'pod_{size}.py'))['get_config'](slice_)
  topology = topologies.parse(slice_)
  assert abstract.fitted(c, topology)[1] == {}
  a, s = c.algorithm, c.shapes
  assert (a.num_new, a.rollouts, a.teacher_rollouts) == (384, 8, 4)
  assert (a.max_tokens, a.teacher_max_tokens) == (12288, 12288)
  assert s.prompt_buckets == (4096, 8704) and s.micro_tokens >= 20992
  assert c.teacher.weights == 'Qwen3.5-27B'
  assert 24 % c.teacher.mesh.tensor == 0


def test_each_size_names_a_slice_of_each_kind():
  for size in ('0_8b', '2b', '4b', '9b'):
    kinds = [slice_.split(':')[0] for name, slice_ in ROWS if name == size]
    assert sorted(kinds) == ['tpu7x', 'v5e', 'v5p', 'v6e']
  named = {(row.config, row.slice_) for row in pod_plans.ROWS.values()}
  assert {(f'pod_{size}.py:{slice_}', slice_)
          for size, slice_ in ROWS} <= named


def test_an_unknown_slice_names_the_known_ones():
  with pytest.raises(KeyError, match='v5e:4x4, v6e:4x4'):
    runpy.run_path(str(CONFIGS / 'pod_0_8b.py'))['get_config']('v9')


@pytest.mark.long
@pytest.mark.tpu
@pytest.mark.parametrize('size', ['0_8b', '2b', '4b', '9b'])
def test_what_stands_fits_and_the_update_is_planned(size):
  """The first slice of each config: its largest program finds a schedule."""
  pytest.importorskip('libtpu', reason='needs the package libtpu')
  get_config = runpy.run_path(str(CONFIGS / f'pod_{size}.py'))['get_config']
  slice_ = next(name for which, name in ROWS if which == size)
  topology = topologies.parse(slice_)
  topologies.prepare(topology)
  from zppo_jax.plan import planning
  c = get_config(slice_)
  run = abstract.run_of(c, topology)
  entry, = planning.entries(c, topology, run, True, ['update'])
  assert entry.analysis is not None and entry.peak.fits
  assert jax.tree.leaves(run.abstract_state.params)[0].sharding is not None
  assert programs.standing(run)['teacher copy'] > 2**30


def test_the_table_of_plans():
  """Two plans and one that could not be made."""
  plan = {
      'phases': {'update': {'peak': 3 * 2**30, 'usable': 2 * 2**30,
                            'program': 'update', 'fits': False}},
      'programs': [{'name': 'update', 'buffers': 2**30, 'compiled': True}],
      'mesh': {'data': 1, 'fsdp': 16, 'tensor': 1}, 'fits': False,
      'topology': {'chips': 16},
      'step': {'seconds': 3600.0, 'tokens_per_second': 1234.5}}
  fits = {**plan, 'fits': True}
  text = pod_plans.table({'plans': {
      '0.8B v5e:4x4': plan, '2B v5e:4x8': fits, '4B v5e:8x8': {
          'error': 'zppo plan: no'}}})
  lines = text.splitlines()
  assert 'no: 1.0 GiB too much in update, by update' in lines[2]
  assert '| 1x16x1 | yes |' in lines[3] and '| 3,200 |' in lines[3]
  assert 'not planned: zppo plan: no' in lines[4]


@pytest.mark.long
@pytest.mark.tpu
@pytest.mark.parametrize('what', ['prefill', 'decode'])
def test_programs_of_few_blocks_tell_of_all(what):
  """Two and three blocks, extended to six, beside six."""
  pytest.importorskip('libtpu', reason='needs the package libtpu')
  slice_ = topologies.parse('v5e:2x2')
  topologies.prepare(slice_)
  mesh = sharding.make_mesh(sharding.MeshConfig(fsdp=2, tensor=2),
                            topologies.devices(slice_))

  @functools.cache
  def least(blocks):
    model = abstract.shortened(models.on_mesh(models.build(
        'qwen3', **{**FIELDS, 'num_layers': 6}), mesh), blocks)
    model = models.on_mesh(model, mesh)
    engine = Programs(model, mesh, Shapes(
        slots=(16,), samples_per_prompt=(1,), prompt_lengths=(512,),
        response_lengths=(512,), patches=(), prefill_sizes=(16,)))
    params = weight_sync.place_copy(
        jax.eval_shape(model.init, jax.random.key(0)), model, mesh)
    assert sum(name.startswith(programs.BLOCK) for name in params) == blocks
    lowered = engine.lower_prefill(params, 16, 512, 0) if (
        what == 'prefill') else engine.lower_decode(
            params, engine.shapes.largest, drawing.DRAW)
    return compiling.of_tpu(lowered, slice_, None)

  found = compiling.extended(least(2), least(3), 3)
  assert found.memory == pytest.approx(least(6).memory, rel=0.02)
  assert found.collectives.keys() == least(6).collectives.keys()
  for kind, of in least(6).collectives.items():
    assert found.collectives[kind]['moved'] == pytest.approx(of['moved'],
                                                             rel=0.05)
