"""What is compiled ahead is what a run calls, and nothing else."""

import os

import jax
import pytest

from tests import builders
from tests.engines import engine, placed, request
from tests.long import LONG, long
from zppo_jax.devices import compile_ahead
from zppo_jax.records import Group, Prompt, PromptKind, Question, Verdict
from zppo_jax.train import build, minibatches, step
from zppo_jax.train.compiling import likely

pytestmark = pytest.mark.usefixtures('quick_compile')

COMPILED: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **of: COMPILED.append(of.get('fun_name'))
    if name == '/jax/core/compile/backend_compile_duration' else None)


@pytest.fixture
def at_once(monkeypatch):
  """Jobs are done when they are added, on as many cores as a run wants."""
  keys = []
  monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {0, 1})
  monkeypatch.setattr(compile_ahead.PROGRAMS, 'add', lambda jobs, first=False: [
      (keys.append(job.key), job.compile()) for job in jobs])
  return keys


def groups_of(length: int) -> list[Group]:
  """Four groups of eight rollouts behind prompts of so many tokens."""
  return [Group(
      Prompt(Question(id=f'q{i}', text='', answer='', split=''),
             PromptKind.PLAIN, tokens=(3,) * length),
      tuple(builders.rollout('4 h', verdict) for verdict in (
          Verdict.CORRECT, *[Verdict.WRONG] * 7))) for i in range(4)]


@LONG
def test_a_step_compiles_nothing_that_was_compiled_ahead(at_once, own_programs):
  """Scoring, gradient and optimizer, from their shapes alone."""
  run = build.build(builders.small_config(compile_ahead=True))
  groups = groups_of(6)
  likely.trained_on(run, [g.prompt for g in groups])
  job = likely._optimizer(run)
  job.compile()
  state = run.init_state()
  made, _ = minibatches.make(
      run, groups, minibatches.advantages(run, groups), 0)
  COMPILED.clear()
  made = minibatches.score(run, state, made)
  step.update(run, state, made)
  ahead = {'jit(_scored)', 'jit(accumulate)', 'jit(optimizer_step)'}
  assert 'jit(zeros)' in COMPILED and not ahead & set(COMPILED)
  assert len(at_once) == 2
  calls = [(id(run.update_fn.keywords['accumulate_fn']), *at_once[0][1:]),
           (id(run.score_fn), *at_once[1][1:])]
  assert at_once == calls and job.key == id(
      run.update_fn.keywords['optimizer_fn'])


@pytest.mark.parametrize('family', ['qwen3', long('qwen3_5')])
def test_rollouts_compile_nothing_that_was_compiled_ahead(family, make_mesh):
  mesh = make_mesh()
  e, params = engine(family, mesh, 12), placed(family, mesh)
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=x.sharding), params)
  jobs = e.jobs(shapes, 2, 5, 2)
  assert len({job.key for job in jobs}) == 4
  for job in jobs:
    job.compile()
  COMPILED.clear()
  found = e.generate(params, [request(0, 5), request(1, 3)])
  assert [len(of) for of in found] == [2, 2] and not COMPILED


def test_nothing_is_compiled_ahead_where_it_is_of_no_use(at_once, monkeypatch):
  """On one core, with several processes, or if the config says so."""
  run = build.build(builders.small_config(compile_ahead=True))
  assert likely._works(run) and len(likely.at_start(run)) == 7
  monkeypatch.setattr(likely.hosts, 'count', lambda: 2)
  assert not likely._works(run)
  monkeypatch.undo()
  monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {0})
  assert not likely._works(run)
  monkeypatch.undo()
  assert not likely._works(build.build(builders.small_config()))
