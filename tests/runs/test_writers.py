"""TensorBoard is tested on a run (test_train.py); here W&B, by a fake."""

import pathlib
import subprocess
import sys
import types

import pytest

from zppo_jax.runs import writers


class FakeRun:
  """What wandb.init returns, as far as it is used."""

  def __init__(self):
    self.logged, self.axes, self.finished = [], [], False

  def define_metric(self, name, step_metric):
    self.axes.append((name, step_metric))

  def log(self, values):
    self.logged.append(values)

  def finish(self):
    self.finished = True


@pytest.fixture
def fake(monkeypatch):
  run, asked = FakeRun(), []
  module = types.SimpleNamespace(init=lambda **k: asked.append(k) or run)
  monkeypatch.setitem(sys.modules, 'wandb', module)
  return run, asked


def _open(path, step=0):
  path.mkdir(parents=True, exist_ok=True)
  [writer] = writers.open_writers({'tensorboard': False, 'wandb': 'mine'}, path,
                              {'seed': 3}, step)
  return writer


def test_wandb_logs_under_the_workdirs_name_and_by_step(fake, tmp_path):
  run, asked = fake
  writer = _open(tmp_path / 'a', 5)
  writer.write(5, {'accuracy/plain': 0.5})
  writer.close()
  [call] = asked
  assert call.pop('id') == (tmp_path / 'a/wandb_id.txt').read_text().strip()
  assert call == {'project': 'mine', 'dir': str(tmp_path / 'a'), 'name': 'a',
                  'config': {'seed': 3}, 'resume': 'allow'}
  assert run.axes == [('*', 'step')]
  assert run.logged == [{'step': 5, 'accuracy/plain': 0.5}]
  assert run.finished


def test_workdirs_of_one_name_are_runs_of_their_own(fake, tmp_path):
  """fault F4: A/zppo and B/zppo shared one W&B run; a resumed or moved workdir
  goes on with its own."""
  _, asked = fake
  _open(tmp_path / 'A' / 'zppo')
  _open(tmp_path / 'B' / 'zppo')
  _open(tmp_path / 'A' / 'zppo', 7)
  (tmp_path / 'A').rename(tmp_path / 'C')
  _open(tmp_path / 'C' / 'zppo', 9)
  a, b, resumed, moved = (call['id'] for call in asked)
  assert a != b
  assert a == resumed == moved
  assert {call['name'] for call in asked} == {'zppo'}


def test_a_dot_as_workdir_has_the_folders_name(fake, tmp_path, monkeypatch):
  _, asked = fake
  (tmp_path / 'run').mkdir()
  monkeypatch.chdir(tmp_path / 'run')
  _open(pathlib.Path('.'))
  assert asked[0]['name'] == 'run'


def test_nothing_is_opened_where_nothing_is_asked_for(tmp_path):
  assert writers.open_writers({'tensorboard': False, 'wandb': ''}, tmp_path, {},
                          0) == []
  assert not list(tmp_path.iterdir())


def test_an_unknown_or_missing_writer_is_named(tmp_path, monkeypatch):
  with pytest.raises(KeyError, match="'log.mlflow'; known: log.tensorboard, "
                     'log.wandb'):
    writers.open_writers({'mlflow': True}, tmp_path, {}, 0)
  monkeypatch.setitem(sys.modules, 'wandb', None)
  with pytest.raises(ValueError, match='log.wandb is .mine., but the package'):
    writers.open_writers({'wandb': 'mine'}, tmp_path, {}, 0)


def test_event_files_need_no_torch(tmp_path):
  """Its import takes longer than all that comes before the first step; whoever
  wants it later gets it."""
  code = ('import pathlib, sys; from zppo_jax.runs import writers; '
          f'w = writers.tensorboard(pathlib.Path({str(tmp_path)!r}), {{}}, "", '
          '0); w.write(0, {"a": 1.0}); w.close(); '
          'sys.exit("torch" in sys.modules)')
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0
  assert list((tmp_path / 'tensorboard').iterdir())
