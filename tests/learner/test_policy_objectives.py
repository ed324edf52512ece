"""Sequence ratios and the reference penalty through the update, per layout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.builders import UNEVEN, uneven_groups
from tests.long import long
from zppo_jax.algorithms import reference
from zppo_jax.arrays import TrainState
from zppo_jax.devices import sharding
from zppo_jax.learner import layouts, scoring, states, update
from zppo_jax.objectives import losses, surrogates
from zppo_jax.objectives.surrogates import SequenceClip
from zppo_jax.rollout import weight_sync

pytestmark = pytest.mark.usefixtures('quick_compile')
V, RATE, COEFFICIENT = 24, 0.9, 0.3
CLIP = SequenceClip(low=0.05, high=0.05)
def recorded():
  """(groups, targets) of builders.uneven_groups."""
  groups = uneven_groups(V)
  return groups, {
      (p, g): {'advantage': np.full(len(r.tokens), (1.5, -0.5)[g], np.float32),
               'sampler_logp': np.zeros(len(r.tokens), np.float32)}
      for p, group in enumerate(groups) for g, r in enumerate(group.rollouts)}


def logps_of(model, params, prompt, rollout):
  """[R, V] of one sequence alone, by whole softmaxes."""
  tokens = np.int32([[*prompt, *rollout.tokens]])
  hidden, _ = model.apply(
      params, tokens, np.arange(tokens.shape[1])[None, :, None],
      np.ones_like(tokens))
  logps = jax.nn.log_softmax(hidden[0] @ model.head(params) / RATE, -1)
  return logps[len(prompt) - 1:-1]


def by_hand(model, groups, targets, old, frozen, penalty):
  """params -> sum over rollouts of the mean over their tokens."""
  def total(params):
    out = 0.0
    for (p, g), of in targets.items():
      prompt, rollout = groups[p].prompt.tokens, groups[p].rollouts[g]
      at = lambda of_model: (  # noqa: B023
          logps_of(model, of_model, prompt, rollout))  # noqa: B023
      chosen = np.int32(rollout.tokens)[:, None]
      pick = lambda logps: jnp.take_along_axis(  # noqa: B023
          logps, chosen, 1)[:, 0]  # noqa: B023
      s, r = at(params), at(frozen)
      ratio = jnp.exp((pick(s) - pick(at(old))).mean())
      A = of['advantage'][0]
      out -= jnp.minimum(ratio * A, jnp.clip(
          ratio, 1 - CLIP.low, 1 + CLIP.high) * A)
      d = pick(r) - pick(s)
      term = {'k3': jnp.exp(d) - 1 - d,
              'full': (jnp.exp(s) * (s - r)).sum(-1)}[penalty.kind]
      out += penalty.coefficient * term.mean()
    return out
  return total


@pytest.mark.parametrize('kind', ['k3', long('full')])
def test_gspo_and_the_penalty_in_every_layout(make_tiny, make_mesh, kind):
  """Shared, padded and packed equal the sequences alone, value and gradient.

  Policy, old policy and reference differ. The reference is a rollout copy. A
  ratio of log-probs of some nats is known to about 1e-6 in float32, and the
  terms of the sum, as large as their advantages, cancel.
  """
  model, params = make_tiny()
  rng = np.random.default_rng(1)
  moved = lambda size: jax.tree.map(
      lambda x: x + np.float32(rng.normal(size=x.shape) * size), params)
  old, frozen = moved(0.01), moved(0.02)
  penalty = reference.Penalty(kind, COEFFICIENT)
  groups, targets = recorded()
  want_loss, want = jax.device_get(jax.jit(jax.value_and_grad(by_hand(
      model, groups, targets, old, frozen, penalty)))(params))

  mesh, tx = make_mesh(), optax.sgd(1.0)
  shardings = states.state_shardings(model, tx, mesh)
  copy = weight_sync.place_copy(frozen, model, mesh)
  score = functools.partial(
      scoring.compile_scorer, model=model, mesh=mesh, temperature=RATE, chunk=3)
  score_old, score_reference = score(shardings=shardings), score(shardings=None)
  inside = kind == 'full'
  context = losses.LossContext(
      algorithm=type('', (), {'temperature': RATE}), vocab=V, chunk=3)
  update_fn = update.compile_update(
      loss_fn=functools.partial(
          update.policy_loss, model=model, temperature=RATE, chunk=3,
          frozen={reference.MODEL: model} if inside else {},
          reducer='per_rollout', loss=reference.penalised(functools.partial(
              surrogates.sequence_surrogate, clip=CLIP), penalty, context)),
      tx=tx, mesh=mesh, shardings=shardings,
      frozen={reference.MODEL: copy} if inside else None)
  place = lambda tree: jax.device_put(tree, shardings.params)
  size, values = sum(abs(of['advantage'][0]) for of in targets.values()), []
  for layout in layouts.LAYOUTS:
    batches = [sharding.put_batch(mesh, b) for b in layouts.micro_batches(
        groups, targets, UNEVEN._replace(kind=layout))]
    batches = [b.with_target('old_logp', score_old(place(old), b)[0])
               .with_target(reference.TARGET, score_reference(copy, b)[0])
               for b in batches]
    grads, sums, _ = jax.device_get(update_fn(
        TrainState(place(params), None, np.int32(0)), batches, None,
        optimizer_fn=lambda state, grads, count: (grads, None)))
    values.append(sums.loss)
    np.testing.assert_allclose(sums.loss, want_loss, rtol=0, atol=2e-6 * size)
    np.testing.assert_allclose(sums.loss, values[0], rtol=0, atol=1e-6 * size)
    held = (sums.total['sequence_clip_low'], sums.total['sequence_clip_high'])
    np.testing.assert_allclose(held, np.round(held), atol=1e-6)
    for x, y in zip(jax.tree.leaves(grads), jax.tree.leaves(want),
                    strict=True):
      assert np.linalg.norm(x - y) <= 5e-6 * np.linalg.norm(y) > 0, layout
