"""The update: exact accumulation, masks, ratios, statistics."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.builders import advantage_targets, assert_same_sums
from tests.long import LONG, long
from zppo_jax.arrays import TrainState
from zppo_jax.devices import sharding
from zppo_jax.learner import (
  forward,
  layouts,
  optimizers,
  packing,
  scoring,
  states,
  update,
)
from zppo_jax.objectives import losses
from zppo_jax.records import (
  Group,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  StopReason,
  Verdict,
)

pytestmark = pytest.mark.usefixtures('quick_compile')

V, TEMPERATURE, CLIP = 24, 0.9, losses.ClipBounds()
LOSS = dict(temperature=TEMPERATURE, chunk=5, loss=functools.partial(
    losses.clipped_surrogate, clip=CLIP))
# Advantages of three groups of 4; a row of 0 and a group of 0 among them.
ADV = np.float32([[1, -1, 0.5, -0.5], [0, 0, 0, 0], [2, -1, 0, -1]])


def make_groups():
  """Rollouts of 1 to 9 tokens under prompts of 2 to 6.

  Their `logps` hold noise: the old policy's distance from the current one.
  """
  rng = np.random.default_rng(0)
  draw = lambda size: tuple(rng.integers(1, V, size).tolist())
  groups, length = [], 0
  for p, prompt in enumerate((2, 6, 4)):
    rollouts = []
    for _ in range(4):
      length = length % 9 + 2 if length % 9 else 1
      noise = tuple(rng.uniform(-0.5, 0.5, length).tolist())
      rollouts.append(Rollout(draw(length), noise, '', StopReason.END,
                              Verdict.WRONG, ''))
    question = Question(str(p), '', '', '')
    groups.append(Group(Prompt(question, PromptKind.PLAIN, draw(prompt)),
                        tuple(rollouts)))
  # One token of A = 1 and one of A = -1 far off: log-ratios of -3 and 3.
  first = groups[0].rollouts
  far = (first[0].logps[:-1] + (3.0,), first[1].logps[:-1] + (-3.0,))
  changed = tuple(Rollout(r.tokens, logps, '', r.stop, r.verdict, '')
                  for r, logps in zip(first, far, strict=False)) + first[2:]
  return [Group(groups[0].prompt, changed), *groups[1:]]


GROUPS = make_groups()
TOKENS = packing.trained_tokens(GROUPS)
# log-ratio and advantage of every response token, in float64.
LOG_RATIO = -np.concatenate([r.logps for g in GROUPS for r in g.rollouts])
TOKEN_ADV = np.repeat(ADV, [len(r.tokens) for g in GROUPS for r in g.rollouts],
                      axis=None)


def pack(max_tokens=192, buckets=(16,), skip_zero=False, kind='padded',
         multiple=1):
  """One micro-batch of 12 rows of 16, unless told otherwise."""
  return layouts.micro_batches(
      GROUPS, advantage_targets(GROUPS, ADV, zeros=not skip_zero),
      layouts.Layout(kind, max_tokens, multiple, 4, buckets, (6, 8), (12,), (),
                     1))


def compile_all(model, mesh, tx, **loss_fields):
  """(update_fn, shardings) as train/loop.py makes them."""
  shardings = states.state_shardings(model, tx, mesh)
  fields = {**LOSS, **loss_fields}
  update_fn = update.compile_update(
      loss_fn=functools.partial(update.policy_loss, model=model, **fields),
      tx=tx, mesh=mesh, shardings=shardings)
  return update_fn, shardings


@pytest.fixture(scope='module')
def mesh(make_mesh):
  return make_mesh()


@pytest.fixture(scope='module')
def compiled(tiny, mesh, quick_compile):
  """Plain gradient descent at rate 1."""
  return compile_all(tiny[0], mesh, optax.sgd(1.0))


@pytest.fixture(scope='module')
def params(tiny, mesh):
  """The tiny model's on the mesh."""
  return jax.device_put(tiny[1], sharding.param_shardings(
      tiny[1], mesh, sharding.TRAIN_RULES))


@pytest.fixture(scope='module')
def score(tiny, mesh, params, compiled):
  """micro-batch -> the trainer's (log-probs, entropies)."""
  score_fn = scoring.compile_scorer(
      model=tiny[0], mesh=mesh, shardings=compiled[1],
      temperature=TEMPERATURE, chunk=5)
  return lambda batch: jax.device_get(
      score_fn(params, sharding.put_batch(mesh, batch)))


def with_old(batches, score, scale=1.0):
  """Old log-probs: those of the trainer plus the noise in `logps`."""
  return [b.with_target('old_logp', score(b)[0]
                        + scale * b.targets['sampler_logp'])
          for b in batches]


@pytest.fixture(scope='module')
def gradient(mesh, params, compiled):
  """(micro-batches, update_fn=compiled) -> (summed gradient, Sums)."""
  def of(batches, update_fn=compiled[0]):
    grads, sums, _ = update_fn(
        TrainState(params, None, None),
        [sharding.put_batch(mesh, b) for b in batches], None,
        optimizer_fn=lambda state, grads, token_count: (grads, None))
    return jax.device_get((grads, sums))
  return of


def norm_of(tree):
  return np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(tree)))


def assert_close(got, want, rtol=1e-5):
  """Per tensor: ||got - want|| <= rtol ||want||."""
  def one(x, y):
    distance, size = np.linalg.norm(x - y), np.linalg.norm(y)
    assert 0 < size and distance <= rtol * size
  jax.tree.map(one, got, want)


@pytest.fixture(scope='module')
def whole(gradient, score):
  """(gradient, sums) of all rows as one batch."""
  return gradient(with_old(pack(), score))


@LONG
def test_micro_batches_equal_one_batch(gradient, score, whole):
  """Seven of two lengths against one: loss, statistics and gradient."""
  batches = with_old(pack(max_tokens=32, buckets=(8, 16)), score)
  shapes = [b.tokens_BT.shape for b in batches]
  assert len(shapes) >= 5 and set(shapes) == {(4, 8), (2, 16)}
  grads, sums = gradient(batches)
  assert_close(grads, whole[0])
  assert_same_sums(sums, whole[1])


@pytest.mark.parametrize('max_tokens, shape', [
    (192, (3, 4)), long(30, (1, 2))], ids=['whole groups', 'halves'])
def test_shared_prompts_equal_padded(gradient, score, whole, max_tokens,
                                     shape):
  """A prompt once for the rows that continue it: gradient, statistics,
  log-probs and entropies; and a prompt that is not seen is noticed."""
  batches = with_old(pack(max_tokens=max_tokens, kind='shared'), score)
  units, rows = shape
  assert {(*b.prompts.tokens_PT.shape, *b.tokens_BT.shape)
          for b in batches} == {(units, 6, units * rows, 12)}
  grads, sums = gradient(batches)
  assert_close(grads, whole[0])
  assert_same_sums(sums, whole[1])
  tokens = sum(len(g.prompt.tokens) for g in GROUPS) * (4 // rows) + TOKENS
  assert sums.positions - sums.padding == tokens
  drop = lambda b: b.replace(prompts=b.prompts.replace(
      length_P=np.minimum(b.prompts.length_P, 1)))
  blind, _ = gradient([drop(b) for b in batches])
  with pytest.raises(AssertionError):
    assert_close(blind, whole[0])


@LONG
def test_shared_prompts_on_a_mesh(tiny, whole, score, make_mesh):
  """2 x 2 x 2: units over devices, the gradient of one device."""
  model, host = tiny
  mesh = make_mesh(2, 2, 2)
  update_fn, shardings = compile_all(model, mesh, optax.sgd(1.0))
  batches = with_old(pack(60, kind='shared', multiple=4), score)
  assert [b.prompts.tokens_PT.shape[0] for b in batches] == [4]
  params = jax.device_put(host, shardings.params)
  grads, sums, _ = update_fn(
      TrainState(params, None, None),
      [sharding.put_batch(mesh, b) for b in batches], None,
      optimizer_fn=lambda state, grads, count: (grads, None))
  assert_close(jax.device_get(grads), whole[0])
  assert_same_sums(jax.device_get(sums), whole[1])


def test_packed_equals_padded(gradient, score, whole):
  """Micro-batches of packed rows: gradient, statistics, fewer positions; and
  segments that run into each other are seen."""
  batches = with_old(pack(max_tokens=32, kind='packed'), score)
  assert {b.tokens_BT.shape for b in batches} == {(2, 16)}
  assert len(batches) > 1 and max(b.segment_BT.max() for b in batches) > 1
  grads, sums = gradient(batches)
  assert_close(grads, whole[0])
  assert_same_sums(sums, whole[1])
  real = sums.positions - sums.padding
  assert real == whole[1].positions - whole[1].padding
  assert sums.positions < whole[1].positions == 12 * 16
  merged, _ = gradient([b.replace(segment_BT=np.minimum(b.segment_BT, 1))
                        for b in batches])
  with pytest.raises(AssertionError):
    assert_close(merged, whole[0], rtol=1e-2)


def test_packed_rows_without_those_of_no_advantage(gradient, score, whole):
  grads, sums = gradient(with_old(
      pack(max_tokens=32, kind='packed', skip_zero=True), score))
  assert_close(grads, whole[0])
  np.testing.assert_allclose(sums.loss, whole[1].loss, rtol=1e-5)


def test_a_step_is_the_token_mean(tiny, mesh, compiled, score, whole):
  """params - gradient / all response tokens; the norm is that mean's."""
  update_fn, shardings = compiled
  for batches in (pack(), pack(max_tokens=32, buckets=(8, 16))):
    state = states.new_state(tiny[1], optax.sgd(1.0), shardings)
    batches = [sharding.put_batch(mesh, b) for b in with_old(batches, score)]
    state, _, norm = update_fn(state, batches, float(TOKENS))
    jax.tree.map(lambda x, p, g: np.testing.assert_allclose(
        x, p - g / TOKENS, rtol=1e-6, atol=1e-6),
        *jax.device_get((state.params, tiny[1], whole[0])))
    np.testing.assert_allclose(norm, norm_of(whole[0]) / TOKENS, rtol=1e-5)
    assert state.updates == 1


def test_skipped_rows_change_no_gradient(gradient, score, whole):
  """Rows of advantage 0 have no gradient; the caller counts their tokens."""
  batches = with_old(pack(max_tokens=32, buckets=(8, 16), skip_zero=True),
                     score)
  rows = sum((b.mask_BT.sum(1) > 0).sum() for b in batches)
  assert rows == 7  # 5 of the 12 advantages are 0
  grads, sums = gradient(batches)
  assert_close(grads, whole[0])
  np.testing.assert_allclose(sums.loss, whole[1].loss, rtol=1e-5)
  assert sums.tokens < whole[1].tokens == TOKENS


def test_sums_by_hand(whole):
  """Loss, clipped tokens and extremes from the noise alone, in numpy."""
  ratio, adv = np.exp(LOG_RATIO), TOKEN_ADV
  loss = -np.minimum(ratio * adv, np.clip(ratio, 0.8, 1.28) * adv)
  loss = np.where(adv < 0, np.minimum(loss, -10 * adv), loss)
  sums = whole[1]
  np.testing.assert_allclose(sums.loss, loss.sum(), rtol=1e-4)
  counts = {'clip_high': (adv > 0) & (ratio > 1.28),
            'clip_low': (adv < 0) & (ratio < 0.8),
            'clip_dual': (adv < 0) & (ratio > 10)}
  for name, held in counts.items():
    assert sums.total[name] == held.sum() > 0
  assert sums.tokens == len(ratio) == TOKENS
  np.testing.assert_allclose(sums.highest['log_ratio'], 3, atol=1e-5)
  np.testing.assert_allclose(sums.lowest['log_ratio'], LOG_RATIO.min(),
                             atol=1e-5)
  np.testing.assert_allclose(sums.total['log_ratio'], LOG_RATIO.sum(),
                             atol=1e-4)


def test_entropy_is_summed_over_responses(score, whole):
  """The mask's positions and no others."""
  batch, = pack()
  _, entropy, _ = score(batch)
  np.testing.assert_allclose(
      whole[1].total['entropy'], (entropy * batch.mask_BT).sum(), rtol=1e-5)
  assert 1.0 < whole[1].total['entropy'] / TOKENS < np.log(V)


def sums_of(start: float, extreme: float) -> update.Sums:
  """Statistics of two names, one of them a flag without extremes."""
  x = np.float32(start)
  return update.Sums(
      loss=x, tokens=x + 1, positions=x + 2, padding=x + 3,
      total={'clip_low': x + 4, 'gap': x + 5},
      highest={'gap': np.float32(extreme)},
      lowest={'gap': np.float32(-extreme)})


def test_sums_add():
  """Counts add by name; extremes do not."""
  got = update.add_sums(sums_of(1, 0.5), sums_of(10, 0.2))
  jax.tree.map(np.testing.assert_array_equal, got, update.Sums(
      loss=11, tokens=13, positions=15, padding=17,
      total={'clip_low': 19, 'gap': 21}, highest={'gap': np.float32(0.5)},
      lowest={'gap': np.float32(-0.5)}))


@pytest.mark.default_emitters
def test_a_new_statistic_needs_no_other_edit(tiny, mesh, params, score,
                                             gradient):
  """A loss that returns one more float: its sum and its extremes, over trained
  tokens; its gradient changes nothing."""
  def loss(output, batch):
    loss_BT, statistics = LOSS['loss'](output, batch)
    return loss_BT, {**statistics, 'surprise': -2 * output.logp_BT}

  update_fn, _ = compile_all(tiny[0], mesh, optax.sgd(1.0), loss=loss)
  batches = with_old(pack(max_tokens=32), score)
  (grads, sums), (want, plain) = gradient(batches, update_fn), gradient(batches)
  jax.tree.map(np.testing.assert_array_equal, grads, want)
  surprise = np.concatenate([
      -2 * np.asarray(score(b)[0])[b.mask_BT > 0] for b in batches])
  np.testing.assert_allclose(sums.total['surprise'], surprise.sum(), rtol=1e-5)
  np.testing.assert_allclose(sums.highest['surprise'], surprise.max(),
                             rtol=1e-5)
  assert sums.lowest['surprise'] == 0  # no token is below 0
  assert sums.total.keys() - plain.total.keys() == {'surprise'}


def test_gradient_is_that_of_plain_policy_gradient(tiny, gradient, score):
  """At ratio 1: -A grad log p of each response token, under its prompt."""
  model, params = tiny
  rows = [(g.prompt.tokens, r.tokens, a)
          for g, advantages in zip(GROUPS, ADV, strict=True)
          for r, a in zip(g.rollouts, advantages, strict=True)]
  tokens, weight = np.zeros((12, 16), np.int32), np.zeros((12, 16), np.float32)
  for b, (prompt, response, a) in enumerate(rows):
    stop = len(prompt) + len(response)
    tokens[b, :stop] = prompt + response
    weight[b, len(prompt):stop] = a
  positions = np.broadcast_to(np.arange(16)[:, None], (*tokens.shape, 1))

  def naive(params):
    hidden, _ = model.apply(params, tokens, positions, np.ones_like(tokens))
    logps = jax.nn.log_softmax(hidden @ model.head(params) / TEMPERATURE, -1)
    picked = jnp.take_along_axis(logps[:, :-1], tokens[:, 1:, None], 2)[..., 0]
    return -(picked * weight[:, 1:]).sum()

  want = jax.device_get(jax.jit(jax.grad(naive))(params))
  grads, sums = gradient(with_old(pack(), score, scale=0.0))
  assert_close(grads, want)
  # The first mini-batch is exactly on-policy.
  assert max(sums.highest['log_ratio'], -sums.lowest['log_ratio']) < 1e-6
  assert not any(sums.total[f'clip_{name}'] for name in ('low', 'high', 'dual'))


def test_nothing_outside_responses_matters(gradient, score, whole):
  """Old log-probs of prompts and what padding holds; no mask, no gradient."""
  batch, = with_old(pack(), score)
  outside = batch.mask_BT == 0
  padding = batch.segment_BT == 0
  assert (outside & ~padding).sum() == 4 * (2 + 6 + 4) and padding.any()
  junk = batch.replace(
      targets={name: np.where(outside, -40, x)
               for name, x in batch.targets.items()},
      tokens_BT=np.where(padding, 9, batch.tokens_BT))
  grads, sums = gradient([junk])
  assert_close(grads, whole[0])
  assert_same_sums(sums, whole[1])
  unmasked = batch.replace(mask_BT=np.zeros_like(batch.mask_BT))
  grads, sums = gradient([unmasked])
  assert not any(np.any(g) for g in jax.tree.leaves(grads))
  assert sums.tokens == sums.loss == 0


def test_zero_advantage_is_zero_gradient(gradient, score):
  """Exactly, whatever the ratio."""
  batch, = with_old(pack(), score)
  grads, sums = gradient([batch.with_target(
      'advantage', np.zeros_like(batch.targets['advantage']))])
  assert not any(np.any(g) for g in jax.tree.leaves(grads))
  assert sums.loss == 0 and sums.tokens == TOKENS


def test_own_old_logps_equal_rescored_ones(tiny, mesh, gradient, score):
  """With one update the stop-gradient of its own log-probs is the old."""
  own_fn, _ = compile_all(tiny[0], mesh, optax.sgd(1.0),
                          old_logps=update.own_old_logps)
  # The recorded old log-probs are junk then: they are not looked at.
  own = gradient(with_old(pack(), score), own_fn)
  rescored = gradient(with_old(pack(), score, scale=0.0))
  assert_close(own[0], rescored[0])
  np.testing.assert_allclose(own[1].loss, rescored[1].loss, rtol=1e-5)
  assert own[1].highest['log_ratio'] == own[1].lowest['log_ratio'] == 0


@pytest.fixture(scope='module')
def adamw(tiny, mesh, quick_compile):
  """update_fn and the first state under AdamW with bf16 moments."""
  tx = optimizers.adamw(optimizers.AdamWConfig(
      learning_rate=0.1, weight_decay=0.5))
  update_fn, shardings = compile_all(tiny[0], mesh, tx)
  return update_fn, lambda: states.new_state(tiny[1], tx, shardings)


def test_an_all_trivial_minibatch_still_steps(tiny, adamw):
  """No rows: decay and moments move on by a gradient of 0."""
  update_fn, first = adamw
  state, sums, norm = jax.device_get(update_fn(first(), [], 31.0))
  assert norm == 0 and state.updates == 1
  assert not any(np.any(x) for x in jax.tree.leaves(sums))
  jax.tree.map(lambda x, p: np.testing.assert_allclose(
      x, 0.95 * p, rtol=1e-6), *jax.device_get((state.params, tiny[1])))
  counts = [x for x in jax.tree.leaves(state.opt_state)
            if x.dtype == jnp.int32]
  assert counts and all(x == 1 for x in counts)


def test_a_minibatch_without_groups_is_not_nan(tiny, adamw):
  """More mini-batches than groups: 0 / 0 tokens must not reach the params."""
  groups = packing.split_minibatches(2, 4, np.random.default_rng(0))
  assert [] in groups
  update_fn, first = adamw
  count = packing.trained_tokens([])
  state, _, norm = jax.device_get(update_fn(first(), [], float(count)))
  assert np.isfinite(norm)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))


def test_moments_move_on_after_a_real_step(mesh, adamw, score):
  """Adam's momentum carries a step of gradient 0; types stay bf16."""
  update_fn, first = adamw
  is_float = lambda x: jnp.issubdtype(x.dtype, jnp.floating)
  batch = sharding.put_batch(mesh, with_old(pack(), score)[0])
  state, _, norm = update_fn(first(), [batch], float(TOKENS))
  assert norm > 0
  before = jax.device_get(state)  # the state is donated
  state = jax.device_get(update_fn(state, [], 31.0)[0])
  decay_alone = jax.tree.map(lambda p: 0.95 * p, before.params)
  moved = [np.abs(x - y).max() for x, y in zip(
      jax.tree.leaves(state.params), jax.tree.leaves(decay_alone),
      strict=True)]
  assert min(moved) > 0.01
  floats = [x for x in jax.tree.leaves(state.opt_state) if is_float(x)]
  assert len(floats) == 2 * len(moved)
  assert {x.dtype for x in floats} == {jnp.dtype('bfloat16')}
  assert {x.dtype for x in jax.tree.leaves(state.params)} == {
      jnp.dtype('float32')}
  assert state.updates == 2 and state.updates.dtype == jnp.int32


def test_params_of_the_caller_survive(tiny, adamw):
  """The state is donated to the update, what it was made from is not."""
  update_fn, first = adamw
  before = jax.device_get(tiny[1])
  update_fn(first(), [], 1.0)
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(tiny[1]), before)


def test_one_trace_per_shape(mesh):
  """The first micro-batch of a step and the later ones share a program."""
  traces = []

  def loss_fn(params, batch):
    traces.append(batch.tokens_BT.shape)
    loss = batch.mask_BT.sum() * params['embed'].sum()
    return loss, update.no_sums().replace(loss=loss)

  params, tx = {'embed': jnp.ones((2, 2))}, optax.sgd(1.0)
  model = types.SimpleNamespace(init=lambda key: params)
  shardings = states.state_shardings(model, tx, mesh)
  update_fn = update.compile_update(loss_fn=loss_fn, tx=tx, mesh=mesh,
                                    shardings=shardings)
  state = states.new_state(params, tx, shardings)
  batches = [sharding.put_batch(mesh, b)
             for b in pack(max_tokens=32, buckets=(16,))]
  assert len(batches) == 6
  for _ in range(2):
    state, _, _ = update_fn(state, batches, float(TOKENS))
  assert traces == [(2, 16)]


@pytest.mark.parametrize('kind', ['padded', 'packed'])
def test_a_token_that_begins_a_segment_is_not_scored(tiny, kind):
  """Even where the mask calls it a response: it has no context, and what
  stands before it is another row's or padding."""
  batch = pack(kind=kind, max_tokens=64)[0]
  starts = np.array(batch.segment_BT)
  starts[:, 1:] = np.where(starts[:, 1:] == starts[:, :-1], 0, starts[:, 1:])
  starts = starts > 0
  assert starts.sum() >= 2
  of = functools.partial(forward.token_logps, tiny[1], model=tiny[0],
                         temperature=TEMPERATURE, chunk=5)
  want = of(batch)
  told = batch.replace(mask_BT=np.where(starts, 1, batch.mask_BT))
  for got, before in zip(of(told), want, strict=True):
    np.testing.assert_array_equal(np.asarray(got)[starts], 0)
    np.testing.assert_array_equal(got, before)


@LONG
def test_a_loss_of_the_policy_alone_has_the_plain_program(tiny, mesh):
  """Without a frozen model and a schedule the lowered program is, letter by
  letter, that of token losses summed under the mask; another reducer, or a
  frozen model that the loss reads, is another program."""
  model, tx = tiny[0], optax.sgd(1.0)

  def plain(params, batch):
    output = forward.policy_output(params, batch, model=model,
                                   temperature=TEMPERATURE, chunk=5)
    loss_BT, statistics = LOSS['loss'](output, batch)
    total = jnp.sum(loss_BT * batch.mask_BT)
    return total, update.diagnostics(output, batch, total, statistics)

  shardings = states.state_shardings(model, tx, mesh)
  abstract = states.abstract_state(model, tx, shardings)
  batch = update.own_old_logps(
      types.SimpleNamespace(logp_BT=jnp.zeros((12, 16))), pack()[0])

  def lowered(loss_fn, **fields):
    parts = update.compile_update(loss_fn=loss_fn, tx=tx, mesh=mesh,
                                  shardings=shardings, **fields).keywords
    return parts['accumulate_fn'].lower(
        parts['zeros_fn'].eval_shape(abstract.params), abstract.params, batch,
        *parts['beside_fn'](abstract)).as_text()

  policy = functools.partial(update.policy_loss, model=model, **LOSS)
  want = lowered(plain)
  assert lowered(policy) == want
  assert lowered(functools.partial(policy, reducer='per_rollout')) != want
  frozen = dict(frozen={'teacher': abstract.params})
  beside = functools.partial(policy, frozen={'teacher': model})
  assert lowered(beside, **frozen) == want  # the loss does not read it

  def reads(output, batch):
    loss_BT, statistics = LOSS['loss'](output, batch)
    return loss_BT + output.frozen['teacher'].hidden_BTD[..., 0], statistics
  assert lowered(functools.partial(beside, loss=reads), **frozen) != want
