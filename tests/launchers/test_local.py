"""launchers/local.sh: the command that it would run, and that it runs that."""

import functools
import os
import shlex

import pytest

from tests.launchers import launching
from tests.launchers.launching import ROOT

launch = functools.partial(launching.launch, 'local.sh')


def dry_run(*argv, **env):
  """The words of the printed command: (variables, the rest)."""
  done = launch('--dry-run', *argv, **env)
  assert done.returncode == 0, done.stderr
  program, *words = shlex.split(done.stdout)
  assert program == 'env'
  start = words.index('zppo')
  return dict(w.split('=', 1) for w in words[:start]), words[start:]


def test_dry_run_prints_the_main_job():
  variables, words = dry_run('zppo', 3, 'runs/a')
  assert words == ['zppo', 'train', f'--config={ROOT}/configs/micro.py',
                   '--workdir=runs/a', '--config.method=zppo',
                   '--config.seed=3']
  assert variables == {
      'CUDA_VISIBLE_DEVICES': '0',
      'JAX_COMPILATION_CACHE_DIR': '/home/me/.cache/zppo_jax'}


def test_flags_pass_through_in_order_and_quoted():
  _, words = dry_run('grpo', 0, 'a b/c', '--config.steps=5',
                     "--config.eval.splits=('hard', 'easy')")
  assert words[3] == '--workdir=a b/c'
  assert words[-2:] == ['--config.steps=5',
                        "--config.eval.splits=('hard', 'easy')"]


def test_a_config_of_ones_own_replaces_the_default():
  _, words = dry_run('grpo', 0, 'out', '--config=my.py', '--config.seed=9')
  assert [w for w in words if w.startswith('--config=')] == ['--config=my.py']
  assert words[-1] == '--config.seed=9'  # the last one counts


def test_the_environment_chooses_gpu_and_cache():
  variables, _ = dry_run('zppo', 0, 'out', CUDA_VISIBLE_DEVICES='2',
                         JAX_COMPILATION_CACHE_DIR='/fast')
  assert variables == {'CUDA_VISIBLE_DEVICES': '2',
                       'JAX_COMPILATION_CACHE_DIR': '/fast'}


def test_dry_run_writes_nothing(tmp_path):
  done = launch('--dry-run', 'zppo', 0, tmp_path / 'run', cwd=tmp_path)
  assert done.returncode == 0
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('argv', [
    (), ('zppo',), ('zppo', 0), ('zppo', 0, '--config.steps=5'),
    ('zppo', 0, 'out', 'steps=5')])
def test_wrong_arguments_are_refused(argv):
  done = launch('--dry-run', *argv)
  assert done.returncode == 2
  assert done.stderr and not done.stdout


def test_help_shows_the_usage():
  done = launch('--help')
  assert done.returncode == 0
  assert 'METHOD SEED WORKDIR' in done.stdout
  assert 'pipefail' not in done.stdout


def test_it_runs_what_it_prints_and_returns_its_status(tmp_path):
  launching.executable(
      tmp_path / 'zppo', '#!/bin/bash\nprintf "%s\\n" zppo "$@"\nexit 7\n')
  argv = ('placebo', 1, 'a b', '--config.steps=5')
  done = launch(*argv, PATH=f'{tmp_path}:{os.environ["PATH"]}')
  assert done.returncode == 7
  assert done.stdout.splitlines() == dry_run(*argv)[1]
