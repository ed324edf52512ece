"""The fuzz of answers in small: every kind, no exception past the door."""

import pytest

from benchmarks import fuzz_answers
from tests.long import LONG, long
from zppo_jax.records import Verdict
from zppo_jax.verdicts import verifier

pytest.importorskip('math_verify')
pytest.importorskip('reasoning_gym')

COUNT = 150


@LONG
def test_mutated_answers_have_verdicts():
  """Each has one, and those that nothing was done to have the right one."""
  found = fuzz_answers.main(COUNT, 1)
  assert sum(found['verdicts'].values()) + found['no_answer'] == COUNT
  assert {name.partition('/')[0] for name in found['by_kind']} == {
      kind.partition(':')[0] for kind in fuzz_answers.KINDS}
  assert found['faults'] == []


def test_each_kind_is_known_to_be_right_and_wrong_in_some():
  """What is known holds both verdicts of every kind that computes, so that a
  kind which always says one of them is a fault of the run above."""
  known = {(row.question.kind, row.wanted)
           for row in fuzz_answers.rows(COUNT, 1) if row.wanted is not None}
  assert known == {(kind, verdict) for kind in fuzz_answers.KINDS
                   for verdict in (Verdict.CORRECT, Verdict.WRONG)
                   if kind != 'judge'}


@pytest.mark.parametrize('verdict', [
    Verdict.CORRECT, long(Verdict.WRONG)])
def test_a_verifier_of_one_verdict_is_a_fault(monkeypatch, verdict):
  monkeypatch.setattr(verifier, 'verdict', lambda reply, threshold: verdict)
  faults = fuzz_answers.main(COUNT, 1)['faults']
  assert {kind for kind, _, _, _ in faults} == {*fuzz_answers.KINDS} - {'judge'}


def test_a_seed_says_which_answers():
  assert fuzz_answers.rows(50, 3) == fuzz_answers.rows(50, 3)
  assert fuzz_answers.rows(50, 3) != fuzz_answers.rows(50, 4)
