"""Distillation rows in the embedded world: steps, states, scores, refusals."""

import dataclasses
import math
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.builders import documented_metrics, small_config
from tests.long import LONG, long, long_but
from tests.train.test_step import recorded_groups
from zppo_jax.algorithms import distillation, methods
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.arrays import Hidden, MicroBatch, PolicyOutput
from zppo_jax.objectives import losses
from zppo_jax.records import Verdict
from zppo_jax.teachers import Capabilities
from zppo_jax.teachers.in_process import InProcessTeacher
from zppo_jax.train import build, guards, loop, minibatches, step

pytestmark = pytest.mark.usefixtures('quick_compile')

# Rows with terms have tests of their own (test_credit_rows.py).
ROWS = sorted(name for name, m in methods.METHODS.items()
              if m.distils and not m.terms)


def make_config(method, **changes):
  c = small_config(method=method)
  c.steps = 3
  c.algorithm.update(num_new=4, rollouts=4, updates=1)
  c.update_from_flattened_dict(changes)
  return c


@pytest.fixture
def answered(monkeypatch):
  """Every question comes with a right and a wrong answer."""
  pool = build.tasks.pool

  def with_responses(*args):
    return tuple(dataclasses.replace(q, responses=(
        f'4 h {q.answer} A {q.answer}', '4 h 4 A _'))
                 for q in pool(*args))
  monkeypatch.setattr(build.tasks, 'pool', with_responses)


def gradient(run, groups):
  """(the summed gradient of one step's losses on groups, from the start; the
  mini-batches that it is of)."""
  state = run.init_state()
  scored = minibatches.score_by_teacher(
      run, state, run.reshard_fn(state.params), groups, 0)
  made, _ = minibatches.make(
      run, groups, minibatches.advantages(run, groups), 0, scored)
  parts = []
  for of in minibatches.score(run, state, made):
    parts.append(run.update_fn(
        state, of.batches, None,
        optimizer_fn=lambda state, grads, count: (grads, None))[0])
  return jax.device_get(jax.tree.map(lambda *xs: sum(xs), *parts)), made


def size_at(run, groups, noise):
  """The norm of `gradient` where noise of that relative size is added."""
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda x: x * (1 + noise * rng.standard_normal(x.shape, np.float32)),
      jax.device_get(run.init_state().params))
  state = run.init_state()
  moved = dataclasses.replace(run, init_state=lambda: state.replace(
      params=jax.tree.map(lambda new, x: jax.device_put(new, x.sharding),
                          params, state.params)))
  return optax.tree.norm(gradient(moved, groups)[0])


@pytest.mark.parametrize('name', long_but(
    ['on_distill_replay', 'opd_k2'], ROWS))
def test_every_row_trains_two_steps(name, answered):
  """States, buffer and teacher follow the table; numbers are finite, named in
  docs/metrics.md, and the weights move."""
  del answered
  method, c = methods.METHODS[name], make_config(name)
  run = build.build(c)
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
    assert row['distil/taught'] == 1 and row.get('distil/missing', 0) == 0
    own = row['distil/student_states'] == 1
    if method.states != 'mixed':
      assert own == (method.states == 'student')
    assert (row['tokens/teacher_generated'] > 0) != own
    assert row['student_rollouts'] == 4 * len(made.groups)  # drawn anyway
    if own:
      assert row['distil/lessons'] == row['student_rollouts']
    else:  # at most G_T a question, and the wrong stored answer is not kept
      assert 0 < row['distil/lessons'] <= 4 * len(made.groups)
      assert all(r.reward for g in made.lessons.groups for r in g.rollouts)
      assert step.sample_rows(run, made)[0]['teacher']
  assert (len(buffer) > 0) == method.replay
  moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), begun,
                       jax.device_get(state.params))
  assert max(jax.tree.leaves(moved)) > 0


# Why a teacher that equals the student has a gradient, or none has one.
NO_COMPARISON = {
    **dict.fromkeys(('seqkd', 'stored_nll', 'idft', 'forget_sftrl', 'essd',
                     'iterative_sft', 'star', 'hinted'), 'a likelihood'),
    **dict.fromkeys(('scope', 'stable_opd', 'npo'), 'a likelihood besides'),
    'eopd': 'its paper drops the rest',
    'veto': 'its target is sharper than the teacher',
    **dict.fromkeys(('trrd', 'rlsd', 'srpo'), 'verdicts have a gradient'),
    'ptd_as_released': 'has no gradient',
    'pi_distill': 'the student is the teacher', 'hdpo': 'draws its own states',
    'gates': 'draws its own states'}
_KEPT = {'distil.support': 'student', 'distil.top': 4}
_TOP = {'ptd_po', 'sdpo', 'opcd', 'tropd'}


def learns(name):
  """What a row learns from given rollouts and one context."""
  m = methods.METHODS[name]
  drop = lambda of: {k: v for k, v in of.items() if k != 'distil.context'}
  return repr((m.loss, m.targets, drop(m.pinned), drop(m.usual), m.credit,
               m.terms, m.reducer, m.needs, m.compares))


# Rows that differ in states, buffer or context alone are one here.
EQUAL = [(name, {'distil.top': 4} if name in _TOP else {})
         for name in {learns(name): name for name, m in methods.METHODS.items()
                      if m.distils and name not in NO_COMPARISON}.values()] + [
    ('opd_reverse', _KEPT), ('opd_forward', {**_KEPT,
                                             'distil.support': 'teacher'}),
    ('opd_jsd', {'distil.support': 'sampled', 'shapes.layout': 'packed'})]


@pytest.mark.parametrize('name, changes', long_but(
    ['ptd_po', 'uni_opd', 'sdpo'], EQUAL),
                         ids=lambda x: x if isinstance(x, str) else '')
def test_the_student_as_its_teacher_has_no_gradient(name, changes, monkeypatch):
  """Below 1e-5 of the gradient of a student that noise of a tenth
  moved away, on wrong rollouts and in the student's own context."""
  row = methods.METHODS[name]
  pinned = {k: v for k, v in row.pinned.items() if k != 'distil.context'}
  monkeypatch.setitem(methods.METHODS, name,
                      dataclasses.replace(row, pinned=pinned))
  if 'distil.context' in {**row.pinned, **row.usual}:
    changes = {**changes, 'distil.context': 'same'}
  # Where verdicts have a term it is silent; PACED has none and wants both.
  groups = [dataclasses.replace(g, rollouts=tuple(
      r if name == 'paced' else dataclasses.replace(r, verdict=Verdict.WRONG)
      for r in g.rollouts[:4])) for g in recorded_groups()[:3]]
  run = build.build(make_config(
      name, **changes, **{'teacher.weights': 'micro/student'}))
  assert size_at(run, groups, 0.0) < 1e-5 * size_at(run, groups, 0.1)


def logps_of(model, params, texts, temperature):
  """float64 [R, 36] of each response, from all logits that are no padding."""
  size = max(len(prompt) + len(response) for prompt, response in texts)
  tokens = np.zeros((len(texts), size), np.int32)
  for row, text in zip(tokens, texts, strict=True):
    row[:sum(map(len, text))] = np.concatenate(text)
  positions = np.broadcast_to(np.arange(size, dtype=np.int32), tokens.shape)
  hidden, _ = jax.jit(model.apply)(params, tokens, positions[..., None],
                                   np.ones_like(tokens))
  z = (np.float64(hidden) @ np.float64(model.head(params)))[..., :36]
  z /= temperature
  logp = z - np.logaddexp.reduce(z, axis=-1, keepdims=True)
  return [row[len(p) - 1:len(p) + len(r) - 1] for row, (p, r) in zip(
      logp, texts, strict=True)]


@pytest.fixture(scope='module')
def dense():
  """(groups, [(s, t, d) of each rollout]) at temperatures 0.9 and 1.3."""
  groups = [dataclasses.replace(g, rollouts=g.rollouts[:4])
            for g in recorded_groups()[:2]]
  texts = [(g.prompt.tokens, r.tokens) for g in groups for r in g.rollouts]
  run = build.build(make_config('opd_reverse'))
  s = logps_of(run.sampler.engine.programs.model, run.init_state().params,
               texts, 0.9)
  t = logps_of(run.teacher.answers.engine.programs.model, run.teacher.params,
               texts, 1.3)
  return groups, [
      (s, t, np.take_along_axis(t - s, np.array(r)[:, None], 1)[:, 0])
      for s, t, (_, r) in zip(s, t, texts, strict=True)]


def mixed(s, t):
  """JSD 0.5 of each position."""
  m = np.logaddexp(s, t) - np.log(2)
  return ((np.exp(s) * (s - m) + np.exp(t) * (t - m)) / 2).sum(1)


DENSE = {  # (log p_S, log p_T, d of the sampled tokens) -> a loss per token
    'opd_reverse': lambda s, t, d: (np.exp(s) * (s - t)).sum(1),
    'opd_forward': lambda s, t, d: (np.exp(t) * (t - s)).sum(1),
    'opd_jsd': lambda s, t, d: mixed(s, t),
    'opd_k2': lambda s, t, d: d**2 / 2,
    'opd_k3': lambda s, t, d: np.exp(d) - 1 - d}


@pytest.mark.parametrize('name, support', [
    ('opd_reverse', 'whole'), long('opd_reverse', 'student'),
    long('opd_forward', 'teacher'), long('opd_jsd', 'whole'),
    long('opd_k2', ''), long('opd_k3', '')])
def test_the_loss_of_a_row_from_all_logits(name, support, dense):
  """Each model has its own temperature, inside the update and in stored scores,
  for the divergence that the row names; 36 kept ids are all."""
  groups, logps = dense
  run = build.build(make_config(name, **{
      'distil.student_temperature': 0.9, 'distil.temperature': 1.3,
      **({'distil.support': support, 'distil.top': 36} if support else {})}))
  state = run.init_state()
  scored = minibatches.score_by_teacher(
      run, state, run.reshard_fn(state.params), groups, 0)
  made, _ = minibatches.make(
      run, groups, minibatches.advantages(run, groups), 0, scored)
  total = sum(float(run.update_fn(
      state, of.batches, None,
      optimizer_fn=lambda state, grads, count: (grads, None))[1].loss)
              for of in minibatches.score(run, state, made))
  assert total == pytest.approx(
      sum(DENSE[name](*of).sum() for of in logps), rel=1e-5)


@LONG
def test_grpo_and_distillation(monkeypatch):
  """Coefficient 0 is GRPO; where GRPO has nothing to learn from a group, the
  teacher still has."""
  del monkeypatch
  groups = [dataclasses.replace(g, rollouts=g.rollouts[2:6])
            for g in recorded_groups()[:5]]
  assert groups[0].trivial and not groups[4].trivial
  grpo = gradient(build.build(make_config('grpo')), groups)[0]
  none = gradient(build.build(make_config(
      'grpo_distill', **{'distil.coefficient': 0.0})), groups)[0]
  for x, y in zip(jax.tree.leaves(none), jax.tree.leaves(grpo), strict=True):
    assert np.linalg.norm(x - y) <= 1e-5 * np.linalg.norm(y)
  # Without advantages it is distillation alone.
  both, alone = (gradient(build.build(make_config(name)), groups[:1])[0]
                 for name in ('grpo_distill', 'on_distill'))
  assert optax.tree.norm(alone) > 0.1
  for x, y in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
    assert np.linalg.norm(x - y) <= 1e-5 * np.linalg.norm(y)
  made, _ = minibatches.make(
      build.build(make_config('grpo')), groups[:1], np.zeros((1, 4)), 0)
  assert not made[0].batches


@LONG
def test_one_pass_of_the_teacher_per_rollout_batch(monkeypatch):
  """Two updates, kept ids: all rollouts are scored once, in one call; with the
  whole vocabulary nothing is stored."""
  calls, score = [], InProcessTeacher.score

  def counted(self, sequences, *args, **kwargs):
    calls.append(len(sequences))
    return score(self, sequences, *args, **kwargs)
  monkeypatch.setattr(InProcessTeacher, 'score', counted)
  for support, want in (('student', [16]), ('whole', [])):
    calls.clear()
    run = build.build(make_config('opd_jsd', **{
        'distil.support': support, 'distil.top': 4, 'algorithm.updates': 2}))
    made = step.train_step(
        run, run.init_state(), ReplayBuffer(run.buffer_capacity), 0)
    assert calls == want and len(made.sums) == 2


@LONG
def test_missing_scores_are_masked_counted_and_stop_a_run(monkeypatch,
                                                          tmp_path):
  """One rollout of 16 without a score: its tokens are not taught, and the run
  stops where that is more than it accepts, once the step is saved."""
  score = InProcessTeacher.score

  def torn(self, sequences, *args, **kwargs):
    scores = score(self, sequences, *args, **kwargs)
    return dataclasses.replace(scores, logps=(None, *scores.logps[1:]))
  monkeypatch.setattr(InProcessTeacher, 'score', torn)
  c = make_config('opd_k2', **{'distil.max_missing': 0.0})
  run = build.build(c)
  made = step.train_step(
      run, run.init_state(), ReplayBuffer(run.buffer_capacity), 0)
  row = step.metrics_row(run, made)
  tokens = [len(r.tokens) for g in made.groups for r in g.rollouts]
  assert row['distil/missing'] == pytest.approx(tokens[0] / sum(tokens))
  assert row['distil/taught'] == pytest.approx(1 - tokens[0] / sum(tokens))
  with pytest.raises(guards.TeacherFailed, match='distil/missing is .*'
                     'distil.max_missing = 0'):
    loop.main(c, tmp_path / 'run')
  assert len((tmp_path / 'run/metrics.jsonl').read_text().splitlines()) == 1


SERVER = Capabilities(max_compression_prompt=9, scores=True, pictures=False,
                      clips=False, repeatable=False, top=20)


@pytest.mark.parametrize('method, changes, words', [
    ('on_distill', {}, ('hidden states', 'in_process')),
    ('opd_jsd', {'distil.support': 'student'}, ('any given ids', 'at most 20')),
    ('opd_jsd', {'distil.support': 'teacher', 'distil.top': 21},
     ('the 21 likeliest tokens', 'at most 20')),
    ('opd_k2', {'distil.temperature': 0.5}, ('temperature 0.5',)),
    ('opd_jsd', {'distil.support': 'teacher', 'distil.top': 20}, None),
    ('opd_k2', {}, None)], ids=lambda x: '')
def test_what_a_server_cannot_deliver_is_refused_at_build(
    method, changes, words):
  """A server that returns 20 likeliest ids and log-probs of given tokens."""
  c = make_config(method, **{'teacher.kind': 'endpoint', **changes})
  make = lambda: build.build(c, outside=build.Outside(teachers={
      'endpoint': lambda context: types.SimpleNamespace(
          capabilities=SERVER, media=None)}))
  if words is None:
    assert make().stored_need
    return
  with pytest.raises(ValueError) as e:
    make()
  for text in (repr(method), "teacher.kind is 'endpoint'", *words):
    assert text in str(e.value)


@pytest.mark.parametrize('method, changes, words', [
    ('opd_k1', {}, ("'opd_k1'", 'zero mean', 'opd_log_ratio')),
    ('off_distill', {'algorithm.updates': 2},
     ('algorithm.updates is 2', "'off_distill' has 1")),
    ('on_distill', {'distil.divergence': 'reverse'},
     ("distil.divergence is 'reverse'", "'jensen_shannon'")),
    ('opd_reverse', {'distil.divergence': 'forward'},
     ("distil.divergence is 'forward'", "'reverse'")),
    ('opd_jsd', {'distil.beta': 1.0}, ('distil.beta is 1.0', 'reverse_kl')),
    ('opd_jsd', {'distil.temperature': 0.0}, ('distil.temperature is 0.0',)),
    ('opd_jsd', {'distil.top': -1}, ('distil.top is -1', '>= 1')),
    ('opd_jsd', {'distil.top': 41, 'distil.support': 'student'},
     ('distil.top is 41', '36 ids')),
    ('opd_jsd', {'distil.top': 41, 'distil.support': 'teacher'},
     ('the 41 likeliest tokens', 'at most 36')),
    ('opd_jsd', {'distil.coefficient': -1.0}, ('distil.coefficient is -1.0',)),
    ('opd_jsd', {'distil.max_missing': 2.0}, ('distil.max_missing is 2.0',)),
    ('gkd', {'distil.student_share': 1.5}, ('distil.student_share is 1.5',)),
    ('stored_nll', {}, ("'stored_nll'", 'no question of data.pool')),
    ('gkd', {'distil.other_states': 'stored'}, ("'gkd'", 'no question of')),
    ('on_distill', {'teacher.kind': 'stored'},
     ("'on_distill'", 'hidden states', "teacher.kind is 'stored'",
      "'in_process'")),
    ('opd_k2', {'teacher.kind': 'stored'},
     ("'opd_k2'", 'log-probs of given tokens', "'stored'", "'in_process'")),
    ('opd_jsd', {'teacher.kind': 'stored', 'distil.support': 'student'},
     ("distil.support is 'student'", 'any given ids', 'in_process')),
    ('off_distill', {'algorithm.teacher_max_tokens': 17},
     ('shapes.row_buckets end at 200', '201')),
    ('opd_k2', {'algorithm.correction.kind': 'token_mask'},
     ("'opd_k2'", "reads the target 'old_logp'")),
], ids=lambda x: '_'.join(x) if isinstance(x, dict) else '')
def test_bad_values_are_refused(method, changes, words):
  with pytest.raises(ValueError) as e:
    build.build(make_config(method, **changes))
  assert all(word in str(e.value) for word in words), str(e.value)


@pytest.mark.parametrize('field, name, known', [
    ('divergence', 'kl', 'reverse, forward, jensen_shannon'),
    ('support', 'both', 'whole, student, teacher, sampled'),
    ('rest', 'none', 'bucket, renormalised, dropped'),
    ('reducer', 'mean', 'token_mean, per_rollout, taught_tokens'),
    ('keep', 'best', 'correct, all'),
    ('other_states', 'student', 'teacher, stored'),
    ('coefficient_schedule', 'exponential', 'constant, linear, cosine, steps'),
])
def test_unknown_names_list_the_known(field, name, known):
  with pytest.raises(KeyError, match=name) as e:
    build.build(make_config('gkd', **{f'distil.{field}': name}))
  assert known in str(e.value)


@LONG
def test_the_coefficient_falls_with_the_optimizer_steps():
  """Three steps of two updates: 6/6, 5/6, ... of 1; the metric is their mean
  over taught tokens."""
  c = make_config('opd_k2', **{
      'distil.coefficient_schedule': 'linear', 'algorithm.updates': 2})
  run = build.build(c)
  state, buffer = run.init_state(), ReplayBuffer(run.buffer_capacity)
  for i in range(3):
    made = step.train_step(run, state, buffer, i)
    state = made.state
    for j, sums in enumerate(made.sums):
      np.testing.assert_allclose(
          sums.total['distil/coefficient'] / sums.total['distil/taught'],
          1 - (2 * i + j) / 6, rtol=1e-6)


@LONG
def test_the_teachers_temperature_moves_with_the_optimizer_steps():
  """From .5 to 1 in two updates: value and gradient at each are those of a
  teacher of the temperature of that time."""
  rng = np.random.default_rng(0)
  normal = lambda *shape: np.float32(rng.standard_normal(shape))
  one = np.ones((2, 5), np.float32)
  batch = MicroBatch(
      tokens_BT=rng.integers(0, 11, (2, 5)), positions_BTA=np.zeros((2, 5, 1)),
      segment_BT=np.int32(one), mask_BT=one, targets={}, prompts=None)
  head, teacher = normal(6, 11), Hidden(hidden_BTD=normal(2, 5, 6),
                                        head_DV=normal(6, 11))
  changes = {'distil.temperature_schedule': 'linear:0.5:1:2'}
  make = lambda **more: distillation.make_divergence(losses.LossContext(
      algorithm=small_config().algorithm, vocab=11, chunk=3,
      distil=distillation.settings(
          'opd_jsd', {}, make_config('opd_jsd', **more))))
  moving = make(**changes)

  def total(hidden, loss, done):
    return loss(PolicyOutput(
        logp_BT=one, entropy_BT=one, hidden_BTD=hidden, head_DV=head,
        frozen={'teacher': teacher}, done=done), batch)[0].sum()

  hidden, values = normal(2, 5, 6), []
  of = jax.jit(jax.value_and_grad(total), static_argnums=1)
  for done, temperature in ((0, .5), (1, .75), (9, 1.)):
    got = of(hidden, moving, jnp.int32(done))
    want = of(hidden, make(**{'distil.temperature': temperature}), None)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5,
                                                         atol=1e-6), got, want)
    values.append(float(got[0]))
  assert len(set(values)) == 3
  assert build.build(make_config('opd_jsd', **changes)).distil.moves
  for more, words in (
      ({'distil.support': 'student'}, "distil.support is 'student'; allowed"),
      ({'distil.temperature_schedule': 'linear:0:1'}, 'must be > 0'),
      ({'distil.temperature_schedule': '0.5'}, 'must be a number, or one')):
    with pytest.raises(ValueError, match=words):
      build.build(make_config('opd_jsd', **{**changes, **more}))


def _moving_batch(rng, vocab, width):
  """A batch with stored scores on three ids, hidden states and heads."""
  normal = lambda *shape: np.float32(rng.standard_normal(shape))
  one = np.ones((2, 5), np.float32)
  ids = np.stack([np.stack([rng.permutation(vocab)[:3] for _ in range(5)])
                  for _ in range(2)])
  batch = MicroBatch(
      tokens_BT=rng.integers(0, vocab, (2, 5)),
      positions_BTA=np.zeros((2, 5, 1)), segment_BT=np.int32(one), mask_BT=one,
      targets={'kept_ids': np.int32(ids), 'old_logp': -one, 'advantage': one,
               'taught': one,
               'kept_logps': np.float32(np.log([.5, .2, .1])) + 0 * ids},
      prompts=None)
  head = normal(width, vocab)
  return batch, normal(2, 5, width), lambda hidden, done: PolicyOutput(
      logp_BT=-one, entropy_BT=one, hidden_BTD=hidden, head_DV=head,
      frozen={'teacher': Hidden(hidden_BTD=normal(2, 5, width),
                                head_DV=normal(width, vocab))}, done=done)


@pytest.mark.parametrize('method, field, support', [
    long('opd_jsd', 'beta', 'whole'), ('opd_jsd', 'beta', 'student'),
    ('pi_distill', 'mix', 'student')])
def test_numbers_move_with_the_optimizer_steps(method, field, support):
  """From .2 to .6 in two updates: value and gradient at each are those of the
  constant of that time."""
  make = lambda **more: methods.METHODS[method].loss(losses.LossContext(
      algorithm=small_config().algorithm, vocab=11, chunk=3,
      distil=distillation.settings(method, {}, make_config(
          method, **{'distil.support': support, 'distil.divergence':
                     'jensen_shannon', **more}))))
  moving = make(**{f'distil.{field}_schedule': 'linear:0.2:0.6:2'})

  def total(hidden, loss, done):
    batch, _, output = _moving_batch(np.random.default_rng(0), 11, 6)
    return loss(output(hidden, done), batch)[0].sum()

  _, hidden, _ = _moving_batch(np.random.default_rng(0), 11, 6)
  of = jax.jit(jax.value_and_grad(total), static_argnums=1)
  values = []
  for done, number in ((0, .2), (1, .4), (9, .6)):
    got = of(hidden, moving, jnp.int32(done))
    want = of(hidden, make(**{f'distil.{field}': number}), None)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5,
                                                         atol=1e-6), got, want)
    values.append(float(got[0]))
  assert len(set(values)) == 3


@pytest.mark.parametrize('method, changes, words', [
    ('opd_jsd', {'distil.beta_schedule': 'linear:0:0.5'},
     'distil.beta_schedule is 0.0; it must be in (0, 1)'),
    ('opd_reverse', {'distil.beta_schedule': 'linear:0.2:0.5'},
     "distil.divergence is 'reverse'; allowed: 'jensen_shannon'"),
    ('gkd', {'distil.student_share_schedule': 'linear:0:1.5'},
     'distil.student_share_schedule is 1.5; it must be in [0, 1]'),
    ('gkd', {'distil.student_share_schedule': '0.5'}, 'must be a number, or'),
    ('opd_jsd', {'distil.mix_schedule': 'linear:0:2'},
     'distil.mix_schedule is 2.0'),
    ('grpo', {'algorithm.prefix_share_schedule': 'linear:0.5:1'},
     'algorithm.prefix_share_schedule is 1.0; it must be in (0, 1)')])
def test_bad_schedules_are_refused(method, changes, words):
  with pytest.raises(ValueError, match=re.escape(words)):
    build.build(make_config(method, **changes))


def test_the_update_knows_which_numbers_move():
  for field, moves in (('beta', True), ('mix', True), ('student_share', False)):
    c = make_config('opd_jsd', **{
        f'distil.{field}_schedule': 'linear:0.2:0.6'})
    assert distillation.settings('opd_jsd', {}, c).moves == moves, field


def test_settings_are_the_rows_where_the_section_is_open():
  c = make_config('opd_forward')
  made = distillation.settings(
      'opd_forward', methods.METHODS['opd_forward'].pinned, c)
  assert made.divergence.kind == 'forward' and made.support == 'whole'
  assert made.reducer == 'token_mean' and not made.coefficient.moves
  assert jnp.asarray(made.coefficient(None)) == 1
