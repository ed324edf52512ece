"""Checkpoints: exact, atomic, kept by policy, and loud when damaged."""

import concurrent.futures
import gc
import json
import logging
import pathlib
import resource
import subprocess
import sys
import textwrap
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.long import LONG
from zppo_jax.arrays import TrainState
from zppo_jax.learner import optimizers, states
from zppo_jax.runs import checkpoints
from zppo_jax.runs.checkpoints import CheckpointError, Checkpoints, Policy

pytestmark = pytest.mark.usefixtures('quick_compile')

POLICY = Policy(every=5, keep=2, keep_every=20)
MANIFEST = {'model': {'width': 16}, 'config': {'seed': 0}, 'versions': {}}


@pytest.fixture(scope='module')
def parts(tiny, make_mesh):
  """(state factory, abstract state) of the tiny model on 2x2x2 devices; the
  optimizer keeps bf16 moments, so that three types are stored."""
  model, params = tiny
  tx = optimizers.adamw(optimizers.AdamWConfig(state_dtype='bfloat16'))
  shardings = states.state_shardings(model, tx, make_mesh(2, 2, 2))
  def make(scale=1.0):
    state = states.new_state(params, tx, shardings)
    noisy = jax.tree.map(lambda x: x * scale + jnp.asarray(0.3, x.dtype)
                         if jnp.issubdtype(x.dtype, jnp.floating) else x + 7,
                         state)
    return jax.device_put(noisy, shardings)
  return make, states.abstract_state(model, tx, shardings)


def opened(path, **changes):
  return Checkpoints(path, POLICY, {**MANIFEST, **changes})


def assert_equal_bits(a, b):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.dtype == y.dtype and x.sharding == y.sharding
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_what_is_saved_comes_back_to_the_bit_and_in_place(tmp_path, parts):
  make, abstract = parts
  kept = opened(tmp_path / 'c')
  host = {'buffer': [['q', 3, 0.125, 2]], 'pi': 0.1 + 0.2}
  kept.save(5, make(), host)
  kept.close()
  again = opened(tmp_path / 'c')
  state, found = again.restore(5, abstract)
  assert_equal_bits(state, make())
  assert found == host
  again.close()


def test_policy_keeps_the_newest_and_the_multiples(tmp_path, parts):
  make, _ = parts
  kept = opened(tmp_path / 'c')
  for step in (5, 20, 25, 30, 35):
    kept.save(step, make(), {})
  kept.wait()
  assert kept.steps() == [20, 30, 35] and kept.latest() == 35
  kept.close()
  assert [POLICY.due(s) for s in (4, 5, 10)] == [False, True, True]
  assert not Policy(0, 1, 0).due(5)


@pytest.mark.parametrize('field, value', [('every', -1), ('keep', 0)])
def test_bad_policy_is_named(field, value):
  fields = {'every': 5, 'keep': 2, 'keep_every': 0, field: value}
  with pytest.raises(ValueError, match=f'checkpoint.{field} is {value}'):
    Policy(**fields)


def test_what_a_dead_process_was_writing_is_not_seen(tmp_path, parts):
  make, abstract = parts
  kept = opened(tmp_path / 'c')
  kept.save(5, make(), {})
  kept.close()
  partial = tmp_path / 'c' / '10.orbax-checkpoint-tmp-3'
  (partial / 'state').mkdir(parents=True)
  again = opened(tmp_path / 'c')
  assert again.steps() == [5] and not partial.exists()
  again.save(10, make(2.0), {})
  assert_equal_bits(again.restore(10, abstract)[0], make(2.0))
  again.close()


def test_another_models_checkpoint_names_the_fields(tmp_path, parts):
  make, abstract = parts
  kept = opened(tmp_path / 'c')
  kept.save(5, make(), {})
  kept.close()
  other = opened(tmp_path / 'c', model={'width': 32, 'tied': True})
  with pytest.raises(CheckpointError) as e:
    other.restore(5, abstract)
  assert 'another model' in str(e.value)
  assert 'width is 16 there and 32 here' in str(e.value)
  assert 'tied is None there and True here' in str(e.value)
  other.close()


def test_another_optimizers_state_is_refused(tmp_path, parts, tiny, make_mesh):
  """float32 moments asked for where bf16 ones lie."""
  make, _ = parts
  kept = opened(tmp_path / 'c')
  kept.save(5, make(), {})
  kept.wait()
  model, _ = tiny
  tx = optimizers.adamw(optimizers.AdamWConfig(state_dtype='float32'))
  other = states.abstract_state(
      model, tx, states.state_shardings(model, tx, make_mesh(2, 2, 2)))
  with pytest.raises(CheckpointError, match="bfloat16.* there and 'float32"):
    kept.restore(5, other)
  kept.close()


def _cut(path: pathlib.Path):
  path.write_bytes(path.read_bytes()[:-100])


def _flip(path: pathlib.Path):
  raw = bytearray(path.read_bytes())
  raw[len(raw) // 2] ^= 16
  path.write_bytes(bytes(raw))


@pytest.mark.parametrize('harm', [_cut, _flip, pathlib.Path.unlink])
def test_a_damaged_checkpoint_is_an_error_and_the_one_before_is_named(
    tmp_path, parts, harm):
  make, abstract = parts
  kept = opened(tmp_path / 'c')
  kept.save(5, make(), {})
  kept.save(10, make(2.0), {})
  kept.close()
  chunks = list((tmp_path / 'c/10/state').rglob('d/*'))
  assert chunks
  for path in chunks:  # some are left over from merging: all of them
    harm(path)
  again = opened(tmp_path / 'c')
  with pytest.raises(CheckpointError) as e:
    again.restore(10, abstract)
  assert f'{tmp_path}/c/10 is damaged' in str(e.value)
  assert 'after 5 steps, is used once' in str(e.value)
  assert_equal_bits(again.restore(5, abstract)[0], make())
  again.close()


def test_a_change_that_the_format_does_not_notice_fails_the_checksum(
    tmp_path, parts, monkeypatch):
  make, abstract = parts
  kept = opened(tmp_path / 'c')
  with monkeypatch.context() as m:
    m.setattr(checkpoints, 'checksums', lambda state: {
        n: 1 for n in checkpoints.leaf_types(state)})
    kept.save(5, make(), {})
  with pytest.raises(CheckpointError, match='checksum of .*embed'):
    kept.restore(5, abstract)
  kept.close()


def test_checksums_see_every_bit_and_every_place(make_mesh):
  x = np.arange(12, dtype=np.float32).reshape(3, 4)
  swapped = x[:, [1, 0, 2, 3]]
  moved = x[[0, 2, 1]]
  changed = x.copy()
  changed[2, 3] = np.nextafter(changed[2, 3], 99)
  values = [int(checkpoints.leaf_checksum(jnp.asarray(y)))
            for y in (x, swapped, moved, changed)]
  assert len(set(values)) == 4
  sharding = jax.sharding.NamedSharding(
      make_mesh(2, 2, 2), jax.sharding.PartitionSpec(None, ('data', 'fsdp')))
  assert int(checkpoints.leaf_checksum(jax.device_put(x, sharding))) == (
      values[0])


def test_an_unknown_format_is_refused(tmp_path, parts, monkeypatch):
  make, abstract = parts
  with monkeypatch.context() as m:
    m.setattr(checkpoints, 'FORMAT', 99)
    kept = opened(tmp_path / 'c')
    kept.save(5, make(), {})
    kept.close()
  again = opened(tmp_path / 'c')
  with pytest.raises(CheckpointError, match='format 99; this version reads 1'):
    again.restore(5, abstract)
  again.close()


def test_a_full_disk_is_named_and_leaves_the_last_one_good(tmp_path):
  """No file may grow beyond 2 KiB: the system refuses every further byte."""
  code = textwrap.dedent(f'''
    import resource, jax.numpy as jnp
    from zppo_jax.runs.checkpoints import *
    from zppo_jax.arrays import TrainState
    kept = Checkpoints({str(tmp_path / "c")!r}, Policy(5, 2, 0), {MANIFEST})
    state = lambda n: TrainState(
        jnp.arange(n, dtype=jnp.float32) ** 0.5, (), jnp.int32(0))
    kept.save(5, state(9), {{}})
    kept.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, -1))
    try:
      kept.save(10, state(99_999), {{}})
      kept.wait()
    except CheckpointError as e:
      print('SAID', e)
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
    print('LEFT', kept.steps())
  ''')
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  done = subprocess.run([sys.executable, '-c', code], text=True,
                        capture_output=True)
  assert resource.getrlimit(resource.RLIMIT_FSIZE) == limits
  assert 'SAID the checkpoint after 10 steps was not written' in done.stdout, (
      done.stderr)
  assert 'the one after 5 steps' in done.stdout
  assert 'LEFT [5]' in done.stdout


def test_no_pickle_on_disk(tmp_path, parts):
  """Every file is JSON, array chunks or orbax's own text."""
  make, _ = parts
  kept = opened(tmp_path / 'c')
  kept.save(5, make(), {})
  kept.close()
  for path in (tmp_path / 'c').rglob('*'):
    if path.is_file():
      assert not path.read_bytes().startswith(b'\x80'), path
  content = json.loads((tmp_path / 'c/5/host/metadata').read_text())
  assert content['step'] == 5 and content['config'] == {'seed': 0}


@pytest.mark.parametrize('name', ['', 'checkpoints', 'checkpoints/5'])
def test_a_users_path_names_a_checkpoint(tmp_path, name):
  (tmp_path / 'checkpoints' / '5').mkdir(parents=True)
  folder, step = checkpoints.open_any(tmp_path / name)
  assert folder == tmp_path / 'checkpoints'
  assert step == (5 if name.endswith('5') else None)


def test_a_path_without_checkpoints_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match='expected a workdir'):
    checkpoints.open_any(tmp_path)


def test_train_state_is_all_that_a_checkpoint_needs_of_the_device():
  """A new field must be thought of here: it would be lost on resume."""
  assert {f for f in TrainState.__dataclass_fields__} == {
      'params', 'opt_state', 'updates'}


# tensorstore tells a loop that has ended, in a thread of its own.
@LONG
@pytest.mark.filterwarnings(
    'ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_disk_that_takes_no_more_is_one_sentence(tmp_path, parts, caplog):
  """The system refuses the bytes; orbax logs pages of tracebacks from its
  threads, which are not shown, because the error is raised. What it logs at
  other times passes."""
  make, abstract = parts
  gc.collect()  # what reads of damaged checkpoints in other tests have left
  caplog.clear()
  kept = opened(tmp_path / 'c')
  kept.save(5, make(), {})
  kept.wait()
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
  try:
    with pytest.raises(CheckpointError, match='after 10 steps was not') as e:
      kept.save(10, make(), {})
      kept.wait()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  gc.collect()  # asyncio logs what it finds then
  assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
  assert 'the one after 5 steps' in str(e.value) and len(str(e.value)) < 1000
  assert kept.restore(5, abstract)[0] is not None
  kept.save(10, make(), {})
  kept.close()
  assert opened(tmp_path / 'c').latest() == 10


def test_a_thread_of_a_failed_save_that_logs_later_is_not_shown(caplog):
  """What others log is."""
  class Late(threading.Thread):
    __module__ = 'orbax.futures'
  log, go = logging.getLogger('absl'), threading.Event()

  def say(text):
    log.handle(log.makeRecord('absl', logging.ERROR, '/site/orbax/future.py', 1,
                              text, (), None))
  late = Late(target=lambda: (go.wait(), say('a further part')))
  late.start()
  held_back = checkpoints._HeldBack()
  held_back.begin()
  say('the first part')
  held_back.settle(raised=True)
  go.set()
  late.join()
  say('of another save')
  assert caplog.messages == ['of another save']
  held_back.begin()
  say('kept')
  held_back.settle(raised=False)
  assert caplog.messages == ['of another save', 'kept']


@LONG
def test_two_runs_of_a_process_save_at_the_same_time(tmp_path, parts):
  """Each save is whole, whichever thread begins in the middle of another's."""
  make, abstract = parts
  state = make()

  def work(name):
    kept = Checkpoints(tmp_path / name, Policy(1, 20, 0), MANIFEST)
    for step in range(1, 7):
      kept.save(step, state, {'name': name, 'step': step})
    kept.close()

  with concurrent.futures.ThreadPoolExecutor(3) as threads:
    for future in [threads.submit(work, name) for name in 'abc']:
      future.result()
  for name in 'abc':
    kept = Checkpoints(tmp_path / name, Policy(1, 20, 0), MANIFEST)
    assert kept.steps() == [1, 2, 3, 4, 5, 6]
    restored, host = kept.restore(6, abstract)
    assert_equal_bits(restored, state)
    assert host == {'name': name, 'step': 6}
    kept.close()
