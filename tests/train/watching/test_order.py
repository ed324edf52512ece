"""What a teacher inside the update thinks of right and wrong rollouts."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.long import long
from tests.train.test_distillation import make_config
from tests.train.test_step import recorded_groups
from zppo_jax.algorithms.credit import scores as teacher_scores
from zppo_jax.learner import scoring
from zppo_jax.objectives.credit import margins
from zppo_jax.records import TokenSequence
from zppo_jax.runs import diagnostics, metrics
from zppo_jax.train import build, minibatches, teachers

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.mark.parametrize('layout', [long('shared'), 'packed'])
def test_the_order_is_that_of_separate_scores(layout):
  """Sums of d by rollout, against a pass of each model alone."""
  c = make_config('opd_reverse', **{'shapes.layout': layout})
  run = build.build(c)
  groups = [dataclasses.replace(of, rollouts=of.rollouts[:4])
            for of in recorded_groups()[1:5]]
  state = run.init_state()
  made, _ = minibatches.make(run, groups, None, 0)
  sums = jax.device_get(run.update_fn(
      state, made[0].batches, 1.,
      optimizer_fn=lambda state, grads, count: (state, None))[1])
  # Mini-batches are drawn, so that the order of groups is another one.
  found = metrics.of_order([made[0].returned], [sums])

  sequences = [TokenSequence(prompt=g.prompt.tokens, response=r.tokens)
               for g in groups for r in g.rollouts]
  own = teachers.compile_scores(
      c, run.sampler.engine.programs.model, run.mesh, run.teacher.vocab,
      scoring.Form(temperature=run.distil.student_temperature))(
          run.reshard_fn(state.params), sequences).logps
  theirs = run.teacher.score(
      sequences, teacher_scores.wanted(run.distil, 'teacher_scores')).logps
  returns = np.array([margins.returns(t - s) for s, t in zip(
      own, theirs, strict=True)]).reshape(len(groups), 4)
  right = [np.array([r.reward == 1 for r in g.rollouts]) for g in groups]
  pairs = list(zip(returns, right, strict=True))
  assert found['distil/order_consistency'] == diagnostics.order_consistency(
      pairs)
  assert found['distil/margin'] == pytest.approx(np.mean([
      x for pair in pairs if (x := margins.margin(*pair)) is not None]),
      abs=1e-4)
  told = sums.total['distil/rollouts']
  assert np.count_nonzero(told) == 16 <= len(told)
