"""zppo data on the 31 benchmarks in their published forms, in miniature."""

import json
import pathlib
import re

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.data import published
from tests.data.mappings.test_mappings import FILES, example
from zppo_jax.data import contents, mappings, suites
from zppo_jax.data.contents import text


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  home = tmp_path_factory.mktemp('suites')
  published.write_all(home)
  return home


@pytest.mark.parametrize('name', published.SETS)
def test_each_suite_is_known_by_its_columns(folder, name):
  """The suite is the best fit of each part that holds its questions, and all
  its questions are counted."""
  found = contents.describe(str(folder / name))
  fitting = [part for part in found.parts
             if part.fits and part.fits[0].kind == 'suite']
  assert fitting and all(
      part.fits[0].name in (name, suites.get(name).shares)
      for part in fitting)
  best = fitting[0].fits[0].name
  asked = sum(part.counted.asked for part in fitting)
  assert asked == len(suites.open_pool(best, str(folder)))
  shown = text.text(found)
  assert f'read as suite {best}' in shown and not re.search(
      r'[1-9]\d* refused', shown)
  json.dumps(contents.plain(found), default=str)
  assert all(pathlib.Path(f).exists() for part in found.parts
             for f in part.part.files)


@pytest.mark.parametrize('name, folder', [
    ('mmmu_pro', 'MMMU_Pro'), ('video_mmmu', 'VideoMMMU'),
    ('mvbench', 'MVBench'), ('video_mme', 'Video-MME'),
    ('mmlu_redux', 'mmlu-redux-2.0'), ('ceval', 'Ceval_Exam')])
def test_a_suite_is_known_in_the_folder_of_its_repository(tmp_path, name,
                                                          folder):
  """MMMU_Pro ended the command: neither of two suites found its configs."""
  published.write(tmp_path, name)
  (tmp_path / name).rename(tmp_path / folder)
  suite = suites.open_home(name, tmp_path / folder)
  parts = [part for part in contents.describe(str(tmp_path / folder)).parts
           if part.fits and part.fits[0].name == name]
  assert sum(part.counted.looked for part in parts) == len(suite)
  assert not any(part.counted.refused for part in parts)


def test_a_suite_that_does_not_fit_is_not_among_the_fits(tmp_path):
  """Of several the next one is tried, and columns at the end."""
  published.write(tmp_path, 'mmmu_pro')
  home = tmp_path / 'mmmu_pro of video_mmmu'
  (tmp_path / 'mmmu_pro' / 'standard (10 options)').rename(home)
  (part,) = contents.describe(str(home)).parts
  assert part.counted.asked and part.fits
  assert not {'mmmu_pro', 'video_mmmu'} & {fit.name for fit in part.fits}


@pytest.mark.parametrize('file', FILES)
def test_each_training_set_is_known_by_its_columns(tmp_path, file):
  """By the columns alone it is among what fits; by its name it is first."""
  row, mapping = example(file)
  name = next(n for n, of in mappings.MAPPINGS.items() if of is mapping)
  for folder in ('x', name):
    (tmp_path / folder).mkdir(exist_ok=True)
    parquet.write_table(pa.Table.from_pylist([row]),
                        tmp_path / folder / 'train.parquet')
  (part,) = contents.describe(str(tmp_path / 'x')).parts
  assert name in [fit.name for fit in part.fits if fit.kind == 'mapping']
  (part,) = contents.describe(str(tmp_path / name)).parts
  assert part.fits[0].name == name and part.counted.asked == 1
  # The pictures of these rows are not there.
  assert bool(part.counted.unshown) != bool(part.examples)
