"""Safetensors in and out, and what a bad file is told."""

import os

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from zppo_jax.weights import safetensors_file

RNG = np.random.default_rng(0)


def random(*shape):
  return RNG.standard_normal(shape).astype(np.float32)


PARAMS = {'embed': random(5, 4), 'norm': {'scale': random(4)},
          'blocks': {'mlp': {'up': random(2, 4, 3).swapaxes(1, 2)}}}
NAMES = {'embed': PARAMS['embed'], 'norm/scale': PARAMS['norm']['scale'],
         'blocks/mlp/up': PARAMS['blocks']['mlp']['up']}


def write(path, **changes):
  """A file of PARAMS with some tensors replaced, added or (None) left out."""
  tensors = {**NAMES, **{n.replace('__', '/'): x for n, x in changes.items()}}
  save_file({n: np.ascontiguousarray(x) for n, x in tensors.items()
             if x is not None}, path, metadata={'description': '{}'})
  return path


@pytest.fixture
def file(tmp_path):
  return tmp_path / 'some.weights.safetensors'


def test_round_trip_is_bitwise(file):
  """Also of a transposed array, -0.0, denormals and the extremes."""
  odd = np.float32([[-0.0, 1e-45, np.finfo(np.float32).max, 1e-38]])
  params = {**PARAMS, 'embed': odd}
  safetensors_file.save(file, params, {'model': {'width': 4}, 'a': 'é'})
  back = safetensors_file.load(file, params)
  assert sorted(back) == sorted(params)
  for got, want in ((back['embed'], odd),
                    (back['norm']['scale'], params['norm']['scale']),
                    (back['blocks']['mlp']['up'],
                     params['blocks']['mlp']['up'])):
    assert got.dtype == want.dtype and got.shape == want.shape
    assert got.tobytes() == np.ascontiguousarray(want).tobytes()
  assert safetensors_file.description(file) == {'model': {'width': 4}, 'a': 'é'}


@pytest.mark.parametrize('umask, mode', [(0o022, 0o644), (0o007, 0o660)])
def test_the_umask_says_who_may_read_a_file(file, umask, mode):
  """The package's own save_file makes files of mode 600, also a torn one."""
  file.with_suffix('.partial').touch(0o600)
  before = os.umask(umask)
  try:
    safetensors_file.save(file, PARAMS, {})
  finally:
    os.umask(before)
  assert file.stat().st_mode & 0o777 == mode


def test_round_trip_of_bf16(file):
  """The compute type of a rollout copy survives as it is."""
  params = {'embed': PARAMS['embed'].astype(ml_dtypes.bfloat16)}
  safetensors_file.save(file, params, {})
  back = safetensors_file.load(file, params)
  assert back['embed'].dtype == ml_dtypes.bfloat16
  assert back['embed'].tobytes() == params['embed'].tobytes()


def test_names_decide_not_order(file):
  """A file that lists its tensors in another order loads the same."""
  like = {'z': np.float32([1, 2]), 'a': np.float32([3])}
  save_file({'a': like['a'], 'z': like['z']}, file)
  back = safetensors_file.load(file, dict(reversed(like.items())))
  np.testing.assert_array_equal(back['z'], [1, 2])
  np.testing.assert_array_equal(back['a'], [3])


def test_save_replaces_and_leaves_nothing_else(tmp_path):
  """A new directory is made; an old file is replaced; no partial stays."""
  file = tmp_path / 'new' / 'w.safetensors'
  safetensors_file.save(file, PARAMS, {'n': 1})
  safetensors_file.save(file, {'embed': PARAMS['embed']}, {'n': 2})
  assert safetensors_file.description(file) == {'n': 2}
  assert [p.name for p in file.parent.iterdir()] == ['w.safetensors']


@pytest.mark.parametrize('changes, message', [
    (dict(norm__scale=None), r"missing tensors \['norm/scale'\]"),
    (dict(extra=random(2)), r"unknown tensors \['extra'\]"),
    (dict(blocks__mlp__up=random(2, 4, 3)),
     r'blocks/mlp/up has shape \(2, 4, 3\); the model has \(2, 3, 4\)'),
    (dict(norm__scale=np.float32([1, np.nan, 1, 1])), 'norm/scale.*NaN'),
    (dict(embed=np.full((5, 4), -np.inf, np.float32)), 'embed.*infinite'),
    # `like` gives the type too; a silent float16 would train as such.
    (dict(embed=NAMES['embed'].astype(np.float16)), 'embed.*float16'),
])
def test_wrong_tensors_are_named(file, changes, message):
  """With the file: which tensor it is and what is wrong."""
  with pytest.raises(ValueError, match=message) as error:
    safetensors_file.load(write(file, **changes), PARAMS)
  assert str(file) in str(error.value)


def test_missing_file_is_named(file):
  """Before anything else is tried."""
  for read in (lambda: safetensors_file.load(file, PARAMS),
               lambda: safetensors_file.description(file)):
    with pytest.raises(FileNotFoundError, match=file.name):
      read()


@pytest.mark.parametrize('size', [0, 4, 60, -1])
def test_truncated_file_is_named(file, size):
  """Cut anywhere; whichever of the two readers comes first."""
  safetensors_file.save(file, PARAMS, {})
  file.write_bytes(file.read_bytes()[:size])
  for read in (lambda: safetensors_file.load(file, PARAMS),
               lambda: safetensors_file.description(file)):
    with pytest.raises(ValueError, match=file.name):
      read()


def test_a_file_without_description_is_named(file):
  """Somebody else's safetensors file holds no description."""
  save_file(NAMES, file)
  with pytest.raises(ValueError, match=file.name):
    safetensors_file.description(file)
