"""The sampler: against the trainer's graph, by frequencies, by layout."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests import builders, engines
from tests.long import LONG, long
from zppo_jax import randomness
from zppo_jax.learner import forward, packing
from zppo_jax.randomness import Purpose
from zppo_jax.records import Decoding, StopReason, TokenSequence
from zppo_jax.rollout import decode, drawing, weight_sync
from zppo_jax.rollout.build import make_engine
from zppo_jax.rollout.requests import Request

pytestmark = pytest.mark.usefixtures('quick_compile')

V, END, BANNED = 24, 1, 0  # the tiny model's vocabulary; 0 is padding
ALLOWED = np.arange(V) != BANNED
ANY = np.ones(V, bool)
TOP_P = 0.95  # of rollouts whose layout changes


@functools.cache
def sampler(model, decoding):
  """Jitted `decode.sample`; the ids that may be drawn are an input."""
  return jax.jit(functools.partial(
      decode.sample, model=model, decoding=decoding, end_id=END))


@functools.cache
def scorer(model, temperature):
  return jax.jit(functools.partial(
      forward.token_logps, model=model, temperature=temperature, chunk=7))


@functools.cache
def full_logps(model):
  """Uncached log-probs [B, T, V] at temperature 1."""
  def f(params, tokens_BT):
    positions = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1])[:, None],
                                 (*tokens_BT.shape, 1))
    hidden, _ = model.apply(params, tokens_BT, positions,
                            jnp.ones_like(tokens_BT))
    return jax.nn.log_softmax(hidden @ model.head(params), axis=-1)
  return jax.jit(f)


def random_prompts(lengths, width, seed=0):
  """Right-padded prompts with junk in the padding."""
  rng = np.random.default_rng(seed)
  tokens = rng.integers(2, V, (len(lengths), width)).astype(np.int32)
  return tokens, np.int32(lengths)


@functools.partial(jax.jit, static_argnums=1)
def keys_for(uid_P, num_rollouts):
  return randomness.rollout_keys(
      randomness.step_key(0, 0, Purpose.ROLLOUT), uid_P,
      jnp.zeros_like(uid_P, jnp.int32), num_rollouts)


def draw_samples(model, params, lengths, width, decoding, num_rollouts,
                 allowed=ALLOWED, seed=0):
  prompts, lengths = random_prompts(lengths, width, seed)
  keys = keys_for(np.arange(len(lengths), dtype=np.uint32), num_rollouts)
  samples = sampler(model, decoding)(
      params, builders.prompt_batch(prompts, lengths), keys, allowed_V=allowed)
  return prompts, lengths, jax.device_get(samples)


def rescored(model, params, prompts, lengths, samples, temperature):
  """What the trainer says of the same tokens, aligned like logp_PGR."""
  P, G, R = samples.tokens_PGR.shape
  rows = [(prompts[p, :lengths[p]],
           samples.tokens_PGR[p, g, :samples.length_PG[p, g]])
          for p in range(P) for g in range(G)]
  batch = packing.pad_rows(
      [packing.to_score(TokenSequence(prompt=p, response=r)) for p, r in rows],
      P * G, prompts.shape[1] + R + 3)
  logp, _ = scorer(model, temperature)(params, batch)
  out = np.zeros((P * G, R), np.float32)
  for b, (prompt, response) in enumerate(rows):
    out[b, :len(response)] = logp[b, len(prompt):len(prompt) + len(response)]
  return out.reshape(P, G, R)


def check_endings(samples, limit):
  """Length, stop reason and zeros of every row follow from its tokens."""
  for at in np.ndindex(*samples.length_PG.shape):
    tokens, length = samples.tokens_PGR[at].tolist(), samples.length_PG[at]
    ended = END in tokens
    assert length == (tokens.index(END) + 1 if ended else limit)
    assert samples.stop_PG[at] == (
        StopReason.END if ended else StopReason.LENGTH)
    assert not any(tokens[length:])
    assert not samples.logp_PGR[at][length:].any()
    assert (samples.logp_PGR[at][:length] < 0).all()
  return set(samples.stop_PG.ravel().tolist())


# Prompts P and rollouts G, prompt bucket, response limit, how to draw.
SETTINGS = [
    (4, 4, 8, Decoding(24)),
    (1, 1, 5, Decoding(9, temperature=0.6, top_p=0.7)),
    long(3, 2, 16, Decoding(12, temperature=1.3, top_k=5)),
    (2, 3, 6, Decoding(30, temperature=0.8, top_p=0.9, top_k=12)),
    (2, 1, 6, Decoding(12, temperature=0.0)),
]


@pytest.mark.parametrize('P, G, width, decoding', SETTINGS)
def test_logps_are_the_trainers(tiny, P, G, width, decoding):
  """Within 1e-4 of re-scoring, truncated or not: the full vocabulary's."""
  lengths = [(width - 3 * p) % width + 1 for p in range(P)]
  prompts, lengths, samples = draw_samples(*tiny, lengths, width, decoding, G)
  want = rescored(*tiny, prompts, lengths, samples, decoding.temperature)
  assert np.abs(samples.logp_PGR - want).max() < 1e-4
  check_endings(samples, decoding.max_tokens)


def test_end_and_length(tiny):
  """Both endings occur here, and END also as the very last token."""
  decoding = SETTINGS[0][3]
  _, _, samples = draw_samples(*tiny, [8, 5, 2, 7], 8, decoding, 4)
  assert check_endings(samples, 24) == {StopReason.END, StopReason.LENGTH}
  # Only END may be drawn: rows of length 1, log-prob of the full vocabulary.
  _, _, samples = draw_samples(*tiny, [8, 5, 2, 7], 8, decoding, 4,
                               np.arange(V) == END)
  assert (samples.length_PG == 1).all() and (samples.stop_PG == 0).all()
  assert (samples.logp_PGR[..., 0] < -0.1).all()
  check_endings(samples, 24)
  # END may not be drawn: all rows are cut.
  _, _, samples = draw_samples(*tiny, [8, 5, 2, 7], 8, decoding, 4,
                               np.arange(V) != END)
  assert (samples.length_PG == 24).all() and (samples.stop_PG == 1).all()
  # A limit of one token: the first may be END, and is the last.
  _, _, samples = draw_samples(*tiny, [3], 4, Decoding(1), 512)
  assert check_endings(samples, 1) == {StopReason.END, StopReason.LENGTH}


def test_padded_prompts_have_length_zero(tiny):
  """And change nothing in the real ones."""
  decoding = SETTINGS[0][3]
  _, _, padded = draw_samples(*tiny, [8, 0, 2, 0], 8, decoding, 4)
  _, _, full = draw_samples(*tiny, [8, 5, 2, 7], 8, decoding, 4)
  for p in (1, 3):
    assert not padded.length_PG[p].any() and not padded.tokens_PGR[p].any()
    assert not padded.logp_PGR[p].any()
  for p in (0, 2):
    np.testing.assert_array_equal(padded.tokens_PGR[p], full.tokens_PGR[p])
  _, _, none = draw_samples(*tiny, [0, 0, 0, 0], 8, decoding, 4)
  assert not none.tokens_PGR.any() and not none.length_PG.any()


def test_greedy_is_the_step_by_step_argmax(tiny):
  """Of the uncached model; whatever the key; banned ids are passed over."""
  model, params = tiny
  decoding = SETTINGS[4][3]
  for allowed in (ANY, np.arange(V) % 3 != 0):
    prompts, lengths, samples = draw_samples(
        model, params, [3, 6], 6, decoding, 1, allowed, seed=4)
    for p in range(2):
      context = prompts[p, :lengths[p]].tolist()
      response = samples.tokens_PGR[p, 0, :samples.length_PG[p, 0]].tolist()
      for token in response:
        padded = np.int32([context + [0] * (18 - len(context))])
        logps = np.asarray(full_logps(model)(params, padded))
        logps = np.where(allowed, logps[0, len(context) - 1], -np.inf)
        assert token == logps.argmax()
        context.append(token)
      assert len(set(response)) > 1


def test_banned_ids_are_never_drawn(tiny):
  """And log-probs stay those of the full vocabulary."""
  allowed = np.isin(np.arange(V), [END, 5, 6, 7])
  P, G, width, decoding = SETTINGS[0]
  prompts, lengths, samples = draw_samples(
      *tiny, [4] * P, width, decoding, G, allowed)
  drawn = np.unique(samples.tokens_PGR[samples.logp_PGR < 0])
  assert drawn.tolist() == [END, 5, 6, 7]
  want = rescored(*tiny, prompts, lengths, samples, 1.0)
  assert np.abs(samples.logp_PGR - want).max() < 1e-4


@LONG
def test_frequencies_of_two_tokens(tiny):
  """The sampler's pairs follow p(a) p(b | a): cache and keys included."""
  model, params = tiny
  G = 8192
  prompts, _, samples = draw_samples(model, params, [4], 6, Decoding(2), G,
                                     ANY, seed=6)
  contexts = np.concatenate(
      [np.tile(prompts[:, :4], (V, 1)), np.arange(V)[:, None]], 1)
  logps = np.asarray(full_logps(model)(params, contexts.astype(np.int32)))
  first, second = np.exp(logps[0, 3]), np.exp(logps[:, 4])
  joint = first[:, None] * second
  joint[END] = 0
  joint[END, 0] = first[END]  # it ends there; the rest is 0
  joint = joint.ravel().astype(float)
  joint /= joint.sum()  # off 1 by float32's rounding
  counts = np.bincount(
      samples.tokens_PGR[0] @ [V, 1], minlength=V * V).astype(float)
  # Pairs expected fewer than 5 times go into one bin.
  rare = joint * G < 5
  merge = lambda x: np.append(x[~rare], x[rare].sum())
  assert 50 < np.sum(~rare) and rare.sum() > 0
  assert stats.chisquare(merge(counts), merge(joint * G)).pvalue > 0.01


@pytest.mark.parametrize('fields, message', [
    (dict(max_tokens=0), 'max_tokens is 0'),
    (dict(temperature=-0.1), 'temperature is -0.1'),
    (dict(temperature=float('nan')), 'temperature is nan'),
    (dict(top_p=0.0), 'top_p is 0.0'), (dict(top_p=1.1), 'top_p is 1.1'),
    (dict(top_p=float('nan')), 'top_p is nan'),
    (dict(top_k=-1), 'top_k is -1')])
def test_impossible_decodings(fields, message):
  """Each field is checked by name."""
  with pytest.raises(ValueError, match=message):
    Decoding(**{'max_tokens': 4, **fields})


# Layout: questions by uid, sampled in several calls.
QUESTIONS = {uid: random_prompts([2 + uid % 5], 8, seed=uid)[0][0, :2 + uid % 5]
             for uid in range(100, 112)}
LIMIT = 10


@functools.cache
def engine_for(model, mesh, num_rollouts, width, **options):
  """The very engine of a run, for a codec of V ids."""
  codec = types.SimpleNamespace(
      vocab_size=V, end_id=END, sampled_ids=frozenset(np.flatnonzero(ALLOWED)))
  return make_engine(
      model=model, mesh=mesh, max_tokens=LIMIT, num_rollouts=(num_rollouts,),
      chat=types.SimpleNamespace(codec=codec, decode_response=lambda t: ''),
      prompt_buckets=(width,), group_buckets=(8,), **options)


def by_question(model, params, mesh, uids, *, width=8, num_rollouts=4, step=0,
                kind=0, **options):
  """{uid: its tokens [G, R]} of one call with these questions in order."""
  placed = weight_sync.place_copy(params, model, mesh)
  keys = randomness.rollout_key_data(
      randomness.step_key(5, step, Purpose.ROLLOUT), uids, [kind] * len(uids),
      num_rollouts)
  found = engine_for(model, mesh, num_rollouts, width, **options).generate(
      placed, [Request(uid, tuple(QUESTIONS[uid].tolist()), k,
                       Decoding(LIMIT, top_p=TOP_P))
               for uid, k in zip(uids, keys, strict=True)])
  out = {uid: np.zeros((num_rollouts, LIMIT), np.int32) for uid in uids}
  for uid, group in zip(uids, found, strict=True):
    for done in group:
      out[uid][done.rollout, :len(done.tokens)] = done.tokens
  return out


def divergence_gap(model, params, uid, rollout, a, b):
  """(engines.edge_gap where two responses part, the logits of what may be drawn
  there, the uniform numbers)."""
  at = int(np.flatnonzero(a != b)[0])
  tokens = np.concatenate([QUESTIONS[uid], a[:at]]).astype(np.int32)
  padded = np.pad(tokens, (0, 18 - len(tokens)))[None]
  scores = full_logps(model)(params, padded)[0, len(tokens) - 1]
  key = randomness.rollout_keys(
      randomness.step_key(5, 0, Purpose.ROLLOUT), jnp.uint32([uid]),
      jnp.int32([0]), rollout + 1)[0, rollout]
  allowed = jnp.where(ALLOWED, scores, -jnp.inf)[None]
  logits = np.asarray(drawing.truncate(
      allowed, np.float32([TOP_P]), np.int32([0]))[0])
  key = np.asarray(jax.random.key_data(key))
  return (engines.edge_gap(logits, key, at, a[at], b[at]), logits,
          drawing.uniforms(key[None], np.int32([at]))[0])


def check_same(model, params, base, other):
  """Equal tokens, or a gap below 1e-4 where they first differ."""
  assert set(other) <= set(base)
  for uid, rows in other.items():
    for g in range(min(len(rows), len(base[uid]))):
      a, b = base[uid][g], rows[g]
      if not np.array_equal(a, b):
        assert divergence_gap(model, params, uid, g, a, b)[0] < 1e-4


@pytest.fixture(scope='module')
def base(tiny, make_mesh, quick_compile):
  """Eight questions on one device."""
  out = by_question(*tiny, make_mesh(), range(100, 108))
  assert len({rows.tobytes() for rows in out.values()}) == 8
  assert len({row.tobytes() for row in out[100]}) == 4
  return out


@pytest.mark.parametrize('uids', [
    [107, 101, 106, 100, 105, 103, 104, 102],  # other slots
    [110, 111, 103, 109, 108, 102, 104, 107],  # other neighbours
    [105, 100],  # a smaller call
])
def test_rollouts_do_not_depend_on_slot_or_neighbours(
    tiny, make_mesh, base, uids):
  """Which slot a question has and what the others draw changes nothing."""
  other = by_question(*tiny, make_mesh(), uids)
  check_same(*tiny, base, {u: other[u] for u in other if u in base})


@LONG
def test_rollouts_do_not_depend_on_the_call(tiny, make_mesh, base):
  """Fewer questions, a longer bucket, more rollouts: the first 4 are equal."""
  other = by_question(*tiny, make_mesh(), [102, 106, 107], width=16,
                      num_rollouts=5)
  check_same(*tiny, base, other)


@pytest.mark.parametrize('options', [
    dict(slots=4), long(dict(slots=12, decode_chunk=3)),
    long(dict(slots=20, decode_chunk=1)), dict(slots=8, continuous=False)])
def test_rollouts_do_not_depend_on_slots_and_decode_chunks(
    tiny, make_mesh, base, options):
  """Slots are refilled at odd times, or all at once, in any number of them;
  programs stay within their bound."""
  check_same(*tiny, base, by_question(
      *tiny, make_mesh(), range(100, 108), **options))
  programs = engine_for(tiny[0], make_mesh(), 4, 8, **options).programs
  assert 4 <= programs.compilations <= programs.shapes.max_programs


@LONG
@pytest.mark.parametrize('shape', [(2, 2, 2), long((8, 1, 1))])
def test_rollouts_do_not_depend_on_the_mesh(tiny, make_mesh, base, shape):
  """One device, 2x2x2 and 8x1x1 draw the same tokens."""
  check_same(*tiny, base, by_question(
      *tiny, make_mesh(*shape), range(100, 108)))


def test_rollouts_depend_on_step_and_kind(tiny, make_mesh, base):
  """Another step or prompt kind draws anew, for every question."""
  for change in (dict(step=1), dict(kind=1)):
    other = by_question(*tiny, make_mesh(), range(100, 108), **change)
    for uid in base:
      assert not np.array_equal(base[uid], other[uid])


def test_the_layout_check_can_fail(tiny, base):
  """Another token than the one drawn is beyond an edge of the CDF, visibly."""
  a = base[100][0]
  b = a.copy()
  b[2] = (a[2] + 1) % V
  gap, logits, uniforms = divergence_gap(*tiny, 100, 0, a, b)
  assert gap > 1e-3
  assert engines.by_hand(logits, np.float64(uniforms))[0] == a[2]
