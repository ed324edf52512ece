"""Fills pages of docs with the tables of the committed results.

  python -m benchmarks.tables            # writes
  python -m benchmarks.tables --check    # fails where a page is not current

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

import json
import pathlib
import re
import sys

from benchmarks import (
  drawing,
  look_up,
  operations,
  pod_plans,
  remat,
  rollout_weights,
  same_core,
  spoilers,
  zppo_cost,
)
from benchmarks.distillation import compiled, rows, summary as distillation
from benchmarks.side_by_side import summary
from zppo_jax.bench import command
from zppo_jax.study import page, tables as study

ROOT = pathlib.Path(__file__).parents[1]
PAGES = (ROOT / 'README.md', *(
    ROOT / 'docs' / name for name in (
        'performance.md', 'distillation.md', 'neighbours.md', 'plan.md',
        'study.md', 'teachers.md')))
RESULTS = ROOT / 'benchmarks' / 'results'
# The tables of docs/study.md that have reported seeds.
PLANNED = ('text', 'shipped', 'shipped_again', 'none', 'handwriting',
           'teachers', 'students', 'updates', 'remedies', 'ptd', 'kept',
           'uni_opd', 'context', 'routes', 'compose')
# name -> results of a study, relative to RESULTS.
STUDIES = {name: f'../../studies/results/{of}/results.json' for name, of in (
    ('neighbours', 'neighbours'), ('headline', 'text'),
    *((f'study_{of}', of) for of in PLANNED))}
# What README calls the arms of its table.
ARMS = {'zppo': 'ZPPO', 'bcq': 'BCQs alone', 'ncq': 'NCQs alone',
        'sft': "SFT on the teacher's right answers",
        'on_distill_replay': 'on-policy distillation with replay',
        'off_distill_replay': 'off-policy distillation with replay',
        'hint': 'a hint in the prompt',
        'placebo_bcq': 'BCQs of two wrong candidates',
        'again': 'the hard question asked again in the same slots',
        'random': 'ZPPO with candidates of another question',
        'grpo_replay_tokens': 'GRPO† for as many tokens as ZPPO',
        'grpo_replay': 'GRPO† (with replay)', 'grpo': 'GRPO'}
SHOWN = ('mean_hard', 'hard', 'hard_list', 'easy_list')
# name -> JSON of RESULTS or STUDIES -> Markdown
TABLES = {'side_by_side': summary.table, 'zppo_cost': zppo_cost.table,
          'distillation': distillation.table,
          'distillation_compiled': compiled.table,
          'distillation_rows': rows.table,
          'bench_micro': command.table, 'bench_shapes': command.shape_table,
          'remat': remat.table, 'pod_plans': pod_plans.table,
          'rollout_weights': rollout_weights.table,
          'drawing': drawing.table, 'same_core': same_core.table,
          'operations': operations.table, 'look_up': look_up.table,
          'neighbours': lambda found: study.cost_table(
              found['reported'], found['study']['splits']),
          'spoilers': spoilers.table,
          'headline': lambda found: page.against(found, 'zppo', ARMS, SHOWN),
          **dict.fromkeys((f'study_{of}' for of in PLANNED), page.digest)}
ABSENT = '(not measured yet)'


def filled(text: str, results: pathlib.Path) -> str:
  """A page with every table; ValueError for a place without a table."""
  def one(match):
    name = match.group(1)
    if name not in TABLES:
      raise ValueError(f'no table {name!r}; known: {", ".join(TABLES)}')
    path = results / STUDIES.get(name, f'{name}.json')
    table = ABSENT
    if path.exists():
      found = json.loads(path.read_text())
      m = found['machine']
      table = (f'Revision {m["git_revision"]}, Python {m["python"]}, '
               f'{m["system"]} {m["processor"]}, {m["cores"]} cores.\n\n'
               + TABLES[name](found))
    return f'<!-- {name} -->\n{table}\n<!-- /{name} -->'
  return re.sub(r'<!-- (\w+) -->.*?<!-- /\1 -->', one, text, flags=re.DOTALL)


if __name__ == '__main__':
  for file in PAGES:
    now = file.read_text()
    new = filled(now, RESULTS)
    if '--check' in sys.argv[1:] and now != new:
      raise SystemExit(
          f'{file.name} is not current: python -m benchmarks.tables')
    file.write_text(new)
