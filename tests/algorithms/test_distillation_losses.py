"""Losses of distillation rows through the update, against whole softmaxes.

The reference takes each sequence alone and has all logits of both models; it
shares nothing with the losses but the two networks. The teacher is wider than
the student, has another number of padding columns, and both temperatures are
other than 1, so that no side can stand in for the other.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.long import LONG, long
from zppo_jax.algorithms import distillation_losses
from zppo_jax.algorithms.distillation_losses import (
  estimate,
  kept_ids_divergence,
  log_ratio_surrogate,
  negative_log_likelihood,
  whole_vocabulary_divergence,
)
from zppo_jax.algorithms.schedules import Schedule
from zppo_jax.arrays import (
  Hidden,
  MicroBatch,
  OwnPrompts,
  PolicyOutput,
  TrainState,
)
from zppo_jax.devices import sharding
from zppo_jax.learner import layouts, packing, states, update
from zppo_jax.objectives import losses
from zppo_jax.objectives.divergences import Divergence
from zppo_jax.records import (
  Group,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  StopReason,
  Verdict,
)
from zppo_jax.rollout import weight_sync

pytestmark = pytest.mark.usefixtures('quick_compile')

V = 20  # the true vocabulary; the heads have 24 and 32 columns
STUDENT, TEACHER = 0.9, 1.3  # temperatures
LAYOUT = layouts.Layout(
    kind='padded', max_tokens=96, multiple=1, rollouts=2, row_buckets=(16,),
    prompt_buckets=(8,), response_buckets=(8,), patch_buckets=(), num_axes=1)


@pytest.fixture(scope='module')
def teacher(make_tiny):
  return make_tiny(seed=1, width=24, vocab_size=32)


def recorded():
  """Prompts of 2, 5 and 3 tokens, the last of the second one forced; responses
  of 1 to 6 tokens."""
  rng = np.random.default_rng(0)
  draw = lambda n: tuple(rng.integers(1, V, n).tolist())
  groups = []
  sizes = (2, (1, 6)), (5, (3, 4)), (3, (2, 5))
  for p, (prompt, lengths) in enumerate(sizes):
    rollouts = tuple(
        Rollout(draw(n), (-1.0,) * n, '', StopReason.END, Verdict.WRONG, '')
        for n in lengths)
    groups.append(Group(
        Prompt(Question(str(p), '', '', ''), PromptKind.PLAIN, draw(prompt),
               forced=int(p == 1)), rollouts))
  return groups


GROUPS = recorded()
PLACES = [(p, g) for p in range(3) for g in range(2)]
UNSCORED = (2, 1)
SCORED = [place for place in PLACES if place != UNSCORED]
TOKENS, TAUGHT = 21, 16


def logps_alone(model, params, temperature, place):
  """log-softmax [R, V] of a response, over the true vocabulary alone."""
  p, g = place
  prompt, response = GROUPS[p].prompt.tokens, GROUPS[p].rollouts[g].tokens
  tokens = np.int32([[*prompt, *response]])
  hidden, _ = model.apply(
      params, tokens, np.arange(tokens.shape[1])[None, :, None],
      np.ones_like(tokens))
  logits = hidden[0] @ model.head(params)
  return jax.nn.log_softmax(
      logits[len(prompt) - 1:-1, :V] / temperature, axis=-1)


def dense(kind, s, t, beta=0.3):
  """Divergences [R] as their definitions say."""
  p, q = jnp.exp(s), jnp.exp(t)
  if kind == 'reverse':
    return jnp.sum(p * (s - t), -1)
  if kind == 'forward':
    return jnp.sum(q * (t - s), -1)
  m = jnp.log(beta * q + (1 - beta) * p)
  return jnp.sum(beta * q * (t - m) + (1 - beta) * p * (s - m), -1)


def with_rest(logps, ids):
  """[R, K + 1]: those of the ids and of all others together."""
  kept = jnp.take_along_axis(logps, ids, axis=-1)
  others = jnp.where((ids[:, :, None] == np.arange(V)).any(1), -jnp.inf, logps)
  return jnp.concatenate(
      [kept, jax.nn.logsumexp(others, -1, keepdims=True)], -1)


@pytest.fixture(scope='module')
def reference(tiny, teacher):
  """(of_sequence: (s, t, place) -> [R]) -> (loss, gradient), summed."""
  t = jax.device_get(jax.jit(lambda params: {
      place: logps_alone(teacher[0], params, TEACHER, place)
      for place in PLACES})(teacher[1]))

  def of(of_sequence, places=PLACES):
    def total(params):
      return sum(jnp.sum(of_sequence(
          logps_alone(tiny[0], params, STUDENT, place), t[place], place))
          for place in places)
    return jax.device_get(jax.jit(jax.value_and_grad(total))(tiny[1]))
  of.teacher = t
  return of


@pytest.fixture(scope='module')
def gradient(tiny, teacher, make_mesh):
  """(loss, targets by place, kind, mesh) -> (gradient, Sums)."""
  def of(loss, targets, kind='padded', shape=(), layout=LAYOUT,
         teacher=teacher, teacher_runs=True, **fields):
    (model, params), mesh = tiny, make_mesh(*shape)
    tx = optax.sgd(1.0)
    shardings = states.state_shardings(model, tx, mesh)
    frozen = {} if not teacher_runs else {
        'teacher': weight_sync.place_copy(teacher[1], teacher[0], mesh)}
    update_fn = update.compile_update(
        loss_fn=functools.partial(
            update.policy_loss, model=model, temperature=STUDENT, chunk=3,
            loss=loss, frozen={name: teacher[0] for name in frozen}, **fields),
        tx=tx, mesh=mesh, shardings=shardings, frozen=frozen)
    batches = layouts.micro_batches(GROUPS, targets, layout._replace(
        kind=kind, multiple=sharding.batch_shards(mesh)))
    grads, sums, _ = update_fn(
        TrainState(jax.device_put(params, shardings.params), None, None),
        [sharding.put_batch(mesh, b) for b in batches], None,
        optimizer_fn=lambda state, grads, count: (grads, None))
    return sharding.to_host((grads, sums))
  return of


def assert_same(got, want, rtol=1e-5):
  for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert np.linalg.norm(x - y) <= rtol * np.linalg.norm(y)
  assert any(np.linalg.norm(y) for y in jax.tree.leaves(want))


NOTHING = {place: {} for place in PLACES}


WEIGHTS = {'reverse': 1.0, 'forward': 3.0, 'jensen_shannon': 20.0}


def every_kind(loss):
  """The weighted sum of a loss with each divergence: one program for all."""
  def total(output, batch):
    parts = {kind: loss(divergence=Divergence(kind, 0.3))(output, batch)
             for kind in WEIGHTS}
    return sum(weight * parts[kind][0] for kind, weight in WEIGHTS.items()
               ), parts['jensen_shannon'][1]
  return total


def whole(teacher_temperature=TEACHER):
  return every_kind(functools.partial(
      functools.partial, whole_vocabulary_divergence, vocab=V,
      student_temperature=STUDENT, teacher_temperature=teacher_temperature,
      chunk=3))


def kept(rest='bucket'):
  return every_kind(functools.partial(
      functools.partial, kept_ids_divergence, rest=rest, vocab=V,
      student_temperature=STUDENT, chunk=3))


def of_all(s, t):
  return sum(weight * dense(kind, s, t) for kind, weight in WEIGHTS.items())


def kept_targets(teacher_logps, count):
  """The teacher's `count` likeliest ids; UNSCORED has none."""
  out = {}
  for place in PLACES:
    t = teacher_logps[place]
    ids = np.argsort(-t, axis=-1)[:, :count].astype(np.int32)
    came = np.float32(place != UNSCORED)
    out[place] = {
        'kept_ids': ids if came else np.full_like(ids, -1),
        'kept_logps': came * np.take_along_axis(t, ids, -1),
        'taught': np.full(len(t), came, np.float32)}
  return out


@LONG
@pytest.mark.parametrize('layout', ['shared', long('packed')])
def test_whole_vocabulary_against_whole_softmaxes(layout, reference, gradient):
  """Values and gradients, in rows of both kinds: all response tokens, none
  of a prompt, no padding column; statistics beside them."""
  want_loss, want = reference(lambda s, t, _: of_all(s, t))
  entropy = sum(-np.sum(np.exp(t) * t) for t in reference.teacher.values())
  grads, sums = gradient(whole(), NOTHING, layout)
  np.testing.assert_allclose(sums.loss, want_loss, rtol=1e-5)
  assert_same(grads, want)
  assert sums.total['distil/taught'] == sums.tokens == TOKENS
  np.testing.assert_allclose(sums.total['distil/teacher_entropy'], entropy,
                             rtol=1e-5)


@LONG
def test_kept_ids_that_are_all_ids_are_the_whole_vocabulary(reference,
                                                            gradient):
  """K = V, over the rollouts that have scores."""
  targets = kept_targets(reference.teacher, V)
  want_loss, want = reference(lambda s, t, _: of_all(s, t), SCORED)
  grads, sums = gradient(kept(), targets, 'shared')
  np.testing.assert_allclose(sums.loss, want_loss, rtol=1e-5)
  assert_same(grads, want, 2e-5)
  assert sums.tokens == TOKENS and sums.total['distil/taught'] == TAUGHT
  np.testing.assert_allclose(sums.total['distil/kept_mass_student'], TAUGHT,
                             rtol=1e-5)


@LONG
@pytest.mark.parametrize('layout', [long('shared'), 'packed'])
def test_a_few_kept_ids_and_the_rest(layout, reference, gradient):
  """K = 3: the rest is one more outcome of both, in rows of both kinds; and a
  rest that is dropped is noticed."""
  targets = kept_targets(reference.teacher, 3)
  want_loss, want = reference(lambda s, t, place: of_all(*(
      with_rest(x, targets[place]['kept_ids']) for x in (s, t))), SCORED)
  grads, sums = gradient(kept(), targets, layout)
  np.testing.assert_allclose(sums.loss, want_loss, rtol=2e-5)
  assert_same(grads, want, 5e-5)
  dropped, _ = gradient(kept('dropped'), targets, layout)
  with pytest.raises(AssertionError):
    assert_same(dropped, want, 5e-5)


@LONG
def test_eight_devices(gradient, reference):
  """Rows, parameters and vocabulary over devices: both losses as one sum."""
  targets = kept_targets(reference.teacher, 3)
  want_loss, want = reference(
      lambda s, t, place: dense('reverse', s, t) + dense('reverse', *(
          with_rest(x, targets[place]['kept_ids']) for x in (s, t))), SCORED)
  common = dict(divergence=Divergence('reverse'), vocab=V,
                student_temperature=STUDENT, chunk=3)
  grads, sums = gradient(losses.added((
      functools.partial(whole_vocabulary_divergence,
                        teacher_temperature=TEACHER, **common),
      functools.partial(kept_ids_divergence, rest='bucket', **common))),
      targets, 'shared', (2, 2, 2))
  np.testing.assert_allclose(sums.loss, want_loss, rtol=2e-5)
  assert_same(grads, want, 5e-5)


def sampled_targets(teacher_logps):
  out = {}
  for p, g in PLACES:
    tokens = np.int32(GROUPS[p].rollouts[g].tokens)
    came = np.float32((p, g) != UNSCORED)
    out[p, g] = {
        'teacher_logp': came * teacher_logps[p, g][
            np.arange(len(tokens)), tokens],
        'taught': np.full(len(tokens), came, np.float32)}
  return out


def of_tokens(place, logps):
  p, g = place
  return jnp.take_along_axis(
      logps, np.int32(GROUPS[p].rollouts[g].tokens)[:, None], -1)[:, 0]


@LONG
@pytest.mark.parametrize('kind', [long('k2'), 'k3'])
def test_estimators(kind, reference, gradient):
  """Value and gradient, the student's log-probs over the true vocabulary."""
  formula = {'k2': lambda d: d**2 / 2, 'k3': lambda d: jnp.exp(d) - 1 - d}[kind]
  targets = sampled_targets(reference.teacher)
  want_loss, want = reference(lambda s, t, place: formula(
      of_tokens(place, t) - of_tokens(place, s)), SCORED)
  grads, sums = gradient(functools.partial(estimate, kind=kind), targets,
                         vocab=V, teacher_runs=False)
  np.testing.assert_allclose(sums.loss, want_loss, rtol=1e-5)
  assert_same(grads, want)


def test_k1_is_refused_as_a_loss():
  with pytest.raises(ValueError, match='zero mean'):
    losses_of = functools.partial(estimate, kind='k1')
    output = type('O', (), {'logp_BT': jnp.zeros((1, 2)),
                            'entropy_BT': jnp.zeros((1, 2))})
    batch = type('B', (), {'mask_BT': jnp.ones((1, 2)), 'targets': {
        'teacher_logp': jnp.zeros((1, 2))}})
    losses_of(output, batch)


@LONG
def test_log_ratio_is_the_surrogate_of_the_detached_difference(gradient,
                                                               reference):
  """At the old policy the gradient is -d grad log p of scored tokens."""
  targets = sampled_targets(reference.teacher)
  own = dict(old_logps=update.own_old_logps, teacher_runs=False)
  grads, sums = gradient(functools.partial(
      log_ratio_surrogate, clip=losses.ClipBounds()), targets, **own)

  def by_hand(output, batch):
    d = batch.targets['taught'] * jax.lax.stop_gradient(
        batch.targets['teacher_logp'] - output.logp_BT)
    return -d * output.logp_BT, {}
  want, _ = gradient(by_hand, targets, **own)
  assert_same(grads, want)
  assert sums.total['clip_high'] == sums.total['clip_low'] == 0


@LONG
def test_likelihood_and_the_coefficient(gradient):
  """Twice -log p; the coefficient is a statistic of its own."""
  loss = functools.partial(
      distillation_losses.scaled, loss=negative_log_likelihood,
      coefficient=Schedule(start=2.0))
  grads, sums = gradient(loss, NOTHING, teacher_runs=False)
  want, of = gradient(lambda output, batch: (-2 * output.logp_BT, {}), NOTHING,
                      teacher_runs=False)
  assert_same(grads, want)
  np.testing.assert_allclose(sums.loss, of.loss, rtol=1e-6)
  assert sums.total['distil/coefficient'] == 2 * sums.tokens


@pytest.mark.parametrize('reducer', [
    long('token_mean'), 'per_rollout', long('taught_tokens'),
    long('constant_length')])
def test_reducers_over_any_number_of_micro_batches(reducer, gradient):
  """1, 2 and 6 micro-batches: the sums divided by the count of the whole
  mini-batch are the mean that the reducer names."""
  size = lambda place: len(GROUPS[place[0]].rollouts[place[1]].tokens)
  targets = {place: {
      'weight': np.arange(1, 1 + size(place), dtype=np.float32),
      'taught': np.full(size(place), place != UNSCORED, np.float32)}
      for place in PLACES}
  taught = lambda place: place != UNSCORED
  means = {  # of the weights, with 0 where nothing was taught
      'token_mean': lambda of: sum(map(sum, of.values())) / TOKENS,
      'per_rollout': lambda of: sum(
          sum(x) / size(place) for place, x in of.items()) / 6,
      'taught_tokens': lambda of: sum(map(sum, of.values())) / TAUGHT,
      'constant_length': lambda of: sum(map(sum, of.values())) / 48}
  want = means[reducer]({
      place: targets[place]['weight'] * taught(place)
      for place in PLACES})

  def loss(output, batch):
    # Its gradient is that of the log-probs, so that it cannot be 0 by chance.
    weight = batch.targets['weight'] * batch.targets['taught']
    return weight * (1 + output.logp_BT - jax.lax.stop_gradient(
        output.logp_BT)), {}

  count = packing.reducer_count(reducer, GROUPS, targets, 8)
  first = None
  for most, kind in ((96, 'padded'), (48, 'padded'), (16, 'padded'),
                     (48, 'packed')):
    grads, sums = gradient(
        loss, targets, kind, layout=LAYOUT._replace(max_tokens=most),
        reducer=reducer, longest=8, teacher_runs=False)
    np.testing.assert_allclose(sums.loss / count, want, rtol=1e-6)
    first = first or grads
    assert_same(grads, first)


@LONG
def test_the_equal_teacher_has_no_gradient(tiny, gradient, reference):
  """The student as its own teacher at one temperature: below 1e-6 nats a token
  and 1e-5 of the gradient of another teacher, whole and kept."""
  model, params = tiny
  same = jax.device_get(jax.jit(lambda params: {
      place: logps_alone(model, params, STUDENT, place)
      for place in PLACES})(params))
  real, _ = gradient(kept(), kept_targets(reference.teacher, 4))
  for grads, sums in (
      gradient(kept(), kept_targets(same, 4)),
      gradient(whole(STUDENT), NOTHING, 'shared', teacher=tiny)):
    assert abs(sums.loss) < 1e-6 * TOKENS * sum(WEIGHTS.values())
    assert optax.tree.norm(grads) < 1e-5 * optax.tree.norm(real)


def test_a_guides_ratio_is_against_the_policy_that_drew_it():
  """The ratio is 1.1 to the teacher on the guide, and 1.2 to the old policy on
  the student's own token; advantages 2 and -1."""
  one = np.float32([[1.0, 1.0]])
  batch = MicroBatch(
      tokens_BT=np.int32(one), positions_BTA=np.int32(one[..., None]),
      segment_BT=np.int32(one), mask_BT=one, prompts=OwnPrompts(media=None),
      targets={'taught': np.float32([[1, 0]]),
               'teacher_logp': np.float32([[-1 - np.log(1.1), 0]]),
               'old_logp': np.float32([[-9, -1 - np.log(1.2)]]),
               'advantage': np.float32([[2, -1]])})
  loss_BT, statistics = distillation_losses.guided_surrogate(
      PolicyOutput(logp_BT=-one, entropy_BT=one, hidden_BTD=one, head_DV=one),
      batch, clip=losses.ClipBounds())
  np.testing.assert_allclose(loss_BT, [[-2.2, 1.2]], rtol=1e-6)
  assert not np.any(statistics['clip_high'])


def by_hand(p_S, p_T, taught=(0., 1.), targets=None, frozen=True):
  """(output, batch) of a token per position after the first, with the same
  next-token distributions everywhere; the tokens are 1."""
  T, hidden = len(taught), np.ones((1, len(taught), 1), np.float32)
  of = lambda p: np.log(np.float32([p]))
  entropy = np.zeros((1, T), np.float32)
  batch = MicroBatch(
      tokens_BT=np.ones((1, T), np.int32),
      positions_BTA=np.zeros((1, T, 1), np.int32),
      segment_BT=np.ones((1, T), np.int32), mask_BT=np.float32([taught]),
      prompts=None, targets=targets or {})
  return PolicyOutput(
      logp_BT=entropy, entropy_BT=entropy, hidden_BTD=hidden, head_DV=of(p_S),
      done=None, frozen={'teacher': Hidden(hidden_BTD=hidden, head_DV=of(p_T))}
      if frozen else {}), batch


@LONG
def test_overlap_by_hand():
  """Of the likeliest three, ids 0 and 2 are common: (2, 1) / 3 of the student
  against (3, 4) / 7 of the teacher. The teacher's likeliest is 2."""
  p_S, p_T = (.4, .3, .2, .1), (.3, .1, .4, .2)
  common = dict(vocab=4, student_temperature=1.0, teacher_temperature=1.0,
                chunk=1)
  top = {distillation_losses.TOP_IDS: np.int32([[[-1] * 3, [2, 0, 3]]]),
         distillation_losses.TOP_LOGPS: np.log(np.float32(
             [[[1] * 3, [.4, .3, .2]]]))}
  kept = {'kept_ids': np.int32([[[-1] * 4, [2, 0, 3, 1]]]),
          'kept_logps': np.log(np.float32([[[1] * 4, [.4, .3, .2, .1]]]))}
  near = functools.partial(np.testing.assert_allclose, atol=1e-6)
  for case in (by_hand(p_S, p_T), by_hand(p_S, p_T, targets=top, frozen=False),
               by_hand(p_S, p_T, targets=kept, frozen=False)):
    of = distillation_losses.agreement(*case, top=3, **common)
    near(of['distil/overlap_ratio'], [[0, 2 / 3]])
    near(of['distil/overlap_advantage'], [[0, -.114890]])
    assert not of['distil/cliff'].any()
  far = by_hand((.5, .491, .005, .004), (.003, .002, .6, .395))
  of = distillation_losses.agreement(*far, top=2, **common)
  assert of['distil/cliff'].tolist() == [[False, True]]
  near(of['distil/overlap_ratio'], 0)
  near(of['distil/overlap_advantage'], 0)


@LONG
def test_tokens_and_their_depth_by_hand():
  """Two responses of a row, of two tokens and of one: tenths 0 and 5, and 0.
  The token is 1, for which the teacher has .995 and the student .5."""
  output, batch = by_hand((.5, .5), (.005, .995), (0, 1, 1, 0, 1, 0))
  _, of = whole_vocabulary_divergence(
      output, batch, teacher_temperature=1.0, divergence=Divergence('forward'),
      vocab=2, student_temperature=1.0, chunk=4)
  near = functools.partial(np.testing.assert_allclose, atol=1e-6)
  d, mask = np.log(.995 / .5), np.array([[0, 1, 1, 0, 1, 0]])
  kl = .995 * d + .005 * np.log(.005 / .5)
  near(of['distil/log_ratio'], d * mask)
  near(of['distil/divergence_depth'].sum(axis=(0, 1)),
       kl * np.eye(10)[[0, 5, 0]].sum(0))
  near(of['distil/depth'].sum(axis=(0, 1)), d * np.eye(10)[[0, 5, 0]].sum(0))
  assert of['distil/tenths'].sum(axis=(0, 1)).tolist() == [
      2, 0, 0, 0, 0, 1, 0, 0, 0, 0]
  # log .995 = -.005 is above -.01, log .5 is not.
  assert (of['distil/copied'] == (mask > 0)).all()
  assert not of['distil/beyond_10'].any()
  _, of = whole_vocabulary_divergence(
      *by_hand((1e-6, 1 - 1e-6), (.5, .5), (0, 1)), teacher_temperature=1.0,
      divergence=Divergence('forward'), vocab=2, student_temperature=.5,
      chunk=4)
  assert not of['distil/copied'].any() and not of['distil/beyond_10'].any()


def test_returns_of_rollouts_by_hand():
  """Rollouts 2 and 0 of a row have two tokens and one; number 4 is beyond the
  three that are told apart."""
  d = np.log(.995 / .5)
  for numbers, sums in (((0, 2, 2, 0, 0, 0), [d, 0, 2 * d]),
                        ((0, 4, 4, 0, 0, 0), [d, 0, 0])):
    output, batch = by_hand((.5, .5), (.005, .995), (0, 1, 1, 0, 1, 0), {
        distillation_losses.ROLLOUT: np.int32([numbers])})
    _, of = whole_vocabulary_divergence(
        output, batch, teacher_temperature=1.0, vocab=2, chunk=4, rollouts=3,
        divergence=Divergence('forward'), student_temperature=1.0)
    np.testing.assert_allclose(of['distil/rollouts'].sum(axis=(0, 1)), sums,
                               atol=1e-6)


def test_agreement_and_the_gap_of_entropies_by_hand():
  """p_S = (.5, .3, .2) and p_T = (.2, .2, .6): on the first two ids the
  renormalised KL is .031584, and entropies are 1.029653 and .950271."""
  p_S, p_T = (np.float32(np.log([p])) for p in ((.5, .3, .2), (.2, .2, .6)))
  entropy = np.float32([[0, 1.029653]])
  batch = MicroBatch(
      tokens_BT=np.int32([[0, 1]]), positions_BTA=np.zeros((1, 2, 1), np.int32),
      segment_BT=np.ones((1, 2), np.int32), mask_BT=np.float32([[0, 1]]),
      prompts=None, targets={
          'kept_ids': np.int32([[[-1, -1], [0, 1]]]),
          'kept_logps': np.float32([[[0, 0], p_T[0, :2]]]),
          'teacher_entropy': np.float32([[0, .950271]])})
  hidden = np.ones((1, 2, 1), np.float32)
  output = PolicyOutput(
      logp_BT=entropy, entropy_BT=entropy, hidden_BTD=hidden, head_DV=p_S,
      done=None, frozen={'teacher': Hidden(hidden_BTD=hidden, head_DV=p_T)})
  common = dict(divergence=Divergence('reverse'), vocab=3,
                student_temperature=1.0, chunk=1)
  _, of = kept_ids_divergence(output, batch, rest='bucket', **common)
  near = functools.partial(np.testing.assert_allclose, atol=1e-6)
  near(of['distil/kept_advantage'], [[0, -.031584]])
  near(of['distil/entropy_gap'], [[0, .079382]])
  _, of = whole_vocabulary_divergence(output, batch, teacher_temperature=1.0,
                                      **common)
  near(of['distil/entropy_gap'][0, 1], .079382)
