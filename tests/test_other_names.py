"""The names of TRL's fields: the table, the page and the configs agree."""

import re

import pytest

from tests.builders import ROOT
from zppo_jax import configs, other_names

PAGE = (ROOT / 'docs' / 'from_trl.md').read_text()
ROWS = [line.split('|')[1:3] for line in PAGE.splitlines()
        if line.startswith('| ')]


def holds(config, field):
  for part in field.split('.'):
    if part not in config:
      return False
    config = config[part]
  return True


@pytest.mark.parametrize('table, name', [
    (other_names.FIELDS, 'base'), (other_names.SUPERVISED, 'sft')])
def test_fields_are_those_of_a_config_and_of_the_page(table, name):
  config = configs.load(name)
  for theirs, fields in table.items():
    assert all(holds(config, field) for field in fields), theirs
    row = ' '.join(ours for key, ours in ROWS
                   if re.search(f'`{theirs}[`=]', key))
    named = set(re.findall(r'[a-z_0-9]+', row))
    for field in fields:
      assert field.rpartition('.')[2] in named, (theirs, field)


def test_what_has_no_field_stands_on_the_page():
  for theirs in other_names.OTHERWISE:
    assert f'`{theirs}`' in PAGE, theirs
    assert not other_names.here(theirs)
    assert f'{theirs} of TRL ' in other_names.said(theirs)


def test_the_fields_are_those_of_the_config_at_hand():
  name = 'per_device_train_batch_size'
  assert other_names.here(name, {'data.batch'}) == ('data.batch',)
  assert other_names.here(name, {'algorithm.num_new'}) == ()
  assert other_names.said(name) == (
      f'{name} of TRL is algorithm.num_new and algorithm.updates of `zppo '
      'train` and data.batch of `zppo sft` here')
  assert other_names.said('nobody') == ''
