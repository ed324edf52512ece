"""zppo sft: a whole run, killed and resumed, and what comes after it."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.builders import ROOT, documented_metrics, json_rows, small_config
from tests.long import LONG, long
from tests.sft.builders import micro_config, micro_rows, write_lines
from zppo_jax import main as cli
from zppo_jax.sft import build, command
from zppo_jax.train import loop
from zppo_jax.weights import pretrained

pytestmark = pytest.mark.usefixtures('quick_compile')
# What runs in a process of its own, to be killed in a call of micro_batches.
CHILD = """
import os, signal, sys
import jax
from tests.sft.test_command import long_config
from zppo_jax.sft import command, step
original, calls = step.micro_batches, []

def dying(run, sequences):
  calls.append(0)
  if len(calls) == int(sys.argv[3]):
    os.kill(os.getpid(), signal.SIGKILL)
  return original(run, sequences)

step.micro_batches = dying
jax.config.update('jax_disable_most_optimizations', True)
command.main(long_config(sys.argv[1]), sys.argv[2])
"""


def long_config(path, **changes):
  """Six steps over nine conversations, a checkpoint every two steps."""
  return micro_config(path, **{
      'steps': 6, 'checkpoint__every': 2, 'eval__every': 3,
      'optimizer__schedule': 'cosine', **changes})


def lines(path, name):
  """A file of a run without what belongs to the process."""
  rows = json_rows(path / name)
  return [{k: v for k, v in row.items() if not k.startswith('time/')
           and k != 'sft/tokens_per_second'} for row in rows]


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  path = tmp_path_factory.mktemp('sft')
  write_lines(path / 'rows.jsonl', micro_rows(11))
  return path


@pytest.fixture(scope='module')
def whole(home):
  path = home / 'whole'
  return path, command.main(long_config(home / 'rows.jsonl'), path)


@LONG
def test_a_run_learns_and_leaves_its_files(whole):
  path, summary = whole
  assert {p.name for p in path.iterdir()} == {
      'config.json', 'metrics.jsonl', 'eval.jsonl', 'samples.jsonl',
      'summary.json', 'final.safetensors', 'attempts', 'checkpoints',
      'data.json', 'data_rows.json', 'tensorboard'}
  assert json.loads((path / 'summary.json').read_text()) == summary
  rows = lines(path, 'metrics.jsonl')
  assert [r['step'] for r in rows] == list(range(6))
  assert rows[-1]['sft/loss'] < 0.5 * rows[0]['sft/loss']
  loss = summary['eval']['held_out/loss']
  assert loss['final'] < loss['base']
  assert summary['method'] == 'sft' and summary['student_rollouts'] == 0
  assert [r['step'] for r in lines(path, 'eval.jsonl')] == [0, 3, 6]
  assert json.loads((path / 'data.json').read_text()) == {
      'counts': {'rows': {'teacher': 11}, 'unanswered': {'teacher': 0},
                 'overlong': {'teacher': 0}, 'kept': {'teacher': 11}},
      'trained': 9, 'splits': {'held_out': 2}}
  for name in {k for row in json_rows(path / 'metrics.jsonl') for k in row}:
    assert any(d.fullmatch(name) for d in documented_metrics()), name


@pytest.mark.parametrize('death', [2, long(7)])
def test_a_killed_run_ends_with_the_same_bytes(home, whole, tmp_path, death):
  """It dies in step 0, and in step 4 behind a checkpoint and an evaluation;
  each evaluation calls `micro_batches` once."""
  data, path = home / 'rows.jsonl', tmp_path / 'run'
  child = subprocess.run(
      [sys.executable, '-c', CHILD, data, path, str(death)], cwd=ROOT,
      env=os.environ | {'PYTHONPATH': str(ROOT)}, capture_output=True,
      text=True, timeout=600)
  assert child.returncode == -signal.SIGKILL, child.stderr
  assert (path / 'checkpoints' / '2').is_dir() == (death == 7)
  command.main(long_config(data), path)
  for name in ('metrics.jsonl', 'eval.jsonl'):
    assert lines(path, name) == lines(whole[0], name)
  for name in ('final.safetensors', 'data_rows.json'):
    assert (path / name).read_bytes() == (whole[0] / name).read_bytes()


def test_a_complete_run_is_left_as_it_is_and_may_grow(home, whole, tmp_path):
  data, (path, summary) = home / 'rows.jsonl', whole
  assert command.main(long_config(data), path) == summary
  short = tmp_path / 'run'
  constant = {'optimizer__schedule': 'constant'}
  command.main(long_config(data, steps=3, **constant), short)
  command.main(long_config(data, **constant), short)
  command.main(long_config(data, **constant), tmp_path / 'whole')
  assert lines(short, 'metrics.jsonl') == lines(
      tmp_path / 'whole', 'metrics.jsonl')


def test_other_data_is_refused_on_resume(home, tmp_path):
  rows = micro_rows(11)
  data = write_lines(tmp_path / 'rows.jsonl', rows)
  command.main(long_config(data, steps=2, optimizer__schedule='constant'),
               tmp_path / 'run')
  rows[5]['responses'] = ['4 h 9 A 0']
  write_lines(tmp_path / 'rows.jsonl', rows)
  with pytest.raises(ValueError, match='other data.*line 6'):
    command.main(long_config(data, optimizer__schedule='constant'),
                 tmp_path / 'run')


@LONG
def test_zppo_train_starts_from_the_result(whole, tmp_path):
  path, _ = whole
  config = small_config(steps=1)
  config.student.weights = str(path)
  summary = loop.main(config, tmp_path / 'rl')
  assert summary['steps'] == 1
  ours = pretrained.load(str(path)).params
  base = pretrained.load('micro/student').params
  assert any(not np.array_equal(a, b) for a, b in zip(
      *(map(np.asarray, jax.tree.leaves(p))
        for p in (ours, base)), strict=True))


def test_the_command_reports_and_forks(home, whole, tmp_path, capsys):
  run = [f'--config={ROOT}/configs/micro_sft.py:{home}/rows.jsonl',
         '--config.data.batch=4', '--config.shapes.row_buckets=(32,)',
         '--config.eval.holdout=2', '--config.checkpoint.every=2',
         '--config.shapes.micro_tokens=128']
  cli.main(['sft', *run, '--config.steps=8', f'--workdir={tmp_path}/fork',
            f'--fork-from={whole[0]}'])
  page = (tmp_path / 'fork' / 'report.html').read_text()
  assert 'Loss of supervised steps' in page and 'Replay buffer' not in page
  out = capsys.readouterr().out
  assert 'held_out/loss' in out and 'tokens in' in out
  cli.main(['sft', *run, '--config.steps=8', f'--workdir={tmp_path}/dry',
            '--dry-run'])
  out = capsys.readouterr().out
  assert re.search(r'to train on 9: \d+ tokens, \d+ of them trained, the '
                   r'longest has 16\n  held_out 2', out)
  assert not (tmp_path / 'dry').exists()


@pytest.mark.parametrize('changes, match', [
    (dict(method='zppo'), "method is 'zppo'; zppo sft takes"),
    (dict(data__batch=0), 'data.batch is 0'),
    (dict(data__epochs=0.5), 'data.epochs = 0.5 .* hold 1 steps'),
    (dict(shapes__layout='shared'), 'shapes.layout .*padded, packed'),
    (dict(shapes__row_buckets=()), 'shapes.row_buckets'),
    (dict(shapes__row_buckets=(8,)), r'line 1: .* 10 tokens; .* is 8'),
    (dict(data__sources={}), 'data.sources is empty'),
    (dict(data__task=''), 'without a tokenizer; data.task'),
    (dict(optimizer__schedule='sine'), 'optimizer.schedule'),
    (dict(eval__holdout=11), 'eval.holdout is 11'),
    (dict(student__thinking='on'), 'student.thinking')])
def test_a_bad_config_is_refused_and_leaves_no_directory(
    home, tmp_path, changes, match):
  with pytest.raises((ValueError, KeyError), match=match):
    command.main(micro_config(home / 'rows.jsonl', **changes),
                 tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_config_of_another_command_is_refused(home, tmp_path):
  with pytest.raises(SystemExit, match='`zppo sft` takes'):
    cli.main(['train', f'--config={ROOT}/configs/micro_sft.py:x',
              f'--workdir={tmp_path}/run'])
  with pytest.raises(SystemExit, match="method is 'zppo'"):
    cli.main(['sft', f'--config={ROOT}/configs/micro.py',
              f'--workdir={tmp_path}/run'])


def test_the_config_names_every_field(home):
  base = runpy.run_path(str(ROOT / 'configs' / 'sft.py'))['get_config']()
  assert base.method == build.METHOD
  assert {'sources', 'batch', 'epochs', 'on_overlong'} <= set(base.data)
