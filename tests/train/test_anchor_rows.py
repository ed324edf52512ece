"""Anchors and likelihood rows in the embedded world."""

import dataclasses
import math

import jax
import numpy as np
import optax
import pytest

from tests.builders import documented_metrics
from tests.long import LONG, long_but
from tests.train.test_credit_rows import make_config
from tests.train.test_step import recorded_groups
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.records import Group, Verdict
from zppo_jax.tasks import micro
from zppo_jax.train import build, minibatches, step

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.fixture
def answered(monkeypatch):
  """Every question comes with a right and a wrong answer."""
  pool = build.tasks.pool

  def with_responses(*args):
    return tuple(dataclasses.replace(q, responses=(
        f'4 h {q.answer} A {q.answer}', '4 h 4 A _'))
                 for q in pool(*args))
  monkeypatch.setattr(build.tasks, 'pool', with_responses)


def gradient(run, state, groups, plain=()):
  """(summed gradient of one step's losses, its only mini-batch)."""
  scored = minibatches.score_by_teacher(
      run, state, run.reshard_fn(state.params), groups, 0)
  made, _ = minibatches.make(
      run, groups, minibatches.advantages(run, groups), 0, scored)
  (of,) = minibatches.score(
      run, state, minibatches.with_gold(run, made, plain, 0))
  grads, _, _ = run.update_fn(
      state, of.batches, None, gold=of.gold,
      optimizer_fn=lambda state, grads, count: (grads, None))
  return jax.device_get(grads), of


@LONG
@pytest.mark.parametrize('name, changes', long_but(['stable_opd'], [
    ('stable_opd', {}),
    ('essd', {'algorithm.temperature': 1.5, 'algorithm.top_k': 8,
              'algorithm.rollouts': 2}),
    ('iterative_sft', {'algorithm.updates': 2}),
    ('kdrl', {'distil.coefficient': 2e-3}),
    ('tropd', {'distil.top': 8}),
    ('paced', {'algorithm.temperature': 1.6, 'data.pool.hard_share': 0.5}),
    *((name, {}) for name in ('fire_opd', 'tip', 'iw_opd', 'forget_sftrl'))]))
def test_a_row_trains_two_steps(name, changes, answered):
  del answered
  run = build.build(make_config(name, **changes))
  state, buffer = run.init_state(), ReplayBuffer(run.buffer_capacity)
  names = documented_metrics()
  for i in range(2):
    made = step.train_step(run, state, buffer, i)
    state, buffer = made.state, made.buffer
    row = step.metrics_row(run, made)
    assert all(math.isfinite(x) for x in row.values())
    assert all(any(p.fullmatch(k) for p in names) for k in row), row.keys()
    assert (row['update/grad_norm'] > 0) == {
        'iterative_sft': row['accuracy/plain'] > 0,
        'paced': row['trivial/plain'] < 1}.get(name, True)
    assert ('gold/nll' in row) == ('reference/kl' in row) == (
        name == 'stable_opd')
  if name == 'stable_opd':
    assert row['gold/tokens'] > 0 and row['gold/nll'] > 0


@LONG
def test_likelihood_is_taken_at_temperature_one(answered):
  """The gradient of essd is that of stored_nll on the same texts at temperature
  1, whatever the samples were drawn at; iterative_sft has its right ones."""
  del answered
  groups = recorded_groups()[:4]
  hot = {'algorithm.temperature': 1.5}
  run = build.build(make_config('essd', **hot))
  state = run.init_state()
  grads, _ = gradient(run, state, groups)
  want, _ = gradient(build.build(make_config('stored_nll')), state, groups)
  jax.tree.map(np.testing.assert_array_equal, grads, want)
  right = [Group(g.prompt, g.correct) for g in groups if g.correct]
  assert right and len(right) < len(groups)
  some, _ = gradient(build.build(make_config('iterative_sft', **hot)), state,
                     groups)
  assert 0 < optax.tree.norm(some) < optax.tree.norm(grads)


@LONG
def test_the_gold_anchor_is_a_mean_of_its_own(answered):
  """stable_opd without its penalty has opd's gradient + 0.1 x (the count) x the
  mean gradient of the right stored answers."""
  del answered
  groups = recorded_groups()[:4]
  run = build.build(make_config('stable_opd', **{
      'algorithm.reference.kind': 'k2', 'algorithm.reference.coefficient': 1e-9}
  ))
  state = run.init_state()  # where the penalty has no gradient anyway
  plain = [dataclasses.replace(g, prompt=dataclasses.replace(
      g.prompt, question=dataclasses.replace(g.prompt.question, responses=(
          f'4 h {g.prompt.question.answer} A {g.prompt.question.answer}',
          '4 h 4 A _')))) for g in groups]
  grads, of = gradient(run, state, groups, plain)
  opd, _ = gradient(build.build(make_config('opd')), state, groups)
  answers, _ = run.stored.answer([g.prompt for g in plain], 0)
  right = [Group(g.prompt, g.correct) for g in answers if g.correct]
  nll, _ = gradient(build.build(make_config('stored_nll')), state, right)
  tokens = sum(len(r.tokens) for g in right for r in g.rollouts)
  want = jax.tree.map(lambda a, b: a + 0.1 * of.count / tokens * b, opd, nll)
  scale = float(optax.tree.norm(want))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, atol=1e-5 * scale), grads, want)
  assert optax.tree.norm(jax.tree.map(np.subtract, grads, opd)) > 1e-3 * scale


@pytest.mark.default_emitters
def test_a_taught_group_loses_the_reference_penalty():
  """PTD-PO's gate: with 'not taught' an all-wrong group with a hint has the
  gradient that it has without a penalty, and one without a hint keeps its."""
  hinted = lambda prompt: dataclasses.replace(
      prompt, question=dataclasses.replace(
          prompt.question, hint=micro.first_step(prompt.question)))
  wrong = [Group(g.prompt, tuple(
      dataclasses.replace(r, verdict=Verdict.WRONG) for r in g.rollouts))
      for g in recorded_groups()[:2]]
  taught = [Group(hinted(g.prompt), g.rollouts) for g in wrong]

  def run_of(**penalty):
    c = make_config('ptd_po', **{
        'teacher.kind': 'own', 'distil.top': 8, 'data.pool.hints': True})
    c.algorithm.reference.update(penalty)
    return build.build(c)
  plain = run_of()
  gated = run_of(kind='k3', coefficient=0.5, route='not taught')
  state = plain.init_state()
  state = state.replace(params=jax.tree.map(lambda x: x * 1.01, state.params))
  want, _ = gradient(plain, state, taught)
  jax.tree.map(np.testing.assert_array_equal,
               gradient(gated, state, taught)[0], want)
  alone, _ = gradient(gated, state, wrong)  # nobody is taught
  assert optax.tree.norm(alone) > 1e-3 * optax.tree.norm(want) > 0
  none, of = gradient(plain, state, wrong)
  assert not of.batches and optax.tree.norm(none) == 0


@LONG
def test_guides_enter_the_group_with_their_own_log_probs():
  """npo with a later checkpoint: it scores the guides and nobody else, and
  an all-wrong group has a gradient. Two steps train."""
  run = build.build(make_config('npo', **{
      'teacher.kind': 'own', 'teacher.own.weights': 'folder',
      'teacher.own.folder': 'micro/teacher', 'distil.guides': 2}))
  state, buffer = run.init_state(), ReplayBuffer(run.buffer_capacity)
  names = documented_metrics()
  for i in range(2):
    made = step.train_step(run, state, buffer, i)
    state, buffer = made.state, made.buffer
    row = step.metrics_row(run, made)
    assert all(any(p.fullmatch(k) for p in names) for k in row), row.keys()
    assert row['update/grad_norm'] > 0
    guides = {(p, g) for p, group in enumerate(made.lessons.groups)
              for g, r in enumerate(group.rollouts) if not r.sampled}
    assert 0 < row['distil/guides'] == len(guides) <= 2 * 4
    taught = {at for at, of in made.scored.targets.items() if of['taught'][0]}
    assert taught == guides
    assert [len(g.rollouts) for g in made.lessons.groups] == [8] * 4
    assert row['distil/missing'] == 0
    for p, g in guides:  # the sampler drew them at these log-probs
      rollout = made.lessons.groups[p].rollouts[g]
      (drawn,) = [r for a in made.lessons.teacher for r in a.correct
                  if a.prompt is made.groups[p].prompt
                  and r.tokens == rollout.tokens][:1]
      np.testing.assert_allclose(made.scored.targets[p, g]['teacher_logp'],
                                 drawn.logps, atol=1e-4)


@pytest.mark.parametrize(('method', 'changes', 'words'), [
    ('npo', {'distil.temperature': 2.0}, 'by the policy that drew them'),
    ('npo', {'distil.guides': 0}, 'distil.guides is 0'),
    ('npo', {'credit.signal': 'log_ratio'}, 'credit.signal is .*which reads'),
    ('npo', {'distil.context': 'hint'}, 'because its paper has it'),
    ('stable_opd', {}, 'stored with the questions'),
    ('opd', {'credit.gold': 'much'}, "credit.gold is 'much'"),
    ('opd', {'credit.gold': '0'}, 'credit.gold is 0.0; it must be > 0'),
    ('opd', {'distil.student_temperature': 2.0}, 'has ratios to the policy'),
    ('essd', {'distil.student_temperature': 2.0}, 'because its paper has it'),
    ('opd_reverse', {'distil.student_temperature': -1.0}, 'must be > 0, or 0'),
    ('opd', {'algorithm.reference.kind': 'k2',
             'algorithm.reference.coefficient': 0.1,
             'algorithm.reference.route': 'not taught'},
     'has no divergence term'),
])
def test_refused(method, changes, words):
  with pytest.raises((ValueError, KeyError), match=words):
    build.build(make_config(method, **changes))
