"""The DeltaNet layers of a period: one body in a program, the same numbers."""

import functools

import jax
import numpy as np
import pytest
from jax.extend import core

from tests.long import LONG, long
from tests.models.test_qwen3_5_engines import TINY, V, compared
from zppo_jax import models
from zppo_jax.arrays import Cache
from zppo_jax.learner import layouts, packing, update
from zppo_jax.models import cache as cached, layers
from zppo_jax.objectives import losses
from zppo_jax.records import TokenSequence

pytestmark = pytest.mark.usefixtures('quick_compile')

# Two blocks of three DeltaNet layers and one of attention.
FIELDS = {**TINY, 'num_layers': 8, 'period': 4}
SHAPES = {  # of a micro-batch
    'own prompts': layouts.BatchShape(2, 1, 0, 75, 0),
    'shared prompts': layouts.BatchShape(1, 2, 70, 9, 0)}


def drawn(model):
  rng = np.random.default_rng(0)

  def one(path, leaf):
    noise = 0.3 * rng.standard_normal(leaf.shape).astype(np.float32)
    return {'scale': 1 + noise, 'embed': 2 * noise,
            'A_log': noise - 2}.get(path[-1].key, noise)
  return jax.tree_util.tree_map_with_path(
      one, jax.eval_shape(model.init, jax.random.key(0)))


def batch_of(layout):
  """Two responses of one prompt."""
  rng, shape = np.random.default_rng(1), SHAPES[layout]
  prompt = rng.integers(2, V, 66).tolist()
  rows = [packing.weighted(
      TokenSequence(prompt=prompt, response=rng.integers(2, V, n).tolist()),
      advantage=a) for n, a in ((9, 1.0), (4, -0.5))]
  if shape.prompt:
    return layouts.fill([rows], shape, 3)
  return packing.pad_rows(rows, shape.units, shape.length, num_axes=3)


def gradient_of(mesh=None, **fields):
  """(the gradient of the policy loss as a function, params)."""
  model = models.on_mesh(
      models.build('qwen3_5', **{**FIELDS, **fields}), mesh)
  return jax.grad(functools.partial(
      update.policy_loss, model=model, temperature=0.9, chunk=8,
      old_logps=update.own_old_logps, loss=functools.partial(
          losses.clipped_surrogate, clip=losses.ClipBounds())),
                  has_aux=True), drawn(model)


def count(jaxpr, name) -> int:
  """The operations of a name, those of inner jaxprs included."""
  return sum((equation.primitive.name == name) + sum(
      count(inner, name) for inner in core.jaxprs_in_params(equation.params))
             for equation in jaxpr.eqns)


def bodies(f, *args) -> int:
  """The copies of a DeltaNet layer's body that a program holds: a layer, and
  nothing else, computes one softplus."""
  return count(jax.make_jaxpr(f)(*args).jaxpr, 'log1p')


@pytest.mark.parametrize('layout, passes', [
    long('own prompts', 1), ('shared prompts', 2)])
def test_an_update_holds_one_body_per_pass(layout, passes):
  """One forward and one recomputed; without a remat, one for each layer."""
  batch = batch_of(layout)
  for remat in ('full', 'dots'):
    assert bodies(*gradient_of(remat=remat), batch) == 2 * passes
  assert bodies(*gradient_of(remat='none'), batch) == 3 * passes


@LONG
def test_the_numbers_are_those_of_layers_written_out():
  """Every gradient, and the statistics, of both passes, without states and with
  them. In float64, because in float32 any two programs differ by roundings."""
  batch = batch_of('shared prompts')
  with jax.enable_x64(True):
    run, params = gradient_of(remat='full', dtype='float64')
    written, _ = gradient_of(remat='none', dtype='float64')
    params = jax.tree.map(lambda x: x.astype(np.float64), params)
    got, want = (jax.device_get(jax.jit(f)(params, batch))
                 for f in (run, written))
  assert got[0]['blocks']['layer_0']['delta']['a'].dtype == np.float64
  compared(got, want, 1e-9)


@pytest.mark.parametrize('remat', ['none', 'full'])
def test_decoding_holds_every_layer(remat):
  """Params by block are neither stacked nor scanned, whatever the remat: a step
  copies none of them. Two steps of six DeltaNet layers."""
  model = models.build('qwen3_5', **FIELDS, remat=remat)
  token, position = np.ones((2, 1), np.int32), np.ones((2, 1, 3), np.int32)

  def steps(params):
    _, fresh = model.apply(params, token, position, token)
    cache = Cache((cached.slots(fresh, token > 0),), fresh.state)
    return model.apply(params, token, position, token, cache)

  program = jax.make_jaxpr(steps)(layers.unstack(drawn(model))).jaxpr
  assert count(program, 'log1p') == 12
  assert count(program, 'scan') == 0
