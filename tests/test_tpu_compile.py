"""Programs and meshes for TPUs, ahead of time, on a machine without one."""

import dataclasses
import functools
import math
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zppo_jax import models
from zppo_jax.devices import sharding
from zppo_jax.learner import layouts, optimizers, packing, states, update
from zppo_jax.models import attention, layers
from zppo_jax.objectives import losses
from zppo_jax.rollout import drawing, weight_sync
from zppo_jax.rollout.programs import Programs, Shapes
from zppo_jax.weights import families, presets

pytest.importorskip('libtpu', reason='needs the package libtpu')
KERNEL = 'tpu_custom_call'
T = 256
# Heads of Qwen3.5-0.8B, fewer of everything else.
FIELDS = dict(
    vocab_size=512, width=256, num_layers=4, num_heads=8, num_kv_heads=2,
    head_dim=256, mlp_width=512, max_positions=1024, delta_key_heads=4,
    delta_value_heads=4, delta_key_dim=128, delta_value_dim=128,
    dtype='bfloat16', remat='full')


@pytest.fixture(scope='module')
def tpu_mesh():
  """(topology, **axes) -> Mesh of eight TPU chips that are not here."""
  os.environ['TPU_SKIP_MDS_QUERY'] = '1'
  from jax.experimental import topologies
  def make(topology, num_slices=1, **axes):
    more = {} if num_slices == 1 else {'num_slices': num_slices}
    devices = topologies.get_topology_desc(
        platform='tpu', topology_name=topology, **more).devices
    return sharding.make_mesh(sharding.MeshConfig(**axes), devices)
  return make


@pytest.mark.parametrize('topology, axes', [
    ('v5e:4x4', dict(fsdp=16)), ('v5e:4x4', dict(data=2, fsdp=2, tensor=4)),
    ('v5p:4x4x4', dict(fsdp=16, tensor=4)), ('v6e:8x8', dict(fsdp=8, tensor=8))
])
def test_neighbours_are_neighbours(tpu_mesh, topology, axes):
  """Along the innermost axis of more than one device, each chip has a link to
  the next, over the edge of a torus too; in the order of ids it has none."""
  mesh = tpu_mesh(topology, **axes)
  assert dict(mesh.shape) == {'data': 1, 'fsdp': 1, 'tensor': 1, **axes}
  last = mesh.shape['tensor'] if mesh.shape['tensor'] > 1 else (
      mesh.shape['fsdp'])
  lines = mesh.devices.reshape(-1, last)
  size = np.max([d.coords for d in mesh.devices.flat], axis=0) + 1
  for line in lines:
    for a, b in zip(line, line[1:], strict=False):
      apart = np.abs(np.subtract(a.coords, b.coords))
      assert np.minimum(apart, size - apart).sum() == 1


def test_slices_lie_along_data(tpu_mesh):
  """A coordinate of data is one slice; any other number of slices is refused.
  """
  mesh = tpu_mesh('v5e:4x4', num_slices=2, data=2, fsdp=16, slices=2)
  assert [{d.slice_index for d in mesh.devices[i].flat}
          for i in range(2)] == [{0}, {1}]
  with pytest.raises(ValueError, match='mesh.slices is 1; .* in 2 slice'):
    tpu_mesh('v5e:4x4', num_slices=2, data=2, fsdp=16)


@pytest.mark.long
@pytest.mark.tpu
@pytest.mark.parametrize('weights', ['same', 'int8'])
@pytest.mark.parametrize('size, topology, fsdp', [
    ('0.8B', 'v5e:4x4', 16), ('9B', 'v5p:4x4x4', 64)])
def test_resharding_needs_one_copy(tpu_mesh, size, topology, fsdp, weights):
  """And a fifth at most, whatever leaf is under way."""
  hub = presets.PRESETS[f'Qwen3.5-{size}'].config
  family = families.FAMILIES[hub['model_type']]
  mesh = tpu_mesh(topology, fsdp=fsdp)
  model = family.build(dataclasses.replace(
      family.from_hub(hub), dtype='bfloat16'), mesh)
  reshard = weight_sync.compile_reshard(model, mesh, weights)
  peak, copy = reshard.peak_bytes()
  assert peak <= 1.2 * copy
  programs = reshard.lowered()
  assert len(programs) < len(reshard.leaves) / 2
  hlo = programs['embed'].compile().as_text()
  # The compiler may move four bytes as one word, so bytes count and not types.
  width = {'bf16': 2, 's8': 1, 'u32': 4, 'f32': 4}
  big = re.findall(r'= \(?(\w+)\[([\d,]{8,})\]\S* all-(?:gather|reduce)', hlo)
  moved = sum(width[kind] * math.prod(map(int, dims.split(',')))
              for kind, dims in big)
  embed = math.prod(jax.eval_shape(
      model.init, jax.random.key(0))['embed'].shape)
  assert moved <= {'same': 2, 'int8': 1}[weights] * embed


def checked(lowered):
  """HLO of a program that reports its memory and cost."""
  compiled = lowered.compile()
  assert compiled.memory_analysis().temp_size_in_bytes > 0
  assert compiled.cost_analysis()['flops'] > 0
  return compiled.as_text()


@pytest.mark.long
@pytest.mark.tpu
@pytest.mark.parametrize('topology', ['v5e:2x4', 'v5p:2x2x2', 'v6e:2x4'])
@pytest.mark.parametrize('head_dim', [64, 128, 256])
def test_splash(topology, head_dim, tpu_mesh):
  """Forward, and two backward kernels: on a mesh, with segments and grouped
  queries."""
  mesh = tpu_mesh(topology, data=2, fsdp=2, tensor=2)
  rows = jax.P(sharding.BATCH_AXES)
  heads = jax.P(sharding.BATCH_AXES, None, 'tensor')
  like = lambda shape, dtype, spec: jax.ShapeDtypeStruct(
      shape, dtype, sharding=jax.NamedSharding(mesh, spec))
  x = lambda n: like((8, T, n, head_dim), jnp.bfloat16, heads)

  def loss(q, k, v, segment):
    return attention.among(q, k, v, segment, asked='splash', mesh=mesh).sum()

  hlo = checked(jax.jit(jax.grad(loss, (0, 1, 2))).lower(
      x(8), x(2), x(2), like((8, T), jnp.int32, rows)))
  assert hlo.count(KERNEL) == 3


def abstract(tree, shardings):
  return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=s), tree, shardings)


# The targets of negative_log_likelihood.
WEIGHT = {'advantage': np.zeros(0, np.float32)}


@pytest.mark.long
@pytest.mark.tpu
def test_a_micro_batch_and_rollouts(tpu_mesh):
  """Qwen3.5 on v5e:2x4: gradients and prefill through splash, decoding without
  it."""
  mesh = tpu_mesh('v5e:2x4', data=2, fsdp=2, tensor=2)
  model = models.on_mesh(models.build('qwen3_5', **FIELDS), mesh)
  tx = optimizers.adamw(optimizers.AdamWConfig())
  shardings = states.state_shardings(model, tx, mesh)
  step = update.compile_update(
      loss_fn=functools.partial(
          update.policy_loss, model=model, temperature=1.0, chunk=64,
          loss=losses.negative_log_likelihood),
      tx=tx, mesh=mesh, shardings=shardings).keywords
  params = states.abstract_state(model, tx, shardings).params
  grads = step['zeros_fn'].eval_shape(params)
  batch = packing.pad_rows([], 8, T, 0, model.num_axes, WEIGHT)
  hlo = checked(step['accumulate_fn'].lower(grads, params, batch))
  # Forward, recomputed, and two backward kernels of the one attention layer.
  assert hlo.count(KERNEL) == 4
  batch = layouts.fill([], layouts.BatchShape(4, 2, T, T, 0), model.num_axes,
                       WEIGHT)
  hlo = checked(step['accumulate_fn'].lower(grads, params, batch))
  # The same of the prompts, and of the responses behind them.
  assert hlo.count(KERNEL) == 8

  params = jax.eval_shape(layers.unstack, params)
  params = abstract(params, sharding.param_shardings(
      params, mesh, sharding.ROLLOUT_RULES))
  programs = Programs(model, mesh, Shapes(
      slots=(8,), samples_per_prompt=(1,), prompt_lengths=(T,),
      response_lengths=(T,), patches=(),
      prefill_sizes=(8,)))
  lowered = programs.largest(params)
  assert checked(lowered['prefill']).count(KERNEL) == 1
  assert KERNEL not in checked(lowered['decode chunk'])


def test_no_whole_cache_is_written_back(tpu_mesh):
  """A decoding step brings the keys of all responses to the chip, where they
  have room, and writes one token of them alone."""
  mesh = tpu_mesh('v5e:2x4', fsdp=8)
  model = models.on_mesh(models.build('qwen3_5', **FIELDS | {
      'max_positions': 16384}), mesh)
  params = jax.eval_shape(layers.unstack, jax.eval_shape(
      model.init, jax.random.key(0)))
  params = abstract(params, sharding.param_shardings(
      params, mesh, sharding.ROLLOUT_RULES))
  programs = Programs(model, mesh, Shapes(
      slots=(64,), samples_per_prompt=(1,), prompt_lengths=(T,),
      response_lengths=(12288,), patches=(), prefill_sizes=(8,)))
  hlo = checked(programs.lower_decode(params, programs.shapes.largest,
                                      drawing.DRAW))
  cache = r'bf16\[8,2,(?:256,12288|12288,256)\]\{[^}]*\}'
  assert re.search(cache, hlo)
  moved = re.findall(rf'= \(({cache}), ({cache}), \S+ copy-start', hlo)
  assert not [to for to, _ in moved if 'S(' not in to]
