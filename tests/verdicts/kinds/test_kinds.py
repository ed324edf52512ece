"""Kinds of somebody's own: module:function."""

import importlib
import sys

import pytest

from zppo_jax.records import Question
from zppo_jax.verdicts import journal, kinds, verifier
from zppo_jax.verdicts.sandbox import Sandbox, SandboxLimits

MODULE = """
import time

def mark(answer, gold):
  if answer == 'hang':
    while True:
      time.sleep(1)
  return answer == gold

NUMBER = 3
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
  """A folder with the module `own_marks`, importable."""
  (tmp_path / 'own_marks.py').write_text(MODULE)
  monkeypatch.syspath_prepend(tmp_path)
  importlib.invalidate_caches()
  yield tmp_path
  sys.modules.pop('own_marks', None)
  kinds._own.cache_clear()
  journal._digest_of_file.cache_clear()


def test_a_function_of_ones_own_is_graded_in_the_sandbox(home):
  """Right, wrong, and one that never ends, which nothing waits for."""
  asked = Question('q', 'How many?', '5', '', kind='own_marks:mark')
  sandbox = Sandbox(SandboxLimits(cpu_s=1, wall_s=0.5, workers=1))
  try:
    told = verifier.Verifier(sandbox).grade(
        [(answer, asked) for answer in ('5', '6', 'hang')])
  finally:
    sandbox.close()
  assert [r.status for r in told] == ['score', 'score', 'timeout']
  assert [r.score for r in told[:2]] == [1.0, 0.0]


def test_a_changed_function_has_other_verdicts(home):
  """The key of a kept verdict holds what the file said."""
  before = journal.key('own_marks:mark', '5', '5')
  assert before == journal.key('own_marks:mark', '5', '5')
  (home / 'own_marks.py').write_text(MODULE.replace('==', '!='))
  journal._digest_of_file.cache_clear()
  assert journal.key('own_marks:mark', '5', '5') != before


@pytest.mark.parametrize('name, message', [
    ('own_marks:nothing', "own_marks has no function 'nothing'"),
    ('own_marks:NUMBER', "no function 'NUMBER'"),
    ('no_such_module:mark', "no module 'no_such_module' is installed"),
    ('nonsense', 'known: math.*module:function')])
def test_what_is_no_kind_is_named(home, name, message):
  with pytest.raises(KeyError, match=message):
    kinds.get(name)
