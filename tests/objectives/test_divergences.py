"""Divergences, rests and targets by hand, and properties on random ones.

The example everywhere: p_S = (.5, .3, .2), p_T = (.2, .2, .6).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.long import LONG
from zppo_jax.objectives import divergences
from zppo_jax.objectives.divergences import Divergence, Target

S, T = np.log([0.5, 0.3, 0.2]), np.log([0.2, 0.2, 0.6])
BASE = np.log([0.4, 0.4, 0.2])
NEAR = dict(rtol=0, atol=1e-6)
DTYPES = pytest.mark.parametrize('x64', [False, True])
REVERSE_GRADIENT = (0.278114, 0.013621, -0.291735)
FORWARD_GRADIENT = (0.3, 0.1, -0.4)


def graded(function, student=S):
  """Value and gradient to the student's logits, whose softmax is p_S."""
  return jax.value_and_grad(
      lambda z: function(jax.nn.log_softmax(z)))(jnp.asarray(student))


@DTYPES
@pytest.mark.parametrize('choice, value, gradient', [
    (Divergence('reverse'), 0.360062, REVERSE_GRADIENT),
    (Divergence('forward'), 0.394816, FORWARD_GRADIENT),
    (Divergence('jensen_shannon', 0.5), 0.090566,
     (0.065568, 0.013188, -0.078755)),
    (Divergence('jensen_shannon', 0.1), 0.034637, None),
    (Divergence('jensen_shannon', 0.9), 0.032251, None)])
def test_divergences_by_hand(choice, value, gradient, x64):
  with jax.enable_x64(x64):
    got, grad = graded(lambda s: choice(s, jnp.asarray(T)))
    np.testing.assert_allclose(got, value, **NEAR)
    if gradient is not None:
      np.testing.assert_allclose(grad, gradient, **NEAR)
    table = divergences.DIVERGENCES[choice.kind]
    numbers = (choice.beta,) if choice.kind == 'jensen_shannon' else ()
    assert table(jnp.asarray(S), jnp.asarray(T), *numbers) == got


def test_entropies_by_hand():
  """The entropy is what the KL to the uniform distribution leaves of log N."""
  uniform = np.full(3, -np.log(3))
  for logp, entropy in ((S, 1.029653), (T, 0.950271)):
    np.testing.assert_allclose(
        np.log(3) - divergences.reverse_kl(logp, uniform), entropy, **NEAR)


TOP = {1: [0], 2: [0, 1]}  # the student's likeliest ids


def kept(function, ids, rest):
  """A divergence of kept ids: (value, gradient to the student's logits)."""
  rest = divergences.REST[rest]
  ids = np.array(ids)
  return graded(lambda s: function(rest(s[ids]), rest(jnp.asarray(T)[ids])))


@DTYPES
@pytest.mark.parametrize('function, ids, rest, value, gradient', [
    ('reverse_kl', TOP[1], 'dropped', 0.458145, (0.479, -0.287, -0.192)),
    ('reverse_kl', TOP[1], 'bucket', 0.223144,
     (0.346574, -0.207944, -0.138629)),
    ('reverse_kl', TOP[1], 'renormalised', 0, (0, 0, 0)),
    ('reverse_kl', TOP[2], 'dropped', 0.579785,
     (0.268253, 0.007704, -0.275957)),
    ('reverse_kl', TOP[2], 'bucket', 0.360062, REVERSE_GRADIENT),
    ('reverse_kl', TOP[2], 'renormalised', 0.031584,
     (0.119725, -0.119725, 0)),
    ('forward_kl', [2], 'dropped', 0.659167, (0.3, 0.18, -0.48)),
    ('forward_kl', [2], 'bucket', 0.381909, (0.25, 0.15, -0.4))])
def test_kept_ids_by_hand(function, ids, rest, value, gradient, x64):
  """The first gradient is published to three digits."""
  with jax.enable_x64(x64):
    got, grad = kept(getattr(divergences, function), ids, rest)
  np.testing.assert_allclose(got, value, **NEAR)
  atol = 5e-4 if gradient[0] == 0.479 else 1e-6
  np.testing.assert_allclose(grad, gradient, rtol=0, atol=atol)


def test_first_dropped_gradient_in_full():
  """p_S(v) (g - p_S(0) g) with g = log(.5 / .2) + 1 on id 0 and 0 elsewhere."""
  g = 0.5 * (np.log(2.5) + 1)
  _, grad = kept(divergences.reverse_kl, TOP[1], 'dropped')
  np.testing.assert_allclose(grad, [g * 0.5, -g * 0.3, -g * 0.2], **NEAR)


@pytest.mark.parametrize('function, sign', [
    ('reverse_kl', 1), ('forward_kl', -1)])
def test_dropped_rest_is_not_stationary_at_the_teacher(function, sign):
  """At p_S = p_T the dropped forms move mass: reverse out of the kept set,
  forward into it. Bucket and renormalised stand still."""
  function = getattr(divergences, function)
  of = lambda rest: jax.grad(lambda z: function(
      divergences.REST[rest](jax.nn.log_softmax(z)[:2]),
      divergences.REST[rest](jnp.float32(S)[:2])))(jnp.float32(S))
  np.testing.assert_allclose(
      of('dropped'), sign * np.array([0.1, 0.06, -0.16]), **NEAR)
  for rest in ('bucket', 'renormalised'):
    np.testing.assert_allclose(of(rest), np.zeros(3), **NEAR)


def random_logps(rng, shape, spread):
  z = spread * rng.standard_normal(shape)
  return z - np.log(np.exp(z).sum(-1, keepdims=True))


ALL = [Divergence('reverse'), Divergence('forward'),
       Divergence('jensen_shannon', 0.5), Divergence('jensen_shannon', 0.2)]


@pytest.mark.parametrize('choice', ALL, ids=lambda c: f'{c.kind}{c.beta}')
@pytest.mark.parametrize('by', ['student', 'teacher'])
def test_bucket_properties(choice, by):
  """0 <= D(K + rest) <= D(all), never less for a larger K of nested supports,
  and equal from K = V - 1 on; 500 random pairs, V = 12."""
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    s, t = (random_logps(rng, (500, 12), 2) for _ in range(2))
    order = np.argsort(-(s if by == 'student' else t), axis=-1)
    s, t = (np.take_along_axis(x, order, axis=-1) for x in (s, t))
    every = choice(s, t)
    before = np.zeros(500)
    for K in range(1, 13):
      value = choice(*(divergences.bucket(jnp.asarray(x[:, :K]))
                       for x in (s, t)))
      assert (value >= before - 1e-7).all()
      before = value
      assert (value <= every + 1e-7).all()
      if K >= 11:  # 1e-6: at K = 12 the bucket holds its floor
        np.testing.assert_allclose(value, every, atol=1e-6)
    assert (before > 1e-3).all()


def test_bucket_keeps_its_gradient_at_the_floor():
  """A student sure of a kept id still moves mass to the teacher's rest: the
  other logits rise, by less than the exact 1/4 each (test_gathered_logps)."""
  s = jnp.float32([20.0, 0.0, 0.0])
  t = jnp.log(jnp.float32([0.5]))
  grad = jax.grad(lambda z: divergences.forward_kl(
      divergences.bucket(jax.nn.log_softmax(z)[:1]),
      divergences.bucket(t)))(s)
  assert -0.25 < grad[1] == grad[2] < -0.05
  # The value is floored and finite; also where rounding leaves more than 1.
  assert divergences.log_rest(jnp.float32(1e-7)) == np.float32(np.log(1e-8))
  assert divergences.log_rest(-jnp.inf) == 0


@LONG
def test_ids_without_mass_count_nothing():
  """-inf in both (padding), or where the weighing model has no mass: value and
  gradient are those without such ids, and hold no NaN."""
  pad = lambda x: jnp.float32([*x, -np.inf, -np.inf])
  no_student = jnp.float32([*np.log([0.6, 0.4]), -np.inf])
  for choice in ALL:
    f = lambda s, t: choice(s, t)  # noqa: B023
    value, grads = jax.value_and_grad(f, (0, 1))(pad(S), pad(T))
    plain, wanted = jax.value_and_grad(f, (0, 1))(
        jnp.float32(S), jnp.float32(T))
    np.testing.assert_allclose(value, plain, rtol=1e-6)
    for grad, want in zip(grads, wanted, strict=True):
      np.testing.assert_allclose(grad[:3], want, rtol=1e-5)
      np.testing.assert_array_equal(grad[3:], 0)
  for choice in (ALL[0], ALL[2]):  # p_S = 0 < p_T
    value, grad = jax.value_and_grad(choice)(no_student, jnp.float32(T))
    assert np.isfinite(value) and np.isfinite(grad).all() and grad[2] == 0
  for choice in (ALL[1], ALL[2]):  # p_T = 0 < p_S
    value, grad = jax.value_and_grad(choice)(jnp.float32(T), no_student)
    assert np.isfinite(value) and np.isfinite(grad).all()
  # An underflowing log-prob is no mass, however infinite the other one is.
  tiny = jnp.float32([0, -200])
  assert divergences.reverse_kl(tiny, jnp.float32([0, -np.inf])) == 0
  # Elsewhere the divergence is infinite, and says so.
  assert divergences.forward_kl(no_student, jnp.float32(T)) == np.inf
  assert divergences.reverse_kl(jnp.float32(T), no_student) == np.inf
  nothing = jnp.full(3, -jnp.inf)
  for rest in divergences.REST.values():
    value, grad = jax.value_and_grad(lambda x: divergences.reverse_kl(
        rest(x), rest(nothing)))(nothing)  # noqa: B023
    assert value == 0 and not grad.any()


def test_limits_of_jensen_shannon():
  """Its bound on disjoint supports, and the KLs that it tends to in scale."""
  with jax.enable_x64(True):
    one, other = jnp.asarray([0, -jnp.inf]), jnp.asarray([-jnp.inf, 0])
    for beta, bound in ((0.1, 0.325083), (0.9, 0.325083), (0.5, np.log(2))):
      np.testing.assert_allclose(
          divergences.jensen_shannon(one, other, beta), bound, **NEAR)
    beta = 1e-4
    np.testing.assert_allclose(
        divergences.jensen_shannon(S, T, beta) / beta, 0.394766, **NEAR)
    np.testing.assert_allclose(
        divergences.jensen_shannon(S, T, 1 - beta) / beta, 0.360024, **NEAR)


@pytest.mark.parametrize('beta', [0, 1, -0.1, 1.5, math.nan])
def test_beta_outside_its_range_names_the_kls(beta):
  for make in (lambda: divergences.jensen_shannon(S, T, beta),
               lambda: Divergence('jensen_shannon', beta)):
    with pytest.raises(ValueError, match=r'beta is .*forward_kl.*reverse_kl'):
      make()


@DTYPES
def test_targets_by_hand(x64):
  """Geometric, its fixed point, extrapolated and its two ends, mixture."""
  with jax.enable_x64(x64):
    s, t, base = map(jnp.asarray, (S, T, BASE))
    of = lambda *args, **fields: np.exp(Target(*args)(s, t, **fields))
    np.testing.assert_allclose(of('geometric', 0.5),
                               [0.272334, 0.210949, 0.516717], **NEAR)
    np.testing.assert_allclose(of('geometric', 0.8),
                               [0.321969, 0.213961, 0.464070], **NEAR)
    np.testing.assert_allclose(of('geometric', 0.0), np.exp(T), **NEAR)
    for lam, want in ((1.25, [0.149360, 0.149360, 0.701281]),
                      (0.5, [0.310102, 0.310102, 0.379796]),
                      (0.0, np.exp(BASE))):
      np.testing.assert_allclose(of('extrapolated', lam, base=base), want,
                                 **NEAR)
    np.testing.assert_allclose(of('mixture', 0.25), [0.275, 0.225, 0.5],
                               **NEAR)
    np.testing.assert_allclose(of('mixture', 0.0), np.exp(T), **NEAR)
    np.testing.assert_array_equal(Target()(s, t), t)
    # lam = 1 equals the teacher for any base, up to the normalisation.
    np.testing.assert_allclose(
        Target('extrapolated', 1.0)(s, t, base=7 * base), t, **NEAR)
    point = s
    for _ in range(60):
      point = Target('geometric', 0.5)(point, t)
    np.testing.assert_allclose(
        np.exp(point), [0.090909, 0.090909, 0.818182], **NEAR)


def test_targets_train_the_student_alone():
  """No target gives the teacher a gradient; only a mixture gives S one."""
  for target in (Target(), Target('geometric', 0.5), Target('mixture', 0.3),
                 Target('extrapolated', 1.5)):
    base = (jnp.float32(BASE),) * (target.kind == 'extrapolated')
    f = lambda s, t, *base: (  # noqa: E731
        jnp.arange(3) * target(s, t, *base)).sum()  # noqa: B023
    grads = jax.grad(f, range(2 + len(base)))(
        jnp.float32(S), jnp.float32(T), *base)
    assert bool(grads[0].any()) == (target.kind == 'mixture')
    assert not any(grad.any() for grad in grads[1:])


def test_mixture_is_the_skewed_kl():
  """KL(S || a S + (1 - a) T) and its gradient, by finite differences."""
  def dense(z):
    p = np.exp(z) / np.exp(z).sum()
    return (p * np.log(p / (0.3 * p + 0.7 * np.exp(T)))).sum()
  with jax.enable_x64(True):
    value, grad = graded(lambda s: divergences.reverse_kl(
        s, Target('mixture', 0.3)(s, jnp.asarray(T))))
    np.testing.assert_allclose(value, dense(S), rtol=1e-12)
    step = 1e-6 * np.eye(3)
    np.testing.assert_allclose(
        grad, [(dense(S + h) - dense(S - h)) / 2e-6 for h in step], atol=1e-9)
    # Their forward form has the mixture on the student's side.
    m = 0.3 * np.exp(T) + 0.7 * np.exp(S)
    np.testing.assert_allclose(
        divergences.forward_kl(divergences.mixture(T, S, 0.3), T),
        (np.exp(T) * np.log(np.exp(T) / m)).sum(), rtol=1e-12)


def test_targets_with_padding():
  """-inf in all stays -inf and gets no gradient."""
  pad = lambda x: jnp.float32([*x, -np.inf])
  for target in (Target(), Target('geometric', 0.5), Target('geometric', 0.0),
                 Target('mixture', 0.3), Target('extrapolated', 1.5),
                 Target('extrapolated', 0.5)):
    base = (pad(BASE),) * (target.kind == 'extrapolated')
    got = target(pad(S), pad(T), *base)
    np.testing.assert_allclose(
        got[:3], target(jnp.float32(S), jnp.float32(T), *(
            x[:3] for x in base)), rtol=1e-6)
    assert got[3] == -np.inf
    grad = jax.grad(lambda s: divergences.reverse_kl(
        s, target(s, pad(T), *base)))(pad(S))  # noqa: B023
    assert np.isfinite(grad).all() and grad[3] == 0


@pytest.mark.parametrize('make, error, message', [
    (lambda: Divergence('kl'), KeyError, "unknown divergence 'kl'; known: rev"),
    (lambda: Target('veto'), KeyError, "unknown target 'veto'; known: plain"),
    (lambda: Target('mixture', 1.0), ValueError, r'alpha of mixture\) is 1.0'),
    (lambda: Target('mixture', math.nan), ValueError, 'alpha of mixture'),
    (lambda: Target('geometric', -0.1), ValueError, r'beta of geometric'),
    (lambda: Target('extrapolated', math.inf), ValueError, 'lam of extra'),
    (lambda: Target('extrapolated', 2.0)(S, T), ValueError, 'takes a base'),
    (lambda: Target()(S, T, BASE), ValueError, 'takes no base')])
def test_impossible_choices(make, error, message):
  with pytest.raises(error, match=message):
    make()


def test_numbers_may_come_from_a_schedule():
  """Traced scalars: one program for all steps."""
  @functools.partial(jax.jit)
  def f(number):
    return (Divergence('jensen_shannon', number)(S, T),
            Target('geometric', number)(S, T))
  for number in (0.1, 0.5):
    value, target = f(number)
    np.testing.assert_allclose(
        value, divergences.jensen_shannon(S, T, number), rtol=1e-6)
    np.testing.assert_allclose(
        target, divergences.geometric(S, T, number), rtol=1e-6)
  assert f._cache_size() == 1
