"""Programs outlive the process."""

import os
import subprocess
import sys

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
