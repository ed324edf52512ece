"""A study of a few minutes, which shows that the command works; no result.

  zppo study --config=studies/smoke.py --to=runs/smoke --cores=0,1
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.title = 'Smoke: eight steps, which decide nothing'
  c.base = 'configs/micro.py'
  c.arms = ConfigDict({name: (('method', name),)
                       for name in ('zppo', 'grpo_replay', 'again')})
  c.common = (('steps', 8), ('eval.every', 4), ('eval.size', 48))
  c.rates, c.development_seeds = (2e-4,), (0,)
  c.seeds = (1, 2)
  c.endpoint, c.splits = 'hard', ('hard', 'easy')
  c.answers = ('hard', 'hard_list')
  c.spread_steps, c.saturation_steps = 4, 4
  c.matched = ConfigDict({
      'grpo_replay_rollouts': ('grpo_replay', 'zppo', 'student_rollouts')})
  c.contrasts = (('zppo', 'grpo_replay'),)
  c.confirmatory = (('zppo', 'grpo_replay', 'mean_hard'),
                    ('zppo', 'again', 'mean_hard'))
  c.exploratory = (('zppo', 'grpo_replay_rollouts', 'flops'),
                   ('zppo', 'grpo_replay', 'deep_mastered'))
  return c
