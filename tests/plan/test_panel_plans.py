"""Plans of runs whose teachers are several, and of models inside the update."""

import dataclasses
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
  topologies,
  workload,
)
from zppo_jax.plan.roofline import Machine
from zppo_jax.plan.workload import Assumptions
from zppo_jax.teachers.ahead import AheadTeacher
from zppo_jax.train import teachers


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
  # Of code nobody asks an answer, and nothing is scored.
  assert {name for name in of if name.startswith('teacher')} == {
      'teacher/maths prefill', 'teacher/maths decode'}
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
  assert standing['teacher pool'] == programs.teacher_pool(members['maths'])
  assert set(copies) <= memory.beside(of['update'], standing).keys()
  # Three routes: two begin with maths, and one with the server.
  asked = run.rules.num_aug
  answers = {role: drawn[0].prompts for role, drawn in load.teacher.items()}
  assert answers == {'teacher/maths': math.ceil(2 / 3 * asked),
                     'teacher/far': math.ceil(1 / 3 * asked)}
  assert load.scores == pytest.approx({
      'teacher/maths': 2 / 3, 'teacher/code': 1 / 3, 'teacher/far': 1 / 3})


def test_only_members_that_write_have_a_pool_and_programs_to_draw():
  """The first members of routes do, where the method asks for an answer."""
  members = {'small': {'weights': 'micro/teacher', 'dtype': 'bfloat16'},
             'large': {'weights': 'micro/teacher', 'dtype': 'float32'}}
  section = lambda **routes: panel_of(members, routes)
  drawing = lambda of: {name.split()[0] for name in of
                        if name.startswith('teacher') and 'scoring' not in name}
  one = planned(config(method='zppo', **section(a='small + large', b='small')))
  both = planned(config(method='zppo', **section(a='small + large', b='large')))
  assert drawing(one[1]) == {'teacher/small'}
  assert drawing(both[1]) == {'teacher/small', 'teacher/large'}
  pools = [of[2]['teacher pool'] for of in (one, both)]
  assert pools == [programs.teacher_pool(both[0].teacher.members[name])
                   for name in ('small', 'large')]
  assert pools[0] < pools[1]
  scored, probed = (planned(config(method='opd_reverse', **{
      'distil.support': 'sampled', 'probe.every': every},
      **section(a='small + large'))) for every in (0, 5))
  assert not drawing(scored[1]) and 'teacher pool' not in scored[2]
  assert {'teacher/small scoring', 'teacher/large scoring'} <= scored[1].keys()
  assert not scored[0].answering
  # A probe has its candidates summarised.
  assert probed[0].answering.keys() == {'teacher/small'} == drawing(probed[1])


def test_a_panel_behind_a_journal_has_the_same_members():
  c = config(method='zppo', **panel_of(
      {'maths': {'weights': 'micro/teacher'},
       'code': {'weights': 'micro/terse_teacher'}},
      {'a': 'maths', '*': '0.5 maths + 0.5 code'}))
  run = abstract.run_of(c, CPU)
  behind = dataclasses.replace(run, teacher=AheadTeacher(run.teacher))
  assert behind.answering.keys() == run.answering.keys() == {'teacher/maths'}
  loads = [workload.of_run(of, c, Assumptions()) for of in (run, behind)]
  assert loads[0].scores == loads[1].scores
  assert loads[0].teacher.keys() == loads[1].teacher.keys() == {'teacher/maths'}


def test_a_members_own_mesh_gets_the_devices_of_a_topology():
  c = config()
  c.teacher.mesh.update(data=1, fsdp=2, tensor=4)
  slice_ = topologies.Topology('v5e:4x4', 'tpu', 'v5e', 16, 16, 2**34)
  c = abstract.changed_config(c, panel_of(
      {'shared': {}, 'own': {'mesh': {'data': 2, 'fsdp': 1, 'tensor': 2}},
       'alone': {'mesh': {'data': 1, 'fsdp': 8, 'tensor': 2}}}, {'*': 'own'}))
  fitted, changed = abstract.fitted(c, slice_)
  of = 'teacher.panel.members.own.mesh'
  assert changed == {'mesh.fsdp': 16, 'teacher.mesh.fsdp': 4,
                     f'{of}.fsdp': 4, 'shapes.slots': 512}
  meshes = {who.rpartition('.')[2]: dict(spec.mesh)
            for who, spec in teachers.sections(fitted.teacher).items()}
  assert meshes == {
      'shared': {'data': 1, 'fsdp': 4, 'tensor': 4},
      'own': {'data': 2, 'fsdp': 4, 'tensor': 2},
      'alone': {'data': 1, 'fsdp': 8, 'tensor': 2}}
  assert abstract.fitted(fitted, slice_)[1] == {}
  fitted.teacher.panel.members.own.mesh.tensor = 5
  with pytest.raises(ValueError, match=rf'{of}.data x {of}.tensor is 2 x 5'):
    abstract.fitted(fitted, slice_)


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
