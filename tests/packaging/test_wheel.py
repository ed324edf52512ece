"""fault F2: what a wheel and an sdist hold, and what works from them alone."""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest

from tests.long import LONG

ROOT = pathlib.Path(__file__).parents[2]


def _build(source, to, kind):
  """The file that the build backend writes from a folder."""
  code = ('import sys; from setuptools import build_meta as b; '
          f'print(b.build_{kind}(sys.argv[1]))')
  done = subprocess.run([sys.executable, '-c', code, str(to)], cwd=source,
                        capture_output=True, text=True)
  assert not done.returncode, done.stderr
  return to / done.stdout.split()[-1]


def _committed():
  """The files of the repository by relative path; without git, those here."""
  done = subprocess.run(['git', '-C', str(ROOT), 'ls-files', '-co',
                         '--exclude-standard'], capture_output=True, text=True)
  if not done.returncode:
    return {name for name in done.stdout.splitlines()
            if (ROOT / name).is_file()}
  pytest.skip('only a clone knows which files belong to it')


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """(sdist, wheel of the clone, wheel of the unpacked sdist, folder of it)."""
  work = tmp_path_factory.mktemp('built')
  for name in _committed():
    (work / 'clone' / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(ROOT / name, work / 'clone' / name)
  sdist = _build(work / 'clone', work, 'sdist')
  for name in ('one', 'two'):
    (work / name).mkdir()
  with tarfile.open(sdist) as archive:
    archive.extractall(work / 'unpacked', filter='data')
  (unpacked,) = (work / 'unpacked').iterdir()
  return (sdist, _build(work / 'clone', work / 'one', 'wheel'),
          _build(unpacked, work / 'two', 'wheel'), unpacked)


@pytest.fixture(scope='module')
def installed(built, tmp_path_factory):
  """Runs `zppo ARGS` of the wheel alone, in a folder outside the clone."""
  site = tmp_path_factory.mktemp('site')
  with zipfile.ZipFile(built[1]) as wheel:
    wheel.extractall(site)

  def run(folder, *argv, env=()):
    return subprocess.run(
        [sys.executable, '-m', 'zppo_jax.main', *argv], cwd=folder,
        capture_output=True, text=True,
        env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(site),
             **dict(env)})
  return run


@LONG
def test_an_sdist_holds_the_repository(built):
  folder = built[3]
  missing = {name for name in _committed() if not (folder / name).is_file()}
  assert not missing


@LONG
def test_a_wheel_of_the_sdist_is_that_of_the_clone(built):
  contents = []
  for path in built[1:3]:
    with zipfile.ZipFile(path) as wheel:
      contents.append({name: wheel.read(name) for name in wheel.namelist()})
  assert contents[0] == contents[1]
  names = contents[0]
  for config in (ROOT / 'configs').glob('*.py'):
    assert names[f'zppo_jax/configs/{config.name}'] == config.read_bytes()
  assert 'zppo_jax/py.typed' in names
  assert not [name for name in names if name.startswith('tests/')]
  metadata = next(names[name] for name in names if name.endswith('/METADATA'))
  for line in ('License: Apache-2.0', 'Requires-Python: >=3.11',
               'Classifier: Programming Language :: Python :: 3.12',
               'Project-URL: Paper, https://arxiv.org/abs/2606.18216'):
    assert line in metadata.decode().splitlines(), line


def test_the_version_is_one(built):
  import zppo_jax
  assert built[1].name.startswith(f'zppo_jax-{zppo_jax.__version__}-')
  assert (f'\nversion: {zppo_jax.__version__}\n'
          in (ROOT / 'CITATION.cff').read_text())


def test_a_wheel_finds_its_configs_in_an_empty_folder(installed, tmp_path):
  """The whole way to the weights, whose name is wrong here, so that nothing
  compiles."""
  done = installed(tmp_path, '--version')
  assert done.stdout.startswith('zppo_jax ') and not done.returncode
  done = installed(tmp_path, 'train', '--config=micro', '--workdir=runs/a',
                   '--config.student.weights=gone')
  assert "no weights 'gone'" in done.stderr and done.returncode
  assert not list(tmp_path.iterdir())


@LONG
def test_what_zppo_init_writes_is_in_the_wheel(installed, tmp_path):
  """The files and their prompts, outside of the clone; the long test below
  trains them."""
  assert not installed(tmp_path, 'init', 'mine').returncode
  done = installed(tmp_path / 'mine', 'prompts', '--config=my_config')
  assert '\n== plain: 6 tokens, bucket 8\n' in done.stdout, done.stderr
  assert not installed(tmp_path, 'init', 'files', '--files').returncode
  assert {p.name for p in (tmp_path / 'files').iterdir()} == {
      'README.md', 'my_config.py', 'data', 'model'}


@LONG
def test_an_empty_environment_trains(built, tmp_path):
  """As a user would: pip, an empty folder, the packaged config, files of
  `zppo init` in text and with pictures. It needs a package index."""
  venv.create(tmp_path / 'venv', with_pip=True)
  tools = tmp_path / 'venv' / 'bin'
  env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  work = tmp_path / 'work'
  work.mkdir()

  def call(folder, *argv):
    done = subprocess.run([tools / argv[0], *argv[1:]], cwd=folder, text=True,
                          capture_output=True, env=env)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout

  call(work, 'pip', 'install', '-q', f'{built[1]}[digits]')
  short = '--config.steps=2', '--config.eval.size=8'
  out = call(work, 'zppo', 'train', '--config=micro', '--workdir=runs/a',
             *short)
  assert 'report: runs/a/report.html' in out
  for folder, flags in (('text', ()), ('seeing', ('--pictures',))):
    call(work, 'zppo', 'init', folder, *flags)
    out = call(work / folder, 'zppo', 'train', '--config=my_config',
               '--workdir=runs/first', *short)
    assert 'report: runs/first/report.html' in out
  assert 'A' in call(work / 'text', 'zppo', 'sample', '--model=runs/first',
                     '--prompt=C h i j 8', '--temperature=0')
