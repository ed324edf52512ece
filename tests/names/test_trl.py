"""The names of TRL's fields: the table, the page and the configs agree."""

import re

import pytest

from tests.builders import ROOT
from zppo_jax import configs
from zppo_jax.names import trl

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
    (trl.FIELDS, 'base'), (trl.SUPERVISED, 'sft')])
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
  for theirs in trl.OTHERWISE:
    assert f'`{theirs}`' in PAGE, theirs
    assert not trl.here(theirs)
    assert f'{theirs} of TRL ' in trl.said(theirs)


# Of the page's first columns: metrics, functions and a column of rows.
NO_FIELDS = {'entropy', 'frac_reward_zero_std', 'high_mean', 'prompt',
             'think_format_reward', 'get_soft_overlong_punishment',
             'get_cosine_scaled_reward'}


def test_a_command_says_every_name_of_the_page():
  tables = {*trl.FIELDS, *trl.SUPERVISED, *trl.OTHERWISE}
  names = {name for theirs, _ in ROWS
           for name in re.findall(r'`([a-z_0-9]+)(?:=[^`]*)?`', theirs)}
  assert names - tables == NO_FIELDS


def test_the_fields_are_those_of_the_config_at_hand():
  name = 'per_device_train_batch_size'
  assert trl.here(name, {'data.batch'}) == ('data.batch',)
  assert trl.here(name, {'algorithm.num_new'}) == ()
  assert trl.said(name) == (
      f'{name} of TRL is algorithm.num_new and algorithm.updates of `zppo '
      'train` and data.batch of `zppo sft` here')
  assert trl.said('nobody') == ''
