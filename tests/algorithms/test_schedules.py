"""Numbers by optimizer step."""

import re

import jax
import numpy as np
import pytest

from zppo_jax.algorithms import schedules
from zppo_jax.algorithms.schedules import Schedule


@pytest.mark.parametrize('fields, at, want', [
    (dict(), (0, 5, 50), (1, 1, 1)),
    (dict(kind='linear', start=2.0, end=1.0, length=4), (0, 1, 4, 9),
     (2, 1.75, 1, 1)),
    (dict(kind='cosine', start=0.0, end=2.0, length=4), (0, 1, 2, 4, 9),
     (0, 1 - np.sqrt(0.5), 1, 2, 2)),
    (dict(kind='steps', start=1.0, boundaries=((2, 0.5), (5, 3.0))),
     (0, 1, 2, 4, 5, 9), (1, 1, 0.5, 0.5, 3, 3)),
])
def test_values_by_hand(fields, at, want):
  made = Schedule(**fields)
  assert made.moves == (fields != {})
  np.testing.assert_allclose([made(np.int32(i)) for i in at], want, atol=1e-6)


@pytest.mark.parametrize('changes, words', [
    ({'coefficient': -1.0}, 'distil.coefficient is -1.0; it must be >= 0'),
    ({'coefficient_end': float('nan')}, 'distil.coefficient_end is nan'),
    ({'coefficient_updates': -3}, 'distil.coefficient_updates is -3'),
    ({'coefficient_steps': ((3, 1.0),)}, 'distil.coefficient_steps is ((3'),
    ({'coefficient_schedule': 'steps'}, 'distil.coefficient_steps is ()'),
    ({'coefficient_schedule': 'steps', 'coefficient_steps': ((4, 1), (4, 2))},
     'its optimizer steps must ascend'),
    ({'coefficient_schedule': 'steps', 'coefficient_steps': ((0, 1.0),)},
     'distil.coefficient_steps is 0'),
])
def test_a_bad_field_is_named(changes, words):
  section = dict(coefficient=1.0, coefficient_schedule='constant',
                 coefficient_end=0.0, coefficient_updates=0,
                 coefficient_steps=()) | changes
  with pytest.raises(ValueError, match=re.escape(words)):
    schedules.of_section(section, 10, 'coefficient')


def test_a_step_by_hand():
  of = schedules.moving('f', 'step:3:0.5:2', 10)
  assert of.ends == (3.0, 0.5)
  np.testing.assert_allclose(
      [of(i) for i in (0, 1, 2, 9)], [3, 3, .5, .5])
  np.testing.assert_allclose(jax.jit(of)(np.int32(2)), .5)


@pytest.mark.parametrize('text', [
    'step:1:2', 'step:1:2:0.5', 'step:1:2:0', 'step:1:-2:3', 'step:1',
    'linear:1', 'leap:1:2', 'cosine:1:2:3:4', 'linear:1:2:x'])
def test_a_bad_text_is_named(text):
  with pytest.raises(ValueError, match=f'credit.weights is {text!r}'):
    schedules.moving('credit.weights', text, 10)


def test_no_length_is_the_runs_updates():
  section = dict(coefficient=1.0, coefficient_schedule='linear',
                 coefficient_end=0.0, coefficient_updates=0,
                 coefficient_steps=())
  assert schedules.of_section(section, 12, 'coefficient').length == 12


def test_the_host_reads_a_number_once_per_step():
  """Two updates a step: step 1 reads the number after two updates."""
  of = schedules.by_steps('f', 'linear:0.8:0.2', 3, 2, '(0, 1)')
  np.testing.assert_allclose([of(i) for i in (0, 1, 2, 3, 9)],
                             [.8, .6, .4, .2, .2], rtol=1e-6)
  assert all(isinstance(of(i), float) for i in range(3))
  assert schedules.by_steps('f', '', 3, 2, '(0, 1)') is None
  for text, words in (('linear:0.8:1', 'f is 1.0; it must be in (0, 1)'),
                      ('0.8', 'f is \'0.8\'; it must be a number, or one')):
    with pytest.raises(ValueError, match=re.escape(words)):
      schedules.by_steps('f', text, 3, 2, '(0, 1)')
