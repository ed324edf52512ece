"""The likeliest ids against a sort of all logits."""

import functools

import jax
import numpy as np
import pytest
from jax.extend import core

from zppo_jax.objectives.top_logps import describe, top_logps

pytestmark = pytest.mark.usefixtures('quick_compile')

B, T, D, V, K = 2, 8, 5, 13, 4
RNG = np.random.default_rng(0)
HIDDEN = RNG.standard_normal((B, T, D)).astype(np.float32)
HEAD = RNG.standard_normal((D, V)).astype(np.float32)
TOKENS = RNG.integers(0, V, (B, T)).astype(np.int32)
compiled = jax.jit(top_logps, static_argnames=(
    'top', 'chunk', 'ranks', 'vocab', 'temperature', 'vocab_chunk'))


def dense(hidden, head, tokens, top, vocab=V, temperature=1.0):
  """By a stable sort: of equal log-probs the lower id comes first."""
  z = np.float64(hidden)[:, :-1] @ np.float64(head)[:, :vocab] / temperature
  logps = z - np.log(np.exp(z).sum(-1, keepdims=True))
  ids = np.argsort(-logps, axis=-1, kind='stable')[..., :top]
  picked = np.take_along_axis(logps, tokens[:, 1:, None], axis=-1)
  align = lambda x: np.pad(x, ((0, 0), (1, 0)) + ((0, 0),) * (x.ndim - 2))
  return [align(x) for x in (
      picked[..., 0], np.take_along_axis(logps, ids, axis=-1), ids,
      1 + (logps > picked).sum(-1))]


# 13 ids in parts of 13, 7, 5 (with two of padding), 3 (fewer than K), and 1.
@pytest.mark.parametrize('vocab_chunk', [13, 7, 5, 3, 1])
@pytest.mark.parametrize('chunk', [3, 512])
def test_equals_a_sort(chunk, vocab_chunk):
  got = compiled(HIDDEN, HEAD, TOKENS, top=K, chunk=chunk, ranks=True,
                 vocab_chunk=vocab_chunk, temperature=0.7)
  want = dense(HIDDEN, HEAD, TOKENS, K, temperature=0.7)
  for x, y in zip(got[:2], want[:2], strict=True):
    np.testing.assert_allclose(x, y, atol=2e-6)
  for x, y in zip(got[2:], want[2:], strict=True):
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize('vocab_chunk', [13, 5, 1])
def test_of_equal_ids_the_lower_comes_first(vocab_chunk):
  """Also if a later part holds it, and at the edge of the top K; ranks count
  likelier ids alone."""
  z = np.float32([0, 2, 1, 2, 0, 1, 2, 1, 2, 0, 0, 1, 0])
  hidden = np.ones((1, 4, 1), np.float32)
  tokens = np.int32([[0, 8, 11, 12]])
  _, logps, ids, ranks = compiled(hidden, z[None], tokens, top=6, chunk=2,
                                  ranks=True, vocab_chunk=vocab_chunk)
  np.testing.assert_array_equal(ids[0, 1:], [[1, 3, 6, 8, 2, 5]] * 3)
  np.testing.assert_array_equal(ranks[0, 1:], [1, 5, 9])
  assert len(set(np.asarray(logps[0, 1, :4]).tolist())) == 1


@pytest.mark.parametrize('vocab_chunk', [13, 5])
def test_the_likeliest_token_has_the_first_log_prob(vocab_chunk):
  """Bit for bit, with rank 1."""
  of = functools.partial(compiled, HIDDEN, HEAD, top=1, chunk=3, ranks=True,
                         vocab_chunk=vocab_chunk)
  tokens = np.asarray(of(TOKENS)[2][..., 0])
  logp, top_logp, _, rank = of(tokens)
  np.testing.assert_array_equal(logp, top_logp[..., 0])
  assert (rank[:, 1:] == 1).all()


def test_padded_columns_are_no_ids():
  """Columns of 99 from the true vocabulary on neither win nor have mass."""
  head = np.pad(HEAD, ((0, 0), (0, 4)), constant_values=99)
  for vocab_chunk in (17, 4):
    got = compiled(np.abs(HIDDEN), head, TOKENS, top=K, chunk=3, vocab=V,
                   vocab_chunk=vocab_chunk)
    for x, y in zip(got, dense(np.abs(HIDDEN), HEAD, TOKENS, K), strict=False):
      np.testing.assert_allclose(x, y, atol=2e-6)


def test_the_whole_vocabulary_is_a_distribution():
  """K = V: all ids once, all mass."""
  _, logps, ids = compiled(HIDDEN, HEAD, TOKENS, top=V, chunk=3, vocab_chunk=4)
  np.testing.assert_allclose(np.exp(logps[:, 1:]).sum(-1), 1, rtol=1e-5)
  np.testing.assert_array_equal(
      np.sort(ids[:, 1:]), np.broadcast_to(np.arange(V), (B, T - 1, V)))


@pytest.mark.parametrize('vocab_chunk', [16, 5, 1])
def test_everything_in_one_sweep(vocab_chunk):
  """Padded columns, asked positions, given ids (twice the same, and none) and
  entropies, against a dense softmax; what is not asked is 0."""
  head = np.pad(HEAD, ((0, 0), (0, 3)), constant_values=9)
  asked = RNG.random((B, T)) < 0.6
  given = RNG.integers(-1, V, (B, T, 3)).astype(np.int32)
  given[:, :, 2] = given[:, :, 0]
  found = jax.jit(functools.partial(
      describe, top=K, entropy=True, ranks=True, chunk=3, vocab=V,
      temperature=0.7, vocab_chunk=vocab_chunk))(
          HIDDEN, head, TOKENS, asked, given)
  logp, top_logp, top_id, rank = dense(HIDDEN, HEAD, TOKENS, K, temperature=.7)
  _, every, order, _ = dense(HIDDEN, HEAD, TOKENS, V, temperature=0.7)
  by_id = np.take_along_axis(every, np.argsort(order, -1), -1)
  asked[:, 0] = False
  want = (logp, -np.sum(np.exp(every) * every, -1), top_logp, top_id,
          np.where(given < 0, -np.inf, np.take_along_axis(
              by_id, np.maximum(given, 0), -1)), rank)
  for name, x, y in zip(found._fields, found, want, strict=True):
    mask = asked.reshape(asked.shape + (1,) * (y.ndim - 2))
    np.testing.assert_allclose(x, np.where(mask, y, 0), atol=3e-6,
                               err_msg=name)
  np.testing.assert_array_equal(found.given_logp_BTN[..., 0],
                                found.given_logp_BTN[..., 2])
  plain = describe(HIDDEN, HEAD, TOKENS, chunk=3)
  assert [x is None for x in plain] == [False] + [True] * 5


def test_one_token_has_nothing_to_describe():
  found = describe(HIDDEN[:, :1], HEAD, TOKENS[:, :1], top=2, chunk=3,
                   given_BTN=TOKENS[:, :1, None])
  assert found.logp_BT.shape == (B, 1) and not found.logp_BT.any()
  assert found.top_id_BTK.shape == (B, 1, 2)
  assert found.given_logp_BTN.shape == (B, 1, 1)


def sizes(jaxpr):
  """Elements of every intermediate array, those of inner jaxprs included."""
  for equation in jaxpr.eqns:
    for variable in equation.outvars:
      yield variable.aval.size
    for inner in core.jaxprs_in_params(equation.params):
      yield from sizes(inner)


def test_a_block_of_all_ids_never_exists():
  """The largest array is a part of a block, or the head: no [B, c, V]."""
  f = lambda vocab_chunk: max(sizes(jax.make_jaxpr(functools.partial(
      top_logps, top=2, chunk=7, vocab_chunk=vocab_chunk))(
          HIDDEN, HEAD, TOKENS).jaxpr))
  assert f(13) == B * 7 * V  # the check can see it
  assert f(1) == B * (T - 1) * D


@pytest.mark.parametrize('fields, message', [
    (dict(top=0), 'top is 0'), (dict(top=14), r'top is 14; .* \[1, 13\]'),
    (dict(top=3, vocab=2), 'top is 3'), (dict(top=1, vocab=14), 'vocab is 14'),
    (dict(top=1, vocab=0), 'vocab is 0')])
def test_impossible_sizes(fields, message):
  with pytest.raises(ValueError, match=message):
    top_logps(HIDDEN, HEAD, TOKENS, chunk=3, **fields)
