"""Records of the slots: made idle in one place, enlarged without a loss."""

import dataclasses

import numpy as np

from zppo_jax.rollout import decode_state
from zppo_jax.rollout.decode_state import DecodeShape

SHAPE = DecodeShape(slots=4, samples_per_prompt=2, prompt_length=8,
                    response_length=6)


def axes(name):
  return name.rpartition('_')[2]


def test_every_array_has_the_axes_of_its_name():
  sizes = {'B': 4, 'U': 2, 'R': 6, '2': 2}
  idle = decode_state.idle(SHAPE)
  for field in dataclasses.fields(idle):
    want = tuple(sizes[a] for a in axes(field.name))
    assert getattr(idle, field.name).shape == want, field.name


def test_an_idle_slot_sees_no_index_and_draws_nothing():
  idle = decode_state.idle(SHAPE)
  assert not idle.live_B.any()
  assert not (idle.written_R >= idle.start_B[:, None]).any()


def test_a_larger_state_keeps_what_was_there():
  """Every field, whatever its axis; what is new is idle."""
  old = decode_state.idle(SHAPE)
  rng = np.random.default_rng(0)
  for field in dataclasses.fields(old):
    array = getattr(old, field.name)
    array[:] = rng.integers(0, 2, array.shape)
  shape = dataclasses.replace(SHAPE, slots=6, response_length=9)
  new, idle = decode_state.resized(old, shape), decode_state.idle(shape)
  for field in dataclasses.fields(old):
    before, after, fresh = (
        getattr(x, field.name) for x in (old, new, idle))
    assert after.shape == fresh.shape and after.dtype == before.dtype
    np.testing.assert_array_equal(after[:len(before)], before)
    np.testing.assert_array_equal(after[len(before):], fresh[len(before):])
