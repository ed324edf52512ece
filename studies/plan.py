"""The computed tables of docs/study.md.

  python -m studies.plan

It prints them: the confirmatory family, the seeds that contrasts need, and what
the tables take on two cores. Seconds are those of short runs that
`zppo study --smoke` made and studies/results/budget/ keeps: of
paper.py:shipped for the text worlds, and of paper.py:handwriting. An arm that
was not measured counts as the slowest one that was. Pre-training a model takes
PRETRAIN_S (docs/micro_world.md).
"""

import json
import pathlib
import runpy

from zppo_jax.runs import same_config
from zppo_jax.study import analysis, budgets
from zppo_jax.study.tables import markdown

HOME = pathlib.Path(__file__).parent
MEASURED = {name: HOME / 'results' / 'budget' / f'{name}.json'
            for name in ('text', 'handwriting')}
TABLES = ('depth', 'paper:text', 'paper:shipped', 'paper:shipped_again',
          'paper:none', 'paper:handwriting', 'ablations:teachers',
          'ablations:students', 'ablations:updates', 'ablations:remedies',
          'claims:ptd', 'claims:kept', 'claims:uni_opd', 'claims:context',
          'claims:routes', 'claims:compose')
CLAIMS = tuple(name for name in TABLES if name.startswith('claims'))
PRETRAIN_S, WORKERS = 330.0, 2
# Paired differences in `hard` of development runs in a world of deep_share 0.7:
# contrast, mean, standard deviation over the seeds, how many seeds.
DEVELOPMENT = (
    ('zppo - grpo_replay', 0.365, 0.183, 3),
    ('bcq - grpo_replay', 0.375, 0.068, 3),
    ('placebo_bcq - grpo_replay', 0.055, 0.135, 3),
    ('zppo - bcq', -0.010, 0.181, 3))
# A difference that one would want to see where the mean itself is nearly 0.
SMALLEST = 0.1


def _config(file: pathlib.Path, argument: str = ''):
  return runpy.run_path(str(file))['get_config'](
      *[argument] if argument else [])


def hours(name: str) -> tuple[int, float, float]:
  """(runs, hours on WORKERS cores, hours allowed) of a table."""
  file, _, argument = name.partition(':')
  study = _config(HOME / f'{file}.py', argument)
  seen = json.loads(MEASURED[
      'handwriting' if 'pictures' in study.base else 'text'].read_text())
  base = same_config.flat(same_config.config_values(
      _config(HOME.parent / study.base)))
  counts = {arm: len(study.rates) * len(study.development_seeds)
            + len(study.seeds) for arm in study.arms}
  run_s = {}
  for arm, overrides in study.arms.items():
    of = seen['measured'].get(arm) or max(
        seen['measured'].values(), key=lambda m: m['step_s'])
    fields = {**base, **dict(study.common), **dict(overrides)}
    steps = int(fields['steps'])
    run_s[arm] = budgets.Measured(**of).run_s(
        steps, 1 + steps // int(fields['eval.every']))
  for arm, (lengthened, reference, _) in study.get('matched', {}).items():
    counts[arm] = len(study.seeds)
    # They spend what the reference does, and take about as long.
    run_s[arm] = max(run_s[lengthened], run_s[reference])
  whole = budgets.table_hours(run_s, counts, WORKERS)
  return (sum(counts.values()),
          whole + len(study.get('models', {})) * PRETRAIN_S / 3600 / WORKERS,
          study.hours)


def family_table() -> str:
  """Markdown: the confirmatory contrasts of the text world."""
  contrasts = _config(HOME / 'paper.py', 'text').confirmatory
  return markdown([['claim', 'endpoint'], *(
      [f'`{first}` > `{second}`', f'`{endpoint}`']
      for first, second, endpoint in contrasts)])


def claims_table() -> str:
  """Markdown: the confirmatory families of studies/claims.py."""
  rows = [['table', 'claim', 'endpoint']]
  for name in CLAIMS:
    file, _, table = name.partition(':')
    rows += [[f'`{table}`', f'`{first}` > `{second}`', f'`{endpoint}`']
             for first, second, endpoint in _config(
                 HOME / f'{file}.py', table).confirmatory]
  return markdown(rows)


def power_table() -> str:
  """Markdown: the seeds for a power of 80 % by development deviations."""
  rows = [['contrast', 'development mean, deviation (seeds)',
           'taken as true', 'seeds']]
  for name, mean, deviation, seeds in DEVELOPMENT:
    true = mean if abs(mean) >= SMALLEST else SMALLEST
    rows.append([f'`{name}`', f'{mean:+.3f}, {deviation:.3f} ({seeds})',
                 f'{true:+.3f}', str(analysis.seeds_for(true, deviation))])
  return markdown(rows)


def budget_table() -> str:
  """Markdown: runs and hours of each table."""
  rows = [['table', 'runs', 'hours on two cores', 'allowed']]
  for name in TABLES:
    runs, taken, allowed = hours(name)
    rows.append([f'`studies/{name.replace(":", ".py:")}`' if ':' in name
                 else f'`studies/{name}.py`', str(runs), f'{taken:.1f}',
                 f'{allowed:g}'])
  return markdown(rows)


if __name__ == '__main__':
  print('\n\n'.join((family_table(), claims_table(), power_table(),
                     budget_table())))
