"""Targets of two terms: who is trained, and who is held by a penalty."""

import numpy as np

from tests.builders import group, small_config
from zppo_jax.algorithms.credit import settings, targets
from zppo_jax.algorithms.reference import Penalty
from zppo_jax.algorithms.targets import REFERENCE_WEIGHT, TargetContext


def test_a_rollout_that_nobody_trains_is_left_out_unless_the_penalty_holds_it():
  """One right of three, whose wrong ones are taught, and a group of two right
  ones; no advantage. With 'not taught' the first group's right rollout has
  nothing to be trained for."""
  c = small_config()
  credit = settings.of_section(c.credit, {'route': 'wrong'}, 10,
                               terms=('policy', 'divergence'))
  groups = [group('a', right=1, size=3), group('b', right=2, size=2)]
  context = TargetContext(groups=groups, step=0, seed=0, score=None,
                          advantages=np.zeros((2, 3), np.float32))
  of = lambda **held: targets.two_terms(context, credit=credit, **held)
  wrong = {(0, g) for g, r in enumerate(groups[0].rollouts) if not r.reward}
  assert len(wrong) == 2 and set(of()) == wrong
  every = {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)}
  assert set(of(all_graded=True)) == every
  made = of(anchored=Penalty('k2', 0.5, 'not taught').held)
  assert set(made) == wrong | {(1, 0), (1, 1)}
  for (p, _), x in made.items():
    assert np.all(x[REFERENCE_WEIGHT] == p)
    assert np.all(x['weight'] == 1 - p)
  assert not any(REFERENCE_WEIGHT in x for x in of(all_graded=True).values())
