"""Configs hold what the paper's Table 8 says, and build."""

import pathlib
import runpy

import pytest

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'


def load(name, *args):
  return runpy.run_path(str(CONFIGS / name))['get_config'](*args)


def test_base_is_table_8():
  """Table 8 of the paper, number by number."""
  c = load('base.py')
  a = c.algorithm
  assert (a.rollouts, a.teacher_rollouts) == (8, 4)
  assert (a.temperature, a.top_p, a.top_k) == (1.0, 1.0, 0)
  assert (a.max_tokens, a.teacher_max_tokens) == (12288, 12288)
  assert (a.num_new, a.updates, c.steps) == (384, 4, 200)
  assert (a.tau, a.rho_replay, a.rho_aug) == (0.5, 0.25, 0.25)
  assert a.buffer_capacity == 10000
  assert (a.clip.low, a.clip.high, a.clip.dual) == (0.20, 0.28, 10.0)
  assert a.normaliser == 'without_zero'
  assert c.compression.cap == 512
  o = c.optimizer
  assert (o.learning_rate, o.b1, o.b2, o.eps) == (1e-6, 0.9, 0.999, 1e-8)
  assert (o.weight_decay, o.clip_norm) == (0.1, 1.0)
  assert (o.state_dtype, o.schedule) == ('bfloat16', 'constant')


def test_micro_keeps_the_rules_of_algorithm_1():
  """The world is small; tau, the rhos, G, I and the clip stay."""
  base, micro = load('base.py').algorithm, load('micro.py').algorithm
  for name in ('tau', 'rho_replay', 'rho_aug', 'rollouts', 'teacher_rollouts',
               'updates', 'normaliser', 'advantage_scope', 'temperature'):
    assert micro[name] == base[name], name
  assert micro.clip.to_dict() == base.clip.to_dict()


def test_pretrain_roles_are_known_by_name():
  with pytest.raises(ValueError, match='teacher'):
    load('micro_pretrain.py', 'nobody')
