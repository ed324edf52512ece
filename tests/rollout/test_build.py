"""make_engine: which numbers of slots an engine has."""

import dataclasses

import pytest

from tests.long import LONG
from tests.rollout.test_engine import by_rollout, engine, request
from zppo_jax.rollout import weight_sync


@pytest.mark.parametrize(('limit', 'slots'), [
    (None, (12, 32, 40, 160)), (100, (12, 32, 100)), (1000, (12, 32, 40, 160)),
    (30, (12, 28)), (1, (4,))])
def test_slots_are_those_that_a_prefill_fills(tiny, make_mesh, limit, slots):
  """Four rollouts per prompt; whole groups below a limit of slots; none is more
  than four times the one before."""
  built = engine(tiny[0], make_mesh(), (8, 3, 40), slots=limit)
  assert built.shapes.slots == slots


def test_whole_groups_on_every_device(tiny, make_mesh):
  """Two data devices, four rollouts: 3 prompts are prefilled as 4, and 30
  slots are rounded down to 24, a multiple of 8."""
  built = engine(tiny[0], make_mesh(2, 1, 1), (3, 40), slots=30)
  assert built.shapes.prefill_sizes == (4, 40)
  assert built.shapes.slots == (16, 24)


@pytest.mark.parametrize(('tokens', 'long', 'short'), [
    (None, (4, 40), (4, 40)), (1000, (4, 40), (4, 40)), (24, (4, 6), (4, 12)),
    (16, (4,), (4, 8)), (15, (2,), (4, 6)), (1, (2,), (2,))])
def test_a_prefill_holds_so_many_positions_on_each_shard(
    tiny, make_mesh, tokens, long, short):
  """Two data devices, prompts of 8 and of 4: one on each is the least, and
  prompts with media count as the longest. The slots are those that all prompts
  together fill."""
  built = engine(tiny[0], make_mesh(2, 1, 1), (3, 40), prefill_tokens=tokens)
  assert built.shapes.prompt_lengths == (4, 8)
  assert built.shapes.prefills(8) == built.shapes.prefills(4, 16) == long
  assert built.shapes.prefills(4) == short
  assert built.shapes.slots == (16, 40, 160)


@pytest.mark.parametrize('limits, message', [
    ((4,), r'Shapes.prefill_limits is \(4,\); it must have a number for each '
     r'of prompt_lengths, \(4, 8\)'),
    ((4, 0), 'a number in Shapes.prefill_limits is 0; it must be a whole')])
def test_limits_that_fit_no_lengths(tiny, make_mesh, limits, message):
  shapes = engine(tiny[0], make_mesh(), (3,)).shapes
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(shapes, prefill_limits=limits)


@LONG
@pytest.mark.usefixtures('quick_compile')
def test_a_split_prefill_draws_the_same(tiny, make_mesh):
  model, params = tiny
  mesh = make_mesh()
  params = weight_sync.place_copy(params, model, mesh)
  drawn = []
  for tokens, sizes in ((None, (6,)), (16, (2,))):
    built = engine(model, mesh, (6,), prefill_tokens=tokens)
    assert built.shapes.prefills(8) == sizes
    drawn.append([by_rollout(group) for group in built.generate(
        params, [request(i, 2 + i) for i in range(6)])])
  assert drawn[0] == drawn[1]


@LONG
@pytest.mark.usefixtures('quick_compile')
def test_copies_of_short_prompts_and_fewer_caches_draw_the_same(
    tiny, make_mesh):
  """Prompts of 3 tokens are copied, those of 7 shared, as the table says; a
  cache of 8 holds both lengths."""
  model, params = tiny
  mesh = make_mesh()
  params = weight_sync.place_copy(params, model, mesh)
  drawn = []
  for options, shapes in (
      ({}, [(4, 4), (4, 8)]),
      (dict(share_from=5, cache_buckets=(8,)), [(1, 8), (4, 8)])):
    built = engine(model, mesh, (2,), **options)
    drawn.append([])
    for length, (samples, cache) in zip((3, 7), shapes, strict=True):
      asked = [request(i, length) for i in range(2)]
      drawn[-1] += [by_rollout(of) for of in built.generate(params, asked)]
      assert built.shape.samples_per_prompt == samples
      assert built.shape.prompt_length == cache
  assert drawn[0] == drawn[1]


@pytest.mark.parametrize('fields, message', [
    (dict(prefill_tokens=0),
     'prefill_tokens is 0; it must be a whole number >= 1'),
    (dict(slots=0), 'slots is 0; it must be a whole number >= 1'),
    (dict(decode_chunk=0), 'decode_chunk is 0; it must be a whole number >= 1'),
    (dict(max_slots_per_owner=0), 'max_slots_per_owner is 0; it must be'),
    (dict(group_buckets=()), r'group_buckets is \(\); it must hold at least'),
    (dict(group_buckets=(2, 0)), 'a size in group_buckets is 0; it must be a'),
    (dict(cache_buckets=(4, 9)), r'shapes.cache_buckets is 9; it must be a '
     r'whole number in \[1, 8\], the largest of shapes.prompt_buckets'),
    (dict(share_from=-1), 'Shapes.share_from is -1; it must be a whole number '
     '>= 0'),
    (dict(patch_buckets=(0,)), 'a size in Shapes.patches is 0; it must be a'),
])
def test_refused_sizes(tiny, make_mesh, fields, message):
  with pytest.raises(ValueError, match=message):
    engine(tiny[0], make_mesh(), **fields)


def test_a_model_without_enough_positions(make_tiny, make_mesh):
  model, _ = make_tiny(max_positions=87)
  with pytest.raises(ValueError, match=(
      r'prompt bucket 8 \+ max_tokens 80 = 88 exceeds .* 87')):
    engine(model, make_mesh())
