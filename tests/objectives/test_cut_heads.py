"""A head whose vocabulary lies on several devices, at every size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zppo_jax.devices import sharding
from zppo_jax.objectives import (
  gathered_logps,
  token_logps,
  top_logps,
  whole_vocabulary,
)
from zppo_jax.plan import hlo

pytestmark = pytest.mark.usefixtures('quick_compile')

B, T, D, CHUNK = 4, 7, 12, 4


def of_tokens(hidden, head, tokens, ids, mask, **fields):
  logp, entropy = token_logps.token_logps(hidden, head, tokens, mask, **fields)
  return {'logp': logp, 'entropy': entropy}


def of_ids(hidden, head, tokens, ids, mask, **fields):
  logps = gathered_logps.gathered_logps(
      hidden, head, ids, mask, rest=True, **fields)
  return {'logps': jnp.where(jnp.isfinite(logps), logps, 0)}


def of_teacher(hidden, head, tokens, ids, mask, **fields):
  teacher = whole_vocabulary.Head(
      hidden_BTD=jnp.roll(hidden, 1, axis=-1), head_DV=head)
  loss, _ = whole_vocabulary.over_vocabulary(
      whole_vocabulary.Head(hidden_BTD=hidden, head_DV=head), teacher, tokens,
      mask, student_temperature=1.0, teacher_temperature=1.0, **fields)
  return {'loss': loss}


def of_top(hidden, head, tokens, ids, mask, **fields):
  described = top_logps.describe(
      *map(jax.lax.stop_gradient, (hidden, head)), tokens, mask, ids, top=5,
      entropy=True, ranks=True, **fields)
  return {name: jnp.where(jnp.isfinite(x), x, 0)
          for name, x in described._asdict().items()}


def run(of, mesh, width, vocab, vocab_chunk):
  """(values and gradients, HLO)."""
  rng = np.random.default_rng(0)
  hidden, head = (rng.standard_normal(shape, np.float32)
                  for shape in ((B, T, D), (D, width)))
  hidden *= D**-0.5  # logits have a deviation of 1
  tokens = rng.integers(0, vocab, (B, T), np.int32)
  ids = np.stack([rng.choice(vocab, 6, replace=False) for _ in range(B * T)])
  ids = ids.reshape(B, T, 6).astype(np.int32)
  ids[0, 2, 3:] = -1
  mask = rng.random((B, T)) < 0.7
  weights = rng.standard_normal((B, T), np.float32)

  def loss(hidden, head):
    out = of(hidden, head, tokens, ids, mask, chunk=CHUNK, vocab=vocab,
             vocab_chunk=vocab_chunk, mesh=mesh)
    return sum(jnp.sum(x * weights.reshape(B, T, *(1,) * (x.ndim - 2)))
               for x in out.values()), out

  rows, columns = (jax.NamedSharding(mesh, spec) for spec in (
      jax.P(sharding.BATCH_AXES), jax.P('fsdp', 'tensor')))
  compiled = jax.jit(
      jax.grad(loss, (0, 1), has_aux=True), in_shardings=(rows, columns),
      out_shardings=((rows, columns), rows)).lower(hidden, head).compile()
  return jax.device_get(compiled(
      jax.device_put(hidden, rows), jax.device_put(head, columns))
      ), compiled.as_text()


@functools.cache
def alone(of, width, vocab, vocab_chunk):
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
  return run(of, mesh, width, vocab, vocab_chunk)[0]


@pytest.mark.parametrize('width, vocab, vocab_chunk', [
    (4 * 29, 4 * 29 - 3, 16),  # 29 ids a device: no number of parts divides it
    (4 * 29, 4 * 29 - 31, 4096),  # one part; a device holds padding alone
])
@pytest.mark.parametrize('of', [of_tokens, of_ids, of_teacher, of_top])
def test_a_cut_head_says_what_a_whole_one_says(
    of, width, vocab, vocab_chunk, make_mesh):
  got, text = run(of, make_mesh(2, 1, 4), width, vocab, vocab_chunk)
  expected = alone(of, width, vocab, vocab_chunk)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(
      x, y, rtol=0, atol=1e-6 * max(1, np.abs(y).max())), got, expected)
  if of in (of_tokens, of_teacher):
    # The head stays in its cuts.
    gathered = [one for one in hlo.collectives(text, 8)
                if one.kind in ('all-gather', 'all-to-all',
                                'collective-permute')]
    assert not gathered
