"""Layers that have a gradient of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zppo_jax.models import layers


def arrays(dtype='float32'):
  return [3 * jax.random.normal(jax.random.key(i), (5, 7)).astype(dtype)
          for i in range(3)]


def test_gated_is_differentiated_as_it_stands():
  gate, up, grad = arrays()
  plain, back = jax.vjp(lambda g, u: jax.nn.silu(g) * u, gate, up)
  out, own = jax.vjp(layers.gated, gate, up)
  np.testing.assert_allclose(out, plain, rtol=1e-6)
  for got, want in zip(own(grad), back(grad), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_gated_keeps_its_inputs_alone(dtype):
  """In their type; plain differentiation keeps more."""
  gate, up, _ = arrays(dtype)
  kept = lambda f: [x for x in jax.tree.leaves(jax.vjp(f, gate, up)[1])
                    if jnp.shape(x) == gate.shape]
  assert [x.dtype for x in kept(layers.gated)] == [gate.dtype] * 2
  assert len(kept(lambda g, u: jax.nn.silu(g) * u)) > 2
