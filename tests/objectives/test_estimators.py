"""Estimators on sampled tokens: expectations by enumeration of all tokens.

The example: p_S = (.5, .3, .2), p_T = (.2, .2, .6).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zppo_jax.objectives import estimators

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
S, T = np.log(P), np.log(Q)
D = np.array([-0.916291, -0.405465, 1.098612])
REVERSE = [0.278114, 0.013621, -0.291735]
FORWARD = [0.3, 0.1, -0.4]
NEAR = dict(rtol=0, atol=1e-6)


def expected(function, weights=P):
  """(E[value], E[gradient to the logits]) over tokens with these weights."""
  def loss(z):
    values = function(jax.nn.log_softmax(z))
    return (jnp.asarray(weights) * values).sum()
  return jax.value_and_grad(loss)(jnp.asarray(S))


@pytest.mark.parametrize('x64', [False, True])
@pytest.mark.parametrize('kind, value, gradient', [
    ('k1', 0.360062, [0, 0, 0]), ('k2', 0.355252, REVERSE),
    ('k3', 0.360062, FORWARD)])
def test_expectations_by_enumeration(kind, value, gradient, x64):
  """k1 trains nothing, k2 the reverse KL, k3 the forward KL."""
  with jax.enable_x64(x64):
    got, grad = expected(
        lambda s: estimators.ESTIMATORS[kind](s, jnp.asarray(T)))
    np.testing.assert_allclose(got, value, **NEAR)
    np.testing.assert_allclose(grad, gradient, **NEAR)


def test_values_by_hand():
  """Of single tokens, and no gradient to the teacher."""
  for kind, want in (('k1', -D), ('k2', D * D / 2),
                     ('k3', np.exp(D) - 1 - D)):
    function = estimators.ESTIMATORS[kind]
    np.testing.assert_allclose(function(S, T), want, **NEAR)
    assert not jax.grad(lambda t: function(S, t).sum())(T).any()  # noqa: B023


@pytest.mark.parametrize('kind', ['k1', 'k3'])
def test_ratio_weighted_has_the_reverse_gradient(kind):
  """On policy, and for tokens that another policy drew."""
  old = np.array([0.3, 0.3, 0.4])
  function = estimators.ESTIMATORS[kind]
  for drawn in (P, old):
    value, grad = expected(lambda s: estimators.ratio_weighted(
        function(s, T), s, np.log(drawn)), weights=drawn)  # noqa: B023
    np.testing.assert_allclose(value, 0.360062, **NEAR)
    np.testing.assert_allclose(grad, REVERSE, **NEAR)


def test_log_ratio_is_the_advantage_of_the_reverse_kl():
  """Policy gradient with d: minus the reverse gradient; d has no gradient."""
  np.testing.assert_allclose(estimators.log_ratio(S, T), D, **NEAR)
  _, grad = expected(lambda s: -estimators.log_ratio(s, T) * s)
  np.testing.assert_allclose(grad, REVERSE, **NEAR)


def test_negative_log_likelihood_of_teacher_samples_is_forward():
  _, grad = expected(lambda s: -s, weights=Q)
  np.testing.assert_allclose(grad, FORWARD, **NEAR)


def test_far_tokens_stay_finite():
  """d of 200 nats: exp(200) is inf in float32."""
  for function in (estimators.k2, estimators.k3):
    for d in (200.0, -200.0):
      value, grad = jax.value_and_grad(function)(
          jnp.float32(-1 - d), jnp.float32(-1))
      assert np.isfinite(value) and np.isfinite(grad) and value > 0
  value, grad = jax.value_and_grad(lambda s: estimators.ratio_weighted(
      estimators.k1(s, jnp.float32(-1)), s, jnp.float32(-300)))(
          jnp.float32(-1.5))
  assert np.isfinite(value) and np.isfinite(grad)


def test_k1_is_refused_as_a_loss():
  with pytest.raises(ValueError, match="'k1' as a loss .* losses: k2, k3"):
    estimators.as_loss('k1')
  with pytest.raises(KeyError, match="'k4'; known: k1, k2, k3"):
    estimators.as_loss('k4')
  assert estimators.as_loss('k3') is estimators.k3
  # Every estimator that is let through trains something.
  for kind, function in estimators.ESTIMATORS.items():
    _, grad = expected(lambda s: function(s, T))  # noqa: B023
    refused = kind in estimators.ZERO_MEAN_GRADIENT
    assert refused == (np.abs(grad).max() < 1e-6)
