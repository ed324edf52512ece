"""`shapes.auto` of `zppo sft`: what a run proposes, stores and takes again."""

import json

import pytest

from tests.long import LONG
from tests.sft import builders
from zppo_jax.devices import memory
from zppo_jax.sft import build, command, shapes
from zppo_jax.train.shapes import room


@pytest.fixture
def rows(tmp_path):
  """Conversations of 10, 13 and 16 tokens."""
  return builders.write_lines(tmp_path / 'rows.jsonl', builders.micro_rows(24))


def auto_config(rows, **changes):
  c = builders.micro_config(rows)
  c.shapes.update({**shapes.DEFAULTS, 'auto': True})
  return builders.changed(c, **changes)


def test_the_defaults_are_those_of_the_config():
  from zppo_jax import configs
  section = configs.load('sft').shapes
  assert {name: section[name] for name in shapes.DEFAULTS} == shapes.DEFAULTS
  assert section.auto is False


def test_rows_hold_the_conversations_and_micro_batches_what_fits(
    rows, monkeypatch, capsys):
  """The longest of all splits has 16 tokens; four conversations of a step have
  at most 64; 40 positions fit."""
  tried = []

  def needed(run, limit):
    tried.append(run.micro_tokens)
    return 2 if run.micro_tokens > 40 else 1

  monkeypatch.setattr(shapes, 'needed', needed)
  monkeypatch.setattr(room, 'limit', lambda: 1)
  run = build.build(auto_config(rows))
  assert run.room.row_buckets == (16,) and run.room.patch_buckets == ()
  assert tried == [64, 32] and run.micro_tokens == 32
  section = run.config.shapes
  assert (section.auto, section.micro_tokens) == (False, 32)
  assert tuple(section.row_buckets) == (16,)
  out = capsys.readouterr().out
  assert '\nshapes.auto: proposing shapes from the data ' in out
  assert 'shapes.auto: shapes.micro_tokens = 32\n' in out
  # Fields that were set by hand stay, and nothing is tried.
  tried.clear()
  run = build.build(auto_config(
      rows, shapes__row_buckets=(24, 48), shapes__micro_tokens=96))
  assert (run.room.row_buckets, run.micro_tokens) == ((24, 48), 96)
  assert not tried


def test_nothing_that_fits_is_said_and_the_least_is_taken(
    rows, monkeypatch, capsys):
  monkeypatch.setattr(shapes, 'needed', lambda *_: None)
  assert build.build(auto_config(rows)).micro_tokens == 16
  assert 'may not fit the memory, even with micro_tokens = 16' in (
      capsys.readouterr().out)


@LONG
def test_what_is_needed_by_hand(rows, monkeypatch):
  """Weights and gradient in 4 bytes, two moments, counters, temporaries."""
  monkeypatch.setattr(room, 'temporaries', lambda program: 1000)
  run = build.build(builders.micro_config(rows))
  count = memory.count(run.abstract_state.params)
  assert 0 <= shapes.needed(run) - 16 * count - 1000 <= 16
  adapted = build.build(builders.micro_config(rows, lora__rank=2))
  alone = memory.count(adapted.abstract_state.params)
  assert 0 <= shapes.needed(adapted) - 16 * alone - 4 * count - 1000 <= 16
  monkeypatch.setattr(room, 'temporaries', lambda program: None)
  assert shapes.needed(run) is None


@LONG
def test_a_run_stores_what_it_took_and_goes_on_with_it(rows, tmp_path):
  config = auto_config(rows, steps=1, eval__holdout=0)
  summary = command.main(config, tmp_path / 'run')
  stored = json.loads((tmp_path / 'run' / 'config.json').read_text())['config']
  assert stored['shapes']['auto'] is False
  assert stored['shapes']['row_buckets'] == [16]
  assert stored['shapes']['micro_tokens'] == 64
  again = shapes.of_workdir(config, tmp_path / 'run')
  assert again.shapes.row_buckets == (16,) and not again.shapes.auto
  assert command.main(config, tmp_path / 'run') == summary
