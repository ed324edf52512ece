"""What lies on the devices while a step scores and updates."""

import dataclasses

import jax
import pytest

from tests.builders import small_config
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.devices import memory
from zppo_jax.train import build, evaluate, step

pytestmark = pytest.mark.usefixtures('quick_compile')


def nbytes(tree):
  return sum(x.nbytes for x in jax.tree.leaves(tree))


def test_caches_and_rollout_copy_make_room(monkeypatch):
  """The update begins with the states, the teacher's weights and the batch on
  the device; the teacher never draws beside the student's caches; nothing
  stays after an evaluation. What is made anew is no new program."""
  earlier = {id(x) for x in jax.live_arrays()}
  run = build.build(small_config())
  state = run.init_state()
  engine, teacher = run.sampler.engine, run.teacher.answers.engine
  largest = engine.programs.largest_cache_bytes()
  copy = memory.device_bytes(run.reshard_fn.copy)
  beside, of_teacher, caches = [], [], []

  def others(*known):
    """Bytes of live arrays besides known ones and earlier tests'."""
    mine = {id(x) for x in jax.tree.leaves((known, run.teacher.params))}
    return nbytes([x for x in jax.live_arrays()
                   if id(x) not in mine | earlier])

  def updated(state, batches, count, **options):
    beside.append(others(state, batches))
    return run.update_fn(state, batches, count, **options)

  empty = engine.programs.empty
  monkeypatch.setattr(engine.programs, 'empty', lambda shape: (
      caches.append(shape), empty(shape))[1])
  monkeypatch.setattr(teacher.programs, 'decode', lambda *args, of=(
      teacher.programs.decode): (of_teacher.append(engine.shape), of(*args))[1])
  of = dataclasses.replace(run, update_fn=updated)
  buffer, compilations = ReplayBuffer(run.buffer_capacity), []
  for i in range(2):
    made = step.train_step(of, state, buffer, i)
    state, buffer = made.state, made.buffer
    compilations.append(made.compilations)
  assert beside and caches
  assert max(beside) < min(copy, largest) / 4
  assert of_teacher and set(of_teacher) == {None}
  evaluate.of_state(run, state)
  before = others(state, made.minibatches)
  assert before < min(copy, largest) / 4
  assert compilations[0]['teacher'] == compilations[1]['teacher']
