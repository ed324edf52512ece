"""The page of a study: curves with intervals, contrasts, and what they cost.

It reads results.json, which `zppo study` writes, and nothing else, so that a
committed study can be shown without its runs.
"""

import contextlib
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


def _around_zero(found: Sequence[Mapping]) -> tuple[float, float]:
  """The ends of a line that holds 0 and all intervals."""
  ends = [v for c in found for v in (c['low'], c['high'])]
  low, high = min(0.0, *ends), max(0.0, *ends)
  return (low, high) if high > low else (-1.0, 1.0)


def _contrasts(found: Sequence[Mapping]) -> str:
  """Paired differences; contrasts on the same endpoint have one scale. Those of
  a family have Holm's p and the verdict on their claim."""
  what = lambda c: c.get('endpoint', c.get('split'))
  lines = {name: _around_zero([c for c in found if what(c) == name])
           for name in map(what, found)}
  judged = any('verdict' in c for c in found)
  rows = [['contrast', 'on', 'seeds', 'mean difference', 'around 0',
           'sign-flip p', *(['Holm p', 'the claim'] if judged else [])]]
  for c in found:
    number = '+.3g' if abs(c['mean']) >= 1000 else '+.3f'
    rows.append([
        f'{esc(c["first"])} - {esc(c["second"])}', esc(what(c)),
        str(len(c['seeds'])),
        with_interval(c['mean'], c['low'], c['high'], number, frame.SOFT),
        frame.between(*lines[what(c)], [(0, 'zero'), (c['mean'], 'full')],
                      (c['low'], c['high'])),
        f'{c["sign_flip_p"]:.4f}',
        *([f'{c["holm_p"]:.4f}', esc(c['verdict'])] if judged else [])])
  return table(rows, 'numbers')


def _fates(arms: Mapping[str, list[dict]]) -> str:
  """Graduated of admitted questions by the accuracy with which they entered the
  buffer, summed over seeds; '' if no arm has a buffer."""
  sums: dict[str, dict[float, list[int]]] = {}
  for arm, records in arms.items():
    for record in records:
      for entry, of in record['summary'].get(
          'graduation_by_entry_accuracy', {}).items():
        both = sums.setdefault(arm, {}).setdefault(float(entry), [0, 0])
        both[0] += of['graduated']
        both[1] += of['admitted']
  entries = sorted({entry for of in sums.values() for entry in of})
  rows = [['arm', *(f'entered at {entry:g}' for entry in entries)]]
  for arm, of in sums.items():
    cells = [of.get(entry, (0, 0)) for entry in entries]
    rows.append([esc(arm), *(
        frame.bar(graduated / admitted, f'{graduated} / {admitted}')
        if admitted else '' for graduated, admitted in cells)])
  return table(rows, 'shares') if sums else ''


def _stopped(results: Mapping) -> str:
  """Which runs a guard stopped, and why."""
  return ''.join(
      f'<p class="notes">Stopped by a guard, with its last evaluation here: '
      f'{esc(r["arm"])}, seed {r["seed"]}: {esc(r["stopped"])}</p>'
      for r in results['reported'] if 'stopped' in r)


COSTS = (
    ('seconds per step', lambda r: r['step_s']),
    ('seconds', lambda r: r['endpoints']['seconds']),
    ('FLOPs', lambda r: r['endpoints']['flops']),
    ('student rollouts', lambda r: r['summary']['student_rollouts']),
    ('student rollouts per step',
     lambda r: r['summary']['student_rollouts'] / r['summary']['steps']),
    ('tokens the student generates per step',
     lambda r: r['summary']['tokens']['student_generated']
     / r['summary']['steps']),
    ('tokens the teacher generates per step',
     lambda r: r['summary']['tokens']['teacher_generated']
     / r['summary']['steps']),
)


def _cost(results: Mapping, arms: Mapping[str, list[dict]]) -> str:
  """What the runs of an arm cost, beside the accuracy at their end."""
  end, means = results['study']['endpoint'], {}
  accuracy = {a: float(np.mean([r['summary']['eval'][end]['final']
                                for r in records]))
              for a, records in arms.items()}
  for name, get in COSTS:
    known: dict[str, list[float]] = {}
    for arm, record in ((a, r) for a, records in arms.items() for r in records):
      with contextlib.suppress(KeyError):  # of an earlier study, or stopped
        value = get(record)
        known.setdefault(arm, []).append(value)
    if known:
      means[name] = {a: float(np.mean(of)) for a, of in known.items()}
  rows = [['arm', esc(end), *means]]
  for arm in arms:
    rows.append([esc(arm), f'{accuracy[arm]:.3f}', *(
        frame.bar(of[arm] / (max(of.values()) or 1.0),
                  charts.number(of[arm])) if arm in of else '-'
        for of in means.values())])
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
  paired = 'Differences paired by seed, with 95 % t intervals and exact '
  made = [
      Section('setup', 'What was compared', '', _setup(results), 'Setup'),
      Section('end', 'End points', 'Accuracy at the last step. '
              f'{INTERVAL}', _endpoints(results, arms, splits)
              + _stopped(results))]
  for anchor, title, intro in (
      ('confirmatory', 'Claims', f'{paired}sign-flip tests. They were named '
       "before the runs and are one family under Holm's method."),
      ('contrasts', 'Contrasts', f'{paired}sign-flip tests.'),
      ('exploratory', 'Exploratory contrasts', f'{paired}sign-flip tests, '
       'without any adjustment.')):
    if found := results.get(anchor):
      made.append(Section(anchor, title, intro, _contrasts(found),
                          title.partition(' ')[0]))
  made.append(Section('curves', 'Curves', 'Held-out questions during training.',
                      frame.grid(_curves(results, arms, splits), plots)))
  if fates := _fates(arms):
    made.append(Section(
        'fates', 'Fates by entry accuracy', 'Of the questions that entered the '
        'replay buffer, how many left it solved; sums over seeds.', fates,
        'Fates'))
  made.append(Section('cost', 'Cost', 'Means over seeds.',
                      _cost(results, arms)))
  return frame.document(results['study']['title'], made, plots, FOOTER,
                        samples=[], runs=[])
