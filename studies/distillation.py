"""The rows of distillation beside GRPO and ZPPO, with both teachers.

`teacher` writes in the student's own style, `terse_teacher` only the values. In
this world plain imitation of a teacher of the same style wins on `hard` by
default, so that this column alone says nothing about a method: read it beside
hard_list (families that are never asked in training), easy and easy_list
(forgetting), tokens, and how many different right answers a question still has.
Three development seeds, one rate for all arms, no contrasts: a table without
claims. Rows that ask no teacher have one arm.

  zppo study --config=studies/distillation.py --to=runs/distillation --cores=0,1
"""

from ml_collections import ConfigDict

_PAPER = (('algorithm.updates', 1),)  # one update per rollout batch (App. D.2)
_ROWS = {
    'grpo': (), 'grpo_replay': (), 'zppo': (),
    'off_distill': _PAPER, 'off_distill_replay': _PAPER,
    'on_distill': _PAPER, 'on_distill_replay': _PAPER,
    'seqkd': (), 'gkd': (), 'opd_reverse': (), 'opd_forward': (), 'opd_jsd': (),
    'opd_k2': (), 'opd_k3': (), 'opd_log_ratio': (), 'grpo_distill': (),
    # The embedded teachers were never asked for hints, and their vocabulary has
    # no words for it, so the world's own hint is stored: the first step.
    'hint': (('hint.source', 'stored'), ('data.pool.hints', True)),
    'prefix': (),
    'gspo': (), 'dr_grpo': (), 'cispo': (),
    # One answer is stored with each question: the world's own solution.
    'stored_nll': (('data.pool.worked', True),
                   ('algorithm.teacher_rollouts', 1)),
}
_KEPT = {  # the eight likeliest ids of the student and the rest
    'opd_reverse_top8': 'opd_reverse', 'opd_jsd_top8': 'opd_jsd'}
_ASK_NOBODY = ('grpo', 'grpo_replay', 'hint', 'gspo', 'dr_grpo', 'cispo',
               'stored_nll')
_TEACHERS = {'': 'micro/teacher', '_terse': 'micro/terse_teacher'}


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.title = 'Distillation rows, both teachers'
  c.base = 'configs/micro.py'
  kept = (('distil.support', 'student'), ('distil.top', 8))
  arms = {name: (('method', name), *more) for name, more in _ROWS.items()}
  arms |= {name: (('method', row), *kept) for name, row in _KEPT.items()}
  c.arms = ConfigDict({
      name + style: (*fields, ('teacher.weights', weights))
      for style, weights in _TEACHERS.items()
      for name, fields in arms.items()
      if not (style and name in _ASK_NOBODY)})
  c.common = ()
  c.rates = ()
  c.fixed_rates = ConfigDict(dict.fromkeys(c.arms, 2e-4))
  c.development_seeds = ()
  c.seeds = (0, 1, 2)
  c.endpoint = 'hard_list'
  c.splits = ('hard', 'hard_list', 'easy', 'easy_list')
  c.contrasts = ()
  c.spread_steps = 50
  return c
