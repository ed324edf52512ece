"""Kept ids: log-probs, rest and gradients against dense ones; supports."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from tests.long import LONG, long
from zppo_jax.objectives import (
  divergences,
  gathered_logps as kept_ids,
  token_logps,
)
from zppo_jax.objectives.divergences import Divergence
from zppo_jax.objectives.gathered_logps import gathered_logps
from zppo_jax.objectives.top_logps import top_logps

pytestmark = pytest.mark.usefixtures('quick_compile')

B, T, D, V, K = 2, 12, 5, 13, 4
PADDED = 15
RNG = np.random.default_rng(0)
HIDDEN = RNG.standard_normal((B, T, D))
HEAD = RNG.standard_normal((D, PADDED))
IDS = np.argsort(RNG.standard_normal((B, T, V)))[..., :K].astype(np.int32)
IDS[0, 3, 1] = IDS[1, 5, :] = -1
WEIGHTS = RNG.standard_normal((B, T, K + 1))


def dense(hidden, head, ids, temperature=1.0):
  """[B, T, K + 1] from all logits: kept ids, and the rest as a sum."""
  logps = jax.nn.log_softmax(
      (hidden[:, :-1] @ head)[..., :V] / temperature, axis=-1)
  ids = ids[:, 1:]
  picked = jnp.where(ids >= 0, jnp.take_along_axis(
      logps, jnp.maximum(ids, 0), axis=-1), -jnp.inf)
  kept = (ids[..., None] == np.arange(V)).any(axis=-2)
  rest = jax.nn.logsumexp(jnp.where(kept, -1e30, logps), axis=-1)
  out = jnp.concatenate([picked, rest[..., None]], axis=-1)
  return jnp.pad(out, ((0, 0), (1, 0), (0, 0)))


def graded(function, hidden, head):
  """(values, gradients of a weighted sum of those that are finite)."""
  def f(hidden, head):
    out = function(hidden, head)
    weights = WEIGHTS[..., :out.shape[-1]]
    # Position 0 holds no id.
    return jnp.where(jnp.isfinite(out) & (np.arange(T) > 0)[None, :, None],
                     weights * out, 0).sum(), out
  (_, out), grads = jax.jit(jax.value_and_grad(f, (0, 1), has_aux=True))(
      hidden, head)
  return out[:, 1:], grads


def assert_near(got, want, rtol):
  """max |got - want| <= rtol max |want|, of each array."""
  for x, y in zip(got, want, strict=True):
    assert x.shape == y.shape and x.dtype == y.dtype
    assert np.abs(x - y).max() <= rtol * np.abs(y).max()


# 15 columns in parts of 15, 7 (21: six of padding), 4 and 1.
@pytest.mark.parametrize('chunk, vocab_chunk', [
    (3, 15), (512, 7), long(4, 4), long(11, 1)])
@pytest.mark.parametrize('rest', [False, True])
def test_equals_dense(chunk, vocab_chunk, rest):
  """Values and gradients in float64 to 1e-12; ids of -1 have -inf."""
  with jax.enable_x64(True):
    hidden, head = jnp.asarray(HIDDEN), jnp.asarray(HEAD)
    got, grads = graded(lambda h, w: gathered_logps(
        h, w, IDS, vocab=V, temperature=0.7, rest=rest, chunk=chunk,
        vocab_chunk=vocab_chunk), hidden, head)
    want, wanted = graded(lambda h, w: dense(h, w, IDS, 0.7)[
        ..., :K + rest], hidden, head)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
    assert_near(grads, wanted, 1e-12)
    assert not grads[1][:, V:].any()


def test_finite_differences():
  """The gradient to single numbers of hidden states and head, float64."""
  with jax.enable_x64(True):
    f = jax.jit(lambda h, w: (WEIGHTS * jnp.nan_to_num(gathered_logps(
        h, w, IDS, vocab=V, rest=True, chunk=4, vocab_chunk=4),
        neginf=0)).sum())
    args = jnp.asarray(HIDDEN), jnp.asarray(HEAD)
    grads = jax.grad(f, (0, 1))(*args)
    for i, at in ((0, (0, 2, 1)), (0, (1, 7, 4)), (1, (3, 0)), (1, (0, 12))):
      moved = [[x if j != i else x.at[at].add(h) for j, x in enumerate(args)]
               for h in (1e-5, -1e-5)]
      slope = (f(*moved[0]) - f(*moved[1])) / 2e-5
      np.testing.assert_allclose(grads[i][at], slope, rtol=1e-7, atol=1e-8)


@LONG
def test_only_what_is_asked():
  """Other positions hold no id: -inf, all mass in the rest, no gradient."""
  asked = np.zeros((B, T), bool)
  asked[0, [0, 2, 3, 4, 9]] = asked[1, [1, 8]] = True
  masked = np.where(asked[..., None], IDS, -1)
  hidden, head = np.float32(HIDDEN), np.float32(HEAD)
  of = lambda ids, asked: graded(lambda h, w: gathered_logps(
      h, w, ids, asked, vocab=V, rest=True, chunk=2, vocab_chunk=4), hidden,
      head)
  (got, grads), (want, wanted) = of(IDS, asked), of(masked, None)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
  assert_near(grads, wanted, 1e-5)
  assert (got[..., :K][~asked[:, 1:]] == -np.inf).all()
  assert not got[..., K][~asked[:, 1:]].any()


@LONG
def test_bfloat16_states():
  """Values are float32 sums of bf16 products: as the dense form of them."""
  hidden, head = (jnp.asarray(x, jnp.bfloat16) for x in (HIDDEN, HEAD))
  got = gathered_logps(hidden, np.float32(HEAD), IDS, vocab=V, rest=True,
                       chunk=4, vocab_chunk=4)
  assert got.dtype == jnp.float32
  want = dense(*(x.astype(jnp.float32) for x in (hidden, head)), IDS)
  np.testing.assert_allclose(got[:, 1:], want[:, 1:], rtol=1e-5, atol=1e-5)
  grads = jax.grad(lambda h, w: gathered_logps(h, w, IDS, vocab=V, rest=True)[
      :, 1:, K].sum(), (0, 1))(hidden, np.float32(HEAD))
  assert [x.dtype for x in grads] == [jnp.bfloat16, jnp.float32]


def test_the_token_alone_equals_token_logps():
  """K = 1 with the sampled token, and Bernoulli's other side."""
  rng = np.random.default_rng(1)
  hidden, head = np.float32(HIDDEN), np.float32(HEAD[:, :V])
  tokens = rng.integers(0, V, (B, T)).astype(np.int32)
  ids = kept_ids.sampled_ids(None, None, tokens)
  got = gathered_logps(hidden, head, ids, vocab=V, rest=True)
  logp, _ = token_logps.token_logps(hidden, head, tokens)
  np.testing.assert_allclose(got[:, 1:, 0], logp[:, 1:], rtol=1e-6)
  np.testing.assert_allclose(np.exp(got[:, 1:]).sum(-1), 1, rtol=1e-6)


@LONG
def test_rest_where_the_kept_ids_hold_all_but_1e9():
  """Forward KL to a teacher with half of its mass elsewhere: the gradient is
  p_S - p_T of the bucket, shared by p_S, although 1 - p_S(0) is 0 in float32;
  the bucket from 1 - sum(p) floors there."""
  z = np.float32([20, 0, 0])
  t = jnp.log(jnp.float32([0.5, 0.5]))
  def loss(head):
    s = gathered_logps(jnp.ones((1, 2, 1)), head, np.int32([[[-1], [0]]]),
                       vocab=3, rest=True)
    return divergences.forward_kl(s[0, 1], t)
  grad = jax.grad(loss)(z[None])
  np.testing.assert_allclose(grad[0], [0.5, -0.25, -0.25], rtol=1e-4)


@LONG
def test_all_ids_kept():
  """K = V: the rest is empty in both models, stays at its floor and has no
  gradient; the divergence is that of the whole vocabulary."""
  rng = np.random.default_rng(1)
  hidden, head = np.float32(HIDDEN), np.float32(HEAD)
  ids = np.broadcast_to(np.arange(V, dtype=np.int32), (B, T, V))
  with_rest, without = (functools.partial(
      lambda h, w, rest: gathered_logps(
          h, w, ids, vocab=V, rest=rest, chunk=4, vocab_chunk=4)[:, 1:],
      rest=rest) for rest in (True, False))
  np.testing.assert_allclose(
      with_rest(hidden, head)[..., V], np.log(1e-8), rtol=1e-6)
  t = jax.nn.log_softmax(np.float32(rng.standard_normal((B, T - 1, V))))
  padded = jnp.pad(t, ((0, 0), (0, 0), (0, 1)), constant_values=np.log(1e-8))
  for choice in (Divergence('reverse'), Divergence('forward'),
                 Divergence('jensen_shannon', 0.5)):
    one = jax.value_and_grad(lambda w: choice(  # noqa: B023
        with_rest(hidden, w), padded).sum())(head)
    other = jax.value_and_grad(lambda w: choice(  # noqa: B023
        without(hidden, w), t).sum())(head)
    full = jax.value_and_grad(lambda w: choice(jax.nn.log_softmax(  # noqa: B023
        (hidden[:, :-1] @ w)[..., :V]), t).sum())(head)
    for value, grad in (one, other):
      np.testing.assert_allclose(value, full[0], rtol=1e-5)
      assert_near([grad], [full[1]], 1e-5)


@LONG
def test_kept_ids_from_both_models():
  """top_logps chooses, SUPPORTS joins, gathered_logps of either model gives
  what top_logps gave; 0 <= D <= D(all)."""
  rng = np.random.default_rng(1)
  models = [(np.float32(rng.standard_normal((B, T, d))),
             np.float32(rng.standard_normal((d, PADDED)))) for d in (5, 7)]
  tokens = rng.integers(0, V, (B, T)).astype(np.int32)
  tops = [top_logps(*model, tokens, top=K, chunk=4, vocab=V, vocab_chunk=4)
          for model in models]
  for model, (_, logps, ids) in zip(models, tops, strict=True):
    np.testing.assert_allclose(
        gathered_logps(*model, ids, vocab=V, vocab_chunk=4)[:, 1:],
        logps[:, 1:], rtol=1e-5, atol=1e-6)
  logps = [jax.nn.log_softmax((h[:, :-1] @ w)[..., :V]) for h, w in models]
  full = divergences.reverse_kl(*logps)
  for name, support in kept_ids.SUPPORTS.items():
    ids = support(tops[0][2], tops[1][2], tokens)
    s, t = (gathered_logps(*model, ids, vocab=V, rest=True)
            for model in models)
    value = divergences.reverse_kl(s, t)[:, 1:]
    assert (value > -1e-6).all() and (value < full + 1e-5).all(), name
    # The bucket of 1 - sum(p) is the same where float32 can resolve it.
    other = divergences.reverse_kl(*(
        divergences.bucket(x[..., :-1]) for x in (s, t)))[:, 1:]
    known = np.minimum(s, t)[:, 1:, -1] > np.log(1e-3)
    assert known.mean() > 0.5
    np.testing.assert_allclose(value[known], other[known], atol=1e-3)


def test_supports_by_hand():
  """Duplicates and absent ids of -1 stand once or nowhere."""
  student, teacher = np.int32([7, 2, -1, 5]), np.int32([5, 9, -1, 7])
  of = {name: np.asarray(f(student, teacher, np.int32(3))).tolist()
        for name, f in kept_ids.SUPPORTS.items()}
  assert of['student'] == student.tolist()
  assert of['teacher'] == teacher.tolist()
  assert of['both'] == [5, -1, -1, 7]
  assert of['sampled'] == [3]
  assert sorted(x for x in of['either'] if x >= 0) == [2, 5, 7, 9]
  assert len(of['either']) == 8


def test_supports_of_random_ids():
  """Sets, position by position."""
  rng = np.random.default_rng(1)
  student, teacher = (np.argsort(rng.standard_normal((40, 3, 9)))[..., :4]
                      .astype(np.int32) for _ in range(2))
  either = np.asarray(kept_ids.either_ids(student, teacher, None))
  both = np.asarray(kept_ids.both_ids(student, teacher, None))
  for at in np.ndindex(40, 3):
    mine, theirs = set(student[at].tolist()), set(teacher[at].tolist())
    for ids, want in ((either, mine | theirs), (both, mine & theirs)):
      present = [x for x in ids[at].tolist() if x >= 0]
      assert sorted(present) == sorted(want)


def test_where_kept():
  np.testing.assert_array_equal(
      kept_ids.where_kept(np.float32([[-1, -2]]), np.int32([[4, -1]])),
      [[-1, -np.inf]])


def sizes(jaxpr):
  """Elements of every intermediate array, those of inner jaxprs included."""
  for equation in jaxpr.eqns:
    for variable in equation.outvars:
      yield variable.aval.size
    for inner in core.jaxprs_in_params(equation.params):
      yield from sizes(inner)


def test_all_logits_never_exist_at_once():
  """Forward and backward hold at most [B, chunk, part] of [B, T, V]."""
  def f(**fields):
    loss = lambda h, w: gathered_logps(
        h, w, IDS, vocab=V, rest=True, **fields)[:, 1:, K].sum()
    return max(sizes(jax.make_jaxpr(jax.value_and_grad(loss, (0, 1)))(
        np.float32(HIDDEN), np.float32(HEAD)).jaxpr))
  assert f(chunk=512) == B * 11 * PADDED  # the check can see it
  assert f(chunk=2, vocab_chunk=4) == B * 12 * D


def test_impossible_vocabulary():
  for vocab in (0, PADDED + 1):
    with pytest.raises(ValueError, match=rf'vocab is {vocab}; .* 15\], the'):
      gathered_logps(HIDDEN, HEAD, IDS, vocab=vocab)
  with pytest.raises(AssertionError):
    gathered_logps(HIDDEN, HEAD, IDS[:, 1:], vocab=V)


def test_one_position_has_no_context():
  hidden, head = np.float32(HIDDEN), np.float32(HEAD)
  for rest in (False, True):
    got = gathered_logps(hidden[:, :1], head, IDS[:, :1], vocab=V, rest=rest)
    assert got.shape == (B, 1, K + rest)
    assert (got[..., :K] == -np.inf).all() and not got[..., K:].any()
