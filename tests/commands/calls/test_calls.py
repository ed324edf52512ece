"""The commands as functions of Python."""

import json
import subprocess
import sys

import pytest

import zppo_jax
from tests import workdirs
from zppo_jax import main
from zppo_jax.commands import calls, evaluate
from zppo_jax.sft import command as sft
from zppo_jax.train import guards, loop


def test_importing_the_package_imports_nothing_heavy():
  """And the package of the name is still one, whoever imports it first."""
  code = '''
import sys
import zppo_jax
heavy = {'jax', 'numpy', 'ml_collections', 'absl', 'flax'} & set(sys.modules)
assert not heavy, heavy
import zppo_jax.train.guards as guards
from zppo_jax import train
from zppo_jax.train import watching
assert train is zppo_jax.train is sys.modules['zppo_jax.train']
assert callable(train) and train.guards is guards
'''
  done = subprocess.run([sys.executable, '-c', code], capture_output=True,
                        text=True)
  assert not done.returncode, done.stderr


def test_a_run_comes_back_as_paths_and_numbers(tmp_path, monkeypatch, capsys):
  """What the command prints is printed, and the report is written."""
  path = tmp_path / 'run'
  workdirs.make(path, steps=5)
  summary = json.loads((path / 'summary.json').read_text())
  monkeypatch.setattr(loop, 'main', lambda *_: summary)
  done = zppo_jax.train('micro', path)
  last = (path / 'metrics.jsonl').read_text().splitlines()[-1]
  assert done == calls.Trained(
      workdir=path, summary=summary, metrics=json.loads(last),
      weights=path / 'final.safetensors', report=path / 'report.html')
  assert done.metrics['step'] == 4 and done.report.is_file()
  out = capsys.readouterr().out
  assert 'zppo, seed 0: ' in out and f'report: {path}/report.html' in out


def test_a_config_is_loaded_locked_and_not_changed(tmp_path, monkeypatch):
  config = zppo_jax.load_config('micro')
  with pytest.raises(AttributeError, match='did you mean steps?'):
    config.step = 3
  seen = []

  def run(c, path, fork_from):
    seen.append((c, path, fork_from))
    c.steps = 1
    raise ValueError('steps is 1; as the command says')
  monkeypatch.setattr(loop, 'main', run)
  config.steps = 7
  with pytest.raises(ValueError, match='^steps is 1; as the command says$'):
    zppo_jax.train(config, tmp_path / 'a', fork_from=tmp_path / 'b')
  (c, path, fork_from), = seen
  assert (path, fork_from) == (str(tmp_path / 'a'), str(tmp_path / 'b'))
  assert config.steps == 7 and c.method == 'zppo'
  with pytest.raises(ValueError, match="'micr', which is no packaged config"):
    zppo_jax.train('micr', tmp_path / 'a')
  with pytest.raises(ValueError, match='config is of type dict; allowed'):
    zppo_jax.train({}, tmp_path / 'a')
  assert not list(tmp_path.iterdir())


def test_a_signal_raises_what_the_loop_raises(tmp_path, monkeypatch):
  def run(*_):
    raise guards.Interrupted('saved after 3 of 7 steps', 2)
  monkeypatch.setattr(loop, 'main', run)
  with pytest.raises(guards.Interrupted, match='saved after 3'):
    zppo_jax.train('micro', tmp_path / 'a')
  with pytest.raises(SystemExit) as e:  # as before
    main.main(['train', '--config=micro', f'--workdir={tmp_path}/a'])
  assert e.value.code == 130


def test_a_config_of_conversations_is_trained_on_them(tmp_path, monkeypatch):
  monkeypatch.setattr(sft, 'main', lambda *_: pytest.fail('sft was reached'))
  with pytest.raises(pytest.fail.Exception, match='sft was reached'):
    zppo_jax.train('micro_sft', tmp_path / 'a')


def test_evaluate_takes_the_config_of_the_run(tmp_path, monkeypatch):
  path = tmp_path / 'run'
  path.mkdir()
  config = zppo_jax.load_config('micro')
  config.eval.size = 5
  from zppo_jax.runs import workdir
  (path / 'config.json').write_text(json.dumps(workdir.describe(config)))
  seen = []
  monkeypatch.setattr(evaluate, 'main', lambda c, *a, **k: seen.append(
      (c.eval.size, c.eval.splits, a, k)) or {'splits': {}})
  monkeypatch.setattr(evaluate, 'table', lambda _: 'table')
  done = zppo_jax.evaluate(path, tmp_path / 'to', rollouts=4, ks=(1, 4),
                           temperature=1.0)
  assert done == calls.Evaluated(tmp_path / 'to', {'splits': {}})
  (size, splits, args, options), = seen
  assert size == 5 and splits == config.eval.splits
  assert args == (str(path), str(tmp_path / 'to'))
  assert options == {'splits': (), 'num_rollouts': 4, 'ks': (1, 4),
                     'temperature': 1.0}
  with pytest.raises(ValueError, match='which belongs to no run'):
    zppo_jax.evaluate(tmp_path, tmp_path / 'to')
