"""Cache, journal and gold answers."""

import json
import pathlib
import re

import pytest

from zppo_jax.records import Question, Verdict
from zppo_jax.verdicts import journal, verifier
from zppo_jax.verdicts.wall import Reply


class Fake:
  """A wall that says what it is told to, and counts."""

  def __init__(self, *replies):
    self.replies, self.asked = list(replies), 0

  def grade(self, jobs):
    self.asked += len(jobs)
    return [self.replies.pop(0) for _ in jobs]


def q(answer='5', kind='number'):
  return Question('q', 'How many?', answer, '', kind=kind)


def test_a_resumed_run_is_told_what_the_first_was(tmp_path):
  """A timeout the first time is one the second time; a crash is not kept."""
  path = tmp_path / 'verdicts.jsonl'
  rows = [('a', q()), ('b', q()), ('a', q()), ('\ud800', q())]
  first = verifier.Verifier(Fake(
      Reply('timeout', reason='late'), Reply('score', 0.5), Reply('crash')))
  first.keep(path)
  told = first.grade(rows)
  assert first.wall.asked == 3 and told[0] == told[2]
  with open(path, 'a') as f:
    f.write('{"key": "torn')
  second = verifier.Verifier(Fake(Reply('score', 1.0)))
  assert second.keep(path) == 2
  again = second.grade(rows)
  assert again[:3] == told[:3] and again[3].score == 1
  assert second.wall.asked == 1
  assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_broken_line_in_the_middle_is_named(tmp_path):
  """Not skipped."""
  path = tmp_path / 'verdicts.jsonl'
  path.write_text('{}\n{}\n')
  with pytest.raises(ValueError, match='line 1'):
    journal.read(path)


def test_correct_is_a_threshold():
  """Never score != 0."""
  assert verifier.verdict(Reply('score', 0.5), 0.5) == Verdict.CORRECT
  assert verifier.verdict(Reply('score', 0.49), 0.5) == Verdict.WRONG
  assert verifier.verdict(Reply('unreadable'), 0.1) == Verdict.GOLD_UNREADABLE


def test_a_flood_is_wrong_without_being_graded():
  """1 MB of text never reaches a worker."""
  found = verifier.Verifier(Fake())
  assert found.grade([('9' * 10**6, q())]) == [Reply('score', 0.0)]


def test_gold_answers_are_looked_at_before_a_run():
  """Where it is cheap, and unknown kinds name the question."""
  found = verifier.check_golds([q(), q('five'), q('?', 'math'), q('x', '')])
  assert found.checked == 2 and list(found.unreadable) == ['q']
  with pytest.raises(KeyError, match="'q'.*unknown kind 'nonsense'.*math"):
    verifier.check_golds([q(kind='nonsense')])


def test_other_rules_have_other_keys(monkeypatch):
  """A journal of old comparisons is not told for new ones: the key holds the
  code of all of them, and the versions of what they call."""
  before = {kind: journal.key(kind, '5', '5') for kind in ('math', 'number')}
  versions = journal.metadata.version
  monkeypatch.setattr(journal.metadata, 'version',
                      lambda name: versions(name) + ('.1' * (name == 'sympy')))
  journal._versions.cache_clear()
  try:
    assert journal.key('math', '5', '5') != before['math']
    assert journal.key('number', '5', '5') == before['number']
  finally:
    journal._versions.cache_clear()
  monkeypatch.setattr(journal, 'rules', lambda: 'another digest')
  for kind, key in before.items():
    assert journal.key(kind, '5', '5') != key


def test_the_rules_are_all_that_compares():
  """Whatever file of verdicts/ a computed kind is made of is in the digest."""
  here = pathlib.Path(journal.__file__).parent
  found, left = set(), ['kinds']
  while left:
    name = left.pop()
    if name in found:
      continue
    found.add(name)
    for line in re.findall(r'^from zppo_jax\.verdicts(?:\.(\w+))? import '
                           r'(\([^)]*\)|.*)', (here / f'{name}.py').read_text(),
                           re.MULTILINE):
      left += [line[0]] if line[0] else re.findall(r'\w+', line[1])
  assert found == set(journal.RULES)
