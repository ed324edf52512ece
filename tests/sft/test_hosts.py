"""`zppo sft` by two processes is the run of one."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors import numpy

from tests.environments import ROOT, alone
from tests.kill_hosts import free_port
from tests.long import long
from tests.sft.builders import micro_rows, write_lines
from zppo_jax.weights import safetensors_file


def start(path, rows, *words):
  """The command as a process of its own, on a mesh of two devices."""
  return subprocess.Popen(
      [sys.executable, '-m', 'zppo_jax.main', 'sft',
       f'--config={ROOT}/configs/micro_sft.py:{rows}', f'--workdir={path}',
       '--config.steps=2', '--config.data.batch=4', '--config.mesh.data=2',
       '--config.shapes.row_buckets=(32,)', '--config.shapes.micro_tokens=128',
       '--config.eval.every=1', '--config.eval.holdout=2',
       '--config.checkpoint.every=1', *words],
      env=alone(), stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT, text=True)


def lines(path, name):
  return [{k: x for k, x in json.loads(line).items()
           if not k.startswith('time/') and k != 'sft/tokens_per_second'}
          for line in (path / name).read_text().splitlines()]


@pytest.mark.parametrize('words', [
    (), long(('--config.lora.rank=4',))], ids=str)
def test_two_processes_write_one_run(words, tmp_path):
  rows = write_lines(tmp_path / 'rows.jsonl', micro_rows(12))
  port = free_port()
  started = [start(tmp_path / 'two', rows, f'--coordinator=127.0.0.1:{port}',
                   '--processes=2', f'--process={i}', *words) for i in range(2)]
  said = [process.communicate(timeout=900)[0] for process in started]
  assert [process.returncode for process in started] == [0, 0], said
  assert 'results:' in said[0] and 'results:' not in said[1]
  alone = start(tmp_path / 'one', rows, *words)
  assert alone.communicate(timeout=900) and alone.returncode == 0
  two, one = tmp_path / 'two', tmp_path / 'one'
  assert [p.name for p in (two / 'attempts').iterdir()] == ['0001']
  assert json.loads((two / 'attempts' / '0001' / 'attempt.json').read_text())[
      'processes'] == 2
  assert sorted(p.name for p in (two / 'checkpoints').iterdir()) == (
      sorted(p.name for p in (one / 'checkpoints').iterdir()))
  for name in ('metrics.jsonl', 'eval.jsonl'):
    for a, b in zip(lines(two, name), lines(one, name), strict=True):
      assert a == pytest.approx(b, rel=1e-6)
  ours, theirs = (numpy.load_file(of / safetensors_file.FINAL)
                  for of in (two, one))
  for name, array in theirs.items():
    np.testing.assert_allclose(ours[name], array, rtol=1e-4, atol=1e-6)
