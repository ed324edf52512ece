"""The decode state: written in place, replaced slot by slot, laid out by name.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests.engines import FAMILIES, engine, placed, request
from tests.long import LONG, long
from zppo_jax.devices import sharding
from zppo_jax.learner import packing
from zppo_jax.rollout import decode, decode_state
from zppo_jax.rollout.decode_state import DecodeShape
from zppo_jax.rollout.programs import shardings_by_axis

pytestmark = pytest.mark.usefixtures('quick_compile')

SHAPE = DecodeShape(slots=4, samples_per_prompt=2, prompt_length=16,
                    response_length=72)


SHARDINGS = {'B': 'over the batch', 'U': 'over the batch', 'R': 'whole'}


def test_shardings_go_by_the_axis_in_a_name():
  """In whatever order a record lists its fields."""
  names = [f.name for f in dataclasses.fields(decode_state.SamplingState)]
  shuffled = dataclasses.make_dataclass('Shuffled', sorted(names)[::-1])
  assert [f.name for f in dataclasses.fields(shuffled)] != names
  for record in (decode_state.SamplingState, shuffled):
    by_name = shardings_by_axis(record, SHARDINGS)
    assert by_name.written_R == 'whole'
    assert {getattr(by_name, name) for name in names
            if name != 'written_R'} == {'over the batch'}


@pytest.mark.parametrize('name', ['seen_V', 'seen', 'B'])
def test_a_field_without_a_known_axis_has_no_sharding(name):
  record = dataclasses.make_dataclass('Record', ['live_B', name])
  with pytest.raises(KeyError, match=rf'first axis of Record.{name} .*B, U, R'):
    shardings_by_axis(record, SHARDINGS)


@LONG
def test_the_host_record_on_eight_devices(make_mesh):
  """Slots and slot groups over the batch; the response index is replicated."""
  mesh = make_mesh(2, 2, 2)
  lowered = engine('qwen3', mesh, 8).programs.largest(placed('qwen3', mesh))
  (_, _, sampling, plan), _ = lowered['decode chunk'].compile().input_shardings
  over, whole = sharding.batch_sharding(mesh), sharding.replicated(mesh)
  used = {f.name: getattr(sampling, f.name) for f in dataclasses.fields(
      sampling) if f.name not in ('top_p_B', 'top_k_B')}  # DRAW reads neither
  for name, placing in used.items():
    assert placing.is_equivalent_to(
        whole if name == 'written_R' else over, 1 + name.endswith('2')), name
  assert all(x.is_fully_replicated for x in jax.tree.leaves(plan))


def watch(programs, monkeypatch):
  """[(step, leaves of the decode state before it, after it)] of the steps to
  come."""
  seen = []

  def wrap(name, step):
    @functools.wraps(step)
    def run(*args):
      (old,) = (x for x in args if isinstance(x, decode.DecodeState))
      out = step(*args)
      new = out[0] if name == 'decode' else out
      seen.append((name, jax.tree.leaves(old), jax.tree.leaves(new)))
      return out
    return run

  for name in ('insert', 'decode', 'grow'):
    monkeypatch.setattr(programs, name, wrap(name, getattr(programs, name)))
  return seen


@pytest.mark.parametrize('family, mesh', [
    ('qwen3', ()), long('qwen3_5', ()), long('qwen3_5', (2, 1, 2))])
def test_the_old_state_is_gone_after_every_step(family, mesh, make_mesh,
                                               monkeypatch):
  """Prompts and responses outgrow their caches meanwhile: what grew is deleted,
  the rest is not even copied."""
  mesh = make_mesh(*mesh)
  e = engine(family, mesh, 4)
  seen = watch(e.programs, monkeypatch)
  e.load(placed(family, mesh))
  e.submit(request(0, limit=70))
  e.submit(request(1, limit=3))
  assert len(e.poll()) == 2
  e.submit(request(2, 16, limit=3))
  while e.busy:
    e.poll()
  assert {name for name, *_ in seen} == {'insert', 'decode', 'grow'}
  assert e.shape == SHAPE
  for name, old, new in seen:
    if name != 'grow':
      assert all(x.is_deleted() for x in old), name
      continue
    grew = [x.shape != y.shape for x, y in zip(old, new, strict=True)]
    layers = 4 if family == 'qwen3' else 1  # of attention; keys and values
    assert sum(grew) == 2 * layers
    assert [x.is_deleted() for x, g in zip(old, grew, strict=True) if g] == [
        True] * sum(grew)
    assert all(x is y for x, y, g in zip(old, new, grew, strict=True) if not g)


@pytest.mark.parametrize('family', FAMILIES)
def test_a_decode_chunk_works_in_place(family, make_mesh):
  """By the compiler: every byte of the decode state is aliased, and what it
  makes besides is less than the responses' cache."""
  mesh = make_mesh()
  programs = engine(family, mesh, 4).programs
  used = programs.largest(placed(family, mesh))['decode chunk'].compile()
  used = used.memory_analysis()
  bytes_of = programs.cache_bytes(dataclasses.replace(
      SHAPE, samples_per_prompt=1))
  assert used.alias_size_in_bytes >= sum(bytes_of.values())
  assert used.temp_size_in_bytes < bytes_of['responses']


def test_a_slot_group_is_replaced_whole(make_mesh):
  """Keys, values, DeltaNet state, convolution and logits of the slots
  of a group become the prompt's; other slots stay."""
  programs = engine('qwen3_5', make_mesh(), 4).programs
  rng = np.random.default_rng(0)
  fill = functools.partial(jax.tree.map, lambda x: rng.standard_normal(
      x.shape).astype(x.dtype))
  shape = dataclasses.replace(SHAPE, prompt_length=8, response_length=64)
  old = fill(jax.eval_shape(lambda: programs.empty(shape)))
  prompts = packing.pad_prompts([request(0), request(1)], 2, 8, 0, 3)
  new = fill(jax.eval_shape(lambda: decode.prefill(
      placed('qwen3_5', make_mesh()), prompts, model=programs.model)))
  got = jax.device_get(programs.insert(
      jax.tree.map(jax.numpy.array, old), new, [1], [1]))
  by_group = lambda p: (p.prompt_k, p.prompt_v)
  by_slot = lambda p: (p.recurrent, p.logits_BV)
  leaves = jax.tree.leaves
  assert len(leaves(new.recurrent)) == 6  # of three layers
  for x, y, z in zip(leaves(by_group(got)), leaves(by_group(old)),
                     leaves((new.k, new.v)), strict=True):
    np.testing.assert_array_equal(x[0], y[0])
    np.testing.assert_array_equal(x[1], z[1])
  for x, y, z in zip(leaves(by_slot(got)), leaves(by_slot(old)),
                     leaves((new.recurrent, new.logits_PV)), strict=True):
    np.testing.assert_array_equal(x[:2], y[:2])
    np.testing.assert_array_equal(x[2], z[1])
    np.testing.assert_array_equal(x[3], z[1])
