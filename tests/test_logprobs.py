"""Token log-probs against a plain log_softmax of all logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from zppo_jax import logprobs

B, T, D, V = 2, 12, 5, 13  # 11 predicted positions
RNG = np.random.default_rng(0)
HIDDEN = RNG.standard_normal((B, T, D)).astype(np.float32)
HEAD = RNG.standard_normal((D, V)).astype(np.float32)
TOKENS = RNG.integers(0, V, (B, T)).astype(np.int32)
WEIGHTS = RNG.standard_normal((2, B, T)).astype(np.float32)


token_logps = jax.jit(logprobs.token_logps,
                      static_argnames=('temperature', 'chunk'))


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


@pytest.mark.parametrize('chunk', [3, 512])
def test_gradient_equals_plain_log_softmax(chunk):
  """Through both outputs, to the hidden states and to the head."""
  def total(fn):
    def f(hidden, head):
      logp, entropy = fn(hidden, head)
      return (WEIGHTS[0] * logp + WEIGHTS[1] * entropy).sum()
    return jax.jit(jax.grad(f, argnums=(0, 1)))(HIDDEN, HEAD)
  got = total(lambda h, w: logprobs.token_logps(
      h, w, TOKENS, temperature=0.6, chunk=chunk))
  want = total(lambda h, w: naive(h, w, TOKENS, 0.6))
  for x, y in zip(got, want, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)
  assert not got[0][:, -1].any()  # the last hidden state predicts nothing


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


def test_all_logits_never_exist_at_once():
  """Forward and backward hold at most [B, chunk, V] of [B, T, V]."""
  def f(chunk):
    loss = lambda h, w: logprobs.token_logps(
        h, w, TOKENS, chunk=chunk)[0].sum()
    return max(sizes(jax.make_jaxpr(jax.value_and_grad(loss, argnums=(0, 1)))(
        HIDDEN, HEAD).jaxpr))
  assert f(chunk=2) < B * 11 * V
  assert f(chunk=512) == B * 11 * V  # the check can see it


def test_shapes_are_checked():
  """Hidden states and tokens share [B, T]."""
  with pytest.raises(AssertionError):
    logprobs.token_logps(HIDDEN, HEAD, TOKENS[:, :-1])
  with pytest.raises(AssertionError, match='rank'):
    logprobs.token_logps(HIDDEN[0], HEAD, TOKENS)
