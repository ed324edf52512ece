"""AdamW against numpy, its stored type and errors; test_schedules.py has
the rest."""

import functools
import math

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from zppo_jax.learner import optimizers
from zppo_jax.learner.optimizers import AdamWConfig

PARAMS = {'a': np.float32([1.0, -2.0, 0.5]),
          'b': {'c': np.float32([[3.0, 0.0], [-1.0, 0.25]])}}
RNG = np.random.default_rng(0)
# Global norms well above, below and above the clipping norm of 1.
GRADS = [jax.tree.map(
    lambda p, size=size: np.float32(size * RNG.standard_normal(p.shape)),
    PARAMS) for size in (2.0, 0.05, 0.7)]


def norm(tree):
  return math.sqrt(sum((x**2).sum() for x in jax.tree.leaves(tree)))


def naive_adamw(params, grads, *, lr, b1, b2, eps, decay, clip, round_to):
  """Loshchilov and Hutter (2019) with decay on every parameter, in float64.

  The moments are rounded to `round_to` after each step.
  """
  as64 = functools.partial(jax.tree.map, lambda x: x.astype(np.float64))
  p = as64(params)
  m = v = jax.tree.map(np.zeros_like, p)
  for t, g in enumerate(grads, start=1):
    scale = min(1.0, clip / norm(g))
    g = jax.tree.map(lambda x, scale=scale: scale * x.astype(np.float64), g)
    m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, g)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, v, g)
    p = jax.tree.map(
        lambda p, m, v, t=t: p - lr * (
            m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * p),
        p, m, v)
    m, v = (as64(jax.tree.map(lambda x: x.astype(round_to), tree))
            for tree in (m, v))
  return p, m, v


def run_steps(tx, params, grads):
  state = tx.init(params)
  update = jax.jit(tx.update)
  for g in grads:
    updates, state = update(g, state, params)
    params = jax.tree.map(lambda p, u: p + np.asarray(u), params, updates)
  return params, state


@pytest.mark.parametrize('state_dtype, numpy_dtype', [
    ('float32', np.float32), ('bfloat16', ml_dtypes.bfloat16)])
def test_three_steps_equal_numpy(state_dtype, numpy_dtype):
  """Clipping, bias correction, decay; bf16 moments round between steps."""
  assert [norm(g) > 1 for g in GRADS] == [True, False, True]
  config = AdamWConfig(
      learning_rate=0.1, b1=0.8, b2=0.95, eps=1e-3, weight_decay=0.3,
      clip_norm=1.0, state_dtype=state_dtype)
  params, state = run_steps(optimizers.adamw(config), PARAMS, GRADS)
  want, m, v = naive_adamw(PARAMS, GRADS, lr=0.1, b1=0.8, b2=0.95, eps=1e-3,
                           decay=0.3, clip=1.0, round_to=numpy_dtype)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(
      x, y, rtol=1e-5, atol=1e-6), params, want)
  # The moments, apart from a last bit where float32 rounds otherwise.
  leaves = [x for x in jax.tree.leaves(state)
            if jnp.issubdtype(x.dtype, jnp.floating)]
  assert {x.dtype for x in leaves} == {np.dtype(numpy_dtype)}
  step = float(ml_dtypes.finfo(numpy_dtype).eps)
  for x, y in zip(leaves, jax.tree.leaves((m, v)), strict=True):
    np.testing.assert_allclose(x.astype(np.float32), y, rtol=2 * step,
                               atol=1e-7)


def test_rounding_is_visible():
  """bf16 and float32 moments part from the second step on, not before."""
  make = lambda dtype: optimizers.adamw(AdamWConfig(
      learning_rate=0.1, state_dtype=dtype))
  for steps, same in ((1, True), (2, False)):
    a, b = (run_steps(make(dtype), PARAMS, GRADS[:steps])[0]
            for dtype in ('float32', 'bfloat16'))
    assert np.allclose(a['a'], b['a'], rtol=1e-7, atol=0) == same


def test_counts_stay_integers():
  """Only floating state is rounded: bf16 counts to 256."""
  _, state = run_steps(optimizers.adamw(AdamWConfig()), PARAMS, GRADS)
  counts = [x for x in jax.tree.leaves(state)
            if not jnp.issubdtype(x.dtype, jnp.floating)]
  assert counts and {x.dtype for x in counts} == {np.dtype(np.int32)}
  assert {int(x) for x in counts} == {3}


def test_table_8():
  """The paper's optimizer is the default."""
  assert AdamWConfig() == AdamWConfig(
      learning_rate=1e-6, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.1,
      clip_norm=1.0, state_dtype='bfloat16', schedule='constant')


@pytest.mark.parametrize('fields, message', [
    (dict(learning_rate=-1e-6), 'learning_rate is -1e-06'),
    (dict(learning_rate=math.nan), 'learning_rate is nan'),
    (dict(clip_norm=0.0), 'clip_norm is 0.0'),
    (dict(clip_norm=math.nan), 'clip_norm is nan'),
    # A parameter without a gradient would move by 0 / 0.
    (dict(eps=0.0), 'eps is 0.0; it must be > 0')])
def test_impossible_configs(fields, message):
  """Each number is checked by its field's name."""
  with pytest.raises(ValueError, match=message):
    AdamWConfig(**fields)


@pytest.mark.parametrize('field, value, known', [
    ('state_dtype', 'float16', 'float32, bfloat16'),
    ('schedule', 'step', 'constant, linear, cosine')])
def test_unknown_names(field, value, known):
  with pytest.raises(KeyError, match=f"unknown optimizer.{field} '{value}'; "
                                     f'known: {known}'):
    AdamWConfig(**{field: value})
