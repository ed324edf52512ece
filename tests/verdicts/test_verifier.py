"""Cache, journal and gold answers."""

import json
import pathlib
import re

import pytest

from zppo_jax.records import Question, Verdict
from zppo_jax.verdicts import journal, kinds, verifier
from zppo_jax.verdicts.sandbox import GradingResult


class Fake:
  """A sandbox that says what it is told to, and counts."""

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
      GradingResult('timeout', reason='late'), GradingResult('score', 0.5),
      GradingResult('crash')))
  first.keep(path)
  told = first.grade(rows)
  assert first.sandbox.asked == 3 and told[0] == told[2]
  with open(path, 'a') as f:
    f.write('{"key": "torn')
  second = verifier.Verifier(Fake(GradingResult('score', 1.0)))
  assert len(second.keep(path).verdicts) == 2
  again = second.grade(rows)
  assert again[:3] == told[:3] and again[3].score == 1
  assert second.sandbox.asked == 1
  assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_broken_line_in_the_middle_is_named(tmp_path):
  """Not skipped."""
  path = tmp_path / 'verdicts.jsonl'
  path.write_text('{}\n{}\n')
  with pytest.raises(ValueError, match='line 1'):
    journal.read(path)


def test_correct_is_a_threshold():
  """Never score != 0."""
  assert verifier.verdict(GradingResult('score', 0.5), 0.5) == Verdict.CORRECT
  assert verifier.verdict(GradingResult('score', 0.49), 0.5) == Verdict.WRONG
  unreadable = verifier.verdict(GradingResult('unreadable'), 0.1)
  assert unreadable == Verdict.GOLD_UNREADABLE


def test_a_flood_is_wrong_without_being_graded():
  """1 MB of text never reaches a worker."""
  found = verifier.Verifier(Fake())
  assert found.grade([('9' * 10**6, q())]) == [GradingResult('score', 0.0)]


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
  """Each file of kinds/ of which a computed kind is made is in the digest."""
  here = pathlib.Path(kinds.__file__).parent
  rules, left = set(), ['__init__']
  while left:
    name = left.pop()
    if name in rules:
      continue
    rules.add(name)
    for folder, module, names in re.findall(
        r'^from zppo_jax\.verdicts\.kinds(\.ocrbench)?(?:\.(\w+))? import '
        r'(\([^)]*\)|.*)', (here / f'{name}.py').read_text(), re.MULTILINE):
      left += [f'ocrbench/{one}' if folder else 'ocrbench/__init__'
               if one == 'ocrbench' else one
               for one in ([module] if module else re.findall(r'\w+', names))]
    # Nothing of verdicts/ outside of kinds/ compares.
    assert not re.search(r'zppo_jax\.verdicts( |\.(?!kinds))',
                         (here / f'{name}.py').read_text())
  assert rules == set(journal.RULES)


def test_a_journal_of_other_rules_is_named_as_outdated(tmp_path, monkeypatch):
  """A run of an earlier version goes on: what its rules said of an answer is
  neither used nor kept silent; the judge's verdicts hold."""
  path = tmp_path / 'verdicts.jsonl'
  ask = lambda asked: ['{"verdict": "correct"}' for _ in asked]
  rows = [('5', q()), ('five', q('5', 'judge'))]
  with monkeypatch.context() as m:
    m.setattr(journal, 'rules', lambda: 'earlier rules')
    before = verifier.Verifier(Fake(GradingResult('score', 0.0)), ask)
    assert before.keep(path).note(path) == ''
    assert [r.score for r in before.grade(rows)] == [0.0, 1.0]
  # Lines of versions that named no rules, as they were written then.
  with open(path, 'a') as f:
    for kind in ('text', 'math', 'judge'):
      f.write(json.dumps({'key': kind, 'kind': kind, 'status': 'score',
                          'score': 1.0, 'reason': ''}) + '\n')
  now = verifier.Verifier(Fake(GradingResult('score', 1.0)),
                          lambda asked: pytest.fail('was judged before'))
  contents = now.keep(path)
  assert (contents.outdated, len(contents.verdicts)) == (3, 2)
  assert re.match(f'{path}: 3 verdicts .* graded anew', contents.note(path))
  assert [r.score for r in now.grade(rows)] == [1.0, 1.0]
  assert now.sandbox.asked == 1
  again = journal.read(path)
  assert (again.outdated, len(again.verdicts)) == (3, 3)


def test_a_key_that_is_no_text_is_named(tmp_path):
  path = tmp_path / 'verdicts.jsonl'
  journal.append(path, [(['k'], 'text', GradingResult('score', 1.0)),
                        ('k', 'text', GradingResult('score', 1.0))])
  with pytest.raises(ValueError, match=f'{path}, line 1: not a verdict'):
    journal.read(path)
