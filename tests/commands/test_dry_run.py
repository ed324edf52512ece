"""What a run would do, without doing it."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from tests.builders import small_config
from tests.long import LONG
from zppo_jax.commands import dry_run
from zppo_jax.devices import memory
from zppo_jax.plan import estimate
from zppo_jax.runs import console
from zppo_jax.train import build


def test_it_says_what_it_would_do_and_compiles_nothing(tmp_path, capsys,
                                                       monkeypatch):
  """By counts: a step that trains takes longer, and as many updates fewer."""
  monkeypatch.setattr(estimate.measured, 'measure', lambda *_: {
      'flops': 1e11, 'bytes': 1e10})
  monkeypatch.setattr(jax.stages.Lowered, 'compile',
                      lambda self: pytest.fail('compiled'))
  config = small_config(steps=7)
  dry_run.main(config, tmp_path / 'run')
  out = capsys.readouterr().out
  assert not (tmp_path / 'run').exists()
  assert 'programs' not in out  # --details has their bound
  assert re.search(r'\n  rollouts, all together +[\d.]+ MiB of [\d.]+ GiB\n',
                   out)
  assert '  it fits but for temporaries, which --measure compiles\n' in out
  assert '100 GFLOP/s, 10 GB/s\n' in out
  low, high, steps, rounds = map(float, re.search(
      r'estimated: (\S+) to (\S+) s for (\d+) steps and (\d+) ev',
      out).groups())
  run = build.build(config)
  of = estimate.of_run(run)
  assert (steps, rounds) == (7, 2) and 0 < of.drawn < of.step
  assert low == pytest.approx(7 * of.drawn + 2 * of.evaluation, rel=0.05)
  assert high == pytest.approx(7 * of.step + 2 * of.evaluation, rel=0.05)
  fewer = estimate.of_run(dataclasses.replace(run, num_updates=1))
  assert fewer.drawn == of.drawn and fewer.step < of.step


@LONG
def test_it_measures_steps_and_writes_nothing(tmp_path, capsys):
  config = small_config(steps=7)
  dry_run.main(config, tmp_path / 'run', measure=True)
  out = capsys.readouterr().out
  assert not (tmp_path / 'run').exists()
  assert len(out.splitlines()) < 45  # a page
  assert 'algorithm.num_new=8' in out and 'as in configs/base.py (' in out
  assert 'judge.retries' not in out and 'student prefill' not in out
  assert 'zppo, 7 steps of 8 new and at most 2 replayed' in out
  assert '  student 113,696\n' in out
  assert ('prompts of 64 questions: 6 to 6 tokens, median 6; buckets 184\n'
          in out)
  assert 'responses of at most 16 tokens; rows of' in out
  assert re.search(r'\n  update, with temporaries +[\d.]+ MiB of [\d.]+ GiB\n'
                   '  it fits\n', out)
  assert 'estimated:' in out and '7 steps and 2 evaluations' in out


def test_details_are_every_field_shape_and_program(capsys):
  config = small_config()
  console.show_config(config, 'base', details=True)
  dry_run._show_details(build.build(config))
  out = capsys.readouterr().out
  assert '  algorithm.num_new = 8\n' in out and '  judge.retries = 4\n' in out
  assert ('  training responses              80 x 200    xla: the platform is '
          'cpu\n') in out
  assert re.search(r'\n  student engine +\d+\n', out)


def test_what_does_not_fit_is_said_and_not_measured(monkeypatch, tmp_path,
                                                    capsys):
  monkeypatch.setattr(dry_run.room, 'limit', lambda: 2**20)
  monkeypatch.setattr(dry_run, 'lowered', lambda run: {})
  monkeypatch.setattr(dry_run, '_measure', lambda run: pytest.fail('measured'))
  with pytest.raises(SystemExit) as e:
    dry_run.main(small_config(), tmp_path / 'run', measure=True)
  assert e.value.code == 1
  assert capsys.readouterr().out.endswith(
      'MiB of 1.0 MiB\n  it does NOT fit: `zppo plan` names other settings, '
      'and shapes.auto chooses slots and micro-batches that do\n')


def test_standing_memory_by_hand():
  """4 bytes a parameter, and as many again for each of two moments."""
  run = build.build(small_config())
  number = memory.count(run.abstract_state.params)
  found = dry_run.standing_memory(run)
  counters = 2 * 4  # two int32 step counters
  c = run.sampler.engine.programs.model.config
  # Keys, values and logits of a slot; the teacher also writes summaries.
  slot_bytes = lambda response: 4 * (
      2 * c.num_layers * c.num_kv_heads * c.head_dim * (184 + response)
      + c.vocab_size)
  assert found == {
      'student parameters': 4 * number, 'optimizer state': 8 * number + counters
      - 4, 'gradient': 4 * number, 'rollout copy of the student': 4 * number,
      'teacher parameters': 4 * number,
      "cache of the student's slots": 80 * slot_bytes(16),
      "cache of the teacher's slots": 8 * slot_bytes(33)}


def test_a_limit_on_slots_and_small_weights_save_memory():
  """32 of 80 slots have 0.4 of the cache, an eighth of it a device on eight
  but for logits; int8 has less than a third of the copy."""
  c = small_config()
  c.shapes.slots, c.student.rollout_weights = 32, 'int8'
  run = build.build(c)
  less, whole = (dry_run.standing_memory(x)
                 for x in (run, build.build(small_config())))
  cache, copy = "cache of the student's slots", 'rollout copy of the student'
  assert 80 * less[cache] == 32 * whole[cache]
  assert less[copy] < 0.3 * whole[copy]
  c.mesh = {'data': 2, 'fsdp': 2, 'tensor': 2}
  split = dry_run.standing_memory(build.build(c))
  logits = 4 * 32 * run.sampler.engine.programs.model.config.vocab_size
  assert 8 * (split[cache] - logits // 4) == less[cache] - logits


def test_memory_is_per_device():
  """Sharded eight ways: an eighth, but for norms, which are whole."""
  config = small_config(mesh={'data': 1, 'fsdp': 8, 'tensor': 1})
  run = build.build(config)
  whole = build.build(small_config())
  one = dry_run.standing_memory(whole)['student parameters']
  norms = 4 * sum(
      int(np.prod(x.shape)) for path, x in jax.tree_util.tree_leaves_with_path(
          run.abstract_state.params) if path[-1].key == 'scale')
  assert dry_run.standing_memory(run)['student parameters'] == (
      (one - norms) // 8 + norms)


def test_sizes_have_units():
  sizes = {0: '0 B', 1023: '1023 B', 1536: '1.5 KiB', 3 * 2**30: '3.0 GiB',
           5000 * 2**30: '5000.0 GiB'}
  assert {n: memory.size(n) for n in sizes} == sizes


def test_the_largest_program_of_every_engine_lowers():
  run = build.build(small_config())
  assert set(dry_run.lowered(run)) == {
      'student prefill', 'student decode chunk', 'teacher prefill',
      'teacher decode chunk',
      'scoring', 'gradient of a micro-batch', 'optimizer step'}


def test_abstract_state_is_the_initial_states():
  """Shapes, types and shardings."""
  run = build.build(small_config())
  state = run.init_state()
  for a, b in zip(jax.tree.leaves(run.abstract_state), jax.tree.leaves(state),
                  strict=True):
    assert (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding)
