"""The table of methods, against its docstring and by hand."""

import pytest

from zppo_jax.algorithms import methods
from zppo_jax.algorithms.reformulate import REFORMULATIONS
from zppo_jax.objectives import losses

WORDS = {
    '-': (),
    'BCQ': ('bcq',),
    'NCQ': ('ncq',),
    'BCQ, NCQ': ('bcq', 'ncq'),
    'BCQ of two wrong candidates, NCQ': ('placebo_bcq', 'ncq'),
    'Prefix': ('prefix',),
}


def docstring_rows():
  lines = [line for line in methods.__doc__.splitlines()
           if line.startswith('|')]
  cells = [[c.strip() for c in line.strip('|').split('|')] for line in lines]
  assert cells[0] == ['name', 'paper', 'buffer', 'reformulations']
  return cells[2:]


def test_the_docstring_is_the_table():
  documented = {
      name: ({'yes': True, 'no': False}[buffer], WORDS[reformulations])
      for name, _, buffer, reformulations in docstring_rows()}
  assert documented == {name: (m.replay, m.reformulations)
                        for name, m in methods.METHODS.items()}


def test_the_rows_of_the_paper():
  # As in the paper: ZPPO = GRPO + replay + Both; the BCQ comes first.
  rows = {name: (m.replay, m.reformulations)
          for name, m in methods.METHODS.items()}
  assert rows == {
      'grpo': (False, ()),
      'grpo_replay': (True, ()),
      'grpo_both': (False, ('bcq', 'ncq')),
      'grpo_replay_bcq': (True, ('bcq',)),
      'grpo_replay_ncq': (True, ('ncq',)),
      'zppo': (True, ('bcq', 'ncq')),
      'placebo': (True, ('placebo_bcq', 'ncq')),
      'prefix': (True, ('prefix',)),
  }


def test_every_row_names_things_that_exist():
  for method in methods.METHODS.values():
    assert set(method.reformulations) <= set(REFORMULATIONS)
    assert method.loss is losses.make_clipped_surrogate
    assert method.teacher == bool(method.reformulations)


def test_get_finds_rows_and_lists_the_known_names():
  assert methods.get('zppo') is methods.METHODS['zppo']
  with pytest.raises(KeyError) as error:
    methods.get('zpo')
  assert "'zpo'" in str(error.value)
  for name in methods.METHODS:
    assert name in str(error.value)
