"""From response texts to verdicts."""

import pytest

from tests.processes import as_processes
from zppo_jax.records import Grader, Question, StopReason, Verdict
from zppo_jax.verdicts import verifier
from zppo_jax.verdicts.grading import grade_all
from zppo_jax.verdicts.kinds import boxed
from zppo_jax.verdicts.sandbox import GradingResult


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


class Counting:
  """A sandbox that says which answers it was given."""

  def __init__(self):
    self.graded = []

  def grade(self, jobs):
    self.graded += [job.answer for job in jobs]
    return [GradingResult('score', float(job.answer == job.reference))
            for job in jobs]


def test_processes_share_the_answers_and_know_all_verdicts(tmp_path):
  """Each answer is graded once, by one process; the first writes the journal,
  and every process knows each result when it comes again."""
  own, sandboxes = [[] for _ in range(3)], [Counting() for _ in range(3)]
  plain = Question('o', '', '2', '')
  kind = Question('k', '', '2', '', kind='number')
  rows = [(rf'\boxed{{{i}}}', StopReason.END, q)
          for i in range(5) for q in (plain, kind)]
  file = tmp_path / 'verdicts.jsonl'

  def work(index):
    def grade(answer, question):
      own[index].append(answer)
      return float(answer == question.answer)
    of = verifier.Verifier(sandboxes[index])
    grader = Grader(boxed.last, grade, verifier=of)
    with verifier.journalled(of, file):
      return [grade_all(rows, grader) for _ in range(2)]

  results = as_processes(3, work)
  wanted = [(Verdict.CORRECT if i == 2 else Verdict.WRONG, str(i))
            for i in range(5) for _ in range(2)]
  assert results == [[wanted, wanted]] * 3
  assert sorted(sum(own, [])) == sorted(2 * list('01234'))
  assert sorted(sum((s.graded for s in sandboxes), [])) == list('01234')
  assert max(len(s.graded) for s in sandboxes) == 2
  assert len(file.read_text().splitlines()) == 5


def test_a_judge_is_asked_by_each_process_for_its_own_rows():
  asked = [0, 0]
  question = Question('j', 'Which?', 'one', '', kind='judge')
  rows = [(rf'\boxed{{{i}}}', StopReason.END, question) for i in range(4)]

  def work(index):
    def ask(requests):
      asked[index] += len(requests)
      return ['{"verdict": "correct"}'] * len(requests)
    return grade_all(rows, Grader(boxed.last, verifier.needs_kind,
                                  verifier=verifier.Verifier(Counting(), ask)))

  assert as_processes(2, work) == [
      [(Verdict.CORRECT, str(i)) for i in range(4)]] * 2
  assert asked == [2, 2]
