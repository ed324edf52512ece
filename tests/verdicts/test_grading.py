"""From response texts to verdicts."""

import pytest

from zppo_jax.records import Grader, Question, StopReason, Verdict
from zppo_jax.verdicts import verifier
from zppo_jax.verdicts.grading import grade_all
from zppo_jax.verdicts.kinds import boxed


def test_each_row_by_its_own_kind(monkeypatch):
  """Own grader without a kind, the verifier with one, neither if truncated."""
  monkeypatch.setattr(verifier, '_SHARED', [])
  own = Question('o', '', 'x', '')
  kind = Question('k', '', '5', '', kind='number')
  grader = Grader(boxed.last, lambda answer, q: 0.6, threshold=0.5)
  end, cut = StopReason.END, StopReason.LENGTH
  assert grade_all([
      (r'\boxed{y}', end, own), (r'\boxed{5.0}', end, kind),
      (r'\boxed{5}', cut, kind), ('5', end, kind), (r'\boxed{6}', end, kind),
  ], grader) == [
      (Verdict.CORRECT, 'y'), (Verdict.CORRECT, '5.0'),
      (Verdict.TRUNCATED, '5'), (Verdict.NO_ANSWER, ''), (Verdict.WRONG, '6')]
  verifier.shared().sandbox.close()


def test_a_threshold_of_nothing_is_refused():
  """Correctness is never mean == 0."""
  with pytest.raises(ValueError, match='threshold is 0'):
    Grader(boxed.last, lambda a, q: 0, threshold=0)


@pytest.mark.parametrize('score, want', [
    (0.5, Verdict.CORRECT), (0.4999, Verdict.WRONG), (1, Verdict.CORRECT)])
def test_a_score_at_the_threshold_is_right(score, want):
  """Of a task's own grader; of a kind: tests/verdicts/test_verifier.py."""
  grader = Grader(boxed.last, lambda answer, q: score, threshold=0.5)
  asked = Question('o', '', 'x', '')
  assert grade_all([(r'\boxed{y}', StopReason.END, asked)], grader) == [
      (want, 'y')]
