"""A teacher that sees the pictures of the questions."""

import dataclasses

import numpy as np
import pytest

from tests.test_configs import load
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.records import Group, Verdict
from zppo_jax.train import build, minibatches, step

pytest.importorskip('sklearn')
pytestmark = pytest.mark.usefixtures('quick_compile')


def test_uni_opd_on_pictures_lifts_the_right_ones():
  """The teacher sees the pictures of the questions, too. The margin of the
  published recipe for them: at least 0, worst right against best wrong. Here
  the verdicts are swapped, so that the teacher is sure and wrong."""
  c = load('micro_pictures.py')
  c.method, c.steps, c.data.pool.hard_share = 'uni_opd', 2, 0.5
  c.algorithm.update(num_new=8, updates=1, temperature=1.5)
  c.credit.update(margin='lift(0)', margin_kind='extreme', balance='none')
  c.eval.update(every=0, size=8)
  run = build.build(c)
  made = step.train_step(run, run.init_state(),
                         ReplayBuffer(run.buffer_capacity), 0)
  row = step.metrics_row(run, made)
  assert all(g.prompt.media is not None for g in made.groups)
  assert row['distil/missing'] == 0 and row['update/grad_norm'] > 0
  swapped = {Verdict.CORRECT: Verdict.WRONG, Verdict.WRONG: Verdict.CORRECT}
  groups = [Group(g.prompt, tuple(dataclasses.replace(
      r, verdict=swapped.get(r.verdict, r.verdict)) for r in g.rollouts))
      for g in made.groups]
  targets = run.method.targets(minibatches.TargetContext(
      groups=groups, advantages=np.zeros((8, 8)), step=0, seed=c.seed,
      score=None, scored=made.scored.targets))
  lifts = []
  for p, group in enumerate(groups):
    of = [made.scored.targets[p, g] for g in range(8)]
    d = [np.float64(x['teacher_logp']) - x['own_logp'] for x in of]
    right = np.array([r.verdict == Verdict.CORRECT for r in group.rollouts])
    graded = np.array([r.graded for r in group.rollouts])
    means = np.array([x.mean() for x in d])
    lifts.append(0.0)
    if right.any() and (graded & ~right).any():
      lifts[-1] = max(0.0, means[graded & ~right].max() - means[right].min())
    for g in range(8):
      if (p, g) in targets:
        np.testing.assert_allclose(
            targets[p, g]['advantage'],
            (d[g] + lifts[-1] * right[g]) * (np.abs(d[g]) < 10), rtol=1e-5,
            atol=1e-6)
  assert max(lifts) > 0.1
