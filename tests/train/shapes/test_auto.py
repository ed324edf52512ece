"""`shapes.auto`: what a run proposes, stores and takes again."""

import json

import pytest

from tests.builders import small_config
from tests.long import LONG
from zppo_jax.plan import abstract, topologies
from zppo_jax.train import build
from zppo_jax.train.shapes import auto, room, tables

pytestmark = pytest.mark.usefixtures('quick_compile')


def auto_config(**changes):
  c = small_config(**changes)
  c.shapes.update({**tables.DEFAULTS, 'auto': True, 'prefill_tokens': None})
  return c


@pytest.fixture
def tried(monkeypatch):
  """The (slots, micro_tokens) that were tried; 40 slots and 512 positions are
  the most that fit."""
  seen = []

  def fits(run, phase, limit):
    slots = run.sampler.engine.shapes.slots[-1]
    seen.append((phase, slots, run.layout.max_tokens))
    return slots <= 40 if phase == room.ROLLOUTS else (
        run.layout.max_tokens <= 512)

  monkeypatch.setattr(room, 'fits', fits)
  return seen


def test_the_largest_that_fits_is_taken_and_printed(tried, capsys):
  run = build.build(auto_config())
  shapes = run.config.shapes
  assert not shapes.auto
  assert (shapes.slots, shapes.micro_tokens) == (40, 512)
  assert shapes.group_buckets == (1, 5)
  assert [slots for phase, slots, _ in tried if phase == 'rollouts'] == [80, 40]
  assert all(slots == 8 for phase, slots, _ in tried if phase == 'update')
  out = capsys.readouterr().out
  assert out.startswith('shapes.auto: proposing shapes from the data ')
  for name in tables.DEFAULTS:
    assert f'shapes.auto: shapes.{name} = {shapes[name]}\n' in out
  # Every prompt of the embedded world and every reformulation of 16 tokens.
  by_hand = small_config().shapes
  assert max(by_hand.prompt_buckets) <= max(shapes.prompt_buckets) <= 240
  assert run.layout.prompt_buckets == shapes.prompt_buckets
  assert run.sampler.engine.shapes.slots[-1] == 40


def test_what_was_set_by_hand_stays(tried):
  c = auto_config(method='grpo')
  c.shapes.update(slots=16, prompt_buckets=(16, 32))
  shapes = build.build(c).config.shapes
  assert (shapes.slots, tuple(shapes.prompt_buckets)) == (16, (16, 32))
  assert shapes.group_buckets == (1, 2) and shapes.micro_tokens == 384
  assert {phase for phase, *_ in tried} == {'update'}


def test_nothing_that_fits_is_said_and_the_least_is_taken(monkeypatch, capsys):
  monkeypatch.setattr(room, 'fits', lambda run, phase, limit: False)
  shapes = build.build(auto_config()).config.shapes
  assert shapes.slots == 8
  assert shapes.micro_tokens == max(shapes.row_buckets)
  assert 'rollouts may not fit the memory' in capsys.readouterr().out


def test_a_resume_takes_what_the_workdir_stores(tmp_path):
  """Also where the memory is another one; fields set by hand are compared by
  the workdir itself."""
  c = auto_config()
  assert auto.of_workdir(c, tmp_path / 'new') is c
  stored = auto.with_shapes(c, {'slots': 24, 'prompt_buckets': (8, 64)})
  (tmp_path / 'attempts').mkdir()
  (tmp_path / 'config.json').write_text(json.dumps({
      'config': json.loads(stored.to_json_best_effort()), 'forked_from': None}))
  again = auto.of_workdir(c, tmp_path)
  assert (again.shapes.auto, again.shapes.slots) == (False, 24)
  assert again.shapes.prompt_buckets == (8, 64)
  c.shapes.slots = 16
  assert auto.of_workdir(c, tmp_path).shapes.slots == 16
  for path in ('', 'best', 'checkpoints/25'):
    assert auto.of_checkpoint(auto_config(), tmp_path / path) == again
  assert auto.of_checkpoint(auto_config(), tmp_path.parent / 'model'
                            ).shapes.auto
  # A run of `zppo sft` stores no shapes of prompts.
  (tmp_path / 'sft' / 'attempts').mkdir(parents=True)
  (tmp_path / 'sft' / 'config.json').write_text(json.dumps({
      'config': {'method': 'sft', 'shapes': {'auto': False,
                                             'row_buckets': [64]}},
      'forked_from': None}))
  assert auto.of_checkpoint(auto_config(), tmp_path / 'sft').shapes.auto
  # The shapes of another config's start, which ended before its first step.
  c = auto_config(seed=7)
  assert auto.of_workdir(c, tmp_path) is c
  (tmp_path / 'metrics.jsonl').write_text('{"step": 0}\n')
  assert auto.of_workdir(c, tmp_path).shapes.slots == 24


def test_questions_alone_propose_what_answers_need(capsys):
  """Two lengths of prompts; the first number of slots that fits; by hand
  stays."""
  run = build.build(small_config(method='grpo'))
  questions = [question for split in run.splits.values() for question in split]
  tried = []

  def fits(c):
    tried.append((c.shapes.slots, c.shapes.prompt_buckets))
    return c.shapes.slots <= 16

  of = lambda c: auto.of_questions(
      c, questions, run.sampler.chat, 128, 64, 8, fits).shapes
  shapes = of(auto_config())
  assert (shapes.auto, shapes.slots, shapes.prompt_buckets) == (False, 16, (8,))
  assert tried == [(64, (8,)), (32, (8,)), (16, (8,))]
  assert shapes.micro_tokens == tables.DEFAULTS['micro_tokens']
  said = capsys.readouterr().out.splitlines()
  assert said[0].startswith('shapes.auto: proposing shapes from the questions')
  assert said[1:] == ['shapes.auto: shapes.prompt_buckets = (8,)',
                      'shapes.auto: shapes.patch_buckets = ()',
                      'shapes.auto: shapes.slots = 16',
                      'shapes.auto: shapes.prefill_tokens = 16']
  c = auto_config()
  c.shapes.update(slots=48, prompt_buckets=(40,))
  shapes = of(c)
  assert (shapes.slots, shapes.prompt_buckets, len(tried)) == (48, (40,), 3)


def test_a_plan_has_no_questions_to_read():
  c = auto_config()
  with pytest.raises(ValueError, match='shapes.auto is True; it reads the '
                     'questions, and there are none here'):
    abstract.run_of(c, topologies.parse('cpu:1'))


@LONG
def test_a_phase_fits_by_what_stands_there_and_the_compilers_temporaries():
  """The limit lies just above and just below both together."""
  run = build.build(small_config(method='grpo'))
  used = max(program.compile().memory_analysis().temp_size_in_bytes
             for name, program in room.lowered(run).items()
             if room.phase_of(name) == room.UPDATE)
  there = room.beside(run, room.UPDATE)
  standing = room.standing_memory(run)
  assert there == sum(standing[part] for part in (
      'student parameters', 'optimizer state', 'gradient'))
  assert used > 0
  assert room.fits(run, room.UPDATE, there + used)
  assert not room.fits(run, room.UPDATE, there + used - 1)
  assert not room.fits(run, room.UPDATE, there - 1)


def test_what_fits_by_counts_is_not_compiled(monkeypatch, capsys):
  """The most that temporaries can be is at least what the compiler tells, and
  where it has room, the compiler is not asked."""
  run = build.build(small_config(method='grpo'))
  programs = room.lowered(run)
  for name, program in programs.items():
    assert room.temporaries(program) <= room.most_temporaries(program), name
  of = lambda phase: room.beside(run, phase) + max(
      room.most_temporaries(program) for name, program in programs.items()
      if room.phase_of(name) == phase)
  asked = []
  monkeypatch.setattr(room, 'temporaries', lambda program: asked.append(1))
  for phase in (room.UPDATE, room.ROLLOUTS):
    assert room.fits(run, phase, int(of(phase)) + 1)
    assert not asked
    assert not capsys.readouterr().out
    assert not room.fits(run, phase, int(of(phase)) - 1)
    assert asked.pop() and not asked
    assert capsys.readouterr().out.startswith('shapes.auto: compiling ')
