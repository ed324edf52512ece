"""Host-side randomness is a function of names."""

import itertools
import re

from zppo_jax.randomness import host_rng, question_uid
from zppo_jax.records import Purpose


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
