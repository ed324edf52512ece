"""The whole loop for a few steps, from the packaged weights."""

import collections
import dataclasses
import json
import os
import signal
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.builders import documented_metrics, json_rows, small_config
from tests.long import LONG, long
from zppo_jax import assets
from zppo_jax.randomness import Purpose
from zppo_jax.records import CallStats
from zppo_jax.rollout.journal import RolloutJournal, name_of
from zppo_jax.rollout.programs import Programs
from zppo_jax.runs import console
from zppo_jax.runs.checkpoints import CheckpointError
from zppo_jax.runs.totals import History
from zppo_jax.runs.workdir import Workdir
from zppo_jax.train import build, evaluate, loop, resume, step
from zppo_jax.train.control.callbacks import Events
from zppo_jax.train.control.evaluations import Evaluations
from zppo_jax.train.guards import Diverged, Interrupted
from zppo_jax.train.recorder import Recorder
from zppo_jax.train.run import Measured
from zppo_jax.weights import safetensors_file

pytestmark = pytest.mark.usefixtures('quick_compile')


def lines(path):
  """metrics.jsonl without what belongs to the process."""
  rows = json_rows(path / 'metrics.jsonl')
  return [{k: v for k, v in row.items()
           if not k.startswith(('time/', 'compilations/'))}
          for row in rows]


@pytest.fixture(scope='module')
def zppo_run(tmp_path_factory):
  path = tmp_path_factory.mktemp('zppo')
  return path, loop.main(small_config(), path)


def test_a_run_leaves_config_metrics_summary_and_weights(zppo_run):
  path, summary = zppo_run
  assert {p.name for p in path.iterdir()} == {
      'config.json', 'metrics.jsonl', 'eval.jsonl', 'buffer.jsonl',
      'samples.jsonl', 'summary.json', 'final.safetensors', 'attempts',
      'checkpoints', 'data_rows.json', 'tensorboard'}
  assert json.loads((path / 'summary.json').read_text()) == summary
  rows = lines(path)
  assert [r['step'] for r in rows] == [0, 1]
  assert summary['student_rollouts'] == sum(r['student_rollouts'] for r in rows)
  assert summary['eval']['easy']['base'] > 0.9
  assert summary['eval']['hard']['base'] < 0.2


def test_the_log_says_which_attention_runs_and_why(zppo_run):
  log = (zppo_run[0] / 'attempts/0001/log.txt').read_text()
  assert log.count('attention xla, the platform is cpu: student prefill') == 1


def test_step_sizes_are_algorithm_1s(zppo_run):
  """8 new, then 8 + floor(0.25 * 8) replayed; at most 2 instances."""
  path, _ = zppo_run
  first, second = lines(path)
  assert first['groups/plain'] == 8
  assert second['groups/plain'] == 8 + min(2, first['buffer/size'])
  for row in (first, second):
    assert row['groups/bcq'] + row['groups/ncq'] <= 2
    assert row['hard/asked'] == min(2, row['hard/questions'])
    groups = row['groups/plain'] + row['groups/bcq'] + row['groups/ncq']
    assert row['student_rollouts'] == 8 * groups


@LONG
def test_same_seed_same_run_and_other_seed_another(zppo_run, tmp_path):
  """Every number but the clocks is a function of config and seed."""
  path, _ = zppo_run
  loop.main(small_config(), tmp_path / 'again')
  assert lines(tmp_path / 'again') == lines(path)
  loop.main(small_config(seed=1), tmp_path / 'other')
  assert lines(tmp_path / 'other') != lines(path)


def test_sampler_and_trainer_agree_in_the_loop(zppo_run):
  """Largest gap on trained tokens, float32."""
  for row in lines(zppo_run[0]):
    assert row['sampler_trainer/logp_gap_max'] < 1e-4


def test_every_name_in_metrics_is_documented_with_its_unit(zppo_run):
  """docs/metrics.md has a row for each."""
  documented = documented_metrics()
  names = {n for row in json_rows(zppo_run[0] / 'metrics.jsonl') for n in row}
  assert len(names) > 50
  missing = sorted(n for n in names
                   if not any(d.fullmatch(n) for d in documented))
  assert not missing


def test_samples_show_prompts_candidates_and_verdicts(zppo_run):
  """At most four questions a step; reformulated ones are among them."""
  rows = json_rows(zppo_run[0] / 'samples.jsonl')
  for number in (0, 1):
    of_step = [r for r in rows if r['step'] == number]
    assert 1 <= len(of_step) <= 4
    groups = [g for r in of_step for g in r['groups']]
    kinds = {g['kind'] for g in groups}
    assert {'plain', 'ncq'} <= kinds
    for g in groups:
      assert len(g['rollouts']) == 8
      assert ('<candidate>' in g['prompt']) == (g['kind'] != 'plain')
      for candidate in g['candidates']:
        assert candidate['text'] in g['prompt']


def test_a_complete_run_is_left_as_it_is(zppo_run):
  path, summary = zppo_run
  before = {p: p.stat().st_mtime_ns for p in path.rglob('*')}
  assert loop.main(small_config(), path) == summary
  assert {p: p.stat().st_mtime_ns for p in path.rglob('*')} == before


@LONG
def test_a_complete_run_may_grow(tmp_path, zppo_run):
  """Two steps and one more are three steps."""
  loop.main(small_config(), tmp_path / 'run')
  loop.main(small_config(steps=3), tmp_path / 'run')
  loop.main(small_config(steps=3), tmp_path / 'whole')
  assert lines(tmp_path / 'run') == lines(tmp_path / 'whole')
  assert (tmp_path / 'run/final.safetensors').read_bytes() == (
      tmp_path / 'whole/final.safetensors').read_bytes()
  assert (tmp_path / 'run/attempts/0002/summary.json').is_file()


AGAIN = (r'the steps since are made again from [1-9]\d* rollouts that were '
         'kept;')


@pytest.mark.parametrize('kind, owner, name, journal, said', [
    (signal.SIGINT, loop, 'train_step', False, 'saved after 2 of 2 steps;'),
    (signal.SIGTERM, Programs, 'decode', True,
     f'saved after 0 of 2 steps; {AGAIN}'),
    (signal.SIGTERM, step, 'update', True,
     f'saved after 1 of 2 steps; {AGAIN}')])
def test_a_signal_saves_and_the_same_config_goes_on(
    tmp_path, monkeypatch, capsys, zppo_run, kind, owner, name, journal,
    said):
  """The signal comes in the second call of a function. Without the journal the
  step is finished. With it the step ends after the chunk or the micro-batch
  under way, and the resumed run draws no rollout a second time."""
  before, original, calls = signal.getsignal(kind), getattr(owner, name), []
  drawn = collections.Counter()

  def interrupted(*args):
    calls.append(name)
    if len(calls) == 2:
      os.kill(os.getpid(), kind)
    return original(*args)

  def counting(self, at, purpose, prompts, ended):
    held = {(name, g) for name, its in self._drawn.items() for g in its}
    drawn.update({(at, name_of(purpose, prompts[i]), done.rollout)
                  for i, done in ended if (name_of(
                      purpose, prompts[i]), done.rollout) not in held})
    keep(self, at, purpose, prompts, ended)

  keep = RolloutJournal.keep
  monkeypatch.setattr(RolloutJournal, 'keep', counting)
  config = small_config()
  config.checkpoint.journal = journal
  with monkeypatch.context() as m:
    m.setattr(owner, name, interrupted)
    with pytest.raises(
        Interrupted, match=f'{kind.name}: {said} the same command goes on'):
      loop.main(config, tmp_path)
  assert signal.getsignal(kind) == before
  assert not (tmp_path / 'summary.json').exists()
  assert (tmp_path / 'rollouts').exists() == journal
  assert bool(drawn) == journal
  begins_anew = not (tmp_path / 'checkpoints').exists() or not any(
      (tmp_path / 'checkpoints').iterdir())
  capsys.readouterr()
  loop.main(config, tmp_path)
  warned = 'rollouts that were kept' in capsys.readouterr().out
  assert warned == begins_anew
  assert not (tmp_path / 'rollouts').exists()
  assert set(drawn.values()) <= {1}
  assert lines(tmp_path) == lines(zppo_run[0])
  for name in ('eval.jsonl', 'samples.jsonl', 'buffer.jsonl',
               'final.safetensors'):
    assert (tmp_path / name).read_bytes() == (
        zppo_run[0] / name).read_bytes(), name


def spoilt_updates(monkeypatch, step_number: int) -> None:
  """Makes the gradient norms of a step NaN, where the device computes them."""
  original = step.update

  def spoilt(run, state, minibatches):
    before = int(state.updates)
    state, sums, norms = original(run, state, minibatches)
    if before == step_number * run.num_updates:
      norms = [norm * np.nan for norm in norms]
    return state, sums, norms

  monkeypatch.setattr(step, 'update', spoilt)


@LONG
def test_nan_stops_the_run_with_its_batch_and_keeps_the_checkpoint(
    tmp_path, monkeypatch):
  """At step 1; the checkpoint after step 0 is what the next attempt takes."""
  config = small_config()
  config.checkpoint.every = 1
  with monkeypatch.context() as m:
    spoilt_updates(m, 1)
    with pytest.raises(Diverged) as e:
      loop.main(config, tmp_path)
  assert 'stopped at step 1: update/grad_norm is nan' in str(e.value)
  folder = tmp_path / 'attempts/0001/stopped_at_step_1'
  assert str(folder) in str(e.value)
  assert json.loads((folder / 'reason.json').read_text())['step'] == 1
  assert len(lines(tmp_path)) == 1
  assert loop.main(config, tmp_path)['steps'] == 2


@LONG
def test_nan_found_in_the_next_step_names_its_own(tmp_path, monkeypatch):
  """Nothing asks for the numbers of step 1 before step 2 is under way. They
  are read before a rollout of step 2 and before any checkpoint."""
  config = small_config(steps=4)
  config.checkpoint.every = 3
  asked, original = [], step.collect.collect

  def collecting(*args, **fields):
    asked.append(fields['step'])
    return original(*args, **fields)

  spoilt_updates(monkeypatch, 1)
  monkeypatch.setattr(step.collect, 'collect', collecting)
  with pytest.raises(Diverged, match='stopped at step 1: '):
    loop.main(config, tmp_path)
  assert max(asked) == 1
  folder = tmp_path / 'attempts/0001/stopped_at_step_1'
  reason = json.loads((folder / 'reason.json').read_text())
  assert reason['step'] == 1
  assert [row['step'] for row in lines(tmp_path)] == [0]
  assert not any(p.name.isdigit()
                 for p in (tmp_path / 'checkpoints').iterdir())


@LONG
def test_numbers_are_read_while_the_next_step_runs(tmp_path, monkeypatch):
  """After the first device work of the next step, before its first rollout;
  at once where a checkpoint or the end needs them (after steps 1 and 2)."""
  events = []

  def logged(function, name, number):
    def call(*args, **fields):
      events.append((name, number(*args, **fields)))
      return function(*args, **fields)
    return call

  original = loop.build

  def built(*args):
    run = original(*args)
    return dataclasses.replace(run, reshard_fn=logged(
        run.reshard_fn, 'dispatch', lambda params: None))

  monkeypatch.setattr(loop, 'build', built)
  monkeypatch.setattr(loop, 'metrics_row', logged(
      loop.metrics_row, 'read', lambda run, outcome: outcome.step))
  monkeypatch.setattr(step.collect, 'collect', logged(
      step.collect.collect, 'ask', lambda *_, purpose, step, **__: (
          step if purpose == Purpose.ROLLOUT else None)))
  monkeypatch.setattr(step, 'update', logged(
      step.update, 'update', lambda run, state, _: None))
  monkeypatch.setattr(resume, 'save', logged(
      resume.save, 'save', lambda store, run, at, files: at.step))
  config = small_config(steps=3, method='grpo')
  config.checkpoint.every = 2
  config.probe.every = 0
  loop.main(config, tmp_path)
  evaluation = [('dispatch', None), ('ask', None)]
  # Plain prompts; nothing while a teacher answers; reformulated prompts.
  one = lambda number: [*[('ask', number)] * 3, ('update', None)]
  assert events == [
      *evaluation, ('dispatch', None), *one(0),
      ('dispatch', None), ('read', 0), *one(1), ('read', 1), ('save', 2),
      ('dispatch', None), *one(2), ('read', 2), *evaluation, ('save', 3)]


def test_time_to_log_is_the_steps_own_and_that_of_the_row_before(
    tmp_path, zppo_run, monkeypatch):
  """The row of a step lost the time in which it was made."""
  run = build.build(small_config())
  recorder = Recorder(
      run, Workdir.open(tmp_path, small_config()), History(), [],
      console.progress(2, 0), print, loop.RL)
  row = lines(zppo_run[0])[1] | {'time/log': 4.0, 'time/update': 1.0}
  monkeypatch.setattr(loop, 'metrics_row', lambda run, outcome: dict(row))
  monkeypatch.setattr(loop, 'sample_rows', lambda run, outcome: [])
  recorder.seconds = {'time/log': 2.0, 'time/checkpoint': 3.0}
  recorder.add(types.SimpleNamespace(step=1, settled=None, calls=CallStats()))
  assert recorder.record() is None
  assert recorder.record() is None  # once
  (written,) = json_rows(tmp_path / 'metrics.jsonl')
  assert 6 <= written['time/log'] < 6.5
  assert written['time/update'] == 1 and written['time/checkpoint'] == 3
  assert 0 < recorder.seconds.pop('time/log') and not recorder.seconds


def test_an_exploding_ratio_stops_the_run(tmp_path):
  config = small_config()
  config.guard.max_ratio = 1.0 + 1e-9
  with pytest.raises(Diverged, match='update/ratio_m.. is .*guard.max_ratio'):
    loop.main(config, tmp_path)
  [folder] = (tmp_path / 'attempts/0001').glob('stopped_at_step_*')
  batches = [np.load(p, allow_pickle=False) for p in folder.glob('*.npz')]
  assert any((b['advantage'] != 0).any() for b in batches)


def test_a_fork_starts_a_new_run_from_a_checkpoint(tmp_path, zppo_run):
  """Its own config may differ; steps count on; the source is untouched."""
  source, _ = zppo_run
  before = {p: p.stat().st_mtime_ns for p in source.rglob('*')}
  config = small_config(steps=3, method='grpo')
  summary = loop.main(config, tmp_path / 'fork', fork_from=source)
  assert {p: p.stat().st_mtime_ns for p in source.rglob('*')} == before
  assert [r['step'] for r in lines(tmp_path / 'fork')] == [2]
  assert summary['student_rollouts'] == 64
  written = json.loads((tmp_path / 'fork/config.json').read_text())
  assert written['forked_from'] == {'path': str(source), 'step': 2}
  rows = json_rows(tmp_path / 'fork/eval.jsonl')
  last = json_rows(source / 'eval.jsonl')[-1]
  assert rows[0]['step'] == 2 and rows[0]['hard'] == last['hard']


@LONG
def test_a_fork_of_the_same_config_is_the_longer_run(tmp_path, zppo_run):
  loop.main(small_config(steps=3), tmp_path / 'whole')
  loop.main(small_config(steps=3), tmp_path / 'fork', fork_from=zppo_run[0])
  assert lines(tmp_path / 'fork') == lines(tmp_path / 'whole')[2:]


def test_a_fork_that_cannot_be_is_refused(tmp_path, zppo_run):
  source, _ = zppo_run
  with pytest.raises(ValueError, match='steps is 2; .* already stands at 2'):
    loop.main(small_config(), tmp_path / 'a', fork_from=source)
  with pytest.raises(FileNotFoundError, match='no checkpoint at'):
    loop.main(small_config(steps=3), tmp_path / 'b', fork_from=tmp_path)
  assert not (tmp_path / 'b').exists()
  with pytest.raises(FileExistsError, match='needs a new directory'):
    loop.main(small_config(), source, fork_from=source)
  other = small_config(steps=3)
  other.student.weights = 'micro/terse_teacher'
  with pytest.raises(CheckpointError, match='another model.*width'):
    loop.main(other, tmp_path / 'c', fork_from=source)


def test_another_pool_does_not_know_the_buffer(zppo_run):
  """A restored buffer names questions; each must be in the data."""
  config = small_config(steps=3)
  config.data.pool.size = 72  # as many steps a pass: the position fits
  config.algorithm.num_new = 9
  run = build.build(config)
  store = loop.Checkpoints(zppo_run[0] / 'checkpoints', run.checkpoint,
                            resume.manifest(config, run), read_only=True)
  with pytest.raises(ValueError, match='stands at .* of its data'):
    resume.restore(store, run, 2)
  with pytest.raises(ValueError, match="'nowhere' .* not in data.pool"):
    run.source.find('nowhere')


def test_tensorboard_holds_every_number_of_the_last_step(zppo_run):
  from tensorboardX.proto import event_pb2
  path, _ = zppo_run
  found = {}
  for file in sorted((path / 'tensorboard').iterdir()):
    raw, at = file.read_bytes(), 0
    while at < len(raw):
      size = int.from_bytes(raw[at:at + 8], 'little')
      event = event_pb2.Event.FromString(raw[at + 12:at + 12 + size])
      at += 16 + size
      for value in event.summary.value:
        found[value.tag, event.step] = value.simple_value
  for name, value in lines(path)[-1].items():
    assert found[name, 1] == np.float32(value), name
  assert ('eval/hard', 2) in found


def test_final_weights_can_be_a_student_again(zppo_run):
  path = zppo_run[0] / 'final.safetensors'
  described = safetensors_file.description(path)['model']
  before = safetensors_file.description(assets.find('micro/student'))['model']
  assert before.items() <= described.items()
  config = small_config()
  config.student.weights = str(path)
  run = build.build(config)
  accuracy = evaluate.of_state(run, run.init_state()).results
  last = json_rows(zppo_run[0] / 'eval.jsonl')[-1]
  assert accuracy == {s: last[s] for s in accuracy}


def test_an_evaluation_that_a_signal_ended_is_made_up_for_once():
  """The next checkpoint must not ask for it again."""
  nothing = types.SimpleNamespace(
      log_eval=lambda *_: None, note=lambda _: None,
      evaluate=lambda run, state: Measured({'easy': 1.0}),
      drift=lambda run, state: {})
  recorder = Recorder.__new__(Recorder)
  recorder.procedure = recorder._out = recorder._progress = nothing
  recorder._run = types.SimpleNamespace(steps=8)
  recorder._history, recorder._writers = None, ()
  recorder.plan = Evaluations()
  recorder._events = Events({}, None)
  recorder.seconds = {}
  at = resume.RunState(step=8, state=None, buffer=None, history=None, base={},
                       latest={}, evaluated=False)
  at = recorder.evaluate(at)
  assert at.evaluated and at.latest == {'easy': 1.0}


@pytest.mark.parametrize('method, changes', [
    ('zppo', {}),
    long('opd_jsd', {'distil.support': 'student', 'distil.top': 4})],
    ids=['zppo', 'opd_jsd'])
def test_the_loaded_weights_do_not_stay_beside_the_state(
    method, changes, tmp_path):
  """At the first step nothing holds the student's arrays as they were read."""
  read, alive = [], []

  def load(spec, *args, **options):
    loaded = build.OUTSIDE.load(spec, *args, **options)
    if spec.weights != 'micro/student':
      return loaded
    params = jax.tree.map(jnp.array, loaded.params)
    read.extend(map(weakref.ref, jax.tree.leaves(params)))
    return loaded._replace(params=params)

  def take(run, at, read_previous):
    alive.append(sum(x() is not None for x in read))
    return loop.RL.step(run, at, read_previous)
  c = small_config(method=method)
  c.steps = 1
  c.algorithm.update(num_new=2, updates=1)
  c.update_from_flattened_dict(changes)
  loop.main(c, tmp_path / 'run', procedure=loop.RL._replace(
      build=lambda config, day: build.build(
          config, day, build.OUTSIDE._replace(load=load)), step=take))
  assert read and alive == [0]
