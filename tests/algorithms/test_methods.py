"""The table of methods, against its docstring and by hand."""

import functools
import re
import runpy

import pytest
from ml_collections import ConfigDict

from tests.builders import ROOT, small_config
from zppo_jax.algorithms import distillation, methods
from zppo_jax.algorithms.credit import rows
from zppo_jax.algorithms.reformulate import REFORMULATIONS
from zppo_jax.objectives import advantages, losses, reducers, surrogates
from zppo_jax.train import build

WORDS = {
    '-': (),
    'BCQ': ('bcq',),
    'NCQ': ('ncq',),
    'BCQ, NCQ': ('bcq', 'ncq'),
    'BCQ of two wrong candidates, NCQ': ('placebo_bcq', 'ncq'),
    'BCQ of two wrong candidates': ('placebo_bcq',),
    'BCQ, NCQ of another question\'s candidates': ('random_bcq', 'random_ncq'),
    'BCQ of another question\'s candidates': ('random_bcq',),
    'NCQ of another question\'s candidates': ('random_ncq',),
    'BCQ, NCQ without candidates': ('bare_bcq', 'bare_ncq'),
    'BCQ without candidates': ('bare_bcq',),
    'NCQ without candidates': ('bare_ncq',),
    'the plain question for BCQ, NCQ': ('again_bcq', 'again_ncq'),
    'the plain question for BCQ': ('again_bcq',),
    'the plain question for NCQ': ('again_ncq',),
    'BCQ, the plain question': ('bcq', 'again_bcq'),
    'Prefix': ('prefix',),
    'Hint': ('hint',),
    'Hint, of the reference solution': ('hint',),
    'the beginning of the reference solution': ('oracle_prefix',),
}


BUFFER = {'yes': True, 'no': False}
LOSSES = {
    'divergence': distillation.make_divergence,
    'nll': distillation.make_negative_log_likelihood,
    'estimate': distillation.make_estimate,
    'log_ratio': distillation.make_log_ratio,
    'surrogate + divergence': distillation.make_surrogate_and_divergence,
}
OBJECTIVES = {
    'sequence ratio': surrogates.make_gspo,
    'clipped surrogate': losses.make_clipped_surrogate,
    'clipped weight x log p': surrogates.make_cispo,
}
MEANS = {'rollouts': 'per_rollout', 'rollouts x max_tokens': 'constant_length',
         'tokens': 'token_mean'}


def without_a_normaliser():
  """Rows of the first table: those of the ZPPO paper and its controls."""
  return {name: m for name, m in methods.METHODS.items()
          if not m.distils and not m.normaliser}


def docstring_rows():
  """The rows of the six tables, without their heads."""
  tables = []
  for line in methods.__doc__.splitlines():
    if line.startswith('| name'):
      tables.append([])
    if line.startswith('|'):
      tables[-1].append([c.strip() for c in line.strip('|').split('|')])
  heads = [table[0] for table in tables]
  assert heads == [['name', 'paper', 'buffer', 'reformulations'],
                   ['name', 'control of', 'buffer', 'reformulations'],
                   ['name', 'remedy for', 'buffer', 'reformulations'],
                   ['name', 'paper', 'buffer', 'reformulations'],
                   ['name', 'source', 'buffer', 'states', 'loss'],
                   ['name', 'source', 'loss', 'advantages', 'mean over']]
  return [table[2:] for table in tables]


def test_the_docstring_is_the_table():
  (reformulating, controls, remedies, unsolved, distilling,
   objectives) = docstring_rows()
  assert {name for name, *_ in unsolved} == {
      name for name, m in methods.METHODS.items() if m.tau}
  assert {
      name: (BUFFER[buffer], WORDS[reformulations])
      for name, _, buffer, reformulations in (
          reformulating + controls + remedies + unsolved)} == {
          name: (m.replay, m.reformulations)
          for name, m in without_a_normaliser().items()}
  assert {
      name: (BUFFER[buffer], states, LOSSES[loss])
      for name, _, buffer, states, loss in distilling} == {
          name: (m.replay, m.states, getattr(m.loss, 'func', m.loss))
          for name, m in methods.METHODS.items()
          if m.distils and not m.terms}
  assert {
      name: (OBJECTIVES[loss], normaliser, MEANS[mean], False, ())
      for name, _, loss, normaliser, mean in objectives} == {
          name: (m.loss, m.normaliser, m.reducer, m.replay, m.reformulations)
          for name, m in methods.METHODS.items() if m.normaliser}


def test_the_rows_with_terms_are_in_both_tables():
  """The docstring of credit/rows.py and docs/neighbours.md list every row; the
  page also has those for unsolved questions."""
  rows_of = lambda text: {
      name for line in text.splitlines() if line.startswith('| ')
      for name in re.findall(r'^\| `?([a-z_0-9]+)`? \|', line)}
  named = {name for name, m in methods.METHODS.items() if m.terms}
  assert named == rows_of(rows.__doc__) - {'name'}
  text = (ROOT / 'docs' / 'neighbours.md').read_text()
  listed = text[text.index('## Rows'):text.index('## Where we differ')]
  named |= {name for name, m in methods.METHODS.items() if m.tau}
  assert named == rows_of(listed) - {'method', 'config'}


def test_the_rows_of_the_paper():
  # As in the paper: ZPPO = GRPO + replay + Both; the BCQ comes first.
  rows = {name: (m.replay, m.reformulations)
          for name, m in without_a_normaliser().items()}
  assert rows == {
      'grpo': (False, ()),
      'grpo_replay': (True, ()),
      'grpo_both': (False, ('bcq', 'ncq')),
      'grpo_replay_bcq': (True, ('bcq',)),
      'grpo_replay_ncq': (True, ('ncq',)),
      'zppo': (True, ('bcq', 'ncq')),
      'placebo': (True, ('placebo_bcq', 'ncq')),
      'placebo_bcq': (True, ('placebo_bcq',)),
      'random': (True, ('random_bcq', 'random_ncq')),
      'random_bcq': (True, ('random_bcq',)),
      'random_ncq': (True, ('random_ncq',)),
      'bare': (True, ('bare_bcq', 'bare_ncq')),
      'bare_bcq': (True, ('bare_bcq',)),
      'bare_ncq': (True, ('bare_ncq',)),
      'again': (True, ('again_bcq', 'again_ncq')),
      'again_bcq': (True, ('again_bcq',)),
      'again_ncq': (True, ('again_ncq',)),
      'bcq_again': (True, ('bcq', 'again_bcq')),
      'prefix': (True, ('prefix',)),
      'hint': (True, ('hint',)),
      # Of other papers.
      **dict.fromkeys(('sage', 'nurl'), (False, ('hint',))),
      'pope': (False, ('oracle_prefix',)),
  }


def test_every_row_names_things_that_exist():
  fields = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  for method in methods.METHODS.values():
    assert set(method.reformulations) <= set(REFORMULATIONS)
    assert method.states in distillation.STATES
    assert method.needs <= set(distillation.NEEDS)
    for path in (*method.pinned, *method.usual):
      *sections, field = path.split('.')
      assert field in functools.reduce(ConfigDict.get, sections, fields)
    assert method.reducer in reducers.REDUCERS
    assert method.normaliser in ('', *advantages.NORMALISERS)
    if not method.distils:
      assert method.loss in OBJECTIVES.values() and method.of_advantages
      assert method.teacher == bool(method.reformulations)


def test_the_default_normaliser_is_the_configs():
  config = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  assert config.algorithm.normaliser == methods.NORMALISER


def test_get_finds_rows_and_lists_the_known_names():
  assert methods.get('zppo') is methods.METHODS['zppo']
  with pytest.raises(KeyError) as error:
    methods.get('zpo')
  assert "'zpo'" in str(error.value)
  for name in methods.METHODS:
    assert name in str(error.value)


# What docs/coverage.md calls out or theory, and what aligns other tokenizers.
STAYS_OUT = ('gold', 'x_token', 'cord', 'x_opd', 'vla_opd', 'skill_sd',
             'tamtrl', 'rl2f', 'erl', 'ra_opd', 'x_kd', 'varreason', 'copd',
             'gad', 'nested_learning', 'intrinsic_motivation')


@pytest.mark.parametrize('name', STAYS_OUT)
def test_what_stays_out_is_refused_with_its_reason(name):
  """By the door of a run; a name in a paper's spelling is the same name."""
  for spelt in (name, name.upper(), name.replace('_', '-')):
    with pytest.raises(ValueError) as e:
      build.build(small_config(method=spelt))
    assert str(e.value) == (f'method is {spelt!r}, which is refused: '
                            f'{methods.REFUSED[name]}')
    assert 'known:' not in str(e.value)
  assert name not in methods.METHODS


def test_names_that_are_refused_are_listed_with_their_reasons():
  page = (ROOT / 'docs' / 'neighbours.md').read_text()
  section = page.partition('## What stays out')[2].partition('\n## ')[0]
  assert dict(re.findall(r'^\| `(\w+)` \| (.+) \|$', section, re.MULTILINE)
              ) == methods.REFUSED
  assert set(methods.REFUSED) == {'opd_k1', *STAYS_OUT}


def test_a_method_that_is_none_is_unknown_and_one_that_is_there_is_found():
  for name in ('gould', 'rl\u00b2g', ''):
    with pytest.raises(KeyError, match='known: grpo'):
      methods.get(name)
  with pytest.raises(ValueError, match='is refused'):
    methods.get('RL\u00b2F')
  assert all(methods.get(name) is of for name, of in methods.METHODS.items())
