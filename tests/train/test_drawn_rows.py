"""Rows that draw rollouts under a context: whose tokens, where, how counted."""

import dataclasses
import json
import math

import jax
import numpy as np
import optax
import pytest

from tests.builders import documented_metrics
from tests.long import LONG, long_but
from tests.train.test_distillation import gradient, make_config
from tests.train.test_step import recorded_groups
from zppo_jax import tasks
from zppo_jax.algorithms import methods
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.commands import dry_run
from zppo_jax.records import Group, PromptKind
from zppo_jax.rollout.journal import RolloutJournal
from zppo_jax.train import build, minibatches, step

pytestmark = pytest.mark.usefixtures('quick_compile')
ROWS = {'hdpo': (PromptKind.PLAIN, PromptKind.CARRIED),
        'star': (PromptKind.PLAIN, PromptKind.CARRIED),
        'gates': (PromptKind.PLAIN, PromptKind.CARRIED),
        'pi_distill': (PromptKind.PRIVILEGED, PromptKind.CARRIED),
        'hinted': (PromptKind.CARRIED,)}


@pytest.fixture(scope='module')
def knowing(tmp_path_factory):
  """Fields with which an own teacher of later weights draws right rollouts.

  The embedded models read no answers, so that the context is the question in
  other words: the same words.
  """
  file = tmp_path_factory.mktemp('material') / 'slices.jsonl'
  c = make_config('grpo')
  pool = tasks.pool(tasks.get('micro'), c.data.pool)
  file.write_text(''.join(
      json.dumps({'id': q.id, 'slice': q.text}) + '\n' for q in pool))
  return {'distil.context': 'slice', 'distil.material': str(file),
          'distil.drawn_by': 'teacher', 'teacher.kind': 'own',
          'teacher.own.weights': 'folder',
          'teacher.own.folder': 'micro/teacher', 'distil.top': 4}


def one_step(c, journal=None):
  run = build.build(c)
  if journal is not None:
    run = dataclasses.replace(run, journal=journal, sampler=dataclasses.replace(
        run.sampler, journal=journal))
  state = run.init_state()
  return run, state, step.train_step(
      run, state, ReplayBuffer(run.buffer_capacity), 0)


@pytest.fixture(scope='module')
def hdpo_step(knowing):
  return one_step(make_config('hdpo', **knowing))


@LONG
@pytest.mark.parametrize('name', long_but(['hdpo'], ROWS))
def test_a_row_trains_on_what_its_terms_say(name, knowing, hdpo_step):
  """Kinds of groups, finite documented numbers, a gradient; all questions here
  are unsolved, because those of the first step are."""
  run, _, made = hdpo_step if name == 'hdpo' else one_step(
      make_config(name, **knowing))
  begun = jax.device_get(run.init_state().params)
  row = step.metrics_row(run, made)
  names = documented_metrics()
  assert all(any(p.fullmatch(k) for p in names) for k in row), row.keys()
  assert all(math.isfinite(x) for x in row.values())
  assert row['update/grad_norm'] > 0 and row['drawn/accuracy'] > 0.9
  kinds = {g.prompt.kind for g in made.lessons.groups}
  assert kinds == set(ROWS[name])
  assert row['distil/student_states'] == (PromptKind.PLAIN in kinds)
  unsolved = sum(g.accuracy == 0 for g in made.groups)
  cliff = name in ('hdpo', 'star')
  assert row['drawn/questions'] == (unsolved if cliff else len(made.groups))
  assert row['drawn/trained'] == 4 * row['drawn/questions']
  assert row['drawn/trained_in_context'] == (
      row['drawn/trained'] if name == 'pi_distill' else 0)
  assert step.sample_rows(run, made)[0]['teacher'] or unsolved < 4
  moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), begun,
                       jax.device_get(made.state.params))
  assert max(jax.tree.leaves(moved)) > 0


def told(groups, share_right=1):
  """(groups, their carried and privileged groups) from recorded ones, whose
  first `share_right` rollouts of four are drawn."""
  plain = [dataclasses.replace(g, rollouts=g.rollouts[:4]) for g in groups]
  kind = lambda g, k: dataclasses.replace(
      g, prompt=dataclasses.replace(g.prompt, kind=k),
      rollouts=g.rollouts[:share_right])
  return (plain, [kind(g, PromptKind.CARRIED) for g in plain],
          [kind(g, PromptKind.PRIVILEGED) for g in plain])


def test_advantages_by_who_drew():
  """The student's do not see the others; carried rollouts have none."""
  run = build.build(make_config('grpo'))
  plain, carried, privileged = told(recorded_groups(), 4)
  want = minibatches.advantages(run, plain)
  made = minibatches.advantages(run, [*carried, *plain, *privileged[2:5]])
  np.testing.assert_array_equal(made[10:20], want)
  assert not made[:10].any()
  np.testing.assert_array_equal(
      made[20:], minibatches.advantages(run, privileged[2:5]))
  assert made[20:].any()


def mini_batches(run, groups, seed=0):
  """(the mini-batches of groups, the state that they are scored with)."""
  state = run.init_state()
  scored = minibatches.score_by_teacher(
      run, state, run.reshard_fn(state.params), groups, seed,
      {p: g.prompt for p, g in enumerate(groups)
       if g.prompt.kind != PromptKind.PLAIN})
  made, _ = minibatches.make(
      run, groups, minibatches.advantages(run, groups), 0, scored)
  return made, state


@LONG
def test_each_term_is_a_mean_over_its_own_rollouts(knowing):
  """The loss of star, and what hdpo gives a token, in numpy: one over the
  response tokens of right rollouts, whoever drew them."""
  run = build.build(make_config('star', **knowing))
  plain, carried, _ = told(recorded_groups()[2:6], 2)
  groups = [*plain, *carried]
  made, state = mini_batches(run, groups)
  right = sum(len(r.tokens) for g in groups for r in g.correct)
  total = sum(len(r.tokens) for g in plain for r in g.rollouts)
  assert made[0].count == total
  logps = 0.0
  for batch in made[0].batches:
    logp_BT = np.asarray(run.score_fn(state.params, batch)[0], np.float64)
    mask = np.asarray(batch.mask_BT)
    logps += float((logp_BT * mask).sum())
    weight = np.asarray(batch.targets['weight'])[mask > 0]
    np.testing.assert_allclose(weight, total / right, rtol=1e-6)
  _, sums, _ = step.update(run, state, made)
  np.testing.assert_allclose(
      float(sums[0].loss) / made[0].count, -logps / right, rtol=1e-5)


@LONG
def test_what_is_drawn_leaves_the_students_term_alone(knowing):
  """hdpo of coefficient 0 has GRPO's gradient, however many rollouts were
  carried."""
  plain, carried, _ = told(recorded_groups()[2:6], 3)
  hdpo = build.build(make_config('hdpo', **knowing, **{
      'distil.coefficient': 0.0}))
  grads, _ = gradient(hdpo, plain)
  want, _ = gradient(build.build(make_config('grpo')), plain)
  made, state = mini_batches(hdpo, [*plain, *carried])
  with_drawn = jax.device_get(hdpo.update_fn(
      state, made[0].batches, None,
      optimizer_fn=lambda state, grads, count: (grads, None))[0])
  size = float(optax.tree.norm(want))
  for of in (grads, with_drawn):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(
        a, b, atol=1e-4 * size), of, want)
  assert made[0].count == sum(len(r.tokens) for g in plain for r in g.rollouts)


def test_the_teacher_reads_the_prompt_under_which_a_rollout_was_drawn(
    hdpo_step):
  run, _, made = hdpo_step
  lessons = made.scored.lessons
  assert made.lessons.read
  for p, prompt in made.lessons.read.items():
    assert prompt.kind == PromptKind.PRIVILEGED
    assert made.lessons.groups[p].prompt.tokens == run.chat.plain(
        prompt.question.text).tokens
    for g in range(len(made.lessons.groups[p].rollouts)):
      assert lessons.prompts[p, g] is prompt
  # Their ratios are in no loss, so that a run does not stop for them.
  for of in made.minibatches:
    for b in of.batches:
      weight = np.asarray(b.targets['weight'])[np.asarray(b.mask_BT) > 0]
      on_policy = np.asarray(b.targets['on_policy'])[np.asarray(b.mask_BT) > 0]
      np.testing.assert_array_equal(on_policy, weight == 0)
  # It is asked about right carried rollouts alone.
  assert made.scored.tokens == sum(
      len(r.tokens) for p in made.lessons.read
      for r in made.lessons.groups[p].correct)


@LONG
def test_draws_are_named_and_journalled(tmp_path, knowing):
  """A second attempt takes all of them from the journal; policy and frozen
  teacher have the same weights in step 0, and draw the same."""
  fields = {**knowing, 'distil.drawn_by': 'policy',
            'teacher.own.weights': 'frozen', 'teacher.own.folder': ''}
  notes = []
  journal = RolloutJournal(tmp_path / 'rollouts', 'o', notes.append)
  _, _, first = one_step(make_config('star', **fields), journal)
  again = RolloutJournal(tmp_path / 'rollouts', 'o', notes.append)
  _, _, second = one_step(make_config('star', **fields), again)
  drawn = first.lessons.drawn.groups
  assert drawn and second.lessons.drawn.groups == drawn
  assert again.taken == sum(
      len(g.rollouts) for g in (*first.groups, *drawn))
  _, _, third = one_step(make_config('star', **{
      **fields, 'distil.drawn_by': 'teacher'}))
  tokens = lambda groups: [[r.tokens for r in g.rollouts] for g in groups]
  assert tokens(third.lessons.drawn.groups) == tokens(drawn)
  assert tokens(drawn) != tokens(first.groups[:len(drawn)])


@pytest.mark.parametrize('method, changes, words', [
    ('star', {'distil.context': 'same'}, "distil.context is 'same'"),
    ('star', {'distil.context_of': 'another'},
     "context_of is 'another'; this method draws .* allowed: 'own'"),
    ('star', {'distil.asked_of': 'sometimes'}, "distil.asked_of 'sometimes'"),
    ('star', {'distil.trained_under': 'both?'}, 'plain, context, both'),
    ('star', {'distil.drawn_by': 'teacher', 'teacher.kind': 'stored'},
     "only 'own' and 'in_process' draw"),
    ('gates', {}, "distil.context is 'document'; no row of distil.material"),
    ('pi_distill', {'distil.mix': 1.5}, 'distil.mix is 1.5'),
    ('hdpo', {'algorithm.correction.kind': 'token_mask', 'distil.top': 4},
     'sampler_logp'),
    ('sage', {'hint.source': 'teacher'}, 'allowed: reference, stored'),
    ('sage', {'hint.source': 'reference'}, 'carries a response'),
    ('sage', {'hint.source': 'reference', 'data.pool.worked': True},
     'no words that ask for one'),
    ('pope', {}, 'forces the beginning of a reference'),
    ('pope', {'algorithm.prefix_share': 1.0}, 'prefix_share is 1.0'),
])
def test_refused(method, changes, words):
  with pytest.raises((ValueError, KeyError), match=words):
    build.build(make_config(method, **changes))


def test_rows_that_draw_name_their_states():
  for name, method in methods.METHODS.items():
    assert method.draws == (name in ROWS), name


def test_a_step_in_which_nothing_is_drawn_makes_no_update(knowing):
  """hinted of questions without material: nothing to train on."""
  _, _, made = one_step(make_config('hinted', **{
      **knowing, 'distil.context': 'reference', 'distil.material': ''}))
  assert made.lessons.groups == []
  assert set(made.lessons.drawn.untold.values()) and not made.lessons.read
  assert not any(of.batches for of in made.minibatches)


@LONG
def test_a_dry_run_trains_what_was_drawn(knowing):
  """It makes the mini-batches of the step again, with the teacher's scores."""
  run, _, made = one_step(make_config('eopd', **{'teacher.kind': 'own'}))
  assert dry_run._seconds_when_all_train(run, made.state, made)[1] > 0
  run, _, made = one_step(make_config('hdpo', **knowing))
  assert dry_run._seconds_when_all_train(run, made.state, made)[1] > 0


@LONG
def test_mixtures_of_pi_distill(knowing):
  """mix 1 trains behind the context alone, mix 0 behind the question alone;
  between them gradients add."""
  plain, carried, privileged = told(recorded_groups()[2:6], 4)
  del plain
  groups = [Group(g.prompt, g.rollouts) for g in (*privileged, *carried)]
  of = {}
  for mix in (0.0, 0.25, 1.0):
    run = build.build(make_config('pi_distill', **knowing,
                                  **{'distil.mix': mix}))
    made, state = mini_batches(run, groups)
    of[mix] = jax.device_get(run.update_fn(
        state, made[0].batches, None,
        optimizer_fn=lambda state, grads, count: (grads, None))[0])
  size = float(optax.tree.norm(of[0.25]))
  jax.tree.map(lambda a, b, c: np.testing.assert_allclose(
      0.75 * a + 0.25 * b, c, atol=1e-5 * size), of[0.0], of[1.0], of[0.25])
  assert optax.tree.norm(of[0.0]) > 0 < optax.tree.norm(of[1.0])


@LONG
def test_the_ratio_of_a_carried_text_is_not_watched(knowing):
  """The second update of a step has moved the log-probs of texts that nobody
  drew behind the plain question; no loss reads their ratio."""
  run = build.build(make_config('hdpo', **{**knowing, 'algorithm.updates': 2}))
  _, carried, _ = told(recorded_groups()[2:6], 2)
  made, state = mini_batches(run, carried)
  made = minibatches.score(run, state, made)
  watched = [of._replace(batches=[b.replace(targets={
      name: x for name, x in b.targets.items() if name != 'on_policy'})
      for b in of.batches]) for of in made]
  moved = lambda batches: [float(s.total['log_ratio']) for s in step.update(
      run, run.init_state(), batches)[1]]
  assert moved(made) == [0, 0]
  assert moved(watched)[1] != 0
