"""Runs of earlier versions go on: fields that came later have a value at which
a run is what it was."""

import json
import re
import runpy

import pytest

from tests.builders import ROOT
from zppo_jax.runs import same_config

# Fields of configs/base.py at revision 775fe6a, by section.
BASE = """
-: method seed steps
algorithm: advantage_eps advantage_scope buffer_capacity max_tokens normaliser
  num_new rho_aug rho_replay rollouts tau teacher_max_tokens teacher_rollouts
  temperature top_k top_p updates
algorithm.clip: dual high low
algorithm.correction: bound kind
checkpoint: every keep keep_every
compression: cap identity_below temperature
data: fit pool repeat task
eval: benchmarks every size sources splits
guard: max_ratio max_ungraded
judge: backoff_s budget_s concurrency deadline_s extra key_env model retries
  url
log: tensorboard wandb
mesh: data fsdp tensor
optimizer: b1 b2 clip_norm eps learning_rate schedule state_dtype
  total_updates weight_decay
probe: every questions
samples: every questions
shapes: group_buckets layout logprob_chunk micro_tokens patch_buckets
  prompt_buckets response_buckets row_buckets slots
student: attention dtype remat rollout_weights thinking unroll weights
teacher: attention dtype kind max_failures remat unroll weights window
teacher.endpoint: api backoff_s budget_s concurrency deadline_s extra key_env
  model retries summary_extra url
"""
# What configs/files.py had besides.
FILES = """
data.pool: store
data.pool.filters: answer_characters duplicates image_side
data.pool.sources.mine: format images kind path
data.pool.sources.mine.columns: answer text
eval.sources.mine_test: format images kind path
eval.sources.mine_test.columns: answer text
"""


def names(text):
  out = set()
  for section, held in re.findall(r'^([\w.-]+): (.*(?:\n  .*)*)', text, re.M):
    prefix = '' if section == '-' else f'{section}.'
    out |= {prefix + name for name in held.split()}
  return out


def values_of(config):
  made = runpy.run_path(str(ROOT / 'configs' / f'{config}.py'))['get_config']()
  return made, same_config.config_values(made)


CASES = pytest.mark.parametrize('config, before', [
    ('base', names(BASE)),
    ('files', names(BASE) - {'data.pool', 'eval.sources'} | names(FILES))])


@CASES
def test_a_field_that_came_later_is_accounted_for(config, before):
  """Without that, every run of an earlier version would be refused."""
  _, now = values_of(config)
  later = set(same_config.flat(now)) - before
  assert later, 'the list above is not of an earlier version'
  assert later <= set(same_config.ADDED) | same_config.MAY_CHANGE


@CASES
def test_an_earlier_run_of_the_same_config_goes_on(config, before, tmp_path):
  made, now = values_of(config)
  stored = json.loads(json.dumps(now))
  for name in set(same_config.flat(now)) - before:
    *path, last = name.split('.')
    section = stored
    for key in path:
      section = section[key]
    del section[last]
    while not section:  # an earlier version had no such section either
      *path, empty = path
      section = stored
      for key in path:
        section = section[key]
      del section[empty]
  assert set(same_config.flat(stored)) <= before
  same_config.check_same_config(tmp_path, {'config': stored}, made)


@pytest.mark.parametrize('name, value', [
    ('student.date', '2026-03-01'), ('optimizer.warmup_steps', 3),
    ('optimizer.state_rounding', 'stochastic'),
    ('data.pool.media_roots', ('/elsewhere',))])
def test_another_value_of_a_later_field_is_refused(name, value, tmp_path):
  made, now = values_of('files')
  section, _, last = name.rpartition('.')
  made.update_from_flattened_dict({name: value})
  before = json.loads(json.dumps(now))
  at = before
  for key in section.split('.'):
    at = at[key]
  del at[last]
  with pytest.raises(ValueError, match=re.escape(name)):
    same_config.check_same_config(tmp_path, {'config': before}, made)
