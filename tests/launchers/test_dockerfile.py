"""launchers/Dockerfile, as text: docker is in no test environment."""

import re
import runpy

import setuptools

from tests.launchers.launching import FOLDER, ROOT

LINES = [line for line in re.sub(
    r'\\\n', ' ', (FOLDER / 'Dockerfile').read_text()).splitlines()
    if line and not line.startswith('#')]


def of(instruction):
  return [line.split(None, 1)[1] for line in LINES
          if line.split()[0] == instruction]


def arguments_of_setup(monkeypatch):
  seen = {}
  monkeypatch.setattr(setuptools, 'setup', seen.update)
  monkeypatch.chdir(ROOT)
  runpy.run_path('setup.py')
  return seen


def test_the_base_is_pinned_and_a_python_that_zppo_takes(monkeypatch):
  assert of('FROM') == ['python:${PYTHON}-slim-trixie']
  [version] = re.findall(r'PYTHON=(\S+)', ' '.join(of('ARG')))
  least = arguments_of_setup(monkeypatch)['python_requires'].removeprefix('>=')
  numbers = lambda text: tuple(map(int, text.split('.')))
  assert numbers(version) >= numbers(least)


def test_the_extras_exist(monkeypatch):
  known = arguments_of_setup(monkeypatch)['extras_require']
  text = (FOLDER / 'Dockerfile').read_text()
  named = re.findall(r'EXTRAS=(\w+)', text)
  assert named and set(named) <= set(known)
  assert known['cuda'] == known['cuda12'] != known['cuda13']
  assert set(known['tpu']) < set(known['pod'])


def test_what_is_copied_is_there():
  for line in of('COPY'):
    *sources, _ = line.split()
    assert all((ROOT / source).exists() for source in sources)


def test_the_program_does_not_run_as_root():
  assert 'RUN_AS=zppo' in of('ARG')
  last = [line for line in LINES if line.split()[0] in ('USER', 'RUN')][-1]
  assert last == 'USER ${RUN_AS}'
  assert any('useradd' in line and ' zppo' in line for line in of('RUN'))
