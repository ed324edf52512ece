"""Rounding to narrow compute types at fixed places, and sums next to them.

Sampler and trainer are different programs over the same tokens. A compiler may
keep a number that a program wrote as bfloat16 in float32 for as long as it is
fused with its readers (XLA's excess precision), and it may do so in one program
and not in the other. A number that only one of them rounds changes every number
that is computed from it. Here a rounding is an operation of its own that no
compiler may drop.

A sum that ends next to a rounding boundary falls on either side of it, by the
order in which it was added up. XLA's CPU programs add up in an order that
depends on the shapes and on what the sum is fused with, so one token and a
whole row differ. `product` and `sum_of_squares` have one order there; on
accelerators they are the plain operations.

For float32 and wider types the functions of this module change nothing.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def wide(dtype: DTypeLike) -> jnp.dtype:
  """At least float32: the type of scores, norms, phases and log-probs."""
  return jnp.promote_types(dtype, jnp.float32)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _rounded(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
  of = jnp.finfo(dtype)
  return jax.lax.reduce_precision(x, of.nexp, of.nmant).astype(dtype)


@_rounded.defjvp
def _rounded_jvp(dtype: jnp.dtype, primals: Any, tangents: Any) -> Any:
  # Gradients are rounded as by any other cast, because only the trainer's
  # program computes them.
  return _rounded(primals[0], dtype), tangents[0].astype(dtype)


def rounded(x: jax.Array, dtype: DTypeLike | None = None) -> jax.Array:
  """x converted to a type (by default its own) and rounded in every program.

  Gradients pass as they do through `astype`.

  Args:
    x: floats of any type.
    dtype: a float type.
  """
  dtype = jnp.dtype(x.dtype if dtype is None else dtype)
  if dtype == wide(dtype):
    return x.astype(dtype)
  return _rounded(x.astype(wide(x.dtype)), dtype)


def once(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
  """An elementwise function that computes in a wide type and rounds once.

  Its backward pass keeps the arguments in their own narrow type and recomputes
  everything else.

  Args:
    f: a differentiable function of arrays of one shape.

  Returns:
    A function that calls f directly on wide arguments. It widens narrow
    arguments, calls f, and rounds the value to their type.
  """
  widened = lambda xs: [x.astype(wide(x.dtype)) for x in xs]

  @jax.custom_vjp
  def narrow(*xs: jax.Array) -> jax.Array:
    return rounded(f(*widened(xs)), xs[0].dtype)

  def forward(*xs: jax.Array) -> Any:
    return narrow(*xs), xs

  def backward(xs: Any, grad: jax.Array) -> Any:
    _, back = jax.vjp(f, *widened(xs))
    found = back(grad.astype(wide(grad.dtype)))
    return tuple(g.astype(x.dtype) for g, x in zip(found, xs, strict=True))

  narrow.defvjp(forward, backward)

  @functools.wraps(f)
  def run(*xs: jax.Array) -> jax.Array:
    return f(*xs) if xs[0].dtype == wide(xs[0].dtype) else narrow(*xs)
  return run


_LARGE = 2**20  # numbers of a matrix with which a single row is padded


def is_narrow(x: jax.Array) -> bool:
  """Whether numbers of x's type are rounded: the type is not a wide one."""
  return x.dtype != wide(x.dtype)


def _on_cpu(x: jax.Array, y: jax.Array) -> jax.Array:
  # From three rows on, XLA's CPU products of narrow numbers run in one kernel,
  # which reads them as they are; two rows have another one on processors with
  # AMX. One row has a kernel of its own that adds up in another order and
  # widens all of y first, as every narrow result does. Padded, it is five times
  # as fast for large matrices and slower for small ones.
  rows = x.shape[-2]
  if rows == 2 or (rows == 1 and y.size >= _LARGE):
    more = [(0, 0)] * (x.ndim - 2) + [(0, 3 - rows), (0, 0)]
    x = jnp.pad(x, more)
  return jnp.matmul(x, y, preferred_element_type=wide(x.dtype))[..., :rows, :]


@jax.custom_vjp
def summed(x: jax.Array, y: jax.Array) -> jax.Array:
  """The matrix product of narrow numbers, summed wide and not rounded.

  Its backward pass rounds the gradient to the narrow type first, so that its
  own products are of narrow numbers too.

  Args:
    x: [..., n, k].
    y: [..., k, m] of the type of x.
  """
  plain = functools.partial(jnp.matmul, preferred_element_type=wide(x.dtype))
  return jax.lax.platform_dependent(x, y, cpu=_on_cpu, default=plain)


@jax.custom_vjp
def _product(x: jax.Array, y: jax.Array) -> jax.Array:
  # Elsewhere a product's own narrow result is its wide sum, rounded once.
  return jax.lax.platform_dependent(
      x, y, cpu=lambda x, y: rounded(_on_cpu(x, y), x.dtype),
      default=lambda x, y: rounded(x @ y))


def _product_back(kept: Any, grad: jax.Array) -> Any:
  _, back = jax.vjp(jnp.matmul, *kept)
  return back(grad.astype(kept[0].dtype))


def _keeping(f: Callable[..., jax.Array]) -> Callable[..., Any]:
  return lambda x, y: (f(x, y), (x, y))


summed.defvjp(_keeping(summed), _product_back)
_product.defvjp(_keeping(_product), _product_back)


def product(x: jax.Array, y: jax.Array) -> jax.Array:
  """x @ y in their type, summed wide and rounded once; as in `summed`."""
  return _product(x, y) if is_narrow(x) else x @ y


def _in_halves(y: jax.Array) -> jax.Array:
  # Squares of narrow numbers are exact, so that only the order of the sum is
  # left, and that is written out here.
  y = y * y
  while (size := y.shape[-1]) > 1:
    if size % 2:
      y = jnp.pad(y, [(0, 0)] * (y.ndim - 1) + [(0, 1)])
    half = y.shape[-1] // 2
    y = y[..., :half] + y[..., half:]
  return y


@jax.custom_jvp
def _sum_of_squares(y: jax.Array) -> jax.Array:
  return jax.lax.platform_dependent(
      y, cpu=_in_halves,
      default=lambda y: jnp.sum(y * y, axis=-1, keepdims=True))


@_sum_of_squares.defjvp
def _sum_of_squares_jvp(primals: Any, tangents: Any) -> Any:
  (y,), (dy,) = primals, tangents
  # The backward pass keeps y, which the caller keeps too, and not 2 y.
  return _sum_of_squares(y), 2 * jnp.sum(y * dy, axis=-1, keepdims=True)


def sum_of_squares(x: jax.Array) -> jax.Array:
  """Over the last axis, which stays with size 1; at least float32."""
  y = x.astype(wide(x.dtype))
  if is_narrow(x):
    return _sum_of_squares(y)
  return jnp.sum(y * y, axis=-1, keepdims=True)


def mean_square(x: jax.Array) -> jax.Array:
  """`sum_of_squares` over the size of that axis."""
  if is_narrow(x):
    return sum_of_squares(x) / x.shape[-1]
  return jnp.mean(x * x, axis=-1, keepdims=True)
