"""Notices of a signal, and how far the host runs ahead of the device."""

import contextlib
import gc
import os
import signal
import time

import jax
import jax.numpy as jnp
import pytest

from zppo_jax.devices import hosts, notice as notice_lib
from zppo_jax.devices.beside import Beside
from zppo_jax.devices.notice import AHEAD, Notice, Noticed


def test_a_notice_ends_the_step_where_it_is_looked_for():
  notice = Notice()
  notice.check()
  notice.number = 15
  with pytest.raises(Noticed) as raised:
    notice.check()
  assert raised.value.number == 15 == notice.agreed()


def test_a_notice_that_is_not_heeded_waits_for_the_end_of_the_step():
  notice = Notice(heeded=False)
  notice.number = 15
  notice.check()
  notice.pace(jnp.zeros(()))
  assert notice.agreed() == 15


def test_only_the_agreed_number_decides(monkeypatch):
  """Another process of the run got the signal."""
  monkeypatch.setattr(hosts, 'agreed',
                      lambda value, name: max(value, 15))
  with pytest.raises(Noticed):
    Notice().check()


def test_the_host_waits_for_what_it_gave_out_before(monkeypatch):
  waited = []
  monkeypatch.setattr(jax, 'block_until_ready', waited.append)
  notice = Notice()
  for i in range(5):
    notice.pace(i)
  assert AHEAD == 2 and waited == [0, 1, 2]
  notice.number = 15
  with pytest.raises(Noticed):
    notice.pace(5)


def test_work_beside_raises_where_its_value_is_wanted():
  assert Beside(lambda: 3)() == 3
  broken = Beside(lambda: 1 // 0)
  for _ in range(2):
    with pytest.raises(ZeroDivisionError):
      broken()


@pytest.fixture(autouse=True)
def _python_hears_ctrl_c():
  """A process that was started behind `&` ignores SIGINT."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def interrupted_collection():
  """Sends SIGINT in a callback of the garbage collector, where Python drops
  the KeyboardInterrupt; JAX has such a callback."""
  def callback(phase, info):
    del phase, info
    gc.callbacks.remove(callback)
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(100):  # the handler is called between two of these
      pass
  gc.callbacks.append(callback)
  yield
  assert callback not in gc.callbacks


def test_ctrl_c_in_a_callback_of_the_collector_ends_the_work():
  """issue 21: the run went on to its end."""
  with notice_lib.interrupts(), interrupted_collection():
    gc.collect()
    with pytest.raises(KeyboardInterrupt):
      time.sleep(20)
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  notice_lib.heed()  # nothing is left of it


def test_ctrl_c_that_an_extension_dropped_is_heeded_by_the_loop():
  from zppo_jax.train import loop
  with notice_lib.interrupts():
    with contextlib.suppress(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), loop.catch_signals(Notice()):
      pytest.fail('the loop began')
    assert signal.getsignal(signal.SIGINT) is handler
    with loop.catch_signals(Notice()):  # one signal ends one run
      pass


def test_another_handler_is_left_alone():
  ours = lambda number, frame: None
  before = signal.signal(signal.SIGINT, ours)
  try:
    with notice_lib.interrupts():
      assert signal.getsignal(signal.SIGINT) is ours
  finally:
    signal.signal(signal.SIGINT, before)
