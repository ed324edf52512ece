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
import statistics
import sys
from collections.abc import Mapping

from ml_collections import ConfigDict

from zppo_jax.study import analysis
from zppo_jax.study.tables import markdown

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


def _by_share(results: Mapping, endpoint: str) -> dict[
    str, dict[float, list[float]]]:
  """Method -> share -> the endpoint of its seeds, in their order."""
  found: dict[str, dict[float, list[float]]] = {name: {} for name in METHODS}
  for record in sorted(results['reported'], key=lambda r: r['seed']):
    name, _, share = record['arm'].rpartition('_')
    found[name].setdefault(int(share) / 100, []).append(
        record['endpoints'][endpoint])
  return found


def chosen_share(results: Mapping) -> float | None:
  """The share that the rule of docs/study.md chooses; None for none.

  Args:
    results: the content of this study's results.json.
  """
  return analysis.share_with_headroom(_by_share(results, 'hard')['zppo'])


def dial_table(results: Mapping) -> str:
  """Markdown: a row per share, with means over the seeds; of ZPPO's `hard`, on
  which the rule looks, the standard deviation too.

  Args:
    results: as of `chosen_share`.
  """
  rows = [['share', 'ZPPO: `hard` (deviation)', 'GRPO†: `hard`', 'difference',
           'ZPPO: `mean_hard`', 'GRPO†: `mean_hard`', 'difference']]
  hard, mean_hard = (_by_share(results, e) for e in ('hard', 'mean_hard'))
  for share, finals in sorted(hard['zppo'].items()):
    row = [f'{share:g}']
    for of in (hard, mean_hard):
      ours, theirs = (statistics.mean(of[name][share]) for name in METHODS)
      row += [f'{ours:.3f}', f'{theirs:.3f}', f'{ours - theirs:+.3f}']
    row[1] += f' ({statistics.stdev(finals):.3f})'
    rows.append(row)
  return markdown(rows)


if __name__ == '__main__':
  _RESULTS = json.loads(pathlib.Path(sys.argv[1]).read_text())
  print(chosen_share(_RESULTS), dial_table(_RESULTS), sep='\n\n')
