"""Mini-batches, buckets and padding by hand."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.builders import (
  assert_uniform,
  group,
  rollout,
  sequences_of,
  training,
)
from zppo_jax.arrays import OwnPrompts
from zppo_jax.learner.packing import (
  batches,
  blank_media,
  bucket,
  bucketed_rows,
  fill_rows,
  first_fit,
  pad_rows,
  patch_bucket,
  positions_of,
  rows_per_micro_batch,
  split_minibatches,
  trained_tokens,
)
from zppo_jax.records import PromptMedia

ROW_IDS, SHORT_IDS = ((7, 8, 9), (5, 6), (-0.5, -0.25), 2.0), (
    (4,), (3,), (-1.0,), -3.0)
ROW, SHORT = training(*ROW_IDS), training(*SHORT_IDS)


def split(num_groups, num_minibatches, seed=0):
  return split_minibatches(num_groups, num_minibatches,
                           np.random.default_rng(seed))


def test_bucket_is_the_smallest_that_holds_the_length():
  sizes = (32, 8, 16)  # in any order
  found = [bucket(n, sizes, 'x') for n in (0, 1, 8, 9, 16, 17, 32)]
  assert found == [8, 8, 8, 16, 16, 32, 32]


def test_bucket_names_what_does_not_fit():
  with pytest.raises(ValueError, match=r'the prompt is 33; .*is 32 .*8, 32'):
    bucket(33, (8, 32), 'the prompt')


@pytest.mark.parametrize(('groups', 'parts', 'sizes'), [
    (8, 4, [2, 2, 2, 2]), (10, 4, [3, 3, 2, 2]), (11, 4, [3, 3, 3, 2]),
    (3, 4, [1, 1, 1, 0]), (7, 1, [7]), (0, 2, [0, 0]), (576, 4, [144] * 4),
    (9, 8, [2, 1, 1, 1, 1, 1, 1, 1]),
])
def test_minibatches_cover_each_group_once_in_even_sizes(
    groups, parts, sizes):
  made = split(groups, parts)
  assert [len(m) for m in made] == sizes
  assert sorted(i for m in made for i in m) == list(range(groups))


def test_minibatches_are_a_seeded_shuffle():
  assert split(20, 4, seed=1) == split(20, 4, seed=1) != split(20, 4, seed=2)
  rng = np.random.default_rng(0)
  # Which two of five groups share the smaller mini-batch is uniform.
  pairs = [frozenset(split_minibatches(5, 2, rng)[1]) for _ in range(1000)]
  assert_uniform(pairs, [frozenset((a, b)) for b in range(5)
                         for a in range(b)])


def test_pad_rows_by_hand():
  batch = pad_rows([ROW, SHORT], num_rows=3, length=6)
  np.testing.assert_array_equal(batch.tokens_BT, [
      [7, 8, 9, 5, 6, 0], [4, 3, 0, 0, 0, 0], [0] * 6])
  np.testing.assert_array_equal(batch.segment_BT, [
      [1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0], [0] * 6])
  np.testing.assert_array_equal(batch.mask_BT, [
      [0, 0, 0, 1, 1, 0], [0, 1, 0, 0, 0, 0], [0] * 6])
  np.testing.assert_array_equal(batch.targets['sampler_logp'], [
      [0, 0, 0, -0.5, -0.25, 0], [0, -1, 0, 0, 0, 0], [0] * 6])
  np.testing.assert_array_equal(batch.targets['advantage'], [
      [0, 0, 0, 2, 2, 0], [0, -3, 0, 0, 0, 0], [0] * 6])
  assert batch.prompts == OwnPrompts(media=None)
  assert {x.dtype for x in (batch.tokens_BT, batch.positions_BTA,
                            batch.segment_BT)} == {np.dtype('int32')}
  assert {x.dtype for x in (batch.mask_BT, *batch.targets.values())} == {
      np.dtype('float32')}
  assert set(batch.targets) == {'advantage', 'sampler_logp'}


def media(patches, positions, first):
  """Media of `patches` patches whose values count from 1."""
  one = np.arange(1, patches + 1)
  return PromptMedia(
      np.float32(one)[:, None] * np.ones((1, 3), np.float32),
      np.int32(np.stack([one, -one], 1)), np.ones(patches, np.int32),
      np.int32(np.tile(one[:, None], (1, 4))),
      np.ones((patches, 4), np.float32), np.int32(positions), first)


def test_positions_go_on_behind_a_prompts_media():
  """Two text tokens, an image of two merged patches side by side, text; then
  three response tokens from the position that the media name."""
  three = [[0, 0, 0], [1, 1, 1], [2, 2, 2], [2, 2, 3], [4, 4, 4]]
  got = positions_of(5, 3, media(8, three, 5), 3)
  np.testing.assert_array_equal(
      got, [*three, [5, 5, 5], [6, 6, 6], [7, 7, 7]])
  np.testing.assert_array_equal(positions_of(2, 2, None, 3)[:, 1], [0, 1, 2, 3])


def test_media_are_padded_per_row_and_rows_of_text_hold_none():
  row = (1, 2), (3,), (-1.0,), 1.0
  image = media(3, [[0], [1]], 2)
  [text, seen] = bucketed_rows(
      [training(*row, image), training(*row)], max_tokens=16, multiple=1,
      buckets=(4,), patch_buckets=(2, 5))
  assert text.prompts.media is None and text.tokens_BT.shape == (4, 4)
  # Patches count as positions: 16 // (4 + 5) rows.
  assert seen.tokens_BT.shape == (1, 4)
  np.testing.assert_array_equal(
      seen.prompts.media.segment_BI, [[1, 1, 1, 0, 0]])
  np.testing.assert_array_equal(
      seen.prompts.media.patches_BIC[0, :, 2], [1, 2, 3, 0, 0])


def test_media_need_a_bucket():
  image = media(6, [[0], [1]], 2)
  with pytest.raises(ValueError, match='patch_buckets is empty'):
    patch_bucket(image, (), 'q')
  with pytest.raises(ValueError, match='q in patches is 6'):
    patch_bucket(image, (2, 5), 'q')
  assert patch_bucket(None, (), 'q') == 0


def test_pad_rows_may_fill_the_length_and_never_cut():
  full = pad_rows([ROW], 1, 5)
  assert full.segment_BT.sum() == 5
  with pytest.raises(ValueError):
    pad_rows([ROW], 1, 4)
  with pytest.raises(IndexError):
    pad_rows([ROW, ROW], 1, 5)


@pytest.mark.parametrize(('length', 'max_tokens', 'multiple', 'rows'), [
    (24, 1536, 1, 64),
    (200, 1536, 1, 7),  # 7.68
    (200, 1536, 4, 28),  # seven in each part
    (2000, 1536, 8, 8),  # at least one in each part
    (2000, 1536, 1, 1),
    (96, 96, 1, 1),
])
def test_rows_per_micro_batch(length, max_tokens, multiple, rows):
  assert rows_per_micro_batch(length, max_tokens, multiple) == rows


def test_bucketed_rows_lie_shortest_first():
  made = bucketed_rows([ROW, SHORT, ROW], max_tokens=12, multiple=1,
                       buckets=(6, 2))
  # Two tokens: six rows fit; five tokens: two rows of six positions.
  assert [b.tokens_BT.shape for b in made] == [(6, 2), (2, 6)]
  assert sequences_of(made) == [((4, 3), -3.0)] + [((7, 8, 9, 5, 6), 2.0)] * 2
  with pytest.raises(ValueError, match=r'prompt \+ response.* is 5'):
    bucketed_rows([ROW], max_tokens=12, multiple=1, buckets=(4, 2))


def test_a_rest_takes_free_places_of_longer_rows():
  """Three rows of six leave a place: the short one needs no batch."""
  made = bucketed_rows([ROW, SHORT, ROW, ROW], max_tokens=12, multiple=1,
                       buckets=(6, 2))
  assert [b.tokens_BT.shape for b in made] == [(2, 6), (2, 6)]
  assert sequences_of(made) == [((7, 8, 9, 5, 6), 2.0)] * 3 + [((4, 3), -3.0)]


@pytest.mark.parametrize(('by_shape', 'expected'), [
    # All of a rest fits, here in two places: one batch less.
    ({1: 'abcde', 2: 'f', 3: 'ghi'},
     [(1, 'abcd'), (2, 'fe'), (3, 'gh'), (3, 'i')]),
    # Two of three would fit: nothing would be won, they stay; the one fits.
    ({1: 'abc', 2: 'd', 3: 'e'}, [(1, 'abc'), (3, 'ed')]),
    ({1: 'abc', 2: 'd', 4: 'e'}, [(2, 'dc'), (4, 'eab')]),
    # Full batches stay, and nothing goes where it is not held.
    ({1: 'abcd', 2: 'e'}, [(1, 'abcd'), (2, 'e')]),
    ({1: 'a', 5: 'b'}, [(1, 'a'), (5, 'b')]),
    ({}, []),
])
def test_batches_by_hand(by_shape, expected):
  room = {1: 4, 2: 2, 3: 2, 4: 3, 5: 8}
  made = batches(by_shape, room.get, lambda larger, shape: larger != 5)
  assert [(shape, ''.join(items)) for shape, items in made] == expected


def test_batches_are_never_more_and_never_new():
  rng = np.random.default_rng(0)
  for _ in range(200):
    room = dict(enumerate(rng.integers(1, 6, 4).tolist()))
    by_shape = {s: [(s, i) for i in range(n)]
                for s, n in enumerate(rng.integers(0, 12, 4).tolist()) if n}
    made = batches(by_shape, room.get, lambda larger, shape: True)
    assert sorted(x for _, found in made for x in found) == sorted(
        x for found in by_shape.values() for x in found)
    assert all(0 < len(found) <= room[s] and x[0] <= s
               for s, found in made for x in found)
    for s, items in by_shape.items():
      assert sum(t == s for t, _ in made) <= -(-len(items) // room[s])


def test_trained_tokens_counts_unequal_lengths():
  made = dataclasses.replace(
      group('a', 0), rollouts=(rollout('A 1'), rollout('4 h 7 A 7')))
  assert trained_tokens([made, made]) == 2 * (3 + 6)
  assert trained_tokens([]) == 0


def test_first_fit_by_hand():
  """A bin is of its largest item's bucket; equal items keep their order."""
  #              0  1  2  3  4  5  6
  assert first_fit((3, 9, 2, 4, 1, 2, 4), (4, 12)) == [
      [1, 0], [3], [6], [2, 5], [4]]
  assert first_fit((), (4,)) == []
  with pytest.raises(ValueError, match='an item is 5'):
    first_fit((5,), (4,))


def test_packing_holds_each_row_once_and_adds_no_positions():
  """Random lengths: deterministic, within buckets, the shapes of rows alone."""
  rng = np.random.default_rng(0)
  rows = [((*range(1, 1 + p),), (i + 30,) * r, (0.5,) * r, float(i + 1))
          for i, (p, r) in enumerate(rng.integers(1, 16, (60, 2)).tolist())]
  make = lambda packed: bucketed_rows(
      [training(*row) for row in rows], max_tokens=32, multiple=2,
      buckets=(32, 8, 16), packed=packed)
  alone, packed, again = make(False), make(True), make(True)
  assert sorted(sequences_of(packed)) == sorted(sequences_of(alone)) == sorted(
      (p + r, a) for p, r, _, a in rows)
  for a, b in zip(packed, again, strict=True):
    jax.tree.map(np.testing.assert_array_equal, a, b)
  shapes = [[b.tokens_BT.shape for b in bs] for bs in (alone, packed)]
  assert set(shapes[1]) <= set(shapes[0]) and len(shapes[1]) < len(shapes[0])
  sizes = [len(p) + len(r) for p, r, *_ in rows]
  for found in first_fit(sizes, (32, 8, 16)):
    most = bucket(max(sizes[i] for i in found), (8, 16, 32), 'x')
    assert sum(sizes[i] for i in found) <= most


def test_a_packed_row_by_hand():
  """Positions restart, segments count, advantages stay with their tokens."""
  batch = fill_rows([[ROW, SHORT]], 1, 8)
  np.testing.assert_array_equal(batch.tokens_BT, [[7, 8, 9, 5, 6, 4, 3, 0]])
  np.testing.assert_array_equal(batch.segment_BT, [[1, 1, 1, 1, 1, 2, 2, 0]])
  np.testing.assert_array_equal(
      batch.positions_BTA[..., 0], [[0, 1, 2, 3, 4, 0, 1, 0]])
  np.testing.assert_array_equal(batch.mask_BT, [[0, 0, 0, 1, 1, 0, 1, 0]])
  np.testing.assert_array_equal(
      batch.targets['advantage'], [[0, 0, 0, 2, 2, 0, -3, 0]])
  np.testing.assert_array_equal(
      batch.targets['sampler_logp'], [[0, 0, 0, -0.5, -0.25, 0, -1, 0]])


def test_rows_with_media_stay_alone():
  image = media(3, [[0], [1], [2]], 3)
  made = bucketed_rows([SHORT, training(*ROW_IDS, image), SHORT], max_tokens=16,
                       multiple=1, buckets=(8,), patch_buckets=(4,),
                       packed=True)
  assert [b.segment_BT.max(1).tolist() for b in made] == [[2, 0], [1]]
  assert made[0].prompts.media is None
  np.testing.assert_array_equal(
      made[1].prompts.media.segment_BI, [[1, 1, 1, 0]])


def test_text_takes_a_free_place_beside_media_and_media_none_beside_text():
  image = media(3, [[0], [1], [2]], 3)
  make = lambda rows, buckets: bucketed_rows(
      rows, max_tokens=24, multiple=1, buckets=buckets, patch_buckets=(4,))
  (made,) = make([SHORT, training(*ROW_IDS, image)], (8,))
  np.testing.assert_array_equal(made.prompts.media.segment_BI,
                                [[1, 1, 1, 0], [0, 0, 0, 0]])
  assert sequences_of([made]) == [((7, 8, 9, 5, 6), 2.0), ((4, 3), -3.0)]
  # A longer text row's batch has no patches: the picture stays apart.
  made = make([training(*SHORT_IDS, media(3, [[0]], 1)), ROW], (2, 8))
  assert [b.prompts.media is None for b in made] == [False, True]


@pytest.mark.parametrize('packed', [False, True])
def test_an_empty_prompt_is_refused(packed):
  """Its first token would follow another row's last, or nothing."""
  with pytest.raises(ValueError, match='of a prompt is 0; it must be >= 1'):
    bucketed_rows([ROW, training((), (3,), (-1.0,))], max_tokens=16, multiple=1,
                  buckets=(8,), packed=packed)


def test_a_loss_mask_lies_with_its_tokens():
  """A mask of a sequence's own: its other tokens keep their targets."""
  masks = ([False, True, True], [True, False])
  rows = [training([1, 2], [3, 4, 5], advantage=2.0, mask=np.bool_(masks[0])),
          training([6], [7, 8], advantage=3.0, mask=np.bool_(masks[1]))]
  for packs in ([[r] for r in rows], [rows]):
    batch = fill_rows(packs, len(packs), 8)
    of = lambda x, batch=batch: x[batch.targets['advantage'] > 0].tolist()
    assert of(batch.mask_BT) == [0, 1, 1, 1, 0]
    assert of(batch.targets['advantage']) == [2, 2, 2, 3, 3]


def test_blank_media_take_no_memory():
  """A plan asks for a shape whose arrays would be 192 GiB."""
  media = blank_media(1024, 32768, 1536)
  assert media.patches_BIC.shape == (1024, 32768, 1536)
  assert media.patches_BIC.base.nbytes == 4
  assert media.weights_BI4.dtype == np.float32
  assert media.segment_BI.dtype == np.int32
  assert blank_media(4, 0, 1536) is None
