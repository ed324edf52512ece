"""What somebody or something does to a run's files is found and said."""

import errno
import gc
import json
import os
import pathlib
import shutil

import jax.numpy as jnp
import pytest

from tests.builders import json_rows, small_config
from tests.long import LONG
from zppo_jax import main
from zppo_jax.arrays import TrainState
from zppo_jax.devices import disk
from zppo_jax.runs import checkpoints, workdir, writers
from zppo_jax.runs.checkpoints import CheckpointError, Checkpoints, Policy
from zppo_jax.runs.totals import History
from zppo_jax.teachers import journal as teacher_journal
from zppo_jax.train import loop
from zppo_jax.verdicts import journal
from zppo_jax.verdicts.sandbox import GradingResult

pytestmark = pytest.mark.usefixtures('quick_compile')
STATE = TrainState(jnp.arange(4.0), (), jnp.int32(3))
MANIFEST = {'model': {'width': 4}, 'config': {'seed': 0}, 'versions': {}}
HOST = {'buffer': [['q', 3, 0.125, 2]], 'history': {'tokens': [['a', 17]]},
        'data': {'step': 5}, 'base': {'hard': 0.25}, 3: [1, 2]}


def opened(path):
  return Checkpoints(path, Policy(5, 2, 0), MANIFEST)


@pytest.fixture
def saved(tmp_path):
  """(checkpoints folder, the JSON file of the one after five steps)."""
  kept = opened(tmp_path / 'c')
  kept.save(5, STATE, HOST, {'metrics.jsonl': [12, 'ab']})
  kept.close()
  return tmp_path / 'c', tmp_path / 'c/5/host/metadata'


def restored(path):
  kept = opened(path)
  try:
    return kept.restore(5, STATE), kept.read(5)['files'], kept.notes
  finally:
    kept.close()


def test_every_changed_digit_of_a_checkpoints_json_is_found(saved):
  """fault D5: wherever it is; 60 changes of the file's digits, none loads as
  another state."""
  path, file = saved
  (_, host), files, notes = restored(path)
  assert host == json.loads(json.dumps(HOST)) and not notes
  assert files == {'metrics.jsonl': [12, 'ab']}
  whole = file.read_bytes()
  places = [i for i, b in enumerate(whole) if chr(b).isdigit()]
  for i in places[::max(1, len(places) // 60)]:
    digit = b'%d' % ((whole[i] - ord('0') + 1) % 10)
    file.write_bytes(whole[:i] + digit + whole[i + 1:])
    with pytest.raises(CheckpointError, match=f'{path}/5 (is damaged|has for)'):
      restored(path)


@pytest.mark.parametrize('change', [
    lambda c: c.pop('digest'), lambda c: c.update(digest='0' * 64),
    lambda c: c.update(more=1), lambda c: c['host'].pop('base'),
    lambda c: c.pop('host'), lambda c: c.update(step=6),
    lambda c: c['files'].clear()])
def test_other_changes_are_found_too(saved, change):
  """fault D5: a field that is gone, added or emptied, the seal itself."""
  path, file = saved
  content = json.loads(file.read_text())
  change(content)
  file.write_text(json.dumps(content))
  with pytest.raises(CheckpointError, match='5 is damaged: '):
    restored(path)


def test_a_checkpoint_under_another_number_is_refused(saved):
  """fault D5: a folder that was renamed is not the step that it says."""
  path, _ = saved
  (path / '5').rename(path / '7')
  kept = opened(path)
  with pytest.raises(CheckpointError, match='the one after 5 steps'):
    kept.restore(7, STATE)
  kept.close()


def test_a_checkpoint_of_before_is_read_and_told(saved):
  """fault D5: without digest and files, as earlier versions wrote it; its
  notes say that nothing was checked."""
  path, file = saved
  content = json.loads(file.read_text())
  del content['digest'], content['files']
  file.write_text(json.dumps(content))
  kept = opened(path)
  _, host = kept.restore(5, STATE)
  kept.close()
  assert host == json.loads(json.dumps(HOST))
  assert 'is of an earlier version: its JSON has no digest' in kept.notes[0]


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A run of four steps with a checkpoint after two and four of them."""
  path = tmp_path_factory.mktemp('damage') / 'run'
  loop.main(make_config(), path)
  return path


def make_config(steps=4):
  c = small_config(method='grpo', steps=steps)
  c.checkpoint.every, c.log.tensorboard = 2, False
  return c


def cut_off(finished, to):
  """The run as if it had been killed in its last step: after checkpoint 2."""
  shutil.copytree(finished, to)
  shutil.rmtree(to / 'checkpoints/4')
  for name in ('summary.json', 'final.safetensors'):
    (to / name).unlink()
  return to


def reordered(lines):
  return [lines[1], lines[0], *lines[2:]]


@pytest.mark.parametrize('name, edit, said', [
    ('metrics.jsonl', lambda x: x[1:], 'no line of step 0'),
    ('metrics.jsonl', lambda x: [x[0], *x[2:]], 'no line of step 1'),
    ('metrics.jsonl', lambda x: [], 'no line of step 0 to 1'),
    ('metrics.jsonl', reordered, 'its steps are not in order'),
    ('metrics.jsonl', lambda x: [x[0], *x], 'more than one line of step 0'),
    ('metrics.jsonl', lambda x: [x[0][:9] + '\n', *x[1:]],
     'no line of a run in line 1'),
    ('metrics.jsonl', lambda x: ['[]\n', *x], 'no line of a run in line 1'),
    ('metrics.jsonl', lambda x: [x[0].replace('0.', '1.', 1), *x[1:]],
     'is not what it was'),
    ('metrics.jsonl', None, 'metrics.jsonl is gone'),
    ('samples.jsonl', reversed, 'its steps are not in order'),
    ('samples.jsonl', lambda x: x[1:], 'is not what it was'),
    ('eval.jsonl', lambda x: ['\n', *x], 'no line of a run in line 1'),
    ('eval.jsonl', None, 'eval.jsonl is gone')])
def test_changed_logs_are_found(finished, tmp_path, name, edit, said):
  """fault D5: holes, another order, broken and changed lines, with file and
  steps; untouched ones are not."""
  path = cut_off(finished, tmp_path / 'run')
  out = workdir.Workdir.open(path, make_config())
  files = checkpoints.peek(path / 'checkpoints', 2)['files']
  assert set(files) == {'metrics.jsonl', 'samples.jsonl', 'eval.jsonl'}
  assert out.changes(2, files) == []
  file = path / name
  if edit is None:
    file.unlink()
  else:
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(''.join(edit(lines)))
  found = out.changes(2, files)
  assert any(str(file) in line and said in line for line in found), found


def test_changed_logs_are_told_at_resume(finished, tmp_path, capsys):
  """fault D5: on the terminal and in the log; the run goes on to the same end,
  because no state is read from them."""
  path = cut_off(finished, tmp_path / 'run')
  file = path / 'metrics.jsonl'
  lines = file.read_text().splitlines(keepends=True)
  file.write_text(''.join([lines[0][:9] + '\n', *lines[1:]]))
  loop.main(make_config(), path)
  shown = capsys.readouterr().out
  for text in (shown, (path / 'attempts/0002/log.txt').read_text()):
    assert f'warning: {file} is not what it was' in text
    assert f'warning: {file}: no line of a run in line 1' in text
    assert f'warning: {file}: no line of step 0' in text
  assert [row['step'] for row in json_rows(file)] == [1, 2, 3]
  assert (path / 'final.safetensors').read_bytes() == (
      finished / 'final.safetensors').read_bytes()


@LONG
def test_an_ordinary_kill_is_not_told(finished, tmp_path, capsys):
  """fault D5: torn last lines and lines beyond the checkpoint are no damage,
  and what a resume cuts is kept."""
  path = cut_off(finished, tmp_path / 'run')
  for name in workdir.LINES:
    if (path / name).exists():
      with open(path / name, 'a') as f:
        f.write('{"step": 3, "lo')
  loop.main(make_config(), path)
  assert f'warning: {path}' not in capsys.readouterr().out
  for name in ('eval.jsonl', 'samples.jsonl'):
    assert (path / name).read_bytes() == (finished / name).read_bytes()
    assert (path / f'attempts/0002/cut_{name}').is_file()


@LONG
def test_a_run_without_its_checkpoints_says_that_it_begins_anew(
    finished, tmp_path, capsys):
  """fault D5: a deleted folder is not a silent start from step 0."""
  path = cut_off(finished, tmp_path / 'run')
  shutil.rmtree(path / 'checkpoints')
  loop.main(make_config(), path)
  assert f'warning: {path} has no checkpoint; it starts from the beginning' in (
      capsys.readouterr().out)
  assert (path / 'final.safetensors').read_bytes() == (
      finished / 'final.safetensors').read_bytes()


@pytest.mark.parametrize('name, text, said', [
    ('config.json', '[]', "it has no 'config'"),
    ('config.json', '{"config": 3, "forked_from": null}',
     'config or forked_from is not of the form'),
    ('config.json', '{"config": {"steps"', 'config.json is not readable'),
    ('summary.json', '{"steps": ', 'summary.json is not readable'),
    ('summary.json', '[4]', "summary.json is not readable: it has no 'steps'"),
    ('summary.json', '[' * 100_000, 'summary.json is not readable')])
def test_json_files_that_are_none_are_named(finished, tmp_path, name, text,
                                            said):
  """fault D5: config and summary, by their file."""
  path = shutil.copytree(finished, tmp_path / 'run')
  (path / name).write_text(text)
  with pytest.raises(ValueError, match=said):
    loop.main(make_config(), path)


def test_changed_verdicts_and_answers_are_refused(tmp_path):
  """fault D5: a line of verdicts.jsonl or teacher.jsonl that was changed would
  be another verdict of the step that is repeated; a torn last one is cut; the
  lines of an earlier version have no seal and are read."""
  file = tmp_path / 'verdicts.jsonl'
  journal.append(file, [(f'k{i}', 'text', GradingResult('score', 1.0))
                        for i in '01'])
  whole = file.read_text()
  assert journal.read(file).verdicts['k0'].score == 1.0
  file.write_text(whole.replace('1.0', '0.0', 1))
  with pytest.raises(ValueError, match=f'{file}, line 1: .* was changed after'):
    journal.read(file)
  file.write_text(whole[:-9])
  assert list(journal.read(file).verdicts) == ['k0']
  old = {'key': 'k', 'kind': 'judge', 'status': 'score', 'score': 1.0,
         'reason': ''}
  file.write_text(json.dumps(old) + '\n')
  assert list(journal.read(file).verdicts) == ['k']

  file = tmp_path / 'teacher.jsonl'
  rows = [{'step': i, 'what': 'answer', 'id': 'q', 'texts': [['17', 'end']]}
          for i in range(2)]
  whole = ''.join(map(disk.sealed, rows))
  file.write_text(whole)
  assert len(teacher_journal._read(file)) == 2
  for bad in (whole.replace('17', '18', 1), '[]\n' + whole):
    file.write_text(bad)
    with pytest.raises(ValueError, match=f'{file}, line 1: .* is no answer'):
      teacher_journal._read(file)
  file.write_text(whole[:-9])
  assert len(teacher_journal._read(file)) == 1


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
@pytest.mark.parametrize('name', ['metrics.jsonl', 'samples.jsonl',
                                  'eval.jsonl', 'verdicts.jsonl'])
def test_a_full_disk_names_file_and_cause(tmp_path, name):
  """fault D5: of every file of lines, through a device that is always full."""
  out = workdir.Workdir.open(tmp_path, small_config())
  (tmp_path / name).symlink_to('/dev/full')
  write = {'metrics.jsonl': lambda: out.log_step({'step': 0}),
           'samples.jsonl': lambda: out.log_samples([{'step': 0}]),
           'eval.jsonl': lambda: out.log_eval(0, {}, History()),
           'verdicts.jsonl': lambda: journal.append(
               tmp_path / name,
               [('k', 'text', GradingResult('score', 1.0))])}[name]
  with pytest.raises(OSError, match='cannot write: No space left') as e:
    write()
  assert e.value.filename == str(tmp_path / name)
  assert e.value.errno == errno.ENOSPC


def test_a_run_on_a_full_disk_ends_with_its_first_error(
    finished, tmp_path, monkeypatch, capsys):
  """fault D5: not with that of a file that could not be closed after it."""
  path = cut_off(finished, tmp_path / 'run')
  append = disk.append

  def full(file, text):
    if pathlib.Path(file).name in ('samples.jsonl', 'log.txt'):
      with disk.naming(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    append(file, text)

  def broken():
    raise RuntimeError('handle is closed')

  monkeypatch.setitem(writers.WRITERS, 'tensorboard', lambda *_: writers.Writer(
      lambda step, values: None, broken))
  config = make_config()
  config.log.tensorboard = True
  stored = json.loads((path / 'config.json').read_text())
  stored['config']['log']['tensorboard'] = True
  (path / 'config.json').write_text(json.dumps(stored))
  note = workdir.Workdir.note
  monkeypatch.setattr(disk, 'append', full)
  monkeypatch.setattr(workdir.Workdir, 'note', lambda self, text: (
      note(self, text) if text.startswith(('ended', 'then')) else None))
  with pytest.raises(OSError, match='No space left') as e:
    loop.main(config, path)
  assert e.value.filename == str(path / 'samples.jsonl')


def test_a_checkpoint_on_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
  """fault D5: file and cause, without orbax's page of words; the last good
  checkpoint is named and stays."""
  kept = opened(tmp_path / 'c')
  kept.save(5, STATE, HOST)
  kept.wait()
  page = 'RESOURCE_EXHAUSTED: ' + 'words ' * 99 + os.strerror(errno.ENOSPC)

  def full():
    raise ValueError(page)

  with monkeypatch.context() as m:
    m.setattr(kept._manager, 'wait_until_finished', full)
    kept._pending = 10
    with pytest.raises(CheckpointError) as e:
      kept.wait()
  assert str(e.value) == (
      f'the checkpoint after 10 steps was not written to {tmp_path}/c: the '
      'disk is full (No space left on device). Last good checkpoint: the one '
      'after 5 steps')
  kept.close()


# The library cannot close its file on a full disk, so that the file is left to
# the garbage collector.
@pytest.mark.filterwarnings('ignore:Exception ignored in. <_io.FileIO')
def test_the_writer_of_events_says_it_too(tmp_path, monkeypatch):
  """fault D5: tensorboard in the run's own thread: a full disk is an error of
  the step, and nobody waits for a writer that is gone."""
  outlet = writers.tensorboard(tmp_path, {}, 'x', 0)
  outlet.write(0, {'a': 1.0})
  from tensorboardX.event_file_writer import EventsWriter

  def full(self):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(EventsWriter, 'flush', full)
  for _ in range(20):
    with pytest.raises(OSError, match='cannot write: No space left on device: '
                       f"'{tmp_path}/tensorboard'"):
      outlet.write(1, {'a': 1.0})
  del outlet
  gc.collect()  # here, and in no test that comes later


def test_the_command_ends_with_a_line(finished, tmp_path, monkeypatch):
  """fault D5: a full disk is one line of the command, with the file."""
  path = cut_off(finished, tmp_path / 'run')

  def full(config, path, fork_from):
    with disk.naming(path / 'metrics.jsonl'):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(loop, 'main', lambda config, path, fork_from: full(
      config, pathlib.Path(path), fork_from))
  with pytest.raises(SystemExit, match="No space left on device: '.*metrics"):
    main.main(['train', f'--config={small_config.__globals__["CONFIG"]}',
               f'--workdir={path}'])


@LONG
def test_another_number_of_cores_is_told(finished, tmp_path, monkeypatch,
                                         capsys):
  """fault F6: recorded with every attempt; a resume under another count says
  that it will not end to the byte, one under the same count says nothing."""
  here = workdir.usable_cores()
  assert here == len(os.sched_getaffinity(0))
  for name in ('config.json', 'attempts/0001/attempt.json'):
    assert json.loads((finished / name).read_text())['cores'] == here
  same = cut_off(finished, tmp_path / 'same')
  loop.main(make_config(), same)
  assert 'cores' not in capsys.readouterr().out
  path = cut_off(finished, tmp_path / 'run')
  monkeypatch.setattr(workdir, 'usable_cores', lambda: here + 6)
  loop.main(make_config(), path)
  shown = capsys.readouterr().out
  assert (f'warning: this process may use {here + 6} cores; earlier attempts '
          f'of this run had {here}.') in shown
  assert 'warning: this process may' in (
      path / 'attempts/0002/log.txt').read_text()
