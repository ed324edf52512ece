"""Workers that are killed, and what outlives them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import stand_ins, verdicts
from tests.long import LONG
from zppo_jax import import_paths
from zppo_jax.verdicts.sandbox import (
  GradingJob,
  Sandbox,
  SandboxError,
  SandboxLimits,
  slices,
)

pytest.importorskip('math_verify')


def slow(gold='5'):
  """A grader that never ends, nor comes back to the interpreter."""
  return GradingJob(stand_ins.KIND, 'spin_in_c', gold)


def gone(pid):
  """Whether a process has ended, reaped or not."""
  try:
    with open(f'/proc/{pid}/stat') as f:
      return f.read().rpartition(') ')[2][0] == 'Z'
  except FileNotFoundError:
    return True


@pytest.fixture
def sandbox():
  made = Sandbox(SandboxLimits(cpu_s=0.6, wall_s=8, workers=2, patience_s=0.15))
  yield made
  made.close()


@LONG
def test_a_deadline_costs_only_its_own_answer(sandbox):
  """Order is kept; the neighbours and the next call have their verdicts."""
  jobs = [slow('5'), GradingJob('math', '1+x', 'x+1'),
          GradingJob('number', '5', 'five'), slow('6'),
          GradingJob('choice', 'b', 'B')]
  replies = sandbox.grade(jobs)
  assert [r.status for r in replies] == [
      'timeout', 'score', 'unreadable', 'timeout', 'score']
  assert replies[1].score == replies[4].score == 1
  assert sandbox.grade([GradingJob('math', '2', '2')])[0].score == 1
  assert sandbox.started <= 2


def test_a_killed_worker_is_replaced_and_its_job_done_again(sandbox):
  """Somebody kills all workers between two calls."""
  assert sandbox.grade([GradingJob('number', '1', '1')])[0].score == 1
  for pid in sandbox.pids():
    os.kill(pid, signal.SIGKILL)
  time.sleep(0.05)
  results = sandbox.grade([GradingJob('number', '1', '1')] * 4)
  assert [r.score for r in results] == [1] * 4


def test_workers_look_where_this_process_looks_by_now(sandbox, tmp_path):
  """A folder that was found after a worker had started."""
  assert sandbox.grade([GradingJob('number', '1', '1')])[0].score == 1
  (old,) = sandbox.pids()
  (tmp_path / 'half_points.py').write_text(
      'def mark(answer, gold):\n  return 0.5\n')
  import_paths.search(tmp_path)
  (result,) = sandbox.grade([GradingJob('half_points:mark', '1', '1')])
  assert result.score == 0.5 and gone(old)


@pytest.mark.parametrize('most', [3, 10**9])
def test_workers_that_are_killed_while_they_load(sandbox, monkeypatch, most):
  """The first ones before they can grade anything: others take their place.
  If all of them are killed, grading ends with the cause."""
  start, killed = Sandbox.start, []

  def start_and_kill(self):
    worker = start(self)
    if len(killed) < most:
      killed.append(worker.process.pid)
      worker.process.kill()
    return worker

  monkeypatch.setattr(Sandbox, 'start', start_and_kill)
  jobs = [GradingJob('number', str(i), '1') for i in range(4)]
  if most == 3:
    assert [r.score for r in sandbox.grade(jobs)] == [0, 1, 0, 0]
    assert len(killed) == 3
    return
  with pytest.raises(SandboxError, match='ended with code -9 before it could'):
    sandbox.grade(jobs)
  assert len(killed) < 40


def test_the_limits_of_the_design():
  """2 s of the processor, 10 s in all, bounded memory."""
  found = SandboxLimits()
  assert (found.cpu_s, found.wall_s, found.memory) == (2.0, 10.0, 2 << 30)


@contextlib.contextmanager
def limited(**fields):
  made = Sandbox(SandboxLimits(workers=1, **fields))
  try:
    yield made
  finally:
    made.close()


def test_no_memory_is_a_crash_and_not_the_end():
  """What is graded where there is enough crashes its child where there is not;
  the next call gets an answer."""
  large = GradingJob('text', 'a' * (1 << 21), 'a')
  with limited() as wide, limited(memory=1 << 20) as tight:
    assert wide.grade([large])[0].status == 'score'
    assert tight.grade([large])[0].status == 'crash'
    small, = tight.grade([GradingJob('text', 'a', 'a')])
    assert small.status in ('score', 'crash')


def test_the_deadline_of_the_clock():
  """Long before the processor's: of an answer without an end, and of a worker
  that stands still. A good answer afterwards is graded."""
  begun = time.monotonic()
  with limited(cpu_s=60, patience_s=60, wall_s=0.5) as sandbox:
    late, = sandbox.grade([slow('5')])
    assert (late.status, late.reason) == ('timeout', 'more than 0.5 s')
    os.kill(sandbox.pids()[0], signal.SIGSTOP)
    still, = sandbox.grade([GradingJob(stand_ins.KIND, '5', '5')])
    assert (still.status, still.reason) == ('timeout', 'more than 0.5 s')
    assert sandbox.grade([GradingJob('number', '5', '5')])[0].score == 1
  assert time.monotonic() - begun < 50  # and not 60 s of the processor


def test_a_kind_that_cannot_be_loaded_is_an_error_with_its_name(sandbox):
  """Not a wrong answer."""
  with pytest.raises(SandboxError, match='nonsense'):
    sandbox.grade([GradingJob('nonsense', '1', '1')])


def test_workers_do_not_know_jax_and_end_with_their_parent():
  """Even in the middle of an answer, when the parent is killed outright."""
  code = ('import os, signal, sys, threading, time\n'
          'from zppo_jax.verdicts.sandbox import *\n'
          'w = Sandbox(SandboxLimits(workers=1, cpu_s=60, wall_s=60))\n'
          'w.grade([GradingJob("math", "1", "1")])\n'
          'assert "jax" not in sys.modules\n'
          'print(w.pids()[0], w._workers[0].child, flush=True)\n'
          'threading.Timer(0.3, lambda: os.kill(os.getpid(), 9)).start()\n'
          f'w.grade([GradingJob({stand_ins.KIND!r}, "spin_in_c", "5")])\n')
  done = subprocess.run([sys.executable, '-c', code], capture_output=True,
                        text=True, timeout=60)
  pids = [int(p) for p in done.stdout.split()]
  assert len(pids) == 2, done.stderr

  until = time.monotonic() + 5
  while not all(map(gone, pids)) and time.monotonic() < until:
    time.sleep(0.05)
  assert all(map(gone, pids))


@pytest.mark.skipif(sys.platform != 'linux', reason='prctl is of Linux')
def test_a_job_deaf_to_signals_ends_with_a_worker_that_is_killed():
  """It would hold a core for ever, long after the run that was killed."""
  worker = subprocess.Popen(
      [sys.executable, '-m', 'zppo_jax.verdicts.worker', str(2**31)],
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
  child = None
  try:
    worker.stdin.write(json.dumps({
        'kind': stand_ins.KIND, 'answer': 'deaf', 'reference': '5',
        'cpu_s': 60, 'wall_s': 60}).encode() + b'\n')
    while child is None:
      child = json.loads(worker.stdout.readline()).get('child')
    time.sleep(0.5)  # it has blocked its signals by now, or never will
    worker.kill()
    worker.wait()
    until = time.monotonic() + 20
    while not gone(child) and time.monotonic() < until:
      time.sleep(0.05)
    assert gone(child)
  finally:
    worker.kill()
    worker.stdin.close()
    worker.stdout.close()
    if child is not None and not gone(child):
      os.kill(child, signal.SIGKILL)


def test_keys_do_not_reach_a_worker(sandbox, monkeypatch):
  """Its environment is a list of names, not ours."""
  monkeypatch.setenv('MY_API_KEY', 'secret-value')
  sandbox.grade([GradingJob('number', '1', '1')])
  for pid in sandbox.pids():
    with open(f'/proc/{pid}/environ') as f:
      assert 'secret-value' not in f.read()


@LONG
def test_hostile_answers_in_small():
  """Each comes to the end that it must, none is called right, all good ones
  are and wait for no deadline of a hostile one."""
  found = verdicts.measure(100, 60, SandboxLimits(
      cpu_s=0.5, wall_s=8, workers=2, patience_s=0.1))
  assert found['good_right_beside'] == found['good_right_alone'] == 60
  assert found['another_end'] == [] and found['works_afterwards']
  assert found['called_right'] == []
  assert 0 < found['deadlines'] <= 10 and found['crashed']
  assert found['deadlines_before_last_good'] == 0


def test_who_blocks_signals_waits_behind_the_others():
  """Timers do not reach it, so its processor time is read from outside: it has
  its patience like any job, and its worker lives on."""
  deaf = GradingJob(stand_ins.KIND, 'deaf', '5')
  with limited(cpu_s=0.4, wall_s=30, patience_s=0.1) as sandbox:
    good = [GradingJob(stand_ins.KIND, '5' * 9, '5' * 9)] * 3  # come second
    replies = sandbox.grade([deaf, *good])
    assert sandbox.started == 1
  assert replies[0].status == 'timeout'
  assert replies[0].reason == 'more than 0.4 s of processor time'
  assert all(r.score == 1 and r.seconds < replies[0].seconds
             for r in replies[1:])


def test_every_deed_of_a_grader_has_its_verdict():
  """Spins deaf to signals, sleeps, dies, allocates, lies: and the next answer
  is graded."""
  with limited(cpu_s=0.4, wall_s=6, patience_s=0.1) as sandbox:
    jobs = [GradingJob(stand_ins.KIND, deed, '5') for deed in stand_ins.DEEDS]
    replies = sandbox.grade([*jobs, GradingJob('number', '5', '5')])
  assert [r.status for r in replies[:-1]] == [
      status for _, status in stand_ins.DEEDS.values()]
  assert not any(r.score for r in replies[:-1]) and replies[-1].score == 1
  assert max(len(r.reason) for r in replies) <= 320


@pytest.mark.parametrize('patience, cpu, want', [
    (0.05, 2.0, [0.05, 0.25, 2.0]), (0.1, 0.5, [0.1, 0.5]),
    (1.0, 2.0, [1.0, 2.0]), (3.0, 2.0, [2.0])])
def test_time_that_a_job_gets(patience, cpu, want):
  """Five times as much each time, and at last all of it, once."""
  assert slices(SandboxLimits(cpu_s=cpu, patience_s=patience)) == want
