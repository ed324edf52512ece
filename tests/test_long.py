"""Which tests README's command leaves out, and what stays in it."""

import collections
import json
import os
import subprocess
import sys
import time

import pytest

from tests import long
from tests.builders import ROOT


def test_every_file_with_long_tests_has_others(request):
  """Of the files of this session: the whole suite looks at all of them."""
  counts = collections.Counter(
      (name.partition('::')[0], is_long)
      for name, is_long in request.config.stash[long.COLLECTED])
  alone = [file for file, is_long in counts
           if is_long and not counts[file, False]]
  assert not alone


@pytest.mark.parametrize('test, rows', [
    ('train/test_step.py::test_every_method_runs_what_its_row_says',
     ('zppo', 'grpo', 'grpo_replay')),
    ('train/test_distillation.py::test_every_row_trains_two_steps',
     ('on_distill_replay', 'opd_k2')),
    ('train/test_distillation.py::'
     'test_the_student_as_its_teacher_has_no_gradient',
     ('ptd_po-', 'uni_opd-', 'sdpo-')),
])
def test_the_suite_keeps_rows_of_every_kind(test, rows, request):
  """The paper's own methods, distillation, PTD-PO, Uni-OPD, and a teacher of
  the student's own weights; the others are long."""
  found = {name.partition('[')[2].rstrip(']'): is_long
           for name, is_long in request.config.stash[long.COLLECTED]
           if name.startswith(f'tests/{test}[')}
  if not found:
    pytest.skip('this session has not collected that file')
  assert not any(found[row] for row in rows)
  assert any(found.values())


def test_rows_are_long_but_the_named_ones():
  rows = long.long_but(['b', 'c'], ['a', ('b', 1), ('b', 2), 'c'])
  assert [(row.values, [mark.name for mark in row.marks]) for row in rows] == [
      (('a',), ['long']), (('b', 1), []), (('b', 2), []), (('c',), [])]
  with pytest.raises(ValueError, match='no row is called d; known: a, b'):
    long.long_but(['a', 'd'], ['a', 'b'])


# A suite of one file beside the conftest of this one.
SUITE = """
import pytest

from tests.long import long


@pytest.mark.minutes(9)
def test_short():
  pass


@pytest.mark.parametrize('x', [1, long(2)])
def test_rows(x):
  pass
"""


# One process, because each takes seconds to import jax.
RUNS = """
import json
import os
import sys

import pytest

for more, words in json.loads(sys.argv[1]):
  os.environ.update(more)
  pytest.main(['-q', '-n', '0', '-p', 'no:cacheprovider', '-p',
               'tests.conftest', '--rootdir=.', '-o',
               'markers=long:\\nminutes(n):', *words])
  for name in more:
    del os.environ[name]
  print('#### next')
"""


def said_by_runs(folder, runs) -> list[str]:
  """What pytest prints for each (variables, arguments)."""
  done = subprocess.run(
      [sys.executable, '-c', RUNS, json.dumps(runs)], cwd=folder,
      capture_output=True, text=True, env={
          **{k: v for k, v in os.environ.items()
             if not k.startswith(('ZPPO_', 'PYTEST_'))},
          'PYTHONPATH': str(ROOT)})
  out = done.stdout.split('#### next\n')[:-1]
  assert len(out) == len(runs), done.stdout + done.stderr
  return out


def test_a_variable_an_id_and_the_marker_choose(tmp_path):
  (tmp_path / 'test_it.py').write_text(SUITE)
  short, first, second = every = ['test_short', 'test_rows[1]', 'test_rows[2]']
  long_too = {'ZPPO_LONG': '1'}
  runs = [({}, []), (long_too, []), (long_too, ['-m', 'long']),
          ({}, ['test_it.py::test_rows'])]
  want = [([short, first], True), (every, False), ([second], False),
          ([first, second], False)]
  said = said_by_runs(tmp_path, [
      (more, ['--collect-only', *words]) for more, words in runs])
  assert [([line.partition('::')[2] for line in text.splitlines()
            if '::' in line], 'ZPPO_LONG=1 runs them too' in text)
          for text in said] == want


def test_ci_gives_files_the_time_that_is_left(tmp_path):
  """After ZPPO_UNTIL nothing begins, nor what would not end before it, and
  ZPPO_ORDER says who is last."""
  names = {f'test_{name}.py' for name in 'abcdef'}
  for name in names:
    (tmp_path / name).write_text(SUITE)
  orders = [({'ZPPO_ORDER': order}, ['--collect-only']) for order in 'aab']
  soon = {'ZPPO_UNTIL': str(time.time() + 400)}
  *said, late, early, between = said_by_runs(tmp_path, [
      *orders, ({'ZPPO_UNTIL': '1'}, ['-rs']), ({'ZPPO_UNTIL': '9e9'}, []),
      (soon, [])])
  first, again, other = (
      [line.partition('::')[0] for line in text.splitlines() if '::' in line]
      for text in said)
  assert first == again != other and set(first) == set(other) == names
  assert 'no time was left' in late and '12 skipped' in late
  assert '12 passed' in early
  assert '6 passed, 6 skipped' in between  # those of nine minutes
