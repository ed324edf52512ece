"""The table of methods, against its docstring and by hand."""

import runpy

import pytest

from tests.builders import ROOT
from zppo_jax.algorithms import distillation, methods
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


BUFFER = {'yes': True, 'no': False}
LOSSES = {
    'divergence': distillation.make_divergence,
    'nll': distillation.make_negative_log_likelihood,
    'estimate': distillation.make_estimate,
    'log_ratio': distillation.make_log_ratio,
    'surrogate + divergence': distillation.make_surrogate_and_divergence,
}


def docstring_rows():
  """The rows of both tables, without their heads."""
  tables = []
  for line in methods.__doc__.splitlines():
    if line.startswith('| name'):
      tables.append([])
    if line.startswith('|'):
      tables[-1].append([c.strip() for c in line.strip('|').split('|')])
  heads = [table[0] for table in tables]
  assert heads == [['name', 'paper', 'buffer', 'reformulations'],
                   ['name', 'source', 'buffer', 'states', 'loss']]
  return [table[2:] for table in tables]


def test_the_docstring_is_the_table():
  reformulating, distilling = docstring_rows()
  assert {
      name: (BUFFER[buffer], WORDS[reformulations])
      for name, _, buffer, reformulations in reformulating} == {
          name: (m.replay, m.reformulations)
          for name, m in methods.METHODS.items() if not m.distils}
  assert {
      name: (BUFFER[buffer], states, LOSSES[loss])
      for name, _, buffer, states, loss in distilling} == {
          name: (m.replay, m.states, getattr(m.loss, 'func', m.loss))
          for name, m in methods.METHODS.items() if m.distils}


def test_the_rows_of_the_paper():
  # As in the paper: ZPPO = GRPO + replay + Both; the BCQ comes first.
  rows = {name: (m.replay, m.reformulations)
          for name, m in methods.METHODS.items() if not m.distils}
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
  fields = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  for method in methods.METHODS.values():
    assert set(method.reformulations) <= set(REFORMULATIONS)
    assert method.states in distillation.STATES
    assert method.needs <= set(distillation.NEEDS)
    for path in method.pinned:
      section, field = path.split('.')
      assert field in fields[section]
    if not method.distils:
      assert method.loss is losses.make_clipped_surrogate
      assert method.teacher == bool(method.reformulations)


def test_get_finds_rows_and_lists_the_known_names():
  assert methods.get('zppo') is methods.METHODS['zppo']
  with pytest.raises(KeyError) as error:
    methods.get('zpo')
  assert "'zpo'" in str(error.value)
  for name in methods.METHODS:
    assert name in str(error.value)
