"""A micro-batch's loss and gradient on meshes of eight simulated devices."""

import functools
import math

import jax
import numpy as np
import pytest

from benchmarks import random_models
from tests.long import LONG, long
from zppo_jax import models
from zppo_jax.devices import sharding
from zppo_jax.learner import layouts, states, update
from zppo_jax.learner.optimizers import AdamWConfig, adamw
from zppo_jax.objectives import losses
from zppo_jax.plan import hlo
from zppo_jax.records import (
  Group,
  Prompt,
  PromptKind,
  PromptMedia,
  Question,
  Rollout,
  StopReason,
  Verdict,
)

pytestmark = pytest.mark.usefixtures('quick_compile')

TOWER = random_models.TOWER
# Merged patches, and the tokens around them.
PICTURE = (random_models.START, random_models.IMAGE, random_models.IMAGE,
           random_models.END)


def media_of(rng, length: int) -> PromptMedia:
  """Two merged patches of a prompt that begins with PICTURE."""
  num = 2 * TOWER['merge']**2
  corners = rng.integers(0, TOWER['num_positions'], (num, 4))
  values = TOWER['channels'] * TOWER['temporal_patch'] * TOWER['patch_size']**2
  return PromptMedia(
      positions_TA=np.stack([np.arange(length, dtype=np.int32)] * 3, axis=1),
      next_position=length,
      patches_IC=rng.standard_normal((num, values)).astype(np.float32),
      rotary_I2=rng.integers(0, 4, (num, 2)).astype(np.int32),
      segment_I=np.ones(num, np.int32), corners_I4=corners.astype(np.int32),
      weights_I4=np.full((num, 4), 0.25, np.float32))


def groups_of(num: int, sees: bool) -> list[Group]:
  """Groups of two rollouts of uneven lengths."""
  rng = np.random.default_rng(0)
  draw = lambda n: tuple(rng.integers(2, 40, n).tolist())
  out = []
  for p in range(num):
    tokens = (PICTURE if sees else ()) + draw(1 + p % 4)
    prompt = Prompt(Question(str(p), '', '', ''), PromptKind.PLAIN, tokens,
                    media=media_of(rng, len(tokens)) if sees else None)
    out.append(Group(prompt, tuple(
        Rollout(draw(n), (-1.0,) * n, '', StopReason.END, Verdict.WRONG, '')
        for n in (1 + p % 5, 7))))
  return out


@functools.cache
def batch_of(kind: str, sees: bool, num_axes: int):
  """One micro-batch of eight groups."""
  groups = groups_of(8, sees)
  rng = np.random.default_rng(1)
  targets = {(p, g): {'advantage': rng.standard_normal(
      len(r.tokens)).astype(np.float32)}
             for p, group in enumerate(groups)
             for g, r in enumerate(group.rollouts)}
  [batch] = layouts.micro_batches(groups, targets, layouts.Layout(
      kind=kind, max_tokens=48 * 8, multiple=8, rollouts=2, row_buckets=(16,),
      prompt_buckets=(8,), response_buckets=(8,),
      patch_buckets=(8,) if sees else (), num_axes=num_axes))
  return batch


def gradient(model, params, batch, mesh, compiled=False):
  """(gradient, loss sum) of a micro-batch, by the program of the update."""
  tx = adamw(AdamWConfig())
  shardings = states.state_shardings(model, tx, mesh)
  programs = update.compile_update(
      loss_fn=functools.partial(
          update.policy_loss, model=models.on_mesh(model, mesh),
          temperature=0.9, chunk=5, loss=losses.negative_log_likelihood),
      tx=tx, mesh=mesh, shardings=shardings).keywords
  params = jax.device_put(params, shardings.params)
  arguments = (programs['zeros_fn'](params), params,
               sharding.put_batch(mesh, batch))
  if compiled:
    return programs['accumulate_fn'].lower(*arguments).compile()
  grads, sums = programs['accumulate_fn'](*arguments)
  return jax.tree.map(np.asarray, grads), float(sums.loss)


@functools.cache
def reference(family: str, kind: str, sees: bool, dtype: str):
  """(model, params, batch, what one device says of it)."""
  model, params = random_models.build(family, dtype=dtype)
  params = jax.tree.map(lambda x: np.asarray(x, dtype), params)
  batch = batch_of(kind, sees, model.num_axes)
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
  return model, params, batch, gradient(model, params, batch, mesh)


def apart(trees) -> float:
  """The largest difference of two trees over the largest number of the
  second."""
  x, y = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
          for tree in trees)
  return np.abs(x - y).max() / np.abs(y).max()


@pytest.mark.parametrize('family, kind, sees, shape', [
    ('qwen3', 'shared', False, (2, 2, 2)),
    long('llama', 'packed', False, (1, 8, 1)),
    long('qwen3_5', 'shared', True, (2, 2, 2)),
    long('qwen3_5', 'padded', False, (1, 8, 1)),
    long('qwen3_vl', 'shared', True, (2, 4, 1)),
])
def test_a_mesh_changes_no_gradient(family, kind, sees, shape, make_mesh):
  """In float64, because float32 sums in another order differ by up to 1e-5 in
  small leaves of a recurrent model."""
  with jax.enable_x64(True):
    model, params, batch, (expected, loss) = reference(
        family, kind, sees, 'float64')
    grads, got = gradient(model, params, batch, make_mesh(*shape))
  np.testing.assert_allclose(got, loss, rtol=1e-6)  # it is summed in float32
  for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(grads),
                          jax.tree.leaves(expected), strict=True):
    assert np.abs(y).max() > 0 or not sees, path
    np.testing.assert_allclose(x, y, rtol=0, atol=1e-11 * np.abs(y).max(),
                               err_msg=jax.tree_util.keystr(path))


@LONG
@pytest.mark.parametrize('family, kind, sees', [
    ('qwen3', 'shared', False),
    long('qwen3_5', 'shared', True), long('qwen3_5', 'padded', False),
])
def test_no_activation_changes_devices(family, kind, sees, make_mesh):
  """On 2 x 2 x 2 devices rows stay where they are, and heads and widths of MLPs
  are cut as the weights are; the gradients of embeddings alone move, once, to
  the device that sums their columns. tests/test_weak_scaling.py counts what is
  gathered."""
  model = models.build(family, **{**random_models.FIELDS[family],
                                  'remat': 'full'})
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  mesh = make_mesh(2, 2, 2)
  batch = batch_of(kind, sees, model.num_axes)
  compiled = gradient(model, params, batch, mesh, compiled=True)
  others = [one for one in hlo.collectives(compiled.as_text(), 8)
            if one.kind not in ('all-gather', 'all-reduce', 'reduce-scatter')]
  # The compiler may sum the gradient of a weight of the tower over `tensor`
  # first, and swap the shards then.
  cut = sharding.param_shardings(shapes, mesh, sharding.TRAIN_RULES)
  weights = {4 * math.prod(at.shard_shape(x.shape)) // (
      len(x) if 'layers' in sharding.param_axes(path) else 1)
             for (path, x), at in zip(
                 jax.tree_util.tree_leaves_with_path(shapes),
                 jax.tree.leaves(cut), strict=True)}
  assert {one.kind for one in others} <= {'collective-permute', 'all-to-all'}
  assert all('transpose(' in one.where for one in others), others
  assert all(one.bytes in weights for one in others
             if one.kind == 'collective-permute'), others
  tokens = [batch.tokens_BT] + (
      [batch.prompts.tokens_PT] if kind == 'shared' else [])
  rows = sharding.batch_shards(mesh)
  assert sorted(one.bytes for one in others if one.kind == 'all-to-all') == (
      sorted(4 * of.size * model.config.width // rows for of in tokens)), others
