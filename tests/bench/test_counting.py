"""FLOPs and bytes by count: by hand, and as XLA counts matmuls."""

import types

import jax
import jax.numpy as jnp
import pytest

from benchmarks.side_by_side import work
from tests.long import LONG
from zppo_jax import models
from zppo_jax.bench import counting, measurements
from zppo_jax.learner import packing
from zppo_jax.models import cache, layers
from zppo_jax.rollout import decode

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


def test_a_backward_pass_is_two():
  one = counting.forward_flops(TINY, 2, 10)
  assert counting.train_flops(TINY, 2, 0, 1, 10) == 3 * one


def test_a_shared_prompt_is_trained_once():
  """Two rows behind a prompt of 6 instead of two prompts: 6 tokens less."""
  sizes = (TINY, 1, 6, 2, 4)
  prompt = counting.forward_flops(TINY, 1, 6, logits=0)
  assert counting.train_flops(*sizes) - counting.train_flops(
      *sizes, shared=True) == 3 * prompt
  assert counting.step_flops(*sizes) - counting.step_flops(
      *sizes, shared_update=True) == 3 * prompt


def test_causal_pairs():
  """Three tokens behind two: 3 + 4 + 5 keys."""
  assert counting._pairs(2, 3) == 12


def test_bytes_of_a_decode_step():
  """Two rows of context 5, of which 3 prompt tokens lie once."""
  found = counting.decode_bytes(
      TINY, 2, 5, weight_bytes=4, cache_bytes=4, prompt=3,
      samples_per_prompt=2)
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
  assert c.state_row == 3 * 4 * 16 * 16
  assert c.conv_row == 3 * 3 * (2 * 2 * 16 + 4 * 16)
  assert c.delta_flops == 3 * 6 * 4 * 16 * 16
  found = counting.decode_bytes(c, 2, 5, weight_bytes=2, cache_bytes=2)
  assert found['state_read'] == found['state_write'] == 2 * (
      4 * c.state_row + 2 * c.conv_row)


@LONG
def test_state_is_that_of_the_slots():
  """What two slots hold: bfloat16, but the memory is float32."""
  from benchmarks.gpu import TINY_DELTA
  model = models.build('qwen3_5', **TINY_DELTA, dtype='bfloat16')
  params = jax.eval_shape(
      lambda: layers.unstack(model.init(jax.random.key(0))))
  state = jax.eval_shape(
      lambda p: decode.prefill(p, packing.pad_prompts([], 2, 4, 0, 3),
                                 model=model), params).recurrent
  held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
  assert held == counting.decode_bytes(
      counting.count(model), 2, 5, weight_bytes=2, cache_bytes=2)['state_read']


def test_bytes_of_a_generation():
  """Two prompts of 3 tokens, 4 rollouts of 3: two steps behind the prefill,
  which see 0 and 1 tokens of their own and write one."""
  sizes = dict(weight_bytes=4, cache_bytes=4)
  kv, rows = 4 * TINY.kv_token, 8
  want = lambda copies: 2 * 4 * TINY.params + kv * (
      2 * copies * 3 + rows * (0 + 1) + 2 * rows)
  assert counting.sample_bytes(TINY, 2, 3, 4, 3, **sizes) == want(2)
  assert counting.sample_bytes(TINY, 2, 3, 4, 3, samples_per_prompt=2,
                               **sizes) == want(4)
  assert counting.sample_bytes(TINY, 2, 3, 4, 3, samples_per_prompt=1,
                               **sizes) == want(8)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('samples, prompts', [
    (2, (5 + 7) + 7), (1, (5 + 2 * 7) + 7)])
def test_bytes_of_a_settings_rollouts(samples, prompts, dtype):
  """Prompts of 5 and 7 tokens; responses of 1, 2 and of 2, 3. Step one has
  three slots, in both groups of two; step two one slot, whose prompt is the
  second. Weights are those of the copy."""
  engine = types.SimpleNamespace(shape=types.SimpleNamespace(
      samples_per_prompt=samples))
  setting = types.SimpleNamespace(
      model=models.build('qwen3', **work.SHAPE), counted=TINY,
      lengths=([5, 7], [[1, 2], [2, 3]]),
      params={'w': jnp.zeros(6, dtype)},
      state=types.SimpleNamespace(params={'w': jnp.zeros(6)}),
      run=types.SimpleNamespace(
          adapted=None, sampler=types.SimpleNamespace(engine=engine)))
  own = (3 * 0 + 3) + (1 * 1 + 1)  # read and written
  weights = jnp.dtype(dtype).itemsize * TINY.params
  assert measurements.Setting.decode_bytes(setting) == (
      2 * weights + 4 * TINY.kv_token * (prompts + own))


def test_a_shared_prompt_is_read_where_it_lies():
  """Eight slots in two groups: compiled attention makes no copy per slot."""
  B, C, K, G, H, S = 8, 2, 3, 2, 16, 40
  f32 = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  def run(rows):
    args = (f32(B, 1, K * G, H), f32(B, 1, K, H), f32(B, 1, K, H),
            jax.ShapeDtypeStruct((B, 1), bool),
            [(f32(rows, K, H, S), f32(rows, K, S, H))],
            [jax.ShapeDtypeStruct((rows, S), bool)])
    return jax.jit(cache.attend).lower(*args).compile().as_text()
  a_row = f'[{B},{K},{H},{S}]'
  assert a_row in run(B)
  assert a_row not in run(C) and f'[{C},{K},{H},{S}]' in run(C)
