"""Sequence ratios and clipped weights by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.long import LONG
from zppo_jax.objectives import reducers, surrogates
from zppo_jax.objectives.surrogates import SequenceClip, WeightClip

LN2 = np.log(2)
# Two packed sequences and padding; the first token of each is its prompt.
SEGMENT = np.int32([[1, 1, 1, 2, 2, 2, 0]])
MASK = np.float32([[0, 1, 1, 0, 1, 1, 0]])
OLD = np.full((1, 7), -3, np.float32)
# log-ratios 2 ln 2 and 0 (s = 2), then -ln 2 and -3 ln 2 (s = 1/4); what
# stands outside the responses may not matter.
LOGP = OLD + np.float32([[9, 2 * LN2, 0, 9, -LN2, -3 * LN2, 9]])
WIDE = SequenceClip(low=0.9, high=9)


def gspo(adv, clip, logp=LOGP, mask=MASK):
  """(loss, gradient of its mean per rollout to logp, flags)."""
  adv = np.float32([[0, adv[0], adv[0], 0, adv[1], adv[1], 0]])
  weight, count = reducers.per_rollout(mask, SEGMENT, mask, 2)

  def total(logp, old):
    loss, flags = surrogates.gspo(logp, old, adv, mask, SEGMENT, clip)
    return (weight * loss).sum() / count, (loss, flags)
  (_, (loss, flags)), (grad, of_old) = jax.value_and_grad(
      total, (0, 1), has_aux=True)(jnp.asarray(logp), OLD)
  assert not np.any(of_old)
  return np.asarray(loss), np.asarray(grad), flags


def test_gspo_by_hand():
  """-s A on each token; the gradient is -s A / (|y| rollouts) on each."""
  loss, grad, flags = gspo((1.5, -2), WIDE)
  np.testing.assert_allclose(loss, [[0, -3, -3, 0, 0.5, 0.5, 0]], rtol=1e-6)
  np.testing.assert_allclose(
      grad, [[0, -0.75, -0.75, 0, 0.125, 0.125, 0]], rtol=1e-6)
  assert not any(np.any(x) for x in flags.values())


@LONG
def test_gspo_equals_its_sequence_form():
  """Eqs. 5 and 7 written down and differentiated, over both signs."""
  def sequence(logp, adv, clip):
    s = jnp.exp(jnp.stack([(logp - OLD)[0, i:i + 2].mean() for i in (1, 4)]))
    return -jnp.minimum(s * adv, jnp.clip(
        s, 1 - clip.low, 1 + clip.high) * adv).mean()
  for clip in (WIDE, SequenceClip(low=0.5, high=0.5), SequenceClip()):
    for adv in ((1, 1), (-1, -1), (2, -1), (-1, 0.5)):
      loss, grad, _ = gspo(adv, clip)
      want, of_want = jax.value_and_grad(sequence)(
          jnp.asarray(LOGP), np.float32(adv), clip)
      np.testing.assert_allclose(
          loss[0, [1, 2, 4, 5]].mean(), want, rtol=1e-5)
      np.testing.assert_allclose(grad, of_want, rtol=1e-5, atol=1e-7)


def test_gspo_clips_whole_sequences():
  """All tokens of a response together, where the bound determines the loss."""
  for adv, flag, tokens in (((1, 1), 'clip_high', [1, 2]),
                            ((-1, -1), 'clip_low', [4, 5])):
    loss, grad, flags = gspo(adv, SequenceClip(low=0.5, high=0.5))
    held = np.isin(np.arange(7), tokens)
    np.testing.assert_array_equal(np.asarray(flags[flag])[0], held)
    assert not grad[0, held].any()
    assert grad[0, np.setdiff1d([1, 2, 4, 5], tokens)].all()
    bound = 1.5 if flag == 'clip_high' else 0.5
    np.testing.assert_allclose(loss[0, tokens], -bound * adv[0], rtol=1e-6)


def test_gspo_stays_finite():
  """A ratio of e^300, and a row without response tokens."""
  loss, grad, _ = gspo((1, -1), WIDE, logp=LOGP + np.float32(300))
  assert np.isfinite(loss).all() and np.isfinite(grad).all()
  loss, flags = surrogates.gspo(LOGP, OLD, OLD, 0 * MASK, SEGMENT, WIDE)
  assert not np.any(loss) and not any(np.any(x) for x in flags.values())


def test_cispo_by_hand():
  """-sg(w) A logp: the gradient is -w A, at the bound as well."""
  ratio = np.float32([[0.1, 0.5, 1, 2, 8]])
  logp = np.log(ratio) - 3
  adv = np.float32([[1, -1, 2, 1, -2]])
  for clip, weight in ((WeightClip(high=2.0), [0.1, 0.5, 1, 2, 3]),
                       (WeightClip(low=0.6, high=0.5),
                        [0.4, 0.5, 1, 1.5, 1.5])):
    def f(logp, old):
      loss, flags = surrogates.cispo(logp, old, adv, clip)  # noqa: B023
      return loss.sum(), (loss, flags)
    (_, (loss, flags)), (grad, of_old) = jax.value_and_grad(
        f, (0, 1), has_aux=True)(logp, np.full_like(logp, -3))
    np.testing.assert_allclose(loss, -np.float32(weight) * adv * logp,
                               rtol=1e-5)
    np.testing.assert_allclose(grad, -np.float32(weight) * adv, rtol=1e-5)
    assert not np.any(of_old)
    np.testing.assert_array_equal(
        flags['clip_low'], ratio < 1 - clip.low - 1e-6)
    np.testing.assert_array_equal(flags['clip_high'], ratio > 1 + clip.high)


@pytest.mark.parametrize('make, message', [
    (lambda: SequenceClip(low=1.0), 'sequence_clip.low is 1.0'),
    (lambda: SequenceClip(high=-0.1), 'sequence_clip.high is -0.1'),
    (lambda: SequenceClip(low=math.nan), 'sequence_clip.low is nan'),
    (lambda: WeightClip(high=math.nan), 'weight_clip.high is nan'),
    (lambda: WeightClip(high=1.0, low=1.1), 'weight_clip.low is 1.1')])
def test_impossible_bounds(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_shapes_are_checked():
  with pytest.raises(AssertionError):
    surrogates.gspo(LOGP, OLD, OLD[:, :1], MASK, SEGMENT, WIDE)
  with pytest.raises(AssertionError):
    surrogates.cispo(LOGP, OLD, OLD[:, :1], WeightClip(high=1.0))
