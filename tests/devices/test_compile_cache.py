"""Programs outlive the process. What is kept of them is shown and removed."""

import os
import subprocess
import sys

import pytest

from tests.long import LONG
from zppo_jax.devices import compile_cache

CODE = '''
import jax, jax.numpy as jnp
from zppo_jax.devices import compile_cache
compile_cache.enable()
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))
print('/jax/compilation_cache/cache_hits' in hits)
'''


def run(**env):
  out = subprocess.run([sys.executable, '-c', CODE], env=env, check=True,
                       capture_output=True, text=True)
  return out.stdout.strip()


@LONG
def test_the_second_process_compiles_nothing_anew(tmp_path):
  """In the user's cache by default, or where jax's own variable says."""
  env = {k: v for k, v in os.environ.items()
         if k != 'JAX_COMPILATION_CACHE_DIR'} | {
             'XDG_CACHE_HOME': str(tmp_path),
             'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
  assert run(**env) == 'False'
  assert any((tmp_path / 'zppo_jax' / 'programs').iterdir())
  assert run(**env) == 'True'
  assert run(**env, JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'b')) == 'False'


@pytest.fixture
def home(tmp_path, monkeypatch):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  monkeypatch.delenv(compile_cache.OFF, raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  return tmp_path / 'zppo_jax'


def program(name, end='cache'):
  return f'jit_{name}-{2:064x}-{end}'


def fill(folder, *names):
  folder.mkdir(parents=True, exist_ok=True)
  for name in names:
    (folder / name).write_bytes(b'x' * 2**20)


def test_the_cache_is_shown_and_cleared(home, monkeypatch):
  """Programs of all versions and plans are; a file of somebody else stays."""
  assert compile_cache.text(False).startswith('no compiled programs are kept\n')
  now = compile_cache.folder()
  assert now.parent == home / 'programs' and 'jaxlib-' in now.name
  fill(now, program('a'), program('a', 'atime'), program('b'), 'notes.txt',
       'a-cache')
  fill(home / 'programs' / 'jaxlib-0', program('a'))
  fill(home / 'programs', program('of_an_earlier_version'))
  fill(home / 'plans', f'{1:032x}.json', 'mine.json')
  text = compile_cache.text(False)
  assert f'{now}: 2 entries, 3.0 MiB' in text
  assert text.count(': 1 entries, 1.0 MiB') == 3
  assert text.splitlines()[-1].startswith(f'runs keep theirs in {now};')
  assert 'removed' in compile_cache.text(True).splitlines()
  assert sorted(f.name for f in home.rglob('*') if f.is_file()) == [
      'a-cache', 'mine.json', 'notes.txt']
  assert compile_cache.text(True).startswith('no compiled programs')
  monkeypatch.setenv(compile_cache.OFF, 'false')
  assert compile_cache.text(False).endswith(f'{compile_cache.OFF} is off')
  own = home.parent / 'own'
  fill(own, program('a'), 'mine.json', f'{1:030x}.json')
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(own))
  assert f'{own}: 1 entries, 1.0 MiB' in compile_cache.text(True)
  assert (own / 'mine.json').is_file()
