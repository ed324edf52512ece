"""The penalty towards the initial policy: values and gradients by hand."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.builders import group
from tests.long import LONG
from zppo_jax.algorithms import reference
from zppo_jax.algorithms.reference import Penalty
from zppo_jax.algorithms.targets import (
  REFERENCE_WEIGHT,
  TargetContext,
  group_advantages,
)
from zppo_jax.arrays import Hidden, MicroBatch, OwnPrompts, PolicyOutput
from zppo_jax.objectives import losses
from zppo_jax.records import Group, Verdict

LN2 = np.log(2)


def micro_batch(logps, mask=None):
  """Tokens whose reference has these log-probs."""
  logps = np.float32(logps)
  ones = np.ones_like(logps)
  return MicroBatch(
      tokens_BT=np.int32(ones), positions_BTA=np.int32(ones[..., None]),
      segment_BT=np.int32(ones), prompts=OwnPrompts(media=None),
      mask_BT=ones if mask is None else np.float32(mask),
      targets={reference.TARGET: logps})


def sampled(kind, logp, logps, coefficient=0.5, mask=None):
  """(loss_BT, gradient of its sum, statistics)."""
  batch = micro_batch(logps, mask)

  def total(logp):
    loss_BT, statistics = reference.sampled_penalty(
        PolicyOutput(logp_BT=logp, entropy_BT=logp, hidden_BTD=logp,
                     head_DV=logp), batch, kind=kind, coefficient=coefficient)
    return loss_BT.sum(), (loss_BT, statistics)
  (_, (loss, statistics)), grad = jax.value_and_grad(total, has_aux=True)(
      jnp.float32(logp))
  return loss, grad, statistics


def test_k2_by_hand():
  """d = ln 2 and -ln 2: d^2 / 2, and -d as its gradient, times 0.5."""
  loss, grad, statistics = sampled(
      'k2', [[-1.0, -1.0]], [[-1 + LN2, -1 - LN2]])
  np.testing.assert_allclose(loss, [[LN2**2 / 4] * 2], rtol=1e-6)
  np.testing.assert_allclose(grad, [[-LN2 / 2, LN2 / 2]], rtol=1e-6)
  # k3, because the mean of k2 is no divergence
  np.testing.assert_allclose(statistics['reference/kl'],
                             [[1 - LN2, LN2 - 0.5]], rtol=1e-5)


def test_k3_by_hand():
  """e^d - 1 - d with d = ln 2 and -ln 2; its gradient to logp is 1 - e^d."""
  loss, grad, _ = sampled('k3', [[-1.0, -1.0]], [[-1 + LN2, -1 - LN2]])
  np.testing.assert_allclose(loss, [[(1 - LN2) / 2, (LN2 - 0.5) / 2]],
                             rtol=1e-5)
  np.testing.assert_allclose(grad, [[-0.5, 0.25]], rtol=1e-6)


def test_tokens_without_a_loss():
  loss, grad, statistics = sampled('k2', [[-1.0, 0.0]], [[-2.0, -5.0]],
                                   mask=[[1, 0]])
  assert loss[0, 1] == grad[0, 1] == statistics['reference/kl'][0, 1] == 0
  assert loss[0, 0] == 0.25


def whole(logits, of_reference, temperature=1.0, coefficient=0.5,
          **targets):
  """(loss_BT, gradient to logits); two tokens, the head is the identity."""
  logits, of_reference = np.float32(logits), np.float32(of_reference)
  V = logits.shape[-1]
  batch = MicroBatch(
      tokens_BT=np.int32([[0, 1]]), positions_BTA=np.int32([[[0], [1]]]),
      segment_BT=np.int32([[1, 1]]), mask_BT=np.float32([[1, 1]]),
      targets=targets, prompts=OwnPrompts(media=None))

  def total(hidden):
    loss_BT, statistics = reference.whole_penalty(
        PolicyOutput(
            logp_BT=hidden[..., 0], entropy_BT=hidden[..., 0],
            hidden_BTD=hidden, head_DV=jnp.eye(V), frozen={
                reference.MODEL: Hidden(hidden_BTD=jnp.asarray(of_reference),
                                        head_DV=jnp.eye(V))}),
        batch, coefficient=coefficient, vocab=V, temperature=temperature,
        chunk=4)
    return loss_BT.sum(), (loss_BT, statistics)
  (_, (loss, statistics)), grad = jax.value_and_grad(total, has_aux=True)(
      jnp.asarray(logits))
  np.testing.assert_allclose(loss, coefficient * statistics['reference/kl'])
  return loss, grad


@LONG
def test_full_by_hand():
  """p_S = (1/2, 1/2), p_R = (3/4, 1/4) and the reverse.

  KL(S, R) = ln 2 / 2 + ln(2/3) / 2 = ln(4/3) / 2; the gradient to logits is
  p_S (log p_S - log p_R - KL): for the first -(ln 3) / 4 and (ln 3) / 4. KL(R,
  S), which is not it, is 0.75 ln 1.5 - 0.25 ln 2.
  """
  ln3 = np.log(3)
  loss, grad = whole([[[0, 0], [ln3, 0]]], [[[ln3, 0], [0, 0]]])
  np.testing.assert_allclose(
      loss, 0.5 * np.float32([[np.log(4 / 3) / 2,
                               0.75 * np.log(1.5) - 0.25 * LN2]]), rtol=1e-5)
  np.testing.assert_allclose(grad[0, 0], [-ln3 / 8, ln3 / 8], rtol=1e-5)
  # 3/4 (ln 1.5 - KL) = -(1/4) (-ln 2 - KL) = 3/16 ln 3
  np.testing.assert_allclose(grad[0, 1], [3 * ln3 / 32, -3 * ln3 / 32],
                             rtol=1e-5)
  off, grad_off = whole([[[0, 0], [ln3, 0]]], [[[ln3, 0], [0, 0]]], **{
      REFERENCE_WEIGHT: np.float32([[0, 1]])})  # the first is off the route
  np.testing.assert_allclose(off, loss * np.float32([[0, 1]]))
  np.testing.assert_allclose(grad_off, grad * np.float32([[[0], [1]]]))


def test_full_has_one_temperature_for_both():
  """At 2, logits (2 ln 3, 0) mean what (ln 3, 0) mean at 1."""
  ln3 = np.log(3)
  want, of_want = whole([[[0, 0], [ln3, 0]]], [[[ln3, 0], [0, 0]]])
  loss, grad = whole([[[0, 0], [2 * ln3, 0]]], [[[2 * ln3, 0], [0, 0]]],
                     temperature=2.0)
  np.testing.assert_allclose(loss, want, rtol=1e-5)
  np.testing.assert_allclose(grad, of_want / 2, rtol=1e-5)


def test_a_policy_that_equals_its_reference():
  """KL 0 and no gradient."""
  for kind in ('k2', 'k3'):
    loss, grad, statistics = sampled(kind, [[-1.0, -7.0]], [[-1.0, -7.0]])
    assert not np.any(loss) and not np.any(grad)
    assert not np.any(statistics['reference/kl'])
  logits = np.random.default_rng(0).normal(size=(1, 2, 5))
  loss, grad = whole(logits, logits)
  np.testing.assert_allclose(loss, 0, atol=1e-7)
  np.testing.assert_allclose(grad, 0, atol=1e-7)


@pytest.mark.parametrize('kind, coefficient, error, message', [
    ('k1', 0.1, ValueError,
     "algorithm.reference.kind is 'k1'; .*gradient of zero mean; allowed "
     'losses: k2, k3'),
    ('k4', 0.1, KeyError, 'none, k1, k2, k3, full'),
    ('k3', 0.0, ValueError, 'reference.coefficient is 0.0; it must be > 0'),
    ('full', -1.0, ValueError, 'reference.coefficient is -1.0'),
    ('k2', np.inf, ValueError, 'reference.coefficient is inf'),
    ('none', 0.1, ValueError, "is 0.1; .* while algorithm.reference.kind is "
     "'none'")])
def test_what_is_refused(kind, coefficient, error, message):
  with pytest.raises(error, match=message):
    Penalty(kind=kind, coefficient=coefficient)


def test_the_loss_alone_without_a_penalty():
  context = losses.LossContext(algorithm=types.SimpleNamespace(temperature=1.0))
  loss = losses.negative_log_likelihood
  assert reference.penalised(loss, Penalty(), context) is loss
  batch = micro_batch([[-1.0 + LN2]]).with_target(
      'advantage', np.float32([[3.0]]))
  logp = np.float32([[-1.0]])
  total, statistics = reference.penalised(loss, Penalty('k2', 2.0), context)(
      PolicyOutput(logp_BT=logp, entropy_BT=logp, hidden_BTD=logp,
                   head_DV=logp), batch)
  np.testing.assert_allclose(total, [[3 + LN2**2]], rtol=1e-6)
  assert statistics.keys() == {'reference/kl'}


def test_every_rollout_with_a_verdict_is_penalised():
  """A trivial group with advantage 0; a rollout without a verdict is not."""
  mixed, trivial = group('a', right=1, size=3), group('b', right=3, size=3)
  lost = mixed.rollouts[2].__class__(**{
      **vars(mixed.rollouts[2]), 'verdict': Verdict.CRASH})
  mixed = Group(mixed.prompt, (*mixed.rollouts[:2], lost))
  context = TargetContext(
      groups=[mixed, trivial], step=0, seed=0, score=None,
      advantages=np.float32([[0.5, -0.5, 0], [0, 0, 0]]))
  made = functools.partial(reference.with_all_graded,
                           make=group_advantages,
                           penalty=Penalty('k2', 0.5))(context)
  assert set(made) == {(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)}
  assert {place: of['advantage'][0] for place, of in made.items()} == {
      (0, 0): 0.5, (0, 1): -0.5, (1, 0): 0, (1, 1): 0, (1, 2): 0}
  assert set(group_advantages(context)) == {(0, 0), (0, 1)}


def test_the_route_of_a_penalty():
  """The taught group loses it; a token off the route has neither loss nor
  gradient nor part in the statistics."""
  groups = [group('a', right=0, size=2), group('b', right=2, size=2)]
  context = TargetContext(
      groups=groups, step=0, seed=0, score=None,
      advantages=np.float32([[0, 0], [0, 0]]))
  penalty = Penalty('k2', 0.5, 'not taught')
  assert penalty.held(context, {(0, 1)}) == {
      (0, 0): False, (0, 1): False, (1, 0): True, (1, 1): True}
  assert all(penalty.held(context).values())
  below = functools.partial(
      reference.with_all_graded, make=group_advantages,
      penalty=Penalty('k2', 0.5, 'below(0.5)'))(context)
  assert set(below) == {(0, 0), (0, 1)}
  assert all(np.all(of[REFERENCE_WEIGHT] == 1) for of in below.values())
  with pytest.raises(KeyError, match='algorithm.reference.route'):
    Penalty('k2', 0.5, 'tought')
  with pytest.raises(KeyError, match='route'):
    Penalty(route='below(0.5)')  # of no penalty

  batch = micro_batch([[-1 + LN2, -1 + LN2]])
  batch = batch.with_target(REFERENCE_WEIGHT, np.float32([[1, 0]]))
  loss, statistics = reference.sampled_penalty(
      PolicyOutput(logp_BT=-jnp.ones((1, 2)), entropy_BT=0, hidden_BTD=0,
                   head_DV=0), batch, kind='k2', coefficient=0.5)
  np.testing.assert_allclose(loss, [[LN2**2 / 4, 0]], rtol=1e-6)
  assert statistics['reference/anchored'].tolist() == [[True, False]]
  assert statistics['reference/kl'][0, 1] == 0
