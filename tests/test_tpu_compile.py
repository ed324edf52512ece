"""Programs compiled for TPUs ahead of time, on a machine without one."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zppo_jax import models
from zppo_jax.devices import sharding
from zppo_jax.learner import layouts, optimizers, packing, states, update
from zppo_jax.models import attention, layers
from zppo_jax.objectives import losses
from zppo_jax.rollout.programs import Programs, Shapes

pytest.importorskip('libtpu', reason='needs the package libtpu')
pytestmark = pytest.mark.slow

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
  def make(topology, **axes):
    devices = topologies.get_topology_desc(
        platform='tpu', topology_name=topology).devices
    return sharding.make_mesh(sharding.MeshConfig(**axes), devices)
  return make


def checked(lowered):
  """HLO of a program that reports its memory and cost."""
  compiled = lowered.compile()
  assert compiled.memory_analysis().temp_size_in_bytes > 0
  assert compiled.cost_analysis()['flops'] > 0
  return compiled.as_text()


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
