"""Signals against numbers worked by hand.

p_S is (.5, .3, .2), and p_T (.2, .2, .6).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zppo_jax.objectives.credit import evidence, signals
from zppo_jax.objectives.credit.evidence import Evidence

STUDENT = np.log([.5, .3, .2])
TEACHER = np.log([.2, .2, .6])
BASE = np.log([.4, .4, .2])
D = (-.916291, -.405465, 1.098612)


def _evidence(advantage=None, **more):
  return Evidence(logps=STUDENT, teacher_logps=TEACHER, base_logps=BASE,
                  advantage=advantage, **more)


@pytest.mark.parametrize(('call', 'expected'), [
    ('log_ratio', D),
    ('extrapolated(1.25)', (-1.089577, -.578752, 1.373265)),
    ('softened', (-.650391, -.340368, .741276)),
    ('power(0.5)', (-.259893, -.100509, .327383)),
    ('clipped(0.5)', (-.5, -.405465, .5)),
    ('floored(0.5)', D),
])
def test_worked_numbers(call, expected):
  row = evidence.read('distil.signal', call, signals.SIGNALS)
  np.testing.assert_allclose(row(_evidence(), 0), expected, atol=1e-6)


def test_the_floor():
  for lam, floor in ((.17, -2.134888), (.5, -1.386294), (1, -1)):
    assert signals.floor_of(lam) == pytest.approx(floor, abs=1e-6)
  assert signals.floor_of(1 - 1e-9) == pytest.approx(-1, abs=1e-6)
  assert signals.floor_of(1e-300) < -600
  low = Evidence(logps=np.log([.5]), teacher_logps=np.log([1e-9]))
  np.testing.assert_allclose(signals.floored(low, .17), [-2.134888], atol=1e-6)


def test_lambda_one_is_the_log_ratio_to_the_bit():
  rng = np.random.default_rng(0)
  s, t, b = -rng.exponential(size=(3, 50))
  of = Evidence(logps=s, teacher_logps=t, base_logps=b)
  assert (signals.extrapolated(of, 1.0) == signals.log_ratio(of)).all()
  # lambda = 0 is the advantage towards the base.
  np.testing.assert_allclose(signals.extrapolated(of, 0.0), b - s, atol=1e-12)


def test_the_fixed_point_of_extrapolation():
  """At S proportional to b (p_T / b)^lambda the signal is constant, so that the
  policy gradient is 0."""
  for lam, expected in ((1.25, (.149360, .149360, .701281)),
                        (.5, (.310102, .310102, .379796))):
    p = np.exp(BASE + lam * (TEACHER - BASE))
    p /= p.sum()
    np.testing.assert_allclose(p, expected, atol=1e-6)
    of = Evidence(logps=np.log(p), teacher_logps=TEACHER, base_logps=BASE)
    assert np.ptp(signals.extrapolated(of, lam)) < 1e-12


@pytest.mark.parametrize(('advantage', 'expected'), [
    (1.0, (.9, .9, 1.1)), (-1.0, (-1.1, -1.1, -.9))])
def test_the_verdict_gives_the_sign(advantage, expected):
  of = _evidence(advantage)
  np.testing.assert_allclose(
      signals.verdict_scaled(of, .5, .2), expected, atol=1e-6)
  np.testing.assert_array_equal(signals.verdict_scaled(of, 0, .2),
                                [advantage] * 3)
  np.testing.assert_array_equal(signals.verdict_scaled(of, .5, 0),
                                [advantage] * 3)
  far = Evidence(logps=np.zeros(1), teacher_logps=np.array([-1e6]),
                 advantage=advantage)
  assert np.sign(signals.verdict_scaled(far, 1.0, .9)) == np.sign(advantage)


def test_the_gate_wants_agreement():
  np.testing.assert_allclose(signals.gated(_evidence(1.0), .5),
                             (0, 0, 1.098612), atol=1e-6)
  np.testing.assert_allclose(signals.gated(_evidence(-1.0), .5),
                             (-.916291, 0, 0), atol=1e-6)


def test_centred_has_mean_zero_over_the_student():
  of = _evidence(divergences=np.full(3, .360062))
  assert np.exp(STUDENT) @ signals.centred(of) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(('gamma', 'expected'), [
    (0, (.2, -.1, .4)), (.5, (.25, .1, .4)), (1, (.5, .3, .4))])
def test_returns_to_go(gamma, expected):
  np.testing.assert_allclose(
      signals.discounted(np.array([.2, -.1, .4]), gamma), expected, atol=1e-12)


@jax.enable_x64(True)
def test_a_chain_of_two_tokens_by_enumeration():
  """All 9 sequences of 2 of 3 tokens: with the return-to-go (gamma = 1) the
  expected policy gradient is that of the KL between sequences, to the bit but
  for rounding; with gamma = 0 what the first token does to the second is lost.
  """
  rng = np.random.default_rng(0)
  student, teacher = ({'first': rng.normal(size=3),
                       'second': rng.normal(size=(3, 3))} for _ in range(2))

  @jax.jit
  def logps(of):
    first, second = map(jax.nn.log_softmax, (of['first'], of['second']))
    return jnp.stack([jnp.broadcast_to(first[:, None], (3, 3)), second], -1)

  s, t = np.asarray(logps(student)), np.asarray(logps(teacher))
  advantage = lambda gamma: np.array([[signals.discounted(
      signals.log_ratio(Evidence(logps=s[a, b], teacher_logps=t[a, b])), gamma)
      for b in range(3)] for a in range(3)])

  @jax.jit
  def divergence(of):
    return (jnp.exp(logps(of).sum(-1)) * (logps(of) - t).sum(-1)).sum()

  @jax.jit
  def surrogate(of, advantages):
    return -(np.exp(s.sum(-1))[..., None] * advantages * logps(of)).sum()

  want = jax.grad(divergence)(student)
  found, myopic = (jax.grad(surrogate)(student, advantage(gamma))
                   for gamma in (1., 0.))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12),
               found, want)
  np.testing.assert_allclose(myopic['second'], want['second'], atol=1e-12)
  # The future term: the divergence that each first token leads to.
  p = np.asarray(jax.nn.softmax(student['first']))
  ahead = (np.exp(s) * (s - t))[..., 1].sum(axis=-1)
  np.testing.assert_allclose(want['first'] - myopic['first'],
                             p * (ahead - p @ ahead), atol=1e-12)


def test_overlap_sums_to_the_reverse_divergence_of_the_support():
  out = signals.overlap(STUDENT[None, :2], TEACHER[None, :2])
  assert out.sum() == pytest.approx(-.031584, abs=1e-6)


def test_anchored_ratio():
  ratio = np.exp(STUDENT - signals.anchored_logps(STUDENT, TEACHER, .5))
  np.testing.assert_allclose(ratio, (1.581139, 1.224745, .577350), atol=1e-6)
  old = np.array([-1.0, -2.0])
  assert signals.anchored_logps(old, np.array([-np.inf, 0]), 1.0) is not None
  assert (signals.anchored_logps(old, np.array([-np.inf, 0]), 1.0) == old).all()


def test_combinations():
  adv, d = np.array([1.0, 1.0]), np.array([.5, -.25])
  for name, expected in (('replace', [1, -.5]), ('add', [2, .5]),
                         ('multiply', [1, -.5])):
    np.testing.assert_array_equal(
        signals.combine_of(name)(adv, d, 2.), expected)
  with pytest.raises(ValueError, match='add_before_normaliser.*refused'):
    signals.combine_of('add_before_normaliser')
  with pytest.raises(KeyError, match='known: replace, add, multiply'):
    signals.combine_of('sum')


@pytest.mark.parametrize(('text', 'says'), [
    ('floored(2)', r'signal: lambda is 2.0; it must be in \(0, 1\]'),
    ('clipped', 'clipped takes bound'),
    ('clipped(1', 'must end'),
    ('log_ratio(1)', 'log_ratio takes no number'),
    ('clipped(x)', "bound is 'x'; it must be a number > 0"),
])
def test_refused_calls(text, says):
  with pytest.raises(ValueError, match=says):
    evidence.read('distil.signal', text, signals.SIGNALS)


def test_unknown_signals_are_listed():
  with pytest.raises(KeyError, match="distil.signal 'loud'; known: log_ratio"):
    evidence.read('distil.signal', 'loud', signals.SIGNALS)


def test_a_row_says_what_it_lacks():
  call = evidence.read('distil.signal', 'extrapolated', signals.SIGNALS)
  assert call.at(0) == (1.25,)
  with pytest.raises(ValueError, match='log-probs of the tokens under a base'):
    evidence.check('distil.signal', call, ['logps', 'teacher_logps'])
  evidence.check('distil.signal', call, list(evidence.FIELDS))


def test_every_function_reads_what_its_row_says():
  """A row whose `reads` lacks a field would fail far from the config."""
  rng = np.random.default_rng(1)
  whole = {'logps': -rng.exponential(size=5), 'teacher_logps':
           -rng.exponential(size=5), 'base_logps': -rng.exponential(size=5),
           'divergences': rng.exponential(size=5), 'advantage': 1.0}
  for name, row in signals.SIGNALS.items():
    of = Evidence(**{k: v for k, v in whole.items() if k in row.reads})
    numbers = [n.default if n.default is not None else .5 for n in row.numbers]
    assert np.isfinite(row.function(of, *numbers)).all(), name
