"""The headline comparison (docs/headline.md states it before it is run).

  zppo study --config=studies/headline.py --to=runs/headline --cores=0,1
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.title = 'Headline: same-style teacher, full traces'
  c.base = 'configs/micro.py'
  # arm -> config overrides; `common` falls on all.
  c.arms = ConfigDict({name: (('method', name),) for name in (
      'zppo', 'grpo_replay', 'grpo', 'placebo')})
  c.common = ()
  c.rates = (1e-4, 2e-4, 4e-4)
  c.development_seeds = (0, 1, 2)
  c.seeds = tuple(range(100, 108))
  c.endpoint = 'hard'
  c.splits = ('hard', 'hard_list', 'hard_composed', 'easy', 'easy_list')
  # The first is the primary contrast.
  c.contrasts = (('zppo', 'grpo_replay'), ('zppo', 'placebo'),
                 ('grpo_replay', 'grpo'))
  return c
