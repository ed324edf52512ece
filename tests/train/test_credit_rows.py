"""Rows with terms in the embedded world: what they train on, and reductions."""

import dataclasses
import math

import jax
import numpy as np
import optax
import pytest

from tests.builders import documented_metrics, small_config
from tests.long import LONG, long
from tests.train.test_distillation import gradient, make_config as small_steps
from tests.train.test_step import recorded_groups
from zppo_jax.algorithms import methods
from zppo_jax.algorithms.credit import settings, targets as credit_targets
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.chat import segments
from zppo_jax.records import Group, PromptKind, Verdict
from zppo_jax.tasks import micro
from zppo_jax.train import build, minibatches, step

pytestmark = pytest.mark.usefixtures('quick_compile')


def make_config(method, **changes):
  """Groups of eight, as recorded_groups has them."""
  return small_steps(method, **{'algorithm.rollouts': 8, **changes})


@LONG
@pytest.mark.parametrize('name', [
    'uni_opd', 'zppo_distill', long('eopd'), long('scope')])
def test_a_row_trains_two_steps(name):
  """Two terms, margins, balance, and weights of tokens and rollouts."""
  run = build.build(make_config(name, **{
      'watch.words': ('h', 'never'), 'watch.phrases': ('h 1',),
      'credit.rollout_weights': 'accuracy' if name == 'eopd' else ''}))
  state, buffer = run.init_state(), ReplayBuffer(run.buffer_capacity)
  begun = jax.device_get(state.params)
  names = documented_metrics()
  for i in range(2):
    made = step.train_step(run, state, buffer, i)
    state, buffer = made.state, made.buffer
    row = step.metrics_row(run, made)
    assert all(math.isfinite(x) for x in row.values())
    assert all(any(p.fullmatch(k) for p in names) for k in row), row.keys()
    assert row['update/grad_norm'] > 0
    assert 0 < row['distil/word_rate'] < 1000
    assert 0 <= row['distil/phrase_rate'] <= 1
    kinds = {group.prompt.kind for group in made.groups}
    assert (PromptKind.BCQ in kinds) == (name == 'zppo_distill')
  moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), begun,
                       jax.device_get(state.params))
  assert max(jax.tree.leaves(moved)) > 0


def of_kind(group, kind):
  """The same group behind another prompt."""
  return dataclasses.replace(group, prompt=dataclasses.replace(
      group.prompt, kind=kind))


def test_zppo_with_distillation_compares_plain_rollouts_alone():
  """The teacher is asked about no rollout behind a BCQ or an NCQ."""
  kinds = (PromptKind.PLAIN, PromptKind.BCQ, PromptKind.NCQ, PromptKind.PLAIN)
  groups = [of_kind(group, kind)
            for group, kind in zip(recorded_groups(), kinds, strict=False)]
  for name, reformulations in (('zppo_distill', ('bcq', 'ncq')),
                               ('grpo_replay_distill', ())):
    method = methods.get(name)
    assert method.replay and method.reformulations == reformulations
    credit = settings.of_section(small_config().credit, method.credit, 10,
                                 terms=method.terms)
    assert {p for p, _ in credit_targets.taught_places(
        credit, groups, 0, 0, 0)} == {0, 3}


@LONG
def test_zppo_with_distillation_adds_its_term_to_zppo():
  """Where the coefficient is 0, and behind a BCQ, it is ZPPO."""
  few = [dataclasses.replace(g, rollouts=g.rollouts[2:6])
         for g in recorded_groups()[2:5]]
  both = lambda name, groups, factor: gradient(build.build(small_steps(
      name, **({'distil.coefficient': factor} if name != 'zppo' else {}))),
      groups)[0]
  shown = [of_kind(group, PromptKind.BCQ) for group in few]
  for groups, factor in ((few, 0.0), (shown, 1.0)):
    for x, y in zip(jax.tree.leaves(both('zppo_distill', groups, factor)),
                    jax.tree.leaves(both('zppo', groups, factor)), strict=True):
      assert np.linalg.norm(x - y) <= 1e-5 * np.linalg.norm(y)
  apart = jax.tree.map(np.subtract, both('zppo_distill', few, 1.0),
                       both('zppo', few, 1.0))
  assert optax.tree.norm(apart) > 0.01


def test_every_row_builds_or_says_what_it_lacks():
  """The section `credit` of every row reads what the row has."""
  c = small_config()
  for name, method in methods.METHODS.items():
    if method.terms:
      credit = settings.of_section(c.credit, method.credit, 10,
                                   terms=method.terms)
      assert credit.policy or credit.divergence, name


@pytest.fixture(scope='module')
def groups_and_run():
  run = build.build(make_config('opd'))
  return recorded_groups(), run


def test_a_signal_of_the_sampled_token(groups_and_run):
  """opd: the advantage of a token is d of the trainer's own numbers, and all
  rollouts are trained, those of a group of one verdict included."""
  groups, run = groups_and_run
  state = run.init_state()
  scored = minibatches.score_by_teacher(
      run, state, run.reshard_fn(state.params), groups, 0)
  targets = run.method.targets(minibatches.TargetContext(
      groups=groups, advantages=np.zeros((len(groups), 8), np.float32), step=0,
      seed=0, score=None, scored=scored.targets))
  assert len(targets) == sum(bool(r.tokens) for g in groups for r in g.rollouts)
  for place, of in targets.items():
    of_place = scored.targets[place]
    np.testing.assert_allclose(
        of['advantage'], of_place['teacher_logp'] - of_place['own_logp'],
        rtol=1e-6)
    assert not {'own_logp', 'own_entropy', 'base_logp'} & of.keys()


def test_opd_is_the_row_whose_loss_takes_the_difference(groups_and_run):
  """opd_log_ratio takes d from the update's own log-probs, opd from stored
  ones."""
  groups, run = groups_and_run
  grads, _ = gradient(run, groups)
  same, _ = gradient(build.build(make_config('opd_log_ratio')), groups)
  scale = float(optax.tree.norm(grads))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, atol=1e-5 * scale), grads, same)


@LONG
def test_own_log_probs_are_those_of_the_trained_weights(groups_and_run):
  """A rollout copy of fewer bits changes no signal."""
  groups, run = groups_and_run
  grads, _ = gradient(run, groups)
  same, _ = gradient(build.build(make_config(
      'opd', **{'student.rollout_weights': 'int8'})), groups)
  jax.tree.map(np.testing.assert_array_equal, grads, same)


@pytest.mark.default_emitters
def test_lambda_one_is_opd_to_the_bit(groups_and_run):
  groups, run = groups_and_run
  grads, _ = gradient(run, groups)
  same, _ = gradient(build.build(make_config(
      'exopd', **{'credit.signal': 'extrapolated(1)'})), groups)
  jax.tree.map(np.testing.assert_array_equal, grads, same)
  other, _ = gradient(build.build(make_config('exopd')), groups)
  assert optax.tree.norm(jax.tree.map(np.subtract, grads, other)) > 0


@pytest.mark.default_emitters
def test_anchored_by_the_old_policy_alone_is_the_clipped_surrogate(
    groups_and_run, monkeypatch):
  """To the bit, where no column of the head is padding, which counts beside the
  sampler alone and not beside a teacher."""
  groups, _ = groups_and_run
  monkeypatch.setattr(segments, 'true_vocabulary',
                      lambda codec: codec.vocab_size)
  want, _ = gradient(build.build(make_config('grpo')), groups)
  same, _ = gradient(build.build(make_config(
      'trrd', **{'distil.anchor': 1.0})), groups)
  jax.tree.map(np.testing.assert_array_equal, want, same)
  other, _ = gradient(build.build(make_config('trrd')), groups)
  assert optax.tree.norm(jax.tree.map(np.subtract, want, other)) > 0


@LONG
def test_micro_batches_change_nothing(groups_and_run):
  """Weights over the mini-batch do not depend on how it is cut."""
  groups, run = groups_and_run
  weighted = {'credit.policy_weights': 'entropy_top(0.3) * bounded(10)'}
  grads, made = gradient(build.build(make_config('opd', **weighted)), groups)
  size = run.layout.max_tokens
  small, more = gradient(build.build(make_config(
      'opd', **weighted, **{'shapes.micro_tokens': size // 4})), groups)
  assert len(more[0].batches) > len(made[0].batches)
  scale = float(optax.tree.norm(grads))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, atol=1e-6 * scale), grads, small)


@pytest.mark.parametrize(('method', 'changes', 'words'), [
    ('opd', {'credit.signal': 'loud'}, "credit.signal 'loud'; known: log_"),
    ('opd', {'credit.signal': 'extrapolated'}, 'under a base model'),
    ('opd', {'credit.route': 'wrong'}, 'has no divergence term'),
    ('opd', {'credit.balance': '-1'}, 'credit.balance is -1.0; it must be >='),
    ('opd', {'credit.balance': 'random(-1)'}, 'credit.balance is -1.0; it mu'),
    ('opd', {'credit.margin': 'mask'}, 'mask takes delta, keep'),
    ('opd', {'credit.margin_verdicts': 'permuted'}, "here credit.margin is 'n"),
    ('opd', {'credit.coefficient': 'fast'}, 'linear:START:END, cosine'),
    ('fast_opd', {'credit.policy_route': 'wrong'}, 'has no policy term'),
    ('scope', {'teacher.kind': 'stored'}, 'does not return'),
    ('veto', {'distil.divergence': 'forward'}, 'because its paper has it'),
    ('trrd', {'algorithm.surrogate': 'gspo'}, "algorithm.surrogate is 'gspo'"),
    ('opd', {'algorithm.surrogate': 'ppo'}, 'known: clipped, gspo, cispo'),
    ('opd', {'credit.balance': 'x=1'}, 'data.pool has the sources'),
    ('opd', {'watch.words': ('as I said',)}, "watch.words holds 'as I said'"),
    ('opd', {'watch.phrases': ('',)}, "watch.phrases is .'',."),
])
def test_refused(method, changes, words):
  with pytest.raises((ValueError, KeyError), match=words):
    build.build(make_config(method, **changes))


@LONG
def test_a_panel_of_two_teachers():
  """Both score one source; the other source has a teacher of its own, and a
  source without one is refused."""
  members = {'same': {'weights': 'micro/teacher'},
             'terse': {'weights': 'micro/terse_teacher'}}
  c = make_config('opd', **{'teacher.kind': 'panel'})
  with c.unlocked():
    c.teacher.panel.members.update(members)
    c.teacher.panel.routes.update({'*': '3 same + 1 terse'})
  run = build.build(c)
  made = step.train_step(run, run.init_state(),
                         ReplayBuffer(run.buffer_capacity), 0)
  row = step.metrics_row(run, made)
  assert row['distil/missing'] == 0 and row['update/grad_norm'] > 0
  assert row['compilations/teacher/same'] == 0  # it only scored
  names = documented_metrics()
  assert all(any(p.fullmatch(k) for p in names) for k in row), row.keys()
  c.teacher.panel.routes.update({'*': 'other'})
  with pytest.raises(KeyError, match="routes.\\* 'other'; known: same, terse"):
    build.build(c)


@pytest.fixture(scope='module')
def wrong_groups(groups_and_run):
  """Groups in which every rollout is wrong, of questions with a hint."""
  groups, _ = groups_and_run
  hinted = lambda prompt: dataclasses.replace(
      prompt, question=dataclasses.replace(
          prompt.question, hint=micro.first_step(prompt.question)))
  return [Group(hinted(g.prompt), tuple(
      dataclasses.replace(r, verdict=Verdict.WRONG) for r in g.rollouts))
      for g in groups]


def _hinted(method, **changes):
  return build.build(make_config(method, **{
      'teacher.kind': 'own', 'distil.top': 8, 'data.pool.hints': True,
      **changes}))


@LONG
def test_an_all_wrong_group_is_taught_by_the_teacher_with_the_hint(
    wrong_groups):
  """GRPO has no gradient there; PTD-PO has one, and its released form none."""
  grpo, _ = gradient(build.build(make_config('grpo')), wrong_groups)
  assert optax.tree.norm(grpo) == 0
  ptd, made = gradient(_hinted('ptd_po'), wrong_groups)
  norm = float(optax.tree.norm(ptd))
  assert norm > 0 and made[0].batches
  released, _ = gradient(_hinted('ptd_as_released'), wrong_groups)
  assert float(optax.tree.norm(released)) < 1e-5 * norm


def _off_policy(run, groups):
  """The gradient of the first mini-batch at weights that have moved since its
  rollouts were scored."""
  state = run.init_state()
  scored = minibatches.score_by_teacher(
      run, state, run.reshard_fn(state.params), groups, 0)
  made, _ = minibatches.make(
      run, groups, minibatches.advantages(run, groups), 0, scored)
  first = next(iter(minibatches.score(run, state, made)))
  moved = dataclasses.replace(state, params=jax.tree.map(
      lambda x: x * 1.01, state.params))
  return jax.device_get(run.update_fn(
      moved, first.batches, None,
      optimizer_fn=lambda state, grads, count: (grads, None))[0])


@pytest.mark.default_emitters
def test_ptd_po_of_gspo_without_its_second_term_is_gspo_to_the_bit(
    wrong_groups):
  """And of another objective it is not."""
  mixed = [Group(g.prompt, tuple(
      dataclasses.replace(r, verdict=Verdict(i % 2))
      for i, r in enumerate(g.rollouts))) for g in wrong_groups[:4]]
  wide = {'algorithm.updates': 2, 'algorithm.sequence_clip.high': 0.5,
          'algorithm.sequence_clip.low': 0.5}
  want = _off_policy(build.build(make_config('gspo', **wide)), mixed)
  assert optax.tree.norm(want) > 0
  ours = {'algorithm.surrogate': 'gspo', 'algorithm.normaliser': 'group',
          'distil.reducer': 'per_rollout', 'distil.coefficient': 0.0, **wide}
  same = _off_policy(_hinted('ptd_po', **ours), mixed)
  jax.tree.map(np.testing.assert_array_equal, want, same)
  other = _off_policy(_hinted('ptd_po', **{
      **ours, 'algorithm.surrogate': 'clipped'}), mixed)
  assert optax.tree.norm(jax.tree.map(np.subtract, want, other)) > 0


@LONG
def test_ptd_po_on_the_papers_other_supports(wrong_groups):
  """The whole vocabulary and the sampled token: the teacher with the hint
  pulls, on each in another direction."""
  few = wrong_groups[:2]
  kept, whole, sampled = (gradient(_hinted('ptd_po', **changes), few)[0]
                          for changes in ({}, {'distil.support': 'whole'},
                                          {'distil.support': 'sampled'}))
  for one, two in ((kept, whole), (whole, sampled)):
    size = float(optax.tree.norm(two))
    assert size > 0
    assert optax.tree.norm(jax.tree.map(np.subtract, one, two)) > 1e-3 * size


def test_the_own_teacher_of_sdpo_follows_the_student():
  run = build.build(make_config('sdpo', **{
      'teacher.kind': 'own', 'distil.top': 8}))
  assert run.own.config.weights == 'ema' and run.own.config.rate == 0.05
