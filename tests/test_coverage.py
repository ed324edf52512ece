"""docs/coverage.md: every item has a row, and what a row names exists."""

import importlib
import json
import re

import pytest

from studies import neighbours_material
from tests.builders import ROOT
from tests.test_configs import load
from zppo_jax.algorithms import distillation, methods
from zppo_jax.algorithms.credit import routes, settings
from zppo_jax.algorithms.privileged import contexts
from zppo_jax.objectives import divergences, reducers
from zppo_jax.objectives.credit import rollout_weights, signals, token_weights
from zppo_jax.runs import diagnostics
from zppo_jax.train import teachers
from zppo_jax.train.teaching import own

PAGE = (ROOT / 'docs' / 'coverage.md').read_text()
STATES = ('built', 'open', 'study', 'out', 'theory')
# Letter or chapter -> its items.
COUNTS = {'Z': 5, 'P': 6, 'U': 9, '2.': 8, '3.': 4, '4.': 18, '5.A': 7,
          '5.B': 10, '5.C': 5, '5.D': 2, '5.E': 2, '6.': 15, '7.': 13, '9.': 6,
          '10.': 4, 'A.': 14, 'B.': 10, 'C.': 5, 'F.': 9}
IDS = [f'{name}{i}' for name, count in COUNTS.items()
       for i in range(1, count + 1)] + [f'D.{x}' for x in 'ABCD']
BUILDABLE, WANTED = 144, 130
_WEIGHTS = token_weights.TOKEN_WEIGHTS
TABLES = {
    'method': methods.METHODS, 'teacher.kind': teachers.TEACHERS,
    'teacher.own.weights': own.WEIGHTS, 'distil.context': contexts.CONTEXTS,
    'distil.divergence': divergences.DIVERGENCES,
    'distil.support': distillation.SUPPORTS,
    'distil.rest': divergences.REST, 'distil.reducer': reducers.REDUCERS,
    'distil.target': distillation.TARGETS, 'credit.signal': signals.SIGNALS,
    'credit.margin': settings.MARGINS, 'credit.route': routes.ROUTES,
    'credit.policy_route': routes.ROUTES, 'credit.weights': _WEIGHTS,
    'credit.policy_weights': _WEIGHTS,
    'credit.rollout_weights': rollout_weights.ROLLOUT_WEIGHTS}


def rows():
  """(id, what it is, state, by) of each line of the tables."""
  lines = [[cell.strip() for cell in line.strip('|\n').split('|')]
           for line in PAGE.splitlines() if line.startswith('| ')]
  return [line for line in lines if line[0] != 'id']


def exists(name: str) -> bool:
  """Whether a thing in backticks is there."""
  if '::' in name:
    path, _, test = name.partition('::')
    file = ROOT / path
    return file.is_file() and re.search(
        rf'^def {test}\(', file.read_text(), re.MULTILINE) is not None
  if '=' in name:
    field, _, row = name.partition('=')
    return row in TABLES[field]
  if name.startswith('zppo_jax.'):
    module, _, attribute = name.rpartition('.')
    return hasattr(importlib.import_module(module), attribute)
  if '/' in name:
    return (ROOT / name).is_file()
  section = load('base.py')
  for part in name.split('.'):
    if part not in section:
      return False
    section = section[part]
  return True


def test_every_item_has_one_row():
  assert len(IDS) == 156
  assert sorted(row[0] for row in rows()) == sorted(IDS)


def test_states_are_known_and_theory_is_what_was_counted_so():
  states = [row[2] for row in rows()]
  assert set(states) <= set(STATES)
  assert len(states) - states.count('theory') == BUILDABLE


@pytest.mark.parametrize('row', rows(), ids=lambda row: row[0])
def test_what_a_row_names_exists(row):
  """What is built or to be studied names something that is there, what is open
  something that will be, and the others say why not."""
  _, what, state, by = row
  named = re.findall(r'`([^`]+)`', by)
  assert what and by
  assert bool(named) == (state not in ('out', 'theory')), by
  for name in named if state in ('built', 'study') else ():
    assert exists(name), name


def test_enough_is_covered():
  states = [row[2] for row in rows()]
  assert sum(map(states.count, ('built', 'study', 'open'))) >= WANTED
  assert states.count('out') <= BUILDABLE - WANTED


def test_a_name_that_leads_nowhere_is_seen():
  for name in ('method=none', 'credit.signal=loud', 'distil.nothing',
               f'{diagnostics.__name__}.nothing', 'studies/none.py',
               'tests/test_coverage.py::test_none'):
    assert not exists(name), name
  assert exists('tests/test_coverage.py::test_enough_is_covered')


def test_every_method_ran_in_a_study_of_committed_results():
  ran = set()
  for results in (ROOT / 'studies' / 'results').glob('*/results.json'):
    study = json.loads(results.read_text())['study']
    arms = [r['arm'] for r in json.loads(results.read_text())['reported']]
    ran |= {dict(study['arms'][arm])['method'] for arm in arms
            if 'method' in dict(study['arms'][arm])}
  assert set(methods.METHODS) <= ran


def test_texts_of_the_neighbours_study_are_made_again():
  assert (neighbours_material.TO.read_text()
          == neighbours_material.text())
