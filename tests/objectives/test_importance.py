"""Importance weights by hand, packed rows, and a corrected training step."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.builders import (
  assert_same_sums,
  documented_metrics,
  small_config,
  training,
)
from tests.long import LONG
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.arrays import MicroBatch, OwnPrompts
from zppo_jax.learner import forward, packing, update
from zppo_jax.objectives import importance, losses
from zppo_jax.runs import metrics
from zppo_jax.train import build, step

pytestmark = pytest.mark.usefixtures('quick_compile')

LN2, LN3 = np.log(2), np.log(3)
# Two packed sequences and padding. The first token of each is its prompt:
# what stands there (9) may not matter.
SEGMENT = np.int32([[1, 1, 1, 2, 2, 2, 0]])
MASK = np.float32([[0, 1, 1, 0, 1, 1, 0]])
OLD = np.float32([[9, LN3, -LN2, 9, LN2, 0, 9]])  # the sampler's are 0
LOSS = np.float32([[0, 1, -1, 0, 2, 4, 0]])
# w of tokens: 3, 1/2, 2, 1; of the two sequences: 3/2 and 2.


def run(kind, bound, old=OLD, sampler=None, segment=SEGMENT, mask=MASK):
  """(weighted loss, what was seen) on the response tokens."""
  sampler = np.zeros_like(old) if sampler is None else sampler
  loss, seen = importance.CORRECTIONS[kind](
      jnp.asarray(LOSS), old, sampler, mask, segment, bound=bound)
  at = mask[0] > 0
  return np.asarray(loss)[0, at], {k: np.asarray(v)[0, at]
                                   for k, v in seen.items()}


@pytest.mark.parametrize('kind, bound, weight, held', [
    ('token_truncate', 2.5, [2.5, 0.5, 2, 1], [1, 0, 0, 0]),
    ('token_truncate', 1.5, [1.5, 0.5, 1.5, 1], [1, 0, 1, 0]),
    ('token_mask', 2.5, [0, 0.5, 2, 1], [1, 0, 0, 0]),
    ('sequence_truncate', 2.5, [1.5, 1.5, 2, 2], [0, 0, 0, 0]),
    ('sequence_truncate', 1.75, [1.5, 1.5, 1.75, 1.75], [0, 0, 1, 1]),
    ('sequence_mask', 1.75, [1.5, 1.5, 0, 0], [0, 0, 1, 1]),
    ('token_truncate', np.inf, [3, 0.5, 2, 1], [0, 0, 0, 0])])
def test_weights_by_hand(kind, bound, weight, held):
  """w, its bound, the loss that it multiplies and the gap; packed rows."""
  loss, seen = run(kind, bound)
  np.testing.assert_allclose(seen['weight'], weight, rtol=1e-6)
  np.testing.assert_array_equal(seen['weight_held'], held)
  np.testing.assert_allclose(loss, np.multiply(weight, [1, -1, 2, 4]),
                             rtol=1e-6)
  np.testing.assert_allclose(seen['gap'], [LN3, LN2, LN2, 0], rtol=1e-6)


def test_ids_1_1_2_2_0():
  """Sums by segment, each on all of its tokens; padding has its own."""
  got = importance.sequence(jnp.float32([[1, 2, 10, 20, 0], [1, 1, 1, 1, 1]]),
                            np.int32([[1, 1, 2, 2, 0], [1, 2, 3, 4, 5]]))
  np.testing.assert_array_equal(got, [[3, 3, 30, 30, 0], [1, 1, 1, 1, 1]])


@pytest.mark.parametrize('kind', [
    k for k in importance.CORRECTIONS if k != 'none'])
def test_packed_rows_equal_padded_ones(kind):
  """The same two sequences in a row each."""
  packed = run(kind, 1.75)[1]['weight']
  for part, at in ((slice(0, 3), slice(0, 2)), (slice(3, 6), slice(2, 4))):
    pad = lambda x, part=part: np.pad(x[:, part], ((0, 0), (0, 4)))
    alone = run(kind, 1.75, pad(OLD), segment=pad(np.minimum(SEGMENT, 1)),
                mask=pad(MASK))[1]['weight']
    np.testing.assert_allclose(alone, packed[at], rtol=1e-6)


def test_the_direction_is_trainer_over_sampler():
  """A sampler that was surer than the trainer weighs less than 1."""
  _, seen = run('token_truncate', 2.0, np.zeros_like(OLD), OLD)
  np.testing.assert_allclose(seen['weight'], [1 / 3, 2, 0.5, 1], rtol=1e-6)


def test_weights_have_no_gradient():
  """Whatever the old log-probs were made of."""
  for kind in importance.CORRECTIONS:
    loss = lambda old, kind=kind: importance.CORRECTIONS[kind](
        jnp.asarray(LOSS), old, jnp.zeros_like(old), MASK, SEGMENT,
        bound=2.0)[0].sum()
    assert not np.any(jax.grad(loss)(jnp.asarray(OLD)))


def test_no_infinity_reaches_the_loss():
  """log w is bounded; a masked token is 0 and not 0 times infinity."""
  far = np.where(MASK > 0, 1e30, -np.inf).astype(np.float32)
  for kind in importance.CORRECTIONS:
    loss, seen = run(kind, np.inf, far)
    assert np.isfinite(loss).all()
    if seen:
      np.testing.assert_allclose(seen['weight'], np.exp(20.0), rtol=1e-5)
  np.testing.assert_array_equal(run('sequence_mask', 2.0, far)[0], 0)


def fake_batch() -> MicroBatch:
  """One row of 8: two prompt tokens, five of response, padding."""
  mask = np.float32([[0, 0, 1, 1, 1, 1, 1, 0]])
  noise = np.random.default_rng(0).uniform(-1, 1, (2, 1, 8))
  return MicroBatch(
      tokens_BT=np.int32([[3, 4, 5, 6, 7, 8, 9, 0]]),
      positions_BTA=np.arange(8, dtype=np.int32)[None, :, None],
      segment_BT=np.int32([[1] * 7 + [0]]), mask_BT=mask,
      prompts=OwnPrompts(media=None), targets={
          'advantage': np.float32(-1.5) * mask,
          'old_logp': np.float32(noise[0] - 3) * mask,
          'sampler_logp': np.float32(noise[1] - 3) * mask})


FIELDS = dict(temperature=0.9, chunk=8)
CLIPPED = functools.partial(losses.clipped_surrogate, clip=losses.ClipBounds())


@pytest.fixture(scope='module')
def bigrams():
  """(a model that sees one token back, its params): compiles at once."""
  rng = np.random.default_rng(1)
  params = {'embed': np.float32(rng.normal(size=(24, 6))),
            'head': np.float32(rng.normal(size=(6, 24)))}
  return types.SimpleNamespace(
      mesh=None, apply=lambda p, tokens, *_, media, compact: (
          jnp.asarray(p['embed'])[tokens], ()),
      head=lambda p: p['head']), params


def value_and_grad(bigrams, own, batch=None, loss=CLIPPED):
  model, params = bigrams
  old_logps = update.own_old_logps if own else update.recorded_old_logps
  return jax.jit(jax.value_and_grad(functools.partial(
      update.policy_loss, model=model, old_logps=old_logps, loss=loss,
      **FIELDS),
      has_aux=True))(params, fake_batch() if batch is None else batch)


def test_none_leaves_the_program_of_the_loss_as_it_was(bigrams):
  """The very program of the objective alone, instruction by instruction."""
  model, params = bigrams
  batch = fake_batch()

  def plain(params, batch):
    logp_BT, _ = forward.token_logps(params, batch, model=model,
                                    temperature=0.9, chunk=8)
    loss_BT, _ = losses.surrogate(
        logp_BT, batch.targets['old_logp'], batch.targets['advantage'],
        losses.ClipBounds())
    return jnp.sum(loss_BT * batch.mask_BT)

  def ours(kind):
    loss = importance.Correction(kind).of(CLIPPED, gap_measured=False)
    return lambda params, batch: update.policy_loss(
        params, batch, model=model, loss=loss, **FIELDS)[0]

  def text(loss):
    found = jax.jit(jax.grad(loss)).lower(params, batch).as_text()
    return re.sub(r'module @\S+', '', found)

  want = text(plain)
  assert text(ours('none')) == want
  assert text(ours('token_truncate')) != want  # the comparison can fail


@pytest.mark.parametrize('own', [False, True])
def test_gradient_is_weighted_token_by_token(bigrams, own):
  """By the ratio of old and sampler log-probs, which has no gradient itself;
  with one update the old ones are the update's own."""
  batch, bound = fake_batch(), 1.2
  model, params = bigrams
  logp = forward.token_logps(params, batch, model=model, temperature=0.9,
                            chunk=8)[0]
  old = np.asarray(logp if own else batch.targets['old_logp'])
  sampler = batch.targets['sampler_logp']
  weight = np.minimum(np.exp((old - sampler) * batch.mask_BT), bound)
  assert (weight[batch.mask_BT > 0] < 1).any()
  (loss, sums), grads = value_and_grad(
      bigrams, own, loss=importance.Correction('token_truncate', bound).of(
          CLIPPED, gap_measured=False))
  # A constant weight on the mask is the same linear combination.
  scaled = lambda loss_BT, *args: (loss_BT * weight, {})
  (want_loss, _), want = value_and_grad(
      bigrams, own, loss=functools.partial(
          importance.corrected, loss=CLIPPED, correct=scaled))
  np.testing.assert_allclose(loss, want_loss, rtol=1e-5)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(
      x, y, rtol=1e-4, atol=1e-6), grads, want)
  on = batch.mask_BT > 0
  gap = np.abs(old - sampler)[on]
  np.testing.assert_allclose(sums.total['weight'], weight[on].sum(), rtol=1e-5)
  held = (weight[on] == np.float32(bound)).sum()
  assert sums.total['weight_held'] == held > 0
  np.testing.assert_allclose(sums.total['gap'], gap.sum(), rtol=1e-5)
  np.testing.assert_allclose(sums.highest['gap'], gap.max(), rtol=1e-5)


@pytest.mark.parametrize('kind', ['sequence_truncate', 'sequence_mask'])
def test_sequences_of_a_packed_row_have_their_own_weights(bigrams, kind):
  """Through policy_loss: as if each were a row; not so if they were one."""
  rng = np.random.default_rng(3)
  rows = [training(
      rng.integers(1, 24, p).tolist(), rng.integers(1, 24, r).tolist(),
      rng.uniform(-3.5, -2.5, r), a)
          for p, r, a in ((2, 4, 1.0), (1, 3, -1.0), (3, 2, 0.5), (1, 5, 2.0))]
  made = [packing.bucketed_rows(rows, max_tokens=96, multiple=1, buckets=(24,),
                                packed=packed)[0] for packed in (False, True)]
  assert made[1].segment_BT.max() == 4
  of = lambda batch: value_and_grad(
      bigrams, False, batch.with_target('old_logp', -3 * batch.mask_BT),
      loss=importance.Correction(kind, 1.5).of(CLIPPED, gap_measured=False))
  ((loss, want), grads), ((got_loss, got), got_grads) = map(of, made)
  np.testing.assert_allclose(got_loss, loss, rtol=1e-5)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(
      x, y, rtol=1e-4, atol=1e-6), got_grads, grads)
  assert 0 < want.total['weight_held'] < want.tokens
  assert {'weight', 'weight_held', 'gap'} <= want.total.keys()
  assert_same_sums(got, want)
  merged = np.minimum(made[1].segment_BT, 1)
  other = of(made[1].replace(segment_BT=merged))[0][1]
  assert abs(other.total['weight'] - want.total['weight']) > 0.1


def test_metrics_by_hand():
  """Over trained tokens; the maximum over updates."""
  zero = update.no_sums()
  found = metrics.of_correction([
      zero.replace(tokens=6, highest={'gap': 0.2},
                   total={'weight': 7, 'weight_held': 1, 'gap': 0.6}),
      zero.replace(tokens=2, highest={'gap': 0.1},
                   total={'weight': 2, 'weight_held': 1, 'gap': 0.2})])
  assert found == pytest.approx({
      'correction/weight': 9 / 8, 'correction/held': 0.25,
      'sampler_trainer/logp_gap_mean': 0.1,
      'sampler_trainer/logp_gap_max': 0.2})
  assert metrics.of_correction([zero]) == {}


@LONG
def test_a_step_in_bfloat16_is_corrected():
  """The gap is seen, the weights lie around 1 and the policy moves.

  Rollouts have weights in int8, because in bf16 alone the sampler and the
  trainer of so small a model agree on most tokens to the bit.
  """
  c = small_config(method='grpo')
  c.student.dtype, c.student.rollout_weights = 'bfloat16', 'int8'
  c.data.pool.hard_share = 0.25
  c.algorithm.update(updates=1, temperature=1.5)  # groups that teach
  c.algorithm.correction.update(kind='sequence_truncate', bound=2.0)
  run = build.build(c)
  state = run.init_state()
  before = jax.device_get(state.params)
  made = step.train_step(run, state, ReplayBuffer(run.buffer_capacity), 0)
  row = step.metrics_row(run, made)
  assert 0 < row['sampler_trainer/logp_gap_mean'] < 0.05
  assert row['sampler_trainer/logp_gap_mean'] < row[
      'sampler_trainer/logp_gap_max'] < 1
  assert row['correction/weight'] == pytest.approx(1, abs=0.05)
  assert row['correction/weight'] != 1
  assert 0 <= row['correction/held'] < 0.1
  moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), before,
                       jax.device_get(made.state.params))
  assert max(jax.tree.leaves(moved)) > 0
  names = documented_metrics()
  assert all(any(p.fullmatch(k) for p in names) for k in row)
