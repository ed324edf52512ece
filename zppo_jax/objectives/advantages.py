"""Group advantages and their batch-level normalisation (ZPPO Eqs. 1-6).

Every function takes rewards_PG and mask_PG (the mask is 1 on real rollouts and
0 on padding; a padded group is all 0) and returns adv_PG in float32, which is 0
on padding. numpy arrays are computed by numpy, on the host; that is what a run
does, because rewards are host numbers. jax arrays are computed by jax: the
functions may be jitted, and with sharded inputs the statistics are then global
across the mesh. Both take the same steps in the same order.

  A'_pg = r_pg - mean_g r_pg                          (Eq. 2)
  A_pg  = (A'_pg - mu_S) / (sigma_S + eps)            (Eqs. 3-6)

eps may be 0: where sigma_S + eps is 0, every A'_pg is 0, and A_pg is then 0.

For any union S of whole groups mu_S is 0 by construction, because the A' of
each group sum to 0. So this module computes sigma_S only; sigma is the
population deviation (1/N). With f the fraction of rollouts in non-trivial
groups, sigma_all = sqrt(f) * sigma_nontrivial.
"""

from typing import TypeVar

import chex
import jax
import numpy as np

Array = TypeVar('Array', jax.Array, np.ndarray)
EPS = 1e-6  # open in the paper; a config field of the run


def _centred(rewards_PG: Array, mask_PG: Array) -> tuple[Array, Array]:
  """(A'_PG, nontrivial_P1): Eq. 2, and which groups hold unequal rewards."""
  chex.assert_rank([rewards_PG, mask_PG], 2)
  chex.assert_equal_shape([rewards_PG, mask_PG])
  xp = rewards_PG.__array_namespace__()  # numpy or jax.numpy
  rewards, mask = rewards_PG.astype(np.float32), mask_PG.astype(np.float32)
  count = xp.maximum(mask.sum(axis=1, keepdims=True), 1)
  mean = (rewards * mask).sum(axis=1, keepdims=True) / count
  highest = xp.max(xp.where(mask > 0, rewards, -np.inf), axis=1, keepdims=True)
  lowest = xp.min(xp.where(mask > 0, rewards, np.inf), axis=1, keepdims=True)
  nontrivial = (highest > lowest).astype(np.float32)
  # A trivial group gets exactly 0, however its mean was rounded.
  return (rewards - mean) * mask * nontrivial, nontrivial


def _deviation(centred_PG: Array, selected_PG: Array) -> Array:
  xp = centred_PG.__array_namespace__()
  count = xp.maximum(selected_PG.sum(), 1)
  return xp.sqrt((centred_PG**2 * selected_PG).sum() / count)


def _over(centred_PG: Array, scale: Array) -> Array:
  """centred / scale, and 0 where the scale is 0 because centred is 0 there.

  The reciprocal is multiplied, because a compiler does the same to a division
  by a scale that many numbers share; so numpy rounds like a jitted program.
  """
  xp = centred_PG.__array_namespace__()
  return centred_PG * (1 / xp.where(scale > 0, scale, 1))


def norm_without_zero(rewards_PG: Array, mask_PG: Array,
                      eps: float = EPS) -> Array:
  """S = non-trivial groups only; the paper's default ("Norm w/o Zero")."""
  centred, nontrivial = _centred(rewards_PG, mask_PG)
  return _over(centred, _deviation(centred, mask_PG * nontrivial) + eps)


def norm_with_zero(rewards_PG: Array, mask_PG: Array,
                   eps: float = EPS) -> Array:
  """S = all groups ("Norm w/ Zero"); advantages are larger by 1 / sqrt(f)."""
  centred, _ = _centred(rewards_PG, mask_PG)
  return _over(centred, _deviation(centred, mask_PG) + eps)


def no_norm(rewards_PG: Array, mask_PG: Array,
            eps: float = EPS) -> Array:
  """Eq. 2 alone ("No norm")."""
  del eps
  return _centred(rewards_PG, mask_PG)[0]


def group_norm(rewards_PG: Array, mask_PG: Array,
               eps: float = EPS) -> Array:
  """Eq. 1, textbook GRPO: (r - mean) / (std of the group + eps)."""
  centred, _ = _centred(rewards_PG, mask_PG)
  xp = centred.__array_namespace__()
  count = xp.maximum(mask_PG.sum(axis=1, keepdims=True), 1)
  std = xp.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
  return _over(centred, std + eps)


NORMALISERS = {
    'without_zero': norm_without_zero,
    'with_zero': norm_with_zero,
    'none': no_norm,
    'group': group_norm,
}
