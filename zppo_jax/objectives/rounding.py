"""Where numbers of a narrow compute type are rounded.

Sampler and trainer are different programs over the same tokens. A compiler may
keep what a program wrote as bfloat16 in float32 for as long as it is fused
with its readers (XLA's excess precision), in one program and not in the other;
every number that is rounded in one of them alone moves all that follow. Here a
rounding is an operation of its own that no compiler may drop.

In float32 and wider nothing here does anything.
"""

import functools

import jax
import jax.numpy as jnp


def wide(dtype):
  """At least float32: the type of scores, norms, phases and log-probs."""
  return jnp.promote_types(dtype, jnp.float32)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _rounded(x, dtype):
  of = jnp.finfo(dtype)
  return jax.lax.reduce_precision(x, of.nexp, of.nmant).astype(dtype)


@_rounded.defjvp
def _rounded_jvp(dtype, primals, tangents):
  # Gradients are rounded as any other cast: they exist in one program alone.
  return _rounded(primals[0], dtype), tangents[0].astype(dtype)


def rounded(x, dtype=None):
  """x in a type, its own by default, and rounded to it whatever is compiled.

  Gradients pass as through `astype`.

  Args:
    x: floats, of any type.
    dtype: a float type.
  """
  dtype = jnp.dtype(x.dtype if dtype is None else dtype)
  if dtype == wide(dtype):
    return x.astype(dtype)
  return _rounded(x.astype(wide(x.dtype)), dtype)


def once(f):
  """An elementwise function that is computed wide and rounded once.

  Its backward pass keeps the arguments, narrow as they come, and makes the
  rest anew.

  Args:
    f: of arrays of one shape; differentiable.

  Returns:
    f for arguments that are wide; for others it widens them, and rounds the
    value to their type.
  """
  widened = lambda xs: [x.astype(wide(x.dtype)) for x in xs]

  @jax.custom_vjp
  def narrow(*xs):
    return rounded(f(*widened(xs)), xs[0].dtype)

  def forward(*xs):
    return narrow(*xs), xs

  def backward(xs, grad):
    _, back = jax.vjp(f, *widened(xs))
    found = back(grad.astype(wide(grad.dtype)))
    return tuple(g.astype(x.dtype) for g, x in zip(found, xs, strict=True))

  narrow.defvjp(forward, backward)

  @functools.wraps(f)
  def run(*xs):
    return f(*xs) if xs[0].dtype == wide(xs[0].dtype) else narrow(*xs)
  return run
