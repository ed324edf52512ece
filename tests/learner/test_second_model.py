"""A loss that reads a second model's log-probs: one function, one row.

The method is a fixture of this file: sampled-token distillation by policy
gradient (MiniLLM, Gu et al. 2024, with the return of one token). With d =
log p_T - log p_S of the sampled token, detached, the loss of a token is
-d log p_S, whose expected gradient under the student is that of the reverse
KL(S || T). Nothing of the package knows of it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.builders import (
  UNEVEN,
  documented_metrics,
  small_config,
  uneven_groups,
)
from tests.long import LONG
from zppo_jax.algorithms import methods
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.arrays import TrainState
from zppo_jax.devices import sharding
from zppo_jax.learner import layouts, states, update
from zppo_jax.records import (
  Group,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  StopReason,
  TokenSequence,
  Verdict,
)
from zppo_jax.train import build, minibatches, step

pytestmark = pytest.mark.usefixtures('quick_compile')


def log_ratio(output, batch):
  """-(log p_T - log p_S) log p_S with the bracket detached."""
  d_BT = jax.lax.stop_gradient(
      batch.targets['teacher_logp'] - batch.targets['old_logp'])
  return -d_BT * output.logp_BT, {
      'teacher_gap': d_BT, 'teacher_higher': d_BT > 0}


def teacher_logps(context):
  """'teacher_logp' of every rollout whose score came."""
  places, sequences = zip(*(
      ((p, g), TokenSequence(prompt=group.prompt.tokens,
                             response=rollout.tokens,
                             media=group.prompt.media))
      for p, group in enumerate(context.groups)
      for g, rollout in enumerate(group.rollouts)), strict=True)
  return {place: {'teacher_logp': np.asarray(logps, np.float32)}
          for place, logps in zip(places, context.score(sequences).logps,
                                  strict=True) if logps is not None}


ROW = methods.Method(
    replay=False, reformulations=(), loss=lambda algorithm: log_ratio,
    targets=teacher_logps, teacher_scores=True)
V, RATE = 24, 0.9


@pytest.fixture
def with_row(monkeypatch):
  monkeypatch.setitem(methods.METHODS, 'log_ratio', ROW)


@LONG
def test_a_few_steps_of_the_embedded_world(with_row):
  """The ordinary step and the teacher of this process: it is asked to score,
  never to answer. Each step raises the log-probs of the tokens that the teacher
  likes better than the student does, against those of the others."""
  c = small_config(method='log_ratio', steps=3)
  c.algorithm.updates = 2
  run = build.build(c)
  state, buffer = run.init_state(), ReplayBuffer(run.buffer_capacity)
  for i in range(c.steps):
    outcome = step.train_step(run, state, buffer, i)
    state, row = outcome.state, step.metrics_row(run, outcome)
    gain = 0.0
    for b in (b for of in outcome.minibatches for b in of.batches):
      old = b.targets['old_logp']
      moved = run.score_fn(state.params, b)[0] - old
      gain += float(jnp.sum(
          (b.targets['teacher_logp'] - old) * moved * b.mask_BT))
    assert gain > 0
    assert row['tokens/teacher_generated'] == 0
    assert row['update/trained_tokens'] == 1  # those without advantage too
    assert row['update/clip_high'] == row['update/clip_low'] == 0
    assert np.isfinite(row['update/loss']) and row['update/grad_norm'] > 0
    assert outcome.calls.answers == c.algorithm.num_new * c.algorithm.rollouts
  names = documented_metrics()
  assert all(any(p.fullmatch(k) for p in names) for k in row)


def test_a_teacher_without_scores_is_refused(with_row):
  c = small_config(method='log_ratio')
  c.teacher.kind = 'stored'
  with pytest.raises(ValueError, match="'log_ratio'; it needs log-probs of"):
    build.build(c)


def test_a_loss_without_its_targets_is_refused(monkeypatch):
  """Before anything is compiled; and a row has to say what it asks for."""
  monkeypatch.setitem(methods.METHODS, 'bare', methods.Method(
      replay=False, reformulations=(), loss=lambda algorithm: log_ratio))
  with pytest.raises(ValueError, match="'bare', .*the target 'teacher_logp'; "
                     'the method makes advantage, old_logp, sampler_logp'):
    build.build(small_config(method='bare'))
  run = build.build(small_config(method='grpo'))
  silent = methods.Method(replay=False, reformulations=(),
                          targets=teacher_logps)
  prompt = Prompt(Question('q', '', '', ''), PromptKind.PLAIN, (1,))
  rollout = Rollout((2,), (-1.0,), '', StopReason.END, Verdict.WRONG, '')
  with pytest.raises(ValueError, match='must say teacher_scores=True'):
    minibatches.make(
        build.dataclasses.replace(run, method=silent),
        [Group(prompt, (rollout,))], np.ones((1, 1), np.float32), 0)


def recorded():
  """(groups, targets) of builders.uneven_groups."""
  groups, rng = uneven_groups(V), np.random.default_rng(1)
  return groups, {
      (p, g): {'teacher_logp': np.float32(rng.uniform(-4, -1, len(r.tokens)))}
      for p, group in enumerate(groups) for g, r in enumerate(group.rollouts)}


@LONG
def test_gradient_against_a_hand_worked_case_in_every_layout(tiny, make_mesh):
  """The gradient of -sum d log p from whole softmaxes of each sequence alone;
  shared, padded and packed."""
  model, params = tiny
  groups, targets = recorded()

  def by_hand(params):
    total = 0.0
    for (p, g), of in targets.items():
      prompt, rollout = groups[p].prompt.tokens, groups[p].rollouts[g]
      tokens = np.int32([[*prompt, *rollout.tokens]])
      hidden, _ = model.apply(
          params, tokens, np.arange(tokens.shape[1])[None, :, None],
          np.ones_like(tokens))
      logps = jax.nn.log_softmax(hidden[0] @ model.head(params) / RATE, -1)
      logp = jnp.take_along_axis(logps[:-1], tokens[0, 1:, None], 1)[:, 0]
      logp = logp[len(prompt) - 1:]
      d = of['teacher_logp'] - jax.lax.stop_gradient(logp)
      total -= jnp.sum(d * logp)
    return total

  want_loss, want = jax.device_get(jax.jit(jax.value_and_grad(by_hand))(params))
  mesh, tx = make_mesh(), optax.sgd(1.0)
  shardings = states.state_shardings(model, tx, mesh)
  update_fn = update.compile_update(
      loss_fn=functools.partial(
          update.policy_loss, model=model, temperature=RATE, chunk=3,
          loss=log_ratio, old_logps=update.own_old_logps),
      tx=tx, mesh=mesh, shardings=shardings)
  for kind in layouts.LAYOUTS:
    batches = layouts.micro_batches(groups, targets,
                                    UNEVEN._replace(kind=kind))
    grads, sums, _ = jax.device_get(update_fn(
        TrainState(jax.device_put(params, shardings.params), None, None),
        [sharding.put_batch(mesh, b) for b in batches], None,
        optimizer_fn=lambda state, grads, count: (grads, None)))
    assert sums.tokens == (1 + 6) + (3 + 4)
    np.testing.assert_allclose(sums.loss, want_loss, rtol=1e-6)
    for x, y in zip(jax.tree.leaves(grads), jax.tree.leaves(want),
                    strict=True):
      assert np.linalg.norm(x - y) <= 1e-6 * np.linalg.norm(y) > 0, kind
