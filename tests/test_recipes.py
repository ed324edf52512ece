"""The recipes of PTD-PO and Uni-OPD: the papers' numbers, and they build."""

import pytest

from tests.long import long
from tests.test_configs import load
from zppo_jax.plan import abstract, planning, programs, topologies
from zppo_jax.train import build

PTD = {'2b': 0.05, '4b': 0.5, '8b': 0.05}
UNI = {'1_7b': 'Qwen3-1.7B', '4b': 'Qwen3-4B'}
SLICES = [(size, name) for size in PTD
          for name in ('v5p:2x2x2', 'v5e:4x4', 'v5p:2x2x4', 'v5e:4x8',
                       'v5p:2x4x4', 'v5e:8x8')]


def built(config):
  """The run of a config on one CPU device, of shapes, with three blocks each:
  those of Qwen3-VL take as many taps of its tower."""
  config, _ = abstract.fitted(config, topologies.parse('cpu:1'))
  return abstract.run_of(config, topologies.parse('cpu:1'), blocks=3)


@pytest.mark.parametrize('size', PTD)
def test_ptd_po_has_the_papers_numbers(size):
  c = load(f'ptd_po_{size}.py')
  a, o = c.algorithm, c.optimizer
  assert c.distil.coefficient == PTD[size] and c.distil.top == 100
  assert (a.num_new, a.rollouts, a.updates, a.max_tokens) == (384, 8, 3, 4096)
  assert a.num_new // a.updates == 128
  assert (a.temperature, a.top_p) == (1.0, 0.99)
  assert (a.clip.low, a.clip.high, a.clip.dual) == (0.2, 0.3, 3.0)
  assert a.reference.to_dict() == {
      'kind': 'k3', 'coefficient': 0.01, 'route': 'not taught'}
  assert (o.learning_rate, o.weight_decay, o.clip_norm) == (1e-6, 1e-2, 1.0)
  assert (o.warmup_steps, o.state_dtype) == (0, 'bfloat16')
  assert c.steps == 202 and max(c.shapes.prompt_buckets) == 8192
  assert c.student.weights.endswith(f'Qwen3-VL-{size.upper()}-Thinking')


@pytest.mark.parametrize('size', UNI)
def test_uni_opd_has_the_papers_numbers(size):
  c = load(f'uni_opd_{size}.py')
  a, o = c.algorithm, c.optimizer
  assert (a.num_new, a.rollouts, a.updates, a.max_tokens) == (64, 16, 1, 16384)
  assert (a.clip.low, a.clip.high, a.normaliser) == (0.2, 0.28, 'none')
  assert (o.learning_rate, o.b1, o.b2, o.weight_decay) == (1e-6, .9, .98, .1)
  assert (o.warmup_steps, c.student.thinking) == (5, 'off')
  assert c.student.weights.endswith(UNI[size])
  assert max(c.shapes.prompt_buckets) == 4096


@pytest.mark.parametrize('size', [
    '2b', long('4b'), long('8b')])
def test_ptd_po_builds(size):
  """And its slices have the devices of their names."""
  c = load(f'ptd_po_{size}.py')
  c.distil.material = ''  # the file of hints is yours
  run = built(c)
  assert run.distil.support == 'student' and run.context is not None
  # Gated groups lose the penalty.
  assert run.reference.penalty.route == 'not taught'
  assert run.credit.divergence.route.call.name == 'wrong_below'
  # The teacher is the reference policy, and there is one copy of both.
  assert run.teacher.params is run.reference.params
  assert programs.standing(run)['reference copy'] > 2**20
  assert 'teacher copy' not in programs.standing(run)
  assert planning.few_blocks(run) == 3  # layers with taps differ from others
  with pytest.raises(KeyError, match='known: v5p'):
    load(f'ptd_po_{size}.py', 'v9')
  slices = [name for of, name in SLICES if of == size]
  known = 0
  for name in slices:
    try:
      of_slice = load(f'ptd_po_{size}.py', name)
    except KeyError:
      continue
    known += 1
    assert abstract.fitted(of_slice, topologies.parse(name))[1] == {}
  assert known == 2


def test_uni_opd_builds():
  run = built(load('uni_opd_1_7b.py'))
  assert run.credit.margin.name == 'spread' and run.reducer == 'per_rollout'
  assert run.credit.balance.ratios == {'*': 1.0}
  assert planning.few_blocks(run) == planning.FEW == 2
  with pytest.raises(KeyError, match='known: single, multi'):
    load('uni_opd_4b.py', 'three')


def test_uni_opd_has_a_teacher_per_source():
  """Of DeepMath and of code, each behind its own server."""
  c = load('uni_opd_4b.py', 'multi')
  asked = []
  def elsewhere(context):
    asked.append(context.config.teacher.endpoint.model)
    return outside.teachers['endpoint'](context)
  one = topologies.parse('cpu:1')
  outside = abstract.outside(one, lambda spec, place=None, *_: abstract.loaded(
      abstract.shortened(abstract.network(spec, 'student'), 2), place, 151936))
  run = build.build(abstract.fitted(c, one)[0], outside=outside._replace(
      teachers={**outside.teachers, 'endpoint': elsewhere}))
  assert sorted(asked) == ['Qwen3-4B-code', 'Qwen3-4B-maths']
  assert run.credit.balance.ratios == {'deepmath': 1.0, 'code': 1.2}
  assert set(run.teacher.routes) == {'deepmath', 'code'}


@pytest.mark.parametrize('name, pictures', [('', False), ('pictures', True)])
def test_uni_opd_of_a_student_that_sees_builds(name, pictures):
  """Taught by a model of text, or by one that sees, whose margin is the
  paper's."""
  c = load('uni_opd_vl.py', name)
  assert (c.teacher.kind == 'in_process') == pictures
  assert bool(c.shapes.patch_buckets) == pictures
  run = built(c)
  assert planning.few_blocks(run) == 3  # of Qwen3-VL, with its taps
  assert run.credit.margin.name == ('lift' if pictures else 'spread')
  assert run.credit.margin.at(0) == ((0.0,) if pictures else (0.4,))
  assert run.credit.margin_kind == ('extreme' if pictures else 'mean')
  with pytest.raises(KeyError, match='known: cross, pictures'):
    load('uni_opd_vl.py', 'audio')
