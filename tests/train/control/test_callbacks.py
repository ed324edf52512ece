"""Functions of the user that a run tells what happens."""

import sys

import pytest

from tests.processes import as_processes
from zppo_jax import import_paths
from zppo_jax.commands import failures
from zppo_jax.train.control import callbacks
from zppo_jax.train.control.callbacks import CallbackError, Events

MODULE = """
SEEN = []
NUMBER = 3

def keep(event):
  SEEN.append(event)

def fail(event):
  if event.name == 'step':
    raise ZeroDivisionError('no such thing')
"""


@pytest.fixture
def own(tmp_path):
  """A module of callbacks in a folder that is searched."""
  (tmp_path / 'own_callbacks.py').write_text(MODULE)
  import_paths.search(tmp_path)
  yield tmp_path
  sys.modules.pop('own_callbacks', None)


def test_every_callback_sees_every_event_in_order(own):
  events = Events(callbacks.load(
      ['own_callbacks:keep', 'own_callbacks:fail']), own)
  events.tell('begin', 0)
  events.tell('evaluation', 4, {'hard': 0.5})
  seen = sys.modules['own_callbacks'].SEEN
  assert [(e.name, e.step, e.numbers, e.workdir) for e in seen] == [
      ('begin', 0, {}, own), ('evaluation', 4, {'hard': 0.5}, own)]


def test_a_callback_that_raises_is_named_with_its_line(own):
  events = Events(callbacks.load(['own_callbacks:fail']), own)
  with pytest.raises(CallbackError, match=(
      "run.callbacks: 'own_callbacks:fail' failed at the event 'step' of step "
      '7: ZeroDivisionError: no such thing')) as raised:
    events.tell('step', 7, {'accuracy/plain': 1.0})
  assert 'own_callbacks.py:10 in fail' in failures.one_line(raised.value)


def test_processes_fail_together_and_one_calls():
  """Else the others would wait for the first one."""
  calls = []

  def fail(event):
    calls.append(event.name)
    raise ValueError('no')

  found = as_processes(2, lambda index: Events(
      {'a:fail': fail}, None).tell('step', 1))
  assert [type(e) for e in found] == [CallbackError] * 2
  assert [str(e) for e in found] == [str(found[0])] * 2
  assert calls == ['step']


@pytest.mark.parametrize('names, error', [
    ('own_callbacks:keep', 'it must be a tuple of import paths'),
    (['own_callbacks:gone'], "has 'own_callbacks:gone', which is missing in"),
    (['own_callbacks:NUMBER'], 'which is of type int in .*own_callbacks.py'),
    (['own_callbacks'], 'an import path has the form package.module:NAME'),
    (['nowhere_here:keep'], "no module 'nowhere_here' is installed")])
def test_what_is_no_function_is_refused(own, names, error):
  with pytest.raises(ValueError, match=error):
    callbacks.load(names)
