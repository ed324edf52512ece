"""FLOPs and bytes by count: by hand, and as XLA counts matmuls."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.side_by_side import work
from zppo_jax import models
from zppo_jax.bench import counting

TINY = counting.count(models.build('qwen3', **work.SHAPE))


def xla(f, *shapes) -> float:
  args = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
  found = jax.jit(f).lower(*args).compile().cost_analysis()
  found = found[0] if isinstance(found, list) else found
  return found['flops']


def test_projections_and_head_by_hand():
  """256 wide: q, o 256 each, k, v 128 each, three of 768, times 4 layers."""
  layer = 2 * 256 * (256 + 256 + 128 + 128) + 6 * 256 * 768
  assert TINY.token_flops == 4 * layer
  assert TINY.head_flops == 2 * 256 * 2048
  assert TINY.pair_flops == 4 * 4 * 8 * 32
  assert TINY.kv_token == 4 * 2 * 4 * 32


def test_products_are_counted_as_xla_does():
  """A token through a SwiGLU and the head, and a query on 16 keys."""
  mlp = lambda x, a, b, c: ((x @ a) * (x @ b)) @ c
  found = xla(mlp, (8, 256), (256, 768), (256, 768), (768, 256))
  assert found == pytest.approx(8 * 6 * 256 * 768, rel=0.002)
  assert xla(lambda x, w: x @ w, (8, 256), (256, 2048)) == pytest.approx(
      8 * TINY.head_flops)
  pairs = xla(lambda q, k: jnp.einsum('nh,snh->ns', q, k), (8, 32),
              (16, 8, 32))
  assert 2 * pairs * 4 == pytest.approx(16 * TINY.pair_flops)


def test_a_step_of_the_side_by_side_work():
  """The orders of magnitude that the issue states: 414 and 460 GFLOP."""
  sizes = (TINY, work.PROMPTS, work.PROMPT, work.GROUP, work.RESPONSE)
  assert counting.step_flops(*sizes) / 1e9 == pytest.approx(416.9, abs=0.1)
  assert counting.step_flops(*sizes, shared=False) / 1e9 == pytest.approx(
      463.1, abs=0.1)


def test_a_backward_pass_is_two_and_scoring_one():
  one = counting.forward_flops(TINY, 2, 10)
  assert counting.train_flops(TINY, 2, 10) == 3 * one
  sizes = (TINY, 1, 6, 2, 4)
  scored = counting.step_flops(*sizes, scored=True)
  assert scored - counting.step_flops(*sizes) == counting.forward_flops(
      TINY, 2, 10, logits=4)


def test_causal_pairs():
  """Three tokens behind two: 3 + 4 + 5 keys."""
  assert counting._pairs(2, 3) == 12


def test_bytes_of_a_decode_step():
  """Two rows of context 5, of which 3 prompt tokens lie once."""
  found = counting.decode_bytes(
      TINY, 2, 5, weight_bytes=4, cache_bytes=4, prompt=3, rollouts=2)
  assert found['weights'] == 4 * TINY.params
  assert found['cache_read'] == 4 * 1024 * (2 * 1 + 3)
  assert found['cache_write'] == 4 * 1024 * 2
  assert found['state_read'] == found['state_write'] == 0


def test_state_of_a_delta_model():
  """Three DeltaNet layers: a 16 x 16 matrix a value head, three past inputs
  of the convolution; read and written."""
  from benchmarks.gpu import TINY_DELTA
  c = counting.count(models.build('qwen3_5', **TINY_DELTA))
  assert c.layers == (1, 3)
  assert c.state_row == 3 * (4 * 16 * 16 + 3 * (2 * 2 * 16 + 4 * 16))
  assert c.delta_flops == 3 * 6 * 4 * 16 * 16
  found = counting.decode_bytes(c, 2, 5, weight_bytes=2, cache_bytes=2)
  assert found['state_read'] == found['state_write'] == 2 * c.state_row * 4
