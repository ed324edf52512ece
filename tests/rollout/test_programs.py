"""The pool on the device: written in place, replaced row by row."""

import functools

import jax
import numpy as np
import pytest

from tests.engines import FAMILIES, engine, placed, request
from zppo_jax.learner import packing
from zppo_jax.rollout import decode
from zppo_jax.rollout.programs import Geometry

pytestmark = pytest.mark.usefixtures('quick_compile')


def watch(programs, monkeypatch):
  """[(step, leaves of the pool before it, after it)] of what is to come."""
  seen = []

  def wrap(name, step):
    @functools.wraps(step)
    def run(*args):
      (old,) = (x for x in args if isinstance(x, decode.DecodeState))
      out = step(*args)
      new = out[0] if name == 'burst' else out
      seen.append((name, jax.tree.leaves(old), jax.tree.leaves(new)))
      return out
    return run

  for name in ('admit', 'burst', 'grow'):
    monkeypatch.setattr(programs, name, wrap(name, getattr(programs, name)))
  return seen


@pytest.mark.parametrize('family, mesh', [
    ('qwen3', ()), ('qwen3_5', ()), ('qwen3_5', (2, 1, 2))])
def test_the_old_pool_is_gone_after_every_step(family, mesh, make_mesh,
                                               monkeypatch):
  """Prompts and responses outgrow their slots meanwhile: what grew is deleted,
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
  assert {name for name, *_ in seen} == {'admit', 'burst', 'grow'}
  assert e.shape == Geometry(4, 2, 16, 72)
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
def test_a_burst_works_in_place(family, make_mesh):
  """By the compiler: every byte of the pool is aliased, and what it makes
  besides is less than the responses' cache."""
  mesh = make_mesh()
  programs = engine(family, mesh, 4).programs
  used = programs.largest(placed(family, mesh))['burst'].compile()
  used = used.memory_analysis()
  bytes_of = programs.cache_bytes(Geometry(4, 1, 16, 72))
  assert used.alias_size_in_bytes >= sum(bytes_of.values())
  assert used.temp_size_in_bytes < bytes_of['responses']


def test_a_seat_is_replaced_whole(make_mesh):
  """Keys, values, DeltaNet state, convolution and logits of the rows of a
  unit become the prompt's; other rows stay."""
  programs = engine('qwen3_5', make_mesh(), 4).programs
  rng = np.random.default_rng(0)
  fill = functools.partial(jax.tree.map, lambda x: rng.standard_normal(
      x.shape).astype(x.dtype))
  shape = Geometry(4, 2, 8, 64)
  old = fill(jax.eval_shape(lambda: programs.empty(shape)))
  prompts = packing.pad_prompts([request(0), request(1)], 2, 8, 0, 3)
  new = fill(jax.eval_shape(lambda: decode.prefill(
      placed('qwen3_5', make_mesh()), prompts, model=programs.model)))
  got = jax.device_get(programs.admit(
      jax.tree.map(jax.numpy.array, old), new, [1], [1]))
  by_unit = lambda p: (p.prompt_k, p.prompt_v)
  by_row = lambda p: (p.state, p.logits_BV)
  leaves = jax.tree.leaves
  assert len(leaves(new.state)) == 6  # of three layers
  for x, y, z in zip(leaves(by_unit(got)), leaves(by_unit(old)),
                     leaves((new.k, new.v)), strict=True):
    np.testing.assert_array_equal(x[0], y[0])
    np.testing.assert_array_equal(x[1], z[1])
  for x, y, z in zip(leaves(by_row(got)), leaves(by_row(old)),
                     leaves((new.state, new.logits_PV)), strict=True):
    np.testing.assert_array_equal(x[:2], y[:2])
    np.testing.assert_array_equal(x[2], z[1])
    np.testing.assert_array_equal(x[3], z[1])
