"""What the tables of docs/study.md take on two cores.

  python -m studies.budget

It prints the table of that page. Seconds are those of short runs that
`zppo study --smoke` made and studies/results/budget/ keeps: of
paper.py:shipped for the text worlds, and of paper.py:handwriting. An arm that
was not measured counts as the slowest one that was. Pre-training a model takes
PRETRAIN_S (docs/micro_world.md).
"""

import json
import pathlib
import runpy

from zppo_jax.runs import workdir
from zppo_jax.study import budgets
from zppo_jax.study.tables import markdown

HOME = pathlib.Path(__file__).parent
MEASURED = {name: HOME / 'results' / 'budget' / f'{name}.json'
            for name in ('text', 'handwriting')}
TABLES = ('depth', 'paper:text', 'paper:shipped', 'paper:none',
          'paper:handwriting', 'ablations:teachers', 'ablations:students',
          'ablations:updates', 'ablations:remedies')
PRETRAIN_S, WORKERS = 330.0, 2


def _config(file: pathlib.Path, argument: str = ''):
  return runpy.run_path(str(file))['get_config'](
      *[argument] if argument else [])


def hours(name: str) -> tuple[int, float, float]:
  """(runs, hours on WORKERS cores, hours allowed) of a table."""
  file, _, argument = name.partition(':')
  study = _config(HOME / f'{file}.py', argument)
  seen = json.loads(MEASURED[
      'handwriting' if 'pictures' in study.base else 'text'].read_text())
  base = workdir.flat(workdir.config_values(
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


def table() -> str:
  """The Markdown of docs/study.md."""
  rows = [['table', 'runs', 'hours on two cores', 'allowed']]
  for name in TABLES:
    runs, taken, allowed = hours(name)
    rows.append([f'`studies/{name.replace(":", ".py:")}`' if ':' in name
                 else f'`studies/{name}.py`', str(runs), f'{taken:.1f}',
                 f'{allowed:g}'])
  return markdown(rows)


if __name__ == '__main__':
  print(table())
