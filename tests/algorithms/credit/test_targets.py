"""Targets of two terms: who is trained, and who is held by a penalty."""

import dataclasses

import numpy as np

from tests.builders import group, question, small_config
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


def test_each_source_has_its_own_balance():
  """Six right and two wrong: 1:1 keeps two right ones, 2:1 four, and a source
  of the other questions keeps all six at 3:1."""
  c = small_config()
  credit = settings.of_section(
      c.credit, {'signal': 'none', 'balance': 'maths=1, code=2, *=3'}, 10,
      terms=('policy',))
  names = ('maths', 'code', 'verse')
  groups = [group(dataclasses.replace(question(name), source=name), right=6)
            for name in names]
  made = targets.two_terms(TargetContext(
      groups=groups, step=0, seed=0, score=None,
      advantages=np.ones((3, 8), np.float32)), credit=credit)
  kept = {name: [groups[p].rollouts[g].reward for q, g in made if q == p]
          for p, name in enumerate(names)}
  right = {name: sum(rewards) for name, rewards in kept.items()}
  assert right == {'maths': 2, 'code': 4, 'verse': 6}
  assert all(len(rewards) - right[name] == 2 for name, rewards in kept.items())
