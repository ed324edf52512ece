"""GSPO, Dr. GRPO and CISPO as losses of a micro-batch, by hand.

Two sequences of two tokens: log-ratios (2 ln 2, 0), whose sequence ratio is 2,
and (-ln 2, -3 ln 2), whose sequence ratio is 1/4. Advantages are 1.5 and -2.
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zppo_jax.arrays import MicroBatch, OwnPrompts, PolicyOutput
from zppo_jax.objectives import advantages, losses, reducers, surrogates

LN2 = np.log(2)
OLD = np.full((1, 4), -3, np.float32)
LOG_RATIO = np.float32([[2 * LN2, 0, -LN2, -3 * LN2]])
SEGMENT = np.int32([[1, 1, 2, 2]])
ADVANTAGE = np.float32([[1.5, 1.5, -2, -2]])
LONGEST = 8
SECTION = types.SimpleNamespace(
    clip={'low': 0.2, 'high': 0.28, 'dual': 10.0},
    sequence_clip={'low': 0.5, 'high': 9.0},
    weight_clip={'low': 1.0, 'high': 1.0})


def micro_batch(shape, segment, advantage, old):
  ones = np.ones(shape, np.float32)
  return MicroBatch(
      tokens_BT=np.int32(ones), positions_BTA=np.int32(ones[..., None]),
      segment_BT=segment, mask_BT=ones, prompts=OwnPrompts(media=None),
      targets={'old_logp': old, 'advantage': advantage})


@functools.partial(jax.jit, static_argnums=(0, 1))
def _reduced(loss, reducer, logp, segment, advantage, old):
  def total(logp):
    output = PolicyOutput(logp_BT=logp, entropy_BT=logp,
                          hidden_BTD=logp[..., None], head_DV=logp)
    batch = micro_batch(logp.shape, segment, advantage, old)
    loss_BT, statistics = loss(output, batch)
    weight_BT, count = reducers.reduced(
        reducer, batch.mask_BT, segment, batch.mask_BT, LONGEST)
    return (weight_BT * loss_BT).sum() / count, statistics
  return jax.value_and_grad(total, has_aux=True)(logp)


def reduced(make, reducer, log_ratio=LOG_RATIO, segment=SEGMENT,
            advantage=ADVANTAGE, section=SECTION):
  """(loss of the mini-batch, its gradient to logp, statistics)."""
  old = np.full_like(log_ratio, -3)
  (value, statistics), grad = _reduced(
      make(losses.LossContext(algorithm=section)), reducer, old + log_ratio,
      segment, advantage, old)
  return value, np.asarray(grad), statistics


def test_gspo():
  """s = 2 and 1/4; low 0.5 holds the second at 0.5 with A < 0.

  Loss: (-2 * 1.5 + 0.5 * 2) / 2 rollouts = -1. Gradient of the first: -s A /
  (2 tokens * 2 rollouts) on each token; none of the second.
  """
  value, grad, statistics = reduced(surrogates.make_gspo, 'per_rollout')
  np.testing.assert_allclose(value, -1.0, rtol=1e-6)
  np.testing.assert_allclose(grad, [[-0.75, -0.75, 0, 0]], rtol=1e-6)
  assert statistics['clip_low'].sum() == 2  # tokens
  assert statistics['sequence_clip_low'].sum() == 1  # responses
  assert statistics['clip_high'].sum() == 0
  assert statistics['sequence_clip_high'].sum() == 0


def test_dr_grpo():
  """The clipped surrogate, summed and divided by 2 rollouts * 8 tokens.

  Token objectives: ratio 4 held at 1.28 * 1.5, ratio 1 gives 1.5; ratios 1/2
  and 1/8 are held at 0.8 * -2. Loss: -(1.92 + 1.5 - 1.6 - 1.6) / 16.
  """
  value, grad, _ = reduced(losses.make_clipped_surrogate, 'constant_length')
  np.testing.assert_allclose(value, -0.22 / 16, rtol=1e-5)
  np.testing.assert_allclose(grad, [[0, -1.5 / 16, 0, 0]], rtol=1e-6)


def test_advantages_of_dr_grpo():
  """Rewards minus their mean: 0.75 and -0.25, and 0 in a trivial group."""
  rewards = np.float32([[1, 0, 0, 0], [1, 1, 1, 1]])
  np.testing.assert_array_equal(
      advantages.NORMALISERS['none'](rewards, np.ones_like(rewards)),
      [[0.75, -0.25, -0.25, -0.25], [0, 0, 0, 0]])


def test_cispo():
  """Weights 4, 1, 1/2, 1/8, the first bounded at 2; divided by 4 tokens.

  The gradient is -w A / 4, at the bound as well.
  """
  value, grad, statistics = reduced(surrogates.make_cispo, 'token_mean')
  weight = np.float32([[2, 1, 0.5, 0.125]])
  np.testing.assert_allclose(grad, -weight * ADVANTAGE / 4, rtol=1e-6)
  np.testing.assert_allclose(
      value, (-weight * ADVANTAGE * (OLD + LOG_RATIO)).sum() / 4, rtol=1e-6)
  assert statistics['clip_high'].sum() == 1
  assert statistics['clip_low'].sum() == 0  # low = 1 is no bound


def random_tokens(rows=64):
  rng = np.random.default_rng(0)
  ratio = rng.uniform(-0.6, 0.6, (rows, 1)).astype(np.float32)
  return ratio, rng.normal(size=(rows, 1)).astype(np.float32), np.ones(
      (rows, 1), np.int32)


def test_gspo_of_one_token_is_the_clipped_surrogate():
  """With the same bounds and without the dual one; value and gradient."""
  ratio, advantage, segment = random_tokens()
  section = types.SimpleNamespace(
      clip={'low': 0.2, 'high': 0.28, 'dual': np.inf},
      sequence_clip={'low': 0.2, 'high': 0.28})
  common = dict(log_ratio=ratio, segment=segment, advantage=advantage,
                section=section)
  value, grad, flags = reduced(surrogates.make_gspo, 'per_rollout', **common)
  want, of_want, want_flags = reduced(losses.make_clipped_surrogate,
                                      'token_mean', **common)
  np.testing.assert_allclose(value, want, rtol=1e-6)
  np.testing.assert_allclose(grad, of_want, rtol=1e-5, atol=1e-9)
  for name in ('clip_low', 'clip_high'):
    np.testing.assert_array_equal(flags[name], want_flags[name])
    np.testing.assert_array_equal(flags[f'sequence_{name}'], flags[name])
    assert flags[name].any()


def test_dr_grpo_is_the_token_mean_up_to_a_constant():
  """4 tokens of the mean, 2 rollouts times the longest response of Dr. GRPO."""
  value, grad, _ = reduced(losses.make_clipped_surrogate, 'constant_length')
  mean, of_mean, _ = reduced(losses.make_clipped_surrogate, 'token_mean')
  np.testing.assert_allclose(value * 2 * LONGEST, mean * 4, rtol=1e-6)
  np.testing.assert_allclose(grad * 2 * LONGEST, of_mean * 4, rtol=1e-6)


def test_cispo_is_a_weighted_policy_gradient():
  """Its gradient is that of -w A log p with w a constant of the token."""
  ratio, advantage, segment = random_tokens()
  _, grad, _ = reduced(surrogates.make_cispo, 'token_mean', log_ratio=ratio,
                       segment=segment, advantage=advantage)
  weight = np.minimum(np.exp(ratio), 2)
  _, want, _ = reduced(
      losses.make_negative_log_likelihood, 'token_mean', log_ratio=ratio,
      segment=segment, advantage=weight * advantage)
  np.testing.assert_allclose(grad, want, rtol=1e-5)


@pytest.mark.parametrize('make, section, message', [
    (surrogates.make_gspo, {'sequence_clip': {'low': 1.5}},
     'sequence_clip.low is 1.5'),
    (surrogates.make_cispo, {'weight_clip': {'high': -1.0}},
     'weight_clip.high is -1.0')])
def test_impossible_bounds_are_named(make, section, message):
  with pytest.raises(ValueError, match=message):
    make(losses.LossContext(algorithm=types.SimpleNamespace(**section)))


def test_masked_tokens_neither_count_nor_change():
  """A prompt and another response beside it: the sequence sums leave both
  out."""
  old = np.full((1, 6), -3, np.float32)
  log_ratio = np.float32([[9, 2 * LN2, 0, -9, 9, 9]])
  mask = np.float32([[0, 1, 1, 0, 0, 0]])
  batch = micro_batch(old.shape, np.int32([[1, 1, 1, 2, 2, 0]]),
                      np.full_like(old, 1.5), old).replace(mask_BT=mask)
  logp = jnp.asarray(old + log_ratio)
  output = PolicyOutput(logp_BT=logp, entropy_BT=logp,
                        hidden_BTD=logp[..., None], head_DV=logp)
  loss, statistics = surrogates.make_gspo(
      losses.LossContext(types.SimpleNamespace(
          sequence_clip={'low': 0.5, 'high': 0.5})))(output, batch)
  np.testing.assert_allclose(loss, [[0, -2.25, -2.25, 0, 0, 0]], rtol=1e-6)
  assert statistics['sequence_clip_high'].sum() == 1
