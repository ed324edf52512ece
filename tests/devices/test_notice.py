"""Notices of a signal, and how far the host runs ahead of the device."""

import jax.numpy as jnp
import pytest

from zppo_jax.devices import notice as notice_lib
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
  monkeypatch.setattr(notice_lib.hosts, 'agreed',
                      lambda value, name: max(value, 15))
  with pytest.raises(Noticed):
    Notice().check()


def test_the_host_waits_for_what_it_gave_out_before(monkeypatch):
  waited = []
  monkeypatch.setattr(notice_lib.jax, 'block_until_ready', waited.append)
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
