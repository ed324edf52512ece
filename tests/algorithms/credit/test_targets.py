"""Targets of two terms: who is trained, and who is held by a penalty."""

import dataclasses

import numpy as np
import pytest

from tests.builders import group, question, rollout, small_config
from zppo_jax.algorithms.credit import settings, targets
from zppo_jax.algorithms.reference import Penalty
from zppo_jax.algorithms.targets import REFERENCE_WEIGHT, TargetContext
from zppo_jax.objectives.credit import margins
from zppo_jax.randomness import Purpose, question_rng
from zppo_jax.records import Group, PromptKind, Verdict


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


# d of each token of a rollout, nats.
D = np.array([-.10, -.30, .20, -.05, .15, -.25, .05, .30])


def many(count=30):
  """Groups of three right of eight, each with an ungraded ninth rollout."""
  groups = [group(f'q{i}', right=3) for i in range(count)]
  return [Group(of.prompt, (*of.rollouts, rollout(verdict=Verdict.TIMEOUT)))
          for of in groups]


def numbers(groups, d_G=(*D, 9.0), seed=0, step=0, verdict=1.0, **fields):
  """The number that multiplies log p of each rollout, by question and place;
  absent, if it is not trained. Each rollout has the same d in all groups."""
  credit = settings.of_section(small_config().credit, {
      'signal': 'log_ratio', **fields}, 10, terms=('policy',))
  scored = {(p, g): {'own_logp': np.full(len(r.tokens), -1.0),
                     'teacher_logp': np.full(len(r.tokens), d_G[g] - 1.0)}
            for p, of in enumerate(groups) for g, r in enumerate(of.rollouts)}
  made = targets.two_terms(TargetContext(
      groups=groups, step=step, seed=seed, score=None, scored=scored,
      advantages=np.full((len(groups), 9), verdict, np.float32)),
      credit=credit)
  for of in made.values():
    assert np.all(of['advantage'] == of['advantage'][0])
  return {(groups[p].prompt.question.id, g): float(of['advantage'][0])
          for (p, g), of in made.items()}


def dealt(of, seed=0, step=0):
  """The verdicts that the margin of a group reads."""
  right = [r.reward == 1 for r in of.rollouts if r.graded]
  return margins.permuted(right, question_rng(
      seed, step, Purpose.MARGIN, of.prompt.question.id, PromptKind.PLAIN))


def test_verdicts_of_their_own_are_the_default_to_the_byte():
  groups = many(3)
  for margin in ('spread(0.4)', 'lift(0.4)', 'down(0.4)', 'mask(0.1)'):
    assert numbers(groups, margin=margin) == numbers(
        groups, margin=margin, margin_verdicts='own')
  own = numbers(groups, margin='spread(0.4)', margin_verdicts='own')
  right = np.arange(8) < 3
  assert margins.margin(D, right) == pytest.approx(-.20 / 3 - .20 / 5)
  # 0.4 + 0.32 / 3 are lacking, and each class moves by half of it.
  want = D + np.where(right, 1, -1) * (.4 + .32 / 3) / 2
  np.testing.assert_allclose(
      [own['q1', g] for g in range(8)], want, rtol=1e-6)
  assert own['q1', 8] == 9  # no verdict, no class


@pytest.mark.parametrize('margin, up, down', [
    ('spread(0.4)', .2, -.2), ('lift(0.4)', .4, 0), ('down(0.4)', 0, -.4)])
def test_permuted_verdicts_move_as_many_whichever_they_are(margin, up, down):
  """All d are 1, so that 0.4 is lacking whoever counts as right: three of the
  eight graded ones go up, five go down, and the ungraded one stays."""
  groups = many()
  made = numbers(groups, [1.0] * 9, margin=margin, margin_verdicts='permuted')
  raised = []
  for of in groups:
    name = of.prompt.question.id
    shift = np.array([made[name, g] for g in range(9)]) - 1
    assert shift[8] == 0
    lifted = np.isclose(shift[:8], up, atol=1e-6)
    assert lifted.sum() == 3
    np.testing.assert_allclose(shift[:8][~lifted], down, atol=1e-6)
    assert lifted.tolist() == dealt(of).tolist()
    raised.append(lifted)
  # Right and wrong ones are raised alike: each of the eight at times.
  assert np.any(raised, axis=0).all() and not np.all(raised, axis=0).any()


def test_a_mask_reads_permuted_verdicts():
  groups = many()
  made = numbers(groups, margin='mask(0.3)', margin_verdicts='permuted')
  own = numbers(groups, margin='mask(0.3)')
  for of in groups:
    name = of.prompt.question.id
    kept = margins.mask(D, dealt(of), delta=.3).kept_G
    assert [(name, g) in made for g in range(9)] == [*kept, True]
  assert made.keys() != own.keys()


def test_permuted_verdicts_are_the_margins_alone():
  """Advantage and balance keep the true ones: what `add` adds to is the same,
  and so are the rollouts that the balance leaves out."""
  groups, fields = many(), {'margin': 'spread(0.4)', 'balance': '1'}
  own = numbers(groups, **fields)
  permuted = numbers(groups, margin_verdicts='permuted', **fields)
  assert own.keys() == permuted.keys() and own != permuted
  right = [name for name, g in own if g < 3]
  wrong = [name for name, g in own if 3 <= g < 8]
  assert sorted(right) == sorted(wrong) == sorted(
      of.prompt.question.id for of in groups for _ in range(3))
  added = numbers(groups, verdict=2.0, combine='add',
                  margin_verdicts='permuted', **fields)
  np.testing.assert_allclose([added[x] - 2 for x in permuted],
                             [*permuted.values()], atol=1e-6)


@pytest.mark.parametrize('fields', [
    {'margin': 'spread(0.4)', 'margin_verdicts': 'permuted'},
    {'balance': 'random(1)'}])
def test_controls_draw_by_name(fields):
  """Seed, step and question decide, and neither the order of the groups nor
  which others are there."""
  groups = many(8)
  made = numbers(groups, seed=3, step=5, **fields)
  assert numbers(groups, seed=3, step=5, **fields) == made
  assert numbers(groups[::-1], seed=3, step=5, **fields) == made
  alone = numbers(groups[4:5], seed=3, step=5, **fields)
  assert alone == {x: made[x] for x in made if x[0] == 'q4'}
  assert numbers(groups, seed=4, step=5, **fields) != made
  assert numbers(groups, seed=3, step=6, **fields) != made
  by_name = {tuple((g, made.get((f'q{i}', g))) for g in range(9))
             for i in range(8)}
  assert len(by_name) > 4


def test_a_random_balance_leaves_out_as_many_whichever_they_are():
  """Three right and five wrong: 1:1 leaves out two of the wrong ones, and the
  control two of all eight. The ungraded one always stays."""
  groups = many()
  made = numbers(groups, balance='random(1)')
  gone = [[g for g in range(9) if (of.prompt.question.id, g) not in made]
          for of in groups]
  assert [len(x) for x in gone] == [2] * len(groups)
  assert set().union(*gone) == set(range(8))


def test_a_random_balance_has_a_ratio_per_source():
  """1:1 leaves out two, 2:1 four (int(3 / 2) = 1 wrong one stays), 0 the three
  right ones."""
  ratios = {'maths': 2, 'code': 4, 'verse': 3}
  groups = [group(dataclasses.replace(question(name), source=name), right=3)
            for name in ratios]
  made = numbers(groups, balance='random(maths=1, code=2, *=0)')
  assert {name: 8 - sum(of == name for of, _ in made)
          for name in ratios} == ratios
