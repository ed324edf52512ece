"""TensorBoard is tested on a run (test_train.py); here W&B, by a fake."""

import sys
import types

import pytest

from zppo_jax import writers


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


def test_wandb_logs_under_the_workdirs_name_and_by_step(fake, tmp_path):
  run, asked = fake
  [outlet] = writers.open_all({'tensorboard': False, 'wandb': 'mine'},
                              tmp_path / 'a', {'seed': 3}, 5)
  outlet.write(5, {'accuracy/plain': 0.5})
  outlet.close()
  assert asked == [{'project': 'mine', 'dir': str(tmp_path / 'a'),
                    'config': {'seed': 3}, 'id': 'a', 'resume': 'allow'}]
  assert run.axes == [('*', 'step')]
  assert run.logged == [{'step': 5, 'accuracy/plain': 0.5}]
  assert run.finished


def test_nothing_is_opened_where_nothing_is_asked_for(tmp_path):
  assert writers.open_all({'tensorboard': False, 'wandb': ''}, tmp_path, {},
                          0) == []
  assert not list(tmp_path.iterdir())


def test_an_unknown_or_missing_writer_is_named(tmp_path, monkeypatch):
  with pytest.raises(KeyError, match='log.mlflow; known: tensorboard, wandb'):
    writers.open_all({'mlflow': True}, tmp_path, {}, 0)
  monkeypatch.setitem(sys.modules, 'wandb', None)
  with pytest.raises(ValueError, match='log.wandb is .mine., but the package'):
    writers.open_all({'wandb': 'mine'}, tmp_path, {}, 0)
