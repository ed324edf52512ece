"""The decoder against a plain numpy one, its cache, masks and numerics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.long import LONG
from zppo_jax import models
from zppo_jax.arrays import Cache, NewKV, Slots
from zppo_jax.models import cache as cached, layers
from zppo_jax.models.decoder import DecoderConfig

pytestmark = pytest.mark.usefixtures('quick_compile')

# Grouped queries K = 1, 2, N of N = 4; q/k-norm; tied and untied.
VARIANTS = [
    dict(num_kv_heads=1, qk_norm=True, tied=True),
    dict(num_kv_heads=2, qk_norm=False, tied=False),
    dict(num_kv_heads=4, qk_norm=True, tied=False),
]
SHAPES = dict(vocab_size=24, width=16, num_layers=2, num_heads=4,
              num_kv_heads=2, head_dim=6, mlp_width=20, max_positions=64)


def naive_norm(x, scale, eps=1e-6):
  return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * scale


def naive_rotate(x_TH, positions, theta):
  """Each pair (i, i + H/2) turns by position * theta^(-2i/H)."""
  half = x_TH.shape[1] // 2
  out = np.empty_like(x_TH)
  for t, position in enumerate(positions):
    for i in range(half):
      angle = position * theta**(-i / half)
      a, b = x_TH[t, i], x_TH[t, i + half]
      out[t, i] = a * np.cos(angle) - b * np.sin(angle)
      out[t, i + half] = b * np.cos(angle) + a * np.sin(angle)
  return out


def naive_decoder(params, tokens_T, config):
  """The hidden states of one sequence in float64, head by head."""
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  T, c = len(tokens_T), config
  x = p['embed'][tokens_T]
  for layer in range(c.num_layers):
    w = jax.tree.map(lambda leaf, i=layer: leaf[i], p['blocks'])
    attention, mlp = w['attention'], w['mlp']
    y = naive_norm(x, w['attention_norm']['scale'])
    out = np.zeros_like(x)
    for n in range(c.num_heads):
      kv = n * c.num_kv_heads // c.num_heads
      q, k = y @ attention['q'][:, n], y @ attention['k'][:, kv]
      v = y @ attention['v'][:, kv]
      if c.qk_norm:
        q = naive_norm(q, attention['q_norm']['scale'])
        k = naive_norm(k, attention['k_norm']['scale'])
      q = naive_rotate(q, range(T), c.rope_theta)
      k = naive_rotate(k, range(T), c.rope_theta)
      scores = q @ k.T / np.sqrt(c.head_dim)
      scores[np.triu_indices(T, 1)] = -np.inf
      weights = np.exp(scores - scores.max(-1, keepdims=True))
      weights /= weights.sum(-1, keepdims=True)
      out += weights @ v @ attention['o'][n]
    x = x + out
    y = naive_norm(x, w['mlp_norm']['scale'])
    gate = y @ mlp['gate']
    x = x + (gate / (1 + np.exp(-gate)) * (y @ mlp['up'])) @ mlp['down']
  return naive_norm(x, p['norm']['scale'])


def positions_of(tokens_BT):
  return np.broadcast_to(np.arange(tokens_BT.shape[1], dtype=np.int32),
                         tokens_BT.shape)[..., None]


@functools.cache
def jitted(model):
  return jax.jit(model.apply)


def hidden(model, params, tokens_BT, positions_BT=None, segment_BT=None):
  if positions_BT is None:
    positions_BT = positions_of(tokens_BT)
  if segment_BT is None:
    segment_BT = np.ones_like(tokens_BT)
  return jitted(model)(params, tokens_BT, positions_BT, segment_BT)[0]


def random_tokens(shape, seed=0):
  return np.random.default_rng(seed).integers(0, 24, shape).astype(np.int32)


@pytest.mark.parametrize('fields', VARIANTS)
def test_equals_a_plain_decoder_at_520_tokens(make_tiny, fields):
  """Every head, layer and position against loops in float64."""
  model, params = make_tiny(**fields)
  tokens = random_tokens((1, 520))
  got = hidden(model, params, tokens)
  want = naive_decoder(params, tokens[0], model.config)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got[0], want, atol=1e-4)


def test_head_is_tied_or_its_own(make_tiny):
  """Tied: the embedding transposed; untied: a parameter of its own."""
  model, params = make_tiny(tied=True)
  assert 'head' not in params
  np.testing.assert_array_equal(model.head(params), params['embed'].T)
  model, params = make_tiny(tied=False)
  np.testing.assert_array_equal(model.head(params), params['head'])


def decode_all(model, params, tokens_BT, chunks, slots):
  """Hidden states of `chunks` of tokens in turn through one cache."""
  c, (B, _) = model.config, tokens_BT.shape
  zeros = jnp.zeros((c.num_layers, B, slots, c.num_kv_heads, c.head_dim))
  cache = Cache((cached.slots(
      NewKV(zeros, zeros, ()), jnp.zeros((B, slots), bool)),))
  out, start = [], 0

  def extend(cache, chunk):
    chunk_BT, start = chunk
    size = chunk_BT.shape[1]
    positions = jnp.broadcast_to(start + jnp.arange(size), chunk_BT.shape)
    x, new = model.apply(params, chunk_BT, positions[..., None],
                         jnp.ones_like(chunk_BT), cache)
    put = lambda old, new, axis: jax.lax.dynamic_update_slice_in_dim(
        old, new, start, axis)
    (old,), new = cache.sources, cached.slots(new, jnp.ones((B, size), bool))
    return Cache((Slots(put(old.k_LCKHS, new.k_LCKHS, 4),
                        put(old.v_LCKSH, new.v_LCKSH, 3),
                        put(old.valid_CS, new.valid_CS, 1)),)), x

  for count, size in chunks:  # `count` chunks of `size` tokens in one scan
    span = tokens_BT[:, start:start + count * size]
    parts = span.reshape(B, count, size).swapaxes(0, 1)
    starts = start + size * jnp.arange(count)
    cache, x = jax.jit(functools.partial(jax.lax.scan, extend))(
        cache, (parts, starts))
    out.append(np.asarray(x).swapaxes(0, 1).reshape(B, count * size, -1))
    start += count * size
  assert start == tokens_BT.shape[1]
  return np.concatenate(out, axis=1)


@pytest.mark.parametrize('fields', VARIANTS)
def test_cached_equals_uncached_over_520_tokens(make_tiny, fields):
  """Token by token from an empty cache, with slots to spare."""
  model, params = make_tiny(**fields)
  tokens = random_tokens((1, 520), seed=1)
  want = hidden(model, params, tokens)
  got = decode_all(model, params, tokens, [(520, 1)], 525)
  np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.parametrize('chunks', [[(1, 4), (2, 1)], [(1, 2), (1, 4)]])
def test_cached_equals_uncached_after_a_prefill(tiny, chunks):
  """Then by steps or by a chunk, in a cache that is exactly full."""
  model, params = tiny
  tokens = random_tokens((2, 6), seed=2)
  got = decode_all(model, params, tokens, chunks, 6)
  np.testing.assert_allclose(got, hidden(model, params, tokens), atol=1e-5)


def test_a_token_that_is_not_valid_is_not_read(tiny):
  """What lies in an invalid slot never matters, NaN-free junk included."""
  model, params = tiny
  c = model.config
  rng = np.random.default_rng(3)
  shape = (c.num_layers, 1, 5, c.num_kv_heads, c.head_dim)
  k, v = rng.standard_normal((2, *shape)).astype(np.float32)
  valid = np.array([[True, False, True, False, True]])
  apply = jitted(model)
  one = np.ones((1, 1), np.int32)
  cache = lambda: Cache((cached.slots(NewKV(k, v, ()), valid),))
  a = apply(params, one, 9 * one[..., None], one, cache())[0]
  k[:, :, 1], v[:, :, 3] = 100, -100
  b = apply(params, one, 9 * one[..., None], one, cache())[0]
  np.testing.assert_array_equal(a, b)
  v[:, :, 2] += 1
  c = apply(params, one, 9 * one[..., None], one, cache())[0]
  assert np.abs(c - a).max() > 1e-3


@functools.cache
def jitted_jacobian(model):
  weights = np.random.default_rng(4).standard_normal(16).astype(np.float32)

  def f(embed, params, *inputs_1T):
    return model.apply({**params, 'embed': embed}, *inputs_1T)[0][0] @ weights

  return jax.jit(jax.jacrev(f))


def embedding_jacobian(model, params, tokens_T, *inputs_T):
  """|d hidden[t] / d embedding of token t'| as [T, T], summed over widths."""
  # Each token occurs once, so that a row of the embedding is a position.
  assert len(set(tokens_T)) == len(tokens_T)
  jacobian = jitted_jacobian(model)(
      params['embed'], params, *(x[None] for x in (tokens_T, *inputs_T)))
  return np.abs(np.asarray(jacobian)[:, tokens_T]).sum(-1)


def test_causality_by_gradient(tiny):
  """d hidden[t] / d embedding[t'] is exactly 0 where t' > t, else not."""
  model, params = tiny
  tokens = np.random.default_rng(5).permutation(24)[:9].astype(np.int32)
  size = embedding_jacobian(model, params, tokens,
                            np.arange(9, dtype=np.int32)[:, None],
                            np.ones(9, np.int32))
  before = np.tril(np.ones((9, 9), bool))
  assert not size[~before].any()
  assert (size[before] > 1e-4).all()


def test_packed_segments_by_gradient(tiny):
  """Two segments and padding: nothing flows between them, nor from padding."""
  model, params = tiny
  tokens = np.random.default_rng(6).permutation(24)[:9].astype(np.int32)
  segment = np.int32([1, 1, 1, 2, 2, 2, 2, 0, 0])
  positions = np.int32([0, 1, 2, 0, 1, 2, 3, 0, 0])[:, None]
  size = embedding_jacobian(model, params, tokens, positions, segment)
  allowed = (segment[:, None] == segment) & np.tril(np.ones((9, 9), bool))
  assert not size[:7][~allowed[:7]].any()
  assert (size[:7][allowed[:7]] > 1e-4).all()


def test_two_packed_segments_equal_each_alone(tiny):
  """Positions restart, so the second segment does not know the first."""
  model, params = tiny
  a, b = random_tokens((1, 6), seed=7), random_tokens((1, 6), seed=8)
  packed = np.concatenate([a, b, np.zeros((1, 3), np.int32)], axis=1)
  segment = np.int32([[1] * 6 + [2] * 6 + [0] * 3])
  positions = np.int32([[*range(6), *range(6), 0, 0, 0]])[..., None]
  x = hidden(model, params, packed, positions, segment)
  np.testing.assert_allclose(x[:, :6], hidden(model, params, a), atol=1e-5)
  np.testing.assert_allclose(x[:, 6:12], hidden(model, params, b), atol=1e-5)


def test_padding_never_changes_real_tokens(tiny):
  """Whatever it holds, on either side; and it is never NaN."""
  model, params = tiny
  real = random_tokens((1, 6), seed=9)
  want = hidden(model, params, real)
  for left, right, fill in ((0, 9, 0), (0, 9, 23), (4, 5, 11)):
    width = ((0, 0), (left, right))
    tokens = np.pad(real, width, constant_values=fill)
    segment = np.pad(np.ones_like(real), width)
    positions = np.pad(positions_of(real), (*width, (0, 0)),
                       constant_values=fill)
    got = hidden(model, params, tokens, positions, segment)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[:, left:left + 6], want, atol=1e-5)


def test_rows_do_not_see_each_other(tiny):
  """A row of a batch is the row alone."""
  model, params = tiny
  tokens = random_tokens((2, 6), seed=10)
  got = hidden(model, params, tokens)
  for row in range(2):
    np.testing.assert_allclose(
        got[row], hidden(model, params, tokens[row:row + 1])[0], atol=1e-5)


def test_rotary_by_hand():
  """Head dim 4, theta 100: pairs turn by p and p / 10, for any type."""
  x = np.zeros((1, 3, 1, 4), np.float32)
  x[..., 0], x[..., 3] = 1, 1  # first of pair 0, second of pair 1
  positions = np.int32([[0, 2, 500]])[..., None]
  out = layers.rotate(x, *layers.rotary_phases(
      positions, 4, 100.0, jnp.bfloat16))
  for t, p in enumerate((0, 2, 500)):
    want = [np.cos(p), -np.sin(p / 10), np.sin(p), np.cos(p / 10)]
    np.testing.assert_allclose(out[0, t, 0], want, atol=2e-5)


def test_partial_rotary_on_interleaved_axes_by_hand():
  """Six of eight dimensions turn, by (t, h, w) = (0, 1, 2) and so on; the
  last two do not."""
  axes = layers.interleaved_axes(3, (1, 1, 1))
  np.testing.assert_array_equal(axes, [0, 1, 2])
  np.testing.assert_array_equal(
      layers.interleaved_axes(32, (11, 11, 10)), [0, 1, 2] * 10 + [0, 1])
  x = np.zeros((1, 1, 1, 8), np.float32)
  x[..., :3] = 1
  x[..., 6:] = 5
  phases = layers.rotary_phases(
      np.int32([[[3, 4, 5]]]), 6, 8.0, jnp.float32, axes)
  angles = np.array([3, 4 / 2, 5 / 4])
  np.testing.assert_allclose(
      layers.rotate(x, *phases)[0, 0, 0],
      [*np.cos(angles), *np.sin(angles), 5, 5], atol=1e-6)
  with pytest.raises(ValueError, match='sum to 4'):
    layers.interleaved_axes(3, (2, 1, 1))


def test_positions_are_relative(tiny):
  """Shifting all positions by 600 leaves the hidden states as they are."""
  model, params = tiny
  tokens = random_tokens((1, 6), seed=11)
  shifted = hidden(model, params, tokens, positions_of(tokens) + 600)
  np.testing.assert_allclose(shifted, hidden(model, params, tokens), atol=1e-3)
  spread = hidden(model, params, tokens, positions_of(tokens) * 3)
  assert np.abs(spread - shifted).max() > 0.01


def test_attend_equals_softmax_per_head():
  """Two sources, grouped queries, one softmax over both."""
  rng = np.random.default_rng(12)
  B, T, N, K, H = 2, 3, 4, 2, 6
  q = rng.standard_normal((B, T, N, H)).astype(np.float32)
  sources = []
  for S in (5, T):
    k, v = rng.standard_normal((2, B, S, K, H)).astype(np.float32)
    sources.append((k, v, rng.random((B, T, S)) < 0.6))
  sources[1][2][:, :, 0] = True  # every row but one has a key
  for source in sources:
    source[2][1, 2] = False
  got = jax.jit(layers.attend)(q, sources)
  for b, t, n in np.ndindex(B, T, N):
    if (b, t) == (1, 2):
      assert np.isfinite(got[b, t, n]).all()
      continue
    keys, values = (
        np.concatenate([s[i][b, s[2][b, t], n // 2] for s in sources])
        for i in (0, 1))
    weights = np.exp(keys.astype(np.float64) @ q[b, t, n] / np.sqrt(H))
    np.testing.assert_allclose(got[b, t, n], weights @ values / weights.sum(),
                               atol=1e-5)


@LONG
def test_bf16_runs_and_stays_close(make_tiny):
  """bf16 holds 8 bits: a few 2^-9 a layer; params stay as they were."""
  _, params = make_tiny()
  tokens = random_tokens((1, 520), seed=13)
  x32 = np.asarray(hidden(*make_tiny(), tokens))
  model, _ = make_tiny(dtype='bfloat16')
  x16, new = jitted(model)(params, tokens, positions_of(tokens),
                           np.ones_like(tokens))
  assert x16.dtype == new.k_LBTKH.dtype == new.v_LBTKH.dtype == jnp.bfloat16
  error = np.asarray(x16, np.float32) - x32
  relative = np.sqrt((error**2).mean() / (x32**2).mean())
  assert 1e-4 < relative < 0.02
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {
      jnp.dtype('float32')}


def loss_of(model, tokens):
  weights = np.random.default_rng(14).standard_normal(16).astype(np.float32)
  return lambda params: (model.apply(
      params, tokens, positions_of(tokens), np.ones_like(tokens))[0]
      @ weights).sum()


def matrix_products(jaxpr):
  count = 0
  for equation in jaxpr.eqns:
    count += equation.primitive.name == 'dot_general'
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      count += matrix_products(inner)
  return count


@LONG
def test_remat_modes_give_the_same_gradient(make_tiny):
  """And they do recompute: 'full' more products than 'dots' than 'none'."""
  tokens = random_tokens((2, 6), seed=15)
  grads, products = {}, {}
  for mode in ('none', 'dots', 'full'):
    model, params = make_tiny(remat=mode, qk_norm=False)
    gradient = jax.grad(loss_of(model, tokens))
    products[mode] = matrix_products(jax.make_jaxpr(gradient)(params).jaxpr)
    grads[mode] = jax.jit(gradient)(params)
  for mode in ('dots', 'full'):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(
        x, y, rtol=1e-5, atol=1e-5 * np.abs(y).max()), grads[mode],
        grads['none'])
  assert products['none'] < products['dots'] < products['full']


@pytest.mark.default_emitters
@pytest.mark.parametrize('unroll', [2, 5, 9])
def test_layers_written_out_give_the_same(unroll):
  """Of five: two at a time and one, all, and more than there are."""
  make = lambda **more: models.build(
      'decoder', **{**SHAPES, 'num_layers': 5, **more})
  tokens = random_tokens((2, 9), seed=3)
  params = make().init(jax.random.key(0))
  wanted, got = (loss_of(make(**more), tokens)
                 for more in ({}, {'unroll': unroll}))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(
      x, y, rtol=1e-5, atol=1e-5 * np.abs(y).max()),
      jax.jit(jax.grad(got))(params), jax.jit(jax.grad(wanted))(params))
  compiled = lambda of: jax.jit(jax.grad(of)).lower(params).compile().as_text()
  loops = lambda of: compiled(of).count(' while(')
  assert loops(wanted) == 2 and loops(got) == (2 if unroll == 2 else 0)


@pytest.mark.parametrize('fields, count', [
    # embed 24*16; a layer: q 16*4*6, k and v 16*K*6 each, o 4*6*16, gate, up
    # and down 16*20 each, two norms of 16, q_norm and k_norm of 6; norm 16;
    # untied: head 16*24.
    (VARIANTS[0], 384 + 2 * (384 + 2 * 96 + 384 + 960 + 32 + 12) + 16),
    (VARIANTS[1], 384 + 2 * (384 + 2 * 192 + 384 + 960 + 32) + 16 + 384),
    (VARIANTS[2], 384 + 2 * (384 + 2 * 384 + 384 + 960 + 44) + 16 + 384),
])
def test_parameter_count(make_tiny, fields, count):
  """By formula; and layers are stacked on the leading axis of a block."""
  model, _ = make_tiny(**fields)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
  assert {leaf.shape[0] for leaf in jax.tree.leaves(shapes['blocks'])} == {2}
  assert shapes['blocks']['attention']['q'].shape == (2, 16, 4, 6)
  assert ('q_norm' in shapes['blocks']['attention']) == fields['qk_norm']


@LONG
def test_initial_weights():
  """Deviations 1/sqrt(fan in), layers differ, norms start at 1."""
  model = models.build('decoder', **{
      **SHAPES, 'width': 64, 'mlp_width': 96, 'tied': False})
  params = jax.jit(model.init)(jax.random.key(0, impl='rbg'))
  block = params['blocks']
  for leaf, fan_in in (
      (params['embed'], 64), (params['head'], 64),
      (block['attention']['q'], 64), (block['attention']['v'], 64),
      (block['attention']['o'], 4 * 6), (block['mlp']['up'], 64),
      (block['mlp']['down'], 96)):
    assert abs(np.std(leaf) * fan_in**0.5 - 1) < 0.06
  assert np.abs(block['mlp']['up'][0] - block['mlp']['up'][1]).max() > 0.1
  assert (block['mlp_norm']['scale'] == 1).all()


@pytest.mark.parametrize('fields, message', [
    (dict(width=0), 'width is 0'), (dict(num_layers=-1), 'num_layers is -1'),
    (dict(max_positions=0), 'max_positions is 0'),
    (dict(num_kv_heads=3), 'num_heads is 4.*num_kv_heads, 3'),
    (dict(head_dim=5), 'head_dim is 5.*even'),
    (dict(dtype='float16'), "dtype 'float16'; known: float32"),
    (dict(remat='some'), "remat 'some'; known: none, full, dots"),
    (dict(unroll=0), 'unroll is 0; it must be >= 1'),
    (dict(unroll=2, remat='full'), "unroll is 2 and remat 'full'; .*unroll 1")
])
def test_impossible_shapes(fields, message):
  """Each names its field and, where there are some, the known values."""
  error = KeyError if 'known' in message else ValueError
  with pytest.raises(error, match=message):
    DecoderConfig(**{**SHAPES, **fields})


def test_unknown_family_or_field():
  """The known families are listed; a misspelt field is not swallowed."""
  with pytest.raises(KeyError, match="'llama9'; known: decoder"):
    models.build('llama9', **SHAPES)
  with pytest.raises(TypeError, match='widht'):
    models.build('decoder', **SHAPES, widht=16)
