"""Tables of arms. The runs of an arm differ in nothing but their seed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from zppo_jax.statistics import (
  over_seeds,
  sign_flip_p,
  t_interval,
  with_interval,
)

BETWEEN_STEPS = ('time/evaluate', 'time/checkpoint')
ABSENT = '(absent)'  # the value of a config field that a run does not have


def flatten(config: Mapping, prefix: str = '') -> dict:
  """Config fields by dotted name; lists count as one value."""
  out = {}
  for key, value in config.items():
    if isinstance(value, Mapping) and value:
      out.update(flatten(value, f'{prefix}{key}.'))
    else:
      out[prefix + key] = value
  return out


def differing(configs: Sequence[Mapping]) -> dict[str, list]:
  """Dotted fields in which configs differ -> their values, in run order."""
  flat = [flatten(c) for c in configs]
  names = dict.fromkeys(name for f in flat for name in f)
  out = {}
  for name in names:
    values = [f[name] if name in f else ABSENT for f in flat]
    if any(v != values[0] for v in values):
      out[name] = values
  return out


def contrast(records: Sequence[dict], first: str, second: str,
             split: str) -> dict:
  """Differences, paired by seed: the first arm minus the second."""
  final = {(r['arm'], r['seed']): r['summary']['eval'][split]['final']
           for r in records}
  seeds = sorted({s for arm, s in final if arm == first}
                 & {s for arm, s in final if arm == second})
  differences = [final[first, s] - final[second, s] for s in seeds]
  mean, low, high = t_interval(differences)
  return {'first': first, 'second': second, 'split': split, 'seeds': seeds,
          'differences': differences, 'mean': mean, 'low': low, 'high': high,
          'sign_flip_p': sign_flip_p(differences)}


def cell(values: Sequence[float]) -> str:
  """'mean [low, high]' with the 95 % t interval; one value stands alone."""
  return over_seeds(values)


def _shown(value) -> str:
  return f'{value:g}' if isinstance(value, float) else str(value)


def markdown(rows: Sequence[Sequence[str]]) -> str:
  """Rows as a Markdown table; the first row is the head."""
  head, *body = [[c.replace('|', r'\|') for c in row] for row in rows]
  return '\n'.join('| ' + ' | '.join(row) + ' |'
                   for row in (head, ['---'] * len(head), *body))


def arm_table(records: Sequence[dict], splits: Sequence[str],
              fields: Sequence[str] = ('rate',), base: bool = False) -> str:
  """Markdown: endpoints of every arm, mean [95 % t interval] over seeds.

  Args:
    records: {'arm', 'summary', each of `fields`} of complete runs.
    splits: the splits, one column each.
    fields: fields that tell arms of one name apart, one column each.
    base: whether splits also show the accuracy before training.
  """
  groups: dict[tuple, list[dict]] = {}
  for r in records:
    key = (r['arm'], *(_shown(r[f]) for f in fields))
    groups.setdefault(key, []).append(r['summary'])
  columns = [(s, when) for s in splits
             for when in (('base', 'final') if base else ('final',))]
  rows = [['arm', *fields, 'seeds',
           *(f'{s} {when}' if base else s for s, when in columns),
           'graduated / admitted at 0', 'student rollouts', 'all tokens',
           'wall s']]
  for key, of_arm in groups.items():
    at_zero = [s['graduation_by_entry_accuracy'].get(
        '0', {'admitted': 0, 'graduated': 0}) for s in of_arm]
    mean_of = lambda get, of_arm=of_arm: (
        f'{np.mean([get(s) for s in of_arm]):.0f}')
    rows.append([
        *key, str(len(of_arm)),
        *(cell([s['eval'][x][when] for s in of_arm]) for x, when in columns),
        f'{sum(a["graduated"] for a in at_zero)} / '
        f'{sum(a["admitted"] for a in at_zero)}',
        mean_of(lambda s: s['student_rollouts']),
        mean_of(lambda s: sum(s['tokens'].values())),
        mean_of(lambda s: s['wall_s'])])
  return markdown(rows)


def spread(samples: Sequence[Mapping], steps: int, last: int) -> float:
  """How many different right answers the student gave to a question: the mean
  over its recorded plain groups with a right one.

  Args:
    samples: lines of a run's samples.jsonl.
    steps: the steps of the run.
    last: the last steps that count.

  Returns:
    A number >= 1; nan without such a group.
  """
  counts = [
      len({r['text'] for r in group['rollouts'] if r['verdict'] == 'correct'})
      for line in samples if line['step'] >= steps - last
      for group in line['groups'] if group['kind'] == 'plain']
  counts = [count for count in counts if count]
  return float(np.mean(counts)) if counts else math.nan


def spread_table(records: Sequence[Mapping]) -> str:
  """Markdown: the `spread` of every arm, mean [95 % t interval] over the seeds
  that have one.

  Args:
    records: {'arm', 'spread'} of complete runs.
  """
  by_arm: dict[str, list[float]] = {}
  for r in records:
    of_arm = by_arm.setdefault(r['arm'], [])
    if not math.isnan(r['spread']):
      of_arm.append(r['spread'])
  return markdown([['arm', 'different right answers'],
                   *([arm, cell(values) if values else '-']
                     for arm, values in by_arm.items())])


def step_seconds(metrics: Sequence[Mapping]) -> float:
  """The median over steps of the seconds of all phases but BETWEEN_STEPS.

  Args:
    metrics: lines of a run's metrics.jsonl; phases are named `time/...`.
  """
  return float(np.median([
      sum(value for name, value in line.items()
          if name.startswith('time/') and name not in BETWEEN_STEPS)
      for line in metrics]))


def cost_table(records: Sequence[Mapping], splits: Sequence[str] = ()) -> str:
  """Markdown: what a step of every arm costs, means over seeds.

  The teacher's tokens are those of answers it was asked for; what it scores in
  a pass over the rollouts is not among them.

  Args:
    records: {'arm', 'step_s', 'summary'} of complete runs.
    splits: splits whose accuracy after training stands beside.
  """
  rows = [['arm', *splits, 'seconds per step', 'student rollouts per step',
           'tokens the student generates per step',
           'tokens the teacher generates per step']]
  groups: dict[str, list[Mapping]] = {}
  for r in records:
    groups.setdefault(r['arm'], []).append(r)
  final = lambda split, of_arm: cell(
      [r['summary']['eval'][split]['final'] for r in of_arm])
  for arm, of_arm in groups.items():
    mean = lambda get, of_arm=of_arm: float(np.mean([get(r) for r in of_arm]))
    per_step = lambda get, mean=mean: mean(
        lambda r: get(r['summary']) / r['summary']['steps'])
    rows.append([
        arm, *(final(s, of_arm) for s in splits),
        f'{mean(lambda r: r["step_s"]):.3f}',
        f'{per_step(lambda s: s["student_rollouts"]):.0f}',
        f'{per_step(lambda s: s["tokens"]["student_generated"]):.0f}',
        f'{per_step(lambda s: s["tokens"]["teacher_generated"]):.0f}'])
  return markdown(rows)


def contrast_table(contrasts: Sequence[dict]) -> str:
  """Markdown: paired differences with their intervals and exact p."""
  rows = [['contrast', 'split', 'seeds', 'mean difference [95 % t interval]',
           'sign-flip p']]
  for c in contrasts:
    rows.append([
        f'{c["first"]} - {c["second"]}', c['split'], str(len(c['seeds'])),
        with_interval(c['mean'], c['low'], c['high'], '+.3f'),
        f'{c["sign_flip_p"]:.4f}'])
  return markdown(rows)
