"""The best weights and early stops in a run's directory, by a loop whose steps
only add 1 to the weights."""

import json
import sys
import types

import jax
import numpy as np
import pytest

from tests.builders import json_rows, small_config
from zppo_jax.chat import dates
from zppo_jax.records import CallStats
from zppo_jax.runs import checkpoints
from zppo_jax.train import loop
from zppo_jax.train.control import best
from zppo_jax.train.run import Measured
from zppo_jax.weights import pretrained

pytestmark = pytest.mark.usefixtures('quick_compile')
# After 0, 1, 2, ... steps.
HARD = (0.1, 0.3, 0.5, 0.4, 0.5, 0.2, 0.9, 0.9)


def leaf_of(params) -> float:
  return float(np.ravel(jax.tree.leaves(params)[0])[0])


def procedure(first=None):
  """RL with steps of no work, and evaluations of HARD; the accuracy on `easy`
  is the step. `first` collects the first weight at each evaluation."""
  def step(run, at, read_previous):
    read_previous()
    state = at.state.replace(params=jax.tree.map(lambda x: x + 1,
                                                 at.state.params))
    return types.SimpleNamespace(
        step=at.step, state=state, buffer=at.buffer, settled=None,
        calls=CallStats(), minibatches=())

  def evaluate(run, state):
    found = round(leaf_of(state.params) - START[0])
    if first is not None:
      first.append((found, tuple(run.splits)))
    values = {'hard': HARD[found], 'easy': float(found)}
    return Measured({name: values[name] for name in run.splits})

  def opened(run, config, out, add, say):
    START[0] = leaf_of(run.init_state().params)
    return run

  return loop.RL._replace(
      opened=opened, step=step, evaluate=lambda run, state: (
          evaluate(run, state) if START
          else Measured({n: HARD[0] for n in run.splits})),
      row=lambda run, outcome: {'step': outcome.step, 'update/loss': 0.0},
      samples=lambda run, outcome: [], check=lambda *_: None)


START = [0.0]


def config_of(**changes):
  c = small_config(method='grpo', steps=7)
  c.eval.every, c.log.tensorboard = 1, False
  c.checkpoint.update(every=2, keep=1)
  c.best.metric = 'hard'
  c.update_from_flattened_dict(changes)
  return c


def kept(path):
  return sorted(int(p.name) for p in (path / 'checkpoints').iterdir())


def test_the_best_weights_stay_beside_the_newest_checkpoint(tmp_path):
  path, told = tmp_path / 'run', []
  c = config_of(steps=5)
  module = types.ModuleType('told_of_best')
  module.note = lambda event: told.append((event.name, event.step))
  sys.modules['told_of_best'] = module
  c.run.callbacks = ('told_of_best:note',)
  summary = loop.main(c, path, procedure=procedure())
  assert summary['best'] == {'metric': 'hard', 'step': 2, 'value': 0.5}
  assert kept(path) == [2, 5]
  record = json.loads((path / 'best' / 'best.json').read_text())
  assert (record['step'], record['value']) == (2, 0.5)
  loaded = pretrained.load(str(path / 'best'))
  assert round(leaf_of(loaded.params) - START[0]) == 2
  assert checkpoints.open_any(path / 'best') == (path / 'checkpoints', 2)
  assert dates.of_run(path / 'best') == dates.of_run(path)
  assert [e for e in told if e[0] != 'step'] == [
      ('begin', 0), ('evaluation', 0), ('evaluation', 1), ('checkpoint', 1),
      ('best', 1),
      ('evaluation', 2), ('checkpoint', 2), ('best', 2), ('evaluation', 3),
      ('evaluation', 4), ('checkpoint', 4), ('evaluation', 5),
      ('checkpoint', 5), ('end', 5)]
  assert [e for e in told if e[0] == 'step'] == [('step', i) for i in range(5)]


def test_a_run_stops_early_and_goes_on_when_told(tmp_path, capsys):
  """The same command leaves it alone; a larger patience goes on to the end,
  where a whole run of that patience comes out."""
  path = tmp_path / 'run'
  summary = loop.main(config_of(**{'best.patience': 2}), path,
                      procedure=procedure())
  assert summary['steps'] == 4 and summary['eval']['easy']['final'] == 4
  assert 'stopped early after 4 steps: hard was no better than 0.5' in (
      capsys.readouterr().out)
  before = {p: p.stat().st_mtime_ns for p in path.rglob('*')}
  assert loop.main(config_of(**{'best.patience': 2}), path) == summary
  assert 'best.patience, or 0, goes on' in capsys.readouterr().out
  assert before == {p: p.stat().st_mtime_ns for p in path.rglob('*')}

  on = loop.main(config_of(**{'best.patience': 4}), path,
                 procedure=procedure())
  assert on['steps'] == 7 and 'stopped' not in on
  assert on['best'] == {'metric': 'hard', 'step': 6, 'value': 0.9}
  whole = loop.main(config_of(**{'best.patience': 4}), tmp_path / 'whole',
                    procedure=procedure())
  clocks = ('wall_s',)
  assert {k: v for k, v in on.items() if k not in clocks} == {
      k: v for k, v in whole.items() if k not in clocks}
  assert kept(path) == kept(tmp_path / 'whole') == [6, 7]


def test_splits_by_cadence_and_all_where_the_run_ends(tmp_path):
  """`easy` every three steps; at an early stop it is evaluated once more."""
  path, seen = tmp_path / 'run', []
  c = config_of(**{'best.patience': 2})
  c.eval.cadence = dict(easy=3)
  loop.main(c, path, procedure=procedure(seen))
  assert seen == [
      (0, ('hard', 'easy')), (1, ('hard',)), (2, ('hard',)),
      (3, ('hard', 'easy')), (4, ('hard',)), (4, ('easy',))]
  rows = json_rows(path / 'eval.jsonl')
  assert [('hard' in row, 'easy' in row) for row in rows] == [
      (True, True), (True, False), (True, False), (True, True), (True, False),
      (False, True)]


@pytest.mark.parametrize('at_write', [1, 2])
def test_a_kill_before_the_best_weights_are_written_loses_nothing(
    tmp_path, monkeypatch, at_write):
  """The checkpoint of that step is on disk, so the next attempt writes them."""
  path, writes = tmp_path / 'run', []
  write = best.write

  def killed(*of):
    writes.append(of)
    if len(writes) == at_write:
      raise KeyboardInterrupt
    write(*of)

  monkeypatch.setattr(best, 'write', killed)
  with pytest.raises(KeyboardInterrupt):
    loop.main(config_of(steps=5), path, procedure=procedure())
  assert kept(path)[-1] == at_write
  summary = loop.main(config_of(steps=5), path, procedure=procedure())
  assert summary['best']['step'] == best.step_of(path) == 2
  assert round(leaf_of(pretrained.load(str(path / 'best')).params)
               - START[0]) == 2
  assert kept(path) == [2, 5]


def test_a_fork_from_the_best_starts_there(tmp_path):
  loop.main(config_of(steps=5), tmp_path / 'run', procedure=procedure())
  forked = loop.main(config_of(steps=4), tmp_path / 'fork',
                     fork_from=tmp_path / 'run' / 'best',
                     procedure=procedure())
  assert forked['eval']['easy'] == {'base': 2.0, 'final': 4.0}
  assert forked['best']['step'] == 2
  # The first weights are those of the fork's origin, and no later ones were
  # better, so there is nothing to keep.
  assert not (tmp_path / 'fork' / 'best').exists()
