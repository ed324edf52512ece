"""Alarms on metrics."""

import pytest

from zppo_jax.runs import alarms, watch


def _rows(bells, *values, name='x'):
  return [len(bells.see({'step': i} | ({} if v is None else {name: v})))
          for i, v in enumerate(values)]


def test_an_alarm_warns_at_first_and_at_doublings():
  bells = alarms.Bells(alarms.read('guard.alarms', ['x > 2']))
  assert _rows(bells, 1, 3, 3, 3, 3, 2, 3) == [0, 1, 1, 0, 1, 0, 1]
  assert bells.ended() is None


def test_it_waits_and_stops():
  alarm, = alarms.read('guard.alarms', ['distil/copied < 0.5 for 2; stop'])
  assert str(alarm) == 'distil/copied < 0.5 for 2; stop'
  bells = alarms.Bells([alarm])
  assert _rows(bells, .4, None, name='distil/copied') == [0, 0]
  assert bells.ended() is None
  assert _rows(bells, .3, name='distil/copied') == [1]
  assert 'alarm \'distil/copied < 0.5 for 2; stop\'' in bells.ended()
  assert _rows(bells, .5, name='distil/copied') == [0]
  assert bells.ended() is None


def test_a_run_ends_by_an_alarm():
  """Watch is what the loop asks."""
  limits = watch.Limits(max_idle=0, min_answered=0., window=1,
                        alarms=alarms.read('guard.alarms', 'a > 1; stop'))
  seen = watch.Watch(limits)
  assert seen.see({'step': 0, 'a': 1}) == [] and seen.ended() is None
  assert len(seen.see({'step': 1, 'a': 2})) == 1
  assert 'guard.alarms' in seen.ended()


def test_copying_is_an_alarm_until_the_metric_has_one():
  read = lambda *texts: alarms.read('guard.alarms', texts)
  others = read('distil/repetitive > 0.1')
  assert [str(of) for of in alarms.with_copying(others)] == [
      'distil/repetitive > 0.1', 'distil/copied > 0.8 for 5']
  for text in ('distil/copied > 1', 'distil/copied > 0.5; stop'):
    assert alarms.with_copying(read(text)) == read(text)
  rung = alarms.Bells(alarms.with_copying(()))
  assert _rows(rung, *[.9] * 6, name='distil/copied') == [0, 0, 0, 0, 1, 0]
  off = alarms.Bells(alarms.with_copying(read('distil/copied > 1')))
  assert _rows(off, *[1.] * 9, name='distil/copied') == [0] * 9


@pytest.mark.parametrize(('text', 'says'), [
    ('x>2', "an alarm is 'NAME > NUMBER'"), ('x > two', 'must be a number'),
    ('x > 2 for 0', 'guard.alarms is 0; it must be a whole number >= 1'),
    ('x > inf', r'guard.alarms is inf; it must be in \(-inf, inf\)')])
def test_refused(text, says):
  with pytest.raises(ValueError, match=says):
    alarms.read('guard.alarms', [text])
