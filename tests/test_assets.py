"""The packaged models are what docs/micro_world.md says they are."""

import json
import pathlib
import runpy

import numpy as np
import pytest

from tests.long import LONG, long
from zppo_jax import assets
from zppo_jax.algorithms import zppo
from zppo_jax.devices import sharding
from zppo_jax.randomness import Purpose
from zppo_jax.records import Decoding
from zppo_jax.rollout import collect, weight_sync
from zppo_jax.tasks import TASKS, micro
from zppo_jax.train import models
from zppo_jax.weights import safetensors_file

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
ROLES = runpy.run_path(str(CONFIGS / 'micro_pretrain.py'))['ROLES']


def groups_of(role, splits, size=32):
  """Eight rollouts at temperature 1 of `size` questions of each split."""
  spec = runpy.run_path(str(CONFIGS / 'micro.py'))['get_config']().student
  spec.weights = f'micro/{role}'
  model, params, *_ = models.load_model(spec)
  task = TASKS['micro']
  mesh = sharding.make_mesh(sharding.MeshConfig())
  sampler = collect.make_sampler(
      model=model, mesh=mesh,
      chat=task.chat, grader=task.grader, decoding=Decoding(16),
      num_rollouts=8, prompt_buckets=(8,), group_buckets=(size * len(splits),))
  questions = [q for s in splits for q in micro.evaluation(s, size)]
  found = collect.collect(
      sampler, weight_sync.place_copy(params, model, mesh),
      zppo.plain_prompts(questions, task.chat), seed=0, step=0,
      purpose=Purpose.EVALUATION)
  return [found[i * size:(i + 1) * size] for i in range(len(splits))]


def accuracy(groups):
  return np.mean([g.accuracy for g in groups])


def test_student_fails_hard_questions_and_knows_easy_ones():
  """Hard near 0 with nearly all groups all wrong; easy near 1."""
  hard, hard_list, easy, easy_list = groups_of(
      'student', ('hard', 'hard_list', 'easy', 'easy_list'))
  for found in (hard, hard_list):
    assert accuracy(found) < 0.03
    assert np.mean([g.accuracy == 0 for g in found]) > 0.85
  for found in (easy, easy_list):
    assert accuracy(found) > 0.95


@pytest.mark.parametrize('role', ['teacher', long('terse_teacher')])
def test_teachers_solve_hard_questions(role):
  """At temperature 1, the families that RL asks."""
  (hard,) = groups_of(role, ('hard',))
  assert accuracy(hard) > 0.9


@LONG
def test_terse_teacher_shows_no_steps():
  (hard,) = groups_of('terse_teacher', ('hard',), 8)
  assert all(r.text.startswith('A ') for g in hard for r in g.rollouts)


@pytest.mark.parametrize('role', ROLES)
def test_weights_name_the_config_that_made_them(role):
  """The stored config is the one that regenerates them."""
  config = runpy.run_path(
      str(CONFIGS / 'micro_pretrain.py'))['get_config'](role)
  stored = safetensors_file.description(assets.find(f'micro/{role}'))['config']
  assert stored['role'] == role
  for name in ('seed', 'steps'):
    assert stored[name] == config[name]
  # Weights that are older than a field say so by its absence.
  stored['mixture'] = {'form': 'text', **stored['mixture']}
  stored['rows'] = {'context': 0, **stored['rows']}
  for name in ('belief', 'mixture', 'rows', 'model', 'optimizer'):
    assert stored[name] == json.loads(config[name].to_json())


def test_weights_are_small():
  """A few MB in all."""
  total = sum(assets.find(n).stat().st_size for n in assets.names())
  assert total < 5e6


def test_unknown_weights_name_the_packaged_ones():
  with pytest.raises(FileNotFoundError, match='micro/student'):
    assets.find('micro/nobody')
