"""A study of a few minutes, which shows that the command works; no result.

  zppo study --config=studies/smoke.py --to=runs/smoke --cores=0,1
  zppo study --config=studies/smoke.py:controls --to=runs/smoke_controls \
    --cores=0,1

The second one runs every control, our own remedies and our combinations of ZPPO
with a divergence, for one seed.
"""

from ml_collections import ConfigDict

CONTROLS = ('placebo_bcq', 'random', 'random_bcq', 'random_ncq', 'bare',
            'bare_bcq', 'bare_ncq', 'again_bcq', 'again_ncq', 'bcq_again',
            'zppo_distill', 'grpo_replay_distill')


def _controls(c: ConfigDict) -> None:
  c.title = 'Smoke: every control for eight steps, which decide nothing'
  c.arms = ConfigDict({name: (('method', name),) for name in CONTROLS} | {
      'bcq_rests': (('method', 'grpo_replay_bcq'),
                    ('algorithm.rest_saturated', 10))})
  c.rates, c.fixed_rates = (), ConfigDict(dict.fromkeys(c.arms, 2e-4))
  c.development_seeds, c.seeds = (), (1,)
  c.matched, c.answers = ConfigDict(), ()
  c.contrasts = c.confirmatory = c.exploratory = ()


def get_config(part: str = '') -> ConfigDict:
  if part not in ('', 'controls'):
    raise ValueError(f'unknown part {part!r}; known: controls, or none')
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
  if part:
    _controls(c)
  return c
