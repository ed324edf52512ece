"""Group advantages: numbers by hand, the scale identity, padding."""

import functools
import math

import jax
import numpy as np
import pytest

from zppo_jax.objectives import advantages

# Centred: [.5, .5, -.5, -.5], [.75, -.25, -.25, -.25], trivial, trivial.
# Sum of squares 1 + .75 = 1.75 over 8 rollouts of non-trivial groups, 16 in
# all: sigma_nontrivial = sqrt(7/32), sigma_all = sqrt(7/64), f_nt = 1/2.
REWARDS = np.array(
    [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], np.float32)
ONES = np.ones_like(REWARDS)
CENTRED = np.array([[.5, .5, -.5, -.5], [.75, -.25, -.25, -.25],
                    [0, 0, 0, 0], [0, 0, 0, 0]])
ALL = sorted(advantages.NORMALISERS)


@functools.partial(jax.jit, static_argnums=0)
def _run(name, rewards, mask, eps):
  return advantages.NORMALISERS[name](rewards, mask, eps)


def run(name, rewards, mask=None, eps=1e-12):
  """Without an eps that float32 could see, unless one is given."""
  mask = np.ones_like(rewards) if mask is None else mask
  return np.asarray(_run(name, rewards, mask, eps))


@pytest.mark.parametrize('name, divisor', [
    ('none', [1, 1]),
    ('without_zero', [math.sqrt(7 / 32)] * 2),
    ('with_zero', [math.sqrt(7 / 64)] * 2),
    ('group', [0.5, math.sqrt(3 / 16)]),  # deviation of each group
])
def test_numbers_by_hand(name, divisor):
  """Each normaliser divides the centred rewards by its own deviation."""
  expected = CENTRED / np.array([*divisor, 1, 1])[:, None]
  np.testing.assert_allclose(run(name, REWARDS), expected, rtol=1e-6)


def test_eps_is_added_to_the_deviation():
  """(r - mean) / (sigma + eps), not / sqrt(sigma^2 + eps)."""
  eps = 0.25
  for name, sigma in (('without_zero', math.sqrt(7 / 32)),
                      ('with_zero', math.sqrt(7 / 64)), ('none', 1 - eps)):
    np.testing.assert_allclose(run(name, REWARDS, eps=eps),
                               CENTRED / (sigma + eps), rtol=1e-6)
  np.testing.assert_allclose(run('group', REWARDS, eps=eps)[0],
                             CENTRED[0] / 0.75, rtol=1e-6)


def test_default_eps_is_1e_6():
  """The default is the config's; it moves a value by eps / sigma."""
  assert advantages.EPS == 1e-6
  tiny = 1e-6 * REWARDS[:1]  # sigma 5e-7: A' = 5e-7, A = 5e-7 / 1.5e-6
  got = jax.jit(advantages.norm_without_zero)(tiny, ONES[:1])
  np.testing.assert_allclose(got, 2 / 3 * CENTRED[:1], rtol=1e-5)


def random_rewards(seed, num_groups=40, num_rollouts=8):
  rng = np.random.default_rng(seed)
  p = rng.choice([0.0, 0.1, 0.5, 1.0], size=(num_groups, 1))
  return (rng.random((num_groups, num_rollouts)) < p).astype(np.float32)


@pytest.mark.parametrize('name', ALL)
def test_mean_is_zero_in_every_group(name):
  """mu_S = 0 for any union of whole groups: step 2 needs no mean."""
  advantage = run(name, random_rewards(0), eps=1e-6)
  np.testing.assert_allclose(advantage.sum(axis=1), 0, atol=2e-6)


@pytest.mark.parametrize('seed', range(3))
def test_with_zero_is_larger_by_one_over_sqrt_f(seed):
  """sigma_all = sqrt(f_nt) sigma_nontrivial (docs/paper.md)."""
  rewards = random_rewards(seed)
  f = np.mean([len(set(group)) == 2 for group in rewards.tolist()])
  assert 0 < f < 1
  without, with_zero = (run(n, rewards) for n in ('without_zero', 'with_zero'))
  np.testing.assert_allclose(with_zero, without / math.sqrt(f), rtol=1e-6)
  # With eps: without (sigma + eps) = with_zero (sqrt(f) sigma + eps) = A'.
  eps = 0.1
  sigma = run('none', rewards)[rewards.std(axis=1) > 0].std()
  without, with_zero = (
      run(n, rewards, eps=eps) for n in ('without_zero', 'with_zero'))
  np.testing.assert_allclose(
      with_zero * (math.sqrt(f) * sigma + eps), without * (sigma + eps),
      rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('name', ALL)
def test_trivial_groups_are_exactly_zero(name):
  """Also where the mean rounds: 7 times 0.7, over 7, is not 0.7."""
  rewards = np.tile(np.linspace(0.01, 0.99, 50, dtype=np.float32)[:, None], 7)
  mean = jax.jit(lambda r: r.sum(1) / r.shape[1])(rewards)
  assert np.any(mean != rewards[:, 0])
  assert not run(name, rewards, eps=1e-6).any()
  mixed = np.concatenate([rewards, np.float32([[1, 0, 0, 0, 0, 0, 0]])])
  advantage = run(name, mixed, eps=1e-6)
  assert not advantage[:50].any() and advantage[50].all()


@pytest.mark.parametrize('name', ALL)
def test_padded_groups_change_nothing(name):
  """Padding may hold anything: it is neither counted nor given a value."""
  junk = np.float32([[9, -9, 1, 0], [1, 1, 1, 1]])
  rewards = np.concatenate([junk[:1], REWARDS, junk[1:]])
  mask = np.concatenate([0 * ONES[:1], ONES, 0 * ONES[:1]])
  padded = run(name, rewards, mask, eps=1e-6)
  np.testing.assert_array_equal(padded[1:5], run(name, REWARDS, eps=1e-6))
  assert not padded[[0, 5]].any()


@pytest.mark.parametrize('name, divisor', [
    ('none', (1, 1)),
    ('without_zero', (math.sqrt(2.5 / 5), math.sqrt(2.5 / 5))),
    ('with_zero', (math.sqrt(2.5 / 7), math.sqrt(2.5 / 7))),
    ('group', (math.sqrt(0.5 / 2), math.sqrt(2 / 3)))])
def test_partially_masked_groups(name, divisor):
  """Only real rollouts enter the mean, the deviation and triviality."""
  # Real are [1, 0], [1, 1] (trivial although its padding differs) and
  # [2, 1, 0]: squares 0.5 + 2 over 5 rollouts of non-trivial groups, 7 in all.
  rewards = np.float32([[1, 0, 5, 5], [1, 1, 0, 9], [2, 7, 1, 0]])
  mask = np.float32([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 1]])
  centred = np.array([[.5, -.5, 0, 0], [0, 0, 0, 0], [1, 0, 0, -1]])
  expected = centred / np.array([divisor[0], 1, divisor[1]])[:, None]
  np.testing.assert_allclose(run(name, rewards, mask), expected, rtol=1e-6)


def test_groups_never_share_a_baseline():
  """Another group, however good, leaves the centred values as they are."""
  alone = run('none', REWARDS[1:2])
  for other in ([1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0]):
    both = run('none', np.concatenate([REWARDS[1:2], np.float32([other])]))
    np.testing.assert_array_equal(both[:1], alone)
  # Merged into one group of 8 the baseline would be another.
  merged = run('none', REWARDS[:2].reshape(1, 8))
  assert np.abs(merged[0, 4:] - alone[0]).min() > 0.1


@pytest.mark.parametrize('name', ALL)
def test_all_trivial_is_all_zero(name):
  """No non-trivial group: 0, not 0 / 0."""
  assert not run(name, REWARDS[2:], eps=1e-6).any()
  assert not run(name, REWARDS, 0 * ONES, eps=1e-6).any()


@pytest.mark.parametrize('name', ALL)
def test_without_eps_all_trivial_is_all_zero_too(name):
  """fault A14: eps = 0 is 0 where there is no deviation, in a batch, in a
  group, in padding and with one graded rollout; elsewhere it is the quotient.
  """
  for rewards, mask in ((REWARDS[2:], ONES[2:]), (REWARDS, 0 * ONES),
                        (REWARDS[:1], np.eye(1, REWARDS.shape[1]))):
    np.testing.assert_array_equal(run(name, rewards, mask, eps=0.0), 0)
  got = run(name, REWARDS, eps=0.0)
  assert np.isfinite(got).all() and got[:2].any() and not got[2:].any()
  np.testing.assert_allclose(got, run(name, REWARDS, eps=1e-9), rtol=1e-6)


@pytest.mark.parametrize('name', ALL)
def test_type_and_shape(name):
  """float32 out for integer rewards and a boolean mask; shapes are checked."""
  out = run(name, REWARDS.astype(int), ONES > 0)
  assert out.dtype == np.float32
  np.testing.assert_allclose(out, run(name, REWARDS), rtol=1e-6)
  with pytest.raises(AssertionError, match='rank'):
    advantages.NORMALISERS[name](REWARDS[0], ONES[0])
  with pytest.raises(AssertionError, match='shape'):
    advantages.NORMALISERS[name](REWARDS, ONES[:, :3])


@pytest.mark.parametrize('name', ALL)
def test_the_host_and_a_jitted_program_agree(name):
  """numpy's advantages are those of a jitted program on padded groups: to the
  bit where every rollout of eight has a verdict, as in the default run; else
  up to rounding, because a mean of seven is not exact."""
  rng = np.random.default_rng(0)
  for trial in range(20):
    P = int(rng.integers(1, 40))
    rewards = np.float32(rng.random((P, 8)) < rng.random((P, 1)))
    mask = np.ones_like(rewards)
    if trial % 2:
      mask = np.float32(rng.random((P, 8)) < 0.9)
    found = advantages.NORMALISERS[name](rewards, mask, 1e-6)
    assert type(found) is np.ndarray and found.dtype == np.float32
    padded = [np.pad(x, ((0, 48 - P), (0, 0))) for x in (rewards, mask)]
    want = np.asarray(_run(name, *padded, 1e-6))
    assert not want[P:].any()
    if mask.all():
      np.testing.assert_array_equal(found, want[:P])
    np.testing.assert_allclose(found, want[:P], rtol=1e-6, atol=1e-6)
