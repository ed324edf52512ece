"""Plans of runs whose teachers are several, and of models inside the update."""

import math

import pytest
from ml_collections import ConfigDict

from tests.plan.test_planning import CPU, config
from zppo_jax.devices import memory as sizes
from zppo_jax.plan import (
  abstract,
  estimate,
  memory,
  planning,
  programs,
  workload,
)
from zppo_jax.plan.roofline import Machine
from zppo_jax.plan.workload import Assumptions


def panel_of(members, routes):
  """Changes of a config whose teacher is a panel."""
  return {'teacher.kind': 'panel',
          'teacher.panel.members': ConfigDict(members),
          'teacher.panel.routes': ConfigDict(routes)}


def planned(c):
  """(run, programs by name, standing, load) of a config."""
  run = abstract.run_of(c, CPU)
  return (run, {p.name: p for p in programs.of_run(run, c)},
          programs.standing(run), workload.of_run(run, c, Assumptions()))


def test_each_member_of_a_panel_has_its_programs_and_its_copy():
  c = config(method='zppo', **panel_of(
      {'maths': {'weights': 'micro/teacher'},
       'code': {'weights': 'micro/terse_teacher', 'dtype': 'bfloat16'},
       'far': {'kind': 'endpoint'}},
      {'a': 'maths', 'b': '0.5 maths + 0.5 code', '*': 'far'}))
  run, of, standing, load = planned(c)
  members = run.teacher.members
  assert {name for name in of if name.startswith('teacher')} == {
      f'teacher/{member} {what}' for member in ('maths', 'code')
      for what in ('prefill', 'decode')}
  copies = {part: size for part, size in standing.items()
            if part.startswith('teacher copy')}
  assert copies == {f'teacher copy of {name}': sizes.device_bytes(
      members[name].params) for name in ('maths', 'code')}
  assert copies['teacher copy of maths'] != copies['teacher copy of code'] > 0
  decode = of['teacher/maths decode']
  assert decode.reads == ('teacher copy of maths', 'teacher pool')
  beside = memory.beside(decode, standing)
  assert 'teacher copy of code' in beside
  assert not {*decode.reads} & {*beside}
  assert standing['teacher pool'] == max(
      programs.teacher_pool(members[name]) for name in ('maths', 'code'))
  assert set(copies) <= memory.beside(of['update'], standing).keys()
  # Three routes: two begin with maths, and one with the server.
  asked = run.rules.num_aug
  answers = {role: drawn[0].prompts for role, drawn in load.teacher.items()}
  assert answers == {'teacher/maths': math.ceil(2 / 3 * asked),
                     'teacher/far': math.ceil(1 / 3 * asked)}
  assert load.scores == pytest.approx({
      'teacher/maths': 2 / 3, 'teacher/code': 1 / 3, 'teacher/far': 1 / 3})


def test_a_reference_inside_the_update_is_one_pass_of_the_student():
  """Whatever teachers there are."""
  full = {'algorithm.reference.kind': 'full',
          'algorithm.reference.coefficient': 0.1}
  flops = {}
  panel = panel_of({'a': {'weights': 'micro/teacher'},
                    'b': {'weights': 'micro/terse_teacher'}},
                   {'x': 'a', '*': 'b'})
  for name, changes in (('without', {}), ('grpo', full),
                        ('panel', full | panel)):
    run, of, standing, load = planned(config(method='grpo', **changes))
    flops[name] = planning.work(run, load, standing, dict.fromkeys(of),
                                Machine(1e9, 1e9, 1e9))['update'].flops
  assert flops['panel'] == flops['grpo'] == pytest.approx(
      flops['without'] * 4 / 3)


@pytest.mark.parametrize('member, error, says', [
    ({'kind': 'panel'}, ValueError, r"members.one.kind is 'panel'; a panel"),
    ({'kind': 'nobody'}, KeyError, r'members.one.kind .nobody.*known: '),
    ({'weight': 'micro/teacher'}, AttributeError, 'did you mean weights')])
def test_refused_members_of_a_panel(member, error, says):
  with pytest.raises(error, match=says):
    abstract.run_of(config(method='zppo', **panel_of(
        {'one': {'weights': 'micro/teacher'} | member}, {'*': 'one'})), CPU)


@pytest.mark.parametrize('routes', [
    {'*': 'one'}, {'a': 'one', '*': 'other'}])
def test_a_panel_of_one_teacher_does_what_that_teacher_does(
    routes, monkeypatch):
  """And so do two members of equal weights, between them."""
  weights = {'weights': 'micro/teacher', 'dtype': 'float32'}
  changes = {'method': 'opd_reverse', 'distil.support': 'sampled'}
  alone = config(**changes)
  names = {route for route in routes.values()}
  shared = config(**changes, **panel_of({n: weights for n in names}, routes))
  machine = Machine(1e9, 1e9, 1e9)
  none = lambda of: dict.fromkeys(of)
  works = []
  for c in (alone, shared):
    run, of, standing, load = planned(c)
    works.append(planning.work(run, load, standing, none(of), machine))
    assert sum('scoring' in name and 'teacher' in name for name in of) == (
        1 if c is alone else len(names))
  assert works[1].keys() == works[0].keys()
  for phase, work in works[0].items():
    for field in ('flops', 'bytes', 'moved', 'seconds'):
      assert getattr(works[1][phase], field) == pytest.approx(
          getattr(work, field)), phase
  monkeypatch.setattr(estimate, '_machine', lambda run: (1e9, 1e9))
  found, whole = (estimate.of_run(abstract.run_of(c, CPU))
                  for c in (shared, alone))
  assert found == pytest.approx(whole)
