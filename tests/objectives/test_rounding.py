"""Roundings that no compiler drops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import numerics, random_models
from tests.long import long
from zppo_jax.objectives import rounding
from zppo_jax.rollout import weight_sync

pytestmark = pytest.mark.usefixtures('quick_compile')


def numbers(seed: int, *shape) -> jax.Array:
  return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_what_is_rounded_stays_so_in_a_fusion(dtype):
  """Widened again at once, where a compiler may skip a mere cast; fault
  A13."""
  x = numbers(0, 1000)
  found = jax.jit(lambda x: 3 * rounding.rounded(x, dtype).astype(
      jnp.float32))(x)
  np.testing.assert_array_equal(found, 3 * np.asarray(x).astype(
      dtype).astype(np.float32))


def test_a_narrow_result_is_rounded_before_it_is_read():
  x, y = (numbers(i, 1000).astype(jnp.bfloat16) for i in (0, 1))
  found = jax.jit(lambda x, y: rounding.rounded(x + y).astype(
      jnp.float32))(x, y)
  exact = np.asarray(x, np.float32) + np.asarray(y, np.float32)
  np.testing.assert_array_equal(
      found, exact.astype(jnp.bfloat16).astype(np.float32))


@pytest.mark.parametrize('f', [
    lambda x: rounding.rounded(x), lambda x: rounding.rounded(x, jnp.float32)])
def test_float32_is_left_alone(f):
  """No operation at all: float32 runs compile to what they were."""
  assert not jax.make_jaxpr(f)(numbers(0, 5)).eqns


def test_a_gradient_passes_as_through_a_cast():
  x = numbers(0, 1000)
  weight = numbers(1, 1000).astype(jnp.bfloat16)
  loss = lambda cast: lambda x: jnp.sum(
      (cast(x) * weight).astype(jnp.float32))
  found = jax.grad(loss(lambda x: rounding.rounded(x, jnp.bfloat16)))(x)
  want = jax.grad(loss(lambda x: x.astype(jnp.bfloat16)))(x)
  np.testing.assert_array_equal(found, want)


def test_once_rounds_once_and_keeps_its_arguments_alone():
  x, y = (numbers(i, 1000).astype(jnp.bfloat16) for i in (0, 1))
  f = lambda x, y: x * jax.nn.sigmoid(y)
  up = lambda x: x.astype(jnp.float32)
  found, back = jax.vjp(rounding.once(f), x, y)
  exact, exact_back = jax.vjp(f, up(x), up(y))
  np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))
  for got, want in zip(back(jnp.ones_like(found)), exact_back(
      jnp.ones_like(exact)), strict=True):
    np.testing.assert_array_equal(got, want.astype(jnp.bfloat16))
  kept = jax.tree.leaves(back)
  assert [k.dtype for k in kept] == [jnp.bfloat16] * 2
  # Wide arguments go through as they are.
  np.testing.assert_array_equal(rounding.once(f)(up(x), up(y)), exact)


@functools.cache
def logps_of(name: str, copied: bool):
  """Trainer's log-probs in bfloat16 of a few tokens of a case."""
  family, image = numerics.CASES[name]
  model, params = random_models.build(family, 3, 'bfloat16')
  if copied:
    params = weight_sync.cast(params, jnp.bfloat16)
  asked = numerics.prompts(model, 2, 12, image, 3)
  return numerics.score(model, params, asked, [list(range(5, 21))] * 2, 64, 16)


@pytest.mark.parametrize('name', [
    'llama', long('qwen3_5'), long('qwen3_vl, image'), long('qwen3_5, image')])
def test_the_trainer_reads_the_weights_of_the_rollout_copy(name):
  """Every weight that the copy rounds is rounded by the trainer, DeltaNet's
  convolution included: one program, equal numbers; fault A13."""
  np.testing.assert_array_equal(logps_of(name, True), logps_of(name, False))


def row_by_row(f, x, rows: int):
  """f of a few rows at a time, compiled for them."""
  f = jax.jit(f)
  return np.concatenate([np.asarray(f(x[i:i + rows]), np.float32)
                         for i in range(0, len(x), rows)])


def narrow(seed: int, *shape):
  return numbers(seed, *shape).astype(jnp.bfloat16)


@pytest.mark.parametrize('rows, width', [
    (1, 4096), (2, 640), (4, 640), (16, 640)])
def test_a_product_does_not_depend_on_the_number_of_rows(rows, width):
  """A few tokens and all, to the bit; one token with a large matrix; fault
  A13."""
  x, y = narrow(0, 128, 256), narrow(1, 256, width)
  f = lambda x: rounding.product(x, y)
  np.testing.assert_array_equal(row_by_row(f, x, rows), row_by_row(f, x, 128))
  exact = np.asarray(x, np.float64) @ np.asarray(y, np.float64)
  found = row_by_row(f, x, rows)
  assert np.abs(found - exact).max() <= 2**-8 * np.abs(exact).max()


@pytest.mark.parametrize('f', [rounding.product, rounding.summed])
def test_a_product_has_the_gradient_of_the_plain_one(f):
  x, y, g = narrow(0, 3, 5, 8), narrow(1, 3, 8, 6), narrow(2, 3, 5, 6)
  want, back = jax.vjp(jnp.matmul, x, y)
  found, found_back = jax.vjp(f, x, y)
  np.testing.assert_allclose(np.asarray(found, np.float32),
                             np.asarray(want, np.float32), rtol=2**-7)
  for got, plain in zip(found_back(g.astype(found.dtype)), back(g),
                        strict=True):
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, plain)


@pytest.mark.parametrize('size', [1, 3, 64, 96, 256])
@pytest.mark.parametrize('rows', [1, 2, 16])
def test_squares_do_not_depend_on_the_number_of_rows(size, rows):
  """Widths that do not halve evenly too; fault A13."""
  x = narrow(3, 64, size)
  found = row_by_row(rounding.sum_of_squares, x, rows)
  np.testing.assert_array_equal(
      found, row_by_row(lambda x: rounding.sum_of_squares(x + 0), x, 64))
  exact = np.sum(np.asarray(x, np.float64)**2, -1, keepdims=True)
  np.testing.assert_allclose(found, exact, rtol=1e-6)
  np.testing.assert_array_equal(
      row_by_row(rounding.mean_square, x, rows),
      row_by_row(rounding.mean_square, x, 64))


def test_squares_have_their_gradient():
  x = narrow(0, 4, 6)
  grad = jax.grad(lambda x: jnp.sum(rounding.sum_of_squares(x)))(x)
  np.testing.assert_array_equal(grad, 2 * x)


@pytest.mark.parametrize('f, plain', [
    (lambda x: rounding.product(x, x), lambda x: x @ x),
    (rounding.mean_square, lambda x: jnp.mean(x * x, -1, keepdims=True)),
    (rounding.sum_of_squares, lambda x: jnp.sum(x * x, -1, keepdims=True))])
def test_float32_has_the_plain_operations(f, plain):
  x = numbers(0, 4, 4)
  assert str(jax.make_jaxpr(f)(x)) == str(jax.make_jaxpr(plain)(x))
