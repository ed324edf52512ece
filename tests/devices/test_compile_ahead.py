"""Programs that a thread compiles: order, waiting, errors."""

import threading

import pytest

from zppo_jax.devices.compile_ahead import Job, Queue


@pytest.fixture
def queue():
  """A queue whose thread is held at the job 'gate' until `gate.set()`."""
  made = Queue()
  made.gate, made.end, made.done = threading.Event(), threading.Event(), []
  begun = threading.Event()
  made.add([Job('gate', lambda: (begun.set(), made.gate.wait(60)))])
  assert begun.wait(60)
  yield made
  made.gate.set()
  made.clear()


def to_the_end(queue):
  """Opens the gate, and waits until all jobs are done."""
  queue.add([Job('end', queue.end.set)])
  queue.gate.set()
  assert queue.end.wait(60)


def jobs(queue, *keys):
  return [Job(key, lambda key=key: queue.done.append(key)) for key in keys]


def test_jobs_are_done_once_and_in_their_order(queue):
  """Those that go first overtake; what was called meanwhile is left out."""
  queue.add(jobs(queue, 'a', 'b', 'c', 'a'))
  queue.add(jobs(queue, 'd', 'e', 'b'), first=True)
  queue.need('c')  # in line: its caller compiles it
  queue.need('f')
  queue.add(jobs(queue, 'f', 'c', 'last'))
  to_the_end(queue)
  assert queue.done == ['d', 'e', 'a', 'b', 'last']


def test_a_caller_waits_for_a_program_that_is_being_compiled(queue):
  order = []
  def call():
    queue.need('gate')
    order.append('called')
  caller = threading.Thread(target=call)
  caller.start()
  caller.join(0.05)
  order.append('compiled')
  queue.gate.set()
  caller.join(60)
  assert order == ['compiled', 'called']


def test_errors_are_told_and_stop_nothing(queue):
  def fail():
    raise ValueError('no room')
  queue.add([Job('bad', fail), *jobs(queue, 'good')])
  to_the_end(queue)
  assert queue.done == ['good']
  queue.need('bad')  # its call raises the error itself
  assert [str(e) for e in queue.clear()] == ['no room']
  assert queue.clear() == []
  queue.add(jobs(queue, 'bad'))
  queue.need('bad')
  assert not queue.errors
