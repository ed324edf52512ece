"""launchers/gke.sh and xpk's own manifest of what it asks for.

xpk brings 70 packages, so that it lives in an environment of its own:
.ci/run makes one, and ZPPO_XPK names its `xpk`.
"""

import os
import shutil
import signal
import subprocess
import time

import pytest
import yaml

from tests.launchers import launching
from zppo_jax.devices import hosts

XPK = os.environ.get('ZPPO_XPK') or shutil.which('xpk')
if not XPK:
  pytest.skip('needs xpk: pip install xpk==1.16.0 in an environment of its own',
              allow_module_level=True)


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  """The JobSet of a run whose flags hold quotes, braces, a dollar, a space."""
  folder = tmp_path_factory.mktemp('xpk')
  launching.executable(
      folder / 'xpk', f'#!/bin/sh\nexec {XPK} "$@" --dry-run\n')
  path = folder / 'jobset.yaml'
  done = launching.launch(
      'gke.sh', '--cluster=c', '--tpu-type=v5p-128', '--image=r/zppo:1',
      '--project=p', '--zone=us-east5-a', '--spot', '--restarts=7',
      '--grace=90', '--slices=2', f'--manifest={path}', 'grpo_replay', 3,
      '/runs/a $HOME b', '--config=configs/base.py',
      "--config.eval.splits=('a', \"b\", '{c}')", cwd=folder, HOME=str(folder),
      PATH=f'{folder}:{os.environ["PATH"]}')
  assert done.returncode == 0, done.stdout + done.stderr
  return yaml.safe_load(path.read_text())


def pod(manifest):
  [job] = manifest['spec']['replicatedJobs']
  return job['template']['spec']['template']['spec']


def test_the_job_set_has_the_shape_that_was_asked_for(manifest):
  assert manifest['kind'] == 'JobSet'
  assert manifest['metadata']['name'] == 'grpo-replay-3'
  [job] = manifest['spec']['replicatedJobs']
  assert job['replicas'] == 2
  assert job['template']['spec']['completions'] == 16  # hosts of 4 chips each
  assert pod(manifest)['nodeSelector'][
      'cloud.google.com/gke-tpu-topology'] == '4x4x4'
  assert pod(manifest)['terminationGracePeriodSeconds'] == 90
  [container] = pod(manifest)['containers']
  assert container['image'] == 'r/zppo:1'


def test_signals_and_lost_hosts_restart_it_and_errors_do_not(manifest):
  policy = manifest['spec']['failurePolicy']
  assert policy['maxRestarts'] == 7
  assert [r['action'] for r in policy['rules']] == ['FailJobSet']
  [job] = manifest['spec']['replicatedJobs']
  [rule] = job['template']['spec']['podFailurePolicy']['rules']
  assert rule['action'] == 'FailJob'
  assert rule['onExitCodes']['operator'] == 'NotIn'
  restarts = set(rule['onExitCodes']['values'])
  signals = {128 + s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL,
                               signal.SIGABRT)}
  assert signals | {hosts.LOST} <= restarts
  assert not restarts & {1, 2}  # of zppo, for what a restart does not mend


ZPPO = r'''#!/usr/bin/env python3
import os, pathlib, signal, sys, time
def save(*_):
  time.sleep(0.5)
  print('saved', flush=True)
  sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path('argv').write_text('\n'.join(
    [os.environ['JAX_COMPILATION_CACHE_DIR'], *sys.argv[1:]]))
time.sleep(60)
'''


def test_zppo_gets_its_flags_and_the_signal_of_a_preemption(manifest, tmp_path):
  """The container's own shell script, run here."""
  [container] = pod(manifest)['containers']
  launching.executable(tmp_path / 'zppo', ZPPO)
  argv = tmp_path / 'argv'
  with subprocess.Popen(
      container['command'], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
      env={'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'HOME': '/root'}) as of:
    until = time.monotonic() + 60
    while not argv.exists() or not argv.read_text():
      assert time.monotonic() < until
      time.sleep(0.05)
    of.send_signal(signal.SIGTERM)
    assert 'saved\n' in of.communicate(timeout=60)[0]
  assert of.returncode == 143
  assert argv.read_text().split('\n') == [
      '/runs/compiled_programs', 'train', '--config=configs/base.py',
      '--workdir=/runs/a $HOME b',
      '--config.method=grpo_replay', '--config.seed=3',
      "--config.eval.splits=('a', \"b\", '{c}')"]
