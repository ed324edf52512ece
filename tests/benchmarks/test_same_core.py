"""Processor seconds of a step, of processes that write lines as runs do."""

import json
import os
import sys

import pytest

from benchmarks import same_core
from tests.environments import ROOT
from tests.long import LONG

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


def test_a_table_of_runs_and_of_calls():
  """The ratio is that of the record; the repeats stand beside it."""
  seconds = [{'old': 2.0, 'new': 1.0}, {'old': 2.0, 'new': 1.5}]
  found = same_core.table({'records': [
      {'revisions': ['a', 'b'], 'config': 'configs/micro.py', 'ratio': 0.625,
       'seconds': seconds},
      {'revisions': ['a', 'c'], 'measure': 'sample', 'model': 'tiny',
       'load': '1x2x3x4', 'ratio': 0.6, 'seconds': seconds[::-1]}]})
  assert '| step, micro | a | b | 0.625 | 0.500, 0.750 |' in found
  assert '| sample, tiny, 1x2x3x4 | a | c | 0.600 | 0.500, 0.750 |' in found


@LONG
def test_calls_of_a_measurement_are_counted_as_steps(tmp_path):
  """`zppo bench` of two equal trees, without an end, on one core."""
  to = tmp_path / 'x.json'
  same_core.main([
      f'--trees={ROOT},{ROOT}', '--measure=sample', '--model=micro',
      '--load=4x8x4x8', '--first=2', '--last=60', '--repeats=1', f'--to={to}'])
  (record,) = json.loads(to.read_text())['records']
  assert record['load'] == '4x8x4x8' and 0.3 < record['ratio'] < 3
