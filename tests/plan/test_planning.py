"""Plans of the embedded world on simulated devices, beside what XLA says."""

import dataclasses
import json
import os
import pathlib
import runpy

import jax
import numpy as np
import pytest
from PIL import Image

from tests.long import LONG
from zppo_jax import main
from zppo_jax.chat import images
from zppo_jax.devices import memory as sizes
from zppo_jax.learner import layouts, packing
from zppo_jax.plan import (
  abstract,
  command,
  compiling,
  memory,
  planning,
  programs,
  suggestions,
  topologies,
)
from zppo_jax.plan.compiling import Analysis
from zppo_jax.plan.planning import Entry
from zppo_jax.tasks import micro_pictures
from zppo_jax.train.shapes import room

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
CPU = topologies.Topology('cpu:2', 'cpu', 'cpu', 2, 1, 2**30)


def config(**changes):
  c = runpy.run_path(str(CONFIGS / 'micro.py'))['get_config']()
  c.method = 'grpo'
  c.shapes.slots = 32
  return abstract.fitted(abstract.changed_config(c, changes), CPU)[0]


@pytest.fixture(scope='module', autouse=True)
def plans_of_these_tests(tmp_path_factory):
  """Analyses are kept in a folder of their own."""
  with pytest.MonkeyPatch.context() as m:
    m.setenv('JAX_COMPILATION_CACHE_DIR',
             str(tmp_path_factory.mktemp('kept') / 'programs'))
    yield


@pytest.fixture(scope='module')
def run():
  return abstract.run_of(config(), CPU)


def test_the_mesh_gets_the_devices_of_a_topology():
  base = runpy.run_path(str(CONFIGS / 'base.py'))['get_config']()
  base.mesh.tensor = 4
  base.teacher.mesh.update(data=1, fsdp=1, tensor=8)
  slice_ = topologies.Topology('v5e:4x4', 'tpu', 'v5e', 16, 16, 2**34)
  fitted, changed = abstract.fitted(base, slice_)
  assert changed == {'mesh.fsdp': 4, 'shapes.slots': 512,
                     'teacher.mesh.fsdp': 2}
  assert (fitted.mesh.fsdp, fitted.shapes.slots) == (4, 512)
  assert base.mesh.fsdp == 1  # a copy
  assert abstract.fitted(fitted, slice_)[1] == {}
  # Fewer slots than the shards of the new mesh: none would be left.
  fitted.mesh.update(fsdp=64)
  fitted.shapes.slots = 1
  assert abstract.fitted(fitted, slice_)[1]['shapes.slots'] == 1
  base.mesh.tensor = 3
  with pytest.raises(ValueError, match=r'1 x 3; they must divide the 16'):
    abstract.fitted(base, slice_)


def test_weights_that_are_not_here_have_the_shapes_of_their_preset():
  base = runpy.run_path(str(CONFIGS / 'base.py'))['get_config']()
  base.student.weights = '/not/here/qwen3.5-2b-of-mine'
  model = abstract.network(base.student, 'student')
  assert model.config.width == 2048 and model.config.remat == 'full'
  base.student.weights = '/not/here/Nobody-2B'
  with pytest.raises(ValueError, match='student.weights.*Qwen3.5-0.8B'):
    abstract.network(base.student, 'student')


def test_supervised_runs_are_refused():
  with pytest.raises(ValueError, match="method is 'sft'"):
    abstract.run_of(config(method='sft'), CPU)


@pytest.mark.parametrize('changes', [
    {'method': 'opd_reverse', 'distil.support': 'sampled'},
    {'method': 'opd_reverse', 'teacher.kind': 'endpoint',
     'distil.support': 'sampled'},
    {'method': 'zppo', 'teacher.kind': 'endpoint'},
    {'method': 'on_distill', 'algorithm.updates': 1}])
def test_methods_have_the_programs_of_their_teachers(changes):
  """Stored scores need a pass of the teacher, whole vocabularies read its
  weights inside the update, and endpoints have no program here."""
  c = config(**changes, **{'probe.every': 0})
  made = programs.of_run(abstract.run_of(c, CPU), c)
  names = [p.name for p in made]
  here = c.teacher.kind == 'in_process'
  stored = c.distil.support == 'sampled'
  assert ('teacher scoring' in names) == (here and stored)
  assert 'teacher prefill' not in names
  update = next(p for p in made if p.name == 'update')
  assert ('teacher copy' in update.reads) == (c.method == 'on_distill')


def test_standing_parts_are_those_of_a_real_run(run):
  """The parameters of the embedded world on two devices, counted by XLA."""
  found = programs.standing(run)
  init = jax.eval_shape(run.sampler.engine.programs.model.init,
                        jax.random.key(0))
  whole = sum(x.size for x in jax.tree.leaves(init)) * 4
  assert whole / 2 <= found['parameters'] < 0.6 * whole
  assert found['gradient'] == found['parameters']
  assert found['rollout copy'] == whole  # float32, whole on each device
  assert 'teacher copy' not in found


FROZEN_TEACHER = {
    'method': 'ptd_po', 'teacher.kind': 'own', 'distil.material': '',
    'distil.top': 8, 'watch.drift': 4}


@pytest.mark.parametrize('penalty, owner', [('', 'teacher'),
                                            ('k3', 'reference')])
def test_who_reads_the_first_weights_shares_a_copy(penalty, owner):
  """A frozen teacher, the reference policy and the measure of drift."""
  c = config(**FROZEN_TEACHER, **({
      'algorithm.reference.kind': penalty,
      'algorithm.reference.coefficient': 0.1} if penalty else {}))
  run = abstract.run_of(c, CPU)
  assert run.teacher.params is run.drift.base
  assert list(run.copies()) == [owner]
  copies = {part: size for part, size in programs.standing(run).items()
            if part.endswith(' copy')}
  assert copies.keys() == {'rollout copy', f'{owner} copy'}
  of = {p.name: p for p in programs.of_run(run, c)}
  assert of['teacher scoring'].reads == (f'{owner} copy',)
  if penalty:
    assert of['reference scoring'].reads == ('reference copy',)
  assert sum(name.endswith('parameters') for name in
             room.standing_memory(run)) == 2  # the student's and the copy


def test_the_base_of_a_signal_is_a_reader_of_that_copy():
  run = abstract.run_of(config(method='exopd'), CPU)
  assert [name for name in run.copies() if name != 'teacher'] == ['base']
  assert programs.standing(run)['base copy'] > 0
  assert 'base copy' in programs.STATE
  run = abstract.run_of(config(method='exopd', **{'watch.drift': 4}), CPU)
  assert run.base is run.drift.base and 'base' not in run.copies()


def test_under_adapters_the_reference_is_no_copy():
  """The frozen teacher, which answers, and the measure of drift share one."""
  c = config(**FROZEN_TEACHER | {
      'lora.rank': 4, 'lora.alpha': 8.0, 'algorithm.reference.kind': 'k3',
      'algorithm.reference.coefficient': 0.1})
  run = abstract.run_of(c, CPU)
  assert run.is_frozen(run.reference.params)
  assert run.teacher.params is run.drift.base
  assert list(run.copies()) == ['teacher']


def test_arguments_are_the_parts_that_a_program_reads(run):
  """The arithmetic, against the compiled program's own count."""
  program = next(p for p in programs.of_run(run, config())
                 if p.name == 'optimizer')
  parts = ('parameters', 'moments', 'gradient')
  assert program.reads == parts
  compiled = program.lower().compile(
      compiler_options=compiling._CPU_OPTIONS).memory_analysis()
  standing = programs.standing(run)
  rest = compiled.argument_size_in_bytes - sum(standing[p] for p in parts)
  assert 0 <= rest < 0.05 * compiled.argument_size_in_bytes


def test_a_peak_counts_what_stands_beside():
  standing = {'parameters': 10, 'moments': 20, 'gradient': 10,
              'rollout copy': 7, 'decode pool': 5, 'teacher copy': 3}
  program = programs.Program('update', 'update', ('parameters', 'gradient'),
                             '', lambda: None)
  analysis = Analysis(memory=100, temporaries=80, code=2, collectives={},
                      tensors=[], seconds=0.0)
  peak = memory.peak(program, analysis, standing, 130)
  # The copy and the pool were released; the teacher stays.
  assert peak.beside == {'moments': 20, 'teacher copy': 3}
  assert (peak.total, peak.room, peak.over, peak.fits) == (125, 107, 0, True)
  tight = memory.peak(program, analysis, standing, 124)
  assert (tight.over, tight.fits) == (1, False)
  unknown = memory.peak(program, dataclasses.replace(analysis, code=None),
                        standing, 2**40)
  assert unknown.code == memory.CODE_ROOM


def test_the_copy_is_built_piece_by_piece():
  standing = {'parameters': 10, 'moments': 20, 'rollout copy': 50}
  program = programs.Program('reshard', 'reshard', (), '', lambda: None,
                             'rollout copy')
  of = lambda memory_, temporaries: memory.peak(program, Analysis(
      memory=memory_, temporaries=temporaries, code=0, collectives={},
      tensors=[], seconds=0.0), standing, 100).total
  assert of(30, 5) == 10 + 20 + 50 + 5
  assert of(70, 5) == 10 + 20 + 70  # the first piece needs more


REPORT = """Memory Space: default (color=0)
Total bytes: 3145728 (3.00MiB)
  cumulative_size;       size;       offset; used_by_n_values; shapes_list
  ------------------------------------------------------------
    1.00MiB( 50%);    1.00MiB;      1048576;                3; bf16[8,16], 2×f32[512,512]
    1.50MiB( 75%);  512.00KiB;            0;                1; bf16[512,512]
    1.50MiB( 75%);       512B;            0;                1; (s32[], f32[4096,4096])

  cumulative_size;       size;       offset; used_by_n_values; shapes_list
  ------------------------------------------------------------
  1.00MiB(100%);  1.00MiB;            0;                1; f32[128,2048]

Memory Space: vmem (color=1)
Total bytes: 7 (7B)
"""  # noqa: E501


def test_buffers_of_a_report_of_libtpu():
  total, temporaries, tensors = compiling.buffers(REPORT)
  assert total == 3 * 2**20
  assert temporaries == 2 * 2**20  # 1 MiB at an offset of 1 MiB
  assert tensors == [(2**20, 'f32[512,512]'), (2**20, 'f32[128,2048]'),
                     (2**19, 'bf16[512,512]')]
  with pytest.raises(ValueError, match='another form'):
    compiling.buffers('nothing')


ASSIGNMENT = """BufferAssignment:
allocation 0: size 4, color 8, page 0, thread-local:
 value: <1 call-start.1{2} @8> (size=4,offset=0): u32[]{:S(8)}
allocation 1: size 1048576, page 0, thread-local:
 value: <2 p.1 @0> (size=1048576,offset=0): f32[512,512]{1,0:T(8,128)}
allocation 2: size 1048576, page 0, parameter 3, shape |f32[512,512]| at ShapeIndex {}:
allocation 3: size 512, page 0, thread-local:
allocation 4: size 2097152, page 0, preallocated-temp:
"""  # noqa: E501


def test_what_the_report_of_libtpu_counts_twice():
  """The arguments of computations beside the others; of other memories none."""
  assert compiling.again(ASSIGNMENT) == 2**20 + 512
  assert compiling.again('BufferAssignment:\n') == 0
  with pytest.raises(ValueError, match='another form'):
    compiling.again('nothing')


@pytest.fixture(scope='module')
def decode(run):
  """The entry of the decode program, compiled once."""
  return planning.entries(config(), CPU, run, True, ['student decode'])[0]


def test_a_chunk_of_decoding_replaces_its_pool(run, decode):
  """The pool is donated: its buffers count once, as the copy's do."""
  standing, analysis = programs.standing(run), decode.analysis
  assert decode.program.reads == ('rollout copy', 'decode pool')
  parts = standing['rollout copy'] + standing['decode pool']
  assert parts <= analysis.memory - analysis.temporaries < 1.1 * parts
  assert decode.peak.total - analysis.memory - analysis.code == (
      standing['parameters'] + standing['moments'])


def test_an_analysis_is_kept(run, decode, monkeypatch):
  monkeypatch.setattr(compiling, 'of_lowered', None)
  again = planning.entries(config(), CPU, run, True, ['student decode'])[0]
  assert again.analysis == decode.analysis
  assert decode.analysis.memory > programs.standing(run)['decode pool']
  with pytest.raises(TypeError):  # another config is another program
    planning.entries(config(seed=1), CPU, run, True, ['student decode'])


@pytest.mark.parametrize('flag', ['LIBTPU_INIT_ARGS', 'XLA_FLAGS'])
def test_other_flags_are_another_analysis(run, decode, monkeypatch, flag):
  monkeypatch.setattr(compiling, 'of_lowered', None)
  monkeypatch.setenv(flag, os.environ.get(flag, '') + ' --xla_other=1')
  with pytest.raises(TypeError):
    planning.entries(config(), CPU, run, True, ['student decode'])


@pytest.mark.parametrize('name, value', [
    ('jax_optimization_level', 'O1'),
    ('jax_exec_time_optimization_effort', -0.5),
    ('jax_memory_fitting_level', 'O1'), ('jax_memory_fitting_effort', 0.5)])
def test_another_effort_is_another_analysis(run, decode, monkeypatch, name,
                                            value):
  monkeypatch.setattr(compiling, 'of_lowered', None)
  before = getattr(jax.config, name)
  jax.config.update(name, value)
  try:
    with pytest.raises(TypeError):
      planning.entries(config(), CPU, run, True, ['student decode'])
  finally:
    jax.config.update(name, before)


def small_plan(run, entries, topology=CPU):
  c = config()
  assumed = planning.Assumptions()
  load = planning.workload.of_run(run, c, assumed)
  standing = programs.standing(run)
  return planning.Plan(
      topology=topology, config=c, changed={}, fast=True,
      mesh=dict(run.mesh.shape), standing=standing, entries=entries,
      assumed=assumed, load=load, steps=run.steps, work=planning.work(
          run, load, standing,
          {e.program.name: e.analysis for e in entries},
          planning.Machine.of(topology, assumed)))


def blocked(run, decode):
  """A plan on devices that lack room for the decode pool."""
  topology = CPU._replace(usable=int(0.8 * decode.peak.total))
  peak = memory.peak(decode.program, decode.analysis, programs.standing(run),
                     topology.usable)
  return small_plan(run, [Entry(decode.program, peak, decode.analysis)],
                    topology)


@LONG
def test_a_plan_that_does_not_fit_gets_verified_suggestions(run, decode,
                                                            monkeypatch):
  monkeypatch.setattr(memory, 'CODE_ROOM', 0)
  plan = blocked(run, decode)
  assert not plan.fits
  found = suggestions.of_plan(plan)
  assert len(found) == suggestions.NUMBER
  assert any(s.changes.get('shapes.slots') == 32 for s in found)
  assert all(0 < s.highest <= 1 for s in found)
  text = command.text(plan, None, found)
  assert 'It does not fit.' in text and '--config.shapes.slots=32' in text
  assert 'decode pool' in text.split('Largest: ')[1]


def test_a_suggestion_that_does_not_help_is_not_made(run, decode):
  plan = blocked(run, decode)
  assert suggestions._verified(plan, {'shapes.micro_tokens': 200}) is None
  assert suggestions._verified(plan, {'mesh.tensor': 64}) is None


def test_without_room_for_what_stands_nothing_is_compiled(run, monkeypatch):
  monkeypatch.setattr(compiling, 'analysis', None)
  tiny = CPU._replace(usable=1000)
  entries = planning.entries(config(), tiny, run, True)
  assert entries and not any(e.peak.fits for e in entries)
  text = command.text(small_plan(run, entries, tiny), None, [])
  assert 'leaves no room' in text and 'None of the settings' in text


@pytest.mark.parametrize('name, following', [
    ('v5e:4x4', ['v5e:4x8', 'v5e:8x8']), ('v5p:4x4x4', ['v5p:4x4x8']),
    ('gpu:h100:8', ['gpu:h100:16']), ('cpu:2', ['cpu:4'])])
def test_the_next_larger_topologies(name, following):
  found = list(suggestions.larger(topologies.parse(name)))
  assert found[:len(following)] == following


FIELDS = {
    'version': int, 'topology': dict, 'mesh': dict, 'changed': dict,
    'fast': bool, 'student': str, 'teacher': str, 'method': str, 'fits': bool,
    'standing': dict, 'phases': dict, 'programs': list, 'assumptions': dict,
    'step': dict, 'limit': int, 'run': dict, 'suggestions': list}


def test_the_record_is_json_with_these_fields(run, decode):
  record = command.record(small_plan(run, [decode]), 2.0, [])
  again = json.loads(json.dumps(record))
  assert {name: type(value) for name, value in again.items()} == FIELDS
  program = again['programs'][0]
  assert program['total'] == decode.peak.total
  assert program['buffers'] == decode.analysis.memory
  assert again['step']['seconds'] == 0 and again['run']['cost'] is None
  assert again['step']['tokens'] > 0


def test_plans_of_gpus_say_whose_programs_they_are(run, decode):
  gpu = topologies.parse('gpu:h100:2')
  text = command.text(small_plan(run, [decode], gpu), None, [])
  assert 'with plain attention' in text and '40% of 1,979' not in text
  assert '40% of 989 TFLOP/s' in text and '60% of 3,350 GB/s' in text
  assert 'LIBTPU_INIT_ARGS' not in text


def test_one_limit_serves_all_programs_or_none(run, decode):
  """The room of the tightest phase holds the largest program, or it does not.
  """
  tpu = CPU._replace(platform='tpu', usable=2**30)
  plan = small_plan(run, [decode], tpu)
  assert plan.limit == 2**30 - sum(decode.peak.beside.values())
  assert f'{plan.limit // 2**20}, because' in command.text(plan, None, [])
  other = dataclasses.replace(decode, peak=decode.peak._replace(
      program='other', usable=2**30, beside={'moments': 2**30 - 2**20},
      buffers=2**10))
  both = small_plan(run, [dataclasses.replace(
      decode, peak=decode.peak._replace(usable=2**30)), other], tpu)
  assert both.fits and both.limit == 0
  assert "'other' leaves" in command.text(both, None, [])


def test_cost_is_hours_times_chips_times_price(run, decode):
  fast = CPU._replace(flops=1e12, bandwidth=1e9, link=1e9, chips=3)
  plan = small_plan(run, [decode], fast)
  assert plan.seconds > 0
  assert command.cost(plan, 2.5) == pytest.approx(
      plan.seconds * plan.steps / 3600 * 3 * 2.5)
  assert command.cost(plan, None) is None
  assert 'give --price' in command.text(plan, None, [])
  assert 'at 2.5 per chip-hour' in command.text(plan, 2.5, [])


def test_the_command_writes_json_and_says_by_its_status_what_fits(
    decode, monkeypatch, tmp_path, capsys):
  """The embedded world on eight devices; every program is the one above."""
  analysis = decode.analysis
  monkeypatch.setattr(compiling, 'analysis', lambda *_: analysis)
  argv = ['plan', f'--config={CONFIGS / "micro.py"}', '--topology=cpu:8',
          f'--json={tmp_path / "plan.json"}']
  main.main(argv)
  out = capsys.readouterr()
  record = json.loads((tmp_path / 'plan.json').read_text())
  assert record['fits'] and record['changed'] == {'mesh.fsdp': 8}
  assert [p['name'] for p in record['programs']] == [
      'reshard', 'student prefill', 'student decode', 'teacher prefill',
      'teacher decode', 'scoring', 'update',
      'optimizer', 'evaluation prefill', 'evaluation decode']
  assert list(record['phases']) == ['reshard', 'rollouts', 'teacher', 'scoring',
                                    'update', 'evaluation']
  assert 'It fits.' in out.out and '--config.mesh.fsdp=8' in out.out
  assert 'update: ' in out.err  # it says what is compiled
  huge = dataclasses.replace(analysis, memory=2**50)
  monkeypatch.setattr(compiling, 'analysis', lambda *_: huge)
  monkeypatch.setattr(suggestions, 'of_plan', lambda plan: [])
  with pytest.raises(SystemExit) as status:
    main.main(argv)
  assert status.value.code == 1
  assert 'It does not fit.' in capsys.readouterr().out


@pytest.mark.parametrize('flag, message', [
    ('--topology=v9:2', 'must be a kind and a size'),
    ('--topology=cpu:8 --price=much', '--price is nan; it must be >= 0'),
    ('--topology=cpu:8 --mfu=0', '--mfu is 0.0'), ('', '--topology is needed')])
def test_bad_flags_are_refused_in_one_line(flag, message):
  with pytest.raises(SystemExit, match=message):
    main.main(['plan', f'--config={CONFIGS / "micro.py"}', *flag.split()])


def test_parts_of_a_plan_are_bytes_per_device(run):
  params = run.abstract_state.params
  assert programs.standing(run)['parameters'] == sizes.device_bytes(params)


@pytest.mark.parametrize('layout', ['shared', 'padded'])
def test_programs_of_a_model_that_sees(layout):
  """Pictures are among the shapes of each program, and of the lessons that a
  teacher reads inside the update."""
  c = runpy.run_path(str(CONFIGS / 'micro_pictures.py'))['get_config']()
  c.update(method='opsd')
  c.teacher.kind = 'own'
  c.shapes.update(slots=32, layout=layout)
  c = abstract.fitted(c, CPU)[0]
  seeing = abstract.run_of(c, CPU)
  of = {p.name: p for p in programs.of_run(seeing, c)}
  assert '12 patches' in of['student prefill'].shape
  assert '12 patches' in of['update'].shape
  model = seeing.sampler.engine.programs.model
  batch = programs.with_media(layouts.empty(
      seeing.layout, programs.largest_shape(seeing.layout)._replace(patches=0),
      programs.example_targets(seeing)), 12, model)
  assert batch.lessons.media.patches_BIC.shape[1:] == (
      12, model.config.vision.patch_values)
  if layout == 'shared':  # one of them is enough to see that shapes agree
    of['update'].lower()


def test_blank_media_are_those_of_rows_without_any():
  picture = images.picture(Image.new('RGB', (8, 8), 'white'))
  media = micro_pictures.CHAT.plain('C h', (picture,)).media
  like = packing.pad_media([media, None], 2, 12)
  blank = packing.blank_media(2, 12, media.patches_IC.shape[1])
  assert jax.tree.map(lambda x: (x.shape, x.dtype), like) == jax.tree.map(
      lambda x: (x.shape, x.dtype), blank)
  assert not any(np.any(x) for x in jax.tree.leaves(blank))
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[1]), like,
               blank)
