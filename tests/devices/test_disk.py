"""Paths that are none of the file system."""

import pathlib

import pytest

from zppo_jax.devices import disk


@pytest.mark.parametrize('path', [
    'gs://bucket/run', 's3://bucket/run', 'hdfs://host/run',
    pathlib.Path('gs://bucket/run')])
def test_an_address_is_refused_before_it_becomes_a_folder(path):
  with pytest.raises(ValueError, match="--workdir is '.*/run', an address"):
    disk.local('--workdir', path)


@pytest.mark.parametrize('path', ['run', '/tmp/a:b/run', './gs:/run',
                                  'C:/run', 'a/b://c'])
def test_a_path_stays_a_path(path):
  assert disk.local('--workdir', path) == pathlib.Path(path)
