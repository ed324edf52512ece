"""zppo compare: the headline table of complete runs, read from workdirs."""

import itertools
from collections.abc import Sequence

from zppo_jax import allowed
from zppo_jax.report.reading import RecordedRun, differing, read_all
from zppo_jax.study import tables

OWN = ('method', 'seed')  # fields in which compared runs may always differ
_SHOWN = 10  # fields that a message lists
NAMED = ('optimizer.learning_rate',)  # further fields, unless others are named


def check(runs: Sequence[RecordedRun], fields: Sequence[str]) -> None:
  """Refuses runs that one table cannot show side by side.

  Args:
    runs: the runs to compare.
    fields: dotted config fields in which they may differ, besides method and
      seed.

  Raises:
    ValueError: for runs of `zppo sft` beside runs of `zppo train`, for
      unfinished runs, for differences in other fields (the message names ten
      with their values) and for an arm and seed that occur twice.
  """
  taught = [r for r in runs if r.supervised]
  if taught and len(taught) < len(runs):
    other = next(r for r in runs if not r.supervised)
    raise ValueError(
        f'{taught[0].path} is a run of `zppo sft` and {other.path} one of '
        '`zppo train`, which are not arms of one table; compare runs of one '
        'command, or read both in `zppo report`')
  unfinished = [str(r.path) for r in runs if not r.complete]
  if unfinished:
    raise ValueError('unfinished, and so without an endpoint: '
                     f'{", ".join(unfinished)}')
  others = {k: v for k, v in differing(runs).items()
            if k not in (*OWN, *fields)}
  if others:
    text = '; '.join(
        f'{name}: ' + ', '.join(f'{v!r}' for v in dict.fromkeys(
            map(str, values)))
        for name, values in itertools.islice(others.items(), _SHOWN))
    if len(others) > _SHOWN:
      text += f' and {len(others) - _SHOWN} more'
    vary = ','.join((*fields, *others)) if len(others) <= _SHOWN else 'A,B'
    raise ValueError(
        'the runs differ in more than method, seed and '
        f'{", ".join(fields) or "no named field"} ({text}); --vary={vary} '
        'makes named fields columns')
  seen: dict[tuple, RecordedRun] = {}
  for run in runs:
    key = (arm_of(run, fields), run.seed)
    if key in seen:
      raise ValueError(f'{seen[key].path} and {run.path} are the same arm and '
                       f'seed ({run.method}, seed {run.seed})')
    seen[key] = run


def fields_of(runs: Sequence[RecordedRun], names: Sequence[str]) -> list[str]:
  """The config fields that names stand for: a dotted field for itself, and a
  section such as `shapes` for all of its fields.

  Args:
    runs: the runs to compare.
    names: fields and sections.

  Raises:
    KeyError: for a name that no config has.
  """
  known = sorted({n for r in runs for n in tables.flatten(r.config)})
  out: dict[str, None] = {}
  for name in names:
    inner = [field for field in known if field.startswith(f'{name}.')]
    if not inner:
      allowed.one_of('config field', name, known)
    out.update(dict.fromkeys(inner or [name]))
  return list(out)


def arm_of(run: RecordedRun, fields: Sequence[str]) -> tuple:
  """(method, value of each field)."""
  flat = tables.flatten(run.config)
  return (run.method, *(
      str(flat[f]) if f in flat else tables.ABSENT for f in fields))


def document(runs: Sequence[RecordedRun], vary: Sequence[str] = NAMED) -> str:
  """Markdown: the table of arms and paired differences between them.

  Args:
    runs: complete runs.
    vary: config fields, and sections of them, in which the runs may differ;
      each field in which they do gets a column.

  Raises:
    KeyError, ValueError: see `fields_of` and `check`.
  """
  vary = fields_of(runs, vary)
  check(runs, vary)
  varied = tables.differing([r.config for r in runs])
  fields = [f for f in vary if f in varied]
  records = []
  for run in sorted(runs, key=lambda r: r.seed):
    flat = tables.flatten(run.config)
    records.append({'arm': run.method, 'seed': run.seed,
                    'summary': run.summary,
                    **{f: flat[f] if f in flat else tables.ABSENT
                       for f in fields}})
  order = {arm_of(r, fields): i for i, r in reversed(list(enumerate(runs)))}
  key_of = lambda r: (r['arm'], *(str(r[f]) for f in fields))
  records.sort(key=lambda r: order[key_of(r)])
  splits = runs[0].splits or tuple(runs[0].summary['eval'])
  parts = [tables.arm_table(records, splits, fields, base=True)]

  named = [{**r, 'arm': ' '.join(key_of(r))} for r in records]
  seeds: dict[str, set] = {}
  for r in named:
    seeds.setdefault(r['arm'], set()).add(r['seed'])
  pairs = [(a, b) for a, b in itertools.combinations(seeds, 2)
           if len(seeds[a] & seeds[b]) > 1]
  if pairs:
    parts += ['', 'Final accuracy, paired by seed:', '', tables.contrast_table(
        [tables.contrast(named, a, b, s) for s in splits for a, b in pairs])]
  parts += ['', 'Mean [95 % t interval] over seeds where an arm has more than '
            'one; rollouts, tokens and seconds are means over seeds.']
  for what, values in (('code revision', [r.revision for r in runs]),
                       ('package versions', [str(r.versions) for r in runs])):
    if len(set(values)) > 1:
      parts.append(f'The runs differ in {what}: '
                   f'{", ".join(dict.fromkeys(values))}.')
  return '\n'.join(parts) + '\n'


def main(paths: Sequence[str], to: str | None = None,
         vary: Sequence[str] = NAMED) -> str:
  """Reads workdirs, returns the document, and writes it to `to` if given."""
  text = document(read_all(paths), vary)
  if to is not None:
    with open(to, 'w', encoding='utf-8') as f:
      f.write(text)
  return text
