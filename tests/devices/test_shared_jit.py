"""Equal functions share a program; others do not."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from zppo_jax import models
from zppo_jax.devices import sharding, shared_jit as shared
from zppo_jax.learner import optimizers
from zppo_jax.rollout import programs

pytestmark = pytest.mark.usefixtures('own_programs')


def scaled(x, *, by, then=None):
  return x * by if then is None else then(x * by)


@dataclasses.dataclass(frozen=True)
class Settings:
  scale: float
  names: tuple = ()


of = functools.partial


@pytest.mark.parametrize('one, other', [
    (of(scaled, by=2), of(scaled, by=2)),
    (of(scaled, by=2, then=of(scaled, by=3)),
     of(scaled, by=2, then=of(scaled, by=3))),
    (of(scaled, by=Settings(1.0, ('a',))),
     of(scaled, by=Settings(1.0, ('a',)))),
    (of(scaled, by={'a': [1, 2], 'b': 3}),
     of(scaled, by={'b': 3, 'a': [1, 2]}))])
def test_equal_functions_are_one(one, other):
  assert one is not other
  assert shared.shared_jit(one) is shared.shared_jit(other)


@pytest.mark.parametrize('one, other', [
    (of(scaled, by=2), of(scaled, by=3)),
    (of(scaled, by=1), of(scaled, by=1.0)),  # the types of results differ
    (of(scaled, by=1), of(scaled, by=True)),
    (of(scaled, by=Settings(1.0)), of(scaled, by=Settings(1))),
    (of(scaled, by=(1, 2)), of(scaled, by=[1, 2])),
    (of(scaled, by=2), of(scaled, by=2, then=None)),
    (of(scaled, by=2, then=lambda x: x), of(scaled, by=2, then=lambda x: x)),
    (of(scaled, by=np.ones(2)), of(scaled, by=np.ones(2))),
    (of(scaled, by=jnp.ones(2)), of(scaled, by=jnp.ones(2)))])
def test_others_are_not(one, other):
  assert shared.shared_jit(one) is not shared.shared_jit(other)


def test_options_count_and_keep_their_own_programs(make_mesh):
  one, two = make_mesh(), make_mesh(data=2)
  place = lambda mesh: jax.NamedSharding(mesh, PartitionSpec('data'))
  jits = [shared.shared_jit(scaled, static_argnames='by'),
          *(shared.shared_jit(scaled, static_argnames='by',
                              out_shardings={'x': place(mesh)}['x'])
            for mesh in (one, two, two))]
  assert len({id(f) for f in jits}) == 3 and jits[2] is jits[3]
  out = [f(jnp.arange(4.), by=2) for f in jits]
  assert [f._cache_size() for f in jits[:3]] == [1, 1, 1]
  assert len(out[0].devices()) == 1 and len(out[2].devices()) == 2


@pytest.mark.parametrize('name, value', [
    ('jax_disable_most_optimizations', None), ('jax_optimization_level', 'O1'),
    ('jax_exec_time_optimization_effort', 0.5),
    ('jax_memory_fitting_level', 'O0'), ('jax_memory_fitting_effort', 0.5)])
def test_what_is_compiled_otherwise_is_another(name, value):
  """Each setting of JAX that its own caches do not know of."""
  assert name in shared.SETTINGS
  if name not in shared.settings():
    pytest.skip('this version of JAX has no such setting')
  before, one = shared.settings()[name], shared.shared_jit(of(scaled, by=2))
  jax.config.update(name, not before if value is None else value)
  try:
    other = shared.shared_jit(of(scaled, by=2))
    assert other is not one and shared.shared_jit(of(scaled, by=2)) is other
  finally:
    jax.config.update(name, before)
  assert shared.shared_jit(of(scaled, by=2)) is one


def test_every_setting_is_tried():
  (mark,) = test_what_is_compiled_otherwise_is_another.pytestmark
  assert {name for name, _ in mark.args[1]} == set(shared.SETTINGS)


def test_what_stands_for_a_function_made_anew():
  make = lambda by: lambda x: x * by
  jits = [shared.shared_jit(make(by), of=('times', by)) for by in (2, 2, 3)]
  assert jits[0] is jits[1] and jits[0] is not jits[2]
  assert [int(f(5)) for f in jits] == [10, 10, 15]


def test_those_used_last_stay(monkeypatch):
  monkeypatch.setattr(shared, 'KEPT', 2)
  a, b = (shared.shared_jit(of(scaled, by=n)) for n in (1, 2))
  assert shared.shared_jit(of(scaled, by=1)) is a
  shared.shared_jit(of(scaled, by=3))
  assert shared.shared_jit(of(scaled, by=1)) is a
  assert shared.shared_jit(of(scaled, by=2)) is not b


def test_models_optimizers_and_engines_of_equal_runs(make_mesh):
  """A second run of a process compiles nothing for its engine, and counts
  nothing."""
  fields = dict(vocab_size=24, width=16, num_layers=1, num_heads=2,
                num_kv_heads=2, head_dim=8, mlp_width=16, max_positions=64)
  make = lambda: models.on_mesh(models.build('llama', **fields), make_mesh())
  model = make()
  assert make() is model
  assert models.build('llama', **{**fields, 'width': 32}) != model
  adam = lambda **more: optimizers.adamw(
      optimizers.AdamWConfig(learning_rate=0.1, **more), steps=3)
  assert adam() is adam() and adam(b1=0.5) is not adam()

  shapes = programs.Shapes(
      slots=(2,), samples_per_prompt=(1,), prompt_lengths=(4,),
      response_lengths=(4,), patches=(), prefill_sizes=(2,))
  counts = []
  for _ in range(2):
    of_run = programs.Programs(make(), sharding.make_mesh(
        sharding.MeshConfig(), jax.devices()[:1]), shapes)
    of_run.empty(shapes.largest)
    of_run.empty(shapes.largest)
    counts.append(of_run.compilations)
  assert counts == [1, 0]
