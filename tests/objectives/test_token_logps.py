"""Token log-probs against a plain log_softmax of all logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from tests.long import long
from zppo_jax.objectives import token_logps as logprobs

B, T, D, V = 2, 12, 5, 13  # 11 predicted positions
RNG = np.random.default_rng(0)
HIDDEN = RNG.standard_normal((B, T, D)).astype(np.float32)
HEAD = RNG.standard_normal((D, V)).astype(np.float32)
TOKENS = RNG.integers(0, V, (B, T)).astype(np.int32)
WEIGHTS = RNG.standard_normal((2, B, T)).astype(np.float32)


token_logps = jax.jit(logprobs.token_logps, static_argnames=(
    'temperature', 'chunk', 'vocab_chunk'))


@functools.partial(jax.jit, static_argnums=3)
def naive(hidden, head, tokens, temperature):
  """The same without chunks: position t is predicted by hidden t - 1."""
  logps = jax.nn.log_softmax(hidden[:, :-1] @ head / temperature, axis=-1)
  picked = jnp.take_along_axis(logps, tokens[:, 1:, None], 2)[..., 0]
  entropy = -(jnp.exp(logps) * logps).sum(-1)
  align = lambda x: jnp.pad(x, ((0, 0), (1, 0)))
  return align(picked), align(entropy)


@pytest.mark.parametrize('chunk, temperature', [
    (1, 1.0), (3, 0.6), (4, 1.0), (11, 0.6), (512, 1.0)])
def test_equals_plain_log_softmax(chunk, temperature):
  """Any chunk, dividing the 11 positions or not."""
  got = token_logps(HIDDEN, HEAD, TOKENS, temperature=temperature,
                    chunk=chunk)
  want = naive(HIDDEN, HEAD, TOKENS, temperature)
  for x, y in zip(got, want, strict=True):
    assert x.shape == (B, T) and x.dtype == jnp.float32
    np.testing.assert_allclose(x, y, rtol=2e-6, atol=2e-6)


def gradients(fn, hidden, head):
  """Of a weighted sum of both outputs, to hidden states and head."""
  def f(hidden, head):
    logp, entropy = fn(hidden, head)
    return (WEIGHTS[0] * logp + WEIGHTS[1] * entropy).sum()
  return jax.jit(jax.grad(f, argnums=(0, 1)))(hidden, head)


def assert_near(got, want, rtol):
  """max |got - want| <= rtol max |want|, of each array."""
  for x, y in zip(got, want, strict=True):
    assert x.shape == y.shape and x.dtype == y.dtype
    assert np.abs(x - y).max() <= rtol * np.abs(y).max()


@pytest.fixture(params=[0, logprobs.KEPT], ids=['recomputed', 'kept'])
def kept(request, monkeypatch):
  """Whether backward makes the logits anew; kept where they fit."""
  monkeypatch.setattr(logprobs, 'KEPT', request.param)


# 13 ids in parts of 13, 5 (with two of padding), 1; 11 positions.
@pytest.mark.parametrize('chunk, vocab_chunk', [
    (3, 13), (512, 13), long(4, 6), long(11, 1)])
@pytest.mark.parametrize('temperature', [1.0, 0.6])
def test_gradient_equals_plain_log_softmax(kept, chunk, vocab_chunk,
                                           temperature):
  """Through both outputs, to the hidden states and to the head."""
  fields = dict(temperature=temperature, chunk=chunk, vocab_chunk=vocab_chunk)
  got = gradients(lambda h, w: logprobs.token_logps(h, w, TOKENS, **fields),
                  HIDDEN, HEAD)
  want = gradients(lambda h, w: naive(h, w, TOKENS, temperature), HIDDEN, HEAD)
  assert_near(got, want, 1e-5)
  assert not got[0][:, -1].any()  # the last hidden state predicts nothing
  for x, y in zip(token_logps(HIDDEN, HEAD, TOKENS, **fields),
                  naive(HIDDEN, HEAD, TOKENS, temperature), strict=True):
    np.testing.assert_allclose(x, y, rtol=2e-6, atol=2e-6)


def test_float64_is_exact_and_a_tied_head_is_the_embedding():
  """Under x64 to 1e-12; the embedding of the tokens is the head too."""
  with jax.enable_x64(True):
    embed = np.float64(HEAD.T)
    mix = np.float64(RNG.standard_normal((D, D)))
    def f(fn):
      def loss(embed):
        hidden = jnp.tanh(embed[TOKENS] @ mix)
        return sum((w * x).sum() for w, x in zip(
            WEIGHTS, fn(hidden, embed.T), strict=True))
      return jax.jit(jax.value_and_grad(loss))(embed)
    got = f(lambda h, w: logprobs.token_logps(h, w, TOKENS, chunk=4,
                                              vocab_chunk=5))
    want = f(lambda h, w: naive(h, w, TOKENS, 1.0))
    assert got[1].dtype == np.float64
    assert_near(got, want, 1e-12)


def test_only_what_is_asked(kept):
  """Others are 0 and have no gradient; how many differs from row to row."""
  asked = np.zeros((B, T), bool)
  asked[0, [0, 2, 3, 4, 6, 9, 11]] = asked[1, [1, 8]] = True
  for chunk, vocab_chunk in ((2, 13), (5, 4), (512, 13)):
    one = lambda h, w: logprobs.token_logps(  # noqa: E731
        h, w, TOKENS, asked, chunk=chunk, vocab_chunk=vocab_chunk)  # noqa: B023
    all_of = lambda h, w: tuple(
        jnp.where(asked, x, 0) for x in naive(h, w, TOKENS, 1.0))
    for x, y in zip(one(HIDDEN, HEAD), all_of(HIDDEN, HEAD), strict=True):
      np.testing.assert_allclose(x, y, rtol=2e-6, atol=2e-6)
    assert_near(*(gradients(f, HIDDEN, HEAD) for f in (one, all_of)), 1e-5)
  nothing = lambda h, w: logprobs.token_logps(
      h, w, TOKENS, np.zeros((B, T), bool), chunk=2)
  assert not any(x.any() for x in gradients(nothing, HIDDEN, HEAD))


def test_blocks_without_an_asked_position_cost_nothing():
  """Junk behind the last asked one is never read: NaN would be seen."""
  asked = np.zeros((B, T), bool)
  asked[0, 3] = asked[1, 5:7] = True
  hidden = np.where(asked[..., None], HIDDEN, np.nan).astype(np.float32)
  hidden = np.roll(hidden, -1, axis=1)  # position t predicts t + 1
  logp, _ = token_logps(hidden, HEAD, TOKENS, asked, chunk=1)
  assert np.isfinite(logp[1, 5:7]).all() and logp[0, 3] < 0
  got = gradients(lambda h, w: logprobs.token_logps(
      h, w, TOKENS, asked, chunk=1), hidden, HEAD)
  # Row 0 has one asked position, row 1 two: its junk shares the second block.
  assert np.isnan(got[1]).all() and np.isfinite(got[0][1, 4:6]).all()


def test_far_logits():
  """Logits of 1e4 neither overflow nor lose the entropy."""
  hidden = np.float32([[[1e4], [1e4], [1e4]]])
  head = np.float32([[1, 1, -1, 0.9]])
  for vocab_chunk in (1, 2, 4):
    logp, entropy = token_logps(hidden, head, np.int32([[0, 0, 1]]),
                                vocab_chunk=vocab_chunk)
    np.testing.assert_allclose(logp[0, 1:], -np.log(2), rtol=1e-6)
    np.testing.assert_allclose(entropy[0, 1:], np.log(2), rtol=1e-6)


@pytest.mark.parametrize('vocab, most, want', [
    (248320, 8192, (32, 7760)), (151936, 8192, (32, 4748)), (13, 13, (1, 13)),
    (13, 6, (3, 5)), (13, 1, (13, 1)), (2048, 8192, (1, 2048))])
def test_parts_of_a_vocabulary(vocab, most, want):
  """Equal ones, without padding where twice as many would do it."""
  n, v = logprobs.parts(vocab, most)
  assert (n, v) == want and n * v >= vocab and v <= most


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_memory_at_a_real_shape(dtype):
  """Qwen3.5's vocabulary, 32k positions, width 1,024: what the compiler says
  of loss and gradient, at most a tenth of the plain form. Nothing is run."""
  shape = jax.ShapeDtypeStruct
  args = (shape((16, 2048, 1024), dtype), shape((1024, 248320), jnp.float32),
          shape((16, 2048), jnp.int32))
  def bytes_of(fn):
    def loss(hidden, head, tokens):
      logp, entropy = fn(hidden, head, tokens)
      return logp.sum() + 0.1 * entropy.sum()
    compiled = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*args).compile()
    return compiled.memory_analysis().temp_size_in_bytes
  plain = bytes_of(lambda h, w, t: naive(h, w.astype(h.dtype), t, 1.0))
  assert bytes_of(logprobs.token_logps) <= 0.1 * plain


def test_by_hand():
  """Two tokens with logits (log 3, 0): p = 3/4, 1/4; H = 0.5623 nats."""
  hidden = np.ones((1, 3, 1), np.float32)
  head = np.float32([[np.log(3), 0]])
  logp, entropy = token_logps(hidden, head, np.int32([[1, 0, 1]]))
  np.testing.assert_allclose(logp, np.log([[1, 3 / 4, 1 / 4]]), rtol=1e-6)
  h = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
  np.testing.assert_allclose(entropy, [[0, h, h]], rtol=1e-6)
  # Temperature 1/2 squares the odds: 9/10, 1/10.
  logp, _ = token_logps(hidden, head, np.int32([[1, 0, 1]]), temperature=0.5)
  np.testing.assert_allclose(logp, np.log([[1, 0.9, 0.1]]), rtol=1e-5)


def test_uniform_entropy_is_log_v():
  """A zero head knows nothing: every log-prob is -log V."""
  logp, entropy = token_logps(HIDDEN, 0 * HEAD, TOKENS, chunk=4)
  np.testing.assert_allclose(logp[:, 1:], -np.log(V), rtol=1e-6)
  np.testing.assert_allclose(entropy[:, 1:], np.log(V), rtol=1e-6)


def test_position_zero_is_zero():
  """The first token has no context; also when it is the only one."""
  for length in (T, 2, 1):
    logp, entropy = token_logps(HIDDEN[:, :length], HEAD, TOKENS[:, :length],
                                chunk=3)
    assert logp.shape == entropy.shape == (B, length)
    assert not logp[:, 0].any() and not entropy[:, 0].any()


def test_greedy_scores_at_temperature_one():
  """Temperature 0 draws the argmax; its log-probs are those at 1."""
  assert logprobs.scaled(0.0) == 1.0 and logprobs.scaled(0.7) == 0.7
  for got, want in zip(
      token_logps(HIDDEN, HEAD, TOKENS, temperature=0.0),
      token_logps(HIDDEN, HEAD, TOKENS, temperature=1.0), strict=True):
    np.testing.assert_array_equal(got, want)


def test_bf16_states_give_float32_logps():
  """Logits accumulate in float32: off by bf16's inputs (2^-9), no more."""
  hidden, head = HIDDEN.astype(jnp.bfloat16), HEAD.astype(jnp.bfloat16)
  got, _ = token_logps(hidden, HEAD, TOKENS, chunk=4)
  want, _ = naive(hidden.astype(np.float32), head.astype(np.float32), TOKENS,
                  1.0)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def sizes(jaxpr):
  """Elements of every intermediate array, those of inner jaxprs included."""
  for equation in jaxpr.eqns:
    for variable in equation.outvars:
      yield variable.aval.size
    for inner in core.jaxprs_in_params(equation.params):
      yield from sizes(inner)


def test_all_logits_never_exist_at_once(monkeypatch):
  """Forward and backward hold at most [B, chunk, part] of [B, T, V]."""
  def f(**fields):
    loss = lambda h, w: logprobs.token_logps(h, w, TOKENS, **fields)[0].sum()
    return max(sizes(jax.make_jaxpr(jax.value_and_grad(loss, argnums=(0, 1)))(
        HIDDEN, HEAD).jaxpr))
  assert f(chunk=512) == B * 11 * V  # the check can see it, and may: kept
  monkeypatch.setattr(logprobs, 'KEPT', B * 11 * V - 1)
  # Then hidden states are the largest: they were small beside V ids.
  assert f(chunk=2) == f(chunk=2, vocab_chunk=4) == B * 12 * D


def test_shapes_are_checked():
  """Hidden states and tokens share [B, T]."""
  with pytest.raises(AssertionError):
    logprobs.token_logps(HIDDEN, HEAD, TOKENS[:, :-1])
  with pytest.raises(AssertionError, match='rank'):
    logprobs.token_logps(HIDDEN[0], HEAD, TOKENS)
