"""The fuzz of answers in small: every kind, no exception past the door."""

import pytest

from benchmarks import fuzz_answers

pytest.importorskip('math_verify')
pytest.importorskip('reasoning_gym')


def test_mutated_answers_have_verdicts():
  found = fuzz_answers.main(150, 1)
  assert sum(found['verdicts'].values()) + found['no_answer'] == 150
  assert {name.partition('/')[0] for name in found['by_kind']} == {
      kind.partition(':')[0] for kind in fuzz_answers.KINDS}
  assert min(found['verdicts'][name] for name in ('correct', 'wrong')) > 3


def test_a_seed_says_which_answers():
  assert fuzz_answers.rows(50, 3) == fuzz_answers.rows(50, 3)
  assert fuzz_answers.rows(50, 3) != fuzz_answers.rows(50, 4)
