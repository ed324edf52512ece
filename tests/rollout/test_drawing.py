"""A token of each slot: truncation, the inverse CDF, log-probs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests import engines
from zppo_jax.records import Decoding
from zppo_jax.rollout import drawing

LAST = 1 - 2**-23  # the largest number that jax.random.uniform gives


def keys(seed, count):
  """Key data [count, 2]."""
  return np.asarray(jax.random.key_data(jax.random.split(
      jax.random.key(seed), count)))


# p = .4 .2 .15 .1 .08 .04 .02 .01 and a banned id.
PROBABILITIES = np.array([.4, .2, .15, .1, .08, .04, .02, .01, 0])
LOGITS = np.log(np.float32([.4, .2, .15, .1, .08, .04, .02, .01, .5]))
DRAWS = 20_000


def chi_square(tokens, probabilities):
  """The p-value of counts under the probabilities of the support."""
  counts = np.bincount(tokens, minlength=len(probabilities))
  assert not counts[probabilities == 0].any()  # never outside the support
  support = probabilities > 0
  return stats.chisquare(
      counts[support], probabilities[support] * len(tokens)).pvalue


@pytest.mark.parametrize('decoding, support', [
    (Decoding(1), 8), (Decoding(1, temperature=0.7), 8),
    (Decoding(1, top_p=0.8), 4),  # .4 + .2 + .15 = .75 < .8
    (Decoding(1, top_k=3), 3),
    (Decoding(1, temperature=0.5, top_p=0.8, top_k=4), 2)])
def test_frequencies_of_one_draw(decoding, support):
  """Chi-square at a fixed seed; the stored log-prob is the full one."""
  expected = PROBABILITIES**(1 / decoding.temperature)
  expected[support:] = 0
  expected /= expected.sum()
  logits = np.broadcast_to(LOGITS, (DRAWS, 9))
  full, of_slots = lambda value: jnp.full(DRAWS, value), keys(7, DRAWS)
  draw = jax.jit(lambda position: drawing.draw(
      logits, of_slots, full(position),
      full(decoding.temperature), full(decoding.top_p), full(decoding.top_k),
      np.arange(9) < 8, drawing.mode_of(decoding)))
  tokens, logps = draw(3)
  assert chi_square(np.asarray(tokens), expected) > 0.01
  want = jax.nn.log_softmax(LOGITS / decoding.temperature)
  np.testing.assert_allclose(logps, want[tokens], rtol=1e-5)
  # Another position draws anew.
  again, _ = draw(4)
  both = np.mean(np.asarray(tokens) == np.asarray(again))
  assert abs(both - (expected**2).sum()) < 0.02  # independent


def test_padding_may_have_no_mass_in_log_probs():
  """Column 8 is padding: the same tokens, and log-probs of the other eight."""
  full = lambda value: jnp.full(16, value)
  draw = lambda vocab: drawing.draw(
      np.broadcast_to(LOGITS, (16, 9)), keys(7, 16), full(0), full(0.7),
      full(1.0), full(0), np.arange(9) < 8, drawing.DRAW, vocab)
  (tokens, logps), (same, every) = draw(8), draw(None)
  np.testing.assert_array_equal(tokens, same)
  np.testing.assert_allclose(
      logps, jax.nn.log_softmax(LOGITS[:8] / 0.7)[tokens], rtol=1e-5)
  assert (np.asarray(every) < np.asarray(logps)).all()


@pytest.mark.parametrize('V', [
    1, 2, 9, 40, 64, 1000, 2048, 4095, 4096, 4100, 50_001, 151_936])
def test_the_cdf_is_inverted(V):
  """Against float64: the same tokens, but within 1e-5 of an edge of the CDF. A
  third of the ids may not be drawn, and last blocks and rows are not full."""
  rng = np.random.default_rng(V)
  logits = rng.normal(size=(64, V)).astype(np.float32) * 4
  logits[:, rng.permutation(V)[:V // 3]] = -np.inf
  uniforms = np.float32(rng.random((64, 3)))
  uniforms[:4] = [[0, 0, 0], [LAST, LAST, LAST], [0, LAST, 0], [LAST, 0, LAST]]
  found = np.asarray(jax.jit(drawing.from_cdf)(logits, uniforms))
  near = 0
  for row, (x, u, token) in enumerate(zip(
      logits, uniforms, found.tolist(), strict=True)):
    want, *gaps = engines.by_hand(x, np.float64(u))
    assert np.isfinite(x[token])
    near += token != want
    assert token == want or min(of.min() for of in gaps) < 1e-5, row
  assert near < 8


@pytest.mark.parametrize('size', [3, 8, 485])
def test_what_has_no_mass_is_never_drawn(size):
  """At both ends of the CDF and where sums round: 0.1 is no sum of others."""
  rng = np.random.default_rng(size)
  mass = np.where(rng.random((400, size)) < 0.6, 0, 0.1).astype(np.float32)
  mass *= rng.random((400, 1)).astype(np.float32)
  mass[np.arange(400), rng.integers(0, size, 400)] = 1e-30  # at least one
  steps = np.float32(rng.integers(0, 2**23, 400) / 2**23)
  invert = jax.jit(drawing._invert)
  for uniforms in (np.zeros(400, np.float32), np.full(400, LAST, np.float32),
                   steps):
    assert (mass[np.arange(400), invert(mass, uniforms)] > 0).all()
  # Exactly at an edge: the next one with mass.
  edge = np.float32([[0.25, 0, 0, 0.25, 0.5, 0]])
  at = lambda u: int(invert(edge, np.float32([u]))[0])
  assert [at(u) for u in (0, 0.24, 0.25, 0.49, 0.5, LAST)] == [
      0, 0, 3, 3, 4, 4]


def test_what_is_likeliest_but_banned_hides_no_other():
  """Its logit is so large that the others' exp is 0 beside it."""
  logits = np.broadcast_to(np.float32([300, 1, 2, 3]), (DRAWS, 4))
  full = lambda value: jnp.full(DRAWS, value)
  tokens, logps = drawing.draw(
      logits, keys(0, DRAWS), full(0), full(1.0), full(1.0), full(0),
      np.arange(4) > 0, drawing.DRAW)
  expected = np.float64([0, *jax.nn.softmax(np.float32([1, 2, 3]))])
  assert chi_square(np.asarray(tokens), expected / expected.sum()) > 0.01
  np.testing.assert_allclose(logps, logits[0][np.asarray(tokens)] - 300)


def test_frequencies_of_many_blocks():
  """5,000 ids of Zipf's law in 14 rows; rare ids go into one bin."""
  V, draws = 5000, 100_000
  p = 1 / np.arange(1, V + 1)
  p = np.random.default_rng(0).permutation(p / p.sum())
  logits, counts = np.log(np.float32(p)), np.zeros(V)
  draw = jax.jit(lambda keys: drawing.from_cdf(
      jnp.broadcast_to(logits, (1000, V)), drawing.uniforms(
          keys, jnp.zeros(1000, jnp.int32))))
  for part in keys(1, draws).reshape(-1, 1000, 2):
    counts += np.bincount(draw(part), minlength=V)
  rare = p * draws < 20
  merge = lambda x: np.append(x[~rare], x[rare].sum())
  assert 200 < (~rare).sum() < V - 200
  assert stats.chisquare(merge(counts), merge(p * draws)).pvalue > 0.01
  # Columns and rows, whatever is likely in them.
  grid = lambda x: np.pad(x, (0, -V % 384)).reshape(-1, 384)
  assert drawing.columns(V) == 384
  for axis in (0, 1):
    assert stats.chisquare(grid(counts).sum(axis),
                           grid(p * draws).sum(axis)).pvalue > 0.01


@pytest.mark.parametrize('mode', drawing.MODES)
def test_slots_draw_what_each_draws_alone(mode):
  """Greedy, drawn and truncated ones, and one that does not count."""
  rng = np.random.default_rng(3)
  logits = rng.normal(size=(6, 40)).astype(np.float32) * 2
  temperature = np.float32([0, 1, 0.5, 0, 1, 1])
  top_p = np.float32([1, 1, 0.6, 1, 1, 1])
  live = np.array([True] * 5 + [False])
  given = (logits, keys(5, 6), np.arange(6), temperature, top_p,
           np.int32([0, 0, 0, 0, 3, 0]))
  if mode == drawing.DRAW:
    given = (*given[:4], np.ones(6, np.float32), np.zeros(6, np.int32))
  draw = lambda of, live: drawing.draw(*of, np.arange(40) > 1, mode, 39, live)
  tokens, logps = draw(given, live)
  for b in range(5):
    token, logp = draw([x[b:b + 1] for x in given], live[b:b + 1])
    assert token[0] == tokens[b]
    np.testing.assert_allclose(logp[0], logps[b], rtol=1e-6)
  assert [tokens[b] == logits[b, 2:].argmax() + 2 for b in (0, 3)] == [True] * 2


@pytest.mark.parametrize('temperature', [0.0, 1.0])
def test_a_slot_without_numbers_says_so(temperature):
  """NaN logits give some token and the log-prob NaN, and no other slot does."""
  logits = np.zeros((2, 50), np.float32)
  logits[0] = np.nan
  full = lambda value: jnp.full(2, value)
  tokens, logps = drawing.draw(
      logits, keys(0, 2), full(0), full(temperature), full(1.0), full(0),
      np.ones(50, bool), drawing.DRAW)
  assert ((tokens >= 0) & (tokens < 50)).all()
  assert np.isnan(logps[0]) and logps[1] == pytest.approx(-np.log(50))


def test_three_numbers_are_drawn_per_token():
  """No noise per id, which cost more than all else that is done with logits."""
  full, of_slots = lambda value: jnp.full(4, value), keys(0, 4)
  jaxpr = jax.make_jaxpr(lambda logits: drawing.draw(
      logits, of_slots, full(0), full(1.0), full(1.0), full(0),
      np.ones(5000, bool), drawing.DRAW))(np.zeros((4, 5000), np.float32))
  text = str(jaxpr)
  assert 'f32[4,5000]' in text and 'random_bits' in text
  assert 'u32[5000]' not in text and 'u32[4,5000]' not in text


def kept(probabilities, top_p=1.0, top_k=0):
  with np.errstate(divide='ignore'):
    logits = np.log(np.float32([probabilities]))
  out = np.asarray(drawing.truncate(
      logits, np.float32([top_p]), np.int32([top_k])))
  inside = np.isfinite(out)
  np.testing.assert_array_equal(out[inside], logits[inside])  # unchanged
  return np.flatnonzero(inside[0]).tolist()


def test_truncate_by_hand():
  """p = 1/8, 1/2, 1/8, 1/4: exact in float32, with a tie."""
  p = [1 / 8, 1 / 2, 1 / 8, 1 / 4]
  assert kept(p) == [0, 1, 2, 3]
  assert kept(p, top_p=0.01) == [1]  # the most likely one always stays
  assert kept(p, top_p=1e-45) == kept(p, top_p=1e-50) == [1]  # 0 in float32
  assert kept(p, top_p=0.49) == [1]
  assert kept(p, top_p=0.5) == [1]  # its mass reaches p: the next is not needed
  assert kept(p, top_p=0.51) == [1, 3]
  assert kept(p, top_p=0.74) == [1, 3]
  # .76 needs one of the two 1/8: they are equal, so neither is preferred.
  assert kept(p, top_p=0.76) == [0, 1, 2, 3]
  assert kept(p, top_k=1) == [1]
  assert kept(p, top_k=2) == [1, 3]
  assert kept(p, top_k=3) == [0, 1, 2, 3]  # a tie at the edge stays whole
  assert kept(p, top_k=4) == kept(p, top_k=9) == [0, 1, 2, 3]
  # top-k comes first and renormalises: 1/2, 1/4 become 2/3, 1/3.
  assert kept(p, top_k=2, top_p=0.6) == [1]
  assert kept(p, top_p=0.6) == [1, 3]
  # A banned id has no mass and stays out.
  assert kept([0, 1 / 2, 1 / 2], top_k=2) == [1, 2]
  assert kept([0, 1 / 4, 3 / 4], top_p=0.99, top_k=3) == [1, 2]


def test_slots_are_truncated_apart():
  """Each slot has its own nucleus, and its own settings."""
  logits = np.log(np.float32([[.9, .05, .05], [.3, .3, .4]]))
  out = drawing.truncate(logits, np.float32([.8, .8]), np.int32([0, 0]))
  assert np.isfinite(out).tolist() == [[True, False, False], [True] * 3]
  out = drawing.truncate(logits, np.float32([1, 1]), np.int32([0, 1]))
  assert np.isfinite(out).tolist() == [[True] * 3, [False, False, True]]
  out = drawing.truncate(logits, np.float32([1, .3]), np.int32([2, 0]))
  assert np.isfinite(out).tolist() == [[True] * 3, [False, False, True]]
