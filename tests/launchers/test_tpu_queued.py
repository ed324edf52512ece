"""launchers/tpu_queued.sh with a gcloud of our own, whose worker is this
machine: a zppo that ends as the test says is installed and run there."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from tests.launchers import launching
from tests.launchers.launching import ROOT

HERE = ROOT / 'tests' / 'launchers'
ZPPO = r'''#!/usr/bin/env bash
code="$(head -n 1 "$FAKE/codes")"
sed -i 1d "$FAKE/codes"
echo "zppo $*" >> "$FAKE/calls"
echo "this run ends with $code"
exit "$code"
'''
# A folder named shared lies on another disk than the system.
STAT = r'''#!/usr/bin/env bash
case "${!#}" in
  */shared/*) echo 2 ;;
  *) echo 1 ;;
esac
'''


@pytest.fixture
def cloud(tmp_path):
  """A folder with the tools, what they answer, and what was asked of them."""
  tools = tmp_path / 'bin'
  tools.mkdir()
  for name in ('gcloud', 'uv'):
    shutil.copy(HERE / f'fake_{name}.sh', tools / name)
    (tools / name).chmod(0o755)
  launching.executable(tmp_path / 'zppo', ZPPO)
  launching.executable(tools / 'stat', STAT)
  (tmp_path / 'home').mkdir()
  for name in ('calls', 'codes', 'states', 'outages'):
    (tmp_path / name).write_text('')
  # The workers get the last commit of a repository: of this one, if all of
  # today's launchers were in it.
  root = tmp_path / 'root'
  shutil.copytree(ROOT / 'launchers', root / 'launchers')
  (root / 'configs').mkdir()
  shutil.copy(ROOT / 'configs' / 'base.py', root / 'configs')
  for argv in ('init -q', 'add .', 'commit -qm a'):
    subprocess.run(['git', '-c', 'user.name=a', '-c', 'user.email=a@b',
                    *argv.split()], cwd=root, check=True)
  return tmp_path


def environment(cloud):
  return {'PATH': f'{cloud / "bin"}:{os.environ["PATH"]}',
          'HOME': str(cloud / 'home'), 'FAKE': str(cloud)}


ARGV = ('--name=a', '--type=v5p-128', '--zone=z', '--poll=0.1', 'zppo', 0,
        '--config=configs/base.py', "--config.eval.splits=('a',)")


def launch(cloud, *argv, workdir='shared/a b'):
  """(the finished launcher, its calls)."""
  done = launching.launch('tpu_queued.sh', *ARGV, *argv, cloud / workdir,
                          folder=cloud / 'root' / 'launchers',
                          **environment(cloud))
  return done, calls(cloud)


def calls(cloud):
  """What gcloud, uv and zppo were asked to do, without the looks at a state."""
  names = []
  for line in (cloud / 'calls').read_text().splitlines():
    verb = re.match(r'compute tpus queued-resources (\w+)', line)
    if not verb:
      names.append(line.split()[0])
    elif verb[1] == 'ssh':
      names.append(re.findall(r'tpu_worker.sh (\w+)', line)[-1])
    elif verb[1] != 'describe':
      names.append(verb[1])
  return names


INSTALL = ['scp', 'install', 'uv', 'uv']
RUN = ['start', 'zppo']


def test_a_run_without_a_failure(cloud):
  (cloud / 'codes').write_text('0\n')
  done, asked = launch(cloud)
  assert done.returncode == 0, done.stderr
  assert asked == ['create', *INSTALL, *RUN, 'delete']
  assert 'this run ends with 0' in done.stdout
  line = next(x for x in (cloud / 'calls').read_text().splitlines()
              if x.startswith('zppo '))
  assert line == ('zppo train --config=configs/base.py '
                  f'--workdir={cloud}/shared/a b --config.method=zppo '
                  "--config.seed=0 --config.eval.splits=('a',)")
  assert not (cloud / 'state').exists()


def test_preempted_runs_get_another_resource(cloud):
  """The connection breaks while the state still is ACTIVE, and once more; the
  second time the resource is being taken away. --keep leaves the last one."""
  (cloud / 'codes').write_text('143\n0\n')
  # The states: none; after `create`; after the first failure; before and after
  # the second one, and until the resource is deleted.
  (cloud / 'states').write_text(
      '\nACTIVE\nOFFLINE\nACTIVE\nACTIVE\nSUSPENDING\nSUSPENDING\nSUSPENDED\n')
  # install, start (ends with 143), start (the worker is gone)
  (cloud / 'outages').write_text('0\n0\n255\n')
  done, asked = launch(cloud, '--keep')
  assert done.returncode == 0, done.stderr
  assert asked == ['create', *INSTALL, *RUN, 'start', 'delete',
                   'create', *INSTALL, *RUN]
  assert 'exit code 143; restart 1 of at most 100' in done.stderr
  assert 'exit code 255; restart 2 of at most 100' in done.stderr
  assert 'a and its run stay and cost money' in done.stderr
  assert (cloud / 'state').read_text() == 'ACTIVE\n'


def test_an_error_of_the_run_ends_it(cloud):
  (cloud / 'codes').write_text('1\n0\n')
  done, asked = launch(cloud)
  assert done.returncode == 1
  assert 'ended with exit code 1, which a restart does not mend' in done.stderr
  assert asked == ['create', *INSTALL, *RUN, 'delete']


@pytest.mark.parametrize('argv, tries, text', [
    ((), 3, 'exit code 134, for the third time within ten minutes each'),
    (('--restarts=1',), 2, 'exit code 134 after 1 restarts')])
def test_failures_that_come_back_end_it(cloud, argv, tries, text):
  (cloud / 'codes').write_text(5 * '134\n')
  done, asked = launch(cloud, *argv)
  assert done.returncode == 134
  assert asked == ['create', *INSTALL, *(tries * RUN), 'delete']
  assert text in done.stderr


def test_an_install_that_breaks_off_is_tried_again(cloud):
  (cloud / 'codes').write_text('0\n')
  (cloud / 'outages').write_text('255\n')
  done, asked = launch(cloud)
  assert done.returncode == 0
  assert asked == ['create', 'scp', 'install', *INSTALL, *RUN, 'delete']


def test_a_workdir_on_the_own_disk_is_refused(cloud):
  done, asked = launch(cloud, workdir='here')
  assert done.returncode == 2
  assert 'lies on the own disk of' in done.stderr
  assert asked == ['create', 'scp', 'install', 'delete']


def test_a_request_that_failed_is_left_for_a_look(cloud):
  (cloud / 'states').write_text('\nFAILED\n')
  done, asked = launch(cloud)
  assert done.returncode == 1
  assert asked == ['create']
  assert 'the request failed; why: gcloud compute tpus queued-resources' in (
      done.stderr)


SLOW = r"""#!/usr/bin/env bash
trap 'echo saved; exit 143' TERM
echo "zppo $*" >> "$FAKE/calls"
echo step 1
until [[ -f "$FAKE/go" ]]; do sleep 0.05; done
echo step 2
"""


# A shell cannot trap a signal that it was started to ignore, as it is where the
# tests run in the background.
HEEDING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_a_launcher_that_was_stopped_follows_its_run(cloud):
  launching.executable(cloud / 'zppo', SLOW)
  with subprocess.Popen(
      [sys.executable, '-c', HEEDING, 'bash',
       cloud / 'root' / 'launchers' / 'tpu_queued.sh',
       *map(str, ARGV), str(cloud / 'shared' / 'a')], text=True,
      env=environment(cloud), start_new_session=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
    assert first.stdout.readline() == 'step 1\n'
    # What ctrl-c does: all processes of the launcher, here ssh's too.
    os.killpg(first.pid, signal.SIGINT)
    assert 'a and its run stay and cost money' in first.communicate(
        timeout=30)[1]
    assert first.returncode == 130
  (cloud / 'go').touch()
  done, asked = launch(cloud)
  assert done.returncode == 0, done.stderr
  assert 'step 1\nstep 2\n' in done.stdout
  assert asked == ['create', *INSTALL, *RUN, 'follow', 'delete']


def worker(cloud, *argv):
  return ['bash', str(cloud / 'root' / 'launchers' / 'tpu_worker.sh'),
          *map(str, argv)]


def test_a_try_that_still_runs_is_stopped_before_the_next(cloud):
  """It saves first; its follower hears of the end, with the exit code."""
  (cloud / 'home' / 'zppo' / 'source').mkdir(parents=True)
  launching.executable(cloud / 'bin' / 'zppo', SLOW)
  env = environment(cloud)
  with subprocess.Popen(worker(cloud, 'start', '1', 'zppo'), env=env, text=True,
                        stdout=subprocess.PIPE) as first:
    assert first.stdout.readline() == 'step 1\n'
    again = subprocess.run(worker(cloud, 'start', '2', 'bash', '-c', 'exit 5'),
                           env=env, timeout=60)
    assert again.returncode == 64 + 5
    assert first.communicate(timeout=30)[0].endswith('saved\n')
    assert first.returncode == 143
  same = subprocess.run(worker(cloud, 'start', '2', 'false'), env=env)
  assert same.returncode == 64 + 5  # what ran is not run twice
  assert subprocess.run(worker(cloud, 'follow'), env=env).returncode == 64
  assert calls(cloud) == ['zppo']
