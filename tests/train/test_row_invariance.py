"""Rows with terms beside a dense rewriting, and what must not change them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.builders import small_config
from tests.long import LONG
from tests.processes import as_processes
from tests.train.test_credit_rows import make_config
from tests.train.test_distillation import gradient
from tests.train.test_step import recorded_groups
from zppo_jax.algorithms import methods
from zppo_jax.algorithms.credit import settings, targets
from zppo_jax.algorithms.privileged.contexts import Material, lesson, lessons
from zppo_jax.algorithms.targets import TargetContext
from zppo_jax.chat import segments
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.records import Group, Verdict
from zppo_jax.tasks import micro
from zppo_jax.train import build

pytestmark = pytest.mark.usefixtures('quick_compile')
K = 8
PTD = {'teacher.kind': 'own', 'distil.top': K, 'data.pool.hints': True,
       'distil.coefficient': 1.0}


def hinted(groups, wrong=False):
  """Groups of questions with a hint; all rollouts wrong if `wrong`."""
  out = []
  for of in groups:
    question = of.prompt.question
    told = dataclasses.replace(question, hint=micro.first_step(question))
    out.append(Group(
        dataclasses.replace(of.prompt, question=told), tuple(
            dataclasses.replace(r, verdict=Verdict.WRONG) if wrong else r
            for r in of.rollouts)))
  return out


def buckets(logps_RV, ids_RK):
  """Probabilities of the ids and of all others, float64 [R, K + 1]."""
  kept = np.take_along_axis(np.exp(np.float64(logps_RV)), ids_RK, axis=-1)
  return np.concatenate([kept, 1 - kept.sum(axis=-1, keepdims=True)], axis=-1)


def logit_gradient(s_RV, t_RV):
  """The gradient of JSD (beta 1/2) on S's K likeliest ids and a bucket, with
  respect to S's logits, in numpy: p_v (g(v) - sum_u p_u g(u)), where g of a
  token is 1/2 log(S / M) of the bucket that it lies in."""
  ids = np.argsort(-s_RV, axis=-1, kind='stable')[:, :K]
  S, T = buckets(s_RV, ids), buckets(t_RV, ids)
  of_bucket = np.log(S / ((S + T) / 2)) / 2
  g = np.repeat(of_bucket[:, -1:], s_RV.shape[1], axis=1)
  np.put_along_axis(g, ids, of_bucket[:, :K], axis=-1)
  p = np.exp(np.float64(s_RV))
  return p * (g - (p * g).sum(axis=-1, keepdims=True))


@LONG
def test_ptd_po_moves_an_all_wrong_group_as_a_dense_rewriting_says():
  """The gradient of every parameter: a whole forward pass, whole softmaxes and
  formulas in numpy. As released it is 0."""
  groups = hinted(recorded_groups()[2:5], wrong=True)
  run = build.build(make_config('ptd_po', **PTD))
  found, _ = gradient(run, groups)
  params, model = run.init_state().params, run.sampler.engine.programs.model
  vocab = segments.true_vocabulary(run.sampler.chat.codec)

  @jax.jit
  def logps(params, tokens_NT):
    places = jnp.broadcast_to(jnp.arange(tokens_NT.shape[1])[:, None],
                              (*tokens_NT.shape, model.num_axes))
    hidden, _ = model.apply(params, tokens_NT, places,
                            jnp.int32(tokens_NT >= 0))
    return jax.nn.log_softmax((hidden @ model.head(params))[..., :vocab])

  rollouts = [(g, r) for g in groups for r in g.rollouts]
  read = [lesson('hint', g, r, Material(), run.sampler.chat, 99).tokens
          for g, r in rollouts]
  asked = [g.prompt.tokens for g, _ in rollouts]
  def padded(prompts):
    out = np.full((len(rollouts), 40), -1)
    for row, prompt, (_, r) in zip(out, prompts, rollouts, strict=True):
      row[:len(prompt) + len(r.tokens)] = [*prompt, *r.tokens]
    return out

  teacher = np.asarray(logps(params, padded(read)))
  student, pull = jax.vjp(lambda p: logps(p, padded(asked)), params)
  slopes = np.zeros(student.shape)
  for n, (_, r) in enumerate(rollouts):
    behind = lambda prompts, n=n, r=r: slice(
        len(prompts[n]) - 1, len(prompts[n]) - 1 + len(r.tokens))
    slopes[n, behind(asked)] = logit_gradient(
        np.asarray(student)[n, behind(asked)], teacher[n, behind(read)])
  # What log_softmax pulls back from slopes whose sum is 0 is themselves.
  want, = pull(jnp.float32(slopes))
  norm = float(optax.tree.norm(want))
  dot = float(optax.tree.vdot(want, found))
  assert dot > 0.9 * norm * float(optax.tree.norm(found)) > 0
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, atol=1e-4 * norm), found, want)
  released, _ = gradient(
      build.build(make_config('ptd_as_released', **PTD)), groups)
  assert float(optax.tree.norm(released)) == 0


def unchanged_by_form(of, micro_tokens):
  """(the gradient of `of()`, its norm), which a packed layout on a mesh and
  more micro-batches of a padded one do not change."""
  want, whole = of()
  scale = float(optax.tree.norm(want))
  for changes in ({'shapes.layout': 'packed', 'mesh.data': 2, 'mesh.fsdp': 2,
                   'mesh.tensor': 2},
                  {'shapes.layout': 'padded',
                   'shapes.micro_tokens': micro_tokens}):
    got, made = of(**changes)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(
        a, b, atol=1e-6 * scale), got, want)
  assert len(made[0].batches) > len(whole[0].batches)
  return want, scale


@LONG
@pytest.mark.parametrize('method, more', [
    ('ptd_po', PTD), ('scope', {}), ('uni_opd', {
        'credit.policy_weights': 'entropy_top(0.3) * bounded(10)'})])
def test_layout_mesh_and_micro_batches_change_nothing(method, more):
  """Signals, margins, weights and kept ids are those of the mini-batch."""
  groups = hinted(recorded_groups())
  of = lambda **changes: gradient(
      build.build(make_config(method, **more, **changes)), groups)
  unchanged_by_form(of, micro_tokens=200)


# The whole vocabulary, a context, and an average of the policy that reads it.
AVERAGED = {'teacher.kind': 'own', 'teacher.own.weights': 'ema',
            'distil.context': 'hint', 'data.pool.hints': True}


def behind(run):
  """The run, whose state begins with an average that lags the policy."""
  def init_state():
    state = run.init_state()
    return state.replace(own=jax.tree.map(lambda x: 0.9 * x, state.own))
  return dataclasses.replace(run, init_state=init_state)


@LONG
def test_forms_of_a_context_row_with_an_average_change_nothing():
  groups = hinted(recorded_groups()[1:5])
  of = lambda **changes: gradient(behind(build.build(make_config(
      'opd_jsd', **AVERAGED, **changes))), groups)
  want, scale = unchanged_by_form(of, micro_tokens=400)
  # The average is read: that of the policy's own weights is another gradient.
  same, _ = gradient(build.build(make_config('opd_jsd', **AVERAGED)), groups)
  gap = jax.tree.map(lambda a, b: a - b, same, want)
  assert float(optax.tree.norm(gap)) > 1e-2 * scale


@LONG
def test_every_process_has_the_same_gradient():
  """A row of kept ids, whose teacher reads drawn siblings: each of two
  processes scores, draws and differentiates as one does alone."""
  groups = [dataclasses.replace(of, rollouts=tuple(
      dataclasses.replace(r, text=f'4 h {g}')
      for g, r in enumerate(of.rollouts[:4]))) for of in recorded_groups()[2:5]]
  run = build.build(make_config('sdpo', **{
      'teacher.kind': 'own', 'teacher.own.weights': 'frozen', 'distil.top': K}))
  alone, _ = gradient(run, groups)
  assert float(optax.tree.norm(alone)) > 0
  for got in as_processes(2, lambda _: gradient(run, groups)[0]):
    jax.tree.map(np.testing.assert_array_equal, got, alone)


def test_every_process_decides_alike():
  """Siblings that are drawn, balance, margins and weights: two processes hold
  the same numbers as one."""
  groups = hinted(recorded_groups())
  groups = [dataclasses.replace(of, rollouts=tuple(
      dataclasses.replace(r, text=f'4 h {g}')
      for g, r in enumerate(of.rollouts))) for of in groups]
  rng = np.random.default_rng(0)
  scored = {(p, g): {name: -rng.exponential(size=len(r.tokens))
                     for name in ('own_logp', 'teacher_logp')}
            for p, of in enumerate(groups) for g, r in enumerate(of.rollouts)}
  row = methods.METHODS['uni_opd']
  credit = settings.of_section(small_config().credit, row.credit, 10,
                               terms=row.terms)
  context = TargetContext(
      groups=groups, advantages=np.zeros((len(groups), 8), np.float32),
      step=3, seed=1, score=None, scored=scored)

  def decided(_):
    made = targets.two_terms(context, credit=credit)
    read = lessons('sibling', groups, Material(seed=1, step=3), CHAT, 99)
    return ({place: of['advantage'].tolist() for place, of in made.items()},
            {place: of.tokens for place, of in read.prompts.items()})

  alone = decided(0)
  assert 0 < len(alone[0]) < len(scored)  # balance left some out
  assert as_processes(2, decided) == [alone, alone]
