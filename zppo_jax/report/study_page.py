"""The page of a study: curves with intervals, contrasts, and what they cost.

It reads results.json, which `zppo study` writes, and nothing else, so that a
committed study can be shown without its runs.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from zppo_jax.report import charts, figures, frame
from zppo_jax.report.curves import RunGroup, curve
from zppo_jax.report.figures import Figure
from zppo_jax.report.frame import Section, esc, table
from zppo_jax.report.panels import FRACTION, FROM_ZERO
from zppo_jax.statistics import over_seeds, t_interval, with_interval

RESULTS = 'results.json'
TOGETHER = 8  # arms in a chart; more are drawn in several, best first
INTERVAL = 'Bands and brackets: 95 % t interval (Student) over seeds.'
FOOTER = ('Made by <code>zppo report</code> from results.json of '
          '<code>zppo study</code>. Charts: uPlot (MIT).')


@dataclasses.dataclass(frozen=True)
class RecordedArm:
  """A run of a study, as far as `curves.curve` reads one.

  Attributes:
    evals: rows of its eval.jsonl.
  """
  evals: tuple[dict, ...]


def is_study(path) -> bool:
  """Whether a path is a folder with results.json and no run, or such a file."""
  path = pathlib.Path(path)
  if path.is_dir():
    return (path / RESULTS).is_file() and not (path / 'config.json').is_file()
  return path.name == RESULTS and path.is_file()


def read(path) -> dict:
  """The content of a study's results.json.

  Raises:
    ValueError: if it is no such file.
  """
  path = pathlib.Path(path)
  path = path / RESULTS if path.is_dir() else path
  try:
    results = json.loads(path.read_text())
  except json.JSONDecodeError as e:
    raise ValueError(f'{path} is not readable JSON: {e}') from e
  wanted = {'study', 'reported', 'contrasts', 'machine'}
  if not isinstance(results, dict) or wanted - results.keys():
    raise ValueError(f'{path} holds no study: it needs '
                     f'{", ".join(sorted(wanted))}')
  if not results['reported']:
    raise ValueError(f'{path} reports no run')
  return results


def _arms(results: Mapping) -> dict[str, list[dict]]:
  """Arm -> its records; the best at the end point first."""
  out: dict[str, list[dict]] = {}
  for record in results['reported']:
    out.setdefault(record['arm'], []).append(record)
  split = results['study']['endpoint']
  mean = lambda records: np.mean(
      [r['summary']['eval'][split]['final'] for r in records])
  return dict(sorted(out.items(), key=lambda item: -mean(item[1])))


def _curves(results: Mapping, arms: Mapping[str, list[dict]],
            splits: Sequence[str]) -> list[Figure]:
  """Accuracy by split against steps, rollouts and tokens; of many arms the end
  point alone."""
  names = list(arms)
  chunks = [names[i:i + TOGETHER] for i in range(0, len(names), TOGETHER)]
  if len(chunks) > 1:
    splits = [results['study']['endpoint']]
  groups = {a: RunGroup(a, tuple(RecordedArm(tuple(r['curve']))
                                 for r in records))
            for a, records in arms.items()}
  out = []
  for split in splits:
    for first, chunk in zip(range(1, len(names) + 1, TOGETHER), chunks,
                            strict=True):
      last = first + len(chunk) - 1
      place = ('' if len(chunks) == 1 else f', place {first}' if first == last
               else f', places {first} to {last}')
      views = []
      for x, label in figures.SPENT.items():
        lines = [line for i, a in enumerate(chunk) if (line := curve(
            a, groups[a], split, x=x, rows=lambda run: run.evals,
            smoothed=False, style=i)) is not None]
        if lines:
          views.append(charts.line_chart(
              [dataclasses.replace(line, faint=()) for line in lines],
              x_label=label,
              y=FROM_ZERO if figures.is_loss(split) else FRACTION))
      if views:
        out.append(Figure(f'{split}{place}', 'fraction right', (split,),
                          f'Mean over the seeds of an arm. {INTERVAL}',
                          tuple(views)))
  return out


def _endpoints(results: Mapping, arms: Mapping[str, list[dict]],
               splits: Sequence[str]) -> str:
  end = results['study']['endpoint']
  rows = [['arm', 'rate', 'seeds', *map(esc, splits), f'{esc(end)}, 0 to 1']]
  for arm, records in arms.items():
    final = lambda s, records=records: [
        r['summary']['eval'][s]['final'] for r in records]
    mean, low, high = (t_interval(final(end)) if len(records) > 1
                       else 3 * final(end))
    rows.append([
        esc(arm), esc(', '.join(dict.fromkeys(
            f'{r["rate"]:g}' for r in records))), str(len(records)),
        *(over_seeds(final(s), frame.SOFT) for s in splits),
        frame.between(0, 1, [(mean, 'full')], (low, high))])
  return table(rows, 'numbers')


def _contrasts(results: Mapping) -> str:
  found = results['contrasts']
  ends = [v for c in found for v in (c['low'], c['high'])]
  low, high = min(0.0, *ends), max(0.0, *ends)
  if high - low <= 0:
    low, high = -1.0, 1.0
  rows = [['contrast', 'split', 'seeds', 'mean difference', 'around 0',
           'sign-flip p']]
  for c in found:
    rows.append([
        f'{esc(c["first"])} - {esc(c["second"])}', esc(c['split']),
        str(len(c['seeds'])),
        with_interval(c['mean'], c['low'], c['high'], '+.3f', frame.SOFT),
        frame.between(low, high, [(0, 'zero'), (c['mean'], 'full')],
                      (c['low'], c['high'])),
        f'{c["sign_flip_p"]:.4f}'])
  return table(rows, 'numbers')


COSTS = (
    ('seconds per step', lambda r: r['step_s']),
    ('student rollouts per step',
     lambda r: r['summary']['student_rollouts'] / r['summary']['steps']),
    ('tokens the student generates per step',
     lambda r: r['summary']['tokens']['student_generated']
     / r['summary']['steps']),
    ('tokens the teacher generates per step',
     lambda r: r['summary']['tokens']['teacher_generated']
     / r['summary']['steps']),
)


def _cost(arms: Mapping[str, list[dict]]) -> str:
  means = {}
  for name, get in COSTS:
    try:
      means[name] = {a: float(np.mean([get(r) for r in records]))
                     for a, records in arms.items()}
    except KeyError:  # an earlier study did not keep it
      continue
  rows = [['arm', *means]]
  for arm in arms:
    rows.append([esc(arm), *(
        frame.bar(of[arm] / (max(of.values()) or 1.0),
                  charts.number(of[arm])) for of in means.values())])
  return table(rows, 'shares')


def _pairs(fields) -> list[tuple[str, object]]:
  """Config overrides as pairs; earlier versions stored them as an object."""
  return (list(fields.items()) if isinstance(fields, dict)
          else [(k, v) for k, v in fields])


def _setup(results: Mapping) -> str:
  study, machine = results['study'], results['machine']
  given = {
      'Base': study.get('base', ''),
      'Seeds': ', '.join(map(str, study.get('seeds', ()))),
      'End point': study.get('endpoint', ''),
      'Development seeds': ', '.join(map(
          str, study.get('development_seeds', ()))),
      'Rates tried': ', '.join(f'{r:g}' for r in study.get('rates', ())),
      'Machine': f'{machine.get("cores", "?")} cores, '
                 f'{machine.get("processor", "")}, {machine.get("system", "")}',
      'Versions': ', '.join(f'{k} {v}' for k, v in {
          'python': machine.get('python', ''),
          **machine.get('versions', {})}.items()),
      'Code': machine.get('git_revision', '')}
  facts = ''.join(f'<div><dt>{name}</dt><dd>{esc(value)}</dd></div>'
                  for name, value in given.items() if value)
  overrides = [['arm', 'config overrides']] + [
      [esc(arm), '<br>'.join(
          f'<code>{esc(k)}={esc(v)}</code>' for k, v in (
              *_pairs(study.get('common', ())), *_pairs(fields)))]
      for arm, fields in study.get('arms', {}).items()]
  return (f'<dl class="facts">{facts}</dl><details class="config"><summary>'
          f'The arms ({len(overrides) - 1})</summary>'
          f'{table(overrides, "config")}</details>')


def render(results: Mapping) -> str:
  """The page of a study, as HTML."""
  arms, splits = _arms(results), list(results['study']['splits'])
  plots: list = []
  sections = [
      Section('setup', 'What was compared', '', _setup(results), 'Setup'),
      Section('end', 'End points', 'Accuracy at the last step. '
              f'{INTERVAL}', _endpoints(results, arms, splits)),
      *([Section('contrasts', 'Contrasts', 'Differences paired by seed, with '
                 '95 % t intervals and exact sign-flip tests.',
                 _contrasts(results))] if results['contrasts'] else []),
      Section('curves', 'Curves', 'Held-out questions during training.',
              frame.grid(_curves(results, arms, splits), plots)),
      Section('cost', 'Cost', 'Means over seeds.', _cost(arms))]
  return frame.document(results['study']['title'], sections, plots, FOOTER,
                        samples=[], runs=[])
