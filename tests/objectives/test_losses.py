"""Token objectives: values, gradients and flags by hand."""

import functools
import math
import types

import jax
import numpy as np
import pytest

from zppo_jax.arrays import MicroBatch, OwnPrompts, PolicyOutput
from zppo_jax.objectives import losses
from zppo_jax.objectives.losses import ClipBounds

# Clip 0.20 / 0.28, dual 10. (advantage, ratio, loss, gradient of the loss
# with respect to logp, bound that holds). Unclipped: loss = -r A and
# d(-r A)/d logp = -r A.
CASES = [
    (1.0, 1.0, -1.0, -1.0, None),
    (1.0, 1.2, -1.2, -1.2, None),
    (1.0, 1.5, -1.28, 0.0, 'clip_high'),
    (1.0, 12.0, -1.28, 0.0, 'clip_high'),  # the dual bound is for A < 0
    (1.0, 0.5, -0.5, -0.5, None),  # the lower bound never holds A > 0
    (-2.0, 1.0, 2.0, 2.0, None),
    (-2.0, 0.9, 1.8, 1.8, None),
    (-2.0, 0.5, 1.6, 0.0, 'clip_low'),  # 0.8 * 2
    (-2.0, 1.5, 3.0, 3.0, None),  # the upper bound never holds A < 0
    (-2.0, 9.0, 18.0, 18.0, None),
    (-2.0, 12.0, 20.0, 0.0, 'clip_dual'),  # 10 * 2
    (0.0, 1.0, 0.0, 0.0, None),
    (0.0, 5.0, 0.0, 0.0, None),
    (0.0, 0.1, 0.0, 0.0, None),
]
PAPER = ClipBounds()
FLAGS = ('clip_low', 'clip_high', 'clip_dual')


@functools.partial(jax.jit, static_argnums=0)
def evaluated(of, logp, old, adv):
  """(loss, flags, gradient of the summed loss to logp, and to old).

  Args:
    of: a `losses.Loss`.
  """
  def total(logp, old):
    output = PolicyOutput(logp_BT=logp, entropy_BT=logp, hidden_BTD=logp,
                          head_DV=logp)
    batch = MicroBatch(
        tokens_BT=logp, positions_BTA=logp, segment_BT=logp, mask_BT=logp,
        targets={'old_logp': old, 'advantage': adv},
        prompts=OwnPrompts(media=None))
    loss, flags = of(output, batch)
    return loss.sum(), (loss, flags)
  (_, (loss, flags)), (grad, old_grad) = jax.value_and_grad(
      total, argnums=(0, 1), has_aux=True)(logp, old)
  return loss, flags, grad, old_grad


@functools.cache
def clipped(clip: ClipBounds) -> losses.Loss:
  return functools.partial(losses.clipped_surrogate, clip=clip)


def surrogate(advantages, ratios, clip=PAPER):
  """Loss, gradient and flags of tokens in rows of one."""
  logp = np.log(np.float32(ratios))[:, None] - 3
  loss, flags, grad, old_grad = evaluated(
      clipped(clip), logp, np.full_like(logp, -3),
      np.float32(advantages)[:, None])
  assert not np.any(old_grad)  # the old policy is a constant
  return (np.asarray(loss)[:, 0], np.asarray(grad)[:, 0],
          {k: np.asarray(v)[:, 0] for k, v in flags.items()})


def test_surrogate_by_hand():
  """Values, gradients (0 where clipped) and flags of every regime."""
  adv, ratio, want_loss, want_grad, want_flag = zip(
      *CASES, strict=True)
  loss, grad, flags = surrogate(adv, ratio)
  np.testing.assert_allclose(loss, want_loss, rtol=1e-5)
  np.testing.assert_allclose(grad, want_grad, rtol=1e-5)
  assert set(flags) == set(FLAGS)
  for name in FLAGS:
    assert flags[name].dtype == bool
    assert flags[name].tolist() == [f == name for f in want_flag]


def test_flag_means_no_gradient():
  """Over a grid, a token has a gradient unless A = 0 or one flag is up."""
  ratio, adv = np.meshgrid(np.geomspace(0.05, 40, 97), [-3, -0.1, 0, 0.2, 2])
  _, grad, flags = surrogate(adv.ravel(), ratio.ravel())
  held = sum(flags[name].astype(int) for name in FLAGS)
  assert held.max() == 1
  np.testing.assert_array_equal(grad == 0, (held == 1) | (adv.ravel() == 0))


def test_other_bounds():
  """The bounds are the config's: 0.5 / 1.0 / 3."""
  clip = ClipBounds(low=0.5, high=1.0, dual=3.0)
  loss, _, _ = surrogate([1, 1, -1, -1, -1], [1.9, 2.5, 0.6, 0.4, 4.0], clip)
  np.testing.assert_allclose(loss, [-1.9, -2.0, 0.6, 0.5, 3.0], rtol=1e-5)


def test_no_gradient_to_old_logps():
  """The old policy is a constant even where it is the same array."""
  adv = np.float32([[1.0]])
  grad = jax.jit(jax.grad(lambda x: losses.surrogate(
      x, x, adv, PAPER)[0].sum()))(np.float32([[-1.0]]))
  np.testing.assert_allclose(grad, [[-1.0]])


@pytest.mark.parametrize('advantage, loss', [(0, 0), (1, -1.28), (-2, 20)])
def test_bounds_hold_where_the_ratio_overflows(advantage, loss):
  """exp(100) is inf in float32: the bounds exist for such tokens."""
  value, _, grad, _ = evaluated(
      clipped(PAPER), np.float32([[-1.0]]), np.float32([[-101.0]]),
      np.float32([[advantage]]))
  np.testing.assert_allclose(value, [[loss]], rtol=1e-6)
  assert grad == 0


def test_negative_log_likelihood():
  """-w logp with gradient -w, and no bound holds anything."""
  logp = np.float32([[-1.0, -2.0], [-3.0, -4.0]])
  weight = np.float32([[2.0], [0.0]])
  loss, flags, grad, _ = evaluated(
      losses.negative_log_likelihood, logp, logp + 9,
      np.broadcast_to(weight, logp.shape))
  np.testing.assert_array_equal(loss, [[2, 4], [0, 0]])
  np.testing.assert_array_equal(grad, [[-2, -2], [0, 0]])
  assert flags == {}


@pytest.mark.parametrize('fields, message', [
    (dict(low=-0.1), 'clip.low is -0.1'), (dict(low=1.0), 'clip.low is 1.0'),
    (dict(high=-0.1), 'clip.high is -0.1'),
    (dict(dual=1.0), 'clip.dual is 1.0'),
    (dict(low=math.nan), 'clip.low is nan'),
    (dict(high=math.nan), 'clip.high is nan'),
    (dict(dual=math.nan), 'clip.dual is nan')])
def test_impossible_bounds(fields, message):
  """Each bound is checked by name, NaN included."""
  with pytest.raises(ValueError, match=message):
    ClipBounds(**fields)


def test_table_8():
  """The paper's bounds are the defaults."""
  assert PAPER == ClipBounds(low=0.20, high=0.28, dual=10.0)


def test_shapes_are_checked():
  """Advantages come as a column: a bare [B] would broadcast over T."""
  square = np.zeros((2, 2), np.float32)
  with pytest.raises(AssertionError, match='rank'):
    losses.surrogate(square, square, square[0], PAPER)


def test_a_row_brings_its_own_constants():
  """Bounds are made, and checked, only where a loss clips."""
  fields = types.SimpleNamespace(clip={'low': 0.1, 'high': 0.2, 'dual': 3.0})
  context = losses.LossContext(algorithm=fields)
  made = losses.make_clipped_surrogate(context)
  assert made.keywords == {'clip': ClipBounds(low=0.1, high=0.2, dual=3.0)}
  context = losses.LossContext(types.SimpleNamespace(clip={'low': -1}))
  with pytest.raises(ValueError, match='clip.low is -1'):
    losses.make_clipped_surrogate(context)
  assert losses.make_negative_log_likelihood(
      context) is losses.negative_log_likelihood
