"""Rounding to narrow compute types at fixed places.

Sampler and trainer are different programs over the same tokens. A compiler may
keep a number that a program wrote as bfloat16 in float32 for as long as it is
fused with its readers (XLA's excess precision), and it may do so in one program
and not in the other. A number that only one of them rounds changes every number
that is computed from it. Here a rounding is an operation of its own that no
compiler may drop.

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
