"""Several processes agree, and end when one of them does.

What they say to each other is tested with threads and pipes in one process; the
last tests start processes.
"""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.environments import alone
from tests.long import LONG
from tests.processes import as_processes, groups, together
from zppo_jax.devices import hosts, launched

ROOT = pathlib.Path(__file__).parents[2]


def test_every_process_gets_all_values_in_order():
  with groups(3) as of:
    assert together(of, lambda g: g.gather(g.index * 10, 'x')) == (
        [[0, 10, 20]] * 3)
    assert together(of, lambda g: g.broadcast(g.index + 7, 'x')) == [7] * 3


def test_values_of_many_calls_are_not_mixed():
  def work(group):
    return [(group.gather((group.index, i), 'a'), group.broadcast(i, 'b'))
            for i in range(50)]
  with groups(3) as of:
    wanted = [([(p, i) for p in range(3)], i) for i in range(50)]
    assert together(of, work) == [wanted] * 3


def test_processes_at_different_places_are_told_apart():
  with groups(2) as of:
    first, second = together(of, lambda g: g.gather(
        0, 'saving' if g.index else 'signals') if not g.index else g._send(
            [0], ('value', g._key('test'), 'gather saving', 0)))
  assert second is None
  assert isinstance(first, hosts.HostsError)
  assert "process 1 of 2 is at 'gather saving', process 0 at 'gather signals'" \
      in str(first)


def test_a_process_that_does_not_come_is_named(monkeypatch):
  monkeypatch.setattr(hosts, 'WAIT_S', 0.05)
  with groups(3) as of:
    error, *_ = together(of, lambda g: None if g.index == 2 else g.gather(
        0, 'saving') if not g.index else g._send(
            [0], ('value', g._key('test'), 'gather saving', 0)))
  assert isinstance(error, hosts.HostsError)
  assert "process 2 of 3 did not come to 'gather saving'" in str(error)


def test_lanes_do_not_wait_for_each_other():
  """A thread of one process is ahead of its main thread, one of the other is
  behind it."""
  with groups(2) as of:
    def work(group):
      order = ('a', 'b') if group.index else ('b', 'a')
      out = {}
      def call(lane):
        with hosts.in_lane(lane):
          out[lane] = group.gather(f'{lane}{group.index}', lane)
      threads = [threading.Thread(target=call, args=(x,)) for x in order]
      for thread in threads:
        thread.start()
      for thread in threads:
        thread.join()
      return out
    assert together(of, work) == [{'a': ['a0', 'a1'], 'b': ['b0', 'b1']}] * 2


def test_a_thread_without_a_lane_is_refused():
  with groups(2) as of:
    errors = []
    def call():
      try:
        of[0].gather(0, 'x')
      except hosts.HostsError as e:
        errors.append(str(e))
    thread = threading.Thread(target=call, name='teacher')
    thread.start()
    thread.join()
  assert errors == ["thread 'teacher' is in no lane; a thread beside the main "
                    'one needs hosts.in_lane']


def test_items_are_shared_and_keep_their_order():
  done = {0: [], 1: [], 2: []}
  def work(index):
    def square(items):
      done[index] += items
      return [x * x for x in items]
    return hosts.shared(square, range(7), 'squares')
  assert as_processes(3, work) == [[x * x for x in range(7)]] * 3
  assert done == {0: [0, 3, 6], 1: [1, 4], 2: [2, 5]}


def test_an_error_in_a_share_is_raised_on_every_process():
  errors = as_processes(3, lambda index: hosts.shared(
      lambda items: [1 // (x - 4) for x in items], range(7)))
  assert [type(e) for e in errors] == [ZeroDivisionError] * 3


def test_an_error_that_cannot_be_sent_keeps_its_words():
  class Odd(Exception):
    def __init__(self, one, two):
      super().__init__(f'{one} and {two}')
  def fail():
    raise Odd('this', 'that')
  first, second = as_processes(2, lambda index: hosts.from_first(fail))
  assert isinstance(first, Odd)
  assert isinstance(second, hosts.HostsError)
  assert 'Odd: this and that' in str(second)


def test_only_the_first_process_does_what_from_first_says():
  called = []
  assert as_processes(3, lambda index: hosts.from_first(
      lambda: called.append(index) or 'done')) == ['done'] * 3
  assert called == [0]


def test_agreed_is_made_of_all_values():
  assert as_processes(3, hosts.agreed) == [2] * 3
  assert as_processes(3, lambda index: hosts.agreed(index == 1, any)) == (
      [True] * 3)


@pytest.fixture
def ends(monkeypatch, capsys):
  """[(the other process, exit code)] of the listeners that ended theirs."""
  codes = []

  def exit_thread(code):
    codes.append((int(threading.current_thread().name.split()[-1]), code))
    raise SystemExit  # ends the thread

  monkeypatch.setattr(hosts.os, '_exit', exit_thread)
  return codes


def eventually(what):
  for _ in range(1000):
    if what():
      return True
    time.sleep(0.01)
  return False


# A thread that stands for a process ends as its process would.
@pytest.mark.filterwarnings(
    'ignore::pytest.PytestUnhandledThreadExceptionWarning')
@pytest.mark.parametrize('failing', [False, True])
def test_a_death_ends_all_also_those_whose_collective_failed(ends, failing):
  with groups(3) as of:
    of[2].failing = failing
    with socket.socket(fileno=os.dup(of[1].links[0].fileno())) as link:
      link.shutdown(socket.SHUT_RDWR)  # as the kernel does for a dead process
    # The listener for 1 in process 0; those for 0 in the processes 1 and 2.
    assert eventually(lambda: len(ends) == 3)
  assert sorted(ends) == [(0, hosts.LOST), (0, hosts.LOST), (1, hosts.LOST)]


def test_an_error_that_all_have_is_none_of_a_lost_process(ends):
  with groups(2) as of:
    of[0].failing = of[1].failing = True
    with pytest.raises(SystemExit):
      threading.current_thread().name, name = (
          'process 1', threading.current_thread().name)
      try:
        of[1].fail('zppo train: steps is 0')
      finally:
        threading.current_thread().name = name
    time.sleep(0.1)
    assert ends == [(1, 1)]


def test_a_single_process_needs_nothing():
  assert (hosts.count(), hosts.index(), hosts.first()) == (1, 0, True)
  assert hosts.gather('x') == ['x']
  assert hosts.broadcast('x') == hosts.agreed('x') == 'x'
  assert hosts.from_first(lambda: 'x') == 'x'
  assert hosts.shared(lambda items: [i + 1 for i in items], (1, 2)) == [2, 3]
  hosts.wait('here')
  hosts.on_loss(lambda: None)()
  hosts.stop()
  assert hosts.start(launched.settings()) == 1


# The program of each process: it agrees, reads an array that all of them hold,
# and then does what its argument says.
PROGRAM = '''
import os, sys, time
import jax, numpy as np
from zppo_jax.devices import cpu_devices, hosts, launched, sharding
index, port, what = int(sys.argv[1]), sys.argv[2], sys.argv[3]
mesh = sharding.MeshConfig(data=2)
cpu_devices.ensure(mesh, hosts.start(launched.settings(
    f'127.0.0.1:{port}', 2, index)))
hosts.connect()
class Agreed(Exception): pass
with hosts.together(lambda e: f'{type(e).__name__}: {e}', Agreed):
  try:
    sharding.make_mesh(sharding.MeshConfig())
  except ValueError as e:
    assert '1 devices; 2 are here, on 2 processes' in str(e), e
  mesh = sharding.make_mesh(mesh)
  batch = sharding.batch_sharding(mesh)
  whole = sharding.replicated(mesh)
  add = jax.jit(lambda x: (x + 1, x.sum()), in_shardings=batch,
                out_shardings=(batch, whole))
  rows, total = sharding.to_host(add(sharding.as_global(
      np.arange(4.0, dtype=np.float32), batch)))
  assert rows.tolist() == [1, 2, 3, 4] and total == 6
  assert hosts.gather(index) == [0, 1]
  print(f'only the first process says this')
  if what == 'die':
    hosts.on_loss(lambda: open(f'{sys.argv[5]}/{index}', 'w').close())
  if what == 'die' and index == int(sys.argv[4]):
    os.kill(os.getpid(), 9)
  if what == 'fail' and index == int(sys.argv[4]):
    raise ValueError('this one cannot go on')
  if what == 'agree':
    raise Agreed
  if what != 'end':
    time.sleep(100)  # as in a collective, which nothing interrupts
'''


def run(*words):
  """[(exit code, standard output, standard error)] of two processes."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    port = str(probe.getsockname()[1])
  env = alone()
  started = [subprocess.Popen(
      [sys.executable, '-c', PROGRAM, str(i), port, *words], env=env,
      text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
      for i in range(2)]
  outputs = [process.communicate(timeout=300) for process in started]
  return [(process.returncode, *output) for process, output in zip(
      started, outputs, strict=True)]


@pytest.mark.parametrize('victim', [0, 1])
def test_a_killed_process_ends_the_other_with_the_cause(victim, tmp_path):
  results = run('die', str(victim), str(tmp_path))
  code, _, errors = results[1 - victim]
  assert results[victim][0] == -signal.SIGKILL
  assert code == hosts.LOST
  line, = (x for x in errors.splitlines() if x.startswith('zppo: '))
  assert line == (
      f'zppo: process {victim} of 2 ended: it died or its host is gone: its '
      f'connection ended without a word. Process {1 - victim} ends too; the '
      'same command resumes the run')
  # What a process must put in order before it ends, such as its lock.
  assert [p.name for p in tmp_path.iterdir()] == [str(1 - victim)]


@LONG
def test_an_error_of_one_process_ends_the_other_with_its_words():
  (code, _, errors), (own_code, _, own) = run('fail', '1')
  assert (own_code, code) == (1, hosts.LOST)
  assert 'ValueError: this one cannot go on' in own
  assert ('zppo: process 1 of 2 ended: ValueError: this one cannot go on. '
          'Process 0 ends too') in errors


@LONG
def test_processes_end_together():
  (first, said, _), (second, silent, _) = run('end')
  assert (first, second) == (0, 0)
  assert 'only the first process says this' in said
  assert 'only' not in silent
