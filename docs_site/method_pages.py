"""A page for each row of methods.METHODS.

What it is and its equation come from the tables of docs/ whose first or second
cell names the row; its config from the table of methods; its results from the
committed studies. Nothing is copied by hand.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from zppo_jax.algorithms import methods
from zppo_jax.statistics import over_seeds

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The pages with tables of methods, the one that explains a row best first.
PAGES = ('methods.md', 'distillation.md', 'neighbours.md', 'paper.md')
SYMBOLS = ('d = log p_T - log p_S of a sampled token; T is the teacher, S the '
           'student, H an entropy, y a rollout.')


class Part(NamedTuple):
  """Rows that answer one need.

  Attributes:
    title: its heading.
    when: the case in which one takes a row of it.
    names: the rows.
  """
  title: str
  when: str
  names: tuple[str, ...]


PARTS = (
    Part('ZPPO and the baselines of its paper',
         'Take one when a student fails most rollouts of many questions, so '
         'that plain sampling gives no signal there, and a teacher solves '
         'them; the baselines say how much each part is worth.', (
        'zppo', 'grpo', 'grpo_replay', 'grpo_both', 'grpo_replay_bcq',
        'grpo_replay_ncq', 'placebo', 'prefix', 'hint', 'off_distill',
        'off_distill_replay', 'on_distill', 'on_distill_replay')),
    Part('Policy objectives',
         'Take one in place of the clipped surrogate of GRPO, when verdicts '
         'alone train the student.', ('gspo', 'dr_grpo', 'cispo')),
    Part('Unsolved questions',
         'Take one when the data bring reference solutions, and questions '
         'without a single right rollout need help.',
         ('sage', 'nurl', 'pope')),
    Part('Distillation',
         'Take one when a teacher with the same tokenizer delivers its '
         'log-probs (or its answers, for a likelihood).', (
        'seqkd', 'stored_nll', 'gkd', 'opd_reverse', 'opd_forward', 'opd_jsd',
        'opd_k2', 'opd_k3', 'opd_log_ratio', 'grpo_distill', 'zppo_distill',
        'grpo_replay_distill')),
)
REST = ('Neighbours',
        'Take one when you reproduce its paper, or when plain distillation '
        'teaches too much: each changes which tokens are taught, how much, or '
        'what the teacher reads. docs/neighbours.md says where we differ.')


class Entry(NamedTuple):
  """A line of a table that names a method.

  Attributes:
    page: the file in docs/.
    cells: (head of the column, cell) of the columns that say something.
  """
  page: str
  cells: tuple[tuple[str, str], ...]


def parts() -> list[Part]:
  """All of METHODS, each row once.

  Raises:
    ValueError: for a name of PARTS that is no row.
  """
  named = [name for part in PARTS for name in part.names]
  if unknown := set(named) - methods.METHODS.keys():
    raise ValueError(f'no methods: {sorted(unknown)}')
  rest = tuple(n for n in methods.METHODS if n not in named)
  return [*PARTS, Part(*REST, rest)]


def _cells(line: str) -> list[str]:
  return [c.strip() for c in re.split(r'(?<!\\)\|', line.strip()[1:-1])]


def _tables(text: str) -> list[list[list[str]]]:
  """The tables of a page as rows of cells; the first row is the head."""
  out: list[list[list[str]]] = []
  inside = False
  for line in text.splitlines():
    if not line.startswith('|'):
      inside = False
      continue
    if not inside:
      out.append([])
      inside = True
    if not re.fullmatch(r'\|[\s|:-]+\|', line.strip()):
      out[-1].append(_cells(line))
  return out


HEADS = ('row', 'method', '`method`', 'baseline')


def entries(docs: pathlib.Path) -> dict[str, list[Entry]]:
  """Method -> what the tables of PAGES say of it."""
  out: dict[str, list[Entry]] = {name: [] for name in methods.METHODS}
  for page in PAGES:
    for head, *rows in _tables((docs / page).read_text(encoding='utf-8')):
      if head[0] not in HEADS:
        continue
      of = head.index('`method`') if '`method`' in head else 0
      for row in rows:
        for name in re.findall(r'`(\w+)`', row[of]):
          if name in out:
            out[name].append(Entry(page, tuple(
                (h, c) for i, (h, c) in enumerate(zip(head, row, strict=True))
                if i != of and c not in ('', '-'))))
  return out


def _results() -> dict[str, list[tuple[str, str, list[dict], list[str]]]]:
  """Method -> (study, arm, its reported runs, splits)."""
  out: dict[str, list] = {}
  for file in sorted((ROOT / 'studies' / 'results').glob('*/results.json')):
    results = json.loads(file.read_text())
    study = results['study']
    by_arm: dict[str, list[dict]] = {}
    for record in results['reported']:
      by_arm.setdefault(record['arm'], []).append(record)
    for arm, records in by_arm.items():
      method = records[0]['summary']['method']
      out.setdefault(method, []).append(
          (file.parent.name, arm, records, list(study['splits'])))
  return out


def _table(rows: Sequence[Sequence[str]]) -> str:
  head, *body = rows
  lines = [head, ['---'] * len(head), *body]
  return '\n'.join('| ' + ' | '.join(row) + ' |' for row in lines) + '\n'


def _result(found: Sequence[tuple]) -> str:
  if not found:
    return ('No committed study has a run of this row. '
            '`zppo study` makes one; docs/coverage.md says where the row is '
            'tested.\n')
  splits = list(dict.fromkeys(s for *_, of in found for s in of))
  rows = [['study', 'arm', 'steps', 'seeds', *splits]]
  for study, arm, records, of in found:
    final = lambda s, records=records: [
        r['summary']['eval'][s]['final'] for r in records]
    rows.append([f'`{study}`', arm, str(records[0]['summary']['steps']),
                 str(len(records)),
                 *(over_seeds(final(s)) if s in of else '' for s in splits)])
  return (_table(rows) + '\nGreedy accuracy at the last step in the embedded '
          'world (docs/micro_world.md), mean [95 % t interval] over seeds; '
          'studies differ in steps and teachers, so compare within one.\n')


# Fields of Method that are shown, with their names for a reader.
FIELDS = {
    'replay': 'replay buffer', 'reformulations': 'reformulations',
    'states': 'states (whose tokens are trained)', 'terms': 'terms',
    'normaliser': 'advantages are normalised by', 'reducer': 'mean over',
    'tau': '`algorithm.tau`', 'needs': 'the teacher must deliver',
    'hint_sources': 'sources of hints'}
SETTINGS = {'pinned': 'pinned by its paper; others are refused',
            'usual': 'default of the row', 'credit': 'section `credit`',
            'reference': 'section `algorithm.reference`'}


def _plain(value: Any) -> str:
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, (tuple, list, frozenset, set)):
    return ', '.join(map(str, sorted(value) if isinstance(
        value, (frozenset, set)) else value))
  return str(value)


def _config(name: str, row: methods.Method) -> str:
  usual = {f.name: f.default for f in dataclasses.fields(methods.Method)}
  rows = [['what', 'value']]
  for field, words in FIELDS.items():
    value = getattr(row, field)
    if field in ('replay', 'states') or value != usual.get(field):
      if _plain(value):
        rows.append([words, f'`{_plain(value)}`'])
  for field, words in SETTINGS.items():
    of: Mapping[str, Any] = getattr(row, field)
    for key, value in of.items():
      prefix = {'credit': 'credit.', 'reference': 'algorithm.reference.'}.get(
          field, '')
      rows.append([f'`{prefix}{key}`: {words}', f'`{_plain(value)}`'])
  return ('```bash\nzppo train --config=micro --config.method=' + name
          + f' --workdir=runs/{name}\n```\n\n' + _table(rows))


def _teacher(row: methods.Method) -> str:
  return ('A teacher is asked (docs/teachers.md).' if row.teacher else
          'No teacher is asked.')


def page(name: str, found: Sequence[Entry], results: Sequence[tuple]) -> str:
  """The page of a row, as Markdown.

  Raises:
    ValueError: if no table of docs/ names the row.
  """
  if not found:
    raise ValueError(f'no table of {", ".join(PAGES)} names the method {name}')
  row = methods.METHODS[name]
  said = []
  for entry in found:
    lines = '\n'.join(f'**{head}**: {cell}\n' for head, cell in entry.cells)
    said.append(f'{lines}\n(docs/{entry.page})\n')
  when = next(part.when for part in parts() if name in part.names)
  return (f'# {name}\n\n## What and when\n\n{when} {_teacher(row)}\n\n'
          + '\n'.join(said) + f'\n{SYMBOLS}\n'
          + f'\n## Config\n\n{_config(name, row)}\n'
          + f'## Result\n\n{_result(results)}')


def pages(docs: pathlib.Path) -> dict[str, str]:
  """Path in the site -> Markdown, of every row."""
  said, results = entries(docs), _results()
  return {f'methods/{name}.md': page(name, said[name], results.get(name, []))
          for name in methods.METHODS}


def index(docs: pathlib.Path) -> str:
  """The list of all rows, as Markdown."""
  said = entries(docs)
  out = ['# All methods', '', 'A method is a row of '
         '`algorithms/methods.METHODS`; `--config.method=NAME` chooses it.', '']
  for title, when, names in parts():
    rows = [['method', 'source', 'buffer', 'teacher']]
    for name in names:
      row = methods.METHODS[name]
      source = next((cell for e in said[name] for head, cell in e.cells
                     if head in ('paper', 'source', 'baseline')), '')
      rows.append([f'[`{name}`]({name}.md)', source,
                   'yes' if row.replay else '', 'yes' if row.teacher else ''])
    out += [f'## {title}', '', when, '', _table(rows)]
  return '\n'.join(out)
