"""Processor seconds of a step, of processes that write lines as runs do."""

import os
import sys

import pytest

from benchmarks import same_core

# A step that spins for so many seconds of the processor.
STEP = '''
import sys, time
while True:
  until = time.process_time() + float(sys.argv[1])
  while time.process_time() < until:
    pass
  with open('metrics.jsonl', 'a') as f:
    f.write('{}\\n')
'''


def spinning(seconds):
  return [sys.executable, '-c', STEP, str(seconds)], os.environ


def test_a_run_that_does_twice_the_work_takes_twice_as_long(tmp_path):
  """And both have ended."""
  found = same_core.measure(
      {'old': spinning(0.02), 'new': spinning(0.04)}, tmp_path, 3, 23)
  assert found['old'] == pytest.approx(0.02, rel=0.3)
  assert 1.6 < found['new'] / found['old'] < 2.4


def test_a_run_that_ends_is_named(tmp_path):
  runs = {'old': spinning(0.01), 'new': ([sys.executable, '-c', '1 / 0'], {})}
  with pytest.raises(RuntimeError, match='the run new ended with code 1'):
    same_core.measure(runs, tmp_path, 3, 6)


@pytest.mark.parametrize('flags, message', [
    (['--trees=.', '--to=x'], "--trees is '.'; it must be OLD,NEW"),
    (['--trees=.,.', '--to=x', '--repeats=0'], '--repeats is 0'),
    (['--trees=.,.', '--to=x', '--last=20'], '--last is 20')])
def test_refusals(flags, message):
  with pytest.raises(ValueError, match=message):
    same_core.main(flags)
