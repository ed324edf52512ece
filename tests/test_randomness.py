"""Host-side randomness is a function of names."""

import itertools
import re

import jax
import numpy as np
import pytest

from zppo_jax import randomness
from zppo_jax.randomness import Purpose, host_rng, question_uid


def first(*names):
  return int(host_rng(*names).integers(2**62))


def test_question_uid_is_blake2b():
  # printf 'micro/C/hij/4' | b2sum -l 32
  assert question_uid('micro/C/hij/4') == 0xFAD73942
  assert question_uid('micro/C/hij/5') != question_uid('micro/C/hij/4')


def test_question_uid_is_an_unsigned_32_bit_number():
  uids = [question_uid(f'q{i}') for i in range(2000)]
  assert 0 <= min(uids) and max(uids) < 2**32
  assert max(uids) >= 2**31  # all 32 bits are used
  assert len(set(uids)) == 2000


def test_question_uid_knows_unicode():
  assert question_uid('é') != question_uid('e')


def test_the_same_names_draw_the_same():
  assert first(3, 1, Purpose.DATA) == first(3, 1, Purpose.DATA)


def test_other_seeds_steps_and_purposes_draw_otherwise():
  draws = [first(*names)
           for names in itertools.product(range(4), range(4), Purpose)]
  assert len(set(draws)) == 4 * 4 * len(Purpose)


def test_purposes_are_distinct_numbers():
  assert len({int(p) for p in Purpose}) == len(Purpose)
  assert all(re.fullmatch('[A-Z]+', p.name) for p in Purpose)


@pytest.mark.parametrize('seed', [0, 7, 2**31 - 1, -3, 2**33 + 5])
def test_keys_on_the_host_are_those_of_jax(seed):
  """Threefry by numpy gives what jax.random gives, for all rollouts."""
  uids, kinds = [0, 5, 2**32 - 1, 123456], [0, 1, 2, 3]
  for step in (0, 199):
    key = randomness.step_key(seed, step, Purpose.ROLLOUT)
    data = randomness.step_key_data(seed, step, Purpose.ROLLOUT)
    np.testing.assert_array_equal(jax.random.key_data(key), data)
    want = jax.random.key_data(randomness.rollout_keys(
        key, np.uint32(uids), np.int32(kinds), 5))
    for of in (data, key):
      made = randomness.rollout_key_data(of, uids, kinds, 5)
      assert made.dtype == np.uint32
      np.testing.assert_array_equal(made, want)
  if 0 <= seed < 2**31:
    np.testing.assert_array_equal(
        randomness.seed_key_data(seed, 3), jax.random.key_data(
            randomness.rollout_keys(jax.random.key(seed), np.uint32([0]),
                                    np.int32([0]), 3))[0])
