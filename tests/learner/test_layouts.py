"""How groups lie in micro-batches."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.builders import advantage_targets, group, sequences_of
from zppo_jax.learner import layouts
from zppo_jax.learner.packing import trained_tokens
from zppo_jax.records import PromptMedia

LAYOUT = layouts.Layout(
    'padded', max_tokens=64, multiple=1, rollouts=8, row_buckets=(12, 32),
    prompt_buckets=(8, 20), response_buckets=(4, 8), patch_buckets=(),
    num_axes=1)


# The targets of a response of no tokens.
LIKE = {'advantage': np.zeros(0, np.float32),
        'sampler_logp': np.zeros(0, np.float32)}


def pack(groups, advantages, skip_zero, **fields):
  return layouts.micro_batches(
      groups, advantage_targets(groups, advantages, zeros=not skip_zero),
      LAYOUT._replace(**fields))


def test_micro_batches_hold_every_rollout_with_its_advantage():
  groups = [group('a', 1, size=2), group('b', 0, size=2)]
  advantages = np.array([[1.5, -1.5], [0.0, 0.0]])
  made = sequences_of(pack(groups, advantages, skip_zero=False))
  assert made == [
      (g.prompt.tokens + r.tokens, a)
      for g, row in zip(groups, advantages, strict=True)
      for r, a in zip(g.rollouts, row, strict=True)]


def test_skipping_zero_rows_drops_rows_but_no_counted_tokens():
  groups = [group('a', 4), group('b', 0), group('c', 8), group('d', 7)]
  advantages = np.zeros((4, 8))
  advantages[0], advantages[3] = [1] * 4 + [-1] * 4, [0.25] * 7 + [-1.75]
  whole = pack(groups, advantages, skip_zero=False)
  less = pack(groups, advantages, skip_zero=True)
  assert len(sequences_of(whole)) == 32 and len(sequences_of(less)) == 16
  assert sequences_of(less) == [r for r in sequences_of(whole) if r[1] != 0]
  # Six tokens a rollout: '4 h v A v' and the end.
  counted = trained_tokens(groups)
  assert counted == sum(b.mask_BT.sum() for b in whole) == 32 * 6
  assert sum(b.mask_BT.sum() for b in less) == 16 * 6


def test_a_trivial_mini_batch_has_no_rows_but_tokens():
  groups = [group('a', 0), group('b', 8)]
  assert pack(groups, np.zeros((2, 8)), skip_zero=True) == []
  assert trained_tokens(groups) == 16 * 6


def test_rows_are_a_multiple_and_padding_has_no_weight():
  made = pack([group('a', 4)], np.ones((1, 8)), False, max_tokens=15,
              multiple=4)
  # '... C h 4 :' and six tokens fit 12 positions: one row in each of 4 parts.
  assert [b.tokens_BT.shape for b in made] == [(4, 12), (4, 12)]
  made = pack([group('a', 4, size=6)], np.ones((1, 6)), False, max_tokens=15,
              multiple=4)
  assert [b.tokens_BT.shape for b in made] == [(4, 12), (4, 12)]
  np.testing.assert_array_equal(
      made[1].targets['advantage'].max(1), [1, 1, 0, 0])
  assert not made[1].mask_BT[2:].any() and not made[1].segment_BT[2:].any()


def test_shared_prompts_by_hand():
  """Prompts apart, responses behind them from the prompt's next position on;
  a group with fewer rows and a missing one are padding."""
  groups = [group('a', 1, size=2), group('b', 1, size=2)]
  (made,) = pack(groups, np.array([[1.5, -1.5], [0, 2.0]]), True,
                 kind='shared', rollouts=2, max_tokens=80)
  size = len(groups[0].prompt.tokens)
  assert made.prompts.media is None
  assert made.prompts.tokens_PT.shape == (3, 8)
  assert made.prompts.length_P.tolist() == [size, size, 0]
  assert tuple(made.prompts.tokens_PT[1, :size]) == groups[1].prompt.tokens
  rows = [(*groups[0].rollouts, groups[1].rollouts[1]), (1.5, -1.5, 2.0)]
  for b, (rollout, adv) in enumerate(zip(*rows, strict=True)):
    n = len(rollout.tokens)
    assert tuple(made.tokens_BT[b, :n]) == rollout.tokens
    np.testing.assert_array_equal(
        made.targets['advantage'][b], [adv] * n + [0] * (8 - n))
    np.testing.assert_array_equal(made.mask_BT[b], [1] * n + [0] * (8 - n))
    np.testing.assert_allclose(
        made.targets['sampler_logp'][b, :n], rollout.logps)
  np.testing.assert_array_equal(made.segment_BT, made.mask_BT)
  np.testing.assert_array_equal(
      made.positions_BTA[:4, :, 0], [range(size, size + 8)] * 4)
  assert made.tokens_BT.shape == (6, 8) and not made.mask_BT[3:].any()


def test_media_of_shared_prompts_are_there_once():
  """Patches of a group's prompt, and rows that go on behind the pictures:
  31 positions a unit, so two in 64."""
  of = lambda *shape: np.ones(shape, np.float32)
  media = PromptMedia(of(5, 3), of(5, 2), np.ones(5, np.int32),
                      np.zeros((5, 4), np.int32), of(5, 4),
                      np.zeros((4, 3), np.int32), 3)
  one = group('a', 1, size=2)
  one = dataclasses.replace(one, prompt=dataclasses.replace(
      one.prompt, media=media, tokens=(5, 6, 7, 8)))
  (made,) = pack([one], np.array([[1, -1]]), True, kind='shared', rollouts=2,
                 patch_buckets=(7,), num_axes=3)
  assert made.prompts.media.patches_BIC.shape == (2, 7, 3)
  assert (made.positions_BTA[:2] == 3 + np.arange(8)[:, None]).all()


@pytest.mark.parametrize('max_tokens, shapes', [
    (1000, [(25, 8), (13, 8), (19, 8), (11, 8)]),  # 8 + 8 x 4 in 1000, ...
    (64, [(1, 8), (1, 4), (1, 8), (1, 4)]),  # 8 + 8 x 8 is 72: halves
    (1, [(1, 1)] * 4)])
def test_groups_that_do_not_fit_are_cut_evenly(max_tokens, shapes):
  of = LAYOUT._replace(kind='shared', max_tokens=max_tokens)
  assert [s[:2] for s in layouts.shapes(of)] == shapes
  # How responses share a prompt does not depend on the mesh.
  of = of._replace(multiple=4)
  assert [(s.units // 4, s.rows) for s in layouts.shapes(of)] == shapes


def cut(made, tokens):
  """A group whose responses end after so many tokens."""
  return dataclasses.replace(made, rollouts=tuple(
      dataclasses.replace(r, tokens=r.tokens[:tokens], logps=r.logps[:tokens])
      for r in made.rollouts))


def test_short_groups_fill_places_of_longer_ones():
  """Thirteen units of the long shape fit in a micro-batch, one is there."""
  groups = [cut(group('a', 4), 3), group('b', 4)]
  adv_PG = np.arange(1.0, 17).reshape(2, 8)
  (made,) = pack(groups, adv_PG, False, kind='shared', max_tokens=1000)
  assert made.tokens_BT.shape == (13 * 8, 8)
  assert made.prompts.length_P.tolist() == [
      len(g.prompt.tokens) for g in groups[::-1]] + [0] * 11
  size = made.mask_BT.sum(1)[:16].reshape(2, 8)
  assert (size == [[6] * 8, [3] * 8]).all()
  np.testing.assert_array_equal(
      made.targets['advantage'][:16].max(1).reshape(2, 8), adv_PG[::-1])


def test_a_whole_group_does_not_go_where_groups_are_halved():
  """Responses of up to 8 are trained four a unit, those of 4 eight: a unit of
  eight in a place of four would overwrite its neighbour."""
  groups = [cut(group('a', 4), 3), group('b', 4)]
  made = pack(groups, np.ones((2, 8)), False, kind='shared', max_tokens=64,
              multiple=4)
  assert [b.tokens_BT.shape for b in made] == [(4 * 8, 4), (4 * 4, 8)]
  assert [b.mask_BT.sum() for b in made] == [8 * 3, 8 * 6]


@pytest.mark.parametrize('kind', layouts.LAYOUTS)
def test_every_micro_batch_has_a_listed_shape(kind):
  """Groups of many lengths, all rows once, and `empty` has those shapes."""
  groups = [group(name, n, size=5) for n, name in enumerate('abcdef')]
  of = LAYOUT._replace(kind=kind, rollouts=5)
  made = layouts.micro_batches(
      groups, advantage_targets(groups, np.ones((6, 5))), of)
  shape_of = lambda tree: [np.shape(x) for x in jax.tree.leaves(tree)]
  listed = [shape_of(layouts.empty(of, s, LIKE))
            for s in layouts.shapes(of)]
  assert all(shape_of(batch) in listed for batch in made)
  assert sum(b.mask_BT.sum() for b in made) == trained_tokens(groups)


def test_what_fits_no_bucket_is_named():
  with pytest.raises(ValueError, match=r'a response in tokens is 6; .* 5 '):
    pack([group('a', 4)], np.ones((1, 8)), True, kind='shared',
         response_buckets=(5,))
  with pytest.raises(ValueError, match=r'a prompt in tokens is \d+; .* 2 '):
    pack([group('a', 4)], np.ones((1, 8)), True, kind='shared',
         prompt_buckets=(2,))
  empty = group('a', 4)
  empty = dataclasses.replace(
      empty, prompt=dataclasses.replace(empty.prompt, tokens=()))
  with pytest.raises(ValueError, match='a prompt has 0 tokens'):
    pack([empty], np.ones((1, 8)), True)


SCORED = {'top_id': (np.int32, (3,)), 'teacher_logp': (np.float32, ()),
          'kept': (bool, (2, 2))}


def any_targets(groups):
  """Targets of several types and trailing axes; every number is unlike."""
  rng = np.random.default_rng(0)
  return {(p, g): {name: rng.integers(0, 10**6, (len(r.tokens), *axes)).astype(
      dtype) for name, (dtype, axes) in SCORED.items()}
      for p, group in enumerate(groups) for g, r in enumerate(group.rollouts)}


@pytest.mark.parametrize('kind', layouts.LAYOUTS)
def test_any_target_lies_with_its_tokens(kind):
  """Types and trailing axes are kept, 0 elsewhere, in every layout."""
  groups = [group('a', 1, size=3), cut(group('b', 2, size=3), 4)]
  targets = any_targets(groups)
  del targets[0, 1]  # it is left out
  made = layouts.micro_batches(
      groups, targets, LAYOUT._replace(kind=kind, rollouts=3, max_tokens=128))
  seen = []
  for b in made:
    assert {n: (x.dtype, x.shape[2:]) for n, x in b.targets.items()} == SCORED
    for i, j in ((i, j) for i, row in enumerate(b.segment_BT)
                 for j in range(1, row.max() + 1)):
      held = np.flatnonzero(b.segment_BT[i] == j)
      for (p, g), want in targets.items():
        rollout = groups[p].rollouts[g]
        at = held[-len(rollout.tokens):]
        if all(np.array_equal(b.targets[n][i, at], x)
               for n, x in want.items()):
          assert tuple(b.tokens_BT[i, at].tolist()) == rollout.tokens
          assert b.mask_BT[i, at].all()
          seen.append((p, g))
  assert sorted(seen) == sorted(targets)
  held = sum(len(groups[p].rollouts[g].tokens) for p, g in targets)
  lit = sum((b.targets['top_id'] > 0).any(-1).sum() for b in made)
  assert held - 2 <= lit <= held  # nothing lies outside of the responses
  assert trained_tokens(groups) == 3 * 6 + 3 * 4


def test_targets_that_do_not_fit_are_named():
  groups = [group('a', 1, size=2)]
  targets = any_targets(groups)
  targets[0, 1]['teacher_logp'] = targets[0, 1]['teacher_logp'][:-1]
  with pytest.raises(ValueError, match="'teacher_logp' has shape .5,.*be 6"):
    layouts.micro_batches(groups, targets, LAYOUT)
  targets = any_targets(groups)
  targets[0, 1]['top_id'] = targets[0, 1]['top_id'].astype(np.int16)
  with pytest.raises(ValueError, match="'top_id' of a sequence is int16"):
    layouts.micro_batches(groups, targets, LAYOUT)
  del targets[0, 1]['top_id']
  with pytest.raises(ValueError, match='has the targets .*the others'):
    layouts.micro_batches(groups, targets, LAYOUT)
