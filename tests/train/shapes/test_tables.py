"""Buckets, slots and micro-batches from lengths."""

import json

import pytest

from tests.builders import ROOT
from zppo_jax.data.prompt_lengths import rounded
from zppo_jax.train.shapes import tables
from zppo_jax.train.shapes.tables import Lengths


def test_the_defaults_are_those_of_the_base_config():
  """A field with another value counts as set by hand."""
  from runpy import run_path
  shapes = run_path(str(ROOT / 'configs' / 'base.py'))['get_config']().shapes
  assert tables.proposed(shapes) == tuple(tables.DEFAULTS)
  shapes.update(slots=64, prompt_buckets=[4096, 8704], row_buckets=(512,))
  assert tables.proposed(shapes) == (
      'prompt_buckets', 'patch_buckets', 'group_buckets', 'micro_tokens',
      'response_buckets')


@pytest.mark.parametrize('size, want', [
    (1, 8), (8, 8), (9, 16), (128, 128), (129, 192), (2048, 2048),
    (2049, 2304), (8700, 8704)])
def test_sizes_are_rounded_up(size, want):
  assert rounded(size) == want


def of(prompts, longer=(), patches=None, responses=(), limit=100, **fields):
  return tables.buckets(Lengths(
      prompts=prompts, patches=patches or [0] * len(prompts), longer=longer,
      responses=responses, limit=limit, **fields))


@pytest.mark.parametrize('prompts, longer, want', [
    ([10] * 9 + [90], (), (24, 96)),  # the bulk, and the longest
    ([30, 31, 32], (), (32,)),
    ([30] * 20 + [40], (), (40,)),  # near sizes are one
    ([10], (100, 700), (16, 104, 704)),
    ([10], (700, 650), (16, 704))])
def test_prompts_get_the_sizes_of_bulk_longest_and_reformulations(
    prompts, longer, want):
  buckets = of(prompts, longer)
  assert buckets['prompt_buckets'] == want
  rows = buckets['row_buckets']
  assert rows[-1] >= want[-1] + 100 and rows[0] >= want[0] + 100
  assert all(any(n <= size for size in want) for n in (*prompts, *longer))


def test_reformulations_end_at_the_models_positions_and_plain_prompts_do_not():
  buckets = of([10], (700,), positions=256)
  assert buckets['prompt_buckets'] == (16, 156)
  assert buckets['row_buckets'] == (120, 256)
  assert of([200], positions=256)['prompt_buckets'] == (200,)


def test_responses_have_buckets_where_their_lengths_are_known():
  assert of([10])['response_buckets'] == ()
  known = of([10], responses=[5] * 60 + [20] * 36 + [90] * 4)
  assert known['response_buckets'] == (8, 24, 100)
  assert of([10], responses=[99])['response_buckets'] == ()


def test_pictures_have_buckets_where_there_are_some():
  assert of([10, 10])['patch_buckets'] == ()
  assert of([10] * 11, patches=[0] + [16] * 9 + [900])['patch_buckets'] == (
      112, 960)


@pytest.mark.parametrize('total, unit, want', [
    (320, 8, [320, 160, 80, 40, 24, 16, 8]), (8, 8, [8]), (5, 8, [8]),
    (3840, 64, [3840, 1920, 960, 512, 256, 128, 64])])
def test_slots_are_tried_from_a_whole_batch_down(total, unit, want):
  assert tables.slot_counts(total, unit) == want
  assert all(count % unit == 0 for count in want)


@pytest.mark.parametrize('longest, useful, want', [
    (200, 900, [800, 400, 200]), (200, 100, [200]),
    (1000, 10**9, [128000, 64000, 32000, 16000, 8000, 4000, 2000, 1000]),
    (2**18, 2**20, [2**18])])
def test_a_micro_batch_holds_the_longest_row(longest, useful, want):
  assert tables.micro_counts(longest, useful)[:len(want)] == want


@pytest.mark.parametrize('slots, want', [(320, (5, 40)), (8, (1,)), (4, (1,))])
def test_a_prefill_fills_the_slots(slots, want):
  assert tables.groups(slots, 8) == want


def test_lengths_come_from_a_run_or_an_evaluation(tmp_path):
  run, evaluated = tmp_path / 'run', tmp_path / 'samples.jsonl'
  run.mkdir()
  (run / 'samples.jsonl').write_text(json.dumps({'groups': [
      {'kind': 'plain', 'rollouts': [{'length': 3}, {'length': 5}]},
      {'kind': 'bcq', 'rollouts': [{'length': 9}]}]}) + '\n')
  evaluated.write_text('{"length": 7}\n{"length": 8}\n')
  assert tables.recorded_responses(str(run)) == [3, 5]
  assert tables.recorded_responses(str(evaluated)) == [7, 8]
  with pytest.raises(FileNotFoundError, match="shapes.responses is 'gone'"):
    tables.recorded_responses('gone')
  evaluated.write_text('{"length": 7}\n{"text": "x"}\n')
  with pytest.raises(ValueError, match='samples.jsonl, line 2: no recorded'):
    tables.recorded_responses(str(evaluated))
  evaluated.write_text('')
  with pytest.raises(ValueError, match='holds no responses'):
    tables.recorded_responses(str(evaluated))
