"""The dial: ZPPO against GRPO + replay by the share of deep misconceptions.

  zppo study --config=studies/depth.py --to=runs/depth --cores=0,1

Development seeds alone: the table says where a study has headroom, and where
the effect vanishes. The student of each share is pre-trained first, which takes
about 3.5 minutes on a core. The rule of docs/study.md chooses DEEP_SHARE of
studies/worlds.py from its results:

  python studies/depth.py runs/depth/results.json
"""

import json
import pathlib
import runpy
import sys
from collections.abc import Mapping

from ml_collections import ConfigDict

from zppo_jax.study import analysis

_WORLDS = runpy.run_path(str(pathlib.Path(__file__).with_name('worlds.py')))
METHODS = {'zppo': 'zppo', 'grpo_replay': 'grpo_replay'}


def get_config() -> ConfigDict:
  student_of = _WORLDS['student_of']
  shares = _WORLDS['SHARES']
  of = lambda name, share: f'{name}_{round(100 * share):02d}'
  c = ConfigDict()
  c.title = 'The dial: effect against the share of deep misconceptions'
  c.base = _WORLDS['TEXT']
  c.common = (('steps', 300),)
  c.models = ConfigDict({name: made for share in shares
                         for name, made in _WORLDS['student'](share).items()})
  c.arms = ConfigDict({
      of(name, share): (('method', method),
                        _WORLDS['taught_by'](student_of(share)))
      for share in shares for name, method in METHODS.items()})
  c.rates, c.fixed_rates = (), ConfigDict(dict.fromkeys(c.arms, 2e-4))
  c.development_seeds, c.seeds = (), (0, 1, 2)
  c.endpoint = 'hard'
  c.splits = ('hard', 'hard_list', 'easy_list')
  c.answers = ('hard', 'hard_list', 'hard_composed')
  c.spread_steps = 50
  c.contrasts = ()
  c.exploratory = tuple(
      (of('zppo', share), of('grpo_replay', share), endpoint)
      for share in shares
      for endpoint in ('hard', 'mean_hard', 'deep_mastered')
      if share or endpoint != 'deep_mastered')
  c.hours = 6.0
  return c


def chosen_share(results: Mapping) -> float | None:
  """The share that the rule of docs/study.md chooses; None for none.

  Args:
    results: the content of this study's results.json.
  """
  finals: dict[float, list[float]] = {}
  for record in results['reported']:
    name, _, share = record['arm'].rpartition('_')
    if name == 'zppo':
      finals.setdefault(int(share) / 100, []).append(
          record['endpoints']['hard'])
  return analysis.share_with_headroom(finals)


if __name__ == '__main__':
  print(chosen_share(json.loads(pathlib.Path(sys.argv[1]).read_text())))
